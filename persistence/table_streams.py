"""Reads whole tables of the projection, several at a time, all as they were at one moment."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

from psycopg import sql

from persistence.copy_out import copy_out
from persistence.database import Database, SyncSession, translated
from persistence.statements import statements

_SQL: Final = statements("verify")


class TableStreams:
    """A context manager. Every statement sees the same committed state, whatever is written meanwhile."""

    def __init__(self, database: Database, shard: int) -> None:
        self._database = database
        self._shard = shard
        self._stack = ExitStack()
        self._snapshot = ""

    def __enter__(self) -> Self:
        self._session = self._connect()
        with translated():
            self._session.execute(_SQL["begin"])
            row = self._session.execute(_SQL["export_snapshot"]).fetchone()
        assert row is not None
        self._snapshot = row[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def fetch(self, name: str) -> list[tuple[Any, ...]]:
        """All rows of a small query about the shard."""
        with translated():
            return self._session.execute(_SQL[name], (self._shard,)).fetchall()

    def open(self, name: str) -> "Stream":
        """A stream of rows about the shard, in the COPY BINARY format."""
        session = self._connect()
        statement = sql.SQL(_SQL[name].decode()).format(shard=sql.Literal(self._shard))
        with translated():
            session.execute(_SQL["begin"])
            import_snapshot = sql.SQL(_SQL["import_snapshot"].decode())
            session.execute(import_snapshot.format(snapshot=sql.Literal(self._snapshot)))
        return Stream(copy_out(session, statement))

    def _connect(self) -> SyncSession:
        name = f"tessera {self._database.schema}/{self._shard} verify"
        return self._stack.enter_context(self._database.session_sync(name))


class Stream:
    """Rows of one table, in order."""

    def __init__(self, rows: Iterator[bytes]) -> None:
        self._rows = rows

    def take(self, count: int) -> list[bytes]:
        """The next rows, at most `count`."""
        return list(islice(self._rows, count))

    def __iter__(self) -> Iterator[bytes]:
        return self._rows
