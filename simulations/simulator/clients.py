"""Clients: each sends one order after the other, and each order again, as it is, until it is answered."""

import asyncio
import random
from typing import TYPE_CHECKING, Any, ClassVar, Final

from actors.errors import ActorError
from actors.messages import ReadAccounts, SetGuards
from engine.ids import bucket_of_account, bucket_of_id, uuid7
from engine.layout import AMOUNT_MAX, CEILING_UNSET, LegFlag, ids_column
from engine.results import Result
from simulations.simulator.books import BALANCING_DEBIT, KEEP_OPEN, LINKED, PENDING, POST, VOID
from simulations.simulator.orders import Order, Spec

if TYPE_CHECKING:
    from simulations.simulator.world import Account, World

KEPT_MAX: Final = 60
"""Orders and holds that a client remembers."""
COMMANDS: Final = ("transfer", "chain", "hold", "resolve", "close", "again", "otherwise", "guards", "read")
_WEIGHTS: Final = (8, 3, 5, 6, 1, 3, 1, 1, 3)


class Client:
    """One of them. `ask` is for everybody who has something to send."""

    commands: ClassVar[tuple[str, ...]] = COMMANDS
    weights: ClassVar[tuple[int, ...]] = _WEIGHTS

    def __init__(self, world: "World", number: int, name: str = "") -> None:
        self._world = world
        self._rng = random.Random(f"{world.plan.seed}/{name or f'client {number}'}")
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._orders: list[Order] = []  # that were answered
        self._holds: list[Spec] = []  # that were created
        self._patience_s = self._rng.choice((0.1, 0.5, 2.0))
        self._pause_s = self._rng.choice((0.002, 0.01, 0.05))
        # Every run has its own mixture, and does without some sorts: so each is now and then among few.
        mixture = random.Random(f"{world.plan.seed}/mixture of {self.commands[0]}")
        factors = [1, *mixture.choices((0, 1, 1, 4), k=len(self.commands) - 1)]
        self._commands = [
            (name, weight * factor)
            for name, weight, factor in zip(self.commands, self.weights, factors, strict=True)
            if name not in world.plan.without
        ]

    async def live(self) -> None:
        """Send orders until faults are over."""
        world, rng = self._world, self._rng
        names, weights = zip(*self._commands, strict=True)
        while any(weights) and not world.faults.calm:
            order = self._draw(rng.choices(names, weights)[0])
            if order is not None:
                await self.ask(order)
            await asyncio.sleep(rng.expovariate(1 / self._pause_s))

    async def ask(self, order: Order) -> None:
        """Send an order until it is answered."""
        loop, rng = asyncio.get_running_loop(), self._rng
        self._world.auditor.sent(order)
        while True:
            order.sendings += 1
            answer = self._answers[order.number] = loop.create_future()
            self._world.network.send(self, order)
            try:
                async with asyncio.timeout(self._patience_s * (0.5 + rng.random())):
                    given = await answer
            except TimeoutError:
                continue
            if isinstance(given, ActorError):
                await asyncio.sleep(0.02 + 0.2 * rng.random())
                continue
            break
        del self._answers[order.number]
        self._remember(order, given)

    def hear(self, order: Order, answer: Any) -> None:
        """An answer comes, perhaps not the first."""
        waiting = self._answers.get(order.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _remember(self, order: Order, answer: Any) -> None:
        order.answer = answer
        if not order.legs:
            return
        rng = self._rng
        self._orders.append(order)
        for spec, code in zip(order.legs, answer.status.tolist(), strict=True):
            if code in (Result.CREATED, Result.EXISTS) and spec.flags & PENDING:
                self._holds.append(spec)
        for kept in (self._orders, self._holds):
            if len(kept) > KEPT_MAX:
                kept.pop(rng.randrange(KEPT_MAX))

    # What to send

    def _draw(self, command: str) -> Order | None:
        match command:
            case "again":
                return self._again()
            case "guards":
                return self._guards()
            case "read":
                return self._read()
        legs = getattr(self, f"_{command}")()
        return self._world.order(legs) if legs else None

    def _transfer(self) -> list[Spec]:
        first = self._leg(0)
        more = self._rng.choice((0, 0, 0, 1, 3))
        return [first, *(self._leg(0, first.debit) for _ in range(more))]

    def _chain(self) -> list[Spec]:
        legs = [self._leg(0) for _ in range(self._rng.choice((2, 2, 3, 4)))]
        return [spec._replace(flags=spec.flags | LINKED) for spec in legs[:-1]] + legs[-1:]

    def _hold(self) -> list[Spec]:
        return [self._leg(PENDING)._replace(timeout=self._rng.choice((0, 1, 1, 2, 4)))]

    def _close(self) -> list[Spec]:
        spec = self._leg(PENDING | int(LegFlag.CLOSING_DEBIT))
        return [spec._replace(amount=0, timeout=self._rng.choice((1, 1, 2)))]

    def _resolve(self) -> list[Spec]:
        if not self._holds:
            return []
        rng = self._rng
        hold = rng.choice(self._holds[-8:])
        if rng.random() < 0.35:
            flags, amount = VOID, rng.choice((0, 0, hold.amount))
        else:
            flags = POST if rng.random() < 0.6 else POST | KEEP_OPEN
            amount = rng.choice((AMOUNT_MAX, hold.amount, hold.amount // 2, hold.amount // 3))
        id = self._world.leg_id(rng, bucket_of_id(hold.id))
        return [Spec(id, 0, 0, amount, 0, int(flags), hold.id)]

    def _otherwise(self) -> list[Spec]:
        """An id that was used before, with another amount."""
        alone = [order for order in self._orders if len(order.legs) == 1 and not order.legs[0].pending_id]
        if not alone:
            return []
        spec = self._rng.choice(alone).legs[0]
        return [spec._replace(amount=spec.amount + 1)]

    def _leg(self, flags: int, near: int | None = None) -> Spec:
        """Any leg; with `near`, one whose debit account is on the shard of that one."""
        rng, world = self._rng, self._world
        debit, credit = world.two_accounts(rng, near)
        if not flags and rng.random() < 0.1:
            flags = BALANCING_DEBIT
        amount = rng.choice((0, 1, 5, 10, 40, 100)) if rng.random() < 0.9 else 100_000
        return Spec(
            world.leg_id(rng, bucket_of_account(debit.id)), debit.id, credit.id, amount, debit.asset, flags
        )

    def _again(self) -> Order | None:
        if not self._orders:
            return None
        before = self._rng.choice(self._orders)
        return self._world.order(before.legs)

    def _guards(self) -> Order:
        rng, world = self._rng, self._world
        account: Account = rng.choice(world.guarded)
        floor = rng.choice((0, 0, -50, 30))
        request = world.leg_id(rng, bucket_of_account(account.id))
        return world.order_to(account.id, SetGuards(account.id, floor, CEILING_UNSET, 0, request))

    def _read(self) -> Order:
        rng, world = self._rng, self._world
        account = rng.choice(world.accounts).id
        order = world.order_to(account, ReadAccounts(ids_column([account])))
        order.known = world.auditor.reading([account])
        return order


def fresh_id(rng: random.Random, milliseconds: int, bucket: int) -> int:
    """An id that was never used."""
    return uuid7(milliseconds, bucket, rng.getrandbits(62))
