"""Resident memory, of processes that do nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import numpy as np

from engine.ledger import Ledger, LedgerConfig
from gateway.client import Client
from simulations.benchmarks.bulk import SEED
from simulations.benchmarks.driving import DEPTH, closed_loop
from simulations.benchmarks.measurement import Measurement, Options, books_hash, measured, resident_bytes
from simulations.benchmarks.mixes import BATCH_LEGS, UNIFORM, Accounts
from simulations.benchmarks.served import served
from simulations.benchmarks.workload import Workload

PART: Final = 50_000
MIB: Final = 1 << 20


def memory(options: Options) -> Iterator[Measurement]:
    """Bytes per idle account; and what a served engine takes that has many accounts and remembers many
    ids."""
    yield _idle(options.scale.idle_accounts)
    yield from _loaded(options)


def _idle(accounts: int) -> Measurement:
    """An account's row, its place in the index, and what growing leaves behind."""
    command = [sys.executable, "-m", __name__, str(accounts)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603  # ourselves
    used, result = answer.split()
    return measured("memory/idle account", "resident", "bytes", [int(used) / accounts], result)


def _loaded(options: Options) -> Iterator[Measurement]:
    scale = options.scale
    with served() as engine, Client(engine.url, connections=DEPTH) as client:
        accounts = Accounts.created(client, scale.idle_accounts)
        drawn = UNIFORM.drawn(accounts, scale.legs, BATCH_LEGS, np.random.default_rng(SEED))
        closed_loop(client, UNIFORM, drawn)
        engine.drain()
        resident, peak = engine.resident_bytes() / MIB, engine.peak_bytes() / MIB
        options.tell(f"memory/loaded engine: {resident:,.0f} MiB, at most {peak:,.0f} MiB")
    yield measured("memory/loaded engine", "resident", "MiB", [resident], engine.books)
    yield measured("memory/loaded engine", "peak", "MiB", [peak], engine.books)


def _grow(accounts: int) -> tuple[int, str]:
    ledger = Ledger(LedgerConfig(hash_seed=1))
    warm = Workload(1)
    ledger.create_accounts(warm.accounts(), np.array([0, 1], np.int64), warm.now)
    before = resident_bytes(os.getpid())
    for part in range(0, accounts, PART):
        workload = Workload(min(PART, accounts - part), seed=part + 1)
        count = len(workload.account_ids)
        ledger.create_accounts(workload.accounts(), np.array([0, count], np.int64), workload.now)
        del workload
    return resident_bytes(os.getpid()) - before, books_hash(ledger.accounts)


if __name__ == "__main__":
    print(*_grow(int(sys.argv[1])))
