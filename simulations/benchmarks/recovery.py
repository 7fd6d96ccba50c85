"""Recovery, from the log alone and from a snapshot; and what taking snapshots costs those who write."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from actors.settings import Settings
from actors.shard import empty_state
from gateway.client import Client
from persistence import snapshots
from persistence.database import Database, DatabaseSettings
from persistence.log_reader import START
from persistence.recovery import recover, replay_tail
from simulations.benchmarks.bulk import SEED, warm_up
from simulations.benchmarks.driving import DEPTH, closed_loop
from simulations.benchmarks.measurement import (
    Measurement,
    Options,
    Scale,
    books_hash,
    measured,
    same_books,
    short,
)
from simulations.benchmarks.mixes import BATCH_LEGS, UNIFORM, Accounts
from simulations.benchmarks.served import ServedEngine, fresh_folder, prove, served, serving

SHARD: Final = 0
NEVER: Final = 1 << 40
ALWAYS: Final = 1
"""Legs after which a snapshot is taken."""
SNAPSHOT_S: Final = 60
POLL_S: Final = 0.05


def recovery(options: Options) -> Iterator[Measurement]:
    """Seconds from PostgreSQL's tables to a state that can serve; and latencies of bulk writes while one
    snapshot is taken after the other, beside those while none is."""
    with fresh_folder() as folder:
        with serving(folder) as engine, Client(engine.url, connections=DEPTH) as client:
            accounts = Accounts.created(client, options.scale.accounts)
            drawn = UNIFORM.drawn(accounts, options.scale.legs, BATCH_LEGS, np.random.default_rng(SEED))
            closed_loop(client, UNIFORM, drawn)
        books = prove(folder).books
        yield from _recoveries(folder, options, books)
    yield from _snapshots(options)


def _recoveries(folder: Path, options: Options, books: str) -> Iterator[Measurement]:
    rates, alone, quick = [], [], []
    with Database(DatabaseSettings(data_dir=str(folder))) as database:
        for run in range(options.scale.runs):
            state = empty_state(Settings())
            report = replay_tail(database, SHARD, state, START)
            rates.append(report.legs / report.seconds)
            alone.append(report.seconds)
            same_books([books, books_hash(state.ledger.accounts)])
            state = empty_state(Settings())
            started = time.perf_counter()
            recover(database, SHARD, state)
            quick.append(time.perf_counter() - started)
            same_books([books, books_hash(state.ledger.accounts)])
            del state
            options.tell(
                f"recovery, run {run + 1}: {alone[-1]:.2f} s from the log, {quick[-1]:.2f} s from a snapshot"
            )
    size = short(options.scale.legs)
    yield measured(f"recovery/log {size}", "throughput", "legs/s", rates, books)
    yield measured(f"recovery/log {size}", "time to ready", "s", alone, books)
    yield measured(f"recovery/snapshot {size}", "time to ready", "s", quick, books)


def _snapshots(options: Options) -> Iterator[Measurement]:
    name = f"recovery/taking snapshots {short(options.scale.bulk_legs[0])}"
    without: list[float] = []
    during: list[float] = []
    books = []
    for life in options.scale.lives:
        for legs_between, found in ((NEVER, without), (ALWAYS, during)):
            with served(snapshot_legs=legs_between) as engine:
                found.extend(_latencies(engine, options.scale, len(life)))
                if legs_between == ALWAYS:
                    _wait_for_snapshot(engine)
            books.append(engine.books)
        options.tell(f"{name}, run {life.stop}: p99 {during[-1]:.1f} ms, {without[-1]:.1f} ms without")
    ratios = [one / other for one, other in zip(during, without, strict=True)]
    yield measured(name, "batch p99 without", "ms", without, same_books(books))
    yield measured(name, "batch p99 while taking", "ms", during, same_books(books))
    yield measured(name, "p99 ratio", "×", ratios, same_books(books))


def _latencies(engine: ServedEngine, scale: Scale, runs: int) -> list[float]:
    """The p99 of a batch in ms, of so many runs, while legs are written as fast as it goes."""
    with Client(engine.url, connections=DEPTH) as client:
        accounts = Accounts.created(client, scale.accounts)
        warm_up(client, accounts)
        drawn = UNIFORM.drawn(accounts, scale.bulk_legs[0], BATCH_LEGS, np.random.default_rng(SEED))
        return [closed_loop(client, UNIFORM, drawn).percentile_ms(99) for _ in range(runs)]


def _wait_for_snapshot(engine: ServedEngine) -> None:
    """Make sure that a snapshot was taken indeed."""
    deadline = time.monotonic() + SNAPSHOT_S
    with Database(DatabaseSettings(data_dir=str(engine.folder))) as database:
        while True:
            with database.session_sync("tessera bench") as session:
                if snapshots.manifests(session, SHARD):
                    return
            if time.monotonic() > deadline:
                raise AssertionError("no snapshot was taken")
            time.sleep(POLL_S)
