"""What asking for keys and tracing cost: the same load on two engines that run side by side, one open, one
that asks for keys and traces a share of the requests, to a collector that takes everything.

They take turns within each run, in small parts, in an order that changes, so that whatever else the machine
does meets both. Each figure is the share of the open engine's throughput that the other one has, run by run.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np

from gateway.client import Client
from simulations.benchmarks.bulk import SEED, warm_up
from simulations.benchmarks.driving import DEPTH, closed_loop
from simulations.benchmarks.measurement import Measurement, Options, Scale, measured
from simulations.benchmarks.mixes import BATCH_LEGS, Accounts
from simulations.benchmarks.mixes import UNIFORM as EVEN_LEGS
from simulations.benchmarks.one_by_one import UNIFORM, put_case
from simulations.benchmarks.served import ServedEngine, served
from simulations.receiver import Receiver, Reply

ONE_BY_ONE: Final = "auth/one-by-one"
BULK: Final = "auth/bulk"
METRIC: Final = "throughput with keys and traces"
TRACED_SHARE: Final = 0.01
PARTS: Final = 4
"""Turns of each engine in a run."""


class _Side:
    """One of the two engines."""

    def __init__(self, engine: ServedEngine, scale: Scale) -> None:
        self.engine = engine
        self.client = Client(engine.url, token=engine.token or None, connections=DEPTH)
        self.accounts = Accounts.created(self.client, scale.accounts)
        warm_up(self.client, self.accounts)


class _Done(NamedTuple):
    """What was acknowledged in a part, and in how long."""

    acknowledged: int
    seconds: float


def auth(options: Options) -> Iterator[Measurement]:
    """For transfers one by one, and in bulk: throughput with keys and traces, in percent of that without."""
    scale = options.scale
    cases: dict[str, Callable[[_Side, Scale], _Done]] = {ONE_BY_ONE: _one_by_one, BULK: _bulk}
    shares: dict[str, list[float]] = {name: [] for name in cases if options.wants(name)}
    with (
        Receiver(lambda _: Reply(200)) as collector,
        served() as open,
        served(trace=TRACED_SHARE, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as asking,
    ):
        asking.ask_for_keys()
        sides = [_Side(engine, scale) for engine in (open, asking)]
        for run in range(scale.runs):
            for name, found in shares.items():
                done: dict[_Side, list[_Done]] = {side: [] for side in sides}
                for part in range(PARTS):
                    for side in sides if (run + part) % 2 == 0 else sides[::-1]:
                        done[side].append(cases[name](side, scale))
                without, with_both = (
                    sum(part.acknowledged for part in parts) / sum(part.seconds for part in parts)
                    for parts in done.values()
                )
                found.append(100 * with_both / without)
                options.tell(
                    f"{name}, run {run + 1}: {without:,.0f} a second with neither, {with_both:,.0f} with "
                    f"both, {found[-1]:.1f} %"
                )
        for side in sides:
            side.client.close()
    for name, found in shares.items():
        yield measured(name, METRIC, "%", found)


def _one_by_one(side: _Side, scale: Scale) -> _Done:
    load = put_case(UNIFORM, side.engine, side.accounts, scale.requests // PARTS)
    return _Done(load.requests, load.seconds)


def _bulk(side: _Side, scale: Scale) -> _Done:
    random = np.random.default_rng(SEED)
    drawn = EVEN_LEGS.drawn(side.accounts, scale.bulk_legs[0] // PARTS, BATCH_LEGS, random)
    side.engine.drain()
    load = closed_loop(side.client, EVEN_LEGS, drawn)
    return _Done(load.legs, load.ended - load.started)
