"""Engines on a real PostgreSQL, and a shop that trades through them.

A test sets the clock and seeds the ids. Whatever waits, waits for a condition, and not longer than `BOUND_S`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

import numpy as np

from actors.messages import Message
from actors.runtime import AccountDraft, Engine
from actors.settings import Settings
from actors.shard import Shard
from engine.commands import (
    CreateParty,
    CreateThing,
    JournalEntries,
    Lines,
    MoveAnswer,
    MoveCommand,
)
from engine.entities import Side
from engine.ids import bucket_of_id, bucket_of_party, format_id, uuid7
from engine.layout import LegColumns, ids_column, leg_columns
from engine.results import Result
from persistence.database import Database
from tests.faults.proxy import PostgresProxy

BOUND_S: Final = 20.0
"""No wait in a test is longer; a condition that is met at all is met much sooner."""
RECORD: Final = b"TSRA"
"""What a record of the log starts with, so that a proxy can tell its COPY from others."""


class Clock:
    """The host's clock and what a test adds to it, or one that stands still."""

    def __init__(self, stopped: bool = False) -> None:
        self.ahead_ns = 0
        self._stopped_at = time.time_ns() if stopped else None

    def __call__(self) -> int:
        """Now, in nanoseconds."""
        return (time.time_ns() if self._stopped_at is None else self._stopped_at) + self.ahead_ns


class Ids:
    """New UUIDv7, of now unless a time is given."""

    def __init__(self, seed: int = 0, clock: Callable[[], int] = time.time_ns) -> None:
        self._random = Random(seed)
        self._clock = clock

    def __call__(self, unix_ms: int | None = None, bucket: int = 0) -> int:
        """A new id, of something that is at home in a bucket."""
        unix_ms = self._clock() // 1_000_000 if unix_ms is None else unix_ms
        return uuid7(unix_ms, bucket, self._random.getrandbits(62))


def settings_of(database: Database | PostgresProxy, **bounds: Any) -> Settings:
    """Settings of an engine on this database, or one that reaches it through a proxy."""
    return Settings(database_url=database.dsn, **bounds)


@asynccontextmanager
async def engine_behind(proxy: PostgresProxy, **bounds: Any) -> AsyncIterator[Engine]:
    """An engine that reaches its database through a proxy, which lets it go on when the test has ended."""
    async with Engine.running(settings_of(proxy, **bounds)) as engine:
        try:
            yield engine
        finally:
            proxy.release()


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until a condition holds."""
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110  # on what others do, for which there is no event
            await asyncio.sleep(0)


def sent(engine: Engine, message: Message) -> asyncio.Future[Any]:
    """Leave a message in the mailbox, now; the future is its answer."""
    return shard_of(engine).send(message)


def shard_of(engine: Engine) -> Shard:
    """The only shard of an engine of this process."""
    (shard,) = engine._shards
    assert isinstance(shard, Shard)
    return shard


async def taken(engine: Engine) -> None:
    """Wait until a turn has taken everything from the mailbox."""
    await until(lambda: engine.health().mailbox_weight == 0)


async def struck(fault: asyncio.Event) -> None:
    """Wait until a fault has struck."""
    await asyncio.wait_for(fault.wait(), BOUND_S)


def counted(engine: Engine, name: str) -> int:
    """One of the engine's own counters."""
    return int(engine.metrics.registry.get_sample_value(f"tessera_{name}_total", {"shard": "0"}) or 0)


def same(one: Any, other: Any, where: str = "state") -> None:
    """Assert that two states are equal, array for array."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            same(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        assert np.array_equal(one, other), where
    else:
        assert one == other, where


class Shop:
    """Two Parties, on different shards if there are several, that have money, and goods, in an engine; and
    commands that they might send."""

    def __init__(self, engine: Engine, seed: int = 0, clock: Callable[[], int] = time.time_ns) -> None:
        self.engine = engine
        self.new_id = Ids(seed, clock)
        self.buyer, self.seller = self.new_id(), self.new_id()
        while self._shard_of(self.seller) == self._shard_of(self.buyer) and engine._placement.shards > 1:
            self.seller = self.new_id()

    @classmethod
    async def opened(
        cls,
        engine: Engine,
        seed: int = 0,
        funds: int = 1_000_000,
        clock: Callable[[], int] = time.time_ns,
    ) -> "Shop":
        """A shop with everything it needs."""
        shop = cls(engine, seed, clock)
        things = [CreateThing(id=shop.new_id(), kind="asset", code="GBP", exponent=2)]
        things += [CreateThing(id=shop.new_id(), kind="product", code=code) for code in ("MUG", "LAMP")]
        parties = [CreateParty(id=party, kind="person") for party in (shop.buyer, shop.seller)]
        answers = [*await engine.create_things(things), *await engine.create_parties(parties)]
        assert all(answer.accepted for answer in answers), answers
        await shop.fund(shop.buyer, funds)
        return shop

    async def fund(self, party: int, amount: int) -> None:
        """Put money into a Party's wallet."""
        entries = JournalEntries(
            accounts=[self.wallet(party)], sides=[Side.CREDIT], amounts=[amount], assets=["GBP"]
        )
        await self.do(MoveCommand(id=self.command_id(), kind="opening", entries=entries))

    @staticmethod
    def wallet(party: int) -> str:
        """The key of a Party's wallet."""
        return f"L:wallet/{format_id(party)}"

    def _shard_of(self, party: int) -> int:
        return self.engine._placement.shard(bucket_of_party(self.engine.settings.tenant, party))

    def command_id(self, payer: int = 0, move: int = 0) -> int:
        """An id for a command on a Move, or for a new one of this payer, of its home."""
        tenant = self.engine.settings.tenant
        return self.new_id(bucket=bucket_of_id(move) if move else bucket_of_party(tenant, payer))

    def transfer(self, amount: int = 1, **more: Any) -> MoveCommand:
        """Money from the buyer to the seller."""
        given: dict[str, Any] = {
            "kind": "transfer",
            "payer": self.buyer,
            "payee": self.seller,
            "asset": "GBP",
        }
        given |= {"amount": amount} | more
        return self._command(given)

    def order(self, transition: str = "place+capture+fulfil", **more: Any) -> MoveCommand:
        """Mugs and a lamp for the buyer."""
        lines = Lines(things=["MUG", "LAMP"], quantities=[3, 1], amounts=[300, 500])
        given: dict[str, Any] = {
            "kind": "order",
            "payer": self.buyer,
            "payee": self.seller,
            "asset": "GBP",
            "lines": lines,
        }
        given |= {"transition": transition} | more
        return self._command(given)

    def refund(self, order: int, transition: str = "grant+succeed", **more: Any) -> MoveCommand:
        """Two of an order's mugs back."""
        lines = Lines(things=["MUG"], quantities=[2], amounts=[200], orders=[order], order_lines=[1])
        given: dict[str, Any] = {"kind": "refund", "payer": self.buyer, "asset": "GBP", "lines": lines}
        given |= {"transition": transition} | more
        return self._command(given)

    def _command(self, given: dict[str, Any]) -> MoveCommand:
        home = self.command_id(given.get("payer", 0), given.get("move", 0))
        return MoveCommand(**({"id": home} | given))

    async def one(self, command: MoveCommand) -> MoveAnswer:
        """The answer to one command."""
        return (await self.engine.submit([command]))[0]

    async def do(self, command: MoveCommand) -> MoveAnswer:
        """One command that must be accepted."""
        answer = await self.one(command)
        assert answer.accepted, answer
        return answer

    async def balance(self, party: int) -> int:
        """What is in a Party's wallet."""
        return (await self.engine.account(self.wallet(party), "GBP").balance()).posted

    async def bare_accounts(self, count: int = 2, **more: Any) -> list[int]:
        """Ids of new accounts that may go below zero."""
        keys = [f"A:test/{self.new_id():x}" for _ in range(count)]
        opened = await self.engine.open_accounts([AccountDraft(key=key, asset="GBP", **more) for key in keys])
        assert {Result(account.status) for account in opened} == {Result.CREATED}
        return [account.id for account in opened]


def bare_legs(*ids: int, debit: int, credit: int, asset: int = 1, **more: Any) -> LegColumns:
    """Legs with these ids, of 1 each, from one account to another."""
    count = len(ids)
    given: dict[str, Any] = {
        "debit": ids_column([debit] * count),
        "credit": ids_column([credit] * count),
        "amount": [1] * count,
        "asset": [asset] * count,
        "code": [1] * count,
    }
    columns = {name: ids_column(value) if name == "pending_id" else value for name, value in more.items()}
    return leg_columns(count, id=ids_column(list(ids)), **(given | columns))


def results(status: Any) -> list[str]:
    """Slugs of the results that legs or accounts were answered with."""
    return [Result(code).slug for code in status.tolist()]
