"""Commands of somebody who is bound to a Party: its money only, in whatever way a Move may say otherwise."""

from typing import Any

import msgspec
import pytest

from engine.commands import JournalEntries, JournalLegs, Lines, MoveCommand, Refusal
from engine.entities import Side
from engine.ids import format_id
from tests.desk import Shop

FUNDS = 1_000


@pytest.fixture
def funded(shop: Shop) -> Shop:
    for party in (shop.b, shop.s):
        shop.fund(f"L:wallet/{party}", "GBP", FUNDS)
    return shop


def bound(shop: Shop, command: MoveCommand) -> MoveCommand:
    """The command as the buyer's key sends it."""
    return msgspec.structs.replace(command, bound_to=shop.buyer)


def refused(shop: Shop, command: MoveCommand) -> str:
    """It is refused to the buyer, and would not be to somebody who is not bound."""
    before = shop.ledger.state()
    answer = shop.one(bound(shop, command))
    assert answer.code == Refusal.MONEY_OF_ANOTHER
    assert shop.ledger.last_timestamp == before["last_timestamp"]
    again = shop.one(msgspec.structs.replace(command, bound_to=0))
    assert again.accepted, again
    return answer.message


def legs(shop: Shop, debit: str, credit: str) -> MoveCommand:
    journal = JournalLegs(debits=[debit], credits=[credit], amounts=[10], assets=["GBP"])
    return MoveCommand(id=shop.id(), kind="journal", legs=journal, payer=shop.buyer)


def test_ones_own_money_may_be_given_to_anybody(funded: Shop) -> None:
    shop = funded
    assert shop.one(bound(shop, shop.transfer())).accepted
    assert shop.one(bound(shop, shop.transfer(inputs={"credit": "L:tax/gb"}))).accepted
    assert shop.one(bound(shop, legs(shop, f"L:wallet/{shop.b}", f"L:seller/{shop.s}/pending"))).accepted
    assert shop.one(bound(shop, legs(shop, f"L:wallet/{shop.b}", f"A:ar/{shop.b}"))).accepted
    held = shop.one(bound(shop, shop.transfer(transition="hold")))
    assert shop.one(
        MoveCommand(id=shop.id(), move=held.move, transition="post", bound_to=shop.buyer)
    ).accepted
    held = shop.one(bound(shop, shop.transfer(transition="hold")))
    assert shop.one(
        MoveCommand(id=shop.id(), move=held.move, transition="void", bound_to=shop.buyer)
    ).accepted
    assert shop.one(bound(shop, shop.order("place"))).accepted


def test_another_payer(funded: Shop) -> None:
    assert "payer" in refused(funded, funded.transfer(payer=funded.seller, payee=funded.buyer))


@pytest.mark.parametrize(
    ("debit", "credit"),
    [
        ("L:wallet/{seller}", "L:wallet/{buyer}"),  # from another
        ("A:bank", "L:wallet/{buyer}"),  # from nobody: it would make money
        ("L:wallet/{buyer}", "A:bank"),  # the platform's bank gives as well
        ("L:tax/gb", "L:wallet/{buyer}"),
        ("A:bank", "A:psp"),
        ("X:goodwill", "L:wallet/{buyer}"),
        ("R:fee", "L:wallet/{buyer}"),
    ],
)
def test_accounts_by_key(funded: Shop, debit: str, credit: str) -> None:
    names = {"buyer": funded.b, "seller": funded.s}
    keys = debit.format(**names), credit.format(**names)
    refused(funded, legs(funded, *keys))
    refused(funded, funded.transfer(10, inputs=dict(zip(("debit", "credit"), keys, strict=True))))
    held = funded.transfer(10, transition="hold", inputs=dict(zip(("debit", "credit"), keys, strict=True)))
    refused(funded, held)


def test_one_leg_of_many(funded: Shop) -> None:
    mine, theirs = f"L:wallet/{funded.b}", f"L:wallet/{funded.s}"
    journal = JournalLegs(debits=[mine, theirs], credits=[theirs, mine], amounts=[1, 2], assets=["GBP"] * 2)
    refused(funded, MoveCommand(id=funded.id(), kind="journal", legs=journal, payer=funded.buyer))


def test_entries(funded: Shop) -> None:
    accounts = [f"L:wallet/{funded.b}", f"L:wallet/{funded.s}"]
    for sides in ([Side.DEBIT, Side.CREDIT], [Side.CREDIT, Side.DEBIT]):
        entries = JournalEntries(accounts=accounts, sides=sides, amounts=[5, 5], assets=["GBP"] * 2)
        command = MoveCommand(id=funded.id(), kind="journal", entries=entries, payer=funded.buyer)
        if sides[0] is Side.DEBIT:
            assert funded.one(bound(funded, command)).accepted
        else:
            refused(funded, command)


def test_an_opening_makes_money(funded: Shop) -> None:
    entries = JournalEntries(
        accounts=[f"L:wallet/{funded.b}"], sides=[Side.CREDIT], amounts=[5], assets=["GBP"]
    )
    refused(funded, MoveCommand(id=funded.id(), kind="opening", entries=entries, payer=funded.buyer))


def test_what_only_the_platform_knows_of(funded: Shop) -> None:
    """That an order was paid, or that goods came back, is not the buyer's to say."""
    refused(funded, funded.order("place+capture"))
    order = funded.one(funded.order())
    lines = Lines(things=["MUG"], quantities=[1], amounts=[100], orders=[order.move], order_lines=[1])
    refused(funded, funded.refund(lines, "grant"))


def test_the_order_of_another(funded: Shop) -> None:
    order = funded.one(funded.order("place+capture", payer=funded.seller, payee=0))
    lines = Lines(things=["MUG"], quantities=[3], amounts=[300], orders=[order.move], order_lines=[1])
    message = refused(funded, funded.refund(lines, "grant_unfulfilled"))
    assert f"L:order/{format_id(order.move)}" in message


def test_the_move_of_another(funded: Shop) -> None:
    held = funded.one(funded.transfer(transition="hold", payer=funded.seller, payee=funded.buyer))
    for transition in ("post", "void"):
        step = MoveCommand(id=funded.id(), move=held.move, transition=transition)
        answer = funded.one(bound(funded, step))
        nowhere = funded.one(bound(funded, msgspec.structs.replace(step, move=funded.id())))
        assert answer.code == nowhere.code == Refusal.MOVE_NOT_FOUND
        assert answer.message.replace(format_id(held.move), "") == nowhere.message.replace(
            format_id(nowhere.move), ""
        )
        assert (answer.state, answer.version) == (nowhere.state, nowhere.version)


def test_a_preview_says_the_same(funded: Shop) -> None:
    command = bound(funded, funded.transfer(payer=funded.seller, payee=funded.buyer))
    assert funded.book.preview(command, funded.now).code == Refusal.MONEY_OF_ANOTHER


def test_it_is_no_part_of_the_request(funded: Shop) -> None:
    command: Any = bound(funded, funded.transfer())
    assert funded.one(command).accepted
    assert funded.one(msgspec.structs.replace(command, bound_to=0)).replayed
