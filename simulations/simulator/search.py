"""Runs many seeds, on all processors, until one fails or there are enough; and searches seeds for mutants."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import nullcontext
from itertools import islice
from multiprocessing import get_context
from typing import Final, NamedTuple

from simulations.simulator.faults import Plan
from simulations.simulator.mutants import MUTANTS, applied
from simulations.simulator.seeds import Catch
from simulations.simulator.shrinking import shrink
from simulations.simulator.world import Outcome, World

CHUNK: Final = 5
"""Seeds that a worker takes at a time."""
SEEDS_FOR_MUTANT_MAX: Final = 1_000


class Tally(NamedTuple):
    """What has been run, and what was found: the failing runs, shrunk."""

    seeds: int
    steps: int
    answers: int
    records: int
    failures: list[Outcome]


def run_plan(plan: Plan, mutant: str | None = None) -> Outcome:
    """One run, with a mutant in the code if one is named."""
    with applied(mutant) if mutant is not None else nullcontext():
        return World(plan).run()


def run_seeds(
    first: int,
    count: int | None,
    steps: int,
    seconds: float | None,
    progress: Callable[[Tally], None],
) -> Tally:
    """Run seeds from `first` on, on all processors: so many, or, with None, until the time is over. Ends
    early at a failure. `progress` hears of what is done."""
    until = time.monotonic() + seconds if seconds is not None else None
    done = Tally(0, 0, 0, 0, [])
    plans = _chunks(first, count, steps)
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        running: set[Future[Tally]] = {pool.submit(_run_all, one) for one in islice(plans, 2 * workers)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                done = _together(done, future.result())
            progress(done)
            if done.failures or (until is not None and time.monotonic() > until):
                continue
            running |= {pool.submit(_run_all, one) for one in islice(plans, len(finished))}
    return done


def find_catch(mutant: str, first: int = 1, steps: int = 2_000) -> Catch | None:
    """The first seed that catches a mutant, shrunk; None if a thousand do not."""
    with applied(mutant):
        for seed in range(first, first + SEEDS_FOR_MUTANT_MAX):
            outcome = World(Plan(seed=seed, steps=steps)).run()
            if outcome.wrong is not None:
                small = shrink(outcome)
                assert small.wrong is not None
                return Catch(mutant, small.wrong.check, seed - first + 1, small.plan)
    return None


def find_catches(first: int) -> Iterator[tuple[str, Catch | None]]:
    """For every mutant what catches it."""
    with ProcessPoolExecutor(os.cpu_count() or 1, get_context("spawn")) as pool:
        yield from zip(MUTANTS, pool.map(find_catch, MUTANTS, [first] * len(MUTANTS)), strict=True)


def _chunks(first: int, count: int | None, steps: int) -> Iterator[list[Plan]]:
    end = first + count if count is not None else 1 << 62
    for start in range(first, end, CHUNK):
        yield [Plan(seed=seed, steps=steps) for seed in range(start, min(start + CHUNK, end))]


def _run_all(plans: list[Plan]) -> Tally:
    done = Tally(0, 0, 0, 0, [])
    for plan in plans:
        outcome = World(plan).run()
        failures = [] if outcome.wrong is None else [shrink(outcome)]
        done = _together(done, Tally(1, outcome.steps, outcome.answers, outcome.records, failures))
    return done


def _together(one: Tally, other: Tally) -> Tally:
    return Tally(
        one.seeds + other.seeds,
        one.steps + other.steps,
        one.answers + other.answers,
        one.records + other.records,
        one.failures + other.failures,
    )
