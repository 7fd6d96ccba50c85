"""Ids for ever: with a window so small that memory forgets them at once, every kind of id is recognised when
it is sent again, before and after restarts.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import pytest

from actors.runtime import Engine
from engine import requests
from engine.commands import MoveAnswer, MoveCommand
from engine.ids import leg_id, uuid7
from engine.layout import SECOND_NS, LegColumns, LegFlag
from persistence.database import Database
from tests.fixtures_engine import BOUND_S, Clock, Shop, bare_legs, results, settings_of, shard_of

WINDOW: Final = {"ids_per_generation": 8, "generations_max": 3, "sweep_interval_ns": 0}
POST, VOID = int(LegFlag.POST_PENDING), int(LegFlag.VOID_PENDING)


def ids(salt: int) -> dict[str, int]:
    """One id of each kind."""
    now_ms = time.time_ns() // 1_000_000
    return {
        "of now": uuid7(now_ms, 1, salt),
        "a year old": uuid7(now_ms - 31_536_000_000, 1, salt),
        "of the near future": uuid7(now_ms + 30_000, 1, salt),
        "a little too far ahead": uuid7(now_ms + 70_000, 1, salt),
        "a year ahead": uuid7(now_ms + 31_536_000_000, 1, salt),
        "no UUIDv7": 0x5D1C_9A7E_33F0_4B5C_8F2E_6A71_90D3_0000 + salt,
        "a small number": 1_000 + salt,
    }


class Past:
    """What was sent to an engine, and how it was answered; all of it can be sent again."""

    def __init__(self, shop: Shop, clock: Clock, accounts: list[int]) -> None:
        self.shop = shop
        self.one, self.two = accounts
        self.clock = clock
        self.batches: list[tuple[str, LegColumns, list[str], int]] = []
        self.moves: list[tuple[MoveCommand, MoveAnswer]] = []
        self.holds: dict[int, str] = {}

    @classmethod
    async def begun(cls, engine: Engine, clock: Clock) -> "Past":
        """Nothing sent yet."""
        shop = await Shop.opened(engine, clock=clock)
        return cls(shop, clock, await shop.bare_accounts())

    @classmethod
    async def made(cls, engine: Engine, clock: Clock) -> "Past":
        """Everything that is to be forgotten, and to be recognised all the same."""
        past = await cls.begun(engine, clock)
        await past._post_legs()
        await past._resolve_holds()
        await past._submit_moves()
        return past

    async def _post_legs(self) -> None:
        for name, id in ids(1).items():
            await self._leg(f"a leg {name}", self.leg(id), ["created"])
        for name, id in ids(2).items():
            burnt = self.leg(id, if_debit_version=[77])
            await self._leg(f"a burnt leg {name}", burnt, ["debit_account_version_differs"])

    async def _resolve_holds(self) -> None:
        flags = {"posted": POST, "voided": VOID, "expired": 0}
        for salt, (end, flag) in enumerate(flags.items(), 3):
            for name, id in ids(salt).items():
                hold = self.leg(id, flags=[LegFlag.PENDING], timeout=[0 if flag else 1])
                await self._leg(f"a hold {name} that was {end}", hold, ["created"])
                self.holds[id] = end
                if flag:
                    await self._leg(
                        f"the end of a hold {name} that was {end}",
                        self.resolving(self.shop.new_id(), id, flag),
                        ["created"],
                    )
        self.clock.ahead_ns += SECOND_NS + 1
        await self.shop.engine.fence()

    async def _submit_moves(self) -> None:
        for number, (name, id) in enumerate(ids(10).items()):
            await self._move(self.shop.transfer(5, id=id, reference=f"{name}"))
            await self._move(self.shop.transfer(5, transition="hold", id=ids(11)[name]))
            await self._move(MoveCommand(id=ids(12)[name], move=self.moves[-1][0].id, transition="post"))
            await self._move(self.shop.order(id=ids(13)[name]))
            await self._move(self.shop.transfer(2**60 + number, id=ids(14)[name]), "below_floor")

    def leg(self, id: int, **more: Any) -> LegColumns:
        """A leg between the two bare accounts."""
        return bare_legs(id, debit=self.one, credit=self.two, **more)

    def resolving(self, id: int, hold: int, flag: int) -> LegColumns:
        """A leg that posts or voids a hold."""
        amount = [2**63 - 1 if flag == POST else 0]
        return bare_legs(
            id, debit=0, credit=0, asset=0, code=[0], amount=amount, flags=[flag], pending_id=[hold]
        )

    async def _leg(self, name: str, columns: LegColumns, expected: list[str]) -> None:
        answers = await self.shop.engine.post_legs(columns)
        assert results(answers.status) == expected, name
        self.batches.append((name, columns, expected, int(answers.timestamp[0])))

    async def _move(self, command: MoveCommand, code: str = "") -> None:
        answer = await self.shop.one(command)
        assert answer.code == code, answer
        self.moves.append((command, answer))

    async def books(self) -> list[Any]:
        """All balances."""
        engine = self.shop.engine
        accounts = [self.one, self.two]
        accounts += [
            engine.account_id(self.shop.wallet(p), "GBP") for p in (self.shop.buyer, self.shop.seller)
        ]
        accounts += [engine.account_id(key, "GBP") for key in ("A:psp", "R:sales")]
        found = await engine.read_accounts(accounts)
        return [msgspec.structs.replace(account, lsn=0) for account in found if account is not None]

    async def send_again(self) -> None:
        """Everything once more, as it was and with other content: it is recognised, and nothing changes."""
        before = await self.books()
        await self._send_legs_again()
        await self._send_moves_again()
        assert await self.books() == before

    async def _send_legs_again(self) -> None:
        post = self.shop.engine.post_legs
        for name, columns, expected, timestamp in self.batches:
            again = await post(columns)
            if expected == ["created"]:
                assert (results(again.status), again.timestamp.tolist()) == (["exists"], [timestamp]), name
                other = columns._replace(user_data_32=columns.user_data_32 + 1)
                assert results((await post(other)).status) == ["exists_with_different_user_data_32"], name
            else:
                assert results(again.status) == ["id_already_failed"], name
                right = columns._replace(if_debit_version=columns.if_debit_version * 0)
                assert results((await post(right)).status) == ["id_already_failed"], name
        for hold, end in self.holds.items():
            for flag in (POST, VOID):
                late = self.resolving(self.shop.new_id(), hold, flag)
                slug = "pending_transfer_expired" if end == "expired" else f"pending_transfer_already_{end}"
                assert results((await post(late)).status) == [slug], (hold, end)

    async def _send_moves_again(self) -> None:
        shop = self.shop
        for command, answer in self.moves:
            again = await shop.one(command)
            assert again == msgspec.structs.replace(answer, replayed=True, lsn=again.lsn), command
            other = await shop.one(msgspec.structs.replace(command, metadata={"other": 1}))
            assert other.code == "exists_with_different_content", command
            assert "metadata" in other.message
            if command.reference is not None:
                taken = await shop.one(shop.transfer(1, reference=command.reference))
                assert taken.code == "reference_already_used", command
            if answer.ended and answer.accepted:
                step = await shop.one(MoveCommand(id=shop.new_id(), move=answer.move, transition="post"))
                assert step.code == "move_ended", command
            if answer.leg_count:
                (slug,) = results((await shop.engine.post_legs(self.leg(leg_id(command.id, 0)))).status)
                assert slug == ("exists_with_different_flags" if answer.accepted else "id_already_failed"), (
                    slug
                )

    async def forget(self) -> None:
        """Let the window turn until everything so far is forgotten."""
        engine = self.shop.engine
        ledger = shard_of(engine).state.ledger
        before = ledger.generation
        async with asyncio.timeout(BOUND_S):
            while ledger.dropped <= before:
                batch = bare_legs(*[self.shop.new_id() for _ in range(8)], debit=self.one, credit=self.two)
                await engine.post_legs(batch)
                await engine.wait_projected()


@asynccontextmanager
async def running(database: Database, clock: Clock, past: Past | None = None) -> AsyncIterator[Engine]:
    """An engine with a tiny window, which goes on with what was."""
    async with Engine.running(settings_of(database, **WINDOW), clock) as engine:
        if past is not None:
            past.shop.engine = engine
        yield engine


async def test_every_id_sent_again_is_recognised(database: Database) -> None:
    clock = Clock()
    async with running(database, clock) as engine:
        past = await Past.made(engine, clock)
        await past.send_again()
        await past.forget()
        await past.send_again()
    async with running(database, clock, past) as engine:
        assert engine.recovery.snapshot_lsn > 0
        await past.send_again()
    async with database.session("test") as session:
        await session.execute(b"delete from snapshot")
    async with running(database, clock, past) as engine:
        assert engine.recovery.snapshot_lsn == 0
        await past.send_again()
        await past.forget()
        await past.send_again()


@pytest.mark.parametrize("kind", list(ids(20)))
async def test_a_leg_can_not_take_the_place_of_a_moves_leg(database: Database, kind: str) -> None:
    """A Move's legs have ids that follow from its request, so a client may have used one of them before."""
    clock = Clock()
    async with running(database, clock) as engine:
        past = await Past.begun(engine, clock)
        request = ids(20)[kind]
        await past.shop.engine.post_legs(past.leg(leg_id(request, 0)))
        await past.forget()
        answer = await past.shop.one(past.shop.transfer(5, id=request))
        assert answer.code == "exists_with_different_flags"
        lsn = (await past.shop.do(past.shop.transfer(5))).lsn
        await asyncio.wait_for(engine.wait_projected(lsn), BOUND_S)
        assert await past.shop.balance(past.shop.seller) == 5


async def test_moves_without_legs_are_forgotten_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have no stamps of their own that the projection could pass."""
    monkeypatch.setattr(requests, "ANSWERS_PER_GENERATION", 4)
    clock = Clock()
    async with running(database, clock) as engine:
        shop = await Shop.opened(engine, clock=clock)
        placed = [shop.order("place") for _ in range(60)]
        for command in placed:
            await asyncio.wait_for(shop.do(command), BOUND_S)
        assert shard_of(engine).state.ledger.dropped > 3
    async with running(database, clock) as engine:
        shop.engine = engine
        for command in placed:
            assert (await shop.one(command)).replayed
