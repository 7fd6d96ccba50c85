"""Reads a shard's committed log in order, checking every link.

Rows come in one COPY stream; a thread fetches, decodes and checks the next batch while one is used. A record
must follow the one before it: the next position, an epoch that does not fall, its hash chain.
"""

import struct
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, NamedTuple, Self

from psycopg import sql

from engine.record import FIRST_CHAIN, CorruptRecord, Record, chain_hash, decode
from persistence.copy_out import copy_out
from persistence.database import Database
from persistence.errors import LogDamaged
from persistence.log import Head
from persistence.statements import statements

BATCH_BYTES: Final = 4 << 20
"""A batch is handed on when its payloads come to this much."""
BATCH_RECORDS: Final = 4096
LSN_MAX: Final = 2**63 - 1
START: Final = Head(0, 0, FIRST_CHAIN)
"""Before the first record."""

_ROW: Final = struct.Struct("!hiqiqi")  # fields, then each with its size: lsn, epoch; the payload's size

_RawRow = tuple[int, int, bytes]


class Logged(NamedTuple):
    """A record of the log, where it stands with the hash that the next one carries, and its bytes."""

    record: Record
    head: Head
    payload: bytes


class LogReader:
    """Gives the records of a shard after a position, up to `last` or to what is committed at the start.

    A context manager and an iterator of batches, for code that may block. `after` is the position before the
    first record, or only its LSN: then the link to it is not checked. Raises LogDamaged where the log is
    wrong.
    """

    def __init__(
        self, database: Database, shard: int, after: Head | int = START, last: int = LSN_MAX
    ) -> None:
        self._database = database
        self._shard = shard
        self._at = after if isinstance(after, Head) else Head(after, 0, b"")
        self._last = last
        self._rows = self._fetch()
        self._thread = ThreadPoolExecutor(1, "log-reader")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        self._rows.close()

    def __iter__(self) -> Iterator[list[Logged]]:
        ahead = self._thread.submit(self._next_batch)
        while (batch := ahead.result()) is not None:
            ahead = self._thread.submit(self._next_batch)
            yield batch

    def _next_batch(self) -> list[Logged] | None:
        rows = next(self._rows, None)
        if rows is None:
            return None
        batch = []
        for row in rows:
            batch.append(linked(self._shard, self._at, row))
            self._at = batch[-1].head
        return batch

    def _fetch(self) -> Generator[list[_RawRow], None, None]:
        statement = sql.SQL(statements("log")["read"].decode()).format(
            shard=sql.Literal(self._shard), first=sql.Literal(self._at.lsn + 1), last=sql.Literal(self._last)
        )
        name = f"tessera {self._database.schema}/{self._shard} reader"
        with self._database.session_sync(name) as session:
            rows: list[_RawRow] = []
            size = 0
            for message in copy_out(session, statement):
                row = _row(message)
                rows.append(row)
                size += len(row[2])
                if size >= BATCH_BYTES or len(rows) >= BATCH_RECORDS:
                    yield rows
                    rows, size = [], 0
            if rows:
                yield rows


def linked(shard: int, at: Head, row: _RawRow) -> Logged:
    """The record in a row of the log, checked to be the one that follows `at`; an empty `at.chain` fits every
    record. Raises LogDamaged."""
    lsn, epoch, payload = row
    if lsn != at.lsn + 1:
        raise LogDamaged(f"record {at.lsn + 1} is missing: {lsn} comes next", shard, at.lsn + 1)
    try:
        record = decode(payload)
    except CorruptRecord as corrupt:
        raise LogDamaged(f"record {lsn} is damaged: {corrupt}", shard, lsn) from corrupt
    if (record.shard, record.lsn, record.epoch) != (shard, lsn, epoch):
        raise LogDamaged(
            f"the row of record {lsn} of epoch {epoch} holds record {record.lsn} of epoch {record.epoch} "
            f"of shard {record.shard}",
            shard,
            lsn,
        )
    if epoch < at.epoch:
        raise LogDamaged(f"record {lsn} is of epoch {epoch}, after epoch {at.epoch}", shard, lsn)
    if at.chain and record.previous != at.chain:
        raise LogDamaged(f"record {lsn} is not chained to the record before it", shard, lsn)
    return Logged(record, Head(lsn, epoch, chain_hash(payload)), payload)


def _row(message: bytes) -> _RawRow:
    _, _, lsn, _, epoch, size = _ROW.unpack_from(message)
    assert len(message) == _ROW.size + size
    return lsn, epoch, message[_ROW.size :]
