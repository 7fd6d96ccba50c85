"""Sessions of a database: prepared, retried, and refused with advice."""

import random
from pathlib import Path

import pytest

from persistence.database import Database, DatabaseSettings, translated
from persistence.embedded import EmbeddedServer
from persistence.errors import ConnectionLost, DatabaseRefused, DatabaseUnreachable, QueryFailed


def nowhere(folder: Path) -> Database:
    url = f"postgresql://someone:secret@/books?host={folder}"
    return Database(DatabaseSettings(url=url, connect_limit_s=0.2), random.Random(1))


async def test_an_unreachable_database_is_tried_again_and_then_told_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachable, match="pg_ctl") as unreachable:
        await nowhere(tmp_path).connect("test")
    assert unreachable.value.attempts > 1
    assert unreachable.value.seconds <= 0.2
    assert "dbname=books" in str(unreachable.value)
    assert "--data-dir" in str(unreachable.value)
    assert "secret" not in str(unreachable.value)


def test_an_unreachable_database_is_told_to_blocking_code_too(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachable, match="--database-url"):
        nowhere(tmp_path).connect_sync("test")


async def test_a_database_that_does_not_exist_is_not_tried_again(database: Database) -> None:
    missing = Database(DatabaseSettings(url=database.dsn + " dbname=no_such_database", connect_limit_s=60))
    with pytest.raises(DatabaseRefused, match="no_such_database") as refused:
        await missing.connect("test")
    assert refused.value.reason == "login"


async def test_a_malformed_url_is_told() -> None:
    with pytest.raises(QueryFailed, match="no_such_option"):
        await Database(DatabaseSettings(url="no_such_option=1")).connect("test")


async def test_a_version_that_is_too_old_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.database.VERSION_MIN", 990000)
    with pytest.raises(DatabaseRefused, match="needs 99 or newer") as refused:
        await database.connect("test")
    assert refused.value.reason == "version"


async def test_defaults_of_the_database_do_not_reach_sessions(database: Database) -> None:
    async with database.session("test") as session:
        row = await (await session.execute("select current_database()")).fetchone()
        assert row is not None
        for setting in (
            "statement_timeout = 1",
            "default_transaction_read_only = on",
            "search_path = public",
        ):
            await session.execute(f'alter database "{row[0]}" set {setting}')
    async with database.session("a name") as session:
        await session.execute("create table made_by_test (a int4)")
        cursor = await session.execute(
            "select current_setting('search_path'), current_setting('statement_timeout'),"
            " current_setting('application_name'), to_regclass('tessera.made_by_test') is not null"
        )
        assert await cursor.fetchone() == ('"tessera"', "0", "a name", True)


async def test_errors_are_translated(database: Database) -> None:
    async with database.session("test") as session, database.session("test") as other:
        with pytest.raises(QueryFailed) as failed, translated():
            await session.execute("select no_such_column")
        assert failed.value.sqlstate == "42703"
        await other.execute("select pg_terminate_backend(%s)", (session.info.backend_pid,))
        with pytest.raises(ConnectionLost), translated():
            await session.execute("select 1")


def test_an_embedded_database_runs_as_long_as_it_has_users(own_server: EmbeddedServer) -> None:
    with Database(DatabaseSettings(data_dir=str(own_server.data_dir))) as database:
        own_server.stop()
        with database.session_sync("test") as session:
            assert session.execute("select 1").fetchone() == (1,)
        assert own_server.pid is not None
    assert own_server.pid is None


@pytest.mark.parametrize("given", [{}, {"data_dir": "a", "url": "b"}])
def test_either_a_folder_or_a_url(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either data_dir or url"):
        DatabaseSettings(**given)  # type: ignore[arg-type]  # both are strings
