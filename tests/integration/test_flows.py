"""Every path of the money flows through the real engine: each step posts exactly what the flow states, and
the balances at the end are those; each refusal is the ledger's, at the last step only, and leaves no trace.
"""

import pytest

from actors.runtime import Engine
from persistence.database import Database
from tests.contract.flow_book import Way, all_paths, all_refusals, ends_of, named, own_flows
from tests.fixtures_engine import Ids, settings_of
from tests.flow_commands import Run, catalogue

FLOWS = own_flows()
GUARDS = {"below_floor", "above_ceiling"}


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
    refused = await run.take(way.steps[-1], refused=True)
    assert refused[-1].code in GUARDS, (title(way), refused)
    return run


@pytest.mark.parametrize("shards", [1, 4])
async def test_all_paths_and_refusals(database: Database, shards: int) -> None:
    new_id = Ids(seed=shards)
    async with Engine.running(settings_of(database, shards=shards)) as engine:
        await catalogue(engine, new_id)
        runs = [await walk(engine, way, new_id, factor) for factor in (1, 7) for way in all_paths(FLOWS)]
        runs += [await stopped_at_last(engine, way, new_id) for way in all_refusals(FLOWS)]
        await engine.wait_projected()
        for run in runs:
            posted = await run.posted()
            for number, (step, expected) in enumerate(run.expected):
                assert sorted(posted.pop(number, [])) == sorted(expected), (title(run.way), step)
            assert not posted, title(run.way)
        report = await engine.verify()
        assert report.ok, report.problems
