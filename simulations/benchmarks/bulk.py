"""Bulk writes over HTTP: batches of 8,189 legs, two on their way at a time, from the Python client."""

import itertools
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from gateway.client import Client
from simulations.benchmarks.driving import DEPTH, closed_loop
from simulations.benchmarks.measurement import Measurement, Options, measured, same_books, short
from simulations.benchmarks.mixes import BATCH_LEGS, MIXES, UNIFORM, Accounts, Mix
from simulations.benchmarks.served import ServedEngine, served

SEED: Final = 11
WARM_UP_BATCHES: Final = 4


class Case(NamedTuple):
    """A mix and how many legs of it."""

    mix: Mix
    legs: int

    @property
    def name(self) -> str:
        """As it stands in results."""
        return f"bulk/{self.mix.name} {short(self.legs)}"


class Figures(NamedTuple):
    """What one run of a case gave."""

    acknowledged: float
    drained: float
    p50_ms: float
    p99_ms: float
    log_bytes: float


METRICS: Final = (
    ("acknowledged", "legs/s"),
    ("drained", "legs/s"),
    ("batch p50", "ms"),
    ("batch p99", "ms"),
    ("log per leg", "bytes"),
)
"""Name and unit of each of `Figures`."""


def bulk(options: Options) -> Iterator[Measurement]:
    """For each mix: legs acknowledged, thus on disk, a second; the same until SQL shows them too; latencies
    of a batch; bytes of log for a leg."""
    sizes = options.scale.bulk_legs
    cases = [Case(mix, sizes[0]) for mix in MIXES] + [Case(UNIFORM, legs) for legs in sizes[1:]]
    cases = [case for case in cases if options.wants(case.name)]
    runs: dict[Case, list[Figures]] = {case: [] for case in cases}
    books: dict[Case, list[str]] = {case: [] for case in cases}
    for life in options.scale.lives:
        for share in [[case] for case in cases] if options.scale.fresh else [cases]:
            with served() as engine, Client(engine.url, connections=DEPTH) as client:
                accounts = Accounts.created(client, options.scale.accounts)
                warm_up(client, accounts)
                for run, case in itertools.product(life, share):
                    figures = _run(case, engine, client, accounts)
                    runs[case].append(figures)
                    options.tell(
                        f"{case.name}, run {run + 1}: {figures.acknowledged:,.0f} legs/s acknowledged, "
                        f"{figures.drained:,.0f} drained, p99 {figures.p99_ms:.1f} ms"
                    )
            for case in share:
                books[case].append(engine.books)
    for case in cases:
        for (metric, unit), *values in zip(METRICS, *runs[case], strict=True):
            yield measured(case.name, metric, unit, values, same_books(books[case]))


def warm_up(client: Client, accounts: Accounts) -> None:
    """A few batches that are not measured, as a server that has just started has pages and code to load."""
    drawn = UNIFORM.drawn(accounts, WARM_UP_BATCHES * BATCH_LEGS, BATCH_LEGS, np.random.default_rng(SEED))
    closed_loop(client, UNIFORM, drawn)


def _run(case: Case, engine: ServedEngine, client: Client, accounts: Accounts) -> Figures:
    drawn = case.mix.drawn(accounts, case.legs, BATCH_LEGS, np.random.default_rng(SEED))
    engine.drain()
    before = engine.metrics()["tessera_log_bytes_total"]
    load = closed_loop(client, case.mix, drawn)
    drained = engine.drain()
    log_bytes = engine.metrics()["tessera_log_bytes_total"] - before
    return Figures(
        acknowledged=load.rate,
        drained=load.legs / (drained - load.started),
        p50_ms=load.percentile_ms(50),
        p99_ms=load.percentile_ms(99),
        log_bytes=log_bytes / load.legs,
    )
