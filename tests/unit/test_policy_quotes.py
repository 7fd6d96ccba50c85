"""Quotes: all policies over an order, fees, compliance, what is given back, and sentences for each step."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.policies.facts import PolicyError
from engine.policies.quote import Quote, policy_from_data, quote
from engine.policies.returns import returned
from engine.policies.sentences import sentences
from engine.policies.trace import Charged, NotCharged, Priced
from tests.policy_orders import listed, order, quoted

VAT = {"name": "vat", "order": 100, "rules": [{"thing": "vat-de", "rate": "19%"}]}
TAXES = {"policy": "taxes", "stages": [VAT]}


def fees(*drafts: dict[str, Any]) -> dict[str, Any]:
    return {"policy": "fees", "fees": [{"thing": draft["code"], "asset": "EUR", **draft} for draft in drafts]}


def demand(**more: Any) -> dict[str, Any]:
    rule = {"code": "rule", "about": {"groups": ["spirits"]}, **more}
    return {"policy": "compliance", "rules": [rule]}


SHIPPING = {"code": "shipping", "amount": 500, "free_from": 10_000, "taxable": True, "refundable": True}


def test_lines_come_as_they_are_written_down() -> None:
    promotions = {
        "policy": "promotions",
        "promotions": [{"code": "tenth", "benefit": {"kind": "percent_off", "rate": "10%"}}],
    }
    made = quoted(order(("mug", 2), ("cup", 1)), listed(mug=1000, cup=501), promotions, fees(SHIPPING), TAXES)
    assert [(line.kind, line.thing, line.amount) for line in made.lines] == [
        ("goods", "mug", 1800),
        ("goods", "cup", 451),
        ("fee", "shipping", 500),
        ("tax", "vat-de", 523),
    ]
    assert made.lines[3].taxes == {1: 342, 2: 86, 3: 95}
    assert [(line.listed, line.discount) for line in made.lines[:2]] == [(2000, 200), (501, 50)]
    assert made.total == 3274 == sum(line.amount for line in made.lines)
    assert made.policies == {
        "prices": "prices@1",
        "promotions": "promotions@1",
        "fees": "fees@1",
        "taxes": "taxes@1",
    }


def test_what_the_platform_funds_is_a_tender() -> None:
    spring = {"code": "spring", "benefit": {"kind": "percent_off", "rate": "30%"}, "funded_by": "platform"}
    for reduces, inclusive, amounts, subsidy in (
        (True, False, [2000, 266], 600),
        (False, False, [2000, 380], 600),
        (True, True, [1776, 224], 600),
    ):
        promotions = {"policy": "promotions", "promotions": [{**spring, "reduces_tax_base": reduces}]}
        taxes = {**TAXES, "stages": [{**VAT, "inclusive": inclusive}]}
        made = quoted(order(("mug", 2)), listed(mug=1000), promotions, taxes)
        assert [line.amount for line in made.lines] == amounts
        assert (made.subsidy, made.payable, made.total) == (subsidy, sum(amounts) - subsidy, sum(amounts))
        back = [returned(made, {1: before}, {1: 1}) for before in range(2)]
        assert sum(sum(amount.values()) for amount in back) == made.payable


def test_a_quote_survives_json() -> None:
    made = quoted(order(("mug", 2)), listed(mug=1000), fees(SHIPPING), TAXES)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Quote) == made


def test_fees_have_conditions_limits_and_payers() -> None:
    policy = fees(
        SHIPPING,
        {"code": "island", "amount": 100, "place": {"country": "IS"}},
        {"code": "small", "amount": 50, "from_amount": 5000},
        {"code": "glass", "per_unit": 10, "about": {"groups": ["glass"]}},
        {"code": "commission", "rate": "12%", "payer": "seller", "most": 300},
        {"code": "dollars", "amount": 5, "asset": "USD"},
    )
    made = quoted(order(("mug", 3)), listed(mug=1000), policy)
    said = {step.fee: step for step in made.steps if isinstance(step, Charged | NotCharged)}
    assert {fee: step.why for fee, step in said.items() if isinstance(step, NotCharged)} == {
        "island": "elsewhere",
        "small": "order_too_small",
        "glass": "nothing_it_is_for",
    }
    assert made.seller_fees == {"commission": 300}
    assert made.total == 3500
    commission = said["commission"]
    assert isinstance(commission, Charged)
    assert (commission.line, commission.limited_to, commission.base) == (0, 300, 3000)
    free = quoted(order(("mug", 10)), listed(mug=1000), fees(SHIPPING))
    assert free.total == 10_000


@pytest.mark.parametrize(
    ("rule", "facts", "verdict"),
    [
        ({"age_min": 18}, {}, "deny"),
        ({"age_min": 18}, {"standing": {"born": "2008-03-02"}}, "deny"),
        ({"age_min": 18}, {"standing": {"born": "2008-03-01"}}, "allow"),
        ({"age_min": 18, "verdict": "hold"}, {}, "hold"),
        ({"trust_min": 50}, {"trust": 49}, "deny"),
        ({"trust_min": 50}, {"trust": 50}, "allow"),
        ({"banned": True, "place": {"country": "US"}}, {"ship_to": {"country": "US"}}, "deny"),
        ({"banned": True, "place": {"country": "US"}}, {"ship_to": {"country": "DE"}}, "allow"),
        ({"licence": "spirits"}, {}, "deny"),
        ({"licence": "spirits"}, {"standing": {"licences": [{"name": "spirits"}]}}, "allow"),
        (
            {"licence": "spirits"},
            {"standing": {"licences": [{"name": "spirits", "valid_until": "2026-03-01T12:00:00Z"}]}},
            "deny",
        ),
        ({"licence": "spirits"}, {"standing": {"licences": [{"name": "tobacco"}]}}, "deny"),
    ],
)
def test_an_order_is_as_good_as_its_worst_line(
    rule: dict[str, Any], facts: dict[str, Any], verdict: str
) -> None:
    request = order(("mug", 1), ("rum", 1, {"groups": ["spirits"]}), **facts)
    made = quoted(request, listed(mug=1, rum=1), demand(**rule))
    assert made.verdict == verdict
    assert len(sentences(made)) == len(made.steps)
    assert quoted(order(("mug", 1)), listed(mug=1), demand(**rule)).verdict == "allow"


def test_someone_born_on_a_leap_day_ages_on_the_first_of_march() -> None:
    standing = {"born": "2008-02-29"}
    for day, verdict in (
        (datetime(2026, 2, 28, tzinfo=UTC), "deny"),
        (datetime(2026, 3, 1, tzinfo=UTC), "allow"),
    ):
        request = order(("rum", 1, {"groups": ["spirits"]}), standing=standing, as_of=day)
        assert quoted(request, listed(rum=1), demand(age_min=18)).verdict == verdict


@pytest.mark.parametrize(
    ("document", "where", "reason"),
    [
        ({"policy": "wishes"}, "policy", "invalid value 'wishes'"),
        ({"rows": []}, "", "missing required field `policy`"),
        ([], "", "expected `object`, got `array`"),
        (fees({"code": "x", "amount": 0}), "fees[0]", "a fee needs an amount"),
        (fees({"code": "x", "amount": 1, "most": 1.0}), "fees[0].most", "got `float`"),
        (demand(), "rules[0]", "a rule has one of"),
        (demand(age_min=18, trust_min=1), "rules[0]", "a rule has one of"),
        (demand(age_min="18"), "rules[0].age_min", "expected `int | null`, got `str`"),
    ],
)
def test_policies_are_refused_by_the_field(document: Any, where: str, reason: str) -> None:
    with pytest.raises(PolicyError) as refused:
        policy_from_data(document)
    assert refused.value.where == where
    assert reason in refused.value.reason


def test_policies_of_an_order_are_one_of_each_kind_with_prices() -> None:
    with pytest.raises(PolicyError, match="policies: none of them has prices"):
        quoted(order(("mug", 1)), TAXES)
    policy = policy_from_data(listed(mug=1))
    with pytest.raises(PolicyError, match="policies: prices@1 and prices@2 are both prices"):
        quote({"prices@1": policy, "prices@2": policy}, order(("mug", 1)))


def test_every_price_says_what_it_goes_before() -> None:
    made = quoted(order(("mug", 3)), listed(mug=1050))
    assert sentences(made) == [
        "Line 1: 3 of mug at 10.50 EUR each come to 31.50 EUR. The price is the list price."
    ]
    assert isinstance(made.steps[0], Priced)


DRAWN = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 9_999)), min_size=1, max_size=4)


@given(
    DRAWN,
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=12),
)
@settings(max_examples=150)
def test_any_sequence_of_returns_sums_to_the_whole(
    lines: list[tuple[int, int]], inclusive: bool, refundable: bool, steps: list[tuple[int, int]]
) -> None:
    table = listed(**{f"t{index}": price for index, (_, price) in enumerate(lines)})
    taxes = {**TAXES, "stages": [{**VAT, "inclusive": inclusive}]}
    request = order(*((f"t{index}", quantity) for index, (quantity, _) in enumerate(lines)))
    made = quoted(request, table, fees({**SHIPPING, "refundable": refundable}), taxes)
    left = {index + 1: quantity for index, (quantity, _) in enumerate(lines)}
    before = dict.fromkeys(left, 0)
    back = [0] * len(made.lines)
    for index, units in [*((line % len(lines) + 1, units) for line, units in steps), *left.items()]:
        units = min(units, left[index])  # noqa: PLW2901  # no more than is left
        for number, amount in returned(made, before, {index: units}).items():
            assert amount > 0
            back[number - 1] += amount
        before[index] += units
        left[index] -= units
    whole = [line.amount for line in made.lines]
    fee_lines = {number for number, line in enumerate(made.lines, 1) if line.kind == "fee"}
    for number, line in enumerate(made.lines, 1):
        if not refundable and line.kind == "fee":
            whole[number - 1] = 0
        elif not refundable and line.kind == "tax":
            whole[number - 1] -= sum(part for of, part in line.taxes.items() if of in fee_lines)
    assert back == whole


def test_more_than_was_ordered_is_not_taken_back() -> None:
    made = quoted(order(("mug", 3)), listed(mug=1050), TAXES)
    assert returned(made, {}, {1: 1}) == {1: 1050, 2: 200}
    for before, now in (({1: 3}, {1: 1}), ({}, {2: 1}), ({}, {1: -1}), ({}, {0: 1})):
        with pytest.raises(PolicyError):
            returned(made, before, now)
