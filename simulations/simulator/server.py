"""PostgreSQL as far as shards need it, simulated: logs, the writer's lock, sessions that end, the projection.

The shards' own `Log` runs on it, with all that it does about locks, lost sessions and unknown outcomes: only
its sessions are replaced. A statement travels to the server, happens there in one instant, and its answer
travels back; the client may be dead by then, or the session. What was committed is there for ever.
"""

import asyncio
import contextvars
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, cast

import msgspec
import psycopg
from psycopg.pq import ConnStatus

from engine.record import FIRST_CHAIN
from engine.shard_state import ShardState
from persistence.database import Database
from persistence.log import Entry, Log
from persistence.log_session import Backend, LogSession
from persistence.snapshot_codec import CorruptSnapshot, StateDecoder, encode_state
from persistence.statements import statements
from simulations.simulator.loop import Process, current_process

if TYPE_CHECKING:
    from simulations.simulator.faults import Faults
    from simulations.simulator.loop import SimulatedLoop
    from simulations.simulator.projection import Projection

_SQL: Final = statements("log")
_NAMES: Final = {statement: name for name, statement in _SQL.items()}
_ROOM: Final = 1 << 62
_POSITION: Final = struct.Struct("!q")
DROP_NOTICED: Final = 0.5
SNAPSHOTS_KEPT: Final = 3
NEVER_S: Final = 1e9
"""Longer than any run: limits by the real clock are not for simulations."""


class DatabaseSettings(msgspec.Struct, frozen=True):
    """What a `Log` wants to know of its database."""

    connect_limit_s: float = NEVER_S


class Connection:
    """A session as the server has it."""

    def __init__(self, pid: int, shard: int) -> None:
        self.backend = Backend(pid, str(pid), f"shard {shard}")
        self.alive = True
        self.busy_until = 0.0  # at work until then, and deaf to its client
        self.process = current_process()  # its client's
        self.waiting: list[asyncio.Future[Any]] = []  # who will not be answered if it ends


class Snapshot(NamedTuple):
    """A state after a record, as the bytes that are stored of it."""

    lsn: int
    chain: bytes
    chunks: list[bytes]


class Server:
    """All there is on disk, and who is connected. `committed` is told every record once it is durable."""

    def __init__(
        self, loop: "SimulatedLoop", faults: "Faults", committed: Callable[[int, Entry], None]
    ) -> None:
        self.loop = loop
        self.faults = faults
        self.context = contextvars.copy_context()  # of no process that could be killed
        self.logs: dict[int, dict[int, Entry]] = {}
        self.snapshots: dict[int, list[Snapshot]] = {}  # by shard, newest last
        self.projections: dict[int, Projection] = {}
        self._committed = committed
        self._holders: dict[int, Connection] = {}
        self._connections: dict[int, Connection] = {}
        self._pids = 0

    def connect(self, shard: int) -> Connection:
        """A new session."""
        self._pids += 1
        connection = self._connections[self._pids] = Connection(self._pids, shard)
        return connection

    def end(self, connection: Connection) -> None:
        """End a session, with its locks and whatever it was about to commit."""
        connection.alive = False
        self._connections.pop(connection.backend.pid, None)
        for shard, holder in list(self._holders.items()):
            if holder is connection:
                del self._holders[shard]
        waiting, connection.waiting = connection.waiting, []
        for future in waiting:
            if not future.done():
                future.set_exception(psycopg.errors.AdminShutdown("terminating connection"))

    def end_all(self) -> None:
        """The server restarts."""
        for connection in list(self._connections.values()):
            self.end(connection)

    def drop(self, process: Process) -> None:
        """A client was killed: the server notices soon, or, if its host is gone, not at all."""
        for connection in list(self._connections.values()):
            if connection.process is process and self.faults.delays.random() < DROP_NOTICED:
                self.later(self.faults.delay(0.005), self.end, connection)

    def later(self, delay_s: float, work: Callable[..., object], *arguments: Any) -> None:
        """Do something on the server, whoever dies meanwhile."""
        self.loop.call_later(delay_s, work, *arguments, context=self.context)

    def keep_snapshot(self, shard: int, state: ShardState) -> None:
        """Store a state, all of it durable, for recovery."""
        chunks = [b"".join((*chunk.pieces, chunk.checksum)) for chunk in encode_state(state.state())]
        if self.faults.strikes("snapshot_damaged"):
            chunks[0] = bytes((chunks[0][0] ^ 1, *chunks[0][1:]))
        kept = self.snapshots.setdefault(shard, [])
        kept.append(Snapshot(state.lsn, state.chain, chunks))
        del kept[:-SNAPSHOTS_KEPT]

    def restore_snapshot(self, shard: int, state: ShardState, last: int) -> tuple[int, bytes]:
        """Let an empty state become the newest valid snapshot up to `last`; where that stands."""
        for lsn, chain, chunks in reversed(self.snapshots.get(shard, ())):
            if lsn > last:
                continue
            decoder = StateDecoder()
            try:
                for chunk in chunks:
                    decoder.add(chunk)
            except CorruptSnapshot:
                continue
            state.restore(decoder.finish())
            return lsn, chain
        return 0, FIRST_CHAIN

    # Statements, each in one instant

    def try_lock(self, connection: Connection, shard: int) -> bool:
        """Take a shard's lock, if it is free."""
        return self._holders.setdefault(shard, connection) is connection

    def unlock(self, connection: Connection, shard: int) -> None:
        """Give it up."""
        if self._holders.get(shard) is connection:
            del self._holders[shard]

    def holder(self, connection: Connection, shard: int) -> Backend | None:
        """Who else has the lock."""
        holder = self._holders.get(shard)
        return None if holder is None or holder is connection else holder.backend

    def terminate(self, pid: int) -> None:
        """End another session, some time from now."""
        connection = self._connections.get(pid)
        if connection is not None:
            self.later(self.faults.delay(0.01), self.end, connection)

    def commit(self, shard: int, records: Sequence[Entry]) -> None:
        """Add records, all or none. Raises UniqueViolation."""
        log = self.logs.setdefault(shard, {})
        for record in records:
            if record[0] in log:
                raise psycopg.errors.UniqueViolation(f"record {record[0]} exists")
        for record in records:
            log[record[0]] = record
            self._committed(shard, record)

    def tail(self, shard: int, first: int, limit: int) -> list[Entry]:
        """Records from a position on."""
        log = self.logs.get(shard, {})
        last = max(log, default=0)
        return [log[lsn] for lsn in range(first, last + 1) if lsn in log][:limit]

    def head(self, shard: int) -> Entry | None:
        """The last record."""
        log = self.logs.get(shard)
        return log[max(log)] if log else None


class SimulatedDatabase(NamedTuple):
    """Where a `Log` connects to."""

    server: Server
    schema: str = "tessera"
    settings: DatabaseSettings = DatabaseSettings()

    def given(self) -> Database:
        """It, as what it stands for."""
        return cast(Database, self)


class _Cursor(NamedTuple):
    rows: list[Any]

    async def fetchone(self) -> Any:
        return self.rows[0] if self.rows else None

    async def fetchall(self) -> list[Any]:
        return self.rows


class _Pgconn:
    status = ConnStatus.OK


class _Session:
    """As much of a psycopg session as a `Log` uses."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self.server = server
        self.connection = connection
        self.pgconn = _Pgconn()

    def add_notice_handler(self, _handler: object) -> None:
        """There are none: warnings are given to the session itself."""

    async def close(self) -> None:
        """End it; the server notices when it is not at work."""
        self.pgconn.status = ConnStatus.BAD
        busy_s = max(0.0, self.connection.busy_until - self.server.loop.time())
        self.server.later(busy_s + self.server.faults.delay(0.005), self.server.end, self.connection)

    async def execute(self, statement: bytes, values: tuple[Any, ...] = ()) -> _Cursor:
        """Run one of the log's statements."""
        name = _NAMES[statement]
        server, connection = self.server, self.connection
        shard = values[0] if values else -1

        def work() -> list[Any]:
            match name:
                case "head":
                    found = server.head(shard)
                    return [] if found is None else [found]
                case "tail":
                    return list(server.tail(*values))
                case "make_room":
                    return [(_ROOM,)]
                case "try_lock":
                    return [(server.try_lock(connection, values[1]),)]
                case "holder":
                    backend = server.holder(connection, values[1])
                    return [] if backend is None else [backend]
                case "terminate":
                    server.terminate(shard)
                    return [(True,)]
                case "unlock":
                    for held in list(server.logs):
                        server.unlock(connection, held)
                    return [(True,)]
                case "confirm" | "settle" | "end_predecessors":
                    return [(True,)]
            raise AssertionError(name)

        return _Cursor(await self.run(work, 0.0))

    async def run(self, work: Callable[[], Any], takes_s: float) -> Any:
        """Have something done at the server: it takes so long there, and may fail on the way or there."""
        if self.pgconn.status != ConnStatus.OK:
            raise psycopg.OperationalError("the connection is closed")
        server, faults = self.server, self.server.faults
        done = server.loop.create_future()
        self.connection.waiting.append(done)
        if faults.strikes("statement_slow"):
            takes_s += faults.long_delay()
        if faults.strikes("statement_lost"):
            server.later(faults.delay(0.001), server.end, self.connection)
        else:
            if faults.strikes("session_haunts"):
                server.later(faults.delay(0.001), _lose, done)
                takes_s += faults.long_delay() / 2
                self.connection.busy_until = server.loop.time() + takes_s
            server.later(faults.delay(0.0003) + takes_s, self._happen, work, done)
        try:
            return await done
        except psycopg.OperationalError as error:
            if error.sqlstate is None or error.sqlstate.startswith("57P"):
                self.pgconn.status = ConnStatus.BAD
            raise

    def _happen(self, work: Callable[[], Any], done: "asyncio.Future[Any]") -> None:
        if not self.connection.alive:
            _fail(done, psycopg.errors.AdminShutdown("terminating connection"))
            return
        faults = self.server.faults
        try:
            result = work()
        except psycopg.Error as error:
            self.server.later(faults.delay(0.0003), _fail, done, error)
            return
        if faults.strikes("answer_lost"):
            self.server.end(self.connection)
        else:
            self.server.later(faults.delay(0.0003), _give, done, result)


def _give(done: "asyncio.Future[Any]", result: object) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: "asyncio.Future[Any]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)


def _lose(done: "asyncio.Future[Any]") -> None:
    _fail(done, psycopg.OperationalError("server closed the connection unexpectedly"))


class SimulatedSession(LogSession):
    """A log's session with the simulated server."""

    _session: _Session

    @classmethod
    async def connect(cls, database: Database, shard: int, _clock: Callable[[], int]) -> Self:
        """A new session, not locked yet."""
        server = cast(SimulatedDatabase, database).server
        await asyncio.sleep(server.faults.delay(0.002))
        session = _Session(server, server.connect(shard))
        return cls(cast(Any, session), session.connection.backend, shard, "tessera")

    async def insert(self, values: Sequence[bytes]) -> None:
        """Commit one record."""
        _, lsn, epoch, payload = values
        await self.commit([(_POSITION.unpack(lsn)[0], _POSITION.unpack(epoch)[0], payload)])

    async def commit(self, records: Sequence[Entry]) -> None:
        """Commit records, all or none."""
        session = cast(_Session, self.session)
        server, faults = session.server, session.server.faults

        def work() -> None:
            if faults.strikes("statement_failed"):
                raise psycopg.errors.OutOfMemory("out of memory")
            if faults.strikes("disk_full"):
                raise psycopg.errors.DiskFull("no space left on device")
            server.commit(self._shard, records)

        await session.run(work, faults.delay(faults.commit_s))
        if faults.strikes("commit_warned"):
            self.warnings.append("canceling wait for synchronous replication")


class SimulatedLog(Log):
    """The real log on simulated sessions."""

    sessions = SimulatedSession

    async def _copy(self, records: Sequence[Entry]) -> None:
        writer = self._writer
        assert isinstance(writer, SimulatedSession)
        await writer.commit(records)
