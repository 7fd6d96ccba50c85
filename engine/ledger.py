"""The ledger: balances, holds and recent ids of one shard, and the only door by which they change.

State changes only inside the commands below. A command takes the time as an argument, judges its input in
order, and returns what happened as facts; replaying those facts on a ledger in the state before gives,
array for array, the state after. Between `begin_turn` and the next there may be as many calls as
`turn_events_max` has room for.

For the log: a record holds the values of `generation` and `dropped`, then the accounts, guards and legs of
its turn. A replay calls `set_generation` with these values before it applies the record's facts.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from engine.blocks import AccountOutcome, LegBlock, LegOutcome, LoadedLegs, Reserved
from engine.kernel import audit, creation, posting, queries, replay, reservation, shapes, storage, upkeep
from engine.kernel.shapes import Answers, Loaded
from engine.kernel.storage import State
from engine.layout import (
    ACCOUNT_FACT,
    GUARD_FACT,
    LEG_FACT,
    RESERVED,
    ROLLUP_LEVELS_MAX,
    AccountColumns,
    HoldStatus,
    LegColumns,
    LegFlag,
    OpenColumns,
    open_columns,
)

STRAYS_MAX: Final = 1 << 16
"""Dropped ids from the future that are remembered one by one; more of them raise the watermark."""
GENERATIONS_KEPT: Final = 2
"""Newest generations that are never dropped."""
NOTHING_RESERVED: Final = np.empty(0, RESERVED)
TIME_MAX: Final = 2**63 - 2**40
"""Times are before this (the year 2262), so that stamps cannot overflow."""

__all__ = [
    "AccountOutcome",
    "InvariantBroken",
    "Ledger",
    "LedgerConfig",
    "LedgerError",
    "LegBlock",
    "LegOutcome",
    "LoadedLegs",
    "Reserved",
    "TurnTooLarge",
    "WindowFull",
]

_Columns = TypeVar("_Columns", LegColumns, AccountColumns, OpenColumns)
_Array = npt.NDArray[Any]


class LedgerError(Exception):
    """What is wrong is the caller or the machine, never a client's input: that gets a result code."""


class WindowFull(LedgerError):  # noqa: N818  # says what happened
    """No generation is free: the projection lags. Refuse work until one can be dropped."""


class TurnTooLarge(LedgerError):  # noqa: N818  # says what happened
    """A turn has more events than the window has room for."""


class InvariantBroken(LedgerError):  # noqa: N818  # says what happened
    """The state or the log is not what this ledger can have made."""


class LedgerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes of a ledger. Memory is taken only as it is used."""

    ids_per_generation: int = 1 << 22  # a generation with so many is followed by the next at the next turn
    generations_max: int = 4
    turn_events_max: int = 1 << 17  # legs and expiries of a turn
    accounts_initial: int = 1 << 16
    holds_initial: int = 1 << 14
    hash_seed: int  # secret of the database, so that nobody can choose ids that collide


def _read_only(array: _Array) -> _Array:
    """The same memory, or a copy if it is scattered, that cannot be written through."""
    if not (array.flags.c_contiguous and array.flags.aligned):
        array = np.array(array, order="C")
    view = array.view()
    view.flags.writeable = False
    return view


def _input(columns: _Columns, count: int) -> _Columns:
    arrays: Sequence[_Array] = columns
    for name, array in zip(columns._fields, arrays, strict=True):
        if len(array) != count:
            raise ValueError(f"column {name} has {len(array)} rows, expected {count}")
    return type(columns)(*[_read_only(array) for array in arrays])


_NO_OPENS: Final = _input(open_columns(0), 0)
_NOTHING_LOADED: Final = Loaded(_read_only(np.empty(0, LEG_FACT)), _read_only(np.empty(0, np.uint8)))


class Ledger:
    """One shard's books. Not thread-safe: one turn at a time."""

    def __init__(self, config: LedgerConfig) -> None:
        if config.generations_max <= GENERATIONS_KEPT:
            raise ValueError(f"generations_max must be at least {GENERATIONS_KEPT + 1}")
        self.config = config
        self._strays = _read_only(np.empty((0, 2), np.uint64))  # dropped ids from the future, sorted
        self._books = storage.make_books(
            config.ids_per_generation,
            config.generations_max,
            config.turn_events_max,
            config.accounts_initial,
            config.holds_initial,
            config.hash_seed,
        )
        self._needs = np.zeros((0, 4), np.int64)  # scratch of reservations: zero between calls

    # Reading

    @property
    def accounts(self) -> _Array:
        """All accounts, read-only, by ordinal. Valid until the next command."""
        return _read_only(self._books.accounts[: self.account_count])

    @property
    def account_count(self) -> int:
        """How many accounts there are."""
        return int(self._books.scalars[shapes.ACCOUNT_COUNT])

    @property
    def last_timestamp(self) -> int:
        """The greatest stamp of any fact."""
        return int(self._books.scalars[shapes.LAST_TIMESTAMP])

    @property
    def generation(self) -> int:
        """The number of the window's newest generation."""
        return int(self._books.scalars[shapes.GENERATION])

    @property
    def dropped(self) -> int:
        """How many generations of the window are gone."""
        return int(self._books.scalars[shapes.DROPPED])

    @property
    def next_expiry(self) -> int:
        """When the first open hold runs out; `AMOUNT_MAX` if none ever does."""
        return int(upkeep.first_expiry(self._books))

    def lookup(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """The ordinals of accounts by id, (n, 2); −1 where there is none."""
        rows = np.empty(len(ids), np.int64)
        queries.find_accounts(self._books, _read_only(ids), rows)
        return rows

    @property
    def holds(self) -> _Array:
        """All holds in memory, read-only: the open ones, and those resolved lately. Valid until the next
        command."""
        return _read_only(self._books.holds[: int(self._books.scalars[shapes.HOLD_COUNT])])

    def find_holds(self, ids: npt.NDArray[np.uint64]) -> _Array:
        """The holds with these ids, (n, 2), that are in memory; the others are left out."""
        rows = np.empty(len(ids), np.int64)
        queries.find_holds(self._books, _read_only(ids), rows)
        return self.holds[rows[rows >= 0]]

    def unknown_ids(self, block: LegBlock, now: int) -> npt.NDArray[np.uint64]:
        """Ids, (k, 2), that are neither in memory nor provably new: look them up, and pass what is found as
        `loaded`. Ids of the legs and of the holds that they name, of Moves' legs too: a client may have used
        the id that follows from a request before the request came."""
        count = len(block.columns.amount)
        unknown = np.empty((2 * count, 2), np.uint64)
        columns = _input(block.columns, count)
        found = queries.unknown_ids(self._books, columns, self._strays, int(now), unknown)
        return np.unique(unknown[:found], axis=0) if found else unknown[:0]

    def are_new(self, ids: npt.NDArray[np.uint64], now: int) -> npt.NDArray[np.bool_]:
        """Which ids, (n, 2), are provably new: neither in memory, nor possibly forgotten."""
        new = np.empty(len(ids), np.bool_)
        queries.are_new(self._books, _read_only(ids), self._strays, int(now), new)
        return new

    # Commands

    def apply_legs(self, block: LegBlock, now: int) -> LegOutcome:
        """Judges batches of legs and applies those that are accepted, as if each batch came by itself.

        `now` is in ns; it may stand still or go back. TurnTooLarge or ValueError if the block is malformed:
        then nothing was done.
        """
        count = len(block.columns.amount)
        opens, loaded, answers = self._made_ready(block, now, facts_max=count)
        facts, opened = posting.post_legs(
            self._books,
            _input(block.columns, count),
            _read_only(block.offsets),
            opens,
            loaded,
            int(block.allowed_flags),
            int(now),
            answers,
        )
        if facts < 0:
            raise ValueError("offsets or opens do not fit the legs of the block")
        return LegOutcome(
            answers.status,
            answers.timestamp,
            answers.amount,
            answers.facts[:facts],
            answers.opened[:opened],
            answers.opened_index[:opened],
        )

    def _made_ready(self, block: LegBlock, now: int, facts_max: int) -> tuple[OpenColumns, Loaded, Answers]:
        """What a block opens and has loaded, and room for its answers, in the books too. Raises as
        `apply_legs`."""
        count = len(block.columns.amount)
        opens = _NO_OPENS if block.opens is None else _input(block.opens, len(block.opens.before))
        open_count = len(opens.before)
        loaded = _NOTHING_LOADED if block.loaded is None else self._checked(block.loaded)
        self._check_time(now)
        self._check_room(count)
        self._books = storage.reserve_holds(storage.reserve_accounts(self._books, open_count), count)
        answers = Answers(
            np.empty(count, np.uint8),
            np.empty(count, np.int64),
            np.empty(count, np.int64),
            np.empty(facts_max, LEG_FACT),
            np.empty(open_count, ACCOUNT_FACT),
            np.empty(open_count, np.int64),
        )
        return opens, loaded, answers

    def reserve_legs(self, block: LegBlock, now: int) -> Reserved:
        """Judges chains, `offsets[k]` to `offsets[k + 1]` each, as they would happen now, and sets aside what
        those that are acceptable need. No leg is written; accounts to be opened for such a chain are.

        Raises as `apply_legs`.
        """
        count, chains = len(block.columns.amount), len(block.offsets) - 1
        opens, loaded, answers = self._made_ready(block, now, facts_max=count + 1)
        touched_max = 2 * (ROLLUP_LEVELS_MAX + 1) * count
        reserved = np.empty(touched_max + 2 * count, RESERVED)
        ends = np.empty(chains, np.int64)
        entries, opened = reservation.reserve_legs(
            self._books,
            _input(block.columns, count),
            _read_only(block.offsets),
            opens,
            loaded,
            int(block.allowed_flags),
            int(now),
            answers,
            reserved,
            ends,
            self._scratch(),
            np.empty(touched_max, np.int64),
        )
        if entries < 0:
            raise ValueError("offsets or opens do not fit the legs of the block")
        return Reserved(
            answers.status,
            answers.timestamp,
            answers.amount,
            answers.facts[:count],
            answers.opened[:opened],
            answers.opened_index[:opened],
            reserved[:entries].copy(),
            ends,
        )

    def folded(self, reserved: _Array) -> _Array:
        """Reservations (RESERVED) of legs that are decided together, one for each account."""
        accounts = np.empty(len(reserved), RESERVED)
        count = reservation.fold(_read_only(reserved), self._scratch(), accounts)
        return accounts[:count]

    def _scratch(self) -> npt.NDArray[np.int64]:
        """Four counters for each account, all zero; who uses them leaves them so."""
        if len(self._needs) < len(self._books.accounts):
            self._needs = np.zeros((len(self._books.accounts), 4), np.int64)
        return self._needs

    def take_reserved(self, reserved: _Array) -> None:
        """On replay: makes reservations (RESERVED) again."""
        if len(reserved) and not 0 <= int(reserved["account"].max()) < self.account_count:
            raise InvariantBroken("a reservation names an account that is not there")
        reservation.shift_reserved(self._books, _read_only(reserved), 1)

    def release_reserved(self, reserved: _Array) -> None:
        """Gives up reservations: the chain is decided."""
        reservation.shift_reserved(self._books, _read_only(reserved), -1)

    def lock_holds(self, ids: npt.NDArray[np.uint64]) -> None:
        """On replay: locks holds, by id, that chains resolve which are not decided yet."""
        if reservation.lock_holds(self._books, _read_only(ids), 1) < len(ids):
            raise InvariantBroken("a hold to be locked is not there")

    def unlock_holds(self, ids: npt.NDArray[np.uint64]) -> None:
        """Unlocks those of these holds that are still locked: their chain came to nothing."""
        reservation.lock_holds(self._books, _read_only(ids), 0)

    def create_accounts(
        self, columns: AccountColumns, offsets: npt.NDArray[np.int64], now: int
    ) -> AccountOutcome:
        """Judges batches of accounts, `offsets[k]` to `offsets[k + 1]` each, and adds what is accepted."""
        count = len(columns.asset)
        self._check_time(now)
        self._books = storage.reserve_accounts(self._books, count)
        status, timestamps = np.empty(count, np.uint8), np.empty(count, np.int64)
        facts, indices = np.empty(count, ACCOUNT_FACT), np.empty(count, np.int64)
        created = creation.create_accounts(
            self._books,
            _input(columns, count),
            _read_only(offsets),
            int(now),
            status,
            timestamps,
            facts,
            indices,
        )
        if created < 0:
            raise ValueError("offsets do not fit the accounts")
        return AccountOutcome(status, timestamps, facts[:created], indices[:created])

    def set_guards(self, account: int, floor: int, ceiling: int, now: int) -> _Array:
        """Gives the account in row `account` new guards, whatever its balance; returns one GUARD_FACT."""
        self._check_time(now)
        if not 0 <= account < self.account_count:
            raise ValueError(f"there is no account {account}")
        fact = np.zeros(1, GUARD_FACT)
        fact[0] = (floor, ceiling, max(now, self.last_timestamp + 1), account, 0)
        self.replay_guards(fact)
        return fact

    def expire(self, now: int, limit: int) -> _Array:
        """The sweep: releases the holds that are due, at most `limit`, in order of expiry, then of creation.

        Returns LEG_FACTs, stamped up to `now` or later.
        """
        self._check_time(now)
        books = self._books
        due = np.empty(int(books.scalars[shapes.HOLD_COUNT]), np.int64)
        due = due[: upkeep.due_holds(books, int(now), due)]
        order = np.lexsort((books.holds["timestamp"][due], books.expiries[due]))
        due = due[order[:limit]]
        self._check_room(len(due))
        facts = np.empty(len(due), LEG_FACT)
        time = max(now, self.last_timestamp + len(due))
        upkeep.expire_holds(books, _read_only(due), time, facts)
        return facts

    # The id window

    def begin_turn(self) -> None:
        """Opens the window's next generation if the present one is full. WindowFull if no place is free."""
        if storage.block_of(self._books, self.generation)[shapes.ROWS] >= self.config.ids_per_generation:
            self.begin_generation()

    def begin_generation(self) -> None:
        """Opens the window's next generation, between turns. WindowFull if no place is free."""
        if self.generation + 1 - self.dropped >= self.config.generations_max:
            raise WindowFull(f"all {self.config.generations_max} generations of recent ids are in use")
        upkeep.begin_generation(self._books)

    def droppable(self, projected_timestamp: int) -> int:
        """Up to which generation, exclusive, `drop_generations` may go when all up to a stamp is projected.

        A generation counts as projected when something stamped later than all before its end is.
        """
        upto = self.dropped
        while upto + GENERATIONS_KEPT <= self.generation:
            if storage.block_of(self._books, upto)[shapes.LAST] >= projected_timestamp:
                break
            upto += 1
        return upto

    def drop_generations(self, upto: int) -> None:
        """Forgets the ids of the generations below `upto`, and the holds that were resolved in them."""
        if upto > max(self.dropped, self.generation + 1 - GENERATIONS_KEPT):
            raise ValueError(f"generation {upto - 1} is one of the newest {GENERATIONS_KEPT}")
        while self.dropped < upto:
            self._drop_oldest()

    def set_generation(self, generation: int, dropped: int) -> None:
        """On replay: brings the window to where it was when a record was made."""
        if generation < self.generation or dropped < self.dropped or dropped > generation:
            raise InvariantBroken(
                f"the window goes from {self.dropped}..{self.generation} to {dropped}..{generation}"
            )
        while self.dropped < min(dropped, self.generation):
            self._drop_oldest()
        while self.generation < generation:
            if self.generation + 1 - self.dropped >= self.config.generations_max:
                raise InvariantBroken(f"there is no room for generation {self.generation + 1}")
            upkeep.begin_generation(self._books)
        while self.dropped < dropped:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        s = self._books.scalars
        block = storage.block_of(self._books, self.dropped)
        strays = np.concatenate([self._strays, storage.strays_of(self._books, self.dropped)])
        strays = strays[np.lexsort((strays[:, 1], strays[:, 0]))]
        times = strays[:, 0] >> np.uint64(16)
        watermark = max(int(s[shapes.WATERMARK]), int(block[shapes.NEWEST]))
        if len(strays) > STRAYS_MAX:
            watermark = max(watermark, int(times[-STRAYS_MAX - 1]))
        if watermark >= 0:
            strays = strays[times > np.uint64(watermark)]
        self._strays = _read_only(strays)
        s[shapes.WATERMARK] = watermark
        rows = int(block[shapes.ROWS])
        if rows:
            first = self.dropped % int(s[shapes.RING]) * int(s[shapes.ROW_CAPACITY])
            s[shapes.DROPPED_LEG] = self._books.rows[first + rows - 1]["timestamp"]
        upkeep.clear_oldest(self._books)

    # Replay

    def replay_accounts(self, facts: _Array) -> None:
        """Adds the accounts that a record holds (ACCOUNT_FACT)."""
        self._books = storage.reserve_accounts(self._books, len(facts))
        replay.replay_accounts(self._books, _read_only(facts))

    def replay_guards(self, facts: _Array) -> None:
        """Changes guards as a record says (GUARD_FACT)."""
        done = replay.replay_guards(self._books, _read_only(facts))
        if done < len(facts):
            raise InvariantBroken(f"guard fact {done} names an account that is not there")

    def replay_legs(self, facts: _Array) -> None:
        """Applies legs, expiries and burnt ids as a record holds them (LEG_FACT)."""
        self._check_room(len(facts))
        self._books = storage.reserve_holds(self._books, len(facts))
        done = replay.replay_legs(self._books, _read_only(facts))
        if done < len(facts):
            raise InvariantBroken(f"leg fact {done} names an account or a hold that is not there")

    # State

    def state(self) -> State:
        """A copy of everything but spare room and indexes: equal for equal ledgers, fit for a snapshot."""
        return storage.save(self._books) | {"strays": self._strays.copy()}

    def restore(self, state: State) -> None:
        """Takes over a state. ValueError if it has larger or more generations than there is room for."""
        fresh = Ledger(self.config)
        self._books = storage.load(fresh._books, state)
        self._strays = _read_only(np.asarray(state["strays"], np.uint64))

    def check(self, reserved: _Array = NOTHING_RESERVED) -> None:
        """Checks all invariants; InvariantBroken says which one does not hold. `reserved` (RESERVED) is what
        chains that are not decided yet may take and bring."""
        where = np.zeros(1, np.int64)
        scratch = [np.zeros(self.account_count, np.int64) for _ in range(3)]
        np.add.at(scratch[0], reserved["account"], reserved["debits"])
        np.add.at(scratch[1], reserved["account"], reserved["credits"])
        fault = (
            audit.check_accounts(self._books, where)
            or audit.check_holds(self._books, where)
            or audit.check_sums(self._books, where, *scratch)
            or audit.check_window(self._books, where)
        )
        if fault:
            raise InvariantBroken(f"{audit.FAULTS[fault]} (row {where[0]})")
        for problem in audit.unbalanced(self.accounts, reserved):
            raise InvariantBroken(problem)

    # Preconditions

    @staticmethod
    def _check_time(now: int) -> None:
        if not 0 < now < TIME_MAX:
            raise ValueError(f"the time {now} is not in nanoseconds since 1970")

    def _check_room(self, events: int) -> None:
        used = int(storage.block_of(self._books, self.generation)[shapes.ROWS])
        if used + events > int(self._books.scalars[shapes.ROW_CAPACITY]):
            raise TurnTooLarge(f"{events} more events do not fit into this turn")

    def _checked(self, loaded: LoadedLegs) -> Loaded:
        """What was loaded, if it is sorted and does not contradict itself or memory."""
        facts, status = loaded.facts, loaded.hold_status
        if len(status) != len(facts):
            raise ValueError("hold_status must have one row per loaded leg")
        order = np.lexsort((facts["id_lo"], facts["id_hi"]))
        if not np.array_equal(order, np.arange(len(facts))):
            raise ValueError("loaded legs must be sorted by id")
        open_holds = facts[((facts["flags"] & LegFlag.PENDING) != 0) & (status == HoldStatus.OPEN)]
        rows = np.empty(len(open_holds), np.int64)
        ids = np.stack([open_holds["id_hi"], open_holds["id_lo"]], axis=1)
        queries.find_holds(self._books, _read_only(ids), rows)
        if (rows < 0).any():
            raise InvariantBroken("a hold that is open in PostgreSQL is not in memory")
        return Loaded(_read_only(facts), _read_only(status))
