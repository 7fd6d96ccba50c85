"""Previews and next steps: what is shown is what then happens, and nothing is written by looking."""

from typing import Any

import numpy as np
import pytest

from engine import open_holds
from engine.commands import Lines, MoveAnswer, MoveCommand, Refusal
from engine.entities import Effect, Side
from engine.layout import LEG_FLAGS_OF_CLIENTS, LegFlag, ids_column, leg_columns
from engine.ledger import LegBlock
from engine.next_steps import next_steps
from engine.open_holds import HoldFilter
from tests.desk import Shop

Shown = list[tuple[str, str, int, str]]


def shown(shop: Shop, command: MoveCommand) -> Shown:
    """The Entries of a preview, and that it changed nothing."""
    before = shop.ledger.state(), shop.book.state()
    preview = shop.book.preview(command, shop.now)
    after = shop.ledger.state(), shop.book.state()
    assert all(
        np.array_equal(before[at][name], after[at][name])
        for at in (0, 1)
        for name in before[at]
        if name != "window"
    )
    assert preview.code == "", preview.message
    return [(entry.side.value, entry.key, entry.amount, entry.effect.value) for entry in preview.entries]


def both(debit: str, credit: str, amount: int, effect: Effect = Effect.POSTED) -> Shown:
    return [("debit", debit, amount, effect.value), ("credit", credit, amount, effect.value)]


def test_hold_shows_what_it_would_reserve(shop: Shop) -> None:
    wallet, till = f"L:wallet/{shop.b}", f"L:wallet/{shop.s}"
    shop.fund(wallet, "GBP", 100)
    hold = shop.transfer(60, transition="hold")
    assert shown(shop, hold) == both(wallet, till, 60, Effect.HELD)
    too_much = shop.transfer(101, transition="hold")
    assert shop.book.preview(too_much, shop.now).code == "below_floor"


def test_post_and_void_of_a_hold_show_what_becomes_of_it(shop: Shop) -> None:
    wallet = f"L:wallet/{shop.b}"
    shop.fund(wallet, "GBP", 100)
    held = shop.one(shop.transfer(60, transition="hold", timeout=60))
    whole = MoveCommand(id=shop.id(), move=held.move, transition="post")
    assert shown(shop, whole) == both("", "", 60)
    part = MoveCommand(id=shop.id(), move=held.move, transition="post", amount=45)
    assert shown(shop, part) == both("", "", 45) + both("", "", 15, Effect.RELEASED)
    void = MoveCommand(id=shop.id(), move=held.move, transition="void")
    assert shown(shop, void) == both("", "", 60, Effect.RELEASED)
    more = MoveCommand(id=shop.id(), move=held.move, transition="post", amount=61)
    refused, real = shop.book.preview(more, shop.now), shop.one(more)
    assert (refused.code, refused.message) == (real.code, real.message)
    shop.now += 61 * 10**9
    assert shop.book.preview(whole, shop.now).code == "pending_transfer_expired"


def test_accounts_of_a_hold_are_named_by_id(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 10)
    held = shop.one(shop.transfer(10, transition="hold"))
    preview = shop.book.preview(MoveCommand(id=shop.id(), move=held.move, transition="post"), shop.now)
    wanted = shop.book.chart.account_id(f"L:wallet/{shop.b}", shop.gbp)
    assert preview.entries[0].account == wanted
    assert {entry.asset for entry in preview.entries} == {shop.gbp}


def commands(shop: Shop) -> list[MoveCommand]:
    """Commands of many kinds, each to be sent after the one before it."""
    order = shop.order()
    lines = Lines(things=["MUG"], quantities=[1], amounts=[100], orders=[order.id], order_lines=[1])
    twice = Lines(things=["MUG"], quantities=[3], amounts=[300], orders=[order.id], order_lines=[1])
    placed = shop.order("place+capture")
    return [
        shop.transfer(100),
        shop.transfer(1_000_000),
        order,
        shop.refund(lines),
        shop.refund(twice),
        placed,
        MoveCommand(id=shop.id(), move=placed.id, transition="cancel"),
        MoveCommand(id=shop.id(), move=placed.id, transition="cancel"),
    ]


@pytest.mark.parametrize("number", range(8))
def test_preview_is_what_then_happens(shop: Shop, number: int) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 5_000)
    earlier = commands(shop)
    for command in earlier[:number]:
        shop.one(command)
    command = earlier[number]
    preview = shop.book.preview(command, shop.now)
    before = balances(shop)
    answer = shop.one(command)
    assert (preview.code, preview.message, preview.state) == (
        answer.code,
        answer.message,
        "" if answer.code else answer.state,
    )
    moved = {name: balance - before.get(name, 0) for name, balance in balances(shop).items()}
    told: dict[tuple[int, int], int] = {}
    for entry in preview.entries:
        sign = 1 if entry.side is Side.CREDIT else -1
        place = entry.account, entry.asset
        told[place] = told.get(place, 0) + sign * entry.amount
    assert {place: sum_ for place, sum_ in moved.items() if sum_} == {
        place: sum_ for place, sum_ in told.items() if sum_
    }


def balances(shop: Shop) -> dict[tuple[int, int], int]:
    """Credits minus debits of every account."""
    return {
        (int(row["id_hi"]) << 64 | int(row["id_lo"]), int(row["asset"])): int(row["credits_posted"])
        - int(row["debits_posted"])
        for row in shop.ledger.accounts
    }


def close(shop: Shop, key: str, other: str) -> int:
    """Close an account as bare legs do; the id of the hold that keeps it closed."""
    id = shop.id()
    columns = leg_columns(
        1,
        id=ids_column([id]),
        debit=ids_column([shop.book.chart.account_id(key, shop.gbp)]),
        credit=ids_column([shop.book.chart.account_id(other, shop.gbp)]),
        asset=[shop.gbp],
        code=[1],
        flags=[LegFlag.PENDING | LegFlag.CLOSING_DEBIT],
    )
    shop._begin()
    outcome = shop.ledger.apply_legs(
        LegBlock(columns, np.array([0, 1], np.int64), allowed_flags=LEG_FLAGS_OF_CLIENTS), shop.now
    )
    assert not outcome.status.any()
    shop._log.append(("legs", outcome.facts))
    return id


def test_preview_knows_a_closed_account(shop: Shop) -> None:
    wallet = f"L:wallet/{shop.b}"
    shop.fund(wallet, "GBP", 100)
    close(shop, wallet, "L:opening.contra")
    command = shop.transfer(1)
    preview, answer = shop.book.preview(command, shop.now), shop.one(command)
    assert preview.code == "debit_account_already_closed"
    assert (preview.code, preview.message) == (answer.code, answer.message)


# Next steps


def steps(shop: Shop, move: int) -> dict[str, Any]:
    found = next_steps(shop.book, move, shop.id(), shop.now)
    assert found.code == "", found.message
    return {step.name: (step.target, step.code) for step in found.steps}


def test_steps_of_an_order_say_where_each_transition_leads(shop: Shop) -> None:
    order: MoveAnswer = shop.one(shop.order("place"))
    found = next_steps(shop.book, order.move, shop.id(), shop.now)
    assert (found.kind, found.state, found.version) == ("order", "placed", 1)
    assert steps(shop, order.move) == {
        "place": ("", Refusal.MOVE_STATE_DIFFERS),
        "capture": ("paid", ""),
        "fulfil": ("", Refusal.MOVE_STATE_DIFFERS),
        "cancel": ("cancelled", ""),
    }
    refused = next(step for step in found.steps if step.name == "fulfil")
    assert (
        refused.message
        == "transition: 'fulfil' does not lead on from placed; from placed lead capture, cancel"
    )


def test_step_that_the_ledger_would_refuse_says_why(shop: Shop) -> None:
    wallet = f"L:wallet/{shop.b}"
    shop.fund(wallet, "GBP", 10)
    held = shop.one(shop.transfer(10, transition="hold", timeout=60))
    assert steps(shop, held.move) == {
        "post": ("posted", ""),
        "hold": ("", "move_state_differs"),
        "void": ("voided", ""),
    }
    shop.now += 61 * 10**9
    assert steps(shop, held.move)["post"] == ("posted", "pending_transfer_expired")


def test_steps_of_a_move_that_ended_or_never_was(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 10)
    done = shop.one(shop.transfer(10))
    assert set(steps(shop, done.move).values()) == {("", Refusal.MOVE_ENDED)}
    assert next_steps(shop.book, shop.id(), shop.id(), shop.now).code == Refusal.MOVE_NOT_FOUND


# Holds


def test_open_holds_are_found_by_what_they_are(shop: Shop) -> None:
    wallet = f"L:wallet/{shop.b}"
    shop.fund(wallet, "GBP", 100)
    first = shop.one(shop.transfer(10, transition="hold", timeout=60))
    second = shop.one(shop.transfer(20, transition="hold"))
    posted = shop.one(shop.transfer(30, transition="hold"))
    shop.do(move=posted.move, transition="post")
    account = shop.book.chart.account_id(wallet, shop.gbp)

    def found(**wanted: Any) -> list[tuple[int, int]]:
        page = open_holds.find(shop.ledger, HoldFilter(**wanted))
        assert not page.more
        return [(hold.move, hold.held) for hold in page.items]

    assert found(account=account) == [(second.move, 20), (first.move, 10)]
    assert found(account=account, newest_first=False) == [(first.move, 10), (second.move, 20)]
    assert found(move=second.move) == [(second.move, 20)]
    assert found(asset=shop.gbp, expires_until=first.timestamp + 60 * 10**9) == [(first.move, 10)]
    assert found(closing=True) == []
    page = open_holds.find(shop.ledger, HoldFilter(limit=1))
    assert (page.more, page.items[0].move) == (True, second.move)
    last = page.items[0]
    assert found(after=(last.created, last.id)) == [(first.move, 10)]
    gone = open_holds.find(shop.ledger, HoldFilter(ids=[open_hold_of(shop, posted.move)])).items
    assert [hold.status for hold in gone] == ["posted"]
    closing = close(shop, wallet, "L:opening.contra")
    assert [hold.id for hold in open_holds.find(shop.ledger, HoldFilter(closing=True)).items] == [closing]


def open_hold_of(shop: Shop, move: int) -> int:
    """The leg that a Move's first step held."""
    holds = [hold for fact in shop.facts for hold in fact.holds if fact.move == move.to_bytes(16, "big")]
    return int.from_bytes(holds[0], "big")
