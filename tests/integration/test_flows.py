"""Every path of the money flows through the real engine: each step posts exactly what the flow states, and
the balances at the end are those; each refusal is the ledger's, at the last step only, and leaves no trace.
"""

import pytest

from actors.runtime import Engine
from engine.ids import format_id
from persistence.database import Database
from tests.contract.flow_book import Way, all_paths, all_refusals, ends_of, named, own_flows
from tests.fixtures_engine import Ids, settings_of
from tests.flow_commands import Run, catalogue

FLOWS = own_flows()
GUARDS = {"below_floor", "above_ceiling"}
SUBJECTS = ("L:order", "L:refund", "A:dispute", "M:auth", "M:capt", "L:giftcard", "L:deferred")
"""Accounts of a Move that have nothing left when it has ended."""
OTHER_FIGURES = {("recognise", "change"), ("change", "recognise_end")}
"""Steps that are stated for one order only: what is unused of a plan on its tenth day, the end of the second
plan."""


def title(way: Way) -> str:
    return f"{way.flow}: {' '.join(way.steps)}"


async def walk(engine: Engine, way: Way, new_id: Ids, factor: int = 1) -> Run:
    """Take all steps of a path; the balances at its end are right."""
    run = Run(engine, FLOWS, way, new_id, factor)
    await run.begin()
    ends = ends_of(FLOWS, way, named(run.names))
    before = {key: await run.balance(key) for key in ends}
    for step in way.steps:
        answers = await run.take(step)
        assert all(answer.accepted for answer in answers), (step, answers)
    for key, number in ends.items():
        wanted = number if factor == 1 else run.book.balance(key)
        assert await run.balance(key) - before[key] == wanted, key
    return run


async def stopped_at_last(engine: Engine, way: Way, new_id: Ids) -> Run:
    """Take all steps of a path, of which the last is refused by a guard."""
    run = Run(engine, FLOWS, way, new_id)
    await run.begin()
    for step in way.steps[:-1]:
        answers = await run.take(step)
        assert all(answer.accepted for answer in answers), (step, answers)
    refused = await run.take(way.steps[-1])
    assert refused[-1].code in GUARDS, (title(way), refused)
    return run


@pytest.mark.parametrize("shards", [1, 4])
async def test_all_paths_and_refusals(database: Database, shards: int) -> None:
    new_id = Ids(seed=shards)
    async with Engine.running(settings_of(database, shards=shards)) as engine:
        await catalogue(engine, new_id)
        runs = [await walk(engine, way, new_id, factor) for factor in (1, 7) for way in all_paths(FLOWS)]
        runs += [await stopped_at_last(engine, way, new_id) for way in all_refusals(FLOWS)]
        await prove(engine, runs)


async def prove(engine: Engine, runs: list[Run]) -> None:
    """Every step of these runs has posted what it had to, and nothing else has."""
    await engine.wait_projected()
    for run in runs:
        posted = await run.posted()
        for number, (step, expected) in enumerate(run.expected):
            assert sorted(posted.pop(number, [])) == sorted(expected), (title(run.way), step)
        assert not any(posted.values()), title(run.way)
    moves = await engine.queries.moves_by_id(sorted({move for run in runs for move in run.begun}))
    keys = [f"{key}/{format_id(move.id)}" for move in moves if move.ended for key in SUBJECTS]
    subjects = await engine.read_accounts([engine.account(key, "EUR").id for key in keys])
    left = [
        key
        for key, found in zip(keys, subjects, strict=True)
        if found is not None and found.credits_posted != found.debits_posted
    ]
    assert left == []
    report = await engine.verify()
    assert report.ok, report.problems


async def test_two_steps_at_once_in_either_order(database: Database) -> None:
    """Of steps that come at once, the second may be decided first. It is refused then, or it posts what the
    book says it does in that order; and whoever was refused and asks again comes to the path's own end, if
    anybody does."""
    new_id = Ids(seed=7)
    async with Engine.running(settings_of(database)) as engine:
        await catalogue(engine, new_id)
        runs = [
            await swapped(engine, way, at, new_id)
            for way in all_paths(FLOWS)
            for at in range(1, len(way.steps))
            if way.steps[at - 1 : at + 1] not in OTHER_FIGURES
        ]
        await prove(engine, runs)


async def swapped(engine: Engine, way: Way, at: int, new_id: Ids) -> Run:
    """Take a path with the step at `at` before the one before it."""
    run = Run(engine, FLOWS, way, new_id)
    await run.begin()
    spell = named(run.names)
    ends = ends_of(FLOWS, way, spell)
    before = {key: await run.balance(key) for key in ends}
    first, second = way.steps[at - 1 : at + 1]
    for step in (*way.steps[: at - 1], second, first):
        answers = await run.take(step)
    if second not in [step for step, _ in run.expected[at - 1 :]]:
        answers = await run.take(second)
        assert answers, (title(way), second)
    for step in way.steps[at + 1 :]:
        await run.take(step)
    for key in ends:
        assert await run.balance(key) - before[key] == run.book.balance(key), (title(way), at, key)
    return run
