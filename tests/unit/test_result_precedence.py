"""Every result code of legs and accounts: alone, and against every other one it can come together with.

The cases are in `precedence_cases.py`. Precedence is tested for all pairs that one event can be at once, not
only for neighbours. Neighbours that exclude each other are listed there with the reason; the list is held to
be complete, and free of what can be tested.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from engine.reference import Account, Answer, ReferenceLedger
from engine.results import ACCOUNT_PRECEDENCE, LEG_PRECEDENCE, TRANSIENT, Result
from tests.ledgers import KernelLedger, LedgerUnderTest
from tests.unit.precedence_cases import (
    ACCOUNT_FAMILIES,
    ACCOUNT_NEIGHBOURS_EXCLUDED,
    BATCH_TIME,
    LEG_FAMILIES,
    LEG_NEIGHBOURS_EXCLUDED,
    NEIGHBOURS_APART,
    Case,
    Family,
    batch,
    build_world,
    together,
)

FAMILIES = {family.name: family for family in (*LEG_FAMILIES, *ACCOUNT_FAMILIES)}
NOT_WITH_ONE_SHARD = {Result.ID_IN_WRONG_BUCKET}
"""Only several shards answer it, so it is tested where there are several."""


def new_reference() -> LedgerUnderTest:
    return ReferenceLedger()


def new_kernel() -> LedgerUnderTest:
    return KernelLedger()


@pytest.fixture(params=[new_reference, new_kernel], ids=["reference", "kernel"])
def world(request: pytest.FixtureRequest) -> Callable[[], LedgerUnderTest]:
    """Makes a new ledger with all that the cases name in it."""

    def make() -> LedgerUnderTest:
        ledger: LedgerUnderTest = request.param()
        build_world(ledger)
        return ledger

    return make


def answer_to(ledger: LedgerUnderTest, events: Sequence[Any]) -> Answer:
    """The answer to the last event of a batch."""
    if isinstance(events[-1], Account):
        return ledger.create_accounts(events, BATCH_TIME).answers[-1]
    return ledger.apply_batch(events, BATCH_TIME).answers[-1]


def in_order_of_precedence(family: Family) -> tuple[Result, ...]:
    return ACCOUNT_PRECEDENCE if isinstance(family.event, Account) else LEG_PRECEDENCE


def pairs(family: Family, first: Case) -> list[tuple[Case, list[Any]]]:
    """The family's cases of later codes that can come with the first, each with the batch that is both."""
    order = in_order_of_precedence(family)
    later = [case for case in family.cases if order.index(case.result) > order.index(first.result)]
    batches = [(second, together(family, first, second)) for second in later]
    return [(second, events) for second, events in batches if events is not None]


def every_case() -> list[Any]:
    return [
        pytest.param(family, case, id=f"{family.name} {case.result.slug} {number}")
        for family in FAMILIES.values()
        for number, case in enumerate(family.cases)
    ]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_unchanged_event_is_accepted(world: Callable[[], LedgerUnderTest], family: Family) -> None:
    assert answer_to(world(), [family.event]).result == family.accepted


@pytest.mark.parametrize(("family", "case"), every_case())
def test_case_answers_its_code(world: Callable[[], LedgerUnderTest], family: Family, case: Case) -> None:
    answer = answer_to(world(), batch(family, case.changes, case.flags, case.before))
    assert answer.result.slug == case.result.slug
    if case.result != Result.EXISTS:
        assert answer == Answer(case.result, BATCH_TIME)


@pytest.mark.parametrize(("family", "first"), every_case())
def test_earlier_code_is_the_answer(
    world: Callable[[], LedgerUnderTest], family: Family, first: Case
) -> None:
    ledger = world()
    for second, events in pairs(family, first):
        if first.result in TRANSIENT:
            ledger = world()  # the refusal burnt the id
        answer = answer_to(ledger, events)
        assert answer.result.slug == first.result.slug, f"together with {second.result.slug}"


@pytest.mark.parametrize(("codes", "place"), NEIGHBOURS_APART.items())
def test_neighbours_that_need_an_account_of_their_own(
    world: Callable[[], LedgerUnderTest],
    codes: tuple[Result, Result],
    place: tuple[str, dict[str, int]],
) -> None:
    name, changes = place
    assert answer_to(world(), batch(FAMILIES[name], changes)).result.slug == codes[0].slug


@pytest.mark.parametrize(
    ("case"),
    [case for family in LEG_FAMILIES[:1] for case in family.cases],
    ids=lambda case: case.result.slug,
)
def test_only_transient_refusals_burn_the_id(world: Callable[[], LedgerUnderTest], case: Case) -> None:
    family = LEG_FAMILIES[0]
    ledger = world()
    answer_to(ledger, batch(family, case.changes, case.flags, case.before))
    expected = Result.ID_ALREADY_FAILED if case.result in TRANSIENT else Result.CREATED
    assert answer_to(ledger, [family.event]).result.slug == expected.slug


@pytest.mark.parametrize(
    ("precedence", "families", "excluded"),
    [
        pytest.param(LEG_PRECEDENCE, LEG_FAMILIES, LEG_NEIGHBOURS_EXCLUDED, id="legs"),
        pytest.param(ACCOUNT_PRECEDENCE, ACCOUNT_FAMILIES, ACCOUNT_NEIGHBOURS_EXCLUDED, id="accounts"),
    ],
)
def test_every_code_and_every_pair_of_neighbours_is_covered(
    precedence: tuple[Result, ...],
    families: tuple[Family, ...],
    excluded: dict[tuple[Result, Result], str],
) -> None:
    cases = [(family, case) for family in families for case in family.cases]
    alone = {case.result for _, case in cases} | {family.accepted for family in families}
    assert alone == set(precedence) - NOT_WITH_ONE_SHARD
    tested = {(case.result, second.result) for family, case in cases for second, _ in pairs(family, case)}
    tested |= NEIGHBOURS_APART.keys()
    neighbours = set(pairwise(precedence))
    assert {slugs(pair) for pair in neighbours - tested} == {
        slugs(pair) for pair in excluded.keys() & neighbours
    }


def slugs(codes: tuple[Result, Result]) -> str:
    return " before ".join(code.slug for code in codes)


def test_every_member_of_the_enum_has_its_place() -> None:
    assert set(LEG_PRECEDENCE) | set(ACCOUNT_PRECEDENCE) == set(Result) - {Result.SHARD_UNAVAILABLE}
