"""Values of the right type that nobody would send in good faith: each gets an answer, the shard goes on, and
the projection too.

The window of ids has turned before, so that everything that can be looked up in PostgreSQL is.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import msgspec
import pytest

from actors.errors import InvalidRequest, NotFound
from actors.runtime import AccountDraft, Engine
from engine.commands import (
    CreateParty,
    CreateThing,
    DirectoryAnswer,
    JournalEntries,
    JournalLegs,
    Lines,
    MoveAnswer,
    MoveCommand,
    UpdateParty,
)
from engine.entities import Side
from persistence.database import Database
from tests.fixtures_engine import BOUND_S, Shop, settings_of, shard_of

NUMBERS: Final = (-1, 0, 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64, 2**127, 2**128 - 1, 2**128, 2**200)
TEXTS: Final = (
    "", "\n", "\0", "a\0b", "\ud800", "\u202e", "\U0001f600" * 70, "x" * 300, "x" * 100_000,
    "'; drop table leg; --", "%s", "{payer}", "L:wallet/{payer}", "L:wallet/x", "post+", "+", "post+post",
)  # fmt: skip
DEEP: Final[list[Any]] = [[]]
for _ in range(2_000):
    DEEP[:] = [DEEP[:]]
DOCUMENTS: Final[tuple[dict[str, Any], ...]] = (
    {"a": "\0"}, {"\0": 1}, {"a": "\\u0000"}, {"a": "\\\0"}, {"\ud800": 1}, {"a": "\ud800"}, {"a": 2**70},
    {"a": -(2**70)}, {"a": float("nan")}, {"a": float("inf")},
    {"a": [1e308, 1e22, 0.1, 1.10, -0.0, 1e-300, 2**53 + 0.5]},
    {"a": DEEP}, {"a": "x" * 70_000}, {str(n): n for n in range(20_000)},
    {"": ""}, {"a": None, "b": True, "c": [1, {"d": 2}]},
)  # fmt: skip
LINES: Final = (
    Lines(),
    Lines(things=["MUG"]),
    Lines(things=["MUG"], quantities=[2**63], amounts=[1]),
    Lines(things=["MUG"], quantities=[1], amounts=[2**200]),
    Lines(things=["MUG"], quantities=[-(2**63)], amounts=[-(2**63)]),
    Lines(things=["MUG", "LAMP"], quantities=[2**62, 2**62], amounts=[2**62, 2**62]),
    Lines(things=["\0"], quantities=[1], amounts=[1]),
    Lines(things=["\ud800"], quantities=[1], amounts=[1]),
    Lines(things=["MUG"] * 10_001, quantities=[1] * 10_001, amounts=[1] * 10_001),
    Lines(things=["MUG"], quantities=[1], amounts=[1], orders=[2**128], order_lines=[1]),
    Lines(things=["MUG"], quantities=[1], amounts=[1], orders=[-1], order_lines=[2**70]),
    Lines(things=["MUG"], quantities=[1], amounts=[1], reasons=["\0"]),
    Lines(amounts=[1], reasons=["bad_debt"]),
)
LEGS: Final = tuple(
    JournalLegs(debits=[debit], credits=["A:bank"], amounts=[amount], assets=[asset])
    for debit, amount, asset in (
        ("", 1, "GBP"), ("\0", 1, "GBP"), ("A:\ud800", 1, "GBP"), ("A:" + "x" * 300, 1, "GBP"),
        ("A:bank", 1, "GBP"), ("L:wallet/7", 1, "GBP"), ("A:cash", 2**63, "GBP"),
        ("A:cash", -1, "GBP"), ("A:cash", 2**200, "GBP"),
        ("A:cash", 1, ""), ("A:cash", 1, "\0"), ("A:cash", 2**63 - 1, "GBP"),
        ("A:cash/a/b/c/d/e/f/g", 1, "GBP"),
    )
)  # fmt: skip
ENTRIES: Final = (
    JournalEntries(accounts=["A:cash"], sides=[Side.DEBIT], amounts=[2**63], assets=["GBP"]),
    JournalEntries(accounts=["\0"], sides=[Side.DEBIT], amounts=[1], assets=["GBP"]),
    JournalEntries(accounts=["A:cash"] * 2, sides=list(Side), amounts=[2**62] * 2, assets=["GBP"] * 2),
    JournalEntries(accounts=["A:cash"], sides=[], amounts=[1], assets=["GBP"]),
)
INPUTS: Final[tuple[dict[str, int | str], ...]] = tuple(
    {name: value} for name in ("debit", "credit", "account", "\0", "other") for value in (*TEXTS, -1, 2**70)
)
VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "lines": LINES, "legs": LEGS, "entries": ENTRIES, "inputs": INPUTS, "metadata": DOCUMENTS,
    "profile": DOCUMENTS, "attrs": DOCUMENTS,
}  # fmt: skip


def variations(command: msgspec.Struct) -> Iterator[Any]:
    """The command with one field after the other set to each of the values of its type."""
    for field in msgspec.structs.fields(type(command)):
        values = VALUES.get(field.name)
        if values is None:
            is_number = isinstance(getattr(command, field.name), int)
            values = NUMBERS if is_number else TEXTS
        for value in values:
            yield msgspec.structs.replace(command, **{field.name: value})


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    """A shop whose engine has forgotten ids; in the end it must be well."""
    async with Engine.running(settings_of(database, ids_per_generation=8, generations_max=3)) as engine:
        shop = await Shop.opened(engine)
        while not shard_of(engine).state.ledger.dropped:
            await engine.submit([shop.transfer(1) for _ in range(8)])
            await engine.wait_projected()
        yield shop
        assert engine.health().status == "serving", engine.health()
        done = await shop.do(shop.transfer(1))
        await asyncio.wait_for(engine.wait_projected(done.lsn), BOUND_S)
        report = await engine.verify()
        assert report.ok, report.problems


async def test_moves(shop: Shop) -> None:
    journal = MoveCommand(id=shop.new_id(), kind="journal", legs=LEGS[0])
    opening = MoveCommand(id=shop.new_id(), kind="opening", entries=ENTRIES[0])
    lines = Lines(amounts=[1], reasons=["bad_debt"])
    adjustment = MoveCommand(id=shop.new_id(), kind="adjustment", payer=shop.buyer, asset="GBP", lines=lines)
    held = await shop.do(shop.transfer(1, transition="hold"))
    step = MoveCommand(id=shop.new_id(), move=held.move, transition="post")
    bases = (
        shop.transfer(1, reference="r"),
        shop.order(),
        shop.refund(shop.new_id()),
        journal,
        opening,
        adjustment,
        step,
    )
    answered = 0
    for base in bases:
        for varied in variations(base):
            is_new = varied.id == base.id
            command = msgspec.structs.replace(varied, id=shop.new_id()) if is_new else varied
            (answer,) = await shop.engine.submit([command])
            assert isinstance(answer, MoveAnswer)
            assert answer.accepted or answer.message
            preview = await shop.engine.preview(msgspec.structs.replace(command, id=shop.new_id()))
            assert preview.code or preview.state
            answered += 1
    assert answered > 1_000


async def test_parties_and_things(shop: Shop) -> None:
    party = CreateParty(id=shop.new_id(), kind="person", name="x")
    update = UpdateParty(id=shop.buyer, name="x")
    thing = CreateThing(id=shop.new_id(), kind="product", code="POT")
    for base in (party, update, thing):
        for command in variations(base):
            send = shop.engine.create_things if base is thing else shop.engine.create_parties
            (answer,) = await send([command])
            assert isinstance(answer, DirectoryAnswer)
            assert answer.accepted or answer.message


async def test_accounts_by_key(shop: Shop) -> None:
    refused = 0
    for key in (*TEXTS, "A:ok"):
        for asset in ("GBP", *TEXTS):
            for floor in (None, *NUMBERS):
                try:
                    await shop.engine.open_accounts([AccountDraft(key=key, asset=asset, floor=floor)])
                except InvalidRequest:
                    refused += 1
                if key in TEXTS or asset in TEXTS:
                    break
    assert refused > 100
    with pytest.raises(NotFound):
        await shop.engine.set_guards(2**128, 0, None)
