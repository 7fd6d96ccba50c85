"""An export's Parquet files, as columns: the log, and what it says.

Everything is written in row groups of bounded size, and in files of bounded size, so that neither who writes
nor who reads needs more memory for more of it. Ids are UUIDs, times nanoseconds since 1970, amounts minor
units; what is not there is null.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from engine.facts import NO_ID, Envelope, MoveFact, PartyFact, ThingFact
from engine.layout import CEILING_UNSET, FLOOR_UNSET, LegFlag
from engine.record import Record
from persistence.exports.manifest import FileEntry
from persistence.log_reader import Logged
from persistence.projection_rows import covering

GROUP_BYTES: Final = 16 << 20
"""Payload in a row group of the log, at most a record more."""
GROUP_ROWS: Final = 131_072
FILE_BYTES: Final = 1 << 30
"""Payload in a file of the log, at most a row group more."""
FILE_ROWS: Final = 16_000_000
COMPRESSION: Final = "zstd"

Rows = npt.NDArray[np.void]

_TIME: Final = pa.timestamp("ns", tz="UTC")
_ID: Final = pa.uuid()
LOG: Final = pa.schema([("lsn", pa.int64()), ("epoch", pa.int64()), ("payload", pa.binary())])
_LEGS: Final = pa.schema(
    [
        ("lsn", pa.int64()), ("timestamp", _TIME), ("id", _ID), ("debit", pa.int32()), ("credit", pa.int32()),
        ("amount", pa.int64()), ("held", pa.int64()), ("flags", pa.uint16()), ("code", pa.uint16()),
        ("pending_id", _ID), ("timeout", pa.uint32()), ("move", _ID), ("user_data_128", _ID),
        ("user_data_64", pa.uint64()), ("user_data_32", pa.uint32()),
    ]
)  # fmt: skip
_ACCOUNTS: Final = pa.schema(
    [
        ("ordinal", pa.int32()), ("id", _ID), ("key", pa.string()), ("asset", pa.uint32()), ("party", _ID),
        ("created", _TIME), ("version", pa.int64()), ("debits_posted", pa.int64()),
        ("credits_posted", pa.int64()), ("debits_pending", pa.int64()), ("credits_pending", pa.int64()),
        ("floor", pa.int64()), ("ceiling", pa.int64()), ("parent", pa.int32()), ("code", pa.uint16()),
        ("flags", pa.uint16()),
    ]
)  # fmt: skip
_PARTIES: Final = pa.schema(
    [
        ("lsn", pa.int64()), ("timestamp", _TIME), ("id", _ID), ("version", pa.int64()),
        ("tenant", pa.string()), ("kind", pa.string()), ("name", pa.string()), ("profile", pa.string()),
    ]
)  # fmt: skip
_THINGS: Final = pa.schema(
    [
        ("lsn", pa.int64()), ("timestamp", _TIME), ("id", _ID), ("asset", pa.int64()), ("code", pa.string()),
        ("exponent", pa.int16()), ("tenant", pa.string()), ("kind", pa.string()), ("name", pa.string()),
        ("attrs", pa.string()),
    ]
)  # fmt: skip
_MOVES: Final = pa.schema(
    [
        ("lsn", pa.int64()), ("timestamp", _TIME), ("business_time", _TIME), ("id", _ID), ("seq", pa.int64()),
        ("request", _ID), ("tenant", pa.string()), ("principal", pa.string()), ("kind", pa.string()),
        ("transition", pa.string()), ("state", pa.string()), ("ended", pa.bool_()), ("payer", _ID),
        ("payee", _ID), ("asset", pa.int64()), ("amount", pa.int64()), ("tender", pa.string()),
        ("reference", pa.string()), ("reverses", _ID), ("legs", pa.int64()), ("reason", pa.string()),
        ("lines", pa.string()), ("inputs", pa.string()), ("metadata", pa.string()),
    ]
)  # fmt: skip


class TableFiles:
    """The files of one table of a shard. `finished` are those that are complete."""

    def __init__(
        self, folder: Path, table: str, shard: int, schema: pa.Schema, file_size: int = FILE_ROWS
    ) -> None:
        self.finished: list[FileEntry] = []
        self._folder = folder
        self._prefix = f"{table}-{shard}-"
        self._schema = schema
        self._file_size = file_size
        self._writer: pq.ParquetWriter | None = None
        self._path = folder
        self._rows = 0  # in the open file
        self._size = 0  # of it, in what `file_size` is in

    def write(self, columns: Sequence[pa.Array], size: int = 0) -> None:
        """One row group. `size` counts towards the file's, its rows if nothing else is said."""
        batch = pa.record_batch(columns, schema=self._schema)
        if self._writer is None:
            self._path = self._folder / f"{self._prefix}{len(self.finished) + 1:06}.parquet"
            self._writer = pq.ParquetWriter(
                self._path, self._schema, compression=COMPRESSION, use_dictionary=False, store_schema=False
            )
        self._writer.write_batch(batch, row_group_size=max(1, len(batch)))
        self._rows += len(batch)
        self._size += size or len(batch)
        if self._size >= self._file_size:
            self.finish()

    def finish(self) -> None:
        """Close the open file, if there is one, and note what it is."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        with self._path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.tell()
        self.finished.append(FileEntry(name=self._path.name, rows=self._rows, bytes=size, sha256=digest))
        self._rows = self._size = 0

    def abandon(self) -> None:
        """Close the open file; it is worth nothing."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class LogTable:
    """The log itself."""

    def __init__(self, folder: Path, shard: int) -> None:
        self.files = TableFiles(folder, "log", shard, LOG, FILE_BYTES)
        self._group: list[Logged] = []
        self._bytes = 0

    def add(self, logged: Logged) -> None:
        """The next record."""
        self._group.append(logged)
        self._bytes += len(logged.payload)
        if self._bytes >= GROUP_BYTES or len(self._group) >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        group, self._group = self._group, []
        if group:
            columns = [
                pa.array([logged.head.lsn for logged in group], pa.int64()),
                pa.array([logged.head.epoch for logged in group], pa.int64()),
                pa.array([logged.payload for logged in group], pa.binary()),
            ]
            self.files.write(columns, self._bytes)
        self._bytes = 0


class FactTables:
    """What the log says: legs, Parties, Things and Moves as they happen, and accounts at the end.

    Parties have a row for each version, Moves for each accepted request. Keys of accounts stay in memory
    until the end, as the accounts themselves do.
    """

    def __init__(self, folder: Path, shard: int) -> None:
        schemas = {
            "legs": _LEGS, "accounts": _ACCOUNTS, "parties": _PARTIES, "things": _THINGS, "moves": _MOVES,
        }  # fmt: skip
        self.files = {name: TableFiles(folder, name, shard, schema) for name, schema in schemas.items()}
        self._legs: list[Rows] = []
        self._legs_lsn: list[int] = []
        self._legs_count = 0
        self._events: dict[str, list[dict[str, Any]]] = {"parties": [], "things": [], "moves": []}
        self._keys: list[pa.Array] = []
        self._new_keys: list[str] = []

    def add(self, record: Record) -> None:
        """The next record."""
        legs = record.legs[record.legs["flags"] & int(LegFlag.BURNT) == 0]
        if len(legs):
            self._legs.append(legs)
            self._legs_lsn.append(record.lsn)
            self._legs_count += len(legs)
            if self._legs_count >= GROUP_ROWS:
                self._write_legs()
        self._new_keys += record.keys
        if len(self._new_keys) >= GROUP_ROWS:
            self._pack_keys()
        if len(record.events) > 1:
            self._add_events(record)

    def finish(self, accounts: Rows) -> None:
        """After the last record: `accounts` as they are there."""
        self._write_legs()
        for name in self._events:
            self._write_events(name)
        self._write_accounts(accounts)

    def _add_events(self, record: Record) -> None:
        envelopes = [event for event in record.events if isinstance(event, Envelope)]
        for index, event in enumerate(record.events):
            for kind, (table, row_of) in _ROWS.items():
                if isinstance(event, kind):
                    row = row_of(event, covering(envelopes, index))
                    if row is not None:
                        self._events[table].append(row | {"lsn": record.lsn})
                        if len(self._events[table]) >= GROUP_ROWS:
                            self._write_events(table)

    def _write_events(self, name: str) -> None:
        rows, self._events[name] = self._events[name], []
        if rows:
            schema = self.files[name]._schema
            self.files[name].write([_column([row[field.name] for row in rows], field) for field in schema])

    def _write_legs(self) -> None:
        if not self._legs:
            return
        legs = np.concatenate(self._legs)
        lsn = np.repeat(self._legs_lsn, [len(part) for part in self._legs])
        self._legs, self._legs_lsn, self._legs_count = [], [], 0
        of_move = legs["flags"] & int(LegFlag.OF_MOVE) != 0
        user_data = _ids(legs, "user_data_128")
        values: dict[str, pa.Array] = {
            "lsn": pa.array(lsn),
            "timestamp": pa.array(legs["timestamp"]).cast(_TIME),
            "id": _uuids(_ids(legs, "id")),
            "held": _nonzero(legs["held"]),
            "pending_id": _uuids(_ids(legs, "pending")),
            "timeout": _nonzero(legs["timeout"]),
            "move": _uuids(user_data, ~of_move),
            "user_data_128": _uuids(user_data, of_move),
        }
        self.files["legs"].write(
            [values.get(name) or pa.array(np.ascontiguousarray(legs[name])) for name in _LEGS.names]
        )

    def _pack_keys(self) -> None:
        self._keys.append(pa.array([key or None for key in self._new_keys], pa.string()))
        self._new_keys = []

    def _write_accounts(self, accounts: Rows) -> None:
        self._pack_keys()
        keys = pa.chunked_array(self._keys, pa.string())
        for at in range(0, len(accounts), GROUP_ROWS):
            part = accounts[at : at + GROUP_ROWS]
            floor, ceiling, parent = (np.ascontiguousarray(part[n]) for n in ("floor", "ceiling", "parent"))
            values: dict[str, pa.Array] = {
                "ordinal": pa.array(np.arange(at, at + len(part), dtype=np.int32)),
                "id": _uuids(_ids(part, "id")),
                "key": keys.slice(at, len(part)).combine_chunks(),
                "party": _uuids(_ids(part, "party")),
                "created": pa.array(np.ascontiguousarray(part["timestamp"])).cast(_TIME),
                "floor": pa.array(floor, mask=floor == FLOOR_UNSET),
                "ceiling": pa.array(ceiling, mask=ceiling == CEILING_UNSET),
                "parent": pa.array(parent, mask=parent < 0),
            }
            self.files["accounts"].write(
                [values.get(n) or pa.array(np.ascontiguousarray(part[n])) for n in _ACCOUNTS.names]
            )


def _party_row(fact: PartyFact, envelope: Envelope) -> dict[str, Any]:
    return msgspec.structs.asdict(fact) | {"tenant": envelope.tenant, "profile": _text(fact.profile)}


def _thing_row(fact: ThingFact, envelope: Envelope) -> dict[str, Any]:
    return msgspec.structs.asdict(fact) | {"tenant": envelope.tenant, "attrs": _text(fact.attrs)}


def _move_row(fact: MoveFact, envelope: Envelope) -> dict[str, Any] | None:
    if not fact.accepted:
        return None
    return msgspec.structs.asdict(fact) | {
        "id": fact.move,
        "tenant": envelope.tenant,
        "principal": envelope.principal,
        "payee": _there(fact.payee),
        "reverses": _there(fact.reverses),
        "legs": fact.leg_count,
        "lines": None if fact.lines is None else _lines(fact),
        "inputs": _text(msgspec.json.encode(fact.inputs)) if fact.inputs else None,
        "metadata": _text(fact.metadata),
    }


_ROWS: Final[dict[type, tuple[str, Callable[..., dict[str, Any] | None]]]] = {
    PartyFact: ("parties", _party_row),
    ThingFact: ("things", _thing_row),
    MoveFact: ("moves", _move_row),
}


def _lines(fact: MoveFact) -> str:
    assert fact.lines is not None
    columns = msgspec.structs.asdict(fact.lines)
    columns["orders"] = [order.hex() for order in fact.lines.orders]
    return msgspec.json.encode({name: column for name, column in columns.items() if column}).decode()


def _text(json: bytes) -> str | None:
    return json.decode() if json else None


def _there(id: bytes) -> bytes | None:
    return None if id == NO_ID else id


def _column(values: list[Any], field: pa.Field) -> pa.Array:
    if field.type == _ID:
        return pa.ExtensionArray.from_storage(_ID, pa.array(values, pa.binary(16)))
    if field.type == _TIME:
        return pa.array(values, pa.int64()).cast(_TIME)
    return pa.array(values, field.type)


def _ids(rows: Rows, name: str) -> npt.NDArray[np.uint64]:
    return np.stack((rows[f"{name}_hi"], rows[f"{name}_lo"]), axis=1)


def _uuids(ids: npt.NDArray[np.uint64], more_nulls: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Ids as UUIDs; 0 is null."""
    null = (ids[:, 0] | ids[:, 1]) == 0
    if more_nulls is not None:
        null |= more_nulls
    validity = pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
    content = pa.py_buffer(ids.astype(">u8").tobytes())
    storage = pa.Array.from_buffers(pa.binary(16), len(ids), [validity, content], int(null.sum()))
    return pa.ExtensionArray.from_storage(_ID, storage)


def _nonzero(values: npt.NDArray[Any]) -> pa.Array:
    values = np.ascontiguousarray(values)
    return pa.array(values, mask=values == 0)
