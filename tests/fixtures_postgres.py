"""PostgreSQL for tests: one embedded server for the whole run, and a migrated database for each test.

`database` is what most tests want. Tests that kill, stop or reconfigure a server take `own_server`. The
shared server costs about a second once, a database about 50 ms.
"""

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from persistence.database import Database, DatabaseSettings
from persistence.embedded import EmbeddedServer
from persistence.schema import migrate

TEMPLATE: Final = "tessera_template"
_numbers = itertools.count(1)


def _server_folder() -> Path:
    """A folder that the server's user can reach when the tests run as root; pytest's own is private."""
    folder = Path(tempfile.mkdtemp(prefix="tessera-tests-"))
    folder.chmod(0o755)
    return folder / "data"


def _create(server: EmbeddedServer, name: str, template: str) -> str:
    """Makes a database and returns how to connect to it."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return make_conninfo(server.dsn, dbname=name)


def _drop(server: EmbeddedServer, name: str) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedServer]:
    """The server that all tests share; nobody stops or reconfigures it."""
    folder = _server_folder()
    server = EmbeddedServer(folder)
    server.start()
    try:
        dsn = _create(server, TEMPLATE, "template0")
        asyncio.run(migrate(Database(DatabaseSettings(url=dsn))))
        yield server
    finally:
        server.destroy()
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()
        folder.parent.rmdir()


@pytest.fixture
def empty_database(postgres_server: EmbeddedServer) -> Iterator[Database]:
    """A database without any schema."""
    name = f"empty_{next(_numbers)}"
    yield Database(DatabaseSettings(url=_create(postgres_server, name, "template0"), connect_limit_s=10))
    _drop(postgres_server, name)


@pytest.fixture
def database(postgres_server: EmbeddedServer) -> Iterator[Database]:
    """A migrated, empty database."""
    name = f"test_{next(_numbers)}"
    yield Database(DatabaseSettings(url=_create(postgres_server, name, TEMPLATE), connect_limit_s=10))
    _drop(postgres_server, name)


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server for one test, which may do to it what it likes. It is not running when the test ends."""
    folder = _server_folder()
    server = EmbeddedServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.destroy()
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()
        folder.parent.rmdir()
