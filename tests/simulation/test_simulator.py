"""The simulator: its committed runs, its mutants, and that a seed is all a run depends on."""

import os
import subprocess
import sys
from typing import Final

import pytest
import typer
from typer.testing import CliRunner

from gateway.options import ExitCode
from simulations.simulator import command
from simulations.simulator.faults import Plan
from simulations.simulator.mutants import MUTANTS, applied
from simulations.simulator.search import Tally, run_plan, run_seeds
from simulations.simulator.seeds import Catch, Committed, committed
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


def test_a_failing_seed_says_how_to_repeat_and_to_commit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Committed] = []
    monkeypatch.setattr(command, "save", kept.append)
    app = typer.Typer()
    app.command()(command.simulate)
    with applied("ack before durable"):
        result = CliRunner().invoke(app, ["--seed", "1", "--keep", "answers before the disk"])
    assert result.exit_code == ExitCode.FAILED
    assert "durable before told" in result.output
    assert "make simulate SEED=1" in result.output
    assert [finding.found for finding in kept[0].findings[-1:]] == ["answers before the disk"]
    assert run_plan(kept[0].findings[-1].plan).wrong is None


def test_fresh_seeds_are_counted() -> None:
    heard: list[Tally] = []
    done = run_seeds(1, 3, 200, None, heard.append)
    assert (done.seeds, done.failures) == (3, [])
    assert heard[-1] == done


def test_a_failing_run_shrinks() -> None:
    with applied("ack before durable"):
        failing = World(Plan(seed=1)).run()
        small = shrink(failing)
    assert small.wrong is not None
    assert small.plan.steps <= failing.steps
    assert small.plan.clients == 1
    assert len(small.plan.without) > 10
