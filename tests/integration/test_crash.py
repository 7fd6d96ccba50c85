"""kill -9 under load, of the engine and of PostgreSQL: what was acknowledged is there, once and whole."""

import asyncio
import random
import signal
from collections import Counter
from random import Random
from typing import Any, Final
from uuid import UUID

from actors.runtime import Engine
from persistence.database import Database
from tests.crash_load import FUNDS, Load
from tests.faults.served import Nursery
from tests.fixtures_engine import BOUND_S, Shop, settings_of

KILLS: Final = 20
SAMPLE: Final = 40
"""How many acknowledged requests are sent again after each kill."""


async def rows(database: Database, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    async with database.session("test") as session:
        return await (await session.execute(query.encode(), parameters or None)).fetchall()


async def prepared(database: Database) -> tuple[Shop, list[int]]:
    """Parties with money, Things, and accounts for bare legs."""
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine, funds=FUNDS)
        return shop, await shop.bare_accounts(4)


async def test_kill_the_engine_at_random_moments(database: Database) -> None:
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = Random(seed)
    shop, accounts = await prepared(database)
    load = Load(chance, shop.buyer, shop.seller, accounts)
    async with Nursery.opened(database.dsn, TESSERA_SNAPSHOT_LEGS="700") as nursery:
        for kill in range(KILLS):
            await nursery.serve()
            assert nursery.epoch == kill + 2
            await load.send_again(nursery.url, load.unacknowledged)
            known = load.acknowledged
            await load.send_again(nursery.url, chance.sample(known, min(SAMPLE, len(known))))
            clients = await load.run_until(nursery.url, chance.randrange(1, 200))
            assert await nursery.end(signal.SIGKILL) == -signal.SIGKILL
            await asyncio.wait_for(clients, BOUND_S)
        assert any(request.answer is None for request in load.requests[-100:]), "it was killed under load"
        await nursery.serve()
        await load.send_again(nursery.url, load.unacknowledged)
        assert not load.unacknowledged
        await load.send_again(nursery.url, load.requests)
        assert await nursery.end(signal.SIGTERM) == 0
    await prove(database, load, shop)


async def prove(database: Database, load: Load, shop: Shop) -> None:
    """Everything that was sent is there, once and whole, and the books are in order."""
    async with Engine.running(settings_of(database)) as engine:
        shop.engine = engine
        assert await shop.balance(shop.seller) == load.expected_income()
        report = await engine.verify()
        assert report.ok, report.problems
    counts = Counter(request.kind for request in load.requests)
    assert len(counts) == 6, counts
    moves = {
        UUID(request.answer["id"]): request
        for request in load.requests
        if request.kind in ("transfer", "order", "hold") and request.answer is not None
    }
    found = await rows(database, "select id from move where seq = 0 and kind <> 'opening'")
    assert sorted(id for (id,) in found) == sorted(moves), (
        "none is missing, and none is there that was not sent"
    )
    half = await rows(
        database,
        """
        select m.id, m.seq, m.leg_count, count(l.id)
        from move m
        left join leg l on l.user_data_128 = m.id and l.user_data_32 is not distinct from nullif(m.seq, 0)
                           and l.flags & 32768 <> 0
        group by m.id, m.seq, m.leg_count
        having count(l.id) <> m.leg_count
        """,
    )
    assert half == [], "no Move is half there"
    legs = [[UUID(leg["id"]) for leg in request.body] for request in load.requests if request.kind == "chain"]
    wanted = [id for chain in legs for id in chain]
    ((there,),) = await rows(database, "select count(*) from leg where id = any(%s)", wanted)
    assert there == len(wanted), "no chain is half there"
