"""The simulator: its committed runs, its mutants, and that a seed is all a run depends on."""

import os
import subprocess
import sys
from typing import Final

import pytest

from simulations.simulator.faults import Plan
from simulations.simulator.mutants import MUTANTS, applied
from simulations.simulator.search import run_plan
from simulations.simulator.seeds import Catch, committed
from simulations.simulator.shrinking import shrink
from simulations.simulator.world import World

COMMITTED: Final = committed()
ONE_RUN: Final = (
    "from simulations.simulator.faults import Plan; from simulations.simulator.world import World; "
    "print(World(Plan(seed=int({seed}), steps=1_500)).run().digest)"
)


def test_what_went_wrong_once_goes_right() -> None:
    for finding in COMMITTED.findings:
        outcome = run_plan(finding.plan)
        assert outcome.wrong is None, f"{finding.found}: {outcome.detail}"


@pytest.mark.parametrize("catch", COMMITTED.catches, ids=lambda catch: catch.mutant)
def test_a_mutant_is_caught(catch: Catch) -> None:
    caught = run_plan(catch.plan, catch.mutant)
    assert caught.wrong is not None
    assert caught.wrong.check == catch.check
    assert run_plan(catch.plan).wrong is None


def test_every_mutant_has_a_run_that_catches_it() -> None:
    assert [catch.mutant for catch in COMMITTED.catches] == list(MUTANTS)


@pytest.mark.parametrize("seed", [3, 11])
def test_a_seed_is_all_that_a_run_depends_on(seed: int) -> None:
    here = World(Plan(seed=seed, steps=1_500)).run()
    assert here.wrong is None, here.detail
    elsewhere = subprocess.run(
        [sys.executable, "-c", ONE_RUN.format(seed=seed)],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.strip() == here.digest


def test_a_failing_run_shrinks() -> None:
    with applied("ack before durable"):
        failing = World(Plan(seed=1)).run()
        small = shrink(failing)
    assert small.wrong is not None
    assert small.plan.steps <= failing.steps
    assert small.plan.clients == 1
    assert len(small.plan.without) > 10
