"""From facts of the log to events."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt

from actors.runtime import Engine
from engine.facts import NO_ID, LineFacts, MoveFact, PartyFact, ThingFact
from engine.layout import CEILING_UNSET, FLOOR_UNSET, LEG_FACT, AccountFlag, LegFlag
from gateway.descriptions import described, free_part, relations_in
from gateway.events.filters import LEG_TYPES, EventType, leg_types
from gateway.events.positions import Position
from gateway.events.record_events import Indexes, RecordEvents, move_type, party_type
from gateway.events.schemas import (
    AccountEvent,
    Event,
    LegEvent,
    LimitsEvent,
    MoveEvent,
    PartyEvent,
    ThingEvent,
)
from gateway.leg_columns import LEG_FLAGS
from gateway.schemas import LineView
from gateway.wire import Amount, Balance, Instant, Unsigned64
from persistence.account_names import AccountColumns

_OF_ENGINE: Final = ("burnt", "of_move", "expiry")
"""Flags that say nothing which the event does not."""
_FLAGS: Final = tuple((name, value) for name, value in LEG_FLAGS.items() if name not in _OF_ENGINE)
_OF_MOVE: Final = int(LegFlag.OF_MOVE)
_LEG_COLUMNS: Final = tuple(name for name in LEG_FACT.names or () if not name.startswith("_"))


class Told(NamedTuple):
    """An event, and everything whose events must stay in order with it: accounts and the Move, as 16
    bytes."""

    position: Position
    event: Event
    subjects: tuple[bytes, ...]


class _Leg(NamedTuple):
    """A row of LEG_FACT."""

    id_hi: int
    id_lo: int
    pending_hi: int
    pending_lo: int
    user_data_128_hi: int
    user_data_128_lo: int
    user_data_64: int
    amount: int
    held: int
    timestamp: int
    debit: int
    credit: int
    user_data_32: int
    timeout: int
    code: int
    flags: int


class _Account(NamedTuple):
    """An account as events name it."""

    id: UUID
    key: str | None
    party: UUID | None
    asset: int


def told(engine: Engine, events: RecordEvents, indexes: Indexes, names: AccountColumns) -> list[Told]:
    """Events of a record by their indexes less one; `names` are the accounts that `events.ordinals` asks
    for."""
    return _Teller(engine, events, indexes, names).told()


class _Teller:
    """Makes the events of one record."""

    def __init__(self, engine: Engine, events: RecordEvents, indexes: Indexes, names: AccountColumns) -> None:
        self._engine = engine
        self._events = events
        self._record = events.record
        self._indexes = indexes
        self._codes: dict[int, str] = {}
        rows = zip(names.id.tolist(), names.party.tolist(), names.asset.tolist(), names.key, strict=True)
        self._accounts = {
            ordinal: _Account(_uuid(*id), key, _uuid_or_none(*party), asset)
            for ordinal, (id, party, asset, key) in zip(events.ordinals(indexes).tolist(), rows, strict=True)
        }

    def told(self) -> list[Told]:
        """All of them."""
        shard, lsn = self._record.shard, self._record.lsn
        found = []
        for index, (kind, timestamp, data, subjects) in zip(
            self._indexes.tolist(), self._made(), strict=True
        ):
            position = Position(shard, lsn, index + 1)
            event = Event(id=position.text, type=kind, timestamp=Instant(timestamp), lsn=lsn, data=data)
            found.append(Told(position, event, subjects))
        return found

    def _made(self) -> Iterator["_Made"]:
        """In order of their indexes, which go from section to section."""
        events, record, indexes = self._events, self._record, self._indexes
        bounds = (events.first_account, events.first_guard, events.first_leg, events.first_move)
        directory, accounts, guards, legs, moves = np.split(indexes, np.searchsorted(indexes, bounds))
        for index in directory.tolist():
            yield self._directory(events.directory[index])
        for index in (accounts - events.first_account).tolist():
            yield self._account(record.accounts[index], record.keys[index])
        for index in (guards - events.first_guard).tolist():
            yield self._limits(record.guards[index])
        yield from self._legs(record.legs[legs - events.first_leg])
        for index in (moves - events.first_move).tolist():
            yield self._move(events.moves[index])

    def _directory(self, fact: PartyFact | ThingFact) -> "_Made":
        data: PartyEvent | ThingEvent
        if isinstance(fact, PartyFact):
            profile = _document(fact.profile)
            kind = party_type(fact)
            data = PartyEvent(
                id=UUID(bytes=fact.id),
                kind=fact.kind,
                name=fact.name,
                profile=free_part(profile),
                relations=relations_in(profile),
                version=fact.version,
            )
        else:
            attributes = _document(fact.attrs)
            kind = EventType.THING_CREATED
            data = ThingEvent(
                id=UUID(bytes=fact.id),
                kind=fact.kind,
                code=fact.code,
                asset=fact.asset,
                exponent=fact.exponent,
                name=fact.name,
                attrs=free_part(attributes),
                **described(attributes),
            )
        return _Made(kind, fact.timestamp, data, (fact.id,))

    def _account(self, fact: np.void, key: str) -> "_Made":
        id = _uuid(int(fact["id_hi"]), int(fact["id_lo"]))
        parent = self._accounts.get(int(fact["parent"]))
        data = AccountEvent(
            id=id,
            key=key or None,
            asset=self._asset(int(fact["asset"])),
            party=_uuid_or_none(int(fact["party_hi"]), int(fact["party_lo"])),
            parent=None if parent is None else parent.id,
            code=int(fact["code"]),
            rollup=bool(fact["flags"] & AccountFlag.ROLLUP),
            floor=_limit(fact["floor"], FLOOR_UNSET),
            ceiling=_limit(fact["ceiling"], CEILING_UNSET),
        )
        return _Made(EventType.ACCOUNT_OPENED, int(fact["timestamp"]), data, (id.bytes,))

    def _limits(self, fact: np.void) -> "_Made":
        account = self._accounts[int(fact["account"])]
        data = LimitsEvent(
            account=account.id,
            key=account.key,
            asset=self._asset(account.asset),
            party=account.party,
            floor=_limit(fact["floor"], FLOOR_UNSET),
            ceiling=_limit(fact["ceiling"], CEILING_UNSET),
        )
        return _Made(EventType.ACCOUNT_LIMITED, int(fact["timestamp"]), data, (account.id.bytes,))

    def _legs(self, legs: npt.NDArray[np.void]) -> Iterator["_Made"]:
        """Column by column: there are many of them."""
        kinds = [LEG_TYPES[place] for place in leg_types(legs["flags"]).tolist()]
        columns = [legs[name].tolist() for name in _LEG_COLUMNS]
        for kind, row in zip(kinds, zip(*columns, strict=True), strict=True):
            leg = _Leg(*row)
            debit, credit = self._accounts[leg.debit], self._accounts[leg.credit]
            wide = _uuid_or_none(leg.user_data_128_hi, leg.user_data_128_lo)
            of_move = bool(leg.flags & _OF_MOVE)
            resolves = kind is not EventType.LEG_POSTED and kind is not EventType.LEG_HELD
            data = LegEvent(
                id=_uuid_or_none(leg.id_hi, leg.id_lo),
                debit=debit.id,
                debit_key=debit.key,
                debit_party=debit.party,
                credit=credit.id,
                credit_key=credit.key,
                credit_party=credit.party,
                amount=Amount(leg.amount),
                asset=self._asset(debit.asset),
                code=leg.code,
                flags=_flag_names(leg.flags),
                pending_id=_uuid_or_none(leg.pending_hi, leg.pending_lo),
                held=Amount(leg.held) if resolves else None,
                timeout=leg.timeout,
                move=wide if of_move else None,
                seq=leg.user_data_32 if of_move else None,
                business_time=Instant(leg.user_data_64) if of_move else None,
                user_data_128=None if of_move else wide,
                user_data_64=None if of_move else Unsigned64(leg.user_data_64),
                user_data_32=None if of_move else leg.user_data_32,
            )
            subjects: tuple[bytes, ...] = (debit.id.bytes, credit.id.bytes)
            if of_move and wide is not None:
                subjects = (*subjects, wide.bytes)
            yield _Made(kind, leg.timestamp, data, subjects)

    def _asset(self, number: int) -> str:
        """The code of an asset; looked up once for each."""
        if number not in self._codes:
            self._codes[number] = self._engine.asset_code(number)
        return self._codes[number]

    def _move(self, fact: MoveFact) -> "_Made":
        data = MoveEvent(
            id=UUID(bytes=fact.move),
            request=UUID(bytes=fact.request),
            kind=fact.kind,
            transition=fact.transition,
            state=fact.state,
            ended=fact.ended,
            seq=fact.seq,
            version=fact.version,
            payer=_id(fact.payer),
            payee=_id(fact.payee),
            asset=self._asset(fact.asset) if fact.asset else None,
            amount=Amount(fact.amount) if fact.amount else None,
            tender=fact.tender,
            reason=fact.reason,
            reference=fact.reference,
            reverses=_id(fact.reverses),
            lines=self._lines(fact.lines),
            inputs=dict(fact.inputs),
            metadata=_document(fact.metadata),
            legs=fact.leg_count,
            business_time=Instant(fact.business_time),
            expires_at=Instant(fact.expires_at) if fact.expires_at else None,
        )
        return _Made(move_type(fact), fact.timestamp, data, (fact.move,))

    def _lines(self, lines: LineFacts | None) -> list[LineView]:
        if lines is None:
            return []
        columns: list[list[Any]] = [
            lines.things,
            lines.quantities,
            lines.amounts,
            lines.orders,
            lines.order_lines,
            lines.reasons,
        ]
        count = max(map(len, columns))
        absent: list[Any] = [None] * count
        return [
            LineView(
                line=number,
                thing=self._asset(thing) if thing else None,
                quantity=None if quantity is None else Balance(quantity),
                amount=None if amount is None else Balance(amount),
                order=_id(order) if order else None,
                order_line=order_line or None,
                reason=reason or None,
                inputs={name: column[number - 1] for name, column in lines.columns.items()},
            )
            for number, (thing, quantity, amount, order, order_line, reason) in enumerate(
                zip(*(column or absent for column in columns), strict=True), start=1
            )
        ]


class _Made(NamedTuple):
    """An event without its position."""

    type: EventType
    timestamp: int
    data: PartyEvent | ThingEvent | AccountEvent | LimitsEvent | LegEvent | MoveEvent
    subjects: tuple[bytes, ...]


@cache
def _flag_names(flags: int) -> list[str]:
    return [name for name, value in _FLAGS if flags & value]


def _uuid(high: int, low: int) -> UUID:
    return UUID(int=high << 64 | low)


def _uuid_or_none(high: int, low: int) -> UUID | None:
    return UUID(int=high << 64 | low) if high or low else None


def _id(raw: bytes) -> UUID | None:
    return None if raw == NO_ID else UUID(bytes=raw)


def _limit(value: np.int64, unset: int) -> Balance | None:
    return None if value == unset else Balance(value)


def _document(raw: bytes) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.json.decode(raw) if raw else {}
    return content
