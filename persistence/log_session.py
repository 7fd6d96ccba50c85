"""A session that may write a shard's log: what must be true of it, and its lock.

Refused are sessions whose commits can't be relied on: through a pooler (the lock would belong to whoever
comes next), on a standby, without fsync, or from a host whose clock is off. The lock is a session advisory
lock, so it can't outlive the session that appends.
"""

import asyncio
import os
import socket
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self

import psycopg
from psycopg import generators
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from persistence.database import Database, Session, translated
from persistence.errors import DatabaseRefused, Deposed, LockHeld, LogUnavailable
from persistence.statements import statements

LOCK_CLASS: Final = 0x7E55E7A
"""The first half of the lock's key, with the schema's hash mixed in; the shard is the second half."""
LOCK_LIMIT_S: Final = 60.0
"""How long a session that was told to end may take to be gone."""
LOCK_PAUSE_S: Final = 0.02
CLOCK_SKEW_MAX_NS: Final = 5_000_000_000
CLOCK_SAMPLES: Final = 3
APPLICATION_CHARACTERS_MAX: Final = 63
HELPERS: Final = ("lookups", "projection", "queries", "reader", "room", "snapshot", "verify")
"""What a shard's other sessions are called, after its name."""

_SQL: Final = statements("log")
_INSERT: Final = b"append_one"
_BINARY: Final = [Format.BINARY] * 4


class Backend(NamedTuple):
    """Who a session is for the server. Process ids are used again, so the time it started is a part of it."""

    pid: int
    started: str
    application: str


class LogSession:
    """A checked session and the writer's lock of one shard. `warnings` are the server's, until cleared."""

    def __init__(self, session: Session, backend: Backend, shard: int, schema: str) -> None:
        self.session = session
        self.backend = backend
        self.warnings: list[str] = []
        self._shard = shard
        self._schema = schema
        self._prepared = False
        lock_class = LOCK_CLASS ^ zlib.crc32(schema.encode())
        self._key = (lock_class - (1 << 32 if lock_class >= 1 << 31 else 0), shard)
        session.add_notice_handler(self._notice)

    @classmethod
    async def connect(cls, database: Database, shard: int, clock: Callable[[], int]) -> Self:
        """A new session, not locked yet. Raises DatabaseUnreachable or DatabaseRefused."""
        application = f"tessera {database.schema}/{shard} {socket.gethostname()}:{os.getpid()}"
        session = await database.connect(application[:APPLICATION_CHARACTERS_MAX])
        try:
            with translated():
                backend = await _check_direct(session)
                await _check_durable(session)
                await _check_clock(session, clock)
        except BaseException:
            await session.close()
            raise
        return cls(session, backend, shard, database.schema)

    async def close(self) -> None:
        """Ends the session; the server drops the lock when it notices."""
        await self.session.close()

    async def insert(self, values: Sequence[bytes]) -> None:
        """Runs `append_one`, without a cursor, which would take longer than PostgreSQL does. Raises
        psycopg.Error."""
        session, pgconn = self.session, self.session.pgconn
        async with session.lock:
            if not self._prepared:
                pgconn.send_prepare(_INSERT, _SQL["append_one"])
                _check(await session.wait(generators.execute(pgconn)))
                self._prepared = True
            pgconn.send_query_prepared(_INSERT, values, _BINARY, Format.BINARY)
            _check(await session.wait(generators.execute(pgconn)))

    async def lock(self, takeover: bool, wait_s: float) -> None:
        """Takes the lock, ending the holder's session if `takeover`. Raises LockHeld."""
        deadline = time.monotonic() + (LOCK_LIMIT_S if takeover else wait_s)
        while not await self._try_lock():
            holder = await self._holder()
            if holder is not None:
                if time.monotonic() >= deadline:
                    raise LockHeld(
                        f"shard {self._shard} has a writer already: {holder.application!r}, process "
                        f"{holder.pid} of PostgreSQL, since {holder.started}. Stop it, or take over with "
                        "--takeover",
                        self._shard,
                        pid=holder.pid,
                        application=holder.application,
                        since=holder.started,
                    )
                if takeover:
                    await self._terminate(holder)
            await asyncio.sleep(LOCK_PAUSE_S)

    async def end_predecessors(self) -> None:
        """Ends what earlier writers left at work beside the log. The lock must be ours: then nobody needs
        those sessions, and who stopped in the middle of a transaction would stand in our way for ever."""
        prefix = f"tessera {self._schema}/{self._shard}"
        names = [f"{prefix} {role}"[:APPLICATION_CHARACTERS_MAX] for role in HELPERS]
        with translated():
            await self.session.execute(_SQL["end_predecessors"], (names,))

    async def lock_again(self, old: Backend) -> None:
        """Takes the lock that `old`, our lost session, held. Raises Deposed if another session has it."""
        deadline = time.monotonic() + LOCK_LIMIT_S
        while not await self._try_lock():
            holder = await self._holder()
            if holder is not None:
                if holder[:2] != old[:2]:
                    raise Deposed(
                        f"shard {self._shard} has another writer now: {holder.application!r}, process "
                        f"{holder.pid} of PostgreSQL, since {holder.started}",
                        self._shard,
                        pid=holder.pid,
                        application=holder.application,
                    )
                if time.monotonic() >= deadline:
                    raise LogUnavailable(
                        f"the lost session of shard {self._shard} (process {old.pid} of PostgreSQL) "
                        "does not end",
                        self._shard,
                    )
                await self._terminate(holder)
            await asyncio.sleep(LOCK_PAUSE_S)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self.warnings.append(notice.message_primary or "")

    async def _try_lock(self) -> bool:
        with translated():
            return bool((await row(self.session, _SQL["try_lock"], self._key))[0])

    async def _holder(self) -> Backend | None:
        """Who holds the lock; None if it has just been given up."""
        with translated():
            cursor = await self.session.execute(_SQL["holder"], self._key)
            found = await cursor.fetchone()
        return None if found is None else Backend(*found)

    async def _terminate(self, holder: Backend) -> None:
        with translated():
            await self.session.execute(_SQL["terminate"], (holder.pid,))


def _check(results: Sequence[PGresult]) -> None:
    """Raises psycopg.Error unless the only result is one of success."""
    (result,) = results
    if result.status != ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result)


async def row(session: Session, statement: bytes, values: tuple[object, ...] = ()) -> tuple[Any, ...]:
    """The only row of a statement's result."""
    cursor = await session.execute(statement, values)
    found = await cursor.fetchone()
    assert found is not None
    return found


async def _check_direct(session: Session) -> Backend:
    """Who we are for the server, if it is the server itself that we speak to, and not a pooler."""
    backends = [Backend(*await row(session, _SQL["identify"])) for _ in range(2)]
    if backends[0] != backends[1] or backends[0].pid != session.info.backend_pid:
        raise DatabaseRefused(
            "the log needs a session of its own, but this URL leads to a connection pooler: "
            "give the URL of PostgreSQL itself",
            reason="pooler",
        )
    return backends[0]


async def _check_durable(session: Session) -> None:
    standby, fsync, synchronous_commit = await row(session, _SQL["examine"])
    if standby:
        raise DatabaseRefused("this PostgreSQL is a standby: give the URL of the primary", reason="standby")
    if fsync != "on":
        raise DatabaseRefused(
            "this PostgreSQL runs with fsync=off, so a commit may be lost: set fsync=on and restart it",
            reason="fsync",
        )
    if synchronous_commit not in ("on", "remote_apply"):
        await session.execute(_SQL["commit_synchronously"])
        assert (await row(session, _SQL["examine"]))[2] == "on"


async def _check_clock(session: Session, clock: Callable[[], int]) -> None:
    samples = []
    for _ in range(CLOCK_SAMPLES):
        before = clock()
        theirs = (await row(session, _SQL["clock"]))[0]
        after = clock()
        samples.append((after - before, theirs - (before + after) // 2))
    round_trip_ns, skew_ns = min(samples)
    if abs(skew_ns) > CLOCK_SKEW_MAX_NS + round_trip_ns:
        raise DatabaseRefused(
            f"this host's clock and PostgreSQL's differ by {skew_ns / 1e9:.1f} s: set the clocks right",
            reason="clock",
            skew_ns=skew_ns,
        )
