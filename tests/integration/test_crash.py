"""kill -9 under load, of the engine and of PostgreSQL: what was acknowledged is there, once and whole."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final
from uuid import UUID

import pytest

from actors.errors import Overloaded
from actors.runtime import Engine
from actors.settings import Settings
from engine.commands import MoveCommand
from persistence.database import Database, DatabaseSettings
from persistence.embedded import EmbeddedServer
from tests.crash_load import FUNDS, Load
from tests.faults.served import Nursery
from tests.fixtures_engine import BOUND_S, Shop, bare_legs, results, settings_of

KILLS: Final = 20
RECOVERY_S: Final = 60
"""How long PostgreSQL may need to come back, on a machine with much to do."""
SAMPLE: Final = 40
"""How many acknowledged requests are sent again after each kill."""


async def rows(database: Database, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    async with database.session("test") as session:
        return await (await session.execute(query.encode(), parameters or None)).fetchall()


async def prepared(database: Database, shards: int = 1) -> tuple[Shop, list[int]]:
    """Parties with money, Things, and accounts for bare legs."""
    async with Engine.running(settings_of(database, shards=shards)) as engine:
        shop = await Shop.opened(engine, funds=FUNDS)
        return shop, await shop.bare_accounts(4)


@pytest.mark.parametrize(("shards", "kills"), [(1, KILLS), (3, KILLS // 2)])
async def test_kill_the_engine_at_random_moments(database: Database, shards: int, kills: int) -> None:
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = Random(seed)
    shop, accounts = await prepared(database, shards)
    load = Load(chance, shop.buyer, shop.seller, accounts)
    bounds = {"TESSERA_SNAPSHOT_LEGS": "700", "TESSERA_IDS_PER_GENERATION": "512"}
    async with Nursery.opened(database.dsn, **bounds) as nursery:
        for kill in range(kills):
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
        await load.send_again(nursery.url, chance.sample(load.requests, 10 * SAMPLE))
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
                           and l.flags & 32768 <> 0 and l.flags & 2048 = 0  -- once, where it is at home
        group by m.id, m.seq, m.leg_count
        having count(l.id) <> m.leg_count
        """,
    )
    assert half == [], "no Move is half there"
    legs = [[UUID(leg["id"]) for leg in request.body] for request in load.requests if request.kind == "chain"]
    wanted = [id for chain in legs for id in chain]
    ((there,),) = await rows(database, "select count(*) from leg where id = any(%s)", wanted)
    assert there == len(wanted), "no chain is half there"


class Writers:
    """Clients beside the engine that send Moves and chains until they are told to stop; refused ones try
    again when somebody else was answered."""

    def __init__(self, shop: Shop, accounts: list[int], ahead_ms: int) -> None:
        self.shop = shop
        self._ahead_ms = ahead_ms  # of the ids
        self.accounts = accounts
        self.answered: dict[int, MoveCommand] = {}
        self.chains: list[list[int]] = []
        self.income = 0
        self.refused = 0  # how often the engine was too busy, or had no log
        self._stopping = False
        self._answered = asyncio.Condition()

    async def after(self, answers: int) -> None:
        """Wait until so many more have been answered."""
        goal = len(self.answered) + answers
        async with asyncio.timeout(RECOVERY_S), self._answered:
            await self._answered.wait_for(lambda: len(self.answered) >= goal)

    async def write(self) -> None:
        """One client."""
        number = 0
        while not self._stopping:
            number += 1
            if number % 5 == 0:
                await self._chain()
            else:
                order = number % 7 == 0
                id = self._id()
                command = self.shop.order(id=id) if order else self.shop.transfer(1, id=id)
                (answer,) = await self._insist(self.shop.engine.submit, [command])
                assert answer.accepted, answer
                self.answered[command.id] = command
                self.income += not order
            async with self._answered:
                self._answered.notify_all()

    async def _chain(self) -> None:
        ids = [self._id() for _ in range(3)]
        debit, credit = self.accounts
        legs = bare_legs(*ids, debit=debit, credit=credit, flags=[1, 1, 0])
        answer = await self._insist(self.shop.engine.post_legs, legs)
        assert results(answer.status) == ["created"] * 3
        self.chains.append(ids)

    def _id(self) -> int:
        return self.shop.new_id(time.time_ns() // 1_000_000 + self._ahead_ms)

    async def _insist(self, ask: Callable[[Any], Awaitable[Any]], what: Any) -> Any:
        while True:
            try:
                return await ask(what)
            except Overloaded:
                self.refused += 1
                async with self._answered:
                    await self._answered.wait()

    async def stop(self) -> None:
        """Let everyone finish what they are at."""
        self._stopping = True
        async with self._answered:
            self._answered.notify_all()


@pytest.mark.parametrize(
    ("victims", "ahead_ms", "bounds"),
    [
        (("postmaster", "writer", "postmaster", "projection", "postmaster"), 0, {}),
        (("lookups", "postmaster"), 100_000, {"ids_per_generation": 32}),
    ],
    ids=["ids of now", "ids that are looked up"],
)
async def test_kill_postgresql_under_load(
    own_server: EmbeddedServer, victims: list[str], ahead_ms: int, bounds: dict[str, int]
) -> None:
    """The postmaster, and backends: the log's, the projection's, the one that a turn waits for."""
    async with Engine.running(
        Settings.from_environment({}, data_dir=own_server.data_dir, **bounds)
    ) as engine:
        shop = await Shop.opened(engine, funds=FUNDS)
        writers = Writers(shop, await shop.bare_accounts(), ahead_ms)
        async with asyncio.TaskGroup() as clients:
            for _ in range(8):
                clients.create_task(writers.write())
            for victim in victims:
                await writers.after(random.randrange(20, 120))
                await asyncio.wait_for(engine.wait_projected(), RECOVERY_S)
                os.kill(await pid_of(own_server, victim), signal.SIGKILL)
                await writers.after(60)
            await writers.stop()
        assert engine.health().epoch == 1, "the engine went on by itself"
        await engine.wait_projected()
        for command in writers.answered.values():
            assert (await shop.one(command)).replayed
        assert await shop.balance(shop.seller) == writers.income
        wanted = [UUID(int=id) for chain in writers.chains for id in chain]
        database = Database(DatabaseSettings(url=own_server.dsn))
        ((there,),) = await rows(database, "select count(*) from leg where id = any(%s)", wanted)
        assert there == len(wanted)
        moves = await rows(database, "select count(*) from move where kind <> 'opening'")
        assert moves == [(len(writers.answered),)]
        report = await engine.verify()
        assert report.ok, report.problems


async def pid_of(server: EmbeddedServer, victim: str) -> int:
    """A process of PostgreSQL."""
    if victim == "postmaster":
        assert server.pid is not None
        return server.pid
    database = Database(DatabaseSettings(url=server.dsn))
    query = "select pid from pg_stat_activity where application_name like %s and datname = current_database()"
    pattern = "tessera tessera/0 " + ("%:%" if victim == "writer" else victim)
    found = await rows(database, query, pattern)
    return int(found[0][0])
