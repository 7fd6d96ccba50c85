"""Questions to the projection.

A question that makes no sense (an unknown account, neither side, an empty range, a limit of 0) raises
FilterRefused, which names the part that is wrong; it is never answered with nothing. Pages are cut by
timestamp, so they stay where they are while new legs come. What is answered is as new as the projection: a
caller who must see a write waits until the projection has passed its LSN.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from engine.ids import format_id, parse_id
from engine.ledger import LoadedLegs
from engine.moves import LoadedRequests, UnknownRequests
from persistence.database import Database
from persistence.errors import FilterRefused
from persistence.lookups import loaded_legs
from persistence.projection_rows import decode_answer
from persistence.session_pool import SessionPool
from persistence.statements import statements
from persistence.views import (
    LIMIT_MAX,
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
_OF_MOVE: Final = 1 << 15
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
        return loaded_legs(await self._lookups.fetch(_SQL["legs_by_id"], {"ids": _uuids_of_column(ids)}))

    async def find_requests(self, unknown: UnknownRequests) -> LoadedRequests:
        """What is known of requests, Moves and references that the Moves' book has forgotten or never
        knew."""
        loaded = LoadedRequests({}, {}, {})
        if unknown.requests:
            rows = await self._lookups.fetch(_SQL["answers"], (_uuids(unknown.requests),))
            loaded = loaded._replace(requests={row[0].int: decode_answer(row[1]) for row in rows})
        if unknown.moves:
            rows = await self._lookups.fetch(_SQL["newest_answers_of_moves"], (_uuids(unknown.moves),))
            loaded = loaded._replace(moves={row[0].int: decode_answer(row[1]) for row in rows})
        if unknown.references:
            payers, references = zip(*unknown.references, strict=True)
            given = {"payers": _uuids(payers), "references": list(references)}
            rows = await self._lookups.fetch(_SQL["references"], given)
            loaded = loaded._replace(references={(row[0].int, row[1]): row[2].int for row in rows})
        return loaded

    # Accounts

    async def accounts(self, ids: Sequence[int]) -> list[AccountView]:
        """Accounts by id; those that do not exist are left out."""
        rows = await self._pool.fetch(_SQL["accounts"], {"ids": _uuids(ids)})
        return _in_order([_account(row) for row in rows], ids)

    async def accounts_by_key(
        self, key: str, limit: int = 100, cursor: str | None = None
    ) -> Page[AccountView]:
        """Accounts whose key starts with `key`, in order of key."""
        _check_limit(limit)
        if not key:
            raise FilterRefused("a key must not be empty", "key")
        after_key, after_asset, after_id = _cursor(cursor, (str, int, parse_id), ("", 0, 0))
        parameters = {
            "from": key,
            "to": key + chr(0x10FFFF),
            "key": after_key,
            "asset": after_asset,
            "id": UUID(int=after_id),
            "limit": limit + 1,
        }
        accounts = [_account(row) for row in await self._pool.fetch(_SQL["accounts_by_key"], parameters)]
        return _page(accounts, limit, lambda last: f"{last.key}|{last.asset}|{format_id(last.id)}")

    async def accounts_of_party(
        self, party: int, limit: int = 100, cursor: str | None = None
    ) -> Page[AccountView]:
        """A party's accounts, in order of creation."""
        _check_limit(limit)
        created, after_id = _cursor(cursor, (_time, parse_id), (0, 0))
        parameters = {
            "party": UUID(int=party),
            "created": created,
            "id": UUID(int=after_id),
            "limit": limit + 1,
        }
        accounts = [_account(row) for row in await self._pool.fetch(_SQL["accounts_of_party"], parameters)]
        return _page(accounts, limit, lambda last: f"{last.created}|{format_id(last.id)}")

    async def balance_at(self, account: int, at: int) -> Balance:
        """The counters right after everything recorded up to and at a time."""
        place = await self._place(account)
        _check_time(at, "at")
        rows = await self._pool.fetch(_SQL["balance_at"], {**place._asdict(), "at": at})
        return _balance(rows[0])

    async def balance_at_business_time(self, account: int, at: int) -> BusinessBalance:
        """What the account's Entries sum to up to and at a business time, whenever they were recorded."""
        place = await self._place(account)
        rows = await self._pool.fetch(_SQL["balance_at_business_time"], {**place._asdict(), "at": at})
        return BusinessBalance(debits_posted=rows[0][0], credits_posted=rows[0][1])

    # Legs, Entries, history

    async def legs(self, ids: Sequence[int]) -> list[LegView]:
        """Legs by id; those that do not exist, or were refused, are left out."""
        rows = await self._pool.fetch(_SQL["legs"], {"ids": _uuids(ids)})
        return _in_order([_leg(row) for row in rows], ids)

    async def legs_of_account(self, wanted: AccountFilter) -> Page[LegView]:
        """All legs of an account: pending, posting and voiding ones too. Of a roll-up: those over its
        border."""
        place = await self._check(wanted)
        found = await self._account_rows(wanted, place, "legs_at", everything=True)
        return Page([_leg(row) for row in found.rows], found.cursor)

    async def entries(self, wanted: AccountFilter) -> Page[EntryView]:
        """An account's Entries: what changed its posted balance. Of a roll-up: those over its border."""
        place = await self._check(wanted)
        found = await self._account_rows(wanted, place, "legs_at", everything=False)
        return Page([_entry(row, wanted.account) for row in found.rows], found.cursor)

    async def history(self, wanted: AccountFilter) -> Page[HistoryView]:
        """The account's counters right after each leg; an expiry adds none, but counts."""
        place = await self._check(wanted)
        found = await self._account_rows(wanted, place, "effects_at", everything=True)
        if not found.seen:
            return Page([], None)
        first = found.seen[0]
        rows = await self._pool.fetch(_SQL["balance_at"], {**place._asdict(), "at": first[0]})
        return Page(_walk(_balance(rows[0]), found.seen, wanted.newest_first), found.cursor)

    async def trial_balance(self, at: int | None = None) -> list[TrialBalanceRow]:
        """Per asset, the sums over all accounts but roll-ups: now, or after everything recorded up to a
        time."""
        if at is None:
            rows = await self._pool.fetch(_SQL["trial_balance"])
        else:
            _check_time(at, "at")
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
            JournalLine(leg=_leg(row), seq=row[13] or 0, debit_key=row[15] or "", credit_key=row[16] or "")
            for row in rows
        ]

    async def moves_by_id(self, ids: Sequence[int]) -> list[MoveView]:
        """Moves by id; those that do not exist are left out."""
        rows = await self._pool.fetch(_SQL["moves"], {"ids": _uuids(ids)})
        return _in_order([_move(row) for row in rows], ids)

    async def moves(self, wanted: MoveFilter) -> Page[MoveView]:
        """Moves that a filter lets through, in order of creation."""
        _check_limit(wanted.limit)
        _check_range(wanted.timestamp_min, wanted.timestamp_max)
        start = (TIME_MAX, 2**128 - 1) if wanted.newest_first else (0, 0)
        timestamp, id = _cursor(wanted.cursor, (_time, parse_id), start)
        parameters = {
            "from": wanted.timestamp_min,
            "to": wanted.timestamp_max,
            "after_timestamp": timestamp,
            "after_id": UUID(int=id),
            "party": _uuid_or_none(wanted.party),
            "payer": _uuid_or_none(wanted.payer),
            "payee": _uuid_or_none(wanted.payee),
            "reverses": _uuid_or_none(wanted.reverses),
            "kind": wanted.kind or None,
            "reference": wanted.reference,
            "state": wanted.state or None,
            "limit": wanted.limit + 1,
        }
        statement = _SQL["newest_moves" if wanted.newest_first else "oldest_moves"]
        moves = [_move(row) for row in await self._pool.fetch(statement, parameters)]
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
        rows = await self._pool.fetch(_SQL["parties"], {"ids": _uuids(ids)})
        return _in_order([_party(row) for row in rows], ids)

    async def all_parties(self, limit: int = 100, cursor: str | None = None) -> Page[PartyView]:
        """Parties in order of id."""
        _check_limit(limit)
        (after,) = _cursor(cursor, (parse_id,), (0,))
        parameters = {"after": UUID(int=after), "limit": limit + 1}
        parties = [_party(row) for row in await self._pool.fetch(_SQL["parties_after"], parameters)]
        return _page(parties, limit, lambda last: format_id(last.id))

    async def things(self, ids: Sequence[int]) -> list[ThingView]:
        """Things by id; those that do not exist are left out."""
        rows = await self._pool.fetch(_SQL["things"], {"ids": _uuids(ids)})
        return _in_order([_thing(row) for row in rows], ids)

    async def things_by_code(self, tenant: str, codes: Sequence[str]) -> list[ThingView]:
        """Things by code; those that do not exist are left out."""
        parameters = {"tenant": tenant, "codes": list(codes)}
        return [_thing(row) for row in await self._pool.fetch(_SQL["things_by_code"], parameters)]

    async def all_things(self, limit: int = 100, cursor: str | None = None) -> Page[ThingView]:
        """Things in order of their asset number."""
        _check_limit(limit)
        (after,) = _cursor(cursor, (int,), (0,))
        parameters = {"after": after, "limit": limit + 1}
        things = [_thing(row) for row in await self._pool.fetch(_SQL["things_after"], parameters)]
        return _page(things, limit, lambda last: str(last.asset))

    # How a page of an account's legs comes about

    async def _place(self, account: int) -> Place:
        rows = await self._pool.fetch(_SQL["account_place"], (UUID(int=account),))
        if not rows:
            raise FilterRefused(f"there is no account {format_id(account)}", "account")
        return Place(*rows[0])

    async def _check(self, wanted: AccountFilter) -> Place:
        _check_limit(wanted.limit)
        _check_range(wanted.timestamp_min, wanted.timestamp_max)
        if not (wanted.debits or wanted.credits):
            raise FilterRefused("neither debits nor credits are wanted", "debits")
        for field, bits in _BITS.items():
            if not 0 <= getattr(wanted, field) < 2**bits:
                raise FilterRefused(f"{field} has {bits} bits; {getattr(wanted, field)} does not fit", field)
        _cursor(wanted.cursor, (_time,), ())
        return await self._place(wanted.account)

    async def _account_rows(
        self, wanted: AccountFilter, place: Place, statement: str, everything: bool
    ) -> "_Found":
        """Walks the positions of the account's history, in order, until enough of its legs match."""
        start, end = wanted.timestamp_min, wanted.timestamp_max
        if wanted.cursor is not None:
            (after,) = _cursor(wanted.cursor, (_time,), ())
            start, end = (start, min(end, after - 1)) if wanted.newest_first else (max(start, after + 1), end)
        rows: list[Row] = []
        seen: list[Row] = []
        step = max(STAMPS_MIN, min(wanted.limit + 1, STAMPS_MAX))
        stamps_of = _SQL["newest_stamps" if wanted.newest_first else "oldest_stamps"]
        parameters = _conditions(wanted, everything) | place._asdict()
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


def _walk(balance: Balance, seen: list[Row], newest_first: bool) -> list[HistoryView]:
    """The counters after each row that matches; `balance` is right after the first row."""
    counters = [
        balance.debits_pending,
        balance.debits_posted,
        balance.credits_pending,
        balance.credits_posted,
    ]
    views: list[HistoryView] = []
    for position, (timestamp, leg, side, pending, posted, matches) in enumerate(seen):
        at = 0 if side == "debit" else 2
        if position > 0 and not newest_first:
            counters[at] += pending
            counters[at + 1] += posted
        if matches:
            views.append(HistoryView(leg=_int(leg), timestamp=timestamp, balance=_balance(counters)))
        if newest_first:
            counters[at] -= pending
            counters[at + 1] -= posted
    return views


def _conditions(wanted: AccountFilter, everything: bool) -> dict[str, Any]:
    return {
        "all": everything,
        "side": None if wanted.debits and wanted.credits else "debit" if wanted.debits else "credit",
        "code": wanted.code or None,
        "user_data_128": _uuid_or_none(wanted.user_data_128),
        "user_data_64": _signed(wanted.user_data_64) or None,
        "user_data_32": wanted.user_data_32 or None,
    }


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= LIMIT_MAX:
        raise FilterRefused(f"a limit of {limit} makes no sense; expected 1 to {LIMIT_MAX}", "limit")


def _check_range(first: int, last: int) -> None:
    _check_time(first, "timestamp_min")
    _check_time(last, "timestamp_max")
    if first > last:
        raise FilterRefused(f"the range from {first} to {last} is empty", "timestamp_min")


def _check_time(time: int, field: str) -> None:
    if not 0 <= time <= TIME_MAX:
        raise FilterRefused(f"{time} is not a time in nanoseconds since 1970", field)


def _cursor(cursor: str | None, kinds: Sequence[Callable[[str], Any]], start: Row) -> Row:
    """The parts of a cursor; `start` if there is none."""
    if cursor is None:
        return start
    parts = cursor.rsplit("|", len(kinds) - 1)
    try:
        return tuple(kind(part) for kind, part in zip(kinds, parts, strict=True))
    except ValueError as exc:
        raise FilterRefused(f"{cursor!r} is not a cursor of this query", "cursor") from exc


def _time(text: str) -> int:
    time = int(text)
    if not 0 <= time <= TIME_MAX:
        raise ValueError(text)
    return time


def _page(items: list[Any], limit: int, cursor_of: Callable[[Any], str]) -> Page[Any]:
    if len(items) <= limit:
        return Page(items)
    return Page(items[:limit], cursor_of(items[limit - 1]))


def _in_order(found: Iterable[Any], ids: Sequence[int]) -> list[Any]:
    by_id = {item.id: item for item in found}
    return [by_id[id] for id in dict.fromkeys(ids) if id in by_id]


def _uuids(ids: Sequence[int]) -> list[UUID]:
    return [UUID(int=id) for id in ids]


def _uuids_of_column(ids: npt.NDArray[np.uint64]) -> list[UUID]:
    raw = ids.astype(">u8").tobytes()
    return [UUID(bytes=raw[at : at + 16]) for at in range(0, len(raw), 16)]


def _uuid_or_none(id: int) -> UUID | None:
    return UUID(int=id) if id else None


def _int(id: UUID | None) -> int:
    return 0 if id is None else id.int


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _unsigned(value: int | None) -> int:
    return (value or 0) % 2**64


def _balance(row: Sequence[int]) -> Balance:
    return Balance(debits_pending=row[0], debits_posted=row[1], credits_pending=row[2], credits_posted=row[3])


def _account(row: Row) -> AccountView:
    return AccountView(
        id=row[0].int,
        key=row[1] or "",
        party=_int(row[2]),
        parent=_int(row[3]),
        asset=row[4],
        code=row[5],
        flags=row[6],
        floor=row[7],
        ceiling=row[8],
        user_data_128=_int(row[9]),
        user_data_64=_unsigned(row[10]),
        user_data_32=row[11] or 0,
        created=row[12],
        balance=_balance(row[13:17]),
    )


def _leg(row: Row) -> LegView:
    return LegView(
        id=row[0].int,
        timestamp=row[1],
        debit=row[2].int,
        credit=row[3].int,
        amount=row[4],
        asset=row[5],
        code=row[6],
        flags=row[7],
        pending_id=_int(row[8]),
        held=row[9] or 0,
        timeout=row[10] or 0,
        user_data_128=_int(row[11]),
        user_data_64=_unsigned(row[12]),
        user_data_32=row[13] or 0,
    )


def _entry(row: Row, account: int) -> EntryView:
    side = row[14]
    of_move = bool(row[7] & _OF_MOVE)
    other = 3 if side == "debit" else 2
    return EntryView(
        account=account,
        side=side,
        amount=row[4],
        asset=row[5],
        counterparty=row[other].int,
        counterparty_key=row[other + 13] or "",
        leg=row[0].int,
        move=_int(row[11]) if of_move else 0,
        seq=(row[13] or 0) if of_move else 0,
        code=row[6],
        flags=row[7],
        timestamp=row[1],
        business_time=(row[12] or 0) if of_move else row[1],
    )


def _move(row: Row) -> MoveView:
    return MoveView(
        id=row[0].int,
        kind=row[1],
        state=row[2],
        seq=row[3],
        version=row[3] + 1,
        ended=row[4],
        payer=row[5].int,
        payee=_int(row[6]),
        reverses=_int(row[7]),
        reference=row[8],
        asset=row[9],
        amount=row[10],
        tender=row[11],
        tenant=row[12],
        created=row[13],
        changed=row[14],
        business_time=row[15],
        lines=row[16],
        inputs=row[17] or {},
        metadata=row[18] or {},
        holds=[hold.int for hold in row[19] or []],
        expires_at=row[20] or 0,
    )


def _party(row: Row) -> PartyView:
    return PartyView(
        id=row[0].int,
        kind=row[1],
        name=row[2],
        profile=row[3],
        version=row[4],
        tenant=row[5],
        timestamp=row[6],
    )


def _thing(row: Row) -> ThingView:
    return ThingView(
        id=row[0].int,
        kind=row[1],
        code=row[2],
        asset=row[3],
        exponent=row[4],
        name=row[5],
        attrs=row[6],
        tenant=row[7],
        timestamp=row[8],
    )
