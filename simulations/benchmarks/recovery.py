"""Recovery: from the log's first record to a ledger that can serve, read from PostgreSQL."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from actors.runtime import Engine
from actors.settings import Settings
from engine.ledger import LedgerConfig
from engine.results import Result
from engine.shard_state import ShardState
from persistence.database import Database, DatabaseSettings
from persistence.log_reader import START
from persistence.recovery import recover, replay_tail
from simulations.benchmarks.measurement import Measurement, Options, Scale, books_hash, measured
from simulations.benchmarks.workload import BATCH_LEGS, Workload

IN_FLIGHT = 4


def recovery(options: Options) -> Iterator[Measurement]:
    """Legs a second from the log alone, and seconds to a ready state from a snapshot."""
    scale = options.scale
    with tempfile.TemporaryDirectory(prefix="tessera-bench-") as folder:
        asyncio.run(_fill(Path(folder), scale))
        rates, seconds, result = _recover(Path(folder), scale)
    yield measured("recovery/log", "throughput", "legs/s", rates, result)
    yield measured("recovery/snapshot", "time to ready", "s", seconds, result)


async def _fill(folder: Path, scale: Scale) -> None:
    async with Engine.running(Settings(data_dir=folder)) as engine:
        workload = Workload(scale.accounts)
        await engine.create_accounts(workload.accounts())
        sent = 0
        waiting: set[asyncio.Task[None]] = set()

        async def post(count: int) -> None:
            answers = await engine.post_legs(workload.simple(count))
            if (answers.status != Result.CREATED).any():
                raise AssertionError("a leg of the benchmark was refused")

        while sent < scale.legs or waiting:
            while sent < scale.legs and len(waiting) < IN_FLIGHT:
                count = min(BATCH_LEGS, scale.legs - sent)
                waiting.add(asyncio.create_task(post(count)))
                sent += count
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()


def _recover(folder: Path, scale: Scale) -> tuple[list[float], list[float], str]:
    rates, seconds = [], []
    hashes = set()
    with Database(DatabaseSettings(data_dir=str(folder))) as database:
        for _ in range(scale.runs):
            state = _empty()
            report = replay_tail(database, 0, state, START)
            rates.append(report.legs / report.seconds)
            hashes.add(books_hash(state.ledger.accounts))
            state = _empty()
            started = time.perf_counter()
            recover(database, 0, state)
            seconds.append(time.perf_counter() - started)
            hashes.add(books_hash(state.ledger.accounts))
    (result,) = hashes
    return rates, seconds, result


def _empty() -> ShardState:
    return ShardState("default", LedgerConfig(hash_seed=1))
