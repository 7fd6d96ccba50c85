"""How many shards a database has: said once, and kept."""

import asyncio

import pytest

from actors.runtime import Engine
from persistence.database import Database
from persistence.errors import DatabaseRefused
from persistence.placement import agreed, known
from tests.fixtures_engine import settings_of


async def test_the_first_to_come_decides_and_everybody_else_agrees(database: Database) -> None:
    assert (await known(database)).shards == 1
    agreements = await asyncio.gather(*[agreed(database, 3) for _ in range(5)])
    assert {placement.shards for placement in agreements} == {3}
    assert (await agreed(database)).shards == 3
    assert (await known(database)).shard_of_bucket.tolist() == agreements[0].shard_of_bucket.tolist()


async def test_another_number_is_refused_with_what_to_say(database: Database) -> None:
    async with Engine.running(settings_of(database, shards=2)):
        pass
    with pytest.raises(DatabaseRefused, match="made for 2 shards, not 4") as refused:
        await Engine.open(settings_of(database, shards=4))
    assert "say --shards 2 or nothing" in str(refused.value)
    async with Engine.running(settings_of(database)) as engine:
        assert len(engine.log_ends()) == 2


async def test_a_database_from_before_has_one_shard(database: Database) -> None:
    async with Engine.running(settings_of(database)):
        pass
    async with database.session("test") as session:
        await session.execute(b"delete from placement")
    with pytest.raises(DatabaseRefused, match="made for 1 shards, not 2"):
        await agreed(database, 2)
    assert (await agreed(database)).shards == 1
