"""The benchmarks run, small, and the same inputs give the same books every time."""

import json
import subprocess
import sys

import msgspec
import pytest

from simulations.benchmarks.kernel import kernel
from simulations.benchmarks.measurement import SMALL, Measurement, Options
from simulations.benchmarks.memory import memory

TINY = Options(
    scale=msgspec.structs.replace(
        SMALL, runs=2, accounts=500, legs=20_000, bulk_legs=(20_000,), idle_accounts=5_000, batches=20
    ),
    tell=lambda _: None,
)


def test_every_run_of_the_kernel_makes_the_same_books() -> None:
    first, again = list(kernel(TINY)), list(kernel(TINY))
    assert [item.name for item in first] == ["kernel/simple", "kernel/mixed"]
    assert [item.result_hash for item in first] == [item.result_hash for item in again]
    assert len({item.result_hash for item in first}) == 2
    assert all(len(item.runs) == TINY.scale.runs and min(item.runs) > 0 for item in first)


def test_memory_counts_accounts_in_a_process_of_their_own() -> None:
    (item,) = memory(TINY)
    assert item.unit == "bytes"
    assert item.value > 100


@pytest.mark.parametrize("name", ["recovery"])
def test_the_command_prints_one_object(name: str) -> None:
    command = [sys.executable, "-m", "gateway.cli", "bench", "--only", name, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer.keys() >= {"machine", "versions", "results"}
    results = msgspec.convert(answer["results"], list[Measurement])
    assert [item.name for item in results] == ["recovery/log", "recovery/snapshot"]
    assert len({item.result_hash for item in results}) == 1
