"""What a record becomes in the tables of the projection: rows in the COPY BINARY format, built without
I/O."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine.crossing.tables import legs_of
from engine.facts import (
    NO_ID,
    AppliedFact,
    DecidedFact,
    Envelope,
    LineFacts,
    MoveFact,
    PartyFact,
    RequestFact,
    ThingFact,
)
from engine.layout import CEILING_UNSET, FLOOR_UNSET, LegFlag
from engine.record import Record
from persistence.copy_binary import Column, id_array, pack_fields, pack_rows

Rows = npt.NDArray[np.void]
Fields = list[bytes | None]
Buffers = Sequence[bytes | npt.NDArray[Any]]

LEG_COLUMNS: Final = (
    Column("shard", "int2"),
    Column("timestamp", "int8"),
    Column("id", "uuid"),
    Column("debit", "int4"),
    Column("credit", "int4"),
    Column("amount", "int8"),
    Column("code", "int4"),
    Column("flags", "int4"),
    Column("pending_id", "uuid"),
    Column("held", "int8"),
    Column("timeout", "int8"),
    Column("user_data_128", "uuid"),
    Column("user_data_64", "int8"),
    Column("user_data_32", "int8"),
)
BURNT_COLUMNS: Final = (Column("shard", "int2"), Column("timestamp", "int8"), Column("id", "uuid"))
ACCOUNT_COLUMNS: Final = (
    Column("shard", "int2"),
    Column("ordinal", "int4"),
    Column("id", "uuid"),
    Column("created", "int8"),
    Column("asset", "int8"),
    Column("code", "int4"),
    Column("flags", "int4"),
    Column("floor", "int8"),
    Column("ceiling", "int8"),
    Column("parent", "int4"),
    Column("party", "uuid"),
    Column("user_data_128", "uuid"),
    Column("user_data_64", "int8"),
    Column("user_data_32", "int8"),
)
"""The column `key` follows them."""
PARTY_COLUMNS: Final = ("id", "shard", "version", "timestamp", "tenant", "kind", "name", "profile")
THING_COLUMNS: Final = (
    "id", "shard", "timestamp", "asset", "exponent", "tenant", "kind", "code", "name", "attrs",
)  # fmt: skip
MOVE_COLUMNS: Final = (
    "timestamp", "business_time", "lsn", "asset", "amount", "unmatched_quantity", "unmatched_amount",
    "expires_at", "seq", "leg_count", "shard", "ended", "id", "request", "payer", "payee", "reverses",
    "tenant", "principal", "kind", "transition", "state", "tender", "reference", "lines", "inputs", "holds",
    "metadata",
)  # fmt: skip
CROSSING_COLUMNS: Final = ("first", "last", "lsn", "epoch", "counter", "home", "shard")
CROSSING_MOVE_COLUMNS: Final = ("timestamp", "seq", "legs", "shard", "move")
REQUEST_COLUMNS: Final = ("id", "timestamp", "lsn", "shard", "move", "fact")

_INT8: Final = struct.Struct(">q")
_INT4: Final = struct.Struct(">i")
_INT2: Final = struct.Struct(">h")
_JSONB_VERSION: Final = b"\x01"

_fact_encoder = msgspec.msgpack.Encoder()
_fact_decoder = msgspec.msgpack.Decoder(MoveFact | RequestFact)


class EventRows(NamedTuple):
    """The rows of a record's events, each as its fields. Parties may be there already, in an older
    version."""

    parties: dict[bytes, Fields]
    things: list[Fields]
    moves: list[Fields]
    requests: list[Fields]
    crossings: list[Fields]
    crossing_moves: list[Fields]


def leg_values(shard: int, legs: Rows) -> dict[str, npt.NDArray[Any]]:
    """LEG_FACT rows as the values of LEG_COLUMNS, with zeros where the table has nulls."""
    names = ["timestamp", "debit", "credit", "amount", "code", "flags", "held", "timeout"]
    names += ["user_data_64", "user_data_32"]
    return {name: legs[name] for name in names} | {
        "shard": np.full(len(legs), shard, np.int16),
        "id": _pair(legs, "id"),
        "pending_id": _pair(legs, "pending"),
        "user_data_128": _pair(legs, "user_data_128"),
    }


def leg_rows(shard: int, legs: Rows) -> Buffers:
    """Rows of the table `leg` for LEG_FACT rows, none of them a burnt id."""
    values = leg_values(shard, legs)
    wide = ("id", "pending_id", "user_data_128")
    nulls = {name: _is_zero(values[name]) for name in wide}
    nulls |= {name: values[name] == 0 for name in ("held", "timeout", "user_data_64", "user_data_32")}
    return pack_rows(LEG_COLUMNS, values, _present(nulls), len(legs))


def burnt_rows(shard: int, burnt: Rows) -> Buffers:
    """Rows of the table `burnt_id` for LEG_FACT rows with the flag BURNT."""
    values: dict[str, npt.NDArray[Any]] = {
        "shard": np.full(len(burnt), shard, np.int16),
        "timestamp": burnt["timestamp"],
        "id": _pair(burnt, "id"),
    }
    return pack_rows(BURNT_COLUMNS, values, {}, len(burnt))


def account_values(shard: int, first_ordinal: int, accounts: Rows) -> dict[str, npt.NDArray[Any]]:
    """ACCOUNT or ACCOUNT_FACT rows as the values of ACCOUNT_COLUMNS, with what the engine has for nulls."""
    names = ("asset", "code", "flags", "floor", "ceiling", "parent", "user_data_64", "user_data_32")
    return {name: accounts[name] for name in names} | {
        "shard": np.full(len(accounts), shard, np.int16),
        "ordinal": np.arange(first_ordinal, first_ordinal + len(accounts), dtype=np.int32),
        "created": accounts["timestamp"],
        "id": _pair(accounts, "id"),
        "party": _pair(accounts, "party"),
        "user_data_128": _pair(accounts, "user_data_128"),
    }


def account_rows(shard: int, first_ordinal: int, accounts: Rows, keys: Sequence[str]) -> Buffers:
    """Rows of the table `account` for ACCOUNT_FACT rows; an empty key is null."""
    values = account_values(shard, first_ordinal, accounts)
    nulls = {
        "floor": accounts["floor"] == FLOOR_UNSET,
        "ceiling": accounts["ceiling"] == CEILING_UNSET,
        "parent": accounts["parent"] < 0,
        "party": _is_zero(values["party"]),
        "user_data_128": _is_zero(values["user_data_128"]),
        "user_data_64": accounts["user_data_64"] == 0,
        "user_data_32": accounts["user_data_32"] == 0,
    }
    texts = [key.encode() or None for key in keys]
    return pack_rows(ACCOUNT_COLUMNS, values, _present(nulls), len(accounts), texts)


def event_rows(record: Record) -> EventRows:
    """The rows of the record's events. A refused request has an answer to keep, but no row of its Move."""
    rows = EventRows({}, [], [], [], [], [])
    envelopes = [event for event in record.events if isinstance(event, Envelope)]
    for index, event in enumerate(record.events):
        if isinstance(event, Envelope):
            continue
        envelope = covering(envelopes, index)
        if isinstance(event, MoveFact):
            if event.accepted:
                rows.moves.append(_move_fields(record, event, envelope))
            rows.requests.append(_request_fields(record, event, event.move))
        elif isinstance(event, RequestFact):
            rows.requests.append(_request_fields(record, event, NO_ID))
        elif isinstance(event, PartyFact):
            rows.parties[event.id] = _party_fields(record, event, envelope)
        elif isinstance(event, ThingFact):
            rows.things.append(_thing_fields(record, event, envelope))
        elif isinstance(event, DecidedFact | AppliedFact):
            _add_crossing(record, event, rows)
    return rows


def _add_crossing(record: Record, fact: DecidedFact | AppliedFact, rows: EventRows) -> None:
    """Note a crossing that moved something here, and which Moves of other shards had legs in it."""
    legs = record.legs[fact.leg_first : fact.leg_first + fact.leg_count]
    stamps = legs["timestamp"]
    if isinstance(fact, DecidedFact):
        stamps = np.concatenate([stamps, *(legs_of(part)["timestamp"] for part in fact.settled if part)])
    if not len(stamps):
        return
    home = fact.home if isinstance(fact, AppliedFact) else record.shard
    rows.crossings.append(
        [
            _INT8.pack(int(stamps.min())),
            _INT8.pack(int(stamps.max())),
            _INT8.pack(record.lsn),
            _INT8.pack(fact.epoch),
            _INT8.pack(fact.counter),
            _INT2.pack(home),
            _INT2.pack(record.shard),
        ]
    )
    if isinstance(fact, AppliedFact):
        of_moves = legs[legs["flags"] & int(LegFlag.OF_MOVE) != 0]
        rows.crossing_moves.extend(_crossing_move(record.shard, run) for run in _steps(of_moves))


def _steps(legs: Rows) -> list[Rows]:
    """Legs of Moves, those of each step together, as they stand."""
    if not len(legs):
        return []
    names = ("user_data_128_hi", "user_data_128_lo", "user_data_32")
    same = np.ones(len(legs) - 1, np.bool_)
    for name in names:
        same &= legs[name][1:] == legs[name][:-1]
    return np.split(legs, np.flatnonzero(~same) + 1)


def _crossing_move(shard: int, legs: Rows) -> Fields:
    last = legs[-1]
    return [
        _INT8.pack(int(last["timestamp"])),
        _INT4.pack(int(last["user_data_32"])),
        _INT4.pack(len(legs)),
        _INT2.pack(shard),
        int(last["user_data_128_hi"]).to_bytes(8, "big") + int(last["user_data_128_lo"]).to_bytes(8, "big"),
    ]


def packed(rows: Sequence[Fields]) -> Buffers:
    """Rows of fields, to be copied."""
    return [b"".join([pack_fields(fields) for fields in rows])]


def decode_answer(fact: bytes) -> MoveFact | RequestFact:
    """The fact that the table `request` keeps."""
    found: MoveFact | RequestFact = _fact_decoder.decode(fact)
    return found


def fold_parties(records: Sequence[EventRows]) -> list[Fields]:
    """The newest row of each party."""
    newest: dict[bytes, Fields] = {}
    for rows in records:
        newest |= rows.parties
    return list(newest.values())


_NOBODY: Final = Envelope(tenant="")


def covering(envelopes: list[Envelope], index: int) -> Envelope:
    """On whose word the event at `index` of a record came."""
    for envelope in envelopes:
        if envelope.event_first <= index < envelope.event_first + envelope.event_count:
            return envelope
    return envelopes[0] if len(envelopes) == 1 else _NOBODY


def _party_fields(record: Record, fact: PartyFact, envelope: Envelope) -> Fields:
    return [
        fact.id,
        _INT2.pack(record.shard),
        _INT8.pack(fact.version),
        _INT8.pack(fact.timestamp),
        envelope.tenant.encode(),
        fact.kind.encode(),
        fact.name.encode(),
        _json(fact.profile or b"{}"),
    ]


def _thing_fields(record: Record, fact: ThingFact, envelope: Envelope) -> Fields:
    return [
        fact.id,
        _INT2.pack(record.shard),
        _INT8.pack(fact.timestamp),
        _INT8.pack(fact.asset),
        _INT2.pack(fact.exponent),
        envelope.tenant.encode(),
        fact.kind.encode(),
        fact.code.encode(),
        fact.name.encode(),
        _json(fact.attrs or b"{}"),
    ]


def _move_fields(record: Record, fact: MoveFact, envelope: Envelope) -> Fields:
    holds = np.frombuffer(b"".join(fact.holds), ">u8").astype(np.uint64).reshape(-1, 2)
    return [
        _INT8.pack(fact.timestamp),
        _INT8.pack(fact.business_time),
        _INT8.pack(record.lsn),
        _INT8.pack(fact.asset),
        _INT8.pack(fact.amount),
        _INT8.pack(fact.unmatched_quantity),
        _INT8.pack(fact.unmatched_amount),
        _INT8.pack(fact.expires_at) if fact.expires_at else None,
        _INT4.pack(fact.seq),
        _INT4.pack(fact.leg_count),
        _INT2.pack(record.shard),
        bytes([fact.ended]),
        fact.move,
        fact.request,
        fact.payer,
        _id(fact.payee),
        _id(fact.reverses),
        envelope.tenant.encode(),
        envelope.principal.encode(),
        fact.kind.encode(),
        fact.transition.encode(),
        fact.state.encode(),
        fact.tender.encode(),
        None if fact.reference is None else fact.reference.encode(),
        None if fact.lines is None else _json(_lines(fact.lines)),
        _json(msgspec.json.encode(fact.inputs)) if fact.inputs else None,
        id_array(holds) if fact.holds else None,
        _json(fact.metadata) if fact.metadata else None,
    ]


def _request_fields(record: Record, fact: MoveFact | RequestFact, move: bytes) -> Fields:
    return [
        fact.request,
        _INT8.pack(fact.timestamp),
        _INT8.pack(record.lsn),
        _INT2.pack(record.shard),
        move,
        _fact_encoder.encode(fact),
    ]


def _lines(lines: LineFacts) -> bytes:
    columns: Mapping[str, object] = {
        "things": lines.things,
        "quantities": lines.quantities,
        "amounts": lines.amounts,
        "orders": [None if order == NO_ID else _uuid_text(order) for order in lines.orders],
        "order_lines": lines.order_lines,
        "reasons": lines.reasons,
        "columns": lines.columns,
    }
    return msgspec.json.encode({name: column for name, column in columns.items() if column})


def _uuid_text(raw: bytes) -> str:
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _json(text: bytes) -> bytes:
    return _JSONB_VERSION + text


def _id(raw: bytes) -> bytes | None:
    return None if raw == NO_ID else raw


def _pair(rows: Rows, name: str) -> npt.NDArray[np.uint64]:
    return np.stack((rows[f"{name}_hi"], rows[f"{name}_lo"]), axis=1)


def _is_zero(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    zero: npt.NDArray[np.bool_] = (ids[:, 0] | ids[:, 1]) == 0
    return zero


def _present(nulls: dict[str, npt.NDArray[np.bool_]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Only the columns that are null somewhere, so that there are few combinations to look for."""
    return {name: column for name, column in nulls.items() if column.any()}
