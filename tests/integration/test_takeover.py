"""Two engines on one database: one serves. The other is refused, or takes over; and who was taken over from
can neither write nor answer a read, and says why it stopped.
"""

import asyncio
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg
import pytest

from actors.errors import ShardStopped
from actors.runtime import Engine
from engine.commands import MoveCommand
from gateway.options import ExitCode
from persistence.database import Database
from persistence.errors import LockHeld
from tests.faults.proxy import PostgresProxy
from tests.faults.served import ServedEngine
from tests.fixtures_engine import BOUND_S, RECORD, Shop, settings_of, struck

HTTP_S: Final = 60
REFUSALS: Final = ("What was sent may or may not have happened", "Try again in")
"""What a deposed engine answers over HTTP: it has stopped, or is still finding out that it can't write. The
reason is for the operator, on standard error."""


async def epochs(database: Database) -> list[tuple[int, int]]:
    """Position and epoch of every record."""
    async with database.session("test") as session:
        cursor = await session.execute(b"select lsn, epoch from wal order by lsn")
        return await cursor.fetchall()


async def test_a_second_engine_is_refused_clearly(database: Database) -> None:
    async with Engine.running(settings_of(database)) as first:
        shop = await Shop.opened(first)
        with pytest.raises(LockHeld, match="shard 0 has a writer already") as refused:
            await Engine.open(settings_of(database))
        assert "--takeover" in str(refused.value)
        assert refused.value.application.startswith("tessera tessera/0 ")
        assert refused.value.pid > 0
        await shop.do(shop.transfer(1))
    async with Engine.running(settings_of(database)) as second:
        assert second.health().epoch == 2, "a clean end gives the lock back"


async def test_engines_of_two_schemas_do_not_disturb_each_other(database: Database) -> None:
    async with (
        Engine.running(settings_of(database)) as one,
        Engine.running(settings_of(database, database_schema="other")) as two,
    ):
        for engine in (one, two):
            shop = await Shop.opened(engine)
            await shop.do(shop.transfer(1))
            assert engine.health().epoch == 1


async def test_a_successor_takes_over_and_the_first_stops(database: Database) -> None:
    first = await Engine.open(settings_of(database))
    shop = await Shop.opened(first)
    done = shop.transfer(5)
    await shop.do(done)
    async with Engine.running(settings_of(database, takeover=True)) as second:
        assert second.health().epoch == 2
        with pytest.raises(ShardStopped, match="another writer") as stopped:
            await shop.balance(shop.seller)
        assert "PostgreSQL" in stopped.value.reason
        with pytest.raises(ShardStopped):
            await shop.one(shop.transfer(1))
        assert await asyncio.wait_for(first.ended(), BOUND_S) == stopped.value.reason
        assert first.health().status == "stopped"
        await asyncio.wait_for(first.close(), BOUND_S)
        shop.engine = second
        assert (await shop.one(done)).replayed
        assert await shop.balance(shop.seller) == 5
        await shop.do(shop.transfer(1))
    assert [epoch for _, epoch in await epochs(database)] == sorted(
        epoch for _, epoch in await epochs(database)
    )


async def test_what_a_predecessor_left_at_work_blocks_nobody(database: Database) -> None:
    """A writer that stands still, or whose host is gone, may be in the middle of a transaction."""
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
    async with database.session("tessera tessera/0 projection") as left, left.transaction():
        await left.execute(b"update projection_cursor set timestamp = timestamp + 1")
        await left.execute(b"lock table leg, wal in share row exclusive mode")
        async with asyncio.timeout(BOUND_S):
            async with Engine.running(settings_of(database)) as engine:
                shop.engine = engine
                answer = await shop.do(shop.transfer(1))
                await engine.wait_projected(answer.lsn)
        with pytest.raises(psycopg.OperationalError):
            await left.execute(b"select 1")


async def test_a_writer_that_is_deposed_under_load_answers_nothing_that_is_not_in_the_log(
    database: Database,
) -> None:
    first = await Engine.open(settings_of(database))
    shop = await Shop.opened(first)
    answered: dict[int, int] = {}
    written = asyncio.Event()

    async def write() -> None:
        while True:
            command = shop.transfer(1)
            try:
                answered[command.id] = (await shop.one(command)).lsn
            except ShardStopped:
                return
            if len(answered) > 50:
                written.set()

    async with asyncio.TaskGroup() as writers:
        for _ in range(8):
            writers.create_task(write())
        await struck(written)
        second = await Engine.open(settings_of(database, takeover=True))
    await first.close()
    shop.engine = second
    try:
        for id in answered:
            again = await shop.one(shop.transfer(1, id=id))
            assert again.replayed, "what was answered is in the log that the successor has"
        assert await shop.balance(shop.seller) >= len(answered)
        boundary = second.recovery.lsn
        assert max(answered.values()) <= boundary
        assert all(epoch == 1 + (lsn > boundary) for lsn, epoch in await epochs(database))
    finally:
        await second.close()


async def test_a_writer_stopped_in_the_middle_of_a_commit_and_woken(database: Database) -> None:
    """It is another process, so its memory, its sessions and its callers are still there when it wakes."""
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        path = balance_of(shop, shop.seller)
    async with (
        PostgresProxy(database.dsn) as proxy,
        ServedEngine.started(proxy.dsn) as first,
        httpx.AsyncClient(base_url=first.url, timeout=HTTP_S) as http,
    ):
        kept = shop.transfer(7)
        assert (await http.post("/v1/moves", json=body(kept))).status_code == 201
        stalled = proxy.stall_at(b"B", RECORD)
        torn = shop.transfer(11)
        writing = asyncio.create_task(http.post("/v1/moves", json=body(torn)))
        await struck(stalled)
        first.stop()
        async with Engine.running(settings_of(database, takeover=True)) as second:
            shop.engine = second
            assert (await shop.one(kept)).replayed
            later = await shop.do(shop.transfer(13))
            log = await epochs(database)
            first.wake()
            proxy.release()
            reading = asyncio.create_task(http.get(path))
            for task in (writing, reading):
                refused = await refusal(task)
                assert refused is None or refused.startswith(REFUSALS)
            code, errors = await first.ended()
            assert code == ExitCode.STOPPED
            assert "shard 0 has another writer now" in errors
            assert await epochs(database) == log, "the first has written nothing"
            assert (await shop.one(kept)).replayed
            assert await shop.balance(shop.seller) == 7 + 13
            assert not (await shop.do(torn)).replayed, "sent again, it happens for the first time"
            assert later.lsn in dict(log)


async def test_an_idle_writer_that_was_stopped_and_woken_answers_no_read(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        path = balance_of(shop, shop.buyer)
    async with ServedEngine.started(database.dsn) as first:
        async with httpx.AsyncClient(base_url=first.url, timeout=HTTP_S) as http:
            assert (await http.get(path)).json()["posted"] == 1_000_000
            first.stop()
            async with Engine.running(settings_of(database, takeover=True)) as second:
                shop.engine = second
                await shop.do(shop.transfer(1))
                first.wake()
                refused = await refusal(asyncio.create_task(http.get(path)))
                assert refused is None or refused.startswith(REFUSALS)
                code, errors = await first.ended()
        assert code == ExitCode.STOPPED
        assert "has another writer now" in errors


def balance_of(shop: Shop, party: int) -> str:
    """Where the balance of a wallet is read."""
    return f"/v1/accounts/{UUID(int=shop.engine.account_id(shop.wallet(party), 'GBP'))}/balance"


def body(transfer: MoveCommand) -> dict[str, Any]:
    """A transfer as HTTP takes it."""
    return {
        "id": str(UUID(int=transfer.id)),
        "kind": "transfer",
        "payer": str(UUID(int=transfer.payer)),
        "payee": str(UUID(int=transfer.payee)),
        "asset": transfer.asset,
        "amount": transfer.amount,
    }


async def refusal(request: "asyncio.Task[httpx.Response]") -> str | None:
    """What a request was refused with; None if the server had gone. It may not be answered in any other
    way."""
    try:
        answer = await asyncio.wait_for(request, HTTP_S)
    except httpx.TransportError:
        return None
    assert answer.status_code == 503, answer.text
    assert answer.json()["code"] in ("shard_stopped", "overloaded"), answer.text
    return str(answer.json()["detail"])
