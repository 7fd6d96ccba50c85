"""Moves: what commands are accepted, what they post, and what a request gets when it is sent again.

All run on the real ledger. At the end of each test the desk proves the ledger's invariants, and that replay
and restore lead to the same state.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import ids
from engine.commands import JournalEntries, JournalLegs, Lines, MoveCommand, Refusal
from engine.directory import Directory
from engine.entities import Side
from engine.intake import paired_rows
from engine.kinds import kind_from_data
from engine.layout import AMOUNT_MAX
from engine.ledger import LedgerConfig
from engine.moves import LoadedRequests
from engine.standard_kinds import STANDARD_KINDS
from tests.desk import SECOND, START, Desk


class Shop(Desk):
    """A desk with a currency, a buyer, a seller and some goods."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gbp = self.thing("GBP", "asset")
        self.buyer, self.seller = self.party(), self.party("org")
        for code in ("MUG", "LAMP", "CLOCK"):
            self.thing(code)
        self.thing("POST", "service", revenue="shipping")
        self.b, self.s = ids.format_id(self.buyer), ids.format_id(self.seller)

    def transfer(self, amount: int = 100, **fields: Any) -> MoveCommand:
        """A transfer from buyer to seller."""
        given = {
            "id": self.id(),
            "kind": "transfer",
            "payer": self.buyer,
            "payee": self.seller,
            "asset": "GBP",
        }
        given["amount"] = amount
        return MoveCommand(**(given | fields))

    def order(self, transition: str = "place+capture+fulfil", **fields: Any) -> MoveCommand:
        """An order of three mugs for 300, a lamp for 500 and the postage of 50."""
        lines = Lines(things=["MUG", "LAMP", "POST"], quantities=[3, 1, 1], amounts=[300, 500, 50])
        given: dict[str, Any] = {"payer": self.buyer, "payee": self.seller, "asset": "GBP", "lines": lines}
        return MoveCommand(**({"id": self.id(), "kind": "order", "transition": transition} | given | fields))

    def refund(self, lines: Lines, transition: str = "grant+succeed", **fields: Any) -> MoveCommand:
        """A refund to the buyer."""
        given: dict[str, Any] = {"payer": self.buyer, "asset": "GBP", "lines": lines}
        return MoveCommand(**({"id": self.id(), "kind": "refund", "transition": transition} | given | fields))

    def one(self, command: MoveCommand) -> Any:
        """The answer to one command."""
        return self.send(command)[0]


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.close()


# Transfers


def test_transfer_moves_money_and_writes_one_leg(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 250)
    command = shop.transfer(100, reference="rent", metadata={"month": "May"}, business_time=7)
    answer = shop.one(command)
    assert (answer.code, answer.state, answer.seq, answer.version, answer.leg_count) == (
        "",
        "posted",
        0,
        1,
        1,
    )
    assert answer.ended
    assert not answer.replayed
    assert shop.balance(f"L:wallet/{shop.b}") == 150
    assert shop.balance(f"L:wallet/{shop.s}") == 100
    fact = shop.facts[-1]
    assert (fact.reference, fact.metadata, fact.business_time) == ("rent", b'{"month":"May"}', 7)
    assert fact.timestamp == answer.timestamp
    assert shop.book.open == {}


def test_transfer_between_accounts_given_by_key(shop: Shop) -> None:
    shop.do(**_fields(shop.transfer(70, inputs={"debit": "A:bank"})))
    assert shop.balance("A:bank") == 70
    assert shop.balance(f"L:wallet/{shop.s}") == 70


def test_held_transfer_is_posted_in_part(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    held = shop.one(shop.transfer(100, transition="hold", timeout=60))
    assert (held.state, held.ended) == ("pending", False)
    assert shop.balance(f"L:wallet/{shop.b}") == 100
    refused = shop.ask(move=held.move, transition="post", amount=101)
    assert refused.code == "exceeds_pending_transfer_amount"
    assert (refused.state, refused.version) == ("pending", 1)
    posted = shop.do(move=held.move, transition="post", amount=30)
    assert (posted.state, posted.seq, posted.version, posted.ended) == ("posted", 1, 2, True)
    assert shop.balance(f"L:wallet/{shop.b}") == 70
    assert shop.one(shop.transfer(70)).accepted, "what was not posted is free again"


def test_held_transfer_is_posted_whole_or_voided(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    first = shop.one(shop.transfer(40, transition="hold"))
    second = shop.one(shop.transfer(60, transition="hold"))
    assert shop.one(shop.transfer(1)).code == "below_floor"
    assert shop.do(move=first.move, transition="post").state == "posted"
    assert shop.do(move=second.move, transition="void").state == "voided"
    assert shop.balance(f"L:wallet/{shop.b}") == 60


def test_hold_that_runs_out_expires_its_move(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    held = shop.one(shop.transfer(100, transition="hold", timeout=60))
    assert shop.book.open[held.move].expires_at == held.timestamp + 60 * 10**9
    assert shop.wait(30) == []
    (fact,) = shop.wait(31)
    assert (fact.state, fact.transition, fact.ended, fact.seq) == ("expired", "expire", True, 1)
    late = shop.ask(move=held.move, transition="post")
    assert (late.code, "expired" in late.message) == (Refusal.MOVE_ENDED, True)
    assert shop.one(shop.transfer(100)).accepted


def test_expire_is_not_for_clients(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    held = shop.one(shop.transfer(100, transition="hold", timeout=60))
    refused = shop.ask(move=held.move, transition="expire")
    assert refused.code == Refusal.MOVE_STATE_DIFFERS
    assert "post, void" in refused.message


# What is refused, and with which words

BAD_TRANSFERS: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "gift"}, Refusal.KIND_UNKNOWN, "adjustment, journal, opening, order, refund, transfer"),
    ({"kind": ""}, Refusal.KIND_UNKNOWN, "there is no ''"),
    ({"transition": "fly"}, Refusal.TRANSITION_UNKNOWN, "it has hold, post, void"),
    ({"transition": "void"}, Refusal.MOVE_STATE_DIFFERS, "from proposed lead post, hold"),
    ({"transition": "hold+" * 8 + "hold"}, Refusal.TRANSITION_UNKNOWN, "more than 8"),
    ({"amount": 0}, Refusal.AMOUNT_NOT_POSITIVE, "above 0"),
    ({"amount": -1}, Refusal.AMOUNT_NEGATIVE, "-1"),
    ({"amount": AMOUNT_MAX + 1}, Refusal.AMOUNT_OVERFLOWS, "beyond"),
    ({"amount": 2**200}, Refusal.AMOUNT_OVERFLOWS, "beyond"),
    ({"amount": 1.5}, Refusal.FIELD_INVALID, "whole number"),
    ({"amount": float("nan")}, Refusal.FIELD_INVALID, "whole number"),
    ({"amount": True}, Refusal.FIELD_INVALID, "whole number"),
    ({"asset": "EUR"}, Refusal.ASSET_NOT_FOUND, "'EUR'"),
    ({"asset": ""}, Refusal.FIELD_MISSING, "asset"),
    ({"payer": 0}, Refusal.FIELD_MISSING, "payer"),
    ({"payer": 2**128 - 1}, Refusal.FIELD_INVALID, "payer"),
    ({"payer": 99}, Refusal.PARTY_NOT_FOUND, "payer"),
    ({"payee": 99}, Refusal.PARTY_NOT_FOUND, "payee"),
    ({"tender": "psp"}, Refusal.FIELD_NOT_ACCEPTED, "taken are amount, asset, payee, payer"),
    ({"timeout": 5}, Refusal.FIELD_NOT_ACCEPTED, "timeout"),
    ({"transition": "hold", "timeout": 2**32}, Refusal.FIELD_INVALID, "timeout"),
    ({"inputs": {"debit": "bank"}}, Refusal.ACCOUNT_KEY_INVALID, "expected an account key"),
    ({"inputs": {"debit": "A:b ank"}}, Refusal.ACCOUNT_KEY_INVALID, "class:purpose"),
    ({"inputs": {"debit": 7}}, Refusal.FIELD_INVALID, "expected text"),
    ({"inputs": {"from": "A:bank"}}, Refusal.FIELD_NOT_ACCEPTED, "this kind has credit, debit"),
    ({"reference": ""}, Refusal.FIELD_INVALID, "reference"),
    ({"reference": "a\nb"}, Refusal.FIELD_INVALID, "control"),
    ({"reference": "x" * 256}, Refusal.FIELD_INVALID, "longer"),
    ({"metadata": {"x": "y" * 70_000}}, Refusal.FIELD_INVALID, "metadata"),
    ({"business_time": -1}, Refusal.FIELD_INVALID, "business_time"),
    ({"if_version": 3}, Refusal.FIELD_NOT_ACCEPTED, "no version yet"),
    ({"id": 0}, Refusal.ID_INVALID, "id"),
    ({"id": 2**128 - 1}, Refusal.ID_INVALID, "id"),
    ({"move": 77, "transition": "post"}, Refusal.MOVE_NOT_FOUND, "there is no Move"),
]


@pytest.mark.parametrize(("fields", "code", "says"), BAD_TRANSFERS, ids=lambda value: str(value)[:40])
def test_bad_transfer_is_refused_and_changes_nothing(
    shop: Shop, fields: dict[str, Any], code: str, says: str
) -> None:
    before = shop.book.state()["window"]["generations"].tobytes()
    answer = shop.one(shop.transfer(**({"amount": 10} | fields)))
    assert answer.code == code
    assert says in answer.message
    assert not answer.accepted
    assert shop.book.state()["window"]["generations"].tobytes() == before
    assert shop.ledger.account_count == 0


def test_transfer_to_oneself_is_refused(shop: Shop) -> None:
    answer = shop.one(shop.transfer(payee=shop.buyer))
    assert answer.code == Refusal.PARTIES_MUST_BE_DIFFERENT
    assert "oneself" in answer.message


def test_guard_says_which_leg_it_refused(shop: Shop) -> None:
    answer = shop.one(shop.transfer(5))
    assert answer.code == "below_floor"
    assert f"leg 1 of 1, L:wallet/{shop.b} > L:wallet/{shop.s} = 5" in answer.message
    assert (answer.state, answer.version) == ("", 0)


# Requests sent again


def test_accepted_request_gets_its_answer_again(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    command = shop.transfer(60, metadata={"a": 1, "b": 2})
    first = shop.one(command)
    again = shop.one(msgspec.structs.replace(command, metadata={"b": 2, "a": 1}))
    assert again == msgspec.structs.replace(first, replayed=True)
    assert shop.balance(f"L:wallet/{shop.s}") == 60


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount", 61), ("payee", 5), ("metadata", {"x": 1}), ("reference", "r"), ("transition", "hold")],
)
def test_other_content_under_the_same_id_is_refused(shop: Shop, field: str, value: Any) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    command = shop.transfer(60)
    shop.one(command)
    answer = shop.one(msgspec.structs.replace(command, **{field: value}))
    assert answer.code == Refusal.EXISTS_WITH_DIFFERENT_CONTENT
    assert answer.message.endswith(f" in {field}")


def test_first_difference_is_named(shop: Shop) -> None:
    command = shop.order()
    shop.one(command)
    lines = Lines(things=["MUG"], quantities=[1], amounts=[1])
    answer = shop.one(msgspec.structs.replace(command, lines=lines, reference="r"))
    assert answer.message.endswith(" in lines")


def test_transient_refusal_is_kept(shop: Shop) -> None:
    command = shop.transfer(60)
    first = shop.one(command)
    assert first.code == "below_floor"
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    again = shop.one(command)
    assert again == msgspec.structs.replace(first, replayed=True)
    assert shop.one(msgspec.structs.replace(command, id=shop.id())).accepted


def test_other_refusal_is_judged_afresh(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    command = shop.transfer(60, asset="EUR")
    assert shop.one(command).code == Refusal.ASSET_NOT_FOUND
    shop.thing("EUR", "asset")
    assert shop.one(command).code == "below_floor"


def test_version_condition(shop: Shop) -> None:
    order = shop.one(shop.order("place"))
    stale = MoveCommand(id=shop.id(), move=order.move, transition="capture", if_version=7)
    refused = shop.one(stale)
    assert refused.code == Refusal.MOVE_VERSION_DIFFERS
    assert "version 1, not 7" in refused.message
    assert shop.do(move=order.move, transition="capture", if_version=1).version == 2
    assert shop.one(stale).replayed, "it could have turned into a success"


def test_two_steps_of_one_move_in_one_turn(shop: Shop) -> None:
    create = shop.order("place")
    steps = [MoveCommand(id=shop.id(), move=create.id, transition=name) for name in ("capture", "fulfil")]
    answers = shop.send(create, steps[0], steps[0], steps[1], shop.order())
    assert [answer.state for answer in answers] == ["placed", "paid", "paid", "fulfilled", "fulfilled"]
    assert [answer.replayed for answer in answers] == [False, False, True, False, False]


def test_reference_is_unique_for_its_payer(shop: Shop) -> None:
    first = shop.one(shop.order(reference="536365"))
    twice = shop.send(shop.order(reference="9"), shop.order(reference="9"))
    assert [answer.code for answer in twice] == ["", Refusal.REFERENCE_ALREADY_USED]
    answer = shop.one(shop.order(reference="536365"))
    assert answer.code == Refusal.REFERENCE_ALREADY_USED
    assert ids.format_id(first.move) in answer.message
    other = shop.party()
    assert shop.one(shop.order(reference="536365", payer=other)).accepted


# Orders


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
    answer = shop.do(**_fields(shop.order(lines=lines)))
    # One leg of money, one to reverse it, one sale, one lot of units.
    assert answer.leg_count == 4
    assert shop.balance(f"I:owned/{shop.b}", "MUG") == 2
    free = Lines(things=["POST"], quantities=[1], amounts=[0])
    assert shop.do(**_fields(shop.order(lines=free))).leg_count == 0


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


# Refunds


def test_refund_of_some_lines(shop: Shop) -> None:
    order = shop.one(shop.order())
    lines = Lines(things=["MUG"], quantities=[2], amounts=[200], orders=[order.move], order_lines=[1])
    refund = shop.do(**_fields(shop.refund(lines)))
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
    refund = shop.do(**_fields(shop.refund(lines)))
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
    refund = shop.do(**_fields(shop.refund(lines)))
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
    shop.do(**_fields(shop.refund(early, "grant_unfulfilled+succeed")))
    assert shop.balance(f"L:order/{ids.format_id(before.move)}") == 9_580
    shop.close()


# Adjustments, journals, openings


def test_units_written_off_and_found(shop: Shop) -> None:
    lines = Lines(things=["MUG", "LAMP"], quantities=[-5, 2])
    shop.do(kind="adjustment", payer=shop.seller, reason="write_off", lines=lines)
    assert shop.balance("I:shrink.contra", "MUG") == 5
    assert shop.balance("I:world", "MUG") == -5
    assert shop.balance("I:shrink.contra", "LAMP") == -2


def test_debts_fees_and_discounts(shop: Shop) -> None:
    lines = Lines(
        amounts=[1106206, -1106206, -1106206, 40, -15],
        reasons=["bad_debt", "bad_debt", "bad_debt", "fee", "discount"],
    )
    shop.do(kind="adjustment", payer=shop.buyer, asset="GBP", lines=lines)
    assert shop.balance("X:baddebt") == 1106206
    assert shop.balance("R:fee") == 40
    assert shop.balance("R:discount") == -15
    assert shop.balance(f"A:ar/{shop.b}") == -1106206 + 25
    fee = Lines(things=["POST"], quantities=[-1], amounts=[-1300])
    shop.do(
        kind="adjustment", payer=shop.buyer, asset="GBP", reason="fee", lines=fee, inputs={"account": "A:psp"}
    )
    assert shop.balance("A:psp") == -1300


@pytest.mark.parametrize("reason", ["", "whim"])
def test_adjustment_needs_a_reason_it_knows(shop: Shop, reason: str) -> None:
    lines = Lines(amounts=[1])
    answer = shop.ask(kind="adjustment", payer=shop.buyer, asset="GBP", lines=lines, reason=reason)
    assert answer.code in {Refusal.FIELD_MISSING, Refusal.FIELD_INVALID}
    assert "bad_debt, correction, discount, fee, write_off" in answer.message
    missing = shop.ask(kind="adjustment", payer=shop.buyer, lines=lines, reason="fee")
    assert missing.code == Refusal.ASSET_NOT_FOUND


def test_journal_of_entries_is_paired_for_each_asset(shop: Shop) -> None:
    entries = JournalEntries(
        accounts=["A:bank", "X:psp", "A:psp", "I:world", f"I:owned/{shop.b}"],
        sides=[Side.DEBIT, Side.DEBIT, Side.CREDIT, Side.CREDIT, Side.DEBIT],
        amounts=[90, 10, 100, 3, 3],
        assets=["GBP", "GBP", "GBP", "MUG", "MUG"],
    )
    answer = shop.do(kind="journal", entries=entries)
    assert answer.leg_count == 3
    assert (shop.balance("A:bank"), shop.balance("X:psp"), shop.balance("A:psp")) == (90, 10, -100)
    assert shop.balance(f"I:owned/{shop.b}", "MUG") == 3


BAD_JOURNALS: list[tuple[dict[str, Any], str, str]] = [
    ({}, Refusal.FIELD_MISSING, "legs or entries"),
    ({"legs": JournalLegs([], [], [], [])}, Refusal.LINES_INVALID, "empty"),
    ({"legs": JournalLegs(["A:a"], ["A:b"], [0], ["GBP"])}, Refusal.AMOUNT_NOT_POSITIVE, "leg 1"),
    ({"legs": JournalLegs(["A:a"], ["A:b"], [-4], ["GBP"])}, Refusal.AMOUNT_NEGATIVE, "-4"),
    ({"legs": JournalLegs(["A:a"], ["A:b"], [4], ["USD"])}, Refusal.ASSET_NOT_FOUND, "'USD'"),
    ({"legs": JournalLegs(["A:a"], ["A:b", "A:c"], [4], ["GBP"])}, Refusal.LINES_INVALID, "others have 2"),
    ({"legs": JournalLegs(["cash"], ["A:b"], [4], ["GBP"])}, Refusal.ACCOUNT_KEY_INVALID, "'cash'"),
    (
        {"legs": JournalLegs(["L:wallet/bob"], ["A:b"], [4], ["GBP"])},
        Refusal.ACCOUNT_KEY_INVALID,
        "Party's id",
    ),
    ({"legs": JournalLegs(["A:a"], ["A:a"], [4], ["GBP"])}, "accounts_must_be_different", "different"),
    (
        {"entries": JournalEntries(["A:a", "A:b"], [Side.DEBIT, Side.CREDIT], [4, 5], ["GBP", "GBP"])},
        Refusal.NOT_BALANCED,
        "GBP has debits of 4 and credits of 5",
    ),
]


@pytest.mark.parametrize(("fields", "code", "says"), BAD_JOURNALS, ids=lambda value: str(value)[:30])
def test_bad_journal_is_refused(shop: Shop, fields: dict[str, Any], code: str, says: str) -> None:
    answer = shop.ask(kind="journal", **fields)
    assert answer.code == code
    assert says in answer.message
    assert shop.ledger.account_count == 0


def test_opening_balances_on_both_sides(shop: Shop) -> None:
    entries = JournalEntries(
        accounts=["A:bank", f"L:wallet/{shop.b}", "A:psp"],
        sides=[Side.DEBIT, Side.CREDIT, Side.DEBIT],
        amounts=[500, 120, 0],
        assets=["GBP"] * 3,
    )
    assert shop.do(kind="opening", entries=entries).leg_count == 2
    assert shop.balance("A:bank") == 500
    assert shop.balance(f"L:wallet/{shop.b}") == 120
    assert shop.balance("L:opening.contra") == 380


ENTRIES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1, max_size=12)


@given(ENTRIES, ENTRIES)
def test_pairing_keeps_every_amount(debits: list[tuple[int, int]], credits: list[tuple[int, int]]) -> None:
    directory = Shop().directory
    short = sum(amount for _, amount in debits) - sum(amount for _, amount in credits)
    (debits if short < 0 else credits).append((4, abs(short)))
    rows = [(f"A:d{name}", Side.DEBIT, amount) for name, amount in debits]
    rows += [(f"A:c{name}", Side.CREDIT, amount) for name, amount in credits]
    entries = JournalEntries(
        accounts=[key for key, _, _ in rows],
        sides=[side for _, side, _ in rows],
        amounts=[amount for _, _, amount in rows],
        assets=["GBP"] * len(rows),
    )
    legs = paired_rows(entries, directory)
    totals: dict[str, int] = {}
    for debit, credit, amount in zip(
        legs["leg.debit"], legs["leg.credit"], legs.amounts["leg.amount"], strict=True
    ):
        assert amount > 0
        totals[debit] = totals.get(debit, 0) + amount
        totals[credit] = totals.get(credit, 0) + amount
    expected: dict[str, int] = {}
    for key, _, amount in rows:
        expected[key] = expected.get(key, 0) + amount
    assert totals == {key: amount for key, amount in expected.items() if amount}
    assert legs.count <= len(rows)


# Memory: what is forgotten is looked up


def tiny() -> Shop:
    return Shop(
        config=LedgerConfig(
            ids_per_generation=8, turn_events_max=64, accounts_initial=8, holds_initial=8, hash_seed=1
        )
    )


def forget(shop: Shop) -> None:
    """Let the window turn until everything so far is dropped."""
    before = shop.ledger.generation
    while shop.ledger.generation < before + 2:
        legs = JournalLegs(["A:a"] * 4, ["A:b"] * 4, [1] * 4, ["GBP"] * 4)
        shop.do(kind="journal", legs=legs)
        shop.ledger.drop_generations(shop.ledger.droppable(shop.ledger.last_timestamp))
        shop.turn_window()
    assert shop.ledger.dropped > before
    shop.now += SECOND


def test_forgotten_request_is_looked_up() -> None:
    shop = tiny()
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    done = shop.transfer(60, reference="r1")
    first = shop.one(done)
    kept = {ids.id_from_bytes(fact.request): fact for fact in shop.facts}
    assert not shop.book.unknown_requests([done], shop.now)
    forget(shop)
    step = MoveCommand(id=shop.id(), move=done.id, transition="post")
    unknown = shop.book.unknown_requests(
        [done, step, shop.transfer(5, reference="r1"), shop.transfer(6)], shop.now
    )
    assert unknown.requests == [done.id]
    assert unknown.moves == [done.id]
    assert unknown.references == [(shop.buyer, "r1"), (shop.buyer, "r1")]
    loaded = LoadedRequests(
        requests={done.id: kept[done.id]},
        moves={done.id: kept[done.id]},
        references={(shop.buyer, "r1"): done.id},
    )
    again, ended, taken = shop.send(done, step, shop.transfer(5, reference="r1"), loaded=loaded)
    assert again == msgspec.structs.replace(first, replayed=True)
    assert ended.code == Refusal.MOVE_ENDED
    assert taken.code == Refusal.REFERENCE_ALREADY_USED
    assert shop.balance(f"L:wallet/{shop.s}") == 60
    shop.close()


def test_only_young_uuid7_is_provably_new() -> None:
    shop = tiny()
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    now_ms = shop.now // 10**6
    odd = [
        ids.uuid7(now_ms - 1, 0, 9),  # older than what was dropped
        ids.uuid7(now_ms + 100_000, 0, 9),  # from the future
        ids.id_of_text("t", "key"),  # no UUIDv7
        5,
    ]
    commands = [shop.transfer(1, id=id) for id in odd]
    assert not shop.book.unknown_requests(commands, shop.now), "nothing was dropped yet"
    forget(shop)
    assert shop.book.unknown_requests(commands, shop.now).requests == odd
    assert not shop.book.unknown_requests([shop.transfer(1)], shop.now)
    shop.close()


def test_open_moves_outlive_the_window() -> None:
    shop = tiny()
    order = shop.one(shop.order("place"))
    forget(shop)
    assert not shop.book.unknown_requests(
        [MoveCommand(id=shop.id(shop.now // 10**6 + 1), move=order.move, transition="cancel")], shop.now
    )
    assert shop.do(move=order.move, transition="cancel").state == "cancelled"
    shop.close()


def test_window_says_what_may_be_dropped() -> None:
    shop = Shop()
    shop.one(shop.order("place"))
    first = shop.now
    window = shop.book.window
    window.set_generation(1, 0)
    shop.one(shop.order("place"))
    assert [window.droppable(time) for time in (0, first, AMOUNT_MAX)] == [0, 1, 1]
    window.set_generation(0, 0)
    assert window.generation == 1, "it never turns back"


# Previews


def test_preview_says_what_would_be_written_and_writes_nothing(shop: Shop) -> None:
    command = shop.order()
    before = shop.book.state()["open"].tobytes(), shop.ledger.account_count
    shown = shop.book.preview(command, shop.now)
    assert (shown.state, shown.code) == ("fulfilled", "")
    assert (shop.book.state()["open"].tobytes(), shop.ledger.account_count) == before
    answer = shop.one(command)
    assert len(shown.entries) == 2 * answer.leg_count
    sums: dict[str, int] = {}
    for entry in shown.entries:
        key = f"{entry.key}@{entry.asset}"
        sums[key] = sums.get(key, 0) + (entry.amount if entry.side == Side.DEBIT else -entry.amount)
    assert sums[f"A:psp@{shop.gbp}"] == 850
    assert sums[f"L:order/{ids.format_id(command.id)}@{shop.gbp}"] == 0


def test_preview_knows_residuals_and_refusals(shop: Shop) -> None:
    order = shop.one(shop.order("place+capture"))
    cancel = MoveCommand(id=shop.id(), move=order.move, transition="cancel")
    shown = shop.book.preview(cancel, shop.now)
    assert [entry.amount for entry in shown.entries[:4]] == [850] * 4
    assert shop.book.preview(shop.transfer(5), shop.now).code == "below_floor"
    assert shop.book.preview(shop.transfer(0), shop.now).code == Refusal.AMOUNT_NOT_POSITIVE
    assert shop.book.preview(shop.transfer(kind="gift"), shop.now).code == Refusal.KIND_UNKNOWN
    assert shop.book.preview(msgspec.structs.replace(cancel, transition="place"), shop.now).code
    assert shop.one(cancel).accepted


# A kind of one's own


def test_kind_added_as_data() -> None:
    tip = kind_from_data(
        {
            "name": "tip",
            "code": 100,
            "states": ["offered", "given"],
            "usual": "give",
            "needs": ["payer", "payee", "asset", "amount"],
            "inputs": {"percent": 10},
            "transitions": [
                {
                    "name": "give",
                    "sources": ["offered"],
                    "target": "given",
                    "postings": [
                        {
                            "debit": "A:psp",
                            "credit": "L:tip/{payee}",
                            "amount": "amount - amount * percent // 100",
                        },
                        {"debit": "A:psp", "credit": "R:fee#tips", "amount": "amount * percent // 100"},
                    ],
                }
            ],
        }
    )
    shop = Shop(kinds=[*STANDARD_KINDS, tip])
    shop.do(kind="tip", payer=shop.buyer, payee=shop.seller, asset="GBP", amount=55, inputs={"percent": 20})
    assert shop.balance(f"L:tip/{shop.s}") == 44
    assert shop.balance("R:fee#tips") == 11
    negative = shop.ask(
        kind="tip", payer=shop.buyer, payee=shop.seller, asset="GBP", amount=5, inputs={"percent": 900}
    )
    assert negative.code == Refusal.AMOUNT_NEGATIVE
    shop.close()


def test_order_of_a_thousand_lines(shop: Shop) -> None:
    codes = [f"SKU{number}" for number in range(1_114)]
    for code in codes:
        shop.thing(code)
    lines = Lines(things=codes, quantities=[2] * 1_114, amounts=list(range(1, 1_115)))
    answer = shop.do(**_fields(shop.order(lines=lines)))
    assert answer.leg_count == 1 + 3 * 1_114
    assert shop.balance("R:sales") == 1_114 * 1_115 // 2
    assert shop.balance(f"I:owned/{shop.b}", "SKU1113") == 2


def _fields(command: MoveCommand) -> dict[str, Any]:
    return {name: getattr(command, name) for name in command.__struct_fields__}


def test_times_are_those_of_the_legs(shop: Shop) -> None:
    answer = shop.one(shop.order())
    assert START < answer.timestamp == shop.ledger.last_timestamp
    assert isinstance(shop.directory, Directory)
