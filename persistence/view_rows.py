"""Rows of PostgreSQL as views, and ids as parameters."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from persistence.views import (
    AccountView,
    Balance,
    EntryView,
    HistoryView,
    LegView,
    MoveView,
    PartyView,
    ThingView,
)

Row = tuple[Any, ...]

_OF_MOVE: Final = 1 << 15


def in_order(found: Iterable[Any], ids: Sequence[int]) -> list[Any]:
    """What was found, in the order of the ids, each once."""
    by_id = {item.id: item for item in found}
    return [by_id[id] for id in dict.fromkeys(ids) if id in by_id]


def uuids(ids: Sequence[int]) -> list[UUID]:
    """Ids as parameters."""
    return [UUID(int=id) for id in ids]


def uuids_of_column(ids: npt.NDArray[np.uint64]) -> list[UUID]:
    """Ids of shape (n, 2) as parameters."""
    raw = ids.astype(">u8").tobytes()
    return [UUID(bytes=raw[at : at + 16]) for at in range(0, len(raw), 16)]


def uuid_or_none(id: int) -> UUID | None:
    """An id as a parameter, null for 0."""
    return UUID(int=id) if id else None


def int_of(id: UUID | None) -> int:
    """An id from a row."""
    return 0 if id is None else id.int


def signed(value: int) -> int:
    """Unsigned 64 bits as PostgreSQL has them."""
    return value - 2**64 if value >= 2**63 else value


def unsigned(value: int | None) -> int:
    """And back; a null is 0."""
    return (value or 0) % 2**64


def balance_of(row: Sequence[int]) -> Balance:
    """Four counters of a row."""
    return Balance(debits_pending=row[0], debits_posted=row[1], credits_pending=row[2], credits_posted=row[3])


def account_view(row: Row) -> AccountView:
    """A row of the statements about accounts."""
    return AccountView(
        id=row[0].int,
        key=row[1] or "",
        party=int_of(row[2]),
        parent=int_of(row[3]),
        asset=row[4],
        code=row[5],
        flags=row[6],
        floor=row[7],
        ceiling=row[8],
        user_data_128=int_of(row[9]),
        user_data_64=unsigned(row[10]),
        user_data_32=row[11] or 0,
        created=row[12],
        balance=balance_of(row[13:17]),
    )


def leg_view(row: Row) -> LegView:
    """A row of the statements about legs."""
    return LegView(
        id=row[0].int,
        timestamp=row[1],
        debit=row[2].int,
        credit=row[3].int,
        amount=row[4],
        asset=row[5],
        code=row[6],
        flags=row[7],
        pending_id=int_of(row[8]),
        held=row[9] or 0,
        timeout=row[10] or 0,
        user_data_128=int_of(row[11]),
        user_data_64=unsigned(row[12]),
        user_data_32=row[13] or 0,
    )


def entry_view(row: Row, account: int) -> EntryView:
    """A row of `legs_at`, as the Entry of this account."""
    side = row[14]
    of_move = bool(row[7] & _OF_MOVE)
    own, other = (2, 3) if side == "debit" else (3, 2)
    return EntryView(
        account=account,
        key=row[own + 13] or "",
        side=side,
        amount=row[4],
        asset=row[5],
        counterparty=row[other].int,
        counterparty_key=row[other + 13] or "",
        leg=row[0].int,
        move=int_of(row[11]) if of_move else 0,
        seq=(row[13] or 0) if of_move else 0,
        code=row[6],
        flags=row[7],
        timestamp=row[1],
        business_time=(row[12] or 0) if of_move else row[1],
    )


def any_entry_view(row: Row) -> EntryView:
    """A row of the statements about Entries of all accounts."""
    of_move = bool(row[12] & _OF_MOVE)
    return EntryView(
        account=row[5].int,
        key=row[6] or "",
        side=row[4],
        amount=row[10],
        asset=row[7],
        counterparty=row[8].int,
        counterparty_key=row[9] or "",
        leg=row[0].int,
        move=int_of(row[13]) if of_move else 0,
        seq=(row[15] or 0) if of_move else 0,
        code=row[11],
        flags=row[12],
        timestamp=row[1],
        business_time=(row[14] or 0) if of_move else row[1],
    )


def move_view(row: Row) -> MoveView:
    """A row of the statements about Moves."""
    return MoveView(
        id=row[0].int,
        kind=row[1],
        state=row[2],
        seq=row[3],
        version=row[3] + 1,
        ended=row[4],
        payer=row[5].int,
        payee=int_of(row[6]),
        reverses=int_of(row[7]),
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


def party_view(row: Row) -> PartyView:
    """A row of the statements about Parties."""
    return PartyView(
        id=row[0].int,
        kind=row[1],
        name=row[2],
        profile=row[3],
        version=row[4],
        tenant=row[5],
        timestamp=row[6],
    )


def thing_view(row: Row) -> ThingView:
    """A row of the statements about Things."""
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


def history_views(balance: Balance, seen: list[Row], newest_first: bool) -> list[HistoryView]:
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
            views.append(HistoryView(leg=int_of(leg), timestamp=timestamp, balance=balance_of(counters)))
        if newest_first:
            counters[at] -= pending
            counters[at + 1] -= posted
    return views
