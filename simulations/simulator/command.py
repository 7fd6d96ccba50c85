"""The command `tessera simulate`."""

import secrets
import time
from typing import Annotated, Final

import msgspec
import typer

from gateway.options import ExitCode
from simulations.simulator.faults import Plan
from simulations.simulator.search import Tally, find_catches, run_plan, run_seeds
from simulations.simulator.seeds import FILE, Committed, Finding, committed, save
from simulations.simulator.shrinking import shrink
from simulations.simulator.world import Outcome

SEEDS_RANGE: Final = 1 << 40
PROGRESS_S: Final = 15.0


def simulate(
    seed: Annotated[
        int | None, typer.Option(help="Run this seed alone.  [default: fresh ones]", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many fresh seeds.")] = 300,
    steps: Annotated[int, typer.Option(min=1, help="Steps with faults in each.")] = 2_000,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.0, help="Run fresh seeds for so long, however many.", show_default=False),
    ] = None,
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Search for seeds that catch each mutant, and write them down.")
    ] = False,
    keep: Annotated[
        str,
        typer.Option(help="With --seed: if it fails, commit the shrunk run; this is what was wrong."),
    ] = "",
) -> None:
    """Run shards on a simulated clock, network and log store that fail in every way, and audit every answer.

    First the runs that have found something before; then one seed, or fresh ones. A failing run is shrunk
    and printed, with the command by which it joins the committed ones.
    """
    known = committed()
    if mutants:
        _search(known)
        return
    if seed is not None:
        _report(run_plan(Plan(seed=seed, steps=steps)), keep)
        return
    for finding in known.findings:
        outcome = run_plan(finding.plan)
        if outcome.wrong is not None:
            print(f"A committed run fails again ({finding.found}).")
            _report(outcome)
    first = secrets.randbelow(SEEDS_RANGE)
    count = None if minutes is not None else seeds
    how_many = f"{seeds} of them" if minutes is None else f"for {minutes:g} minutes"
    print(
        f"{len(known.findings)} committed runs passed. Fresh seeds from {first} on, {how_many}; one of them "
        "again with `make simulate SEED=…`:",
        flush=True,
    )
    progress = Progress()
    tally = run_seeds(first, count, steps, None if minutes is None else minutes * 60, progress)
    progress.say(tally)
    for failure in tally.failures:
        _print_failure(failure)
    if tally.failures:
        raise typer.Exit(int(ExitCode.FAILED))
    print("Nothing was found.")


class Progress:
    """Says now and then how far a run of many seeds is."""

    def __init__(self) -> None:
        self._started = self._said = time.perf_counter()

    def __call__(self, tally: Tally) -> None:
        if time.perf_counter() - self._said > PROGRESS_S:
            self.say(tally)

    def say(self, tally: Tally) -> None:
        """Say it."""
        self._said = time.perf_counter()
        print(
            f"  {tally.seeds} seeds, {tally.steps:,} steps, {tally.records:,} records, {tally.answers:,} "
            f"answers audited, {len(tally.failures)} failed, {self._said - self._started:.0f} s",
            flush=True,
        )


def _report(outcome: Outcome, keep: str = "") -> None:
    """Say how one run ended; commit one that failed, if it is said what was wrong."""
    if outcome.wrong is None:
        print(
            f"Seed {outcome.plan.seed}: {outcome.steps:,} steps, {outcome.records:,} records, "
            f"{outcome.answers:,} answers audited, digest {outcome.digest}"
        )
        return
    small = shrink(outcome)
    _print_failure(small)
    if keep:
        known = committed()
        save(Committed([*known.findings, Finding(keep, small.plan)], known.catches))
        print(f"Committed to {FILE}")
    raise typer.Exit(int(ExitCode.FAILED))


def _print_failure(outcome: Outcome) -> None:
    print(f"\nSeed {outcome.plan.seed} fails at step {outcome.steps}: {outcome.wrong}")
    print(outcome.detail)
    print(f"Again:    make simulate SEED={outcome.plan.seed}")
    print(f"Shrunk:   {msgspec.json.encode(outcome.plan).decode()}")
    print(f"Commit:   tessera simulate --seed {outcome.plan.seed} --keep 'what is wrong with the code'")


def _search(known: Committed) -> None:
    first = secrets.randbelow(SEEDS_RANGE)
    print(f"Searching from seed {first} on:", flush=True)
    catches = []
    missed = []
    for name, catch in find_catches(first):
        if catch is None:
            missed.append(name)
            print(f"  {name}: not caught", flush=True)
        else:
            catches.append(catch)
            print(f"  {name}: seed {catch.plan.seed}, the {catch.seeds}. one, by {catch.check!r}", flush=True)
    if missed:
        raise typer.Exit(int(ExitCode.FAILED))
    save(Committed(known.findings, catches))
