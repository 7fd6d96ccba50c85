"""Whatever is not foreseen stops the shard: it answers nothing more, and nothing that it had answered is
lost.
"""

import asyncio

import numpy as np
import pytest

from actors.errors import ShardStopped
from actors.messages import Fence, PostLegs, SubmitMoves
from actors.runtime import Engine
from engine.layout import LegColumns
from persistence.database import Database
from tests.faults.proxy import PostgresProxy
from tests.fixtures_engine import BOUND_S, RECORD, Shop, bare_legs, sent, settings_of, struck, taken


def torn_legs() -> LegColumns:
    """Columns that no checked way into the engine lets through: a bug above it."""
    return bare_legs(1, debit=2, credit=3)._replace(amount=np.zeros(2, np.int64))


async def test_an_unexpected_error_stops_the_shard_and_whoever_waits_is_told(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        engine = await Engine.open(settings_of(proxy, turn_weight_min=0))
        shop = await Shop.opened(engine)
        stalled = proxy.stall_at(b"B", RECORD)
        undecided = shop.transfer(5)
        waiting = [sent(engine, SubmitMoves([undecided]))]
        await struck(stalled)
        waiting.append(sent(engine, Fence()))
        await taken(engine)
        waiting.append(sent(engine, PostLegs(torn_legs())))
        waiting.append(sent(engine, SubmitMoves([shop.transfer(6)])))
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), BOUND_S)
        assert [type(outcome) for outcome in outcomes] == [ShardStopped] * 4, outcomes
        reason = await asyncio.wait_for(engine.ended(), BOUND_S)
        assert "has 2 rows, expected 3" in reason
        assert (engine.health().status, engine.health().reason) == ("stopped", reason)
        with pytest.raises(ShardStopped, match="expected 3"):
            await shop.one(shop.transfer(7))
        with pytest.raises(ShardStopped):
            await engine.fence()
        proxy.release()
        await asyncio.wait_for(engine.close(), BOUND_S)
    async with Engine.running(settings_of(database)) as successor:
        assert successor.recovery.snapshot_lsn == 0, "a shard that has stopped leaves no snapshot"
        shop.engine = successor
        assert (await shop.one(undecided)).accepted
        assert await shop.balance(shop.seller) == 5


async def test_waiting_for_the_projection_ends_when_the_shard_does(database: Database) -> None:
    engine = await Engine.open(settings_of(database))
    async with database.session("test") as session:
        await session.execute(b"begin")
        await session.execute(b"lock table leg in exclusive mode")
        shop = await Shop.opened(engine)
        answer = await shop.do(shop.transfer(1))
        waiting = asyncio.create_task(engine.wait_projected(answer.lsn))
        with pytest.raises(ShardStopped):
            await sent(engine, PostLegs(torn_legs()))
        await asyncio.wait_for(engine.close(), BOUND_S)
        with pytest.raises(ShardStopped):
            await asyncio.wait_for(waiting, BOUND_S)
