"""A rich life of an engine in a few seconds: everything that can get into a log gets into this one.

Bare legs come from the workload that the kernel is tested with (holds, chains, imports, roll-ups, closings,
burnt ids), Moves of every kind walk through their states, Parties, Things and guards change, holds run out,
and the window of ids is so small that it turns all the time. The clock stands still but for what the life
adds to it, less than 5 s in all, so that the engine can be opened again afterwards.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from actors.errors import InvalidRequest, NotFound
from actors.messages import Claim, CreateAccounts, Message, PostLegs, SetGuards, SubmitMoves, SubmitParties
from actors.runtime import Engine
from actors.settings import Settings
from engine.commands import (
    CreateParty,
    JournalEntries,
    JournalLegs,
    Lines,
    MoveCommand,
    UpdateParty,
)
from engine.entities import Side
from engine.ids import format_id, id_of_text
from engine.layout import (
    ACCOUNT_COLUMN_SPEC,
    LEG_COLUMN_SPEC,
    LEG_FLAGS_OF_CLIENTS,
    SECOND_NS,
    AccountColumns,
    LegColumns,
    account_columns,
    ids_column,
    leg_columns,
)
from engine.ledger import LedgerConfig
from engine.reference import Account, Leg, ReferenceLedger
from engine.shard_state import ShardState
from persistence.database import Database
from tests.contract.leg_workload import Profile, Workload
from tests.fixtures_engine import BOUND_S, Clock, Shop, sent, settings_of

BOUNDS: Final[dict[str, int]] = {
    "ids_per_generation": 64,
    "generations_max": 4,
    "sweep_interval_ns": 0,
}
DRIFT_NS: Final = 4 * SECOND_NS
"""How much the clock is moved in all: less than an engine's clock and PostgreSQL's may differ."""
STEPS: Final = {
    "order": ("capture", "fulfil", "cancel", "capture+fulfil"),
    "transfer": ("post", "void", "post"),
    "refund": ("succeed", "to_credit"),
}


def living(database: Database, **bounds: Any) -> Settings:
    """Settings for an engine that is to have such a life."""
    return settings_of(database, **(BOUNDS | bounds))


def empty_state() -> ShardState:
    """What recovery starts from; its secret is another one each time, which must not matter."""
    config = LedgerConfig(
        ids_per_generation=BOUNDS["ids_per_generation"],
        generations_max=BOUNDS["generations_max"],
        hash_seed=Random().getrandbits(63),
    )
    return ShardState("default", config)


class Life:
    """Drives one engine, whose clock is `clock`."""

    def __init__(self, shop: Shop, clock: Clock, seed: int) -> None:
        self.engine = shop.engine
        self.shop = shop
        self.clock = clock
        self.random = Random(seed)
        self.reference = ReferenceLedger()  # only to aim with
        profile = Profile(start=clock(), large_amounts=0.0, moves=0.0, opens=0.0, imports=0.15)
        self.workload = Workload(self.random, self.reference, profile)
        self._end_ns = clock() + DRIFT_NS
        self._commands: list[MoveCommand] = []
        self._parties = [shop.buyer, shop.seller]
        self._requests: list[int] = []

    @classmethod
    async def begun(cls, engine: Engine, clock: Clock, seed: int) -> "Life":
        """A life that has accounts, Parties and Things to start with."""
        shop = await Shop.opened(engine, seed, clock=clock)
        life = cls(shop, clock, seed)
        await life._create_accounts(life.workload.first_accounts())
        return life

    async def go_on(self, turns: int) -> None:
        """Some turns, each of several messages."""
        for number in range(turns):
            self._let_time_pass()
            messages = [message for _ in range(self.random.randrange(1, 5)) for message in self._messages()]
            answers = [sent(self.engine, message) for message in messages]
            for answer in await asyncio.gather(*answers, return_exceptions=True):
                assert not isinstance(answer, Exception) or isinstance(answer, InvalidRequest | NotFound), (
                    answer
                )
            if number % 5 == 4:
                await asyncio.wait_for(self.engine.wait_projected(), BOUND_S)  # so that ids are forgotten

    async def end_holds(self) -> None:
        """Let the last of the time pass, so that most holds run out; one of them at least is a Move's."""
        order = self.shop.order()
        await self.shop.do(order)
        await self.shop.do(self.shop.refund(order.id))
        await self.shop.do(self.shop.transfer(transition="hold", timeout=1))
        self._set_time(self._end_ns)
        await self.engine.fence()

    # Time

    def _let_time_pass(self) -> None:
        self._set_time(self.workload.now + self.random.choice((0, 1, 1_000, SECOND_NS // 100)))
        if self.random.random() < 0.1 and self.reference.next_expiry < self._end_ns - 2 * SECOND_NS:
            self._set_time(self.reference.next_expiry)

    def _set_time(self, time: int) -> None:
        self.workload.now = max(self.workload.now, min(time, self._end_ns))
        self.clock.ahead_ns += self.workload.now - self.clock()
        self.reference.expire(self.workload.now, 1 << 20)

    # Messages

    def _messages(self) -> list[Message]:
        kind = self.random.random()
        if kind < 0.45:
            return self._legs()
        if kind < 0.55:
            return [self._accounts(batch) for batch in self.workload.account_batches()]
        if kind < 0.62:
            ordinal, floor, ceiling = self.workload.guards()
            self.reference.set_guards(ordinal, floor, ceiling, self.workload.now)
            account = list(self.reference.ids.values())[ordinal]
            version = self.random.choice((0, 0, 0, 5))
            return [SetGuards(account, floor, ceiling, version, self._request())]
        if kind < 0.68:
            return [self._directory()]
        if kind < 0.71:
            key = id_of_text("default", f"key {self.random.randrange(50)}")
            return [Claim(key, b"digest", self.shop.new_id())]
        return [SubmitMoves(self._moves())]

    def _legs(self) -> list[Message]:
        batches, _ = self.workload.block(12, 6)
        messages: list[Message] = []
        for batch in batches:
            if batch.legs:
                self.reference.apply_batch(batch.legs, self.workload.now, (), LEG_FLAGS_OF_CLIENTS)
                messages.append(PostLegs(legs_of(batch.legs)))
        return messages

    def _accounts(self, accounts: Sequence[Account]) -> Message:
        self.reference.create_accounts(accounts, self.workload.now)
        return CreateAccounts(accounts_of(accounts), [""] * len(accounts))

    async def _create_accounts(self, accounts: Sequence[Account]) -> None:
        await sent(self.engine, self._accounts(accounts))

    def _directory(self) -> Message:
        party = CreateParty(id=self.shop.new_id(), kind=self.random.choice(("person", "org")), name="new")
        self._parties.append(party.id)
        update = UpdateParty(
            id=self.random.choice(self._parties), name=f"n{self.random.randrange(3)}", profile={"a": [1]}
        )
        if self.random.random() < 0.3:
            return SubmitParties([update], self._request())
        return SubmitParties([party, update, party])

    def _request(self) -> int:
        """The id of a change: none, a new one, or one that was used before."""
        if not self._requests or self.random.random() < 0.5:
            self._requests.append(self.shop.new_id())
        return self.random.choice((0, self._requests[-1], self.random.choice(self._requests)))

    # Moves

    def _moves(self) -> list[MoveCommand]:
        commands = [self._move() for _ in range(self.random.randrange(1, 4))]
        self._commands += [command for command in commands if command not in self._commands]
        return commands

    def _move(self) -> MoveCommand:
        random = self.random
        if self._commands and random.random() < 0.12:
            return random.choice(self._commands)
        if self._commands and random.random() < 0.35:
            created = random.choice(
                [command for command in self._commands[-40:] if not command.move] or self._commands[:1]
            )
            transition = random.choice(STEPS.get(created.kind, ("post",)))
            version = random.choice((0, 0, 0, 0, 1, 2))
            return MoveCommand(id=self._id(), move=created.id, transition=transition, if_version=version)
        make = random.choice(
            (self._transfer, self._transfer, self._order, self._order, self._refund, self._others)
        )
        return make()

    def _id(self) -> int:
        """Mostly a UUIDv7 of now; sometimes one of another time, or none at all."""
        kind, now_ms = self.random.random(), self.clock() // 1_000_000
        if kind < 0.8:
            return self.shop.new_id()
        if kind < 0.87:
            return self.shop.new_id(now_ms - self.random.randrange(10**9))
        if kind < 0.94:
            return self.shop.new_id(now_ms + self.random.choice((30_000, 61_000, 10**9)))
        return self.random.getrandbits(127)

    def _transfer(self) -> MoveCommand:
        random = self.random
        more: dict[str, Any] = {}
        path = random.choice(("post", "hold", "hold", "hold+void", "hold+post"))
        if path == "hold":
            more["timeout"] = random.choice((0, 1, 2, 60))
        if random.random() < 0.3:
            more |= {"reference": f"r{random.randrange(40)}", "metadata": {"n": random.randrange(9)}}
        amount = random.choice((1, 7, 2_000, 900_000))
        return self.shop.transfer(amount, id=self._id(), transition=path, **more)

    def _order(self) -> MoveCommand:
        path = self.random.choice(("", "place", "place+capture", "place+capture+fulfil", "place+cancel"))
        return self.shop.order(path, id=self._id(), business_time=self.random.choice((0, SECOND_NS)))

    def _refund(self) -> MoveCommand:
        orders = [command.id for command in self._commands if command.kind == "order"]
        if not orders or self.random.random() < 0.3:
            lines = Lines(things=["LAMP"], quantities=[1], amounts=[50])
            return self.shop.refund(0, "grant", id=self._id(), lines=lines)
        return self.shop.refund(
            self.random.choice(orders), self.random.choice(("grant", "grant+succeed")), id=self._id()
        )

    def _others(self) -> MoveCommand:
        random, shop = self.random, self.shop
        wallet = shop.wallet(shop.seller)
        kind = random.choice(("journal", "opening", "adjustment"))
        if kind == "journal":
            legs = JournalLegs(
                debits=["A:bank", "X:fees"], credits=[wallet, "A:bank"], amounts=[3, 2], assets=["GBP", "GBP"]
            )
            return MoveCommand(id=self._id(), kind=kind, legs=legs)
        if kind == "opening":
            key = f"L:wallet/{format_id(random.choice(self._parties))}"
            entries = JournalEntries(accounts=[key], sides=[Side.CREDIT], amounts=[9], assets=["GBP"])
            return MoveCommand(id=self._id(), kind=kind, entries=entries)
        lines = Lines(things=["MUG"], quantities=[-2], amounts=[0], reasons=["write_off"])
        return MoveCommand(id=self._id(), kind=kind, payer=shop.buyer, asset="GBP", lines=lines)


def legs_of(legs: Sequence[Leg]) -> LegColumns:
    """The legs as columns."""
    return leg_columns(len(legs), **_columns(legs, LEG_COLUMN_SPEC))


def accounts_of(accounts: Sequence[Account]) -> AccountColumns:
    """The accounts as columns."""
    return account_columns(len(accounts), **_columns(accounts, ACCOUNT_COLUMN_SPEC))


def _columns(events: Sequence[Any], spec: dict[str, tuple[int, type]]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, (width, _) in spec.items():
        values = [getattr(event, name) for event in events]
        columns[name] = ids_column(values) if width == 2 else values
    return columns
