"""The log record: one turn's facts as bytes, and back.

Layout (little-endian): a fixed header; then the sections accounts, guards and legs, each either as rows (few
of them) or by column (many); account keys and events as MessagePack; last a checksum (xxh3-128) over all
before it. By column, a constant costs 9 bytes and any other column is stored as offsets from its minimum in
1, 2, 4 or 8 bytes each, so a simple leg takes about 32 bytes. `previous` chains each record to the one before
it: it is that record's `chain_hash`. The format carries a version; a reader refuses a newer one.
"""

import struct
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from engine.facts import Event
from engine.layout import ACCOUNT_FACT, GUARD_FACT, LEG_FACT

MAGIC: Final = b"TSRA"
VERSION: Final = 1
HASH_BYTES: Final = 16
FIRST_CHAIN: Final = bytes(HASH_BYTES)
"""`previous` of a log's first record."""

_HEADER: Final = struct.Struct("<4sHHiqqqII16sIIIII")
_KINDS: Final = ("opening", "turn")
_ROWS_MAX: Final = 32  # up to here a section is stored as plain rows: less work, and few bytes anyway
_AS_ROWS: Final = 0
_AS_COLUMNS: Final = 1
_CONSTANT: Final = 0
_OFFSETS: Final[dict[int, np.dtype[Any]]] = {
    1: np.dtype("<u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}

_keys_encoder = msgspec.msgpack.Encoder()
_keys_decoder = msgspec.msgpack.Decoder(list[str])
_events_decoder = msgspec.msgpack.Decoder(list[Event])

Rows = npt.NDArray[np.void]


class CorruptRecord(Exception):  # noqa: N818  # reads as what it is in a traceback
    """A record's bytes are not what was written: wrong magic, version, length or checksum."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of one shard: everything it changed. `accounts` come before `legs`, in order of creation."""

    shard: int
    lsn: int
    epoch: int
    time: int  # ns, the shard's clock at the turn
    kind: Literal["opening", "turn"] = "turn"
    generation: int = 0  # of the id window when the turn ran
    dropped: int = 0  # how many of its generations had been dropped by then
    previous: bytes = FIRST_CHAIN
    accounts: Rows = msgspec.field(default_factory=lambda: np.empty(0, ACCOUNT_FACT))
    keys: list[str] = []
    guards: Rows = msgspec.field(default_factory=lambda: np.empty(0, GUARD_FACT))
    legs: Rows = msgspec.field(default_factory=lambda: np.empty(0, LEG_FACT))
    events: list[Event] = []


def pack_rows(rows: Rows) -> bytes:
    """Rows as bytes, column by column if that is shorter."""
    return struct.pack("<I", len(rows)) + b"".join(_encode_rows(rows))


def unpack_rows(packed: bytes, dtype: np.dtype[Any]) -> Rows:
    """The inverse of `pack_rows`."""
    rows, _ = _decode_rows(packed, 4, struct.unpack_from("<I", packed)[0], dtype)
    return rows


def chain_hash(payload: bytes) -> bytes:
    """What the next record carries as `previous`."""
    return xxhash.xxh3_128_digest(payload)


def encode(record: Record) -> bytes:
    """The record as bytes, checksum included."""
    accounts = _encode_rows(record.accounts)
    guards = _encode_rows(record.guards)
    legs = _encode_rows(record.legs)
    keys = _keys_encoder.encode(record.keys) if any(record.keys) else b""
    events = _keys_encoder.encode(record.events) if record.events else b""
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        _KINDS.index(record.kind),
        record.shard,
        record.lsn,
        record.epoch,
        record.time,
        record.generation,
        record.dropped,
        record.previous,
        len(record.accounts),
        len(record.guards),
        len(record.legs),
        len(keys),
        len(events),
    )
    body = b"".join((header, *accounts, *guards, *legs, keys, events))
    return body + xxhash.xxh3_128_digest(body)


def decode(payload: bytes) -> Record:
    """The record that `encode` wrote. Raises CorruptRecord for anything else."""
    if len(payload) < _HEADER.size + HASH_BYTES:
        raise CorruptRecord(f"{len(payload)} bytes are too few for a record")
    magic, version, kind, shard, lsn, epoch, time, generation, dropped, previous, *counts = (
        _HEADER.unpack_from(payload)
    )
    if magic != MAGIC:
        raise CorruptRecord(f"not a log record: it starts with {magic!r}")
    if version != VERSION:
        raise CorruptRecord(f"record format {version}; this release reads format {VERSION}")
    if xxhash.xxh3_128_digest(memoryview(payload)[:-HASH_BYTES]) != payload[-HASH_BYTES:]:
        raise CorruptRecord(f"checksum of record {lsn} does not match its content")
    accounts_count, guards_count, legs_count, keys_bytes, events_bytes = counts
    at = _HEADER.size
    accounts, at = _decode_rows(payload, at, accounts_count, ACCOUNT_FACT)
    guards, at = _decode_rows(payload, at, guards_count, GUARD_FACT)
    legs, at = _decode_rows(payload, at, legs_count, LEG_FACT)
    keys = _keys_decoder.decode(payload[at : at + keys_bytes]) if keys_bytes else [""] * accounts_count
    at += keys_bytes
    events = _events_decoder.decode(payload[at : at + events_bytes]) if events_bytes else []
    if at + events_bytes != len(payload) - HASH_BYTES:
        raise CorruptRecord(f"record {lsn} has {len(payload)} bytes, not as many as its header says")
    return Record(
        shard=shard,
        lsn=lsn,
        epoch=epoch,
        time=time,
        kind="opening" if kind == 0 else "turn",
        generation=generation,
        dropped=dropped,
        previous=previous,
        accounts=accounts,
        keys=keys,
        guards=guards,
        legs=legs,
        events=events,
    )


def _encode_rows(rows: Rows) -> list[bytes]:
    if len(rows) == 0:
        return []
    if len(rows) <= _ROWS_MAX:
        return [bytes([_AS_ROWS]), rows.tobytes()]
    parts = [bytes([_AS_COLUMNS])]
    for name in _columns(rows.dtype):
        parts += _encode_column(rows[name])
    return parts


def _encode_column(column: npt.NDArray[np.generic]) -> list[bytes]:
    column = np.ascontiguousarray(column)
    low, high = column.min(), column.max()
    if low == high:
        return [bytes([_CONSTANT]), low.astype(np.int64 if column.dtype.kind == "i" else np.uint64).tobytes()]
    span = int(high) - int(low)
    width = 1 if span < 1 << 8 else 2 if span < 1 << 16 else 4 if span < 1 << 32 else 8
    if width >= column.itemsize:
        return [bytes([column.itemsize]), bytes(8), column.tobytes()]
    base = low.astype(np.int64 if column.dtype.kind == "i" else np.uint64)
    return [bytes([width]), base.tobytes(), (column - low).astype(_OFFSETS[width]).tobytes()]


def _decode_rows(payload: bytes, at: int, count: int, dtype: np.dtype[np.void]) -> tuple[Rows, int]:
    if count == 0:
        return np.empty(0, dtype), at
    form, at = payload[at], at + 1
    if form == _AS_ROWS:
        return np.frombuffer(payload, dtype, count, at).copy(), at + count * dtype.itemsize
    rows = np.zeros(count, dtype)
    for name in _columns(dtype):
        width, at = payload[at], at + 1
        field = rows[name]
        base_dtype = np.int64 if field.dtype.kind == "i" else np.uint64
        base = np.frombuffer(payload, base_dtype, 1, at)[0].astype(field.dtype)
        at += 8
        if width == _CONSTANT:
            rows[name] = base
            continue
        if width == field.itemsize:
            rows[name] = np.frombuffer(payload, field.dtype, count, at)
        else:
            np.add(np.frombuffer(payload, _OFFSETS[width], count, at), base, out=field, casting="unsafe")
        at += count * width
    return rows, at


def _columns(dtype: np.dtype[np.void]) -> list[str]:
    assert dtype.names is not None
    return [name for name in dtype.names if not name.startswith("_")]
