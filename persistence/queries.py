"""Questions to the projection.

A question that makes no sense (an unknown account, neither side, an empty range, a limit of 0) raises
FilterRefused, which names the part that is wrong; it is never answered with nothing. Pages are cut by
timestamp, so they stay where they are while new legs come. What is answered is as new as the projection: a
caller who must see a write waits until the projection has passed its LSN.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from engine.facts import MoveFact
from engine.ids import format_id
from engine.ledger import LoadedLegs
from engine.moves import LoadedRequests, UnknownRequests
from engine.placement import ONE_SHARD
from persistence.database import Database
from persistence.errors import FilterRefused
from persistence.filters import check_limit, check_range, check_time, conditions, parse_cursor, parse_time
from persistence.listings import Listings
from persistence.lookups import loaded_legs
from persistence.projection_rows import decode_answer
from persistence.session_pool import SessionPool
from persistence.statements import statements
from persistence.view_rows import (
    account_view,
    balance_of,
    entry_view,
    history_views,
    in_order,
    int_of,
    leg_view,
    move_view,
    party_view,
    thing_view,
    uuids,
    uuids_of_column,
)
from persistence.views import (
    TIME_MAX,
    AccountFilter,
    AccountView,
    Balance,
    BusinessBalance,
    EntryView,
    HistoryView,
    HoldStepView,
    JournalLine,
    LegView,
    MoveView,
    Page,
    PartyView,
    ThingView,
    TransitionView,
    TrialBalanceRow,
)

STAMPS_MIN: Final = 64
STAMPS_MAX: Final = 20_000
"""How many positions of a history are looked at in one step."""
_BITS: Final = {"account": 128, "code": 16, "user_data_128": 128, "user_data_64": 64, "user_data_32": 32}

_SQL: Final = statements("queries")

Row = tuple[Any, ...]


class Place(NamedTuple):
    """Where an account's row is."""

    shard: int
    ordinal: int


class Queries(Listings):
    """Reads of the projection. `shard` is the one whose turns look up what they have forgotten."""

    def __init__(self, database: Database, shard: int = 0) -> None:
        name = f"tessera {database.schema}/{shard}"
        super().__init__(SessionPool(database, f"{name} queries"))
        self.placement = ONE_SHARD  # to be set where there are several
        # Of its own, so that no report keeps a turn waiting.
        self._lookups = SessionPool(database, f"{name} lookups", size=1)

    async def close(self) -> None:
        """Ends the sessions."""
        await self._pool.close()
        await self._lookups.close()

    # For turns

    async def find_legs(self, ids: npt.NDArray[np.uint64]) -> LoadedLegs:
        """What is known of leg ids, (n, 2), that the ledger has forgotten or never knew."""
        return loaded_legs(await self._lookups.fetch(_SQL["legs_by_id"], {"ids": uuids_of_column(ids)}))

    async def find_requests(self, unknown: UnknownRequests) -> LoadedRequests:
        """What is known of requests, Moves and references that the Moves' book has forgotten or never
        knew."""
        loaded = LoadedRequests({}, {}, {})
        if unknown.requests:
            rows = await self._lookups.fetch(_SQL["answers"], (uuids(unknown.requests),))
            loaded = loaded._replace(requests={row[0].int: decode_answer(row[1]) for row in rows})
        if unknown.moves:
            rows = await self._lookups.fetch(_SQL["newest_answers_of_moves"], (uuids(unknown.moves),))
            answers = {row[0].int: decode_answer(row[1]) for row in rows}
            moves = {move: fact for move, fact in answers.items() if isinstance(fact, MoveFact)}
            loaded = loaded._replace(moves=moves)
        if unknown.references:
            payers, references = zip(*unknown.references, strict=True)
            given = {"payers": uuids(payers), "references": list(references)}
            rows = await self._lookups.fetch(_SQL["references"], given)
            loaded = loaded._replace(references={(row[0].int, row[1]): row[2].int for row in rows})
        return loaded

    # Accounts

    async def accounts(self, ids: Sequence[int]) -> list[AccountView]:
        """Accounts by id; those that do not exist are left out."""
        rows = await self._pool.fetch(_SQL["accounts"], {"ids": uuids(ids)})
        return in_order([account_view(row) for row in rows], ids)

    async def balance_at(self, account: int, at: int) -> Balance:
        """The counters right after everything recorded up to and at a time."""
        places = await self._places(account)
        check_time(at, "at")
        rows = [
            (await self._pool.fetch(_SQL["balance_at"], {**place._asdict(), "at": at}))[0] for place in places
        ]
        return balance_of([sum(counters) for counters in zip(*rows, strict=True)])

    async def balance_at_business_time(
        self, account: int, at: int, recorded: int = TIME_MAX
    ) -> BusinessBalance:
        """What the account's Entries sum to up to and at a business time, as far as they were recorded by
        another."""
        places = await self._places(account)
        check_time(recorded, "recorded")
        debits, credits_ = 0, 0
        for place in places:
            parameters = {**place._asdict(), "at": at, "recorded": recorded}
            rows = await self._pool.fetch(_SQL["balance_at_business_time"], parameters)
            debits, credits_ = debits + rows[0][0], credits_ + rows[0][1]
        return BusinessBalance(debits_posted=debits, credits_posted=credits_)

    # Legs, Entries, history

    async def legs(self, ids: Sequence[int]) -> list[LegView]:
        """Legs by id; those that do not exist, or were refused, are left out."""
        rows = await self._pool.fetch(_SQL["legs"], {"ids": uuids(ids)})
        return in_order([leg_view(row) for row in rows], ids)

    async def legs_of_account(self, wanted: AccountFilter) -> Page[LegView]:
        """All legs of an account: pending, posting and voiding ones too. Of a roll-up: those over its
        border."""
        found = await self._legs_of_all_rows(wanted, everything=True)
        return Page([leg_view(row) for row in found.rows], found.cursor)

    async def entries(self, wanted: AccountFilter) -> Page[EntryView]:
        """An account's Entries: what changed its posted balance. Of a roll-up: those over its border."""
        found = await self._legs_of_all_rows(wanted, everything=False)
        return Page([entry_view(row, wanted.account) for row in found.rows], found.cursor)

    async def history(self, wanted: AccountFilter) -> Page[HistoryView]:
        """The account's counters right after each leg; an expiry adds none, but counts. Raises FilterRefused
        for an account with a row on every shard: between these there is no order."""
        place, *others = await self._check(wanted)
        if others:
            rows_there = f"account {format_id(wanted.account)} has rows on {1 + len(others)} shards"
            raise FilterRefused(f"{rows_there}, and no history; ask for its Entries", "account")
        found = await self._account_rows(wanted, place, "effects_at", everything=True)
        if not found.seen:
            return Page([], None)
        first = found.seen[0]
        rows = await self._pool.fetch(_SQL["balance_at"], {**place._asdict(), "at": first[0]})
        return Page(history_views(balance_of(rows[0]), found.seen, wanted.newest_first), found.cursor)

    async def trial_balance(self, at: int | None = None) -> list[TrialBalanceRow]:
        """Per asset, the sums over all accounts but roll-ups: now, or after everything recorded up to a
        time."""
        if at is None:
            rows = await self._pool.fetch(_SQL["trial_balance"])
        else:
            check_time(at, "at")
            rows = await self._pool.fetch(_SQL["trial_balance_at"], {"at": at})
        return [
            TrialBalanceRow(
                asset=row[0],
                accounts=row[1],
                debits=int(row[2]),
                credits=int(row[3]),
                debits_pending=int(row[4]),
                credits_pending=int(row[5]),
            )
            for row in rows
        ]

    async def hold_outcome(self, hold: int) -> list[HoldStepView]:
        """The posts, void or expiry that name a hold, in order."""
        rows = await self._pool.fetch(_SQL["hold_outcome"], {"id": UUID(int=hold)})
        return [
            HoldStepView(leg=int_of(row[0]), timestamp=row[1], amount=row[2], held=row[3], flags=row[4])
            for row in rows
        ]

    # Moves, Parties, Things

    async def reversals(self, moves: Sequence[int]) -> dict[int, list[int]]:
        """The Moves that reverse these, by the Move they reverse."""
        found: dict[int, list[int]] = {}
        for reverses, id in await self._pool.fetch(_SQL["reversals"], {"ids": uuids(moves)}):
            found.setdefault(reverses.int, []).append(id.int)
        return found

    async def journal(self, move: int) -> list[JournalLine]:
        """The legs of a Move, in order. Raises FilterRefused if there is no such Move."""
        rows = await self._pool.fetch(_SQL["journal"], {"move": UUID(int=move)})
        if not rows and not await self.moves_by_id([move]):
            raise FilterRefused(f"there is no Move {format_id(move)}", "move")
        return [
            JournalLine(
                leg=leg_view(row), seq=row[13] or 0, debit_key=row[15] or "", credit_key=row[16] or ""
            )
            for row in rows
        ]

    async def moves_by_id(self, ids: Sequence[int]) -> list[MoveView]:
        """Moves by id; those that do not exist are left out."""
        rows = await self._pool.fetch(_SQL["moves"], {"ids": uuids(ids)})
        return in_order([move_view(row) for row in rows], ids)

    async def transitions(self, move: int) -> list[TransitionView]:
        """What happened to a Move, in order. Raises FilterRefused if there is no such Move."""
        rows = await self._pool.fetch(_SQL["transitions"], {"move": UUID(int=move)})
        if not rows:
            raise FilterRefused(f"there is no Move {format_id(move)}", "move")
        return [
            TransitionView(
                seq=row[0],
                request=row[1].int,
                transition=row[2],
                state=row[3],
                ended=row[4],
                timestamp=row[5],
                business_time=row[6],
                amount=row[7],
                principal=row[8],
                leg_count=row[9],
                inputs=row[10] or {},
                metadata=row[11] or {},
            )
            for row in rows
        ]

    async def parties(self, ids: Sequence[int]) -> list[PartyView]:
        """Parties by id; those that do not exist are left out."""
        rows = await self._pool.fetch(_SQL["parties"], {"ids": uuids(ids)})
        return in_order([party_view(row) for row in rows], ids)

    async def things(self, ids: Sequence[int]) -> list[ThingView]:
        """Things by id; those that do not exist are left out."""
        rows = await self._pool.fetch(_SQL["things"], {"ids": uuids(ids)})
        return in_order([thing_view(row) for row in rows], ids)

    async def things_by_code(self, tenant: str, codes: Sequence[str]) -> list[ThingView]:
        """Things by code; those that do not exist are left out."""
        parameters = {"tenant": tenant, "codes": list(codes)}
        return [thing_view(row) for row in await self._pool.fetch(_SQL["things_by_code"], parameters)]

    # How a page of an account's legs comes about

    async def _places(self, account: int) -> list[Place]:
        """Where the account's rows are: one a shard, if it is striped."""
        places = [await self._place(account)]
        for row in self.placement.stripes(account):
            if row != account:
                places += [
                    Place(*found) for found in await self._pool.fetch(_SQL["account_place"], (UUID(int=row),))
                ]
        return places

    async def _place(self, account: int) -> Place:
        rows = await self._pool.fetch(_SQL["account_place"], (UUID(int=account),))
        if not rows:
            raise FilterRefused(f"there is no account {format_id(account)}", "account")
        return Place(*rows[0])

    async def _check(self, wanted: AccountFilter) -> list[Place]:
        check_limit(wanted.limit)
        check_range(wanted.timestamp_min, wanted.timestamp_max)
        if not (wanted.debits or wanted.credits):
            raise FilterRefused("neither debits nor credits are wanted", "debits")
        for field, bits in _BITS.items():
            if not 0 <= getattr(wanted, field) < 2**bits:
                raise FilterRefused(f"{field} has {bits} bits; {getattr(wanted, field)} does not fit", field)
        parse_cursor(wanted.cursor, (parse_time,), ())
        return await self._places(wanted.account)

    async def _legs_of_all_rows(self, wanted: AccountFilter, everything: bool) -> "_Found":
        """Legs of an account, on all shards where it has a row. Those of one time stay on one page, since the
        cursor is a time."""
        parts = [
            await self._account_rows(wanted, place, "legs_at", everything)
            for place in await self._check(wanted)
        ]
        if len(parts) == 1:
            return parts[0]
        rows = sorted((row for part in parts for row in part.rows), key=_stamp, reverse=wanted.newest_first)
        page = rows[: wanted.limit]
        page += [row for row in rows[wanted.limit :] if _stamp(row) == _stamp(page[-1])]
        more = len(page) < len(rows) or any(part.cursor for part in parts)
        return _Found(page, [], str(_stamp(page[-1])) if more else None)

    async def _account_rows(
        self, wanted: AccountFilter, place: Place, statement: str, everything: bool
    ) -> "_Found":
        """Walks the positions of the account's history, in order, until enough of its legs match."""
        start, end = wanted.timestamp_min, wanted.timestamp_max
        if wanted.cursor is not None:
            (after,) = parse_cursor(wanted.cursor, (parse_time,), ())
            start, end = (start, min(end, after - 1)) if wanted.newest_first else (max(start, after + 1), end)
        rows: list[Row] = []
        seen: list[Row] = []
        step = max(STAMPS_MIN, min(wanted.limit + 1, STAMPS_MAX))
        stamps_of = _SQL["newest_stamps" if wanted.newest_first else "oldest_stamps"]
        parameters = conditions(wanted, everything) | place._asdict()
        while len(rows) <= wanted.limit and start <= end:
            near = {**place._asdict(), "from": start, "to": end, "limit": step}
            stamps = [stamp for (stamp,) in await self._pool.fetch(stamps_of, near)]
            if not stamps:
                break
            found = await self._pool.fetch(_SQL[statement], parameters | {"stamps": stamps})
            if wanted.newest_first:
                found.reverse()
                end = stamps[-1] - 1
            else:
                start = stamps[-1] + 1
            if statement == "effects_at":
                seen += found
                found = [row for row in found if row[5]]
            rows += found
            step = min(4 * step, STAMPS_MAX)
        if len(rows) <= wanted.limit:
            return _Found(rows, seen, None)
        rows = rows[: wanted.limit]
        seen = [
            row for row in seen if (row[0] >= rows[-1][0]) == wanted.newest_first or row[0] == rows[-1][0]
        ]
        timestamp = rows[-1][0] if statement == "effects_at" else rows[-1][1]
        return _Found(rows, seen, str(timestamp))


def _stamp(leg: Row) -> int:
    """When a leg of `legs_at` was recorded."""
    stamp: int = leg[1]
    return stamp


class _Found(NamedTuple):
    """Rows that match; for a history all rows up to the last of them; and the cursor, if there are more."""

    rows: list[Row]
    seen: list[Row]
    cursor: str | None
