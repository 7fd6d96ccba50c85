"""What asking for keys costs: the same load on two engines that run side by side, one open, one that asks.

They take turns within each run, in an order that changes, so that whatever else the machine does meets both.
Each figure is the share of the open engine's throughput that the other one has, pair by pair.
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

ONE_BY_ONE: Final = "auth/one-by-one"
BULK: Final = "auth/bulk"
METRIC: Final = "throughput with keys"


class _Side(NamedTuple):
    """One of the two engines."""

    engine: ServedEngine
    client: Client
    accounts: Accounts


def auth(options: Options) -> Iterator[Measurement]:
    """For transfers one by one, and in bulk: throughput with keys, in percent of that without."""
    scale = options.scale
    cases: dict[str, Callable[[_Side], float]] = {
        ONE_BY_ONE: lambda side: _one_by_one(side, scale),
        BULK: lambda side: _bulk(side, scale),
    }
    shares: dict[str, list[float]] = {name: [] for name in cases if options.wants(name)}
    with served() as open, served() as asking:
        asking.ask_for_keys()
        sides = [_side(engine, scale) for engine in (open, asking)]
        for run in range(scale.runs):
            for name, found in shares.items():
                order = sides if run % 2 == 0 else sides[::-1]
                rates = {side.engine.url: cases[name](side) for side in order}
                without, with_keys = (rates[side.engine.url] for side in sides)
                found.append(100 * with_keys / without)
                options.tell(
                    f"{name}, run {run + 1}: {without:,.0f} a second without keys, {with_keys:,.0f} with, "
                    f"{found[-1]:.1f} %"
                )
        for side in sides:
            side.client.close()
    for name, found in shares.items():
        yield measured(name, METRIC, "%", found)


def _side(engine: ServedEngine, scale: Scale) -> _Side:
    client = Client(engine.url, token=engine.token or None, connections=DEPTH)
    accounts = Accounts.created(client, scale.accounts)
    warm_up(client, accounts)
    return _Side(engine, client, accounts)


def _one_by_one(side: _Side, scale: Scale) -> float:
    return put_case(UNIFORM, side.engine, side.accounts, scale.requests).rate


def _bulk(side: _Side, scale: Scale) -> float:
    random = np.random.default_rng(SEED)
    drawn = EVEN_LEGS.drawn(side.accounts, scale.bulk_legs[0], BATCH_LEGS, random)
    side.engine.drain()
    return closed_loop(side.client, EVEN_LEGS, drawn).rate
