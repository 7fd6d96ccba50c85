"""The posting kernel alone: one core, no log, no waiting. Every leg is looked up, checked and remembered."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from engine.layout import LegColumns
from engine.ledger import Ledger, LedgerConfig
from engine.results import Result
from simulations.benchmarks.measurement import Measurement, Options, Scale, books_hash, measured
from simulations.benchmarks.workload import BATCH_LEGS, Workload, block

MIXES: dict[str, Callable[[Workload, int], LegColumns]] = {
    "simple": Workload.simple,
    "mixed": Workload.mixed,
}


def kernel(options: Options) -> Iterator[Measurement]:
    """Legs a second that the kernel decides and applies, for each mix."""
    scale = options.scale
    for mix, make in MIXES.items():
        runs = []
        result = ""
        for _ in range(scale.runs):
            rate, result = _run(scale, make)
            runs.append(rate)
        yield measured(f"kernel/{mix}", "throughput", "legs/s", runs, result)


def _run(scale: Scale, make: Callable[[Workload, int], LegColumns]) -> tuple[float, str]:
    workload = Workload(scale.accounts)
    ledger = Ledger(LedgerConfig(hash_seed=1))
    offsets = np.array([0, scale.accounts], np.int64)
    ledger.create_accounts(workload.accounts(), offsets, workload.now)
    seconds = 0.0
    done = 0
    while done < scale.legs:
        legs = make(workload, min(BATCH_LEGS, scale.legs - done))
        now = workload.now
        started = time.perf_counter()
        ledger.drop_generations(ledger.droppable(now))
        ledger.begin_turn()
        batch = block(legs)
        assert not len(ledger.unknown_ids(batch, now))
        outcome = ledger.apply_legs(batch, now)
        seconds += time.perf_counter() - started
        done += len(legs.amount)
        if (outcome.status != Result.CREATED).any():
            raise AssertionError("a leg of the benchmark was refused")
    ledger.check()
    return scale.legs / seconds, books_hash(ledger.accounts)
