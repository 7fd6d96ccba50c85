"""Where the database is and how to get a session of it.

`Database` is either the embedded server of a data directory or any PostgreSQL from version 15 by URL.
Sessions commit each statement by itself and look into Tessera's schema only. Connecting is retried with
growing, jittered pauses; while the embedded server is down, each try starts it again. Whoever speaks to
PostgreSQL does it inside `translated()`, so that no psycopg error leaves this package.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from persistence.embedded import EmbeddedServer
from persistence.errors import (
    ConnectionLost,
    DatabaseRefused,
    DatabaseUnreachable,
    PersistenceError,
    QueryFailed,
)
from persistence.statements import statements

VERSION_MIN: Final = 150000
"""As PostgreSQL numbers its versions."""
PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0
# Ends a session whose other side is gone, if the URL does not say otherwise.
CONNECTION_DEFAULTS: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_PASSING: Final = (
    "starting up",
    "shutting down",
    "recovery",
    "too many",
    "connection slots",
    "not yet accepting",
)

Session = psycopg.AsyncConnection[tuple[Any, ...]]
SyncSession = psycopg.Connection[tuple[Any, ...]]


class DatabaseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which database: an embedded one in `data_dir`, or the one at `url`; exactly one of the two."""

    data_dir: str | None = None
    url: str | None = None
    schema: str = "tessera"
    connect_limit_s: float = 30.0  # after which connecting gives up

    def __post_init__(self) -> None:
        if (self.data_dir is None) == (self.url is None):
            raise ValueError("give either data_dir or url")


class Database:
    """A database that sessions can be had of. Once started, it counts as a user of its embedded server."""

    def __init__(self, settings: DatabaseSettings, jitter: random.Random | None = None) -> None:
        self.settings = settings
        self.schema = settings.schema
        self.server = EmbeddedServer(settings.data_dir) if settings.data_dir is not None else None
        self._jitter = jitter if jitter is not None else random.Random()  # noqa: S311  # spreads retries only

    @property
    def dsn(self) -> str:
        """What psycopg connects to, with the password if there is one."""
        given = self.server.dsn if self.server is not None else self.settings.url or ""
        with translated():
            return make_conninfo("", **(CONNECTION_DEFAULTS | conninfo_to_dict(given)))

    def start(self) -> None:
        """Starts the embedded server, if this is one; it may take long. Raises EmbeddedServerFailed."""
        if self.server is not None:
            self.server.start()

    def stop(self) -> None:
        """Lets go of the embedded server; the last user stops it."""
        if self.server is not None:
            self.server.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def connect(self, application: str, limit_s: float | None = None) -> Session:
        """A session named `application`, in autocommit. Raises DatabaseUnreachable or DatabaseRefused."""
        for attempt in self._attempts(limit_s):
            try:
                await asyncio.to_thread(self._ensure_running)
                session: Session = await psycopg.AsyncConnection.connect(
                    self.dsn, autocommit=True, application_name=application
                )
                try:
                    self._check_version(session.info.server_version)
                    await session.execute(statements("session")["prepare"], (self._search_path(),))
                except BaseException:
                    await session.close()
                    raise
            except psycopg.OperationalError as error:
                await asyncio.sleep(attempt.failed(error))
            else:
                return session
        raise AssertionError("the last attempt raises")

    def connect_sync(self, application: str, limit_s: float | None = None) -> SyncSession:
        """As `connect`, for code that may block."""
        for attempt in self._attempts(limit_s):
            try:
                self._ensure_running()
                session: SyncSession = psycopg.Connection.connect(
                    self.dsn, autocommit=True, application_name=application
                )
                try:
                    self._check_version(session.info.server_version)
                    session.execute(statements("session")["prepare"], (self._search_path(),))
                except BaseException:
                    session.close()
                    raise
            except psycopg.OperationalError as error:
                time.sleep(attempt.failed(error))
            else:
                return session
        raise AssertionError("the last attempt raises")

    @asynccontextmanager
    async def session(self, application: str) -> AsyncIterator[Session]:
        """A session for the length of a block."""
        session = await self.connect(application)
        try:
            yield session
        finally:
            await session.close()

    @contextmanager
    def session_sync(self, application: str) -> Iterator[SyncSession]:
        """As `session`, for code that may block."""
        session = self.connect_sync(application)
        try:
            yield session
        finally:
            session.close()

    def _ensure_running(self) -> None:
        if self.server is not None:
            self.server.ensure_running()

    def _search_path(self) -> str:
        return '"' + self.schema.replace('"', '""') + '"'

    def _attempts(self, limit_s: float | None) -> Iterator["_Attempt"]:
        limit_s = self.settings.connect_limit_s if limit_s is None else limit_s
        started = time.monotonic()
        number = 0
        while True:
            number += 1
            pause_s = min(PAUSE_MAX_S, PAUSE_MIN_S * 2 ** min(number - 1, 10)) * self._jitter.uniform(
                0.5, 1.5
            )
            yield _Attempt(self, number, started, limit_s, pause_s)

    def _check_version(self, version: int) -> None:
        if version < VERSION_MIN:
            raise DatabaseRefused(
                f"PostgreSQL {version // 10000} is too old: Tessera needs {VERSION_MIN // 10000} or newer",
                reason="version",
                version=version,
            )

    def _name(self) -> str:
        """Where the database is, for messages: without the password."""
        parts = conninfo_to_dict(self.dsn)
        shown = ("host", "hostaddr", "port", "dbname", "user")
        return " ".join(f"{name}={parts[name]}" for name in shown if name in parts)


class _Attempt:
    """One of the tries to connect, which knows whether another one is due."""

    def __init__(
        self, database: Database, number: int, started: float, limit_s: float, pause_s: float
    ) -> None:
        self._database = database
        self._number = number
        self._started = started
        self._limit_s = limit_s
        self._pause_s = pause_s

    def failed(self, error: psycopg.OperationalError) -> float:
        """How long to wait before the next try, in seconds. Raises if there is no use in another one."""
        said = str(error).strip()
        name = self._database._name()
        if "FATAL" in said and not any(sign in said for sign in _PASSING):
            raise DatabaseRefused(f"PostgreSQL at {name} refuses us: {said}", reason="login") from error
        elapsed_s = time.monotonic() - self._started
        if elapsed_s + self._pause_s < self._limit_s:
            return self._pause_s
        server = self._database.server
        advice = (
            f"See its log, {server.log_path}."
            if server is not None
            else "Start it (for example `pg_ctl -D DATA start` or `systemctl start postgresql`), correct the "
            "URL (--database-url postgresql://USER@HOST/NAME), or let Tessera run its own (--data-dir DIR)."
        )
        raise DatabaseUnreachable(
            f"PostgreSQL at {name} does not answer after {self._number} attempts in {elapsed_s:.1f} s: "
            f"{said}\n{advice}",
            attempts=self._number,
            seconds=elapsed_s,
        ) from error


def lost(error: psycopg.Error) -> bool:
    """Whether the error means that the session is gone, so that the statement's outcome is unknown."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(("08", "57P"))


def translate(error: psycopg.Error) -> PersistenceError:
    """The error in this package's words."""
    kind = ConnectionLost if lost(error) else QueryFailed
    return kind(str(error).strip(), error.sqlstate or "")


@contextmanager
def translated() -> Iterator[None]:
    """Turns psycopg's errors into ConnectionLost or QueryFailed."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error
