"""Kinds as data: what the language of postings accepts, and what it says about what it does not."""

import pickle
from typing import Any

import msgspec
import pytest

from engine.chart import Chart
from engine.kinds import KindError, MoveKind, compile_kind, compile_kinds, kind_from_data
from engine.standard_kinds import ORDER, STANDARD_KINDS, TRANSFER
from engine.templates import Amount, TemplateError, parse_amount, parse_key_template

NAMES = frozenset({"a", "b", "line"})
ROWS = frozenset({"line.x", "line.y"})
VALUES: dict[str, Amount] = {"a": 7, "b": 2, "line.x": [1, 2, 3], "line.y": [10, 20, 30]}


@pytest.fixture
def chart() -> Chart:
    return Chart("t")


def kind(**changes: Any) -> dict[str, Any]:
    """A small kind as data, with changes."""
    posting = {"debit": "A:psp", "credit": "L:tip/{payee}", "amount": "amount"} | changes.pop("posting", {})
    transition = {"name": "give", "sources": ["offered"], "target": "given", "postings": [posting]}
    plain = {
        "name": "tip",
        "code": 100,
        "states": ["offered", "given"],
        "usual": "give",
        "needs": ["payer", "payee", "asset", "amount"],
        "transitions": [transition | changes.pop("transition", {})],
    }
    return plain | changes


def test_standard_kinds_hold_together(chart: Chart) -> None:
    compiled = compile_kinds(STANDARD_KINDS, chart)
    assert list(compiled) == [item.name for item in STANDARD_KINDS]
    assert compiled["transfer"].next_of("pending") == ["post", "void"]
    assert compiled["order"].ended("fulfilled")
    assert not compiled["order"].ended("paid")


@pytest.mark.parametrize("standard", STANDARD_KINDS, ids=lambda standard: standard.name)
def test_kinds_survive_json(standard: MoveKind) -> None:
    assert kind_from_data(msgspec.json.decode(msgspec.json.encode(standard))) == standard


def test_codes_are_lasting() -> None:
    """They are on legs in databases."""
    assert [(item.name, item.code) for item in STANDARD_KINDS] == [
        ("transfer", 1), ("journal", 2), ("order", 3), ("refund", 4), ("adjustment", 5), ("opening", 6),
        ("reversal", 7), ("marketplace_order", 20), ("sale", 21), ("payment", 22), ("settlement", 23),
        ("marketplace_refund", 24), ("dispute", 25), ("escrow", 26), ("reserve_release", 27),
        ("payout_batch", 28), ("payout", 29), ("gift_card", 30), ("gift_card_redemption", 31),
        ("store_credit", 32), ("store_credit_spend", 33), ("net_terms_order", 34), ("receipt", 35),
        ("subscription", 36), ("currency_order", 37), ("points_earned", 38), ("points_redemption", 39),
        ("points_expiry", 40), ("affiliate_commission", 41), ("goods_receipt", 42), ("affiliate_payout", 43),
        ("stock_order", 44), ("stock_return", 45), ("campaign", 46), ("promotion_use", 47),
        ("checkout", 48),
    ]  # fmt: skip


def test_owner_of_an_account_is_known_before_its_name(chart: Chart) -> None:
    compiled = compile_kind(ORDER, chart)
    capture = compiled.steps["placed", "capture"].postings
    homes = [(key.home, key.of_move) for key in (capture[0].credit, capture[1].debit) if key]
    assert homes == [("move", True), ("move", True)]
    fulfil = compiled.steps["paid", "fulfil"].postings
    homes = [(key.home, key.of_move) for key in (fulfil[1].debit, fulfil[1].credit) if key]
    assert homes == [("payer", False), ("platform", False)]
    assert compile_kind(TRANSFER, chart).input_keys["credit"].home == "payee"


BAD_KINDS: list[tuple[dict[str, Any], str]] = [
    (kind(name=7), r"\$\.name"),
    (kind(colour="red"), "colour"),
    (kind(states=[]), "states: expected one or more"),
    (kind(states=["given", "given"]), "each once"),
    (kind(states=["offered", "given", "limbo"]), "no transition leads to 'limbo'"),
    (kind(code=0), "code: expected 1 to 65535"),
    (kind(usual="take"), "usual: no transition 'take' from state 'offered'"),
    (kind(needs=["payer", "colour"]), "unknown 'colour'; accepted are amount, asset"),
    (kind(inputs={"payer": "x"}), "'payer' is no new name"),
    (kind(inputs={"not a name": 1}), "no new name"),
    (kind(inputs={"account": "A:{x}"}), "unknown name {x}"),
    (kind(defaults={"payer": "x"}), "accepted are reason, tender"),
    (kind(transition={"target": "gone"}), "unknown 'gone'; accepted are given, offered"),
    (kind(transition={"sources": []}), "a source"),
    (kind(transition={"checks": ["luck"]}), "accepted are orders_ended"),
    (kind(transition={"needs": ["x"]}), "unknown 'x'"),
    (kind(lines={"needs": ["colours"]}), "accepted are amounts"),
    (kind(lines={"contra": {"loss": "loss"}}), "contra of 'loss'"),
    (kind(posting={"debit": "psp"}), "posting 1: account key 'psp'"),
    (kind(posting={"debit": "Z:psp"}), "unknown class Z"),
    (kind(posting={"credit": "L:tip/{line.order}"}), r"unknown name \{line.order\}; known are"),
    (kind(posting={"credit": "L:tip/{payee"}), "a placeholder is a name in braces"),
    (kind(posting={"credit": "L:tip/x"}), "needs a Party's id"),
    (kind(posting={"amount": ""}), "an amount is missing"),
    (kind(posting={"amount": "line.amount"}), "unknown name line.amount; known are amount, given"),
    (kind(posting={"when": "raining"}), "raining"),
    (kind(posting={"asset": "row"}), "only a posting with `each`"),
    (kind(posting={"mode": "hold", "amount": "bal(debit)"}), "a hold is one leg of a known amount"),
    (kind(posting={"mode": "post"}), "those of the hold; leave them out"),
    (kind(posting={"mode": "steal"}), "steal"),
    (kind(roles={"payer": "move"}), "roles: 'payer' is no new name"),
    (kind(roles={"host": "house"}), "house"),
    (kind(counters={"amount": 0}), "counters: 'amount' is no new name"),
    (kind(inputs={"left": 1}, counters={"left": 0}), "counters: 'left' is no new name"),
    (kind(transition={"inputs": {"total": 1}}), "'total' is no new name"),
    (kind(transition={"keeps": {"left": "amount"}}), "unknown 'left'"),
    (kind(counters={"left": 0}, transition={"keeps": {"left": "bal(debit)"}}), "is a reading here"),
    (kind(counters={"plan": "a"}, transition={"keeps": {"plan": "{b}"}}), r"unknown name \{b\}"),
    (kind(transition={"readings": {"there": {"account": "L:wallet/{payee}"}}}), "of the Move or its payer"),
    (kind(transition={"limits": {"too much": "amount - x"}}), "limits: 'amount - x': unknown name x"),
    (kind(lines={"columns": {"amount": 0}}), "columns: 'amount' is no new name"),
    (kind(posting={"asset": "{colour}"}), "no input that is a text"),
    (kind(posting={"merge": True}), "have their accounts in common"),
    (kind(posting={"each": "line"}), "the kind has no lines"),
]


@pytest.mark.parametrize(("data", "says"), BAD_KINDS, ids=lambda value: str(value)[-30:])
def test_bad_kind_is_refused_saying_where(data: dict[str, Any], says: str, chart: Chart) -> None:
    with pytest.raises(KindError, match=says):
        compile_kind(kind_from_data(data), chart)


def test_two_kinds_share_no_name_and_no_code(chart: Chart) -> None:
    with pytest.raises(KindError, match="two kinds of this name"):
        compile_kinds([ORDER, ORDER], chart)
    with pytest.raises(KindError, match="the code of kind 'order'"):
        compile_kinds([ORDER, msgspec.structs.replace(ORDER, name="other")], chart)
    twice = msgspec.structs.replace(ORDER, transitions=[*ORDER.transitions, ORDER.transitions[0]])
    with pytest.raises(KindError, match="two of this name from state 'draft'"):
        compile_kind(twice, chart)


@pytest.mark.parametrize("error", [KindError("k", "w", "r"), TemplateError("t", "r")])
def test_errors_survive_pickling(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert str(copy) == str(error)
    assert type(copy) is type(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 7),
        ("12", 12),
        ("a - b * 3", 1),
        ("(a + b) // 2", 4),
        ("min(a, b) + max(a, b)", 9),
        ("line.x", [1, 2, 3]),
        ("line.x * a", [7, 14, 21]),
        ("a - line.x", [6, 5, 4]),
        ("line.y + line.x", [11, 22, 33]),
    ],
)
def test_amounts(text: str, value: Amount) -> None:
    amount = parse_amount(text, NAMES, ROWS)
    assert amount.balancing == ""
    assert amount.evaluate(VALUES) == value


def test_residuals() -> None:
    assert parse_amount("bal(debit)", NAMES, ROWS).balancing == "debit"
    assert parse_amount("bal(credit)", NAMES, ROWS).balancing == "credit"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected names"),
        ("a +", "expected names"),
        ("c", "unknown name c; known are a, b, line, line.x, line.y"),
        ("a / b", "is not accepted"),
        ("a ** b", "is not accepted"),
        ("-a", "is not accepted"),
        ("1.5", "is not accepted"),
        ("True", "is not accepted"),
        ("'a'", "is not accepted"),
        ("bal(a)", "is not accepted"),
        ("bal(debit) - 1", "is not accepted"),
        ("__import__('os')", "is not accepted"),
        ("a.b.c", "is not accepted"),
        ("min(a)", "is not accepted"),
        ("[a for a in b]", "is not accepted"),
        ("lambda: a", "is not accepted"),
        ("a" + "+a" * 30, "nested more than 20 deep"),
        ("(" * 300 + "a" + ")" * 300, "expected names"),
    ],
)
def test_bad_amounts_are_refused(text: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says.replace("(", r"\(")):
        parse_amount(text, NAMES, ROWS)


def test_keys_from_templates() -> None:
    names = {"a": "x", "b": "y"}
    rows = {"line.x": ["1", "2"], "line.y": ["8", "9"]}
    known = NAMES - {"line"}
    assert parse_key_template("A:psp", known, ROWS).one(names) == "A:psp"
    assert parse_key_template("A:{a}/{b}#{a}", known, ROWS).one(names) == "A:x/y#x"
    assert parse_key_template("{a}", known, ROWS).whole == "a"
    assert parse_key_template("{line.x}", known, ROWS).many(names, rows) == ["1", "2"]
    one = parse_key_template("A:{a}/{line.x}#l/{b}", known, ROWS)
    assert one.many(names, rows) == ["A:x/1#l/y", "A:x/2#l/y"]
    two = parse_key_template("A:{line.y}#{line.x}/{b}", known, ROWS)
    assert two.many(names, rows) == ["A:8#1/y", "A:9#2/y"]
