"""Exact rates, rounding and allocation: what is split sums to what there was."""

import ast
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.policies
from engine.policies.amounts import allocate, money, partial, ratio, rounded, share

WEIGHTS = st.lists(st.integers(0, 10**6) | st.fractions(0, 100, max_denominator=60), min_size=1, max_size=12)


@given(st.integers(-(10**12), 10**12), WEIGHTS)
def test_parts_sum_to_the_whole_and_are_as_fair_as_can_be(total: int, weights: list[Fraction | int]) -> None:
    parts = allocate(total, weights)
    assert sum(parts) == total
    every = sum(weights) or len(weights)
    for part, weight in zip(parts, weights if any(weights) else [1] * len(weights), strict=True):
        assert abs(part - Fraction(total) * weight / every) < 1


@given(st.integers(0, 10**6), WEIGHTS)
def test_the_largest_remainders_get_what_is_left(total: int, weights: list[Fraction | int]) -> None:
    weights = weights if any(weights) else [1] * len(weights)
    exact = [Fraction(total) * weight / sum(weights) for weight in weights]
    parts = [int(value) for value in exact]
    while sum(parts) < total:  # one unit at a time, to whoever lacks most
        parts[max(range(len(parts)), key=lambda index: (exact[index] - parts[index], -index))] += 1
    assert allocate(total, weights) == parts


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12), st.data())
def test_no_part_is_more_than_its_weight(weights: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(weights)))
    assert all(part <= weight for part, weight in zip(allocate(total, weights), weights, strict=True))


@given(st.integers(-(10**9), 10**9), st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 9))
def test_any_sequence_of_partials_sums_exactly(total: int, steps: list[int], left: int) -> None:
    whole = sum(steps) + left or 1
    taken, before = 0, 0
    for step in steps:
        part = partial(total, before, step, whole)
        assert part * total >= 0  # never against the sign of the whole
        taken, before = taken + part, before + step
    assert taken == share(total, before, whole)
    assert taken + partial(total, before, whole - before, whole) == total


@pytest.mark.parametrize(
    ("value", "half_up", "half_even", "up", "down"),
    [
        (Fraction(5, 2), 3, 2, 3, 2),
        (Fraction(7, 2), 4, 4, 4, 3),
        (Fraction(-5, 2), -3, -2, -3, -2),
        (Fraction(9, 4), 2, 2, 3, 2),
        (Fraction(-9, 4), -2, -2, -3, -2),
        (Fraction(11, 4), 3, 3, 3, 2),
        (Fraction(4), 4, 4, 4, 4),
    ],
)
def test_rounding(value: Fraction, half_up: int, half_even: int, up: int, down: int) -> None:
    assert rounded(value) == half_up
    assert rounded(value, "half_even") == half_even
    assert rounded(value, "up") == up
    assert rounded(value, "down") == down


def test_rates_are_exact() -> None:
    assert ratio("19%") == Fraction(19, 100) == ratio("0.19") == ratio("19/100")
    assert ratio("8.875%") == Fraction(8875, 100_000)
    for text in ("", "-1", "1e3", "1,5", "1/0", "nan", " 1", "1%%"):
        with pytest.raises(ValueError, match="expected a decimal"):
            ratio(text)


def test_money_as_people_write_it() -> None:
    assert money(1250, 2, "EUR") == "12.50 EUR"
    assert money(5, 2, "EUR") == "0.05 EUR"
    assert money(-5, 3, "KWD") == "−0.005 KWD"
    assert money(1250, 0, "JPY") == "1250 JPY"


def test_policies_know_no_floats_and_no_engine() -> None:
    allowed = {
        "collections",
        "dataclasses",
        "datetime",
        "fractions",
        "functools",
        "math",
        "msgspec",
        "re",
        "typing",
    }
    for path in Path(engine.policies.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), where
            assert not (isinstance(node, ast.Name) and node.id == "float"), where
            assert not isinstance(getattr(node, "op", None), ast.Div), where
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.startswith("engine.policies") or name.split(".")[0] in allowed, f"{where}: {name}"
