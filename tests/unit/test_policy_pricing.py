"""Prices: the most specific wins, tiers count lines or orders, and a table has its whole history."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.policies.facts import PolicyError
from engine.policies.pricing import LEVELS, price_lines
from engine.policies.quote import policy_from_data
from tests.policy_orders import order, price_policy, prices

FIVE: list[dict[str, Any]] = [
    {"level": "list", "thing": "mug", "price": 1000},
    {"level": "segment", "thing": "mug", "price": 950, "segment": "trade"},
    {"level": "contract", "thing": "mug", "price": 900, "contract": "acme"},
    {"level": "tier", "thing": "mug", "price": 850, "from_quantity": 10},
    {"level": "promo", "thing": "mug", "price": 990, "valid_until": "2026-04-01T00:00:00Z"},
]


def amount_of(document: dict[str, Any], *lines: tuple[str, int], **facts: Any) -> list[tuple[str, int]]:
    return [(step.level, step.amount) for step in price_lines(price_policy(document), order(*lines, **facts))]


@pytest.mark.parametrize("levels", range(1, 6))
def test_the_most_specific_level_wins_even_if_it_is_dearer(levels: int) -> None:
    standing = {"segments": ["trade"], "contracts": ["acme"]}
    [(level, amount)] = amount_of(prices(FIVE[:levels]), ("mug", 10), standing=standing)
    assert (level, amount) == (LEVELS[levels - 1], FIVE[levels - 1]["price"] * 10)


def test_a_row_is_for_those_whom_it_names() -> None:
    table = prices(FIVE[:4])
    assert amount_of(table, ("mug", 9)) == [("list", 9000)]
    assert amount_of(table, ("mug", 9), standing={"segments": ["trade"]}) == [("segment", 8550)]
    assert amount_of(table, ("mug", 10)) == [("tier", 8500)]


def test_tiers_count_the_line_or_the_order() -> None:
    rows = [FIVE[0], FIVE[3], {**FIVE[3], "from_quantity": 20, "price": 800}]
    assert amount_of(prices(rows), ("mug", 12), ("mug", 8)) == [("tier", 10200), ("list", 8000)]
    table = prices(rows, counting="order")
    assert amount_of(table, ("mug", 12), ("mug", 8)) == [("tier", 9600), ("tier", 6400)]


def test_a_table_has_its_history() -> None:
    change = "2026-01-01T00:00:00+01:00"
    table = prices(
        [
            {"thing": "mug", "price": 900, "valid_until": change},
            {"thing": "mug", "price": 1000, "valid_from": change},
        ]
    )
    before = datetime(2025, 12, 31, 22, 59, 59, tzinfo=UTC)
    assert amount_of(table, ("mug", 1), as_of=before) == [("list", 900)]
    assert amount_of(table, ("mug", 1), as_of=datetime(2025, 12, 31, 23, tzinfo=UTC)) == [("list", 1000)]


def test_a_price_for_many_units_is_rounded_once() -> None:
    assert amount_of(prices([{"thing": "screw", "price": 199, "per": 100}]), ("screw", 250)) == [
        ("list", 498)
    ]


def test_prices_in_another_currency_are_converted() -> None:
    table = prices(
        [{"thing": "mug", "price": 1500, "asset": "JPY"}],
        exchange=[
            {"source": "JPY", "to": "EUR", "rate": "0.007"},
            {"source": "JPY", "to": "EUR", "rate": "0.0061", "valid_from": "2026-02-01T00:00:00Z"},
            {"source": "JPY", "to": "EUR", "rate": "0.005", "valid_from": "2026-06-01T00:00:00Z"},
        ],
    )
    [step] = price_lines(price_policy(table), order(("mug", 3)))
    assert (step.amount, step.rate, step.asset, step.price) == (2745, "0.0061", "JPY", 1500)
    table["rows"].append({"level": "list", "thing": "mug", "price": 1100, "asset": "EUR"})
    [step] = price_lines(price_policy(table), order(("mug", 3)))
    assert (step.amount, step.over[0].asset) == (3300, "JPY")
    with pytest.raises(PolicyError, match=r"lines\[0\].thing: mug has no price in USD"):
        price_lines(price_policy(table), order(("mug", 1), asset="USD"))


@pytest.mark.parametrize(
    ("row", "where", "reason"),
    [
        ({"price": 1.5}, "rows[0].price", "expected `int`, got `float`"),
        ({"price": -1}, "rows[0].price", "expected `int` >= 0"),
        ({"price": 1, "colour": "red"}, "rows[0]", "unknown field `colour`"),
        ({"price": 1, "level": "tier"}, "rows[0]", "a row of level tier needs from_quantity above 1"),
        ({"price": 1, "level": "promo"}, "rows[0]", "needs valid_until"),
        ({"price": 1, "level": "contract"}, "rows[0]", "needs contract"),
        ({"price": 1, "level": "secret"}, "rows[0].level", "invalid enum value 'secret'"),
        ({"price": 1, "valid_from": "2026-01-01T00:00:00"}, "rows[0].valid_from", "timezone"),
    ],
)
def test_a_bad_table_is_refused_by_the_field(row: dict[str, Any], where: str, reason: str) -> None:
    with pytest.raises(PolicyError) as refused:
        policy_from_data(prices([{"thing": "mug", **row}]))
    assert refused.value.where == where
    assert reason in refused.value.reason


ROW = st.fixed_dictionaries(
    {
        "thing": st.sampled_from(["mug", "cup"]),
        "price": st.integers(0, 5),
        "segment": st.sampled_from(["", "trade"]),
        "contract": st.sampled_from(["", "acme"]),
        "from_quantity": st.sampled_from([1, 2, 5]),
        "level": st.sampled_from(LEVELS),
        "valid_until": st.sampled_from(["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
    }
)


@given(st.lists(ROW, min_size=1, max_size=12), st.booleans(), st.booleans(), st.integers(1, 6))
@settings(max_examples=200)
def test_what_wins_is_what_a_slow_search_finds(
    rows: list[dict[str, Any]], trade: bool, acme: bool, quantity: int
) -> None:
    for row in rows:
        row["level"] = {
            "segment": "segment" if row["segment"] else "list",
            "contract": "contract" if row["contract"] else "list",
            "tier": "tier" if row["from_quantity"] > 1 else "list",
        }.get(row["level"], row["level"])
    standing = {"segments": ["trade"] * trade, "contracts": ["acme"] * acme}
    request = order(("mug", quantity), standing=standing)
    best: dict[str, Any] | None = None
    for level in LEVELS:  # from the least specific: a later level replaces an earlier one
        held = [row for row in rows if row["level"] == level and row["valid_until"] > "2026-03"]
        meant = [row for row in held if (trade or not row["segment"]) and (acme or not row["contract"])]
        reached = [row for row in meant if row["thing"] == "mug" and row["from_quantity"] <= quantity]
        if reached:
            highest = max(row["from_quantity"] for row in reached)
            best = min(
                (row for row in reached if row["from_quantity"] == highest), key=lambda row: row["price"]
            )
    policy = price_policy(prices(rows))
    if best is None:
        with pytest.raises(PolicyError, match="has no price"):
            price_lines(policy, request)
    else:
        [step] = price_lines(policy, request)
        assert (step.level, step.amount) == (best["level"], best["price"] * quantity)
