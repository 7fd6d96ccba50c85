"""What it costs when the two accounts of a Move live on different shards: the same load with more and more of
its pairs crossing, on one to eight shards, in one process or on a Ray cluster on this machine.

For each number of shards there is one engine, and its cases take turns within a run, so that whatever else
the machine does meets all of them. Two batches for each shard are on their way at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Final, NamedTuple

import numpy as np

from engine.placement import Placement
from gateway.client import Client
from gateway.options import CommandFailed, ExitCode
from simulations.benchmarks.bulk import SEED, warm_up
from simulations.benchmarks.driving import DEPTH, Load, closed_loop
from simulations.benchmarks.measurement import Measurement, Options, measured
from simulations.benchmarks.mixes import AMOUNT_LIMIT, BATCH_LEGS, UNIFORM, Accounts, Drawn
from simulations.benchmarks.served import Gateway, fresh_folder, prove, served

ON_RAY: Final = "crossing/ray, gateway and shard in processes of their own"


class Case(NamedTuple):
    """How many shards, where, and percent of the pairs that cross."""

    runtime: str
    shards: int
    share: int

    @property
    def name(self) -> str:
        """As it stands in results."""
        shards = f"{self.shards} shards" if self.shards > 1 else "1 shard"
        return f"crossing/{self.runtime}, {shards}, {self.share} %"


class Figures(NamedTuple):
    """What one run of a case gave; of Moves alone, one is on its way at a time."""

    acknowledged: float
    batch_p50_ms: float
    batch_p99_ms: float
    alone_p50_ms: float
    alone_p99_ms: float
    records: float
    messages: float


METRICS: Final = (
    ("acknowledged", "legs/s"),
    ("batch p50", "ms"),
    ("batch p99", "ms"),
    ("alone p50", "ms"),
    ("alone p99", "ms"),
    ("log records per Move", "alone"),
    ("messages per Move", "alone"),
)
"""Name and unit of each of `Figures`. What shards of other processes tell each other is not counted here."""


def crossing(options: Options) -> Iterator[Measurement]:
    """For each number of shards and share of pairs that cross: legs acknowledged a second in bulk, latencies
    of a batch and of a Move alone, log records and messages between shards for one; and throughput as a
    multiple of that without crossings."""
    for runtime in options.runtimes:
        for shards in options.scale.crossing_shards:
            shares = options.scale.crossing_shares
            cases = [Case(runtime, shards, share) for share in shares if shards > 1 or not share]
            cases = [case for case in cases if options.wants(case.name)]
            if cases:
                yield from _measured(cases, options)
    if "ray" in options.runtimes and options.wants(ON_RAY):
        yield from _beside_local(options)


def _measured(cases: list[Case], options: Options) -> Iterator[Measurement]:
    runtime, shards, _ = cases[0]
    runs: dict[Case, list[Figures]] = {case: [] for case in cases}
    with RUNTIMES[runtime](shards) as gateway, Client(gateway.url, connections=DEPTH * shards) as client:
        accounts = Accounts.created(client, options.scale.accounts)
        warm_up(client, accounts)
        for run in range(options.scale.runs):
            for case in cases:
                figures = _run(case, gateway, client, accounts, options)
                runs[case].append(figures)
                options.tell(
                    f"{case.name}, run {run + 1}: {figures.acknowledged:,.0f} legs/s, batch p50 "
                    f"{figures.batch_p50_ms:.1f} ms, alone p50 {figures.alone_p50_ms:.2f} ms"
                )
    for case, found in runs.items():
        for (metric, unit), *values in zip(METRICS, *found, strict=True):
            if metric != "messages per Move" or runtime == "local":
                yield measured(case.name, metric, unit, values)
        without = runs.get(case._replace(share=0))
        if case.share and without is not None:
            shares = [
                one.acknowledged / other.acknowledged for one, other in zip(found, without, strict=True)
            ]
            yield measured(case.name, "throughput, of that at 0 %", "times", shares)


def _run(case: Case, gateway: Gateway, client: Client, accounts: Accounts, options: Options) -> Figures:
    random = np.random.default_rng(SEED)
    scale = options.scale
    bulk = drawn(accounts, case, scale.crossing_legs, BATCH_LEGS, random)
    gateway.drain()
    load = closed_loop(client, UNIFORM, bulk, depth=DEPTH * case.shards)
    single = drawn(accounts, case, scale.crossing_moves, 1, random)
    gateway.drain()
    before = _counted(gateway)
    alone = closed_loop(client, UNIFORM, single, depth=1)
    gateway.drain()
    records, messages = (now - then for now, then in zip(_counted(gateway), before, strict=True))
    return Figures(
        acknowledged=load.rate,
        batch_p50_ms=load.percentile_ms(50),
        batch_p99_ms=load.percentile_ms(99),
        alone_p50_ms=alone.percentile_ms(50),
        alone_p99_ms=alone.percentile_ms(99),
        records=records / scale.crossing_moves,
        messages=messages / scale.crossing_moves,
    )


def _counted(gateway: Gateway) -> tuple[float, float]:
    """Log records, and messages between shards, so far."""
    return gateway.health()["lsn"], gateway.metrics().get("tessera_shard_messages_total", 0.0)


def drawn(
    accounts: Accounts, case: Case, legs: int, batch_legs: int, random: np.random.Generator
) -> list[Drawn]:
    """Batches of so many legs in all; `case.share` percent of them are between different shards."""
    shards = Placement.even(case.shards).of_accounts(accounts.open).astype(np.int64)
    by_shard = np.argsort(shards, kind="stable")
    counts = np.bincount(shards, minlength=case.shards)
    begins = np.cumsum(counts) - counts
    debit = random.integers(0, len(shards), legs)
    away = random.random(legs) < case.share / 100
    beyond = random.integers(1, max(case.shards, 2), legs) * away
    shard = (shards[debit] + beyond) % case.shards
    place = (random.random(legs) * counts[shard]).astype(np.int64)
    credit = by_shard[begins[shard] + place]
    credit = np.where(credit == debit, by_shard[begins[shard] + (place + 1) % counts[shard]], credit)
    amount = random.integers(1, AMOUNT_LIMIT, legs)
    return [
        Drawn(accounts, debit[rows].astype(np.int32), credit[rows].astype(np.int32), amount[rows])
        for rows in (slice(start, start + batch_legs) for start in range(0, legs, batch_legs))
    ]


# Where shards are


@contextmanager
def _in_one_process(shards: int) -> Iterator[Gateway]:
    with served(shards=shards) as engine:
        yield engine


@contextmanager
def _on_ray(shards: int) -> Iterator[Gateway]:
    """A head, two nodes, a process for each shard, and two gateways, of which the one without a supervisor is
    used. The books are proved at the end."""
    from simulations.failover.stage import Stage  # noqa: PLC0415  # with the extra `cluster` only

    with fresh_folder() as folder:
        with Stage.opened(folder, shards) as stage:
            yield Gateway(stage.urls[1])
        prove(folder)


RUNTIMES: Final[dict[str, Callable[[int], AbstractContextManager[Gateway]]]] = {
    "local": _in_one_process,
    "ray": _on_ray,
}


def check_runtimes(options: Options) -> None:
    """Raises CommandFailed for a runtime that can't be measured here."""
    for runtime in options.runtimes:
        if runtime not in RUNTIMES:
            raise CommandFailed(
                ExitCode.USAGE, f"There is no runtime {runtime!r}.", f"There are {', '.join(RUNTIMES)}."
            )
    if "ray" in options.runtimes and find_spec("ray") is None:
        raise CommandFailed(ExitCode.USAGE, "Ray is not installed.", "It comes with tessera[cluster].")


def _beside_local(options: Options) -> Iterator[Measurement]:
    """Bulk writes to one shard on Ray behind a gateway of its own, and to one process that is both; they take
    turns, in an order that changes."""
    loads: dict[str, list[Load]] = {runtime: [] for runtime in RUNTIMES}
    with _in_one_process(1) as local, _on_ray(1) as on_ray:
        sides = {"local": local, "ray": on_ray}
        clients = {name: Client(side.url, connections=DEPTH) for name, side in sides.items()}
        accounts = {
            name: Accounts.created(client, options.scale.accounts) for name, client in clients.items()
        }
        for name, client in clients.items():
            warm_up(client, accounts[name])
        for run in range(options.scale.runs):
            for name in list(sides)[:: 1 if run % 2 == 0 else -1]:
                legs = options.scale.crossing_legs
                draws = UNIFORM.drawn(accounts[name], legs, BATCH_LEGS, np.random.default_rng(SEED))
                for side in sides.values():
                    side.drain()
                loads[name].append(closed_loop(clients[name], UNIFORM, draws))
            here, there = loads["local"][-1].rate, loads["ray"][-1].rate
            options.tell(
                f"{ON_RAY}, run {run + 1}: {there:,.0f} legs/s, local {here:,.0f}, {there / here:.2f}"
            )
        for client in clients.values():
            client.close()
    yield measured(ON_RAY, "acknowledged", "legs/s", [load.rate for load in loads["ray"]])
    yield measured(ON_RAY, "acknowledged, local", "legs/s", [load.rate for load in loads["local"]])
    shares = [there.rate / here.rate for there, here in zip(loads["ray"], loads["local"], strict=True)]
    yield measured(ON_RAY, "throughput, of that of local", "times", shares)
