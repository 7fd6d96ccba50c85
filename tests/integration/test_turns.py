"""Turns: many messages at once are one after the other, holds that ran out are released, the projection may
be late, and a graceful end leaves a snapshot.
"""

import asyncio
from random import Random
from typing import Any, Final

import msgspec
import pytest

from actors.answers import LegAnswers
from actors.errors import InvalidRequest, NotFound, Overloaded
from actors.messages import (
    CreateAccounts,
    Fence,
    Message,
    PostLegs,
    Preview,
    ReadAccounts,
    SetGuards,
    SubmitMoves,
    SubmitParties,
    SubmitThings,
)
from actors.runtime import Engine
from engine.commands import CreateParty, CreateThing, MoveCommand, UpdateParty
from engine.layout import AMOUNT_MAX, SECOND_NS, LegFlag, account_columns, ids_column, leg_columns
from persistence.database import Database
from persistence.errors import QueryFailed
from persistence.projection import Projector
from persistence.schema import migrate
from tests.faults.proxy import PostgresProxy
from tests.fixtures_engine import (
    BOUND_S,
    Clock,
    Shop,
    bare_legs,
    counted,
    engine_behind,
    results,
    same,
    sent,
    settings_of,
    struck,
    until,
)

MESSAGES: Final = 250


class Mixture:
    """Messages of all kinds about the same few accounts, Moves and Parties; many are wrong, some come
    twice."""

    def __init__(self, shop: Shop, accounts: list[int], seed: int) -> None:
        self.shop = shop
        self.accounts = accounts
        self.random = Random(seed)
        self.commands: list[MoveCommand] = []
        self.legs: list[int] = []
        self.holds: list[int] = []

    def message(self) -> Message:
        """The next one."""
        makers = (self._legs, self._legs, self._moves, self._moves, self._steps, self._guards, self._reads)
        rare = (self._new_accounts, self._parties, self._things, self._preview, Fence)
        make = self.random.choice(makers if self.random.random() < 0.85 else rare)
        return make()

    def _legs(self) -> Message:
        random = self.random
        count = random.randrange(1, 6)
        ids = [
            random.choice(self.legs) if self.legs and random.random() < 0.15 else self.shop.new_id()
            for _ in range(count)
        ]
        self.legs += ids
        flags, pending = [], []
        for id in ids:
            kind = random.random()
            flag, hold = 0, 0
            if kind < 0.25:
                flag = int(LegFlag.PENDING)
                self.holds.append(id)
            elif kind < 0.5 and self.holds:
                flag = int(random.choice((LegFlag.POST_PENDING, LegFlag.VOID_PENDING)))
                hold = random.choice(self.holds)
            elif kind < 0.6:
                flag = int(LegFlag.BALANCING_DEBIT)
            if random.random() < 0.2:
                flag |= int(LegFlag.LINKED)
            elif random.random() < 0.03:
                flag |= int(LegFlag.OF_MOVE)
            flags.append(flag)
            pending.append(hold)
        flags[-1] &= ~int(LegFlag.LINKED) if random.random() < 0.9 else -1
        places = [random.sample(self.accounts, 2) for _ in ids]
        resolving = [hold != 0 for hold in pending]
        return PostLegs(
            leg_columns(
                count,
                id=ids_column(ids),
                debit=ids_column(
                    [0 if r else debit for r, (debit, _) in zip(resolving, places, strict=True)]
                ),
                credit=ids_column(
                    [0 if r else credit for r, (_, credit) in zip(resolving, places, strict=True)]
                ),
                amount=[0 if r else random.randrange(40) for r in resolving],
                asset=[0 if r else 1 for r in resolving],
                code=[0 if r else 1 for r in resolving],
                flags=flags,
                pending_id=ids_column(pending),
            )
        )

    def _moves(self) -> Message:
        random, shop = self.random, self.shop
        commands = []
        for _ in range(random.randrange(1, 5)):
            if self.commands and random.random() < 0.2:
                commands.append(random.choice(self.commands))
                continue
            kind = random.random()
            if kind < 0.5:
                path = random.choice(("post", "hold", "hold+void", "hold"))
                more = {"reference": f"r{random.randrange(9)}"} if random.random() < 0.2 else {}
                commands.append(shop.transfer(random.choice((1, 5, 400_000)), transition=path, **more))
            elif kind < 0.8:
                path = random.choice(("place", "place+capture", "place+capture+fulfil"))
                commands.append(shop.order(path))
            else:
                orders = [c.id for c in self.commands if c.kind == "order"]
                commands.append(shop.refund(random.choice([*orders, shop.new_id()])))
        self.commands += commands
        return SubmitMoves(commands)

    def _steps(self) -> Message:
        random = self.random
        steps = ("post", "void", "capture", "fulfil", "cancel", "succeed")
        moves = [command.id for command in self.commands if not command.move]
        commands = [
            MoveCommand(
                id=self.shop.new_id(),
                move=random.choice([*moves, 77]),
                transition=random.choice(steps),
                if_version=random.choice((0, 0, 0, 1, 2)),
            )
            for _ in range(random.randrange(1, 4))
        ]
        self.commands += commands
        return SubmitMoves(commands)

    def _guards(self) -> Message:
        account = self.random.choice([*self.accounts, 5])
        floor = self.random.choice((0, -50, -AMOUNT_MAX))
        return SetGuards(account, floor, AMOUNT_MAX, if_version=self.random.choice((0, 0, 0, 3)))

    def _reads(self) -> Message:
        wallets = [self.shop.engine.account_id(self.shop.wallet(p), "GBP") for p in self._both()]
        return ReadAccounts(ids_column([*self.random.sample([*self.accounts, 9], 3), *wallets]))

    def _new_accounts(self) -> Message:
        ids = [self.random.choice([*self.accounts, self.shop.new_id()]) for _ in range(3)]
        columns = account_columns(3, id=ids_column(ids), asset=[1, 1, 1], code=[1000, 1000, 1])
        return CreateAccounts(columns, ["", "", ""])

    def _parties(self) -> Message:
        create = CreateParty(id=self.shop.new_id(), kind="org", name="x")
        update = UpdateParty(id=self.shop.buyer, name=f"n{self.random.randrange(3)}")
        return SubmitParties([create, update, create])

    def _things(self) -> Message:
        code = self.random.choice(("MUG", "CUP", "POT", "JUG"))
        return SubmitThings([CreateThing(id=self.shop.new_id(), kind="product", code=code)])

    def _preview(self) -> Message:
        return Preview(self.shop.transfer(3))

    def _both(self) -> tuple[int, int]:
        return self.shop.buyer, self.shop.seller


def essence(answer: Any) -> Any:
    """An answer without its position in the log."""
    match answer:
        case int():
            return "a position"
        case Exception():
            return str(answer)
        case LegAnswers():
            return answer.status.tolist(), answer.timestamp.tolist()
        case list():
            return [essence(item) for item in answer]
        case msgspec.Struct() if hasattr(answer, "lsn"):
            return msgspec.structs.replace(answer, lsn=0)
    return answer


def codes(engine: Engine) -> set[str]:
    """Results that were answered with."""
    samples = [sample for metric in engine.metrics.registry.collect() for sample in metric.samples]
    return {sample.labels["code"] for sample in samples if sample.name == "tessera_results_total"}


@pytest.mark.parametrize("seed", range(3))
async def test_a_turn_of_many_messages_equals_one_message_at_a_time(
    database: Database, empty_database: Database, seed: int
) -> None:
    await migrate(empty_database)
    clock = Clock(stopped=True)
    async with (
        Engine.running(settings_of(database, sweep_interval_ns=0), clock) as together,
        Engine.running(settings_of(empty_database, sweep_interval_ns=0), clock) as apart,
    ):
        made = []
        for engine in (together, apart):
            shop = await Shop.opened(engine, seed, clock=clock)
            mixture = Mixture(shop, await shop.bare_accounts(5), seed)
            made.append([mixture.message() for _ in range(MESSAGES)])
        records = counted(together, "log_records")
        answers = await asyncio.gather(
            *[sent(together, message) for message in made[0]], return_exceptions=True
        )
        assert counted(together, "log_records") == records + 1, "it was one turn"
        for place, (message, answer) in enumerate(zip(made[1], answers, strict=True)):
            try:
                alone = await sent(apart, message)
            except (InvalidRequest, NotFound) as refusal:
                alone = refusal
            assert essence(answer) == essence(alone), (place, message)
        for part in ("ledger", "moves", "directory"):
            same((await together.capture())[1][part], (await apart.capture())[1][part], part)
        assert len(codes(together)) > 15, codes(together)


async def test_holds_that_ran_out_are_released_and_their_moves_expire(database: Database) -> None:
    clock = Clock()
    async with Engine.running(settings_of(database), clock) as engine:
        shop = await Shop.opened(engine, funds=100)
        held = await shop.do(shop.transfer(60, transition="hold", timeout=2))
        lasting = await shop.do(shop.transfer(10, transition="hold", timeout=4))
        one, two = await shop.bare_accounts()
        bare = shop.new_id()
        hold = bare_legs(bare, debit=one, credit=two, flags=[LegFlag.PENDING], timeout=[2])
        assert results((await engine.post_legs(hold)).status) == ["created"]
        wallet = engine.account(shop.wallet(shop.buyer), "GBP")
        assert (await wallet.balance()).available == 30
        clock.ahead_ns += 3 * SECOND_NS
        assert (await wallet.balance()).available == 90
        assert (await engine.account_of_id(one).balance()).held_in == 0
        late = await shop.one(MoveCommand(id=shop.new_id(), move=held.move, transition="post"))
        assert (late.code, late.message) == ("move_ended", late.message)
        assert "expired" in late.message
        post = bare_legs(
            shop.new_id(),
            debit=0,
            credit=0,
            asset=0,
            code=[0],
            flags=[LegFlag.POST_PENDING],
            pending_id=[bare],
        )
        assert results((await engine.post_legs(post)).status) == ["pending_transfer_expired"]
        posted = await shop.do(MoveCommand(id=shop.new_id(), move=lasting.move, transition="post"))
        assert posted.state == "posted"
        await engine.wait_projected()
        (view,) = await engine.queries.moves_by_id([held.move])
        assert view.state == "expired"


async def test_holds_run_out_on_an_idle_shard_too(database: Database) -> None:
    clock = Clock()
    async with Engine.running(settings_of(database), clock) as engine:
        shop = await Shop.opened(engine)
        await shop.do(shop.transfer(1, transition="hold", timeout=2))
        lsn = engine.health().lsn
        clock.ahead_ns += 3 * SECOND_NS
        await until(lambda: engine.health().lsn > lsn)
        assert engine.health().open_moves == 0


async def test_a_graceful_end_leaves_a_snapshot_and_the_next_start_uses_it(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        for _ in range(20):
            await shop.do(shop.order())
        held = await shop.do(shop.transfer(5, transition="hold"))
        lsn, before = await engine.capture()
    async with Engine.running(settings_of(database)) as engine:
        recovery = engine.recovery
        assert (recovery.snapshot_lsn, recovery.records, recovery.rejected) == (lsn, 0, [])
        shop.engine = engine
        _, after = await engine.capture()
        for part in ("ledger", "moves", "directory"):
            same(before[part], after[part], part)
        assert (
            await shop.do(MoveCommand(id=shop.new_id(), move=held.move, transition="post"))
        ).state == "posted"


async def test_a_running_shard_takes_snapshots_of_its_log(database: Database) -> None:
    async with Engine.running(settings_of(database, snapshot_legs=50)) as engine:
        shop = await Shop.opened(engine)
        await engine.submit([shop.order() for _ in range(30)])
        async with database.session("test") as session:

            async def complete() -> int:
                cursor = await session.execute(b"select count(*) from snapshot where complete")
                row = await cursor.fetchone()
                assert row is not None
                return int(row[0])

            async with asyncio.timeout(BOUND_S):
                while not await complete():
                    await shop.do(shop.transfer(1))


# The projection


async def test_a_late_projection_keeps_nobody_from_writing_until_the_bound(database: Database) -> None:
    async with Engine.running(settings_of(database, projection_lag_legs_max=50)) as engine:
        shop = await Shop.opened(engine)
        await engine.wait_projected()
        async with database.session("test") as session, session.transaction():
            await session.execute(b"lock table leg in exclusive mode")
            for _ in range(51):
                await shop.do(shop.transfer(1))
            with pytest.raises(Overloaded, match="the projection is 51 legs behind"):
                await shop.do(shop.transfer(1))
            assert engine.health().projection_lag_legs == 51
        await engine.wait_projected()
        assert engine.health().projection_lag_legs == 0
        await shop.do(shop.transfer(1))
        assert await shop.balance(shop.seller) == 52


async def test_a_projection_that_has_failed_keeps_nobody_from_writing_until_the_bound(
    database: Database,
) -> None:
    async with Engine.running(settings_of(database, projection_lag_legs_max=50)) as engine:
        shop = await Shop.opened(engine)
        await engine.wait_projected()
        async with database.session("test") as session:
            await session.execute(b"alter table leg rename to no_leg")
            failing = await shop.do(shop.transfer(1))
            with pytest.raises(QueryFailed, match="leg"):
                await engine.wait_projected(failing.lsn)
            for _ in range(50):
                await shop.do(shop.transfer(1))
            with pytest.raises(Overloaded, match="the projection is 51 legs behind"):
                await shop.do(shop.transfer(1))
            await session.execute(b"alter table no_leg rename to leg")
    async with Engine.running(settings_of(database)) as engine:
        shop.engine = engine
        await engine.wait_projected()
        assert await shop.balance(shop.seller) == 51


async def test_a_projection_that_is_overtaken_goes_on(database: Database) -> None:
    """As by a writer that was deposed and still projects what it had committed."""
    async with PostgresProxy(database.dsn) as proxy, engine_behind(proxy) as engine:
        shop = await Shop.opened(engine)
        await engine.wait_projected()
        stalled = proxy.stall_at(b"Q", b'copy "leg"')
        answer = await shop.do(shop.transfer(1))
        await struck(stalled)
        other = Projector(database, 0)
        await other.start()
        await other.project(await other.read_back(other.lsn + 1, 1))
        await other.close()
        assert other.lsn == answer.lsn
        proxy.release()
        later = await shop.do(shop.transfer(1))
        await asyncio.wait_for(engine.wait_projected(later.lsn), BOUND_S)
        assert engine.health().projection_lag_legs == 0


async def test_a_full_window_of_ids_waits_for_the_projection(database: Database) -> None:
    bounds = {"ids_per_generation": 8, "generations_max": 3, "mailbox_messages_max": 40}
    async with Engine.running(settings_of(database, **bounds)) as engine:
        shop = await Shop.opened(engine)
        await engine.wait_projected()
        waiting = []
        async with database.session("test") as session, session.transaction():
            await session.execute(b"lock table leg in exclusive mode")
            refusal = None
            while refusal is None:
                try:
                    waiting.append(sent(engine, SubmitMoves([shop.transfer(1) for _ in range(8)])))
                except Overloaded as overloaded:
                    refusal = overloaded
                await asyncio.sleep(0)
            assert "mailbox" in str(refusal)
            assert not all(answer.done() for answer in waiting)
        answers = await asyncio.wait_for(asyncio.gather(*waiting), BOUND_S)
        assert all(answer.accepted for message in answers for answer in message)
        assert await shop.balance(shop.seller) == 8 * len(waiting)


async def full_window(shop: Shop) -> None:
    """More Moves than there are ids in the window."""
    for _ in range(50):
        await shop.engine.submit([shop.transfer(1) for _ in range(8)])


async def test_a_full_window_of_ids_refuses_when_the_projection_has_failed(database: Database) -> None:
    bounds = {"ids_per_generation": 8, "generations_max": 3}
    async with Engine.running(settings_of(database, **bounds)) as engine:
        shop = await Shop.opened(engine)
        await engine.wait_projected()
        async with database.session("test") as session:
            await session.execute(b"alter table leg rename to no_leg")
            with pytest.raises(Overloaded, match="the projection has stopped"):
                await full_window(shop)
            assert engine.health().status == "serving"
            await session.execute(b"alter table no_leg rename to leg")
