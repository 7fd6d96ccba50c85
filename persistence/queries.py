"""Questions to the projection.

A question that makes no sense (an unknown account, neither side, an empty range, a limit of 0) raises
FilterRefused, which names the part that is wrong; it is never answered with nothing. Pages are cut by
timestamp, so they stay where they are while new legs come. What is answered is as new as the projection: a
caller who must see a write waits until the projection has passed its LSN.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from engine.ids import format_id, parse_id
from engine.ledger import LoadedLegs
from engine.moves import LoadedRequests, UnknownRequests
from persistence.database import Database
from persistence.errors import FilterRefused
from persistence.filters import check_limit, check_range, check_time, conditions, parse_cursor, parse_time
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
    leg_view,
    move_view,
    party_view,
    thing_view,
    uuid_or_none,
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
    JournalLine,
    LegView,
    MoveFilter,
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


class Queries:
    """Reads of the projection. `shard` is the one whose turns look up what they have forgotten."""

    def __init__(self, database: Database, shard: int = 0) -> None:
        name = f"tessera {database.schema}/{shard}"
        self._pool = SessionPool(database, f"{name} queries")
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
            loaded = loaded._replace(moves={row[0].int: decode_answer(row[1]) for row in rows})
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

    async def accounts_by_key(
        self, key: str, limit: int = 100, cursor: str | None = None
    ) -> Page[AccountView]:
        """Accounts whose key starts with `key`, in order of key."""
        check_limit(limit)
        if not key:
            raise FilterRefused("a key must not be empty", "key")
        after_key, after_asset, after_id = parse_cursor(cursor, (str, int, parse_id), ("", 0, 0))
        parameters = {
            "from": key,
            "to": key + chr(0x10FFFF),
            "key": after_key,
            "asset": after_asset,
            "id": UUID(int=after_id),
            "limit": limit + 1,
        }
        accounts = [account_view(row) for row in await self._pool.fetch(_SQL["accounts_by_key"], parameters)]
        return _page(accounts, limit, lambda last: f"{last.key}|{last.asset}|{format_id(last.id)}")

    async def accounts_of_party(
        self, party: int, limit: int = 100, cursor: str | None = None
    ) -> Page[AccountView]:
        """A party's accounts, in order of creation."""
        check_limit(limit)
        created, after_id = parse_cursor(cursor, (parse_time, parse_id), (0, 0))
        parameters = {
            "party": UUID(int=party),
            "created": created,
            "id": UUID(int=after_id),
            "limit": limit + 1,
        }
        accounts = [
            account_view(row) for row in await self._pool.fetch(_SQL["accounts_of_party"], parameters)
        ]
        return _page(accounts, limit, lambda last: f"{last.created}|{format_id(last.id)}")

    async def balance_at(self, account: int, at: int) -> Balance:
        """The counters right after everything recorded up to and at a time."""
        place = await self._place(account)
        check_time(at, "at")
        rows = await self._pool.fetch(_SQL["balance_at"], {**place._asdict(), "at": at})
        return balance_of(rows[0])

    async def balance_at_business_time(self, account: int, at: int) -> BusinessBalance:
        """What the account's Entries sum to up to and at a business time, whenever they were recorded."""
        place = await self._place(account)
        rows = await self._pool.fetch(_SQL["balance_at_business_time"], {**place._asdict(), "at": at})
        return BusinessBalance(debits_posted=rows[0][0], credits_posted=rows[0][1])

    # Legs, Entries, history

    async def legs(self, ids: Sequence[int]) -> list[LegView]:
        """Legs by id; those that do not exist, or were refused, are left out."""
        rows = await self._pool.fetch(_SQL["legs"], {"ids": uuids(ids)})
        return in_order([leg_view(row) for row in rows], ids)

    async def legs_of_account(self, wanted: AccountFilter) -> Page[LegView]:
        """All legs of an account: pending, posting and voiding ones too. Of a roll-up: those over its
        border."""
        place = await self._check(wanted)
        found = await self._account_rows(wanted, place, "legs_at", everything=True)
        return Page([leg_view(row) for row in found.rows], found.cursor)

    async def entries(self, wanted: AccountFilter) -> Page[EntryView]:
        """An account's Entries: what changed its posted balance. Of a roll-up: those over its border."""
        place = await self._check(wanted)
        found = await self._account_rows(wanted, place, "legs_at", everything=False)
        return Page([entry_view(row, wanted.account) for row in found.rows], found.cursor)

    async def history(self, wanted: AccountFilter) -> Page[HistoryView]:
        """The account's counters right after each leg; an expiry adds none, but counts."""
        place = await self._check(wanted)
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
                debits=row[2],
                credits=row[3],
                debits_pending=row[4],
                credits_pending=row[5],
            )
            for row in rows
        ]

    # Moves, Parties, Things

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

    async def moves(self, wanted: MoveFilter) -> Page[MoveView]:
        """Moves that a filter lets through, in order of creation."""
        check_limit(wanted.limit)
        check_range(wanted.timestamp_min, wanted.timestamp_max)
        start = (TIME_MAX, 2**128 - 1) if wanted.newest_first else (0, 0)
        timestamp, id = parse_cursor(wanted.cursor, (parse_time, parse_id), start)
        parameters = {
            "from": wanted.timestamp_min,
            "to": wanted.timestamp_max,
            "after_timestamp": timestamp,
            "after_id": UUID(int=id),
            "party": uuid_or_none(wanted.party),
            "payer": uuid_or_none(wanted.payer),
            "payee": uuid_or_none(wanted.payee),
            "reverses": uuid_or_none(wanted.reverses),
            "kind": wanted.kind or None,
            "reference": wanted.reference,
            "state": wanted.state or None,
            "limit": wanted.limit + 1,
        }
        statement = _SQL["newest_moves" if wanted.newest_first else "oldest_moves"]
        moves = [move_view(row) for row in await self._pool.fetch(statement, parameters)]
        return _page(moves, wanted.limit, lambda last: f"{last.created}|{format_id(last.id)}")

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

    async def all_parties(self, limit: int = 100, cursor: str | None = None) -> Page[PartyView]:
        """Parties in order of id."""
        check_limit(limit)
        (after,) = parse_cursor(cursor, (parse_id,), (0,))
        parameters = {"after": UUID(int=after), "limit": limit + 1}
        parties = [party_view(row) for row in await self._pool.fetch(_SQL["parties_after"], parameters)]
        return _page(parties, limit, lambda last: format_id(last.id))

    async def things(self, ids: Sequence[int]) -> list[ThingView]:
        """Things by id; those that do not exist are left out."""
        rows = await self._pool.fetch(_SQL["things"], {"ids": uuids(ids)})
        return in_order([thing_view(row) for row in rows], ids)

    async def things_by_code(self, tenant: str, codes: Sequence[str]) -> list[ThingView]:
        """Things by code; those that do not exist are left out."""
        parameters = {"tenant": tenant, "codes": list(codes)}
        return [thing_view(row) for row in await self._pool.fetch(_SQL["things_by_code"], parameters)]

    async def all_things(self, limit: int = 100, cursor: str | None = None) -> Page[ThingView]:
        """Things in order of their asset number."""
        check_limit(limit)
        (after,) = parse_cursor(cursor, (int,), (0,))
        parameters = {"after": after, "limit": limit + 1}
        things = [thing_view(row) for row in await self._pool.fetch(_SQL["things_after"], parameters)]
        return _page(things, limit, lambda last: str(last.asset))

    # How a page of an account's legs comes about

    async def _place(self, account: int) -> Place:
        rows = await self._pool.fetch(_SQL["account_place"], (UUID(int=account),))
        if not rows:
            raise FilterRefused(f"there is no account {format_id(account)}", "account")
        return Place(*rows[0])

    async def _check(self, wanted: AccountFilter) -> Place:
        check_limit(wanted.limit)
        check_range(wanted.timestamp_min, wanted.timestamp_max)
        if not (wanted.debits or wanted.credits):
            raise FilterRefused("neither debits nor credits are wanted", "debits")
        for field, bits in _BITS.items():
            if not 0 <= getattr(wanted, field) < 2**bits:
                raise FilterRefused(f"{field} has {bits} bits; {getattr(wanted, field)} does not fit", field)
        parse_cursor(wanted.cursor, (parse_time,), ())
        return await self._place(wanted.account)

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


class _Found(NamedTuple):
    """Rows that match; for a history all rows up to the last of them; and the cursor, if there are more."""

    rows: list[Row]
    seen: list[Row]
    cursor: str | None


def _page(items: list[Any], limit: int, cursor_of: Callable[[Any], str]) -> Page[Any]:
    if len(items) <= limit:
        return Page(items)
    return Page(items[:limit], cursor_of(items[limit - 1]))
