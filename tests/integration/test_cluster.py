"""Shards behind sockets: whoever reaches them meets the same engine; clients do not notice a new owner."""

import asyncio
import json
import socket
from typing import Final

import pytest

from actors.cluster.engine import ClusterEngine
from actors.cluster.status import cluster_report
from actors.errors import ShardStopped
from actors.runtime import Engine
from gateway.options import ExitCode
from persistence import cluster, placement
from persistence.database import Database
from persistence.errors import DatabaseRefused
from persistence.schema import migrations
from tests.fixtures_cluster import hosted
from tests.fixtures_engine import BOUND_S, Shop, bare_legs, results, settings_of
from tests.integration.test_cli import tessera

SHORT_S: Final = 0.2


async def test_handles_work_from_any_process(database: Database) -> None:
    settings = settings_of(database)
    async with hosted(settings), ClusterEngine.connected(settings) as engine:
        shop = await Shop.opened(engine, funds=100)
        wallet = engine.account(shop.wallet(shop.buyer), "GBP")
        async with ClusterEngine.connected(settings) as other:
            paid = await other.party(shop.buyer).move(
                "transfer", shop.new_id(), payee=shop.seller, asset="GBP", amount=30
            )
            assert paid.state == "posted"
            assert (await wallet.balance()).posted == 70
        report = await engine.verify()
        assert report.ok, report.problems


async def test_requests_wait_for_the_next_owner_and_happen_once(database: Database) -> None:
    settings = settings_of(database)
    async with hosted(settings), ClusterEngine.connected(settings) as engine:
        shop = await Shop.opened(engine, funds=100)
        debit, credit = await shop.bare_accounts()
        async with Engine.running(settings_of(database, takeover=True)) as successor:
            ids = [shop.new_id() for _ in range(3)]
            answers = [
                asyncio.create_task(engine.post_legs(bare_legs(id, debit=debit, credit=credit))) for id in ids
            ]
            moved = asyncio.create_task(shop.do(shop.transfer(30)))
            assert (await successor.fence()) > 0
            done, _ = await asyncio.wait((*answers, moved), timeout=SHORT_S)
            assert not done, "its owner was deposed, and the one after it serves nobody by sockets"
        async with hosted(settings), asyncio.timeout(BOUND_S):
            assert [results((await answer).status) for answer in answers] == [["created"]] * 3
            await moved
            assert await shop.balance(shop.seller) == 30
            again = await engine.post_legs(bare_legs(*ids, debit=debit, credit=credit))
            assert results(again.status) == ["exists"] * 3


async def test_status_tells_where_shards_are_and_whether_they_answer(database: Database) -> None:
    settings = settings_of(database)
    assert not (await cluster_report(settings)).serving, "there is no cluster"
    async with hosted(settings) as said:
        async with ClusterEngine.connected(settings):
            pass
        report = await cluster_report(settings)
        assert report.serving
        (shard,) = report.shards
        assert shard.endpoint is not None
        assert shard.health is not None
        assert f"{shard.endpoint.host}:{shard.endpoint.port}" == said[-1].address
        told = await asyncio.to_thread(tessera, "cluster", "status", "--json", "--database-url", database.dsn)
        assert told.returncode == ExitCode.OK, told.stderr
        assert json.loads(told.stdout)["shards"][0]["health"]["status"] == "serving"
    told = await asyncio.to_thread(tessera, "cluster", "status", "--database-url", database.dsn)
    assert told.returncode == ExitCode.FAILED
    assert "away" in told.stdout
    assert said[-1].address in told.stdout


async def test_what_can_not_be_reached_is_named(database: Database) -> None:
    settings = settings_of(database)
    with pytest.raises(DatabaseRefused, match="no cluster uses this database: start one with"):
        await ClusterEngine.connect(settings)
    await cluster.join(database, 1)
    with pytest.raises(ShardStopped, match="PostgreSQL does not say where it is"):
        await ClusterEngine.connect(settings, limit_s=SHORT_S)


def refused(*arguments: str) -> tuple[int, str]:
    """A `tessera serve` that does not start: its exit code and what it says."""
    told = tessera("serve", "--port", "0", *arguments)
    return told.returncode, told.stderr


async def test_another_number_of_shards_is_refused(database: Database) -> None:
    await placement.agreed(database, 3)
    code, said = await asyncio.to_thread(
        refused, "--runtime", "ray", "--shards", "2", "--database-url", database.dsn
    )
    assert code == ExitCode.DATABASE, said
    assert "this database was made for 3 shards, not 2, and that can't be changed: say --shards 3" in said


async def test_whoever_only_joins_a_cluster_agrees_on_its_shards_and_schema(database: Database) -> None:
    where = await placement.agreed(database, 3)
    await cluster.join(database, where.shards)
    joining = ("--runtime", "remote", "--database-url", database.dsn)
    code, said = await asyncio.to_thread(refused, *joining, "--shards", "2")
    assert code == ExitCode.DATABASE, said
    assert "this database was made for 3 shards, not 2" in said

    newest = len(migrations())
    async with database.session("test") as session:
        await session.execute("delete from migration where number = %s", (newest,))
    code, said = await asyncio.to_thread(refused, *joining)
    assert code == ExitCode.DATABASE, said
    assert f"has schema version {newest - 1}, but this Tessera needs version {newest}" in said
    assert "start `tessera serve` of this release" in said
    for command in (("status",), ("stop",), ("move", "0", "--to", "here"), ("drain", "here")):
        told = await asyncio.to_thread(tessera, "cluster", *command, "--database-url", database.dsn)
        assert told.returncode == ExitCode.DATABASE, told.stderr
        assert f"needs version {newest}" in told.stderr


async def test_who_does_not_know_the_token_is_no_part_of_the_cluster(database: Database) -> None:
    settings = settings_of(database)
    async with hosted(settings):
        async with ClusterEngine.connected(settings):
            pass
        async with database.session("test") as session:
            await session.execute("update cluster set token = %s", (bytes(32),))
        with pytest.raises(ShardStopped, match="does not know the token of this cluster"):
            await ClusterEngine.connect(settings, limit_s=SHORT_S)


async def test_a_head_that_is_not_there_is_refused(database: Database) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = await asyncio.to_thread(
            refused, "--runtime", "ray", "--address", address, "--database-url", database.dsn
        )
    assert code == ExitCode.CLUSTER, said
    assert f"Ray can't be reached at {address}" in said
    assert "tessera cluster node --head" in said


def test_options_of_ray_need_ray() -> None:
    code, said = refused("--address", "127.0.0.1:6379")
    assert code == ExitCode.USAGE
    assert "Leave --address out, or say --runtime ray." in said
