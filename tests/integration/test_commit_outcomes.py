"""Commits that are known to be on disk, and commits of which nobody knows: the log is asked, nothing is
guessed.
"""

import asyncio
from typing import Any, Final

import pytest

from actors.errors import Overloaded
from actors.messages import SubmitMoves
from actors.runtime import Engine
from persistence.database import Database
from tests.faults.proxy import PostgresProxy
from tests.fixtures_engine import (
    BOUND_S,
    RECORD,
    Shop,
    counted,
    engine_behind,
    sent,
    settings_of,
    shard_of,
    struck,
    until,
)

COMMITS: Final = 120


async def rows(database: Database, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    async with database.session("test") as session:
        return await (await session.execute(query.encode(), parameters or None)).fetchall()


async def test_every_commit_is_synced_to_disk(database: Database) -> None:
    """PostgreSQL counts its own syncs. The projection stands still meanwhile, so that no sync is its."""
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        await engine.wait_projected()
        log = shard_of(engine)._log
        async with database.session("test") as session, session.transaction():
            await session.execute(b"lock table projection_cursor in share row exclusive mode")
            syncs, commits = await log.wal_syncs(), counted(engine, "commits")
            for _ in range(COMMITS):
                await shop.do(shop.transfer(1))
            made = counted(engine, "commits") - commits
            assert made == COMMITS
            assert await log.wal_syncs() - syncs >= made


@pytest.mark.parametrize("fault", ["before the record", "before its end", "after its end"])
async def test_a_commit_whose_outcome_is_unknown_happens_once(database: Database, fault: str) -> None:
    async with PostgresProxy(database.dsn) as proxy, engine_behind(proxy) as engine:
        shop = await Shop.opened(engine)
        last = engine.health().lsn
        match fault:
            case "before the record":
                cut = proxy.cut_before(b"B", RECORD)
            case "before its end":
                cut = proxy.cut_before(b"S", following=RECORD)
            case _:
                cut = proxy.cut_after(b"S", following=RECORD)
        waiting = [sent(engine, SubmitMoves([shop.transfer(1)])) for _ in range(3)]
        await struck(cut)
        waiting += [await accepted(engine, shop) for _ in range(3)]
        async with asyncio.timeout(BOUND_S):
            answers = [(await answer)[0] for answer in waiting]
        assert [answer.code for answer in answers] == [""] * 6
        assert not any(answer.replayed for answer in answers), "nobody had to send anything again"
        assert await shop.balance(shop.seller) == 6
        assert engine.health().epoch == 1, "the same writer goes on"
        assert engine.health().lsn > last
        report = await engine.verify()
        assert report.ok, report.problems
    found = await rows(database, "select lsn, epoch from wal order by lsn")
    assert found == [(lsn, 1) for lsn in range(1, len(found) + 1)]


async def test_a_full_disk_is_waited_for_and_sql_goes_on(database: Database) -> None:
    """PostgreSQL itself says so here, with the code that it has for it, when a row is to be written."""
    async with Engine.running(settings_of(database)) as engine, database.session("test") as session:
        shop = await Shop.opened(engine)
        wallet = engine.account(shop.wallet(shop.buyer), "GBP")
        await engine.wait_projected()
        await session.execute(
            b"create function disk_full() returns trigger language plpgsql as "
            b"$$ begin raise exception 'No space left on device' using errcode = '53100'; end $$"
        )
        await session.execute(
            b"create trigger disk_full before insert on wal for each row execute function disk_full()"
        )
        writing = sent(engine, SubmitMoves([shop.transfer(5)]))
        await until(lambda: engine.health().status == "blocked")
        assert "no disk space left" in engine.health().reason
        with pytest.raises(Overloaded, match="nothing can be written now: PostgreSQL has no disk space left"):
            await shop.one(shop.transfer(1))
        assert (await wallet.balance(consistency="stale")).posted == 1_000_000
        assert not writing.done()
        await session.execute(b"drop trigger disk_full on wal")
        assert (await asyncio.wait_for(writing, BOUND_S))[0].accepted
        assert engine.health().status == "serving"
        assert (await wallet.balance()).posted == 999_995
        await engine.wait_projected()
        stale = await wallet.balance(consistency="stale")
        assert (stale.posted, stale.version, stale.lsn) == (999_995, 0, engine.health().lsn)


async def accepted(engine: Engine, shop: Shop) -> "asyncio.Future[Any]":
    """Send a transfer as soon as the engine takes it: while the log is not there, it may refuse."""
    command = shop.transfer(1)
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                return sent(engine, SubmitMoves([command]))
            except Overloaded:
                await engine.queries.all_things()


async def test_many_losses_in_a_row(database: Database) -> None:
    """Each session is cut at its first record, now before, now after the server has it."""
    async with PostgresProxy(database.dsn) as proxy, engine_behind(proxy) as engine:
        shop = await Shop.opened(engine)
        for number in range(8):
            cut = (proxy.cut_after if number % 2 else proxy.cut_before)(b"S", following=RECORD)
            answer = await accepted(engine, shop)
            await struck(cut)
            assert (await asyncio.wait_for(answer, BOUND_S))[0].accepted
        assert await shop.balance(shop.seller) == 8
        report = await engine.verify()
        assert report.ok, report.problems
