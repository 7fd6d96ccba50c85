"""Promotions: conditions, stacking, units in sets, and the best deal against every subset there is."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.policies.facts import PolicyError, QuoteRequest
from engine.policies.promotions import PromotionPolicy, discount
from engine.policies.quote import policy_from_data
from engine.policies.sets import Basket, take_sets
from engine.policies.trace import Discounted, NotDiscounted
from tests.policy_orders import order


def policy(promotions: list[dict[str, Any]], stacking: str = "priority") -> PromotionPolicy:
    found = policy_from_data({"policy": "promotions", "promotions": promotions, "stacking": stacking})
    assert isinstance(found, PromotionPolicy)
    return found


def percent(code: str, rate: str, **more: Any) -> dict[str, Any]:
    of = {"of": more.pop("of")} if "of" in more else {}
    return {"code": code, "benefit": {"kind": "percent_off", "rate": rate, **of}, **more}


def amount(code: str, minor: int, **more: Any) -> dict[str, Any]:
    return {"code": code, "benefit": {"kind": "amount_off", "amount": minor, "asset": "EUR"}, **more}


def buy_get(code: str, buy: dict[str, Any], get: dict[str, Any], **more: Any) -> dict[str, Any]:
    rule = {name: more.pop(name) for name in list(more) if name in {
        "buy_quantity", "get_quantity", "rate", "sets_max", "spread"}}  # fmt: skip
    return {"code": code, "benefit": {"kind": "buy_get", "buy": buy, "get": get, **rule}, **more}


def taken(steps: list[Discounted | NotDiscounted]) -> dict[str, dict[int, int]]:
    return {step.promotion: step.shares for step in steps if isinstance(step, Discounted)}


def why(steps: list[Discounted | NotDiscounted]) -> dict[str, str]:
    return {step.promotion: step.why for step in steps if isinstance(step, NotDiscounted)}


def test_each_sees_what_those_before_it_left() -> None:
    rules = policy([amount("ten", 1000), percent("fifth", "20%", priority=1)])
    steps = discount(rules, order(("mug", 1), ("cup", 1)), [3000, 2000])
    assert taken(steps) == {"fifth": {1: 600, 2: 400}, "ten": {1: 600, 2: 400}}
    assert [step.promotion for step in steps] == ["fifth", "ten"]


def test_an_exclusive_one_stands_alone() -> None:
    first = policy([percent("alone", "10%", priority=9, exclusive=True), amount("ten", 10)])
    assert why(discount(first, order(("mug", 1)), [100])) == {"ten": "excluded"}
    later = policy([percent("alone", "10%", exclusive=True), amount("ten", 10, priority=9)])
    assert why(discount(later, order(("mug", 1)), [100])) == {"alone": "excluded"}
    idle = policy([percent("alone", "10%", priority=9, exclusive=True, coupon="X"), amount("ten", 10)])
    assert taken(discount(idle, order(("mug", 1)), [100])) == {"ten": {1: 10}}


def test_conditions_say_what_is_missing() -> None:
    rules = policy(
        [
            amount("old", 1, valid_until="2026-01-01T00:00:00Z"),
            amount("coupon", 1, coupon="SPRING"),
            amount("trade", 1, segment="trade"),
            amount("large", 1, amount_min=5001),
            amount("many", 1, quantity_min=4, about={"things": ["mug"]}),
            percent("cups", "5%", of={"groups": ["cups"]}),
            amount("poor", 100, budget="spring"),
        ]
    )
    steps = discount(rules, order(("mug", 3), ("jug", 9), budgets={"spring": 99}), [3000, 2000])
    assert taken(steps) == {}
    assert why(steps) == {
        "old": "not_now",
        "coupon": "coupon_missing",
        "trade": "segment_missing",
        "large": "amount_too_small",
        "many": "quantity_too_small",
        "cups": "nothing_to_discount",
        "poor": "budget_too_small",
    }
    large = next(step for step in steps if step.promotion == "large")
    assert isinstance(large, NotDiscounted)
    assert (large.needed, large.found) == (5001, 5000)


def test_a_budget_is_shared_and_may_be_used_up() -> None:
    rules = policy(
        [amount("a", 60, budget="k"), amount("b", 60, budget="k", partial=True), amount("c", 1, budget="k")]
    )
    steps = discount(rules, order(("mug", 1), budgets={"k": 100}), [500])
    assert taken(steps) == {"a": {1: 60}, "b": {1: 40}}
    assert why(steps) == {"c": "budget_too_small"}


def test_a_cap_is_split_like_the_whole() -> None:
    rules = policy([percent("half", "50%", amount_max=100)])
    assert taken(discount(rules, order(("a", 1), ("b", 1), ("c", 1)), [100, 100, 100])) == {
        "half": {1: 34, 2: 33, 3: 33}
    }


def test_buy_two_get_the_cheapest_free() -> None:
    rules = policy([buy_get("3for2", {}, {}, buy_quantity=2)])
    steps = discount(rules, order(("mug", 2), ("cup", 3), ("jug", 1)), [2000, 1500, 300])
    [step] = steps
    assert isinstance(step, Discounted)
    assert (step.sets, step.shares) == (2, {2: 500, 3: 300})


def test_a_bundle_spreads_the_discount_by_what_its_parts_cost_alone() -> None:
    bundle = buy_get("bogo", {"things": ["A"]}, {"things": ["B"]}, spread=True)
    steps = discount(policy([bundle]), order(("A", 1), ("B", 1)), [5000, 3000])
    assert taken(steps) == {"bogo": {1: 1875, 2: 1125}}  # 3125 and 1875 are left, as flow F15 has it
    assert taken(discount(policy([bundle]), order(("A", 1)), [5000])) == {}


def test_a_unit_counts_once() -> None:
    rules = policy([buy_get("one", {}, {}, sets_max=1), buy_get("two", {}, {}, rate="50%")])
    steps = discount(rules, order(("mug", 5)), [500])
    assert [(step.promotion, step.sets) for step in steps if isinstance(step, Discounted)] == [
        ("one", 1),
        ("two", 1),
    ]


def test_the_best_deal_may_leave_the_first_one_out() -> None:
    rules = [
        percent("tenth", "10%", priority=2),
        percent("third", "30%", priority=1, amount_min=1000),
        percent("alone", "35%", exclusive=True),
    ]
    request = order(("mug", 1))
    assert taken(discount(policy(rules), request, [1000])) == {"tenth": {1: 100}}
    steps = discount(policy(rules, "best_deal"), request, [1000])
    assert taken(steps) == {"alone": {1: 350}}
    assert why(steps) == {"tenth": "not_the_best", "third": "not_the_best"}
    assert taken(discount(policy(rules[:2], "best_deal"), request, [1000])) == {"third": {1: 300}}


def test_what_takes_nothing_off_alone_may_be_part_of_the_best_deal() -> None:
    all_of_it = percent("rest", "100%", budget="k")
    steps = discount(
        policy([percent("tenth", "10%", priority=1), all_of_it], "best_deal"),
        order(("mug", 1), budgets={"k": 90}),
        [100],
    )
    assert taken(steps) == {"tenth": {1: 10}, "rest": {1: 90}}
    gift = buy_get("gift", {"things": ["a"]}, {"things": ["b"]}, priority=1)
    pair = buy_get("pair", {}, {}, sets_max=1)  # alone, it would give the unit that costs nothing
    steps = discount(policy([gift, pair], "best_deal"), order(("a", 1), ("b", 3)), [0, 30])
    assert taken(steps) == {"gift": {2: 10}, "pair": {2: 10}}


def test_too_many_to_combine_is_said() -> None:
    rules = policy([percent(f"p{number}", "1%") for number in range(13)], "best_deal")
    with pytest.raises(PolicyError, match="13 could apply together"):
        discount(rules, order(("mug", 1)), [1000])


def test_bad_promotions_are_refused_by_the_field() -> None:
    for document, where, reason in (
        (percent("x", "101%"), "promotions[0].benefit", "more than all of it"),
        (percent("x", "ten"), "promotions[0].benefit.rate", "matching regex"),
        ({"code": "x", "benefit": {"kind": "free"}}, "promotions[0].benefit.kind", "invalid value 'free'"),
        (amount("x", 5, priority=1.5), "promotions[0].priority", "expected `int`"),
    ):
        with pytest.raises(PolicyError) as refused:
            policy([document])
        assert (refused.value.where, reason in refused.value.reason) == (where, True), refused.value


THINGS = ("a", "b", "c")
SELECTOR = st.sampled_from([{}, {"things": ["a"]}, {"things": ["a", "b"]}, {"things": ["c"]}])
BENEFIT = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("percent_off"), "rate": st.sampled_from(["10%", "1/3", "100%"]), "of": SELECTOR}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("amount_off"), "amount": st.integers(1, 60), "asset": st.just("EUR")}
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("buy_get"),
            "buy": SELECTOR,
            "get": SELECTOR,
            "buy_quantity": st.integers(1, 2),
            "spread": st.booleans(),
        }
    ),
)
PROMOTION = st.fixed_dictionaries(
    {
        "benefit": BENEFIT,
        "exclusive": st.sampled_from([False, False, False, True]),
        "amount_min": st.sampled_from([0, 0, 50, 120]),
        "budget": st.sampled_from(["", "", "k"]),
        "partial": st.booleans(),
    }
)
LINES = st.lists(
    st.tuples(st.sampled_from(THINGS), st.integers(1, 3), st.integers(0, 80)), min_size=1, max_size=3
)


@given(st.lists(PROMOTION, min_size=1, max_size=5), LINES, st.integers(0, 60))
@settings(max_examples=150)
def test_no_subset_is_a_better_deal(
    promotions: list[dict[str, Any]], lines: list[tuple[str, int, int]], left: int
) -> None:
    named = [{"code": f"p{index}", **promotion} for index, promotion in enumerate(promotions)]
    request = order(*((thing, quantity) for thing, quantity, _ in lines), budgets={"k": left})
    amounts = [minor for _, _, minor in lines]
    best = 0
    for size in range(len(named) + 1):
        for chosen in combinations(named, size):
            if size > 1 and any(promotion["exclusive"] for promotion in chosen):
                continue
            if chosen:
                best = max(best, _total(discount(policy(list(chosen)), request, amounts)))
    steps = discount(policy(named, "best_deal"), request, amounts)
    assert _total(steps) == best
    assert sorted(step.promotion for step in steps) == sorted(promotion["code"] for promotion in named)
    _check_shares(steps, request, amounts)


@given(st.lists(PROMOTION, min_size=1, max_size=5), LINES, st.integers(0, 60))
@settings(max_examples=150)
def test_shares_sum_and_no_line_goes_below_zero(
    promotions: list[dict[str, Any]], lines: list[tuple[str, int, int]], left: int
) -> None:
    named = [{"code": f"p{index}", **promotion} for index, promotion in enumerate(promotions)]
    request = order(*((thing, quantity) for thing, quantity, _ in lines), budgets={"k": left})
    amounts = [minor for _, _, minor in lines]
    _check_shares(discount(policy(named), request, amounts), request, amounts)


def _total(steps: list[Discounted | NotDiscounted]) -> int:
    return sum(step.amount for step in steps if isinstance(step, Discounted))


def _check_shares(steps: list[Discounted | NotDiscounted], request: QuoteRequest, amounts: list[int]) -> None:
    left, budget = [*amounts], request.budgets["k"]
    for step in steps:
        if isinstance(step, Discounted):
            assert sum(step.shares.values()) == step.amount > 0
            assert min(step.shares.values()) > 0
            budget -= step.amount if step.budget else 0
            for number, part in step.shares.items():
                left[number - 1] -= part
    assert min(left) >= 0
    assert budget >= 0


UNITS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 2), st.booleans(), st.booleans()), min_size=1, max_size=4
)


@given(UNITS, st.integers(1, 2), st.integers(1, 2))
@settings(max_examples=150)
def test_sets_are_as_many_as_fit_and_give_the_cheapest(
    lines: list[tuple[int, int, bool, bool]], buy: int, get: int
) -> None:
    prices, counts, buys, gets = (list(column) for column in zip(*lines, strict=True))
    amounts = [price * count for price, count in zip(prices, counts, strict=True)]
    found = take_sets(Basket(counts, amounts, buys, gets), buy, get, None)
    units = [index for index, count in enumerate(counts) for _ in range(count)]
    fits: dict[int, int] = {0: 0}  # sets → the least that the units given could cost
    for given_units in _subsets([unit for unit in range(len(units)) if gets[units[unit]]]):
        bought = sum(1 for unit in range(len(units)) if buys[units[unit]] and unit not in given_units)
        sets = len(given_units) // get
        if len(given_units) % get == 0 and bought >= sets * buy:
            cost = sum(prices[units[unit]] for unit in given_units)
            fits[sets] = min(fits.get(sets, cost), cost)
    assert found.sets == max(fits)
    assert sum(price * count for price, count in zip(prices, found.given, strict=True)) == fits[found.sets]
    assert sum(found.bought) == found.sets * buy


def _subsets(units: list[int]) -> list[set[int]]:
    return [set(chosen) for size in range(len(units) + 1) for chosen in combinations(units, size)]
