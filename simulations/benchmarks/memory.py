"""Resident memory of idle accounts, in a process of its own so that nothing else is counted."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import numpy as np

from engine.ledger import Ledger, LedgerConfig
from simulations.benchmarks.measurement import Measurement, Options, books_hash, measured, resident_bytes
from simulations.benchmarks.workload import Workload

PART: Final = 50_000


def memory(options: Options) -> Iterator[Measurement]:
    """Bytes per idle account: its row, its place in the index, and what growing leaves behind."""
    command = [sys.executable, "-m", __name__, str(options.scale.idle_accounts)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603  # ourselves
    used, result = answer.split()
    yield measured(
        "memory/idle account", "resident", "bytes", [int(used) / options.scale.idle_accounts], result
    )


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
