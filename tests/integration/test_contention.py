"""A thousand buyers at once for the last of something: exactly as many get it as there is, everybody else is
told why not, and nothing stays held. On one shard, and on four, where buyers and what they want live apart.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.runtime import AccountDraft, Engine
from engine.commands import CreateParty, CreateThing, Lines, MoveAnswer, MoveCommand
from engine.ids import bucket_of_id, bucket_of_party, format_id
from engine.layout import SECOND_NS
from persistence.database import Database
from tests.fixtures_engine import BOUND_S, Clock, Ids, settings_of

BUYERS = 1_000


class Crowd:
    """Many buyers before one merchant."""

    def __init__(self, engine: Engine, seed: int, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self.new_id = Ids(seed, clock)
        self.merchant = self.new_id()
        self.buyers = [self.new_id() for _ in range(BUYERS)]

    @classmethod
    async def gathered(cls, engine: Engine, seed: int, clock: Clock) -> "Crowd":
        crowd = cls(engine, seed, clock)
        parties = [CreateParty(id=party, kind="person") for party in (crowd.merchant, *crowd.buyers)]
        assert all(answer.accepted for answer in await engine.create_parties(parties))
        things = [("EUR", "asset"), ("USE", "asset"), ("SKU", "product")]
        made = [CreateThing(id=crowd.new_id(), kind=kind, code=code) for code, kind in things]
        assert all(answer.accepted for answer in await engine.create_things(made))
        return crowd

    def command(self, kind: str, transition: str, payer: int = 0, **more: Any) -> MoveCommand:
        payer = payer or self.merchant
        id = self.new_id(bucket=bucket_of_party(self.engine.settings.tenant, payer))
        return MoveCommand(id=id, kind=kind, transition=transition, payer=payer, asset="EUR", **more)

    async def do(self, command: MoveCommand) -> MoveAnswer:
        [answer] = await self.engine.submit([command])
        assert answer.accepted, answer
        return answer

    async def all_at_once(self, commands: list[MoveCommand]) -> tuple[list[MoveAnswer], Counter[str]]:
        """Every command as a request of its own; who was accepted, and how many times which answer."""
        found = await asyncio.gather(*[self.engine.submit([command]) for command in commands])
        answers = [answer for [answer] in found]
        while again := [at for at, answer in enumerate(answers) if answer.code == "shard_unavailable"]:
            retried = await asyncio.gather(*[self.engine.submit([commands[at]]) for at in again])
            for at, [answer] in zip(again, retried, strict=True):
                answers[at] = answer
        return [answer for answer in answers if answer.accepted], Counter(item.code for item in answers)

    async def balance(self, key: str, asset: str = "EUR") -> int:
        (found,) = await self.engine.read_accounts([self.engine.account(key, asset).id])
        if found is None:
            return 0
        return (await self.engine.account(key, asset).balance()).posted

    async def stocked(self, units: int) -> str:
        """The key of a lot that has so many units."""
        lines = Lines(things=["SKU"], quantities=[units], columns={"lot": ["last"], "cost": [300]})
        await self.do(self.command("goods_receipt", "", payee=self.buyers[0], lines=lines))
        return f"I:avail/{format_id(self.merchant)}#last"

    def one_unit(self, amounts: bool = False) -> Lines:
        columns: dict[str, list[int | str]] = {"lot": ["last"], "cost": [300]}
        return Lines(things=["SKU"], quantities=[1], amounts=[1_000] * amounts, columns=columns)

    async def card(self, value: int) -> int:
        return (await self.do(self.command("gift_card", "issue", amount=value))).move

    async def campaign(self, budget: int, uses: int) -> int:
        inputs: dict[str, int | str] = {"code": "LAST", "uses": uses}
        return (await self.do(self.command("campaign", "fund_budget", amount=budget, inputs=inputs))).move


@asynccontextmanager
async def crowd_at(database: Database, shards: int) -> AsyncIterator[Crowd]:
    """A crowd, and at the end the proof that the books are right."""
    clock = Clock()
    settings = settings_of(database, shards=shards, sweep_interval_ns=0)
    async with Engine.running(settings, clock) as engine:
        crowd = await Crowd.gathered(engine, shards, clock)
        yield crowd
        report = await engine.verify()
        assert report.ok, report.problems


@pytest.mark.parametrize("shards", [1, 4])
async def test_as_many_succeed_as_fit(database: Database, shards: int) -> None:
    async with crowd_at(database, shards) as crowd:
        await last_units(crowd)
        await last_coupon(crowd)
        await rest_of_a_gift_card(crowd)
        await credit_limit(crowd)


async def last_units(crowd: Crowd) -> None:
    lot = await crowd.stocked(10)
    orders = [
        crowd.command("stock_order", "reserve", buyer, payee=crowd.merchant, lines=crowd.one_unit())
        for buyer in crowd.buyers
    ]
    accepted, codes = await crowd.all_at_once(orders)
    assert codes == {"": 10, "above_ceiling": BUYERS - 10}
    assert await crowd.balance(lot, "SKU") == 0
    held = [await crowd.balance(f"I:reserved/{format_id(one.id)}#last", "SKU") for one in orders]
    assert sum(held) == 10
    refused = next(answer for answer in (await crowd.engine.submit(orders)) if answer.code)
    assert refused.message.endswith(f"{lot} has too little")
    for answer in accepted:
        id = crowd.new_id(bucket=bucket_of_id(answer.move))
        await crowd.do(MoveCommand(id=id, move=answer.move, transition="release"))
    assert await crowd.balance(lot, "SKU") == 10


async def last_coupon(crowd: Crowd) -> None:
    campaign = await crowd.campaign(1_000_000, uses=1)
    uses = [
        crowd.command(
            "promotion_use", "hold", buyer, amount=500,
            inputs={"campaign": format_id(campaign), "order": format_id(crowd.new_id()), "code": "LAST"},
        )
        for buyer in crowd.buyers
    ]  # fmt: skip
    accepted, codes = await crowd.all_at_once(uses)
    assert codes == {"": 1, "above_ceiling": BUYERS - 1}
    assert len(accepted) == 1
    assert await crowd.balance("I:coupon/LAST", "USE") == 0
    assert await crowd.balance(f"M:budget/{format_id(campaign)}") == 1_000_000 - 500


async def rest_of_a_gift_card(crowd: Crowd) -> None:
    card = await crowd.card(1_000)
    spending = [
        crowd.command(
            "gift_card_redemption", "hold", buyer, amount=30,
            inputs={"card": format_id(card), "order": format_id(crowd.new_id())},
        )
        for buyer in crowd.buyers
    ]  # fmt: skip
    _, codes = await crowd.all_at_once(spending)
    assert codes == {"": 33, "below_floor": BUYERS - 33}
    assert await crowd.balance(f"L:giftcard/{format_id(card)}") == 10


async def credit_limit(crowd: Crowd) -> None:
    buyer = crowd.buyers[0]
    exposure = f"M:credit/{format_id(buyer)}"
    await crowd.engine.open_accounts([AccountDraft(key=exposure, asset="EUR", floor=-10_000)])
    lines = Lines(things=["SKU"], quantities=[1], amounts=[700])
    orders = [crowd.command("net_terms_order", "credit_hold", buyer, lines=lines) for _ in crowd.buyers]
    _, codes = await crowd.all_at_once(orders)
    assert codes == {"": 14, "below_floor": BUYERS - 14}
    assert await crowd.balance(exposure) == 9_800


@pytest.mark.parametrize("shards", [1, 4])
async def test_a_checkout_holds_all_or_nothing_and_lets_go_in_time(database: Database, shards: int) -> None:
    """Units are plenty, coupons are enough for seven, and nobody keeps a part of what they could not have."""
    async with crowd_at(database, shards) as crowd:
        lot = await crowd.stocked(500)
        card, campaign = await crowd.card(100_000), await crowd.campaign(1_000_000, uses=7)
        held = {"gift_card": 50, "discount": 200, "coupons": 1, "code": "LAST"}
        roles = {"card": format_id(card), "campaign": format_id(campaign)}
        checkouts = [
            crowd.command(
                "checkout", "hold", buyer, payee=crowd.merchant, lines=crowd.one_unit(amounts=True),
                inputs=held | roles, timeout=60,
            )
            for buyer in crowd.buyers
        ]  # fmt: skip
        accepted, codes = await crowd.all_at_once(checkouts)
        assert codes == {"": 7, "above_ceiling": BUYERS - 7}
        assert await crowd.balance(lot, "SKU") == 493
        assert await crowd.balance(f"L:giftcard/{format_id(card)}") == 100_000 - 7 * 50
        assert await crowd.balance(f"M:budget/{format_id(campaign)}") == 1_000_000 - 7 * 200
        completed = accepted[0].move
        id = crowd.new_id(bucket=bucket_of_id(completed))
        done = await crowd.do(MoveCommand(id=id, move=completed, transition="complete"))
        assert done.ended
        assert await crowd.balance(f"L:order/{format_id(completed)}") == 0
        crowd.clock.ahead_ns += 61 * SECOND_NS
        budget, left = f"M:budget/{format_id(campaign)}", f"L:giftcard/{format_id(card)}"
        there = {
            ("I:coupon/LAST", "USE"): 6,
            (lot, "SKU"): 499,
            (left, "EUR"): 99_950,
            (budget, "EUR"): 999_800,
        }
        async with asyncio.timeout(BOUND_S):
            while {where: await crowd.balance(*where) for where in there} != there:
                pass
        await crowd.engine.wait_projected()
        found = await crowd.engine.queries.moves_by_id([answer.move for answer in accepted[1:]])
        assert {(move.state, move.seq, move.ended) for move in found} == {("expired", 1, True)}


async def test_time_runs_on_while_nobody_serves(database: Database) -> None:
    """A deadline is in the log: it is met by whoever serves then, once."""
    clock = Clock()
    settings = settings_of(database, sweep_interval_ns=0)
    async with Engine.running(settings) as engine:
        crowd = await Crowd.gathered(engine, 1, clock)
        lot = await crowd.stocked(2)
        reserved = [
            await crowd.do(
                crowd.command(
                    "stock_order", "reserve", crowd.buyers[0], payee=crowd.merchant,
                    lines=crowd.one_unit(), timeout=timeout,
                )
            )
            for timeout in (1, 300)
        ]  # fmt: skip
    ids = [answer.move for answer in reserved]
    for _ in range(2):
        async with Engine.running(settings) as engine:
            crowd.engine = engine
            async with asyncio.timeout(BOUND_S):
                while await crowd.balance(lot, "SKU") != 1:
                    pass
            await engine.wait_projected()
            first, second = await engine.queries.moves_by_id(ids)
            assert (first.state, first.seq, second.state) == ("expired", 1, "reserved")
            assert (await engine.verify()).ok
    id = crowd.new_id(bucket=0)
    async with Engine.running(settings) as engine:
        [late] = await engine.submit([MoveCommand(id=id, move=ids[0], transition="allocate")])
        assert late.code == "move_ended"
        [own] = await engine.submit([MoveCommand(id=crowd.new_id(), move=ids[1], transition="expire")])
        assert own.code == "move_state_differs", "it is the engine's to take"
