"""Transfers one by one: one in each request, small JSON, on 64 connections that are kept.

Closed loops say how many a second are acknowledged, and so durable; an open loop at a fixed rate says how
long one takes while the server is busy and not saturated. The load comes from a process of its own, see
`load_generator`, and how much of a core that took is among the figures. Peers get the same load.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from gateway.client import Client, new_ids, to_uuids
from simulations.benchmarks.load import put
from simulations.benchmarks.load_generator import Load, Target
from simulations.benchmarks.measurement import Measurement, Options, Scale, measured, same_books
from simulations.benchmarks.mixes import AMOUNT_LIMIT, CODE, Accounts, Pairs, even, hot
from simulations.benchmarks.served import ServedEngine, served

CONNECTIONS: Final = 64
FIXED_RATE: Final = 10_000
"""Transfers a second of the open loop."""
WARM_UP_SHARE: Final = 10
"""One request for so many that are measured is sent before them."""
SEED: Final = 13


class Case(NamedTuple):
    """Which accounts the transfers are between, and how fast they come; 0 = as fast as they are answered."""

    name: str
    draw: Callable[[np.random.Generator, int, int], Pairs]
    rate: int = 0


UNIFORM: Final = Case("one-by-one/uniform", even)
HOT: Final = Case("one-by-one/one hot account", hot)
CLOSED: Final = (UNIFORM, HOT)
CASES: Final = (*CLOSED, Case(f"one-by-one/uniform at {FIXED_RATE:,} a second", even, FIXED_RATE))
THROUGHPUT: Final = "acknowledged"
P50: Final = "request p50"
P99: Final = "request p99"


def one_by_one(options: Options) -> Iterator[Measurement]:
    """For each case: transfers acknowledged a second, latencies of a request, and what the generator took."""
    cases = [case for case in CASES if options.wants(case.name)]
    loads: dict[Case, list[Load]] = {case: [] for case in cases}
    books: dict[Case, list[str]] = {case: [] for case in cases}
    for life in _lives(cases, options.scale):
        with served() as engine:
            with Client(engine.url) as client:
                accounts = Accounts.created(client, options.scale.accounts)
            for case in life:
                load = put_case(case, engine, accounts, options.scale.requests)
                loads[case].append(load)
                options.tell(f"{case.name}, run {len(loads[case])}: {said(load)}")
        for case in life:
            books[case].append(engine.books)
    for case in cases:
        hash = same_books(books[case])
        if not case.rate:
            yield measured(case.name, THROUGHPUT, "transfers/s", [load.rate for load in loads[case]], hash)
        yield measured(case.name, P50, "ms", [load.p50_ms for load in loads[case]], hash)
        yield measured(case.name, P99, "ms", [load.p99_ms for load in loads[case]], hash)
        yield measured(case.name, "load generator", "cores", [load.share for load in loads[case]], hash)


def transfers(case: Case, accounts: list[str], count: int) -> Iterator[tuple[str, str, str, int]]:
    """A fresh id, debited and credited account and amount of each transfer; but for the ids, they are the
    same every time."""
    random = np.random.default_rng(SEED)
    debit, credit = case.draw(random, len(accounts), count)
    amounts = random.integers(1, AMOUNT_LIMIT, count)
    for id, debited, credited, amount in zip(
        to_uuids(new_ids(count)), debit.tolist(), credit.tolist(), amounts.tolist(), strict=True
    ):
        yield str(id), accounts[debited], accounts[credited], amount


def said(load: Load) -> str:
    """What a run gave, for people."""
    return f"{load.rate:,.0f} transfers/s, p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms"


def _lives(cases: list[Case], scale: Scale) -> list[list[Case]]:
    """What each of the engines that are started gets."""
    every = [case for _ in range(scale.runs) for case in cases]
    return [[case] for case in every] if scale.fresh else [every]


def put_case(case: Case, engine: ServedEngine, accounts: Accounts, count: int) -> Load:
    """Put a case's load on an engine, after a part of it that is not measured."""
    url = urlsplit(engine.url)
    assert url.hostname is not None
    assert url.port is not None
    target = Target(
        host=url.hostname,
        port=url.port,
        path="/v1/legs",
        connections=CONNECTIONS,
        rate=case.rate,
        token=engine.token,
    )
    texts = [str(id) for id in to_uuids(accounts.open)]
    put(target, _bodies(case, texts, 1 + count // WARM_UP_SHARE))
    engine.drain()
    return put(target, _bodies(case, texts, count))


def _bodies(case: Case, accounts: list[str], count: int) -> Iterator[bytes]:
    for id, debit, credit, amount in transfers(case, accounts, count):
        yield (
            f'{{"id":"{id}","debit":"{debit}","credit":"{credit}",'
            f'"amount":{amount},"asset":"GBP","code":{CODE}}}'
        ).encode()
