"""Taxes: stages, tax on tax, excise by the unit, prices that include them, certificates."""

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.policies.amounts import ratio, rounded
from engine.policies.facts import PolicyError, QuoteRequest
from engine.policies.quote import policy_from_data
from engine.policies.tax import Result, Taxable, TaxPolicy, tax
from engine.policies.trace import Exempted, NotExempted, Taxed
from tests.policy_orders import order


def stage(name: str, rate: str = "", number: int = 100, **more: Any) -> dict[str, Any]:
    rule = {"thing": f"tax-{name}", **({"rate": rate} if rate else {}), **more.pop("rule", {})}
    return {"name": name, "order": number, "rules": [rule], **more}


def policy(*stages: dict[str, Any]) -> TaxPolicy:
    found = policy_from_data({"policy": "taxes", "stages": list(stages)})
    assert isinstance(found, TaxPolicy)
    return found


def taxed(rules: TaxPolicy, request: QuoteRequest, *amounts: int) -> Result:
    lines = [
        Taxable(number, line, line.tax_class, amount)
        for number, (line, amount) in enumerate(zip(request.lines, amounts, strict=True), 1)
    ]
    return tax(rules, request, lines)


def amounts_of(result: Result) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for step in result.steps:
        if isinstance(step, Taxed):
            found.setdefault(step.stage, []).append(step.amount)
    return found


def test_a_later_stage_taxes_an_earlier_one() -> None:
    excise = {"per_unit": {"amount": "13.02", "asset": "EUR", "measure": "ml"}}
    rules = policy(stage("sales", "19%", 200, on=["excise"]), stage("excise", number=100, rule=excise))
    result = taxed(rules, order(("rum", 2, {"ml": 7})), 3000)
    assert amounts_of(result) == {"excise": [182], "sales": [605]}  # 13.02 × 14; 19 % of 3182
    assert result.nets == [3000]
    sales = result.steps[1]
    assert isinstance(sales, Taxed)
    assert (sales.base, sales.on_taxes) == (3182, {"excise": 182})


def test_prices_that_include_taxes_are_taken_apart() -> None:
    rules = policy(stage("vat", "19%", inclusive=True))
    result = taxed(rules, order(("mug", 1), ("cup", 1)), 11900, 99)
    assert (result.nets, amounts_of(result)) == ([10000, 83], {"vat": [1900, 16]})
    nested = policy(
        stage("excise", number=1, inclusive=True, rule={"per_unit": {"amount": "100", "asset": "EUR"}}),
        stage("vat", "20%", 2, inclusive=True, on=["excise"]),
    )
    result = taxed(nested, order(("rum", 1)), 1320)  # (1000 + 100) + 20 %
    assert (result.nets, amounts_of(result)) == ([1000], {"excise": [100], "vat": [220]})
    with pytest.raises(PolicyError, match=r"lines\[0\]: the taxes in the price come to more than the price"):
        taxed(nested, order(("rum", 1)), 119)


def test_the_narrowest_place_and_the_class_decide() -> None:
    rules = policy(
        {
            "name": "sales",
            "order": 1,
            "rules": [
                {"thing": "any", "rate": "1%"},
                {"thing": "de", "rate": "19%", "place": {"country": "DE"}},
                {"thing": "de-food", "rate": "7%", "place": {"country": "DE"}, "tax_class": "food"},
                {"thing": "by", "rate": "20%", "place": {"country": "DE", "region": "BY"}},
                {
                    "thing": "old",
                    "rate": "16%",
                    "place": {"country": "FR"},
                    "valid_until": "2026-01-01T00:00:00Z",
                },
            ],
        }
    )
    for country, region, food, thing in (
        ("DE", "", False, "de"),
        ("DE", "HH", True, "de-food"),
        ("DE", "BY", True, "by"),
        ("FR", "", False, "any"),
        ("", "", True, "any"),
    ):
        attrs = {"tax_class": "food"} if food else {}
        place = {"country": country, "region": region} if country else {}
        [step] = taxed(rules, order(("bread", 1, attrs), ship_to=place), 1000).steps
        assert isinstance(step, Taxed)
        assert step.thing == thing


def test_certificates_hold_for_their_time_place_and_stages() -> None:
    certificate = {"number": "C-1", "stages": ["vat"], "valid_until": "2026-06-01T00:00:00Z"}
    rules = policy(stage("vat", "19%"), stage("levy", "1%", 200))
    standing = {"certificates": [certificate]}
    result = taxed(rules, order(("mug", 1), standing=standing), 1000)
    assert isinstance(result.steps[0], Exempted)
    assert amounts_of(result) == {"levy": [10]}
    late = order(("mug", 1), standing=standing, as_of=datetime(2026, 6, 1, tzinfo=UTC))
    result = taxed(rules, late, 1000)
    assert amounts_of(result) == {"vat": [190], "levy": [10]}
    expired = result.steps[0]
    assert isinstance(expired, NotExempted)
    assert expired.why == "expired"
    elsewhere = {"certificates": [{**certificate, "place": {"country": "FR"}}]}
    assert amounts_of(taxed(rules, order(("mug", 1), standing=elsewhere), 1000))["vat"] == [190]
    strict = policy(stage("vat", "19%", rule={"exemptable": False}))
    assert amounts_of(taxed(strict, order(("mug", 1), standing=standing), 1000)) == {"vat": [190]}


def test_an_exempt_party_does_not_pay_the_tax_that_is_in_the_price() -> None:
    standing = {"certificates": [{"number": "C-1", "stages": ["vat"]}]}
    rules = policy(stage("vat", "19%", inclusive=True), stage("levy", "1%", 200, on=["vat"]))
    result = taxed(rules, order(("mug", 1), standing=standing), 11900)
    assert (result.nets, amounts_of(result)) == ([10000], {"levy": [100]})


def test_other_taxes_in_the_price_are_due_without_the_exempted_one() -> None:
    standing = {"certificates": [{"number": "C-1", "stages": ["vat"]}]}
    rules = policy(
        stage("levy", "10%", 1, inclusive=True),
        stage("vat", "20%", 2, inclusive=True, on=["levy"]),
        stage("duty", "5%", 3, inclusive=True, on=["levy", "vat"]),
    )
    result = taxed(rules, order(("mug", 1), standing=standing), 1386)  # 1000 + 100 + 220 + 66; 5 % of 1100
    assert (result.nets, amounts_of(result)) == ([1000], {"levy": [100], "duty": [55]})


def test_what_is_measured_must_be_there() -> None:
    rules = policy(stage("excise", rule={"per_unit": {"amount": "1", "asset": "EUR", "measure": "ml"}}))
    for attrs in ({}, {"ml": "7"}, {"ml": True}, {"ml": -1}):
        with pytest.raises(PolicyError, match=r"rum\.attrs\.ml: expected a whole number"):
            taxed(rules, order(("rum", 1, attrs)), 1000)
    with pytest.raises(PolicyError, match="due in EUR, not in USD"):
        taxed(rules, order(("rum", 1, {"ml": 1}), asset="USD"), 1000)


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ([stage("a", "1%"), stage("a", "1%", 200)], "there are two named 'a'"),
        ([stage("a", "1%", on=["b"]), stage("b", "1%", 200)], "'a' is on 'b', which is no earlier stage"),
        ([stage("a", "1%"), stage("b", "1%", 200, on=["a"], inclusive=True)], "so they include 'a'"),
        ([stage("a", "1%", rule={"per_unit": {"amount": "1", "asset": "EUR"}})], "a rate or per_unit"),
        ([stage("a", "1%", rule={"place": {"region": "BY"}})], "a region needs its country"),
    ],
)
def test_stages_that_do_not_hold_together_are_refused(stages: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        policy(*stages)


RATES = st.sampled_from(["0", "5%", "7%", "19%", "8.875%", "1/3", "150%"])


@given(st.integers(0, 10**9), RATES)
def test_what_was_put_on_top_is_found_in_the_price(net: int, rate: str) -> None:
    request = order(("mug", 1))
    top = taxed(policy(stage("vat", rate)), request, net)
    amount = amounts_of(top)["vat"][0]
    inside = taxed(policy(stage("vat", rate, inclusive=True)), request, net + amount)
    assert (inside.nets, amounts_of(inside)) == ([net], {"vat": [amount]})


STAGES = st.lists(
    st.tuples(RATES, st.booleans(), st.integers(0, 7), st.sampled_from(["line", "order"])),
    min_size=1,
    max_size=4,
)
LINES = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 10**6)), min_size=1, max_size=5)


def _stages(drawn: list[tuple[str, bool, int, str]], inclusive: bool) -> list[dict[str, Any]]:
    made = []
    for number, (rate, by_unit, mask, per) in enumerate(drawn):
        rule = {"per_unit": {"amount": rate.rstrip("%"), "asset": "EUR"}} if by_unit else {}
        on = [f"s{earlier}" for earlier in range(number) if mask >> earlier & 1]
        made.append(
            stage(
                f"s{number}",
                "" if by_unit else rate,
                number,
                on=on,
                inclusive=inclusive,
                round_per=per,
                rule=rule,
            )
        )
    return made


def _forward(stages: list[dict[str, Any]], net: Fraction, quantity: int) -> dict[str, Fraction]:
    """Each tax on a net amount, exactly."""
    taxes: dict[str, Fraction] = {}
    for one in stages:
        [rule] = one["rules"]
        if "per_unit" in rule:
            taxes[one["name"]] = ratio(rule["per_unit"]["amount"]) * quantity
        else:
            taxes[one["name"]] = ratio(rule["rate"]) * (net + sum(taxes[name] for name in one["on"]))
    return taxes


@given(STAGES, LINES)
@settings(max_examples=150)
def test_net_and_taxes_sum_to_the_price(
    drawn: list[tuple[str, bool, int, str]], lines: list[tuple[int, int]]
) -> None:
    stages = _stages(drawn, inclusive=True)
    request = order(*(("mug", quantity) for quantity, _ in lines))
    exact = []
    for quantity, amount in lines:
        nothing, one = (
            net + sum(_forward(stages, net, quantity).values()) for net in (Fraction(0), Fraction(1))
        )
        exact.append((amount - nothing) / (one - nothing))  # the price is a straight line over the net
    if min(exact) < 0:
        with pytest.raises(PolicyError, match="more than the price"):
            taxed(policy(*stages), request, *(amount for _, amount in lines))
        return
    result = taxed(policy(*stages), request, *(amount for _, amount in lines))
    for number, (quantity, amount) in enumerate(lines, 1):
        steps = [step for step in result.steps if isinstance(step, Taxed) and step.line == number]
        assert result.nets[number - 1] + sum(step.amount for step in steps) == amount
        assert result.nets[number - 1] >= 0
        taxes = _forward(stages, exact[number - 1], quantity)
        for step in steps:
            assert abs(step.amount - taxes[step.stage]) <= 1


@given(STAGES, LINES)
@settings(max_examples=150)
def test_taxes_on_top_are_those_of_a_slow_reckoning(
    drawn: list[tuple[str, bool, int, str]], lines: list[tuple[int, int]]
) -> None:
    stages = _stages(drawn, inclusive=False)
    request = order(*(("mug", quantity) for quantity, _ in lines))
    result = taxed(policy(*stages), request, *(amount for _, amount in lines))
    found = amounts_of(result)
    assert result.nets == [amount for _, amount in lines]
    for one in stages:
        [rule] = one["rules"]
        exact = [
            ratio(rule["per_unit"]["amount"]) * quantity
            if "per_unit" in rule
            else ratio(rule["rate"]) * (amount + sum(found[name][index] for name in one["on"]))
            for index, (quantity, amount) in enumerate(lines)
        ]
        if one["round_per"] == "line":
            assert found[one["name"]] == [rounded(value) for value in exact]
        else:
            assert sum(found[one["name"]]) == rounded(sum(exact, Fraction(0)))
            for part, value in zip(found[one["name"]], exact, strict=True):
                assert abs(part - value) <= 1
