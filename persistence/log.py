"""The write-ahead log of a shard, as its single writer sees it.

The protocol:

    open      lock (a session advisory lock, in a statement of its own) → end what the last holder left at
              work → head (in a later statement than the lock, so that it shows what the last holder
              committed) → the caller appends an opening record (head + 1, epoch + 1)
    append    records in order, in one COPY or, a small one alone, one INSERT, which is one commit; when it
              returns they are on disk
    confirm   one round trip on the same session: it answers only while the lock is still ours
    resolve   after OutcomeUnknown: a new session takes the lock again, once the old one is gone, and compares
              the end of the log with the records that were not acknowledged

The lock lives and dies with the session, and appends are made on that session only: there is no reconnecting
on the side. Whoever takes over ends the holder's session first. The primary key stops what should never
happen.
"""

import asyncio
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import ClassVar, Final, NamedTuple, Self

import psycopg
import structlog
from psycopg.pq import ConnStatus

from engine.record import FIRST_CHAIN, CorruptRecord, chain_hash, decode
from persistence.database import Database, lost, translate, translated
from persistence.errors import (
    ConnectionLost,
    DatabaseRefused,
    Deposed,
    LogDamaged,
    LogDiverged,
    LogError,
    LogFull,
    LogUnavailable,
    OutcomeUnknown,
    PersistenceError,
)
from persistence.log_session import CLOCK_SKEW_MAX_NS, LogSession, row
from persistence.statements import statements

LOCK_WAIT_S: Final = 2.0
"""How long `open` waits for a holder that may just be going away."""
ROOM_RECORDS: Final = 1 << 21
"""For how many records there is room after opening the log …"""
ROOM_RECORDS_MIN: Final = 1 << 20
"""… and when there is less, more is made, on a session of its own."""
RESOLVE_PAUSE_S: Final = 0.1

_SQL: Final = statements("log")
_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_SHARD: Final = struct.Struct("!h")
_POSITION: Final = struct.Struct("!q")
_ROW: Final = struct.Struct(
    "!hihiqiqi"
)  # fields, then each with its size: shard, lsn, epoch; the payload's size
_JOINED_BYTES_MAX: Final = 1 << 16

Entry = tuple[int, int, bytes]
"""A record as it is appended: lsn, epoch, payload."""

_logger = structlog.get_logger(__name__)


class Head(NamedTuple):
    """The last durable record: position, epoch and hash. That of an empty log is at 0."""

    lsn: int
    epoch: int
    chain: bytes


class Log:
    """The log of one shard, held for writing. Its methods are for one task at a time.

    `head` is the last record known to be durable; the next one is at `head.lsn + 1`, with the epoch `epoch`
    and chained to `head.chain`. `last_time` is the time of the last record found when it was opened, in ns.
    """

    sessions: ClassVar[type[LogSession]] = LogSession  # what connects it; simulations have their own

    def __init__(self, database: Database, shard: int, clock: Callable[[], int], writer: LogSession) -> None:
        self.shard = shard
        self.head = Head(0, 0, FIRST_CHAIN)
        self.epoch = 1
        self.last_time = 0
        self._database = database
        self._clock = clock
        self._writer = writer
        self._usable = False  # false from a lost session until it is resolved
        self._ended: LogError | None = None  # why this writer can never write again
        self._room_end = 0  # the first position that there is no partition for
        self._making_room: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        database: Database,
        shard: int,
        *,
        takeover: bool = False,
        clock: Callable[[], int] = time.time_ns,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> Self:
        """Becomes the shard's writer. With `takeover`, ends the session of the present one.

        Raises LockHeld if there is another writer, DatabaseRefused if the database or this host's clock can't
        be relied on, LogDamaged if the last record can't be read, DatabaseUnreachable.
        """
        writer = await cls.sessions.connect(database, shard, clock)
        log = cls(database, shard, clock, writer)
        try:
            await writer.lock(takeover, lock_wait_s)
            await writer.end_predecessors()
            await log._read_head()
            await log._check_time()
            await log._make_room()
        except BaseException:
            await writer.close()
            raise
        log._usable = True
        return log

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def append(self, records: Sequence[Entry]) -> None:
        """Makes the records durable, all or none, in one commit.

        Raises OutcomeUnknown: call `resolve`. Raises LogUnavailable or LogFull: nothing of it is there.
        Raises Deposed or LogDiverged: this writer is at its end.
        """
        first, last = records[0][0], records[-1][0]
        self._check_usable(first, last)
        self._check_sequence(records)
        warnings = self._writer.warnings
        warnings.clear()
        with self._judged(first, last):
            if len(records) == 1 and len(records[0][2]) <= _JOINED_BYTES_MAX:
                await self._writer.insert(_values(self.shard, records[0]))
            else:
                await self._copy(records)
        if warnings:
            # Such as a cancelled wait for a synchronous standby: it is committed here, but not there.
            self._usable = False
            raise OutcomeUnknown(f"PostgreSQL warned: {warnings[0]}", self.shard, first, last)
        self.head = Head(last, self.epoch, chain_hash(records[-1][2]))
        if self._room_end - last < ROOM_RECORDS_MIN and self._making_room is None:
            self._making_room = asyncio.create_task(self._make_room_aside(), name="log-room")

    async def confirm(self) -> None:
        """Returns if the log is still ours. Raises OutcomeUnknown if it may not be: call `resolve([])`."""
        first, last = self.head.lsn + 1, self.head.lsn
        self._check_usable(first, last)
        with self._judged(first, last):
            await self._writer.session.execute(_SQL["confirm"])

    async def resolve(self, records: Sequence[Entry]) -> int:
        """How many of the unacknowledged records, from the first on, are durable. The log is usable again.

        Raises Deposed if there is or was another writer, LogDiverged if the log ends otherwise: this writer
        is at its end. Raises LogUnavailable, DatabaseUnreachable or DatabaseRefused: it may be called again.
        """
        if self._ended is not None:
            raise self._ended
        self._usable = False
        await self._writer.close()
        deadline = time.monotonic() + self._database.settings.connect_limit_s
        while True:
            try:
                return await self._resolve_once(records)
            except (Deposed, LogDiverged) as error:
                self._ended = error
                raise
            except ConnectionLost as error:  # a crashing server takes new sessions with it for a while
                _heed_cancellation(error)
                if time.monotonic() > deadline:
                    raise LogUnavailable(
                        f"sessions with PostgreSQL keep ending: {error}", self.shard
                    ) from error
                await asyncio.sleep(RESOLVE_PAUSE_S)

    async def wal_syncs(self) -> int:
        """How often PostgreSQL has synced its own log to disk since its statistics began."""
        session = self._writer.session
        since_18 = session.info.server_version >= 180000
        with translated():
            await session.execute(_SQL["flush_statistics"])
            return int((await row(session, _SQL["wal_syncs" if since_18 else "wal_syncs_before_18"]))[0])

    async def close(self) -> None:
        """Gives up the lock and ends the session; the log can't be used any more."""
        if self._making_room is not None:
            self._making_room.cancel()
            await asyncio.wait([self._making_room])
        usable, self._usable = self._usable, False
        self._ended = self._ended or LogError("this log has been closed", self.shard)
        try:
            if usable:
                await self._writer.session.execute(_SQL["unlock"])
        except psycopg.Error as error:
            if not lost(error):
                raise translate(error) from error
        finally:
            await self._writer.close()

    # Opening

    async def _read_head(self) -> None:
        with translated():
            cursor = await self._writer.session.execute(_SQL["head"], (self.shard,))
            found = await cursor.fetchone()
        if found is None:
            return
        lsn, epoch, payload = found
        try:
            record = decode(payload)
        except CorruptRecord as error:
            raise LogDamaged(f"the last record, {lsn}, is damaged: {error}", self.shard, lsn) from error
        if (record.shard, record.lsn, record.epoch) != (self.shard, lsn, epoch):
            raise LogDamaged(f"the last record, {lsn}, says that it is another one", self.shard, lsn)
        self.head = Head(lsn, epoch, chain_hash(payload))
        self.epoch = epoch + 1
        self.last_time = record.time

    async def _check_time(self) -> None:
        """Clocks of two hosts differ a little, so a small lag is waited for; time must not run backwards."""
        behind_ns = self.last_time - self._clock()
        if 0 < behind_ns <= CLOCK_SKEW_MAX_NS:
            await asyncio.sleep(behind_ns / 1e9)
            behind_ns = self.last_time - self._clock()
        if behind_ns > 0:
            raise DatabaseRefused(
                f"this host's clock is {behind_ns / 1e9:.1f} s behind the last record of shard {self.shard}: "
                "set the clock right",
                reason="clock",
                behind_ns=behind_ns,
            )

    async def _make_room(self) -> None:
        first = self.head.lsn + 1
        with translated():
            room = await row(self._writer.session, _SQL["make_room"], (first, first + ROOM_RECORDS))
        self._room_end = room[0]

    async def _make_room_aside(self) -> None:
        """Makes the next partitions without delaying the commits meanwhile."""
        first = self.head.lsn + 1
        try:
            async with self._database.session(
                f"tessera {self._database.schema}/{self.shard} room"
            ) as session:
                with translated():
                    room = await row(session, _SQL["make_room"], (first, first + ROOM_RECORDS))
            self._room_end = room[0]
        except (
            PersistenceError
        ) as error:  # the next append tries again; when there is no room left, it says so
            _logger.warning(
                "no room made in the log", shard=self.shard, room_end=self._room_end, error=str(error)
            )
        finally:
            self._making_room = None

    # Appending

    async def _copy(self, records: Sequence[Entry]) -> None:
        async with self._writer.session.cursor() as cursor:
            async with cursor.copy(_SQL["append"]) as copy:
                for block in copy_blocks(self.shard, records):
                    await copy.write(block)
            assert cursor.rowcount == len(records)

    def _check_usable(self, first: int, last: int) -> None:
        if self._ended is not None:
            raise self._ended
        if not self._usable:
            raise OutcomeUnknown("the log's session is lost", self.shard, first, last)

    def _check_sequence(self, records: Sequence[Entry]) -> None:
        for position, (lsn, epoch, _) in enumerate(records, self.head.lsn + 1):
            if lsn != position or epoch != self.epoch:
                raise ValueError(
                    f"the next record of shard {self.shard} is {position} of epoch {self.epoch}, "
                    f"not {lsn} of epoch {epoch}"
                )

    @contextmanager
    def _judged(self, first: int, last: int) -> Iterator[None]:
        """Runs statements on the log's session; the log stays usable only if their outcome is known."""
        try:
            yield
        except psycopg.Error as error:
            failure = self._failure(error, first, last)
            _heed_cancellation(error)
            raise failure from error
        except BaseException:
            self._usable = False
            raise

    def _failure(self, error: psycopg.Error, first: int, last: int) -> LogError:
        """What an error on the log's session means."""
        said = str(error).strip()
        if lost(error) or self._writer.session.pgconn.status != ConnStatus.OK:
            self._usable = False
            return OutcomeUnknown(f"the log's session is lost: {said}", self.shard, first, last)
        if isinstance(error, psycopg.errors.DiskFull):
            return LogFull(f"PostgreSQL has no disk space left: {said}", self.shard)
        if isinstance(error, psycopg.errors.UniqueViolation):
            self._usable = False
            self._ended = LogDiverged(f"record {first} or a later one is there already", self.shard, first)
            return self._ended
        return LogUnavailable(f"PostgreSQL did not take the records: {said}", self.shard)

    # Resolving

    async def _resolve_once(self, records: Sequence[Entry]) -> int:
        writer = await self.sessions.connect(self._database, self.shard, self._clock)
        try:
            await writer.lock_again(self._writer.backend)
            durable = self._compare(await self._read_tail(writer, len(records)), records)
            await self._settle(writer)
        except BaseException:
            await writer.close()
            raise
        self._writer = writer
        if durable:
            lsn, epoch, payload = records[durable - 1]
            self.head = Head(lsn, epoch, chain_hash(payload))
        self._usable = True
        return durable

    async def _read_tail(self, writer: LogSession, unacknowledged: int) -> list[Entry]:
        """The log from the last acknowledged record on, in a statement later than the lock's."""
        first = max(self.head.lsn, 1)
        with translated():
            cursor = await writer.session.execute(_SQL["tail"], (self.shard, first, unacknowledged + 2))
            return await cursor.fetchall()

    def _compare(self, tail: list[Entry], records: Sequence[Entry]) -> int:
        """How many of the records follow the last acknowledged one, and nothing else."""
        if self.head.lsn > 0:
            found = tail.pop(0) if tail else (0, 0, b"")
            if found[:2] != self.head[:2] or chain_hash(found[2]) != self.head.chain:
                raise LogDiverged(
                    f"record {self.head.lsn}, which was durable, is not there any more",
                    self.shard,
                    self.head.lsn,
                )
        for position, found in enumerate(tail):
            if position < len(records) and tuple(found) == tuple(records[position]):
                continue
            if found[1] > self.head.epoch:
                raise Deposed(f"shard {self.shard} has had another writer, of epoch {found[1]}", self.shard)
            raise LogDiverged(f"record {found[0]} is not the one written here", self.shard, found[0])
        return len(tail)

    async def _settle(self, writer: LogSession) -> None:
        """What was found is visible; a commit after it makes sure that it is durable, on standbys too."""
        with translated():
            await writer.session.execute(_SQL["settle"])
        if writer.warnings:
            raise LogUnavailable(f"PostgreSQL warned: {writer.warnings[0]}", self.shard)


def _heed_cancellation(error: Exception) -> None:
    """psycopg tells a session that is lost during a cancellation, and not the cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


def _values(shard: int, record: Entry) -> tuple[bytes, ...]:
    """A record's columns in binary."""
    lsn, epoch, payload = record
    return _SHARD.pack(shard), _POSITION.pack(lsn), _POSITION.pack(epoch), payload


def copy_blocks(
    shard: int, records: Sequence[Entry], header: bytes = _HEADER, trailer: bytes = _TRAILER
) -> Iterator[bytes]:
    """The records in the COPY BINARY format; small ones are joined, large payloads are not copied."""
    pending, pending_bytes = [header], 0
    for lsn, epoch, payload in records:
        pending.append(_ROW.pack(4, 2, shard, 8, lsn, 8, epoch, len(payload)))
        if len(payload) > _JOINED_BYTES_MAX:
            yield b"".join(pending)
            yield payload
            pending, pending_bytes = [], 0
        else:
            pending.append(payload)
            pending_bytes += len(payload)
            if pending_bytes > _JOINED_BYTES_MAX:
                yield b"".join(pending)
                pending, pending_bytes = [], 0
    pending.append(trailer)
    yield b"".join(pending)
