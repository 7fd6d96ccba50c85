"""How long a small batch takes while the server is not saturated: an open loop from the Python client."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from gateway.client import Client
from simulations.benchmarks.bulk import SEED, warm_up
from simulations.benchmarks.driving import SENDERS, open_loop
from simulations.benchmarks.measurement import Measurement, Options, measured, same_books
from simulations.benchmarks.mixes import UNIFORM, Accounts
from simulations.benchmarks.served import served

BATCH_LEGS: Final = 100
BATCHES_PER_S: Final = 200
NAME: Final = f"latency/{BATCH_LEGS} legs"


def latency(options: Options) -> Iterator[Measurement]:
    """Latencies of batches of a hundred that are due two hundred times a second, from when they were due."""
    legs = options.scale.batches * BATCH_LEGS
    p50, p99, books = [], [], []
    for life in options.scale.lives:
        with served() as engine, Client(engine.url, connections=SENDERS) as client:
            accounts = Accounts.created(client, options.scale.accounts)
            warm_up(client, accounts)
            drawn = UNIFORM.drawn(accounts, legs, BATCH_LEGS, np.random.default_rng(SEED))
            for run in life:
                engine.drain()
                load = open_loop(client, UNIFORM, drawn, BATCHES_PER_S)
                p50.append(load.percentile_ms(50))
                p99.append(load.percentile_ms(99))
                options.tell(f"{NAME}, run {run + 1}: p50 {p50[-1]:.2f} ms, p99 {p99[-1]:.2f} ms")
        books.append(engine.books)
    yield measured(NAME, "batch p50", "ms", p50, same_books(books))
    yield measured(NAME, "batch p99", "ms", p99, same_books(books))
