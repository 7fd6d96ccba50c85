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
from simulations.benchmarks.mixes import BATCH_LEGS, UNIFORM, Accounts
from simulations.benchmarks.served import ServedEngine, served

LAG_LEGS_MAX: Final = 1_000_000
SAMPLE_S: Final = 0.05
NAME: Final = "projection/beside writes"


def projection(options: Options) -> Iterator[Measurement]:
    """Legs a second that became visible in SQL while others were written, the longest that SQL was behind,
    and how long it took to catch up after the last write."""
    legs = options.scale.legs
    sustained, largest, back, books = [], [], [], []
    for run in range(options.scale.runs):
        with (
            served(projection_lag_legs_max=LAG_LEGS_MAX) as engine,
            Client(engine.url, connections=DEPTH) as client,
        ):
            accounts = Accounts.created(client, options.scale.accounts)
            warm_up(client, accounts)
            engine.drain()
            drawn = UNIFORM.drawn(accounts, legs, BATCH_LEGS, np.random.default_rng(SEED))
            with _Watch(engine) as watch:
                load = closed_loop(client, UNIFORM, drawn)
            lag = engine.health()["projection_lag_legs"]
            drained = engine.drain()
            sustained.append((load.legs - lag) / (load.ended - load.started))
            largest.append(max(watch.largest, lag))
            back.append(drained - load.ended)
            options.tell(f"{NAME}, run {run + 1}: {sustained[-1]:,.0f} legs/s, {back[-1]:.2f} s to catch up")
        books.append(engine.books)
    yield measured(NAME, "sustained", "legs/s", sustained, same_books(books))
    yield measured(NAME, "largest lag", "legs", largest, same_books(books))
    yield measured(NAME, "lag back at 0", "s", back, same_books(books))


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
