"""How long a small batch takes while the server is not saturated: from the Python client, one after another,
and in an open loop. The files of PostgreSQL's WAL are made before: a server that has run for a while uses its
old ones again."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from gateway.client import Client
from simulations.benchmarks.bulk import SEED, warm_up
from simulations.benchmarks.driving import SENDERS, Load, closed_loop, open_loop
from simulations.benchmarks.measurement import Measurement, Options, measured, same_books
from simulations.benchmarks.mixes import UNIFORM, Accounts
from simulations.benchmarks.served import served

BATCH_LEGS: Final = 100
BATCHES_PER_S: Final = 200
NAME: Final = f"latency/{BATCH_LEGS} legs"


def latency(options: Options) -> Iterator[Measurement]:
    """Latencies of batches of a hundred: each sent when the one before is answered; then due two hundred
    times a second, from when they were due."""
    legs = options.scale.batches * BATCH_LEGS
    alone: list[Load] = []
    due: list[Load] = []
    books = []
    for life in options.scale.lives:
        with served() as engine, Client(engine.url, connections=SENDERS) as client:
            accounts = Accounts.created(client, options.scale.accounts)
            warm_up(client, accounts)
            engine.make_wal_files()
            for run in life:
                draws = np.random.default_rng(SEED)
                engine.drain()
                drawn = UNIFORM.drawn(accounts, legs, BATCH_LEGS, draws)
                alone.append(closed_loop(client, UNIFORM, drawn, depth=1))
                engine.drain()
                drawn = UNIFORM.drawn(accounts, legs, BATCH_LEGS, draws)
                due.append(open_loop(client, UNIFORM, drawn, BATCHES_PER_S))
                options.tell(f"{NAME}, run {run + 1}: {_told(alone[-1])} one by one, {_told(due[-1])} due")
        books.append(engine.books)
    proof = same_books(books)
    for manner, loads in (("one after another", alone), (f"{BATCHES_PER_S}/s", due)):
        for percent in (50, 99):
            found = [load.percentile_ms(percent) for load in loads]
            yield measured(NAME, f"batch p{percent}, {manner}", "ms", found, proof)


def _told(load: Load) -> str:
    return f"p50 {load.percentile_ms(50):.2f} ms, p99 {load.percentile_ms(99):.2f} ms"
