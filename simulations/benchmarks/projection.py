"""What the projection keeps up with while bulk writes go on.

The client writes as fast as it may. The engine lets SQL fall behind by so many legs and no more: beyond
that it refuses work, and the client tries again, until SQL has caught up. So after a while writes go on at
the rate at which they can be seen.
"""

import threading
from collections.abc import Iterator
from typing import Final

import numpy as np

from gateway.client import Client
from simulations.benchmarks.bulk import SEED, warm_up
from simulations.benchmarks.driving import DEPTH, closed_loop
from simulations.benchmarks.measurement import Measurement, Options, measured, same_books
from simulations.benchmarks.mixes import BATCH_LEGS, UNIFORM, Accounts, Drawn
from simulations.benchmarks.served import ServedEngine, served

LAG_LEGS_MAX: Final = 1_000_000
SAMPLE_S: Final = 0.05
NAME: Final = "projection/beside writes"
METRICS: Final = (("sustained", "legs/s"), ("largest lag", "legs"), ("lag back at 0", "s"))


def projection(options: Options) -> Iterator[Measurement]:
    """Legs a second that became visible in SQL while others were written, the longest that SQL was behind,
    and how long it took to catch up after the last write."""
    runs: list[tuple[float, float, float]] = []
    books = []
    for life in options.scale.lives:
        with (
            served(projection_lag_legs_max=LAG_LEGS_MAX) as engine,
            Client(engine.url, connections=DEPTH) as client,
        ):
            accounts = Accounts.created(client, options.scale.accounts)
            warm_up(client, accounts)
            drawn = UNIFORM.drawn(accounts, options.scale.legs, BATCH_LEGS, np.random.default_rng(SEED))
            for run in life:
                runs.append(_run(engine, client, drawn))
                rate, _, seconds = runs[-1]
                options.tell(f"{NAME}, run {run + 1}: {rate:,.0f} legs/s, {seconds:.2f} s to catch up")
        books.append(engine.books)
    for (metric, unit), *values in zip(METRICS, *runs, strict=True):
        yield measured(NAME, metric, unit, values, same_books(books))


def _run(engine: ServedEngine, client: Client, drawn: list[Drawn]) -> tuple[float, float, float]:
    engine.drain()
    with _Watch(engine) as watch:
        load = closed_loop(client, UNIFORM, drawn)
    lag = engine.health()["projection_lag_legs"]
    drained = engine.drain()
    return (load.legs - lag) / (load.ended - load.started), max(watch.largest, lag), drained - load.ended


class _Watch:
    """Looks how far SQL is behind, now and then, in a thread."""

    def __init__(self, engine: ServedEngine) -> None:
        self.largest = 0.0
        self._engine = engine
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.largest = max(self.largest, float(self._engine.health()["projection_lag_legs"]))
