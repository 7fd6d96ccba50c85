"""Orders and refunds: what they post, line by line, and that nothing is left on their accounts."""

import msgspec
import pytest

from engine import ids
from engine.commands import JournalLegs, Lines, Refusal
from engine.layout import AMOUNT_MAX
from tests.desk import Shop, fields_of


@pytest.mark.parametrize(
    ("path", "state", "sales", "psp"),
    [
        (["place", "capture", "fulfil"], "fulfilled", 800, 850),
        (["place+capture+fulfil"], "fulfilled", 800, 850),
        (["place", "capture", "cancel"], "cancelled", 0, 0),
        (["place+cancel"], "cancelled", 0, 0),
        (["cancel"], "cancelled", 0, 0),
    ],
)
def test_order_drains_its_account_in_every_end(
    shop: Shop, path: list[str], state: str, sales: int, psp: int
) -> None:
    order = shop.one(shop.order(""))
    assert order.state == "draft"
    answers = [shop.do(move=order.move, transition=transition) for transition in path]
    assert (answers[-1].state, answers[-1].ended) == (state, True)
    o = ids.format_id(order.move)
    assert shop.balance(f"L:order/{o}") == shop.balance(f"L:refund/{o}") == 0
    assert shop.balance("R:sales") == sales
    assert shop.balance("A:psp") == psp
    delivered = state == "fulfilled"
    assert shop.balance(f"I:owned/{shop.b}", "MUG") == 3 * delivered
    assert shop.balance(f"I:owned/{shop.b}", "POST") == 0, "a service is not owned"
    assert shop.balance("R:shipping") == 50 * delivered
    assert shop.balance(f"M:reversible/{o}#2/psp") == 500 * delivered


def test_every_terminal_state_of_an_order_is_reached_above() -> None:
    shop = Shop()
    kind = shop.book.kinds["order"]
    assert {state for state in kind.kind.states if kind.ended(state)} == {"fulfilled", "cancelled"}


def test_free_lines_and_lines_without_units(shop: Shop) -> None:
    lines = Lines(things=["MUG", "LAMP"], quantities=[2, 0], amounts=[0, 10])
    answer = shop.do(**fields_of(shop.order(lines=lines)))
    # One leg of money, one to reverse it, one sale, one lot of units.
    assert answer.leg_count == 4
    assert shop.balance(f"I:owned/{shop.b}", "MUG") == 2
    free = Lines(things=["POST"], quantities=[1], amounts=[0])
    assert shop.do(**fields_of(shop.order(lines=free))).leg_count == 0


BAD_LINES: list[tuple[Lines, str, str]] = [
    (Lines(), Refusal.LINES_INVALID, "empty"),
    (Lines(things=["MUG"], quantities=[1]), Refusal.FIELD_MISSING, "lines.amounts"),
    (Lines(things=["MUG"], quantities=[1, 2], amounts=[1, 2]), Refusal.LINES_INVALID, "others have 2"),
    (Lines(things=["MUG"], quantities=[1], amounts=[-1]), Refusal.AMOUNT_NEGATIVE, "number 1 is -1"),
    (Lines(things=["MUG"], quantities=[-1], amounts=[1]), Refusal.AMOUNT_NEGATIVE, "lines.quantities"),
    (
        Lines(things=["CUP"], quantities=[1], amounts=[1]),
        Refusal.THING_NOT_FOUND,
        "line 1: no Thing has the code 'CUP'",
    ),
    (Lines(things=[""], quantities=[1], amounts=[1]), Refusal.THING_NOT_FOUND, "''"),
    (
        Lines(things=["MUG"] * 2, quantities=[1] * 2, amounts=[AMOUNT_MAX, 1]),
        Refusal.AMOUNT_OVERFLOWS,
        "sum",
    ),
    (Lines(things=["MUG"], quantities=[1], amounts=[2**70]), Refusal.AMOUNT_OVERFLOWS, "beyond"),
    (Lines(things=["MUG"], quantities=[1], amounts=[1.0]), Refusal.FIELD_INVALID, "whole"),  # type: ignore[list-item]  # what it refuses
    (
        Lines(things=["MUG"], quantities=[1], amounts=[1], reasons=["x"]),
        Refusal.FIELD_NOT_ACCEPTED,
        "lines.reasons",
    ),
    (
        Lines(things=["MUG"] * 10_001, quantities=[1] * 10_001, amounts=[1] * 10_001),
        Refusal.LINES_INVALID,
        "at most 10000",
    ),
]


@pytest.mark.parametrize(("lines", "code", "says"), BAD_LINES, ids=lambda value: str(value)[:30])
def test_bad_lines_are_refused(shop: Shop, lines: Lines, code: str, says: str) -> None:
    answer = shop.one(shop.order(lines=lines))
    assert answer.code == code
    assert says in answer.message


def test_wrong_state_names_the_ways_on(shop: Shop) -> None:
    order = shop.one(shop.order("place"))
    answer = shop.ask(move=order.move, transition="fulfil")
    assert answer.code == Refusal.MOVE_STATE_DIFFERS
    assert "from placed lead capture, cancel" in answer.message
    assert shop.ask(move=order.move).code == Refusal.TRANSITION_UNKNOWN
    assert shop.ask(move=order.move, kind="refund", transition="capture").code == Refusal.FIELD_INVALID
    assert shop.ask(move=order.move, transition="capture", reference="x").code == Refusal.FIELD_NOT_ACCEPTED


def test_order_of_a_thousand_lines(shop: Shop) -> None:
    codes = [f"SKU{number}" for number in range(1_114)]
    for code in codes:
        shop.thing(code)
    lines = Lines(things=codes, quantities=[2] * 1_114, amounts=list(range(1, 1_115)))
    answer = shop.do(**fields_of(shop.order(lines=lines)))
    assert answer.leg_count == 1 + 3 * 1_114
    assert shop.balance("R:sales") == 1_114 * 1_115 // 2
    assert shop.balance(f"I:owned/{shop.b}", "SKU1113") == 2


def test_refund_of_some_lines(shop: Shop) -> None:
    order = shop.one(shop.order())
    lines = Lines(things=["MUG"], quantities=[2], amounts=[200], orders=[order.move], order_lines=[1])
    refund = shop.do(**fields_of(shop.refund(lines)))
    assert (refund.state, refund.ended, refund.unmatched_quantity, refund.unmatched_amount) == (
        "succeeded",
        True,
        0,
        0,
    )
    o, r = ids.format_id(order.move), ids.format_id(refund.move)
    assert shop.balance("A:psp") == 650
    assert shop.balance("R:sales") == 600
    assert shop.balance(f"L:refund/{r}") == 0
    assert shop.balance(f"M:reversible/{o}#1/psp") == 100
    assert shop.balance(f"I:owned/{shop.b}", "MUG") == 1
    assert shop.balance("I:returned.contra", "MUG") == 0


def test_more_than_what_was_paid_cannot_be_taken_back(shop: Shop) -> None:
    order = shop.one(shop.order())
    o = ids.format_id(order.move)
    lines = Lines(things=["MUG"], quantities=[1], amounts=[301], orders=[order.move], order_lines=[1])
    refused = shop.one(shop.refund(lines))
    assert refused.code == "above_ceiling"
    assert f"M:reversible/{o}#1/psp" in refused.message
    other = shop.party()
    lines = Lines(things=["MUG"], quantities=[1], amounts=[100], orders=[order.move], order_lines=[1])
    assert shop.one(shop.refund(lines, payer=other)).code == "above_ceiling", "somebody else's units"
    lines = Lines(things=["MUG"], quantities=[0], amounts=[100], orders=[shop.id()], order_lines=[1])
    assert shop.one(shop.refund(lines)).code == "above_ceiling", "no such order"
    assert shop.balance("A:psp") == 850


def test_refund_of_lines_of_several_orders_and_of_none(shop: Shop) -> None:
    first, second = shop.send(shop.order(), shop.order())
    lines = Lines(
        things=["MUG", "MUG", "CLOCK", "POST"],
        quantities=[3, 1, 4, 1],
        amounts=[300, 100, 4000, 50],
        orders=[first.move, second.move, 0, 0],
        order_lines=[1, 1, 0, 0],
    )
    refund = shop.do(**fields_of(shop.refund(lines)))
    assert (refund.unmatched_quantity, refund.unmatched_amount) == (5, 4050)
    fact = shop.facts[-1]
    assert (fact.unmatched_quantity, fact.unmatched_amount) == (5, 4050)
    assert shop.balance("A:psp") == 1700 - 4450
    assert shop.balance("R:shipping") == 50
    assert shop.balance(f"I:owned/{shop.b}", "MUG") == 2
    assert shop.balance("I:returned.contra", "CLOCK") == -4
    assert shop.balance("I:world", "CLOCK") == 4
    assert shop.balance(f"M:reversible/{ids.format_id(second.move)}#1/psp") == 200


def test_refund_that_reverses_nothing_known(shop: Shop) -> None:
    lines = Lines(things=["CLOCK"], quantities=[1], amounts=[70])
    refund = shop.do(**fields_of(shop.refund(lines)))
    assert (refund.unmatched_quantity, refund.unmatched_amount) == (1, 70)
    assert shop.balance("R:sales") == -70


def test_refund_to_credit_and_rejected(shop: Shop) -> None:
    lines = Lines(things=["CLOCK"], quantities=[1], amounts=[70])
    granted = shop.one(shop.refund(lines, "grant"))
    assert shop.balance(f"L:refund/{ids.format_id(granted.move)}") == 70
    assert shop.do(move=granted.move, transition="to_credit").state == "credited"
    assert shop.balance(f"L:storecredit/{shop.b}") == 70
    rejected = shop.one(shop.refund(lines, "reject"))
    assert (rejected.state, rejected.leg_count) == ("rejected", 0)


def test_refund_of_an_order_that_is_still_open(shop: Shop) -> None:
    order = shop.one(shop.order("place+capture"))
    lines = Lines(things=["LAMP"], quantities=[1], amounts=[500], orders=[order.move], order_lines=[2])
    refused = shop.one(shop.refund(lines))
    assert refused.code == Refusal.ORDER_NOT_ENDED
    assert "still paid" in refused.message
    assert shop.one(shop.refund(lines, "grant_unfulfilled+succeed")).accepted
    assert shop.one(shop.refund(lines, "grant_unfulfilled+succeed")).code == "below_floor"
    o = ids.format_id(order.move)
    assert shop.balance(f"L:order/{o}") == 350
    assert shop.do(move=order.move, transition="cancel").ended
    assert (
        shop.balance(f"L:order/{o}") == shop.balance("A:psp") == shop.balance(f"M:reversible/{o}#1/psp") == 0
    )


@pytest.mark.parametrize(
    ("orders", "order_lines", "says"),
    [
        ([1], [], "go together"),
        ([0], [3], "both or neither"),
        ([5], [0], "both or neither"),
        ([-1], [1], "both"),
    ],
)
def test_lines_that_reverse_half_of_something(
    shop: Shop, orders: list[int], order_lines: list[int], says: str
) -> None:
    lines = Lines(things=["MUG"], quantities=[1], amounts=[1], orders=orders, order_lines=order_lines)
    answer = shop.one(shop.refund(lines))
    assert answer.code == Refusal.LINES_INVALID
    assert says in answer.message


def test_spec_f1_and_f3_with_own_goods() -> None:
    """The numbers of flows F1 and F3: goods, shipping and tax as lines of an order."""
    shop = Shop()
    shop.thing("GOODS")
    shop.thing("SHIP", "service", account="L:ship/c")
    shop.thing("TAX", "service", account="L:tax/j")
    lines = Lines(things=["GOODS", "SHIP", "TAX"], quantities=[4, 1, 1], amounts=[10_000, 500, 2_205])
    order = shop.one(shop.order(lines=lines))
    o = ids.format_id(order.move)
    assert shop.balance("A:psp") == 12_705
    assert shop.balance("R:sales") == 10_000
    assert shop.balance("L:ship/c") == 500
    assert shop.balance("L:tax/j") == 2_205
    assert shop.balance(f"L:order/{o}") == 0
    settled = JournalLegs(
        debits=["A:bank", "X:psp"], credits=["A:psp", "A:psp"], amounts=[12_332, 373], assets=["GBP", "GBP"]
    )
    shop.do(kind="journal", legs=settled)
    assert shop.balance("A:psp") == 0
    assert shop.balance("A:bank") == 12_332
    back = Lines(
        things=["GOODS", "SHIP", "TAX"],
        quantities=[1, 0, 0],
        amounts=[2_500, 100, 525],
        orders=[order.move] * 3,
        order_lines=[1, 2, 3],
    )
    granted = shop.one(shop.refund(back, "grant"))
    r = ids.format_id(granted.move)
    assert shop.balance(f"L:refund/{r}") == 3_125
    shop.do(move=granted.move, transition="succeed")
    assert shop.balance(f"L:refund/{r}") == 0
    assert shop.balance("A:psp") == -3_125
    assert shop.balance("L:tax/j") == 1_680
    assert shop.balance("R:sales") == 7_500
    cancelled = shop.one(shop.order("place+capture+cancel", lines=lines))
    assert shop.balance(f"L:order/{ids.format_id(cancelled.move)}") == 0
    assert shop.balance("A:psp") == -3_125
    before = shop.one(shop.order("place+capture", lines=lines))
    early = msgspec.structs.replace(back, orders=[before.move] * 3)
    shop.do(**fields_of(shop.refund(early, "grant_unfulfilled+succeed")))
    assert shop.balance(f"L:order/{ids.format_id(before.move)}") == 9_580
    shop.close()
