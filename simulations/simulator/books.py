"""The auditor's own books: what a shard's log says, added up with Python integers, fact after fact.

They share nothing with the ledger but the layout of facts, and keep what the ledger forgets: every account as
it was after every leg, every id for ever. A fact that the specification of legs would not allow raises
`Wrong`.
"""

from bisect import bisect_left
from typing import Any, Final, NamedTuple

from engine.facts import AppliedFact, DecidedFact
from engine.layout import (
    CEILING_UNSET,
    FLOOR_UNSET,
    LEG_FACT,
    SECOND_NS,
    AccountFlag,
    HoldStatus,
    LegFlag,
)
from engine.record import Record

POST: Final = int(LegFlag.POST_PENDING)
VOID: Final = int(LegFlag.VOID_PENDING)
PENDING: Final = int(LegFlag.PENDING)
KEEP_OPEN: Final = int(LegFlag.KEEP_OPEN)
LINKED: Final = int(LegFlag.LINKED)
BALANCING_DEBIT: Final = int(LegFlag.BALANCING_DEBIT)
BALANCING: Final = BALANCING_DEBIT | int(LegFlag.BALANCING_CREDIT)
CLOSING: Final = int(LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT)
EXPIRY: Final = int(LegFlag.EXPIRY)
BURNT: Final = int(LegFlag.BURNT)
PART: Final = int(LegFlag.PART)
CROSSING: Final = int(LegFlag.CROSSING)
RESOLVING: Final = POST | VOID

assert LEG_FACT.names is not None
_Fact: Final = NamedTuple("_Fact", [(name.strip("_"), int) for name in LEG_FACT.names])  # type: ignore[misc]  # by name


class Wrong(Exception):  # noqa: N818  # says what it is
    """What must hold does not; `check` names the rule."""

    def __init__(self, check: str, what: str) -> None:
        super().__init__(check, what)
        self.check = check
        self.what = what

    def __str__(self) -> str:
        return f"{self.check}: {self.what}"


class Counters(NamedTuple):
    """An account at one moment."""

    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    version: int = 1
    floor: int = FLOOR_UNSET
    ceiling: int = CEILING_UNSET
    closed: bool = False

    @property
    def above_floor(self) -> int:
        """What is measured against the floor."""
        return self.credits_posted - self.debits_posted - self.debits_pending

    @property
    def below_ceiling(self) -> int:
        """What is measured against the ceiling."""
        return self.credits_posted + self.credits_pending - self.debits_posted

    @property
    def balance(self) -> int:
        """Credits less debits, posted."""
        return self.credits_posted - self.debits_posted


class AccountBook:
    """An account, and all that it has been. `pair` says that it stands for another shard."""

    def __init__(self, id: int, asset: int, stamp: int, first: Counters, pair: bool) -> None:
        self.id = id
        self.asset = asset
        self.pair = pair
        self.least_floor = first.floor  # that it ever had
        self.created = stamp
        self.stamps = [stamp]
        self.history = [first]

    @property
    def now(self) -> Counters:
        """As it is after all facts."""
        return self.history[-1]

    def before(self, stamp: int) -> Counters | None:
        """As it was for a leg with that stamp; None if it was not there."""
        at = bisect_left(self.stamps, stamp)
        return self.history[at - 1] if at else None

    def put(self, stamp: int, counters: Counters) -> None:
        """A leg has changed it."""
        if stamp < self.stamps[-1]:
            raise Wrong(
                "serial history", f"account {self.id:032x} changes at {stamp}, after {self.stamps[-1]}"
            )
        self.stamps.append(stamp)
        self.history.append(counters._replace(version=self.now.version + 1))


class LegBook(NamedTuple):
    """A leg that happened."""

    id: int
    debit: int  # ids of accounts
    credit: int
    amount: int
    asset: int
    flags: int
    pending_id: int
    timeout: int
    stamp: int
    lsn: int


class HoldBook:
    """A hold: `steps` are its stamps, what was held after each, and what it was then."""

    def __init__(self, debit: AccountBook, credit: AccountBook, leg: LegBook) -> None:
        self.debit = debit
        self.credit = credit
        self.leg = leg
        self.expiry = leg.stamp + leg.timeout * SECOND_NS if leg.timeout else 0
        self.steps = [(leg.stamp, leg.amount, HoldStatus.OPEN)]

    @property
    def left(self) -> int:
        """What is held, or was just before it was resolved."""
        return self.steps[-1][1]

    @property
    def status(self) -> int:
        """What became of it."""
        return self.steps[-1][2]

    def before(self, stamp: int) -> tuple[int, int] | None:
        """What was held, and what it was, for a leg with that stamp; None if it was not there."""
        found = None
        for at, left, status in self.steps:
            if at >= stamp:
                break
            found = left, status
        return found


class Books:
    """One shard's log, added up. State changes only in `take`."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.lsn = 0
        self.epoch = 0
        self.last_stamp = 0
        self.accounts: dict[int, AccountBook] = {}
        self.legs: dict[int, LegBook] = {}
        self.burnt: dict[int, int] = {}  # id → stamp
        self.holds: dict[int, HoldBook] = {}
        self.balances: dict[int, list[int]] = {}  # by asset: sums of debits and credits, posted and pending
        self.in_pairs: dict[int, int] = {}  # by asset: what the pair accounts have together, posted
        self._rows: list[AccountBook] = []
        self._reserved = False  # whether the leg that is taken was judged in an earlier turn

    def take(self, record: Record) -> list[LegBook]:
        """Add a record; the legs that happened in it. Raises Wrong."""
        if record.lsn != self.lsn + 1:
            raise Wrong("one log", f"record {record.lsn} of shard {self.shard} comes after {self.lsn}")
        if record.epoch < self.epoch or (record.kind == "opening") != (record.epoch > self.epoch):
            raise Wrong(
                "one owner",
                f"record {record.lsn} of shard {self.shard} has epoch {record.epoch} after {self.epoch}",
            )
        self.lsn, self.epoch = record.lsn, record.epoch
        for row in record.accounts:
            self._open(row)
        # Guards and legs are kept apart in a record, and in order by their stamps.
        steps: list[tuple[int, int, Any]] = [(int(row["timestamp"]), 0, row) for row in record.guards]
        happened: list[LegBook] = []
        decided = _decided(record)
        for place, values in enumerate(record.legs.tolist()):
            fact: Any = _Fact(*values)
            self._reserved = place in decided
            while steps and steps[0][0] < fact.timestamp:
                self._guard(steps.pop(0)[2])
            before = self._pairs_of(fact)
            leg = self._leg(fact)
            if before is not None:
                asset = self._rows[fact.debit].asset
                change = (self._pairs_of(fact) or 0) - before
                self.in_pairs[asset] = self.in_pairs.get(asset, 0) + change
            if leg is not None:
                happened.append(leg)
        for _, _, row in steps:
            self._guard(row)
        for leg in happened if decided else ():
            debit = self.accounts[leg.debit]
            if debit.now.above_floor < debit.least_floor:
                raise Wrong("guards", f"record {self.lsn} leaves account {debit.id:032x} below its floor")
        return happened

    def _pairs_of(self, fact: Any) -> int | None:
        """What the pair accounts among a fact's two have; None if there is none."""
        if fact.debit < 0:
            return None
        found = [book.now.balance for book in (self._rows[fact.debit], self._rows[fact.credit]) if book.pair]
        return sum(found) if found else None

    def _open(self, row: Any) -> None:
        id = int(row["id_hi"]) << 64 | int(row["id_lo"])
        if id in self.accounts:
            raise Wrong("once", f"account {id:032x} is opened again")
        counters = Counters(floor=int(row["floor"]), ceiling=int(row["ceiling"]))
        pair = bool(int(row["flags"]) & AccountFlag.PAIR)
        account = AccountBook(id, int(row["asset"]), int(row["timestamp"]), counters, pair)
        self.accounts[id] = account
        self._rows.append(account)

    def _guard(self, row: Any) -> None:
        account = self._rows[int(row["account"])]
        changed = account.now._replace(floor=int(row["floor"]), ceiling=int(row["ceiling"]))
        account.least_floor = min(account.least_floor, changed.floor)
        account.put(int(row["timestamp"]), changed)

    def _leg(self, fact: Any) -> LegBook | None:
        id = fact.id_hi << 64 | fact.id_lo
        flags = fact.flags
        if id and (id in self.legs or id in self.burnt):
            raise Wrong("once", f"leg {id:032x} happens again in record {self.lsn} of shard {self.shard}")
        if flags & BURNT:
            self.burnt[id] = fact.timestamp
            return None
        if fact.timestamp <= self.last_stamp:
            raise Wrong("serial history", f"stamp {fact.timestamp} comes after {self.last_stamp}")
        self.last_stamp = fact.timestamp
        pending = fact.pending_hi << 64 | fact.pending_lo
        debit, credit = self._rows[fact.debit], self._rows[fact.credit]
        leg = LegBook(
            id, debit.id, credit.id, fact.amount, debit.asset, flags, pending, fact.timeout, fact.timestamp,
            self.lsn,
        )  # fmt: skip
        if debit.asset != credit.asset or fact.amount < 0:
            raise Wrong("balanced legs", f"leg {id:032x} moves {fact.amount} between assets")
        if id:
            self.legs[id] = leg
        if flags & (RESOLVING | EXPIRY):
            self._resolve(leg, fact.held)
        else:
            self._place(leg, debit, credit)
        return leg

    def _place(self, leg: LegBook, debit: AccountBook, credit: AccountBook) -> None:
        closing = leg.flags & CLOSING
        if (debit.now.closed or credit.now.closed) and not self._reserved:
            self._may_be_closed(leg)
        if leg.flags & PENDING:
            of_debit = debit.now._replace(debits_pending=debit.now.debits_pending + leg.amount)
            of_credit = credit.now._replace(credits_pending=credit.now.credits_pending + leg.amount)
            self.holds[leg.id] = HoldBook(debit, credit, leg)
            if closing & LegFlag.CLOSING_DEBIT:
                of_debit = of_debit._replace(closed=True)
            if closing & LegFlag.CLOSING_CREDIT:
                of_credit = of_credit._replace(closed=True)
        else:
            of_debit = debit.now._replace(debits_posted=debit.now.debits_posted + leg.amount)
            of_credit = credit.now._replace(credits_posted=credit.now.credits_posted + leg.amount)
        # What a chain over several shards needs was set aside for it as a whole.
        if leg.amount and of_debit.above_floor < of_debit.floor and not self._reserved:
            raise Wrong("guards", f"leg {leg.id:032x} takes account {debit.id:032x} below its floor")
        if leg.amount and of_credit.below_ceiling > of_credit.ceiling and not self._reserved:
            raise Wrong("guards", f"leg {leg.id:032x} takes account {credit.id:032x} above its ceiling")
        debit.put(leg.stamp, of_debit)
        credit.put(leg.stamp, of_credit)

    def _may_be_closed(self, leg: LegBook) -> None:
        raise Wrong("closed accounts", f"leg {leg.id:032x} touches a closed account")

    def _resolve(self, leg: LegBook, held: int) -> None:
        hold = self.holds.get(leg.pending_id)
        if hold is None or hold.status != HoldStatus.OPEN:
            raise Wrong("holds", f"leg {leg.id:032x} resolves hold {leg.pending_id:032x}, which is not open")
        if held != hold.left or leg.amount > held:
            raise Wrong(
                "holds", f"leg {leg.id:032x} finds {held} held, not {hold.left}, and takes {leg.amount}"
            )
        overdue = hold.expiry != 0 and leg.stamp >= hold.expiry
        if hold.leg.flags & PART:  # its home says when it expires
            overdue = bool(leg.flags & EXPIRY)
        if leg.flags & EXPIRY and not overdue:
            raise Wrong("holds", f"hold {leg.pending_id:032x} expires too early")
        if leg.flags & POST and overdue:
            raise Wrong("holds", f"hold {leg.pending_id:032x} is posted after it expired")
        stays = leg.flags & KEEP_OPEN and leg.amount < held
        released = leg.amount if stays else held
        status = (
            HoldStatus.OPEN if stays
            else HoldStatus.POSTED if leg.flags & POST
            else HoldStatus.VOIDED if leg.flags & VOID
            else HoldStatus.EXPIRED
        )  # fmt: skip
        hold.steps.append((leg.stamp, held - leg.amount if stays else held, status))
        posted = leg.amount if leg.flags & POST else 0
        debit, credit = hold.debit, hold.credit
        of_debit = debit.now._replace(
            debits_pending=debit.now.debits_pending - released, debits_posted=debit.now.debits_posted + posted
        )
        of_credit = credit.now._replace(
            credits_pending=credit.now.credits_pending - released,
            credits_posted=credit.now.credits_posted + posted,
        )
        if not posted and hold.leg.flags & CLOSING and not stays:
            if hold.leg.flags & LegFlag.CLOSING_DEBIT:
                of_debit = of_debit._replace(closed=False)
            if hold.leg.flags & LegFlag.CLOSING_CREDIT:
                of_credit = of_credit._replace(closed=False)
        debit.put(leg.stamp, of_debit)
        credit.put(leg.stamp, of_credit)


def _decided(record: Record) -> set[int]:
    """Which of a record's legs were judged in an earlier turn, and happen because a home has decided so."""
    places: set[int] = set()
    for event in record.events:
        if isinstance(event, DecidedFact | AppliedFact):
            places.update(range(event.leg_first, event.leg_first + event.leg_count))
    return places
