"""The project's own statement of the money flows holds together, and says what the specification says."""

import os
from pathlib import Path

import pytest

from tests.contract.flow_book import (
    Book,
    Flow,
    Refused,
    Way,
    all_paths,
    all_refusals,
    ends_of,
    lettered,
    own_flows,
    plain,
    specified_flows,
)

SPECIFICATION = "TESSERA_FLOWS"
"""In the environment: the file with the specification of the flows."""
FLOWS = own_flows()


def test_there_are_fifteen_flows_with_35_paths_and_9_refusals() -> None:
    assert list(FLOWS) == [f"F{number}" for number in range(1, 16)]
    assert len(all_paths(FLOWS)) == 35
    assert len(all_refusals(FLOWS)) == 9


@pytest.mark.parametrize("way", all_paths(FLOWS), ids=lambda way: f"{way.flow}: {' '.join(way.steps)}")
def test_paths_end_as_they_state(way: Way) -> None:
    spell = lettered(FLOWS)
    book = Book(FLOWS, way.flow, spell)
    for step in way.steps:
        book.post(step)
    for key, number in ends_of(FLOWS, way, spell).items():
        assert book.balance(key) == number, key


@pytest.mark.parametrize("way", all_refusals(FLOWS), ids=lambda way: f"{way.flow}: {' '.join(way.steps)}")
def test_only_the_last_step_of_a_refusal_is_refused(way: Way) -> None:
    book = Book(FLOWS, way.flow, lettered(FLOWS))
    for step in way.steps[:-1]:
        book.post(step)
    with pytest.raises(Refused):
        book.post(way.steps[-1])


def test_they_are_those_of_the_specification() -> None:
    """Where it is at hand. The figures, every leg of every step on every path, the ends, the refusals."""
    file = os.environ.get(SPECIFICATION)
    if file is not None:
        assert_same(FLOWS, specified_flows(Path(file)))


def assert_same(own: dict[str, Flow], specified: dict[str, Flow]) -> None:
    assert list(own) == list(specified)
    spell = lettered(own)
    for name, flow in specified.items():
        letters = own[name].letters
        figures = {letters[item]: number for item, number in own[name].figures.items() if item in letters}
        assert figures == flow.figures, name
        limits = {spell(name, key): bounds for key, bounds in own[name].limits.items()}
        assert limits == flow.limits, name
        assert {way.steps for way in own[name].refusals} == {way.steps for way in flow.refusals}, name
        assert set(own[name].steps) == set(flow.steps), name
        for ours, theirs in zip(own[name].paths, flow.paths, strict=True):
            assert ours.steps == theirs.steps, name
            assert ends_of(own, ours, spell) == theirs.ends, ours
            book, specified_book = Book(own, name, spell), Book(specified, name, plain)
            for step in ours.steps:
                assert book.post(step) == specified_book.post(step), (name, step)


def test_a_statement_that_differs_is_noticed(tmp_path: Path) -> None:
    """The reading of the specification is not so lenient that it would see no difference."""
    block = "```flow F1 A=5 B=2\none | A:psp > L:order/o = A-B ; L:order/o > R:fee = 1\n"
    file = tmp_path / "flows.md"
    file.write_text(block + "two | L:order/o > R:rest = bal(L:order/o)\npath: one two => R:rest=2\n```\n")
    book = Book(specified_flows(file), "F1", plain)
    assert [leg.amount for leg in book.post("one")] == [3, 1]
    assert [leg.amount for leg in book.post("two")] == [2]
    assert book.balance("R:rest") == 2
