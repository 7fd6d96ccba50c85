"""What the kinds of commerce promise beyond the stated flows: parts that add up, rests that go back, limits
in words, and that nothing is taken back twice.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import ids
from engine.commands import Lines, MoveAnswer
from tests.desk import Shop


def lines_of(units: int, **more: Any) -> Lines:
    """So many units at 100, each with a tax of 7, a shipping of 5 and a commission of 12."""
    columns: dict[str, list[int | str]] = {"commission": [12 * units], "shipping": [5 * units]}
    columns |= {"tax": [7 * units], "jurisdiction": ["pt"]}
    return Lines(things=["MUG"], quantities=[units], amounts=[100 * units], columns=columns, **more)


def order_of(shop: Shop, units: int, path: str = "place+capture") -> MoveAnswer:
    return shop.do(
        kind="marketplace_order", transition=path, payer=shop.buyer, payee=shop.seller, asset="GBP",
        lines=lines_of(units),
    )  # fmt: skip


def refund_of(shop: Shop, order: int, units: int, path: str) -> MoveAnswer:
    lines = lines_of(units, orders=[order], order_lines=[1])
    return shop.ask(
        kind="marketplace_refund", transition=path, payer=shop.buyer, payee=shop.seller, asset="GBP",
        lines=lines, inputs={"order": ids.format_id(order)},
    )  # fmt: skip


def test_an_order_is_fulfilled_in_parts_and_its_rest_goes_back(shop: Shop) -> None:
    order = order_of(shop, 3)
    o = ids.format_id(order.move)
    shop.do(move=order.move, transition="fulfil_part", lines=lines_of(1))
    early = shop.ask(move=order.move, transition="finish")
    assert (early.code, early.message) == (
        "limit_exceeded",
        "finish: something of it is still to be fulfilled or refunded",
    )
    assert shop.ask(move=order.move, transition="fulfil_part", lines=lines_of(3)).code == "below_floor"
    shop.do(move=order.move, transition="fulfil_part", lines=lines_of(1))
    assert refund_of(shop, order.move, 1, "grant_pre+succeed").state == "succeeded"
    shop.do(move=order.move, transition="finish")
    assert shop.do(move=order.move, transition="clear").ended
    assert shop.balance(f"L:order/{o}") == shop.balance(f"L:seller/{shop.s}/pending") == 0
    assert shop.balance(f"L:seller/{shop.s}/available") == 2 * 88
    assert (shop.balance("A:psp"), shop.balance("L:tax/pt")) == (2 * 112, 14)
    assert shop.balance(f"M:reversible/{o}#1/psp") == 2 * 112


def test_refunds_and_disputes_together_take_back_no_more_than_was_paid(shop: Shop) -> None:
    order = order_of(shop, 2, "place+capture+fulfil+clear").move
    assert refund_of(shop, order, 1, "grant_post+succeed").state == "succeeded"
    disputed: dict[str, Any] = {
        "kind": "dispute", "payer": shop.buyer, "payee": shop.seller, "asset": "GBP", "inputs": {"fee": 15},
    }  # fmt: skip
    columns: dict[str, list[int | str]] = {"seller": [88], "commission": [12], "tax": [7]}
    columns["jurisdiction"] = ["pt"]
    too_much, rest = (
        shop.ask(
            transition="open",
            lines=Lines(amounts=[amount], orders=[order], order_lines=[1], columns=columns),
            **disputed,
        )
        for amount in (113, 112)
    )
    assert (too_much.code, rest.code) == ("above_ceiling", "")
    assert refund_of(shop, order, 1, "grant_post").code != ""
    shop.do(move=rest.move, transition="won")
    assert refund_of(shop, order, 1, "grant_post").code == ""


def test_a_dispute_that_the_seller_can_not_bear_is_the_platforms_loss(shop: Shop) -> None:
    columns: dict[str, list[int | str]] = {"seller": [88], "commission": [12]}
    disputed: dict[str, Any] = {
        "kind": "dispute", "payer": shop.buyer, "payee": shop.seller, "asset": "GBP", "inputs": {"fee": 15},
        "lines": Lines(amounts=[100], columns=columns),
    }  # fmt: skip
    refused = shop.ask(transition="open", **disputed)
    assert refused.code == "below_floor"
    assert refused.message.endswith(f"L:seller/{shop.s}/available has too little")
    dispute = shop.do(transition="open_unsecured", **disputed)
    assert shop.do(move=dispute.move, transition="lost").ended
    assert shop.balance("X:dispute.loss") == 88
    assert shop.balance(f"A:dispute/{ids.format_id(dispute.move)}") == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(price=st.integers(0, 10_000), days=st.integers(1, 40), marks=st.sets(st.integers(0, 40)))
def test_days_that_are_recognised_add_up_to_the_price(
    years: Shop, price: int, days: int, marks: set[int]
) -> None:
    before = years.balance("R:subscription")
    inputs = {"new_plan": "GOLD", "new_price": price, "new_days": days}
    subscription = years.do(
        kind="subscription", transition="subscribe", payer=years.buyer, asset="GBP", inputs=inputs
    ).move
    for day in sorted(mark for mark in marks if mark <= days):
        years.do(move=subscription, transition="recognise", inputs={"day": day})
        assert years.balance("R:subscription") - before == price * day // days
    past = years.ask(move=subscription, transition="recognise", inputs={"day": days + 1})
    assert past.message == "recognise: the period has fewer days"
    years.do(move=subscription, transition="recognise_end")
    assert years.balance("R:subscription") - before == price
    assert years.balance(f"L:deferred/{ids.format_id(subscription)}") == 0


@pytest.fixture(scope="module")
def years() -> Any:
    shop = Shop()
    shop.thing("GOLD", "subscription")
    yield shop
    shop.close()


def test_what_a_move_keeps_is_not_for_requests_to_give(shop: Shop) -> None:
    answer = shop.ask(
        kind="payment", payer=shop.buyer, asset="GBP", amount=5,
        inputs={"order": ids.format_id(shop.id()), "asked": 5},
    )  # fmt: skip
    assert (answer.code, answer.message) == (
        "field_not_accepted",
        "inputs: unknown 'asked'; taken here are order",
    )


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ("that one", "expected an id, a UUID in lower case"),
        (7, "expected an id"),
        (ids.format_id(0), "no id"),
    ],
)
def test_a_role_is_an_id(shop: Shop, order: Any, says: str) -> None:
    answer = shop.ask(kind="payment", payer=shop.buyer, asset="GBP", amount=5, inputs={"order": order})
    assert answer.code == "field_invalid"
    assert says in answer.message


def test_columns_are_checked(shop: Shop) -> None:
    usual: dict[str, Any] = {
        "kind": "marketplace_order", "payer": shop.buyer, "payee": shop.seller, "asset": "GBP",
    }  # fmt: skip
    for columns, says in (
        ({"colour": ["red"]}, "columns of this kind's own are commission, jurisdiction, shipping, tax"),
        ({"tax": [1, 2]}, "lines.tax: 2 values where others have 1"),
        ({"tax": ["1"]}, "lines.tax: number 1 is '1'; expected a whole number"),
        ({"tax": [-1]}, "lines.tax: number 1 is -1"),
        ({"jurisdiction": ["a b"]}, "lines.jurisdiction: 'a b'; expected 1 to 64 letters"),
        ({"jurisdiction": [7]}, "lines.jurisdiction: 7; expected a text"),
    ):
        lines = Lines(things=["MUG"], quantities=[1], amounts=[1], columns=columns)  # type: ignore[arg-type]  # what it refuses
        answer = shop.ask(lines=lines, **usual)
        assert says in answer.message, columns


def test_an_order_is_paid_by_everything_at_once(shop: Shop) -> None:
    """A subsidy, store credit, points and a gift card pay for an order, and the buyer's card what is left."""
    for code in ("PTS", "USE"):
        shop.thing(code, "asset")
    usual: dict[str, Any] = {"payer": shop.buyer, "asset": "GBP"}
    order = order_of(shop, 2, "place").move
    named = {"order": ids.format_id(order)}
    card = shop.do(kind="gift_card", transition="issue", amount=30, **usual).move
    shop.do(kind="store_credit", amount=40, **usual)
    points = {"points": 20, "lot": "y26"}
    earned = shop.do(kind="points_earned", inputs=points, **usual).move
    shop.do(move=earned, transition="vest")
    inputs = {"code": "TEN", "uses": 1}
    campaign = shop.do(
        kind="campaign", transition="fund_budget", payer=shop.seller, asset="GBP", amount=10, inputs=inputs
    ).move
    subsidy = {**named, "campaign": ids.format_id(campaign), "code": "TEN"}
    tenders: list[dict[str, Any]] = [
        {"kind": "promotion_use", "transition": "hold+subsidy", "amount": 10, "inputs": subsidy},
        {"kind": "store_credit_spend", "transition": "hold+capture", "amount": 40, "inputs": named},
        {"kind": "points_redemption", "inputs": points | named},
    ]
    assert shop.ask(move=order, transition="fulfil").code == "below_floor"
    for tender in tenders:
        shop.do(**tender, **usual)
    by_card = named | {"card": ids.format_id(card)}
    spent = shop.do(kind="gift_card_redemption", transition="hold", amount=30, inputs=by_card, **usual).move
    shop.do(move=spent, transition="capture", amount=30)
    assert shop.do(move=spent, transition="release").ended
    rest = 2 * 112 - 10 - 40 - 20 - 30
    assert shop.ask(move=order, transition="fulfil").code == "below_floor"
    shop.do(kind="payment", transition="charge", amount=rest, inputs=named, **usual)
    assert shop.ask(move=order, transition="cancel").message == ("cancel: it was paid for; refund that first")
    shop.do(move=order, transition="fulfil")
    assert shop.do(move=order, transition="clear").ended
    assert shop.balance(f"L:order/{ids.format_id(order)}") == 0
    assert shop.balance(f"L:seller/{shop.s}/available") == 2 * 88
    assert shop.balance("A:psp") == rest + 30
    o, c = ids.format_id(order), ids.format_id(campaign)
    nothing = [
        (f"L:giftcard/{ids.format_id(card)}", "GBP"), (f"L:storecredit/{shop.b}", "GBP"),
        ("L:loyalty", "GBP"), (f"L:pts/{shop.b}#y26", "PTS"), ("M:pts.issued", "PTS"),
        (f"M:budget/{c}", "GBP"), ("I:coupon/TEN", "USE"), (f"I:coupon.held/{o}", "USE"),
    ]  # fmt: skip
    assert [where for where in nothing if shop.balance(*where)] == []
