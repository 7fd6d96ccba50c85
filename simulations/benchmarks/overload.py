"""Ten times as much as can be done: what is still done, what becomes of the rest, and how soon it is over.

For each kind of request, on an engine of its own: a closed loop says what can be done (the peak) and how long
a request takes then. An open loop at ten times that rate follows, and one at half of it, which shows how soon
the engine is itself again. The load comes from a process of its own, see `overload_generator`.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np

from engine.layout import ids_list
from gateway.arrow_schema import MEDIA_TYPE
from gateway.client import Client, new_ids, to_uuids
from gateway.client.columns import LEGS, columns_of, stream
from gateway.options import CommandFailed, ExitCode
from simulations.benchmarks.measurement import Measurement, Options, figure, measured, resident_bytes
from simulations.benchmarks.mixes import BATCH_LEGS, CODE, UNIFORM, Accounts
from simulations.benchmarks.overload_generator import WINDOW_S, Outcome, Phase, Plan
from simulations.benchmarks.served import ServedEngine, served

TIMES: Final = 10
"""How much more than the peak is due."""
WARM_UP_SHARE: Final = 10
AFTER_SHARE: Final = 6
"""Parts of the overload's length that warming up, and looking at what comes after, take."""
CALM: Final = 2.0
"""Over it is when p99 is within so much of the usual one, and nothing is refused."""
GENERATOR: Final = "simulations.benchmarks.overload_generator"
GIVE_UP_S: Final = 300
MIB: Final = 1 << 20
SEED: Final = 19
BODIES: Final = 16
PARTIES: Final = 64
FUNDS: Final = 10**12
JSON: Final = "application/json"


class Prepared(NamedTuple):
    """Requests of one kind: their path, media type and bodies, where in these the ids are, and of how many
    legs, 0 = the id is text."""

    path: str
    media_type: str
    bodies: list[bytes]
    id_at: list[int]
    ids: int = 0


class Case(NamedTuple):
    """A kind of requests, what one of them is worth in `unit`, and on how many connections they come usually
    and when there are too many."""

    name: str
    prepare: Callable[[Client, Accounts], Prepared]
    worth: int
    unit: str
    usual: int
    many: int


class Run(NamedTuple):
    """What a case came to."""

    peak: Outcome
    overload: Outcome
    after: Outcome
    memory_before: int
    memory_after: int


def overload(options: Options) -> Iterator[Measurement]:
    """For each kind of request: the peak, goodput under ten times as much, its share of the peak, p99 of what
    was taken in both, memory, and seconds until the engine is itself again."""
    cases = [case for case in CASES if options.wants(case.name)]
    for share in [[case] for case in cases] if options.scale.fresh else [cases]:
        with served() as engine:
            with Client(engine.url) as client:
                accounts = Accounts.created(client, options.scale.accounts)
                prepared = [case.prepare(client, accounts) for case in share]
            runs = [_run(case, engine, one, options) for case, one in zip(share, prepared, strict=True)]
        for case, run in zip(share, runs, strict=True):
            yield from _measurements(case, run)


def _run(case: Case, engine: ServedEngine, prepared: Prepared, options: Options) -> Run:
    seconds = options.scale.overload_s
    warm_up = Phase(seconds=seconds / WARM_UP_SHARE, connections=case.usual)
    with _memory(engine) as usual_memory:
        _, peak = _put(engine, prepared, warm_up, Phase(seconds=seconds, connections=case.usual))
    engine.drain()
    rate = peak.taken / peak.seconds
    if not rate:
        raise CommandFailed(ExitCode.FAILED, f"Nothing was taken: {peak.others}.")
    with _memory(engine) as memory:
        flood, after = _put(
            engine,
            prepared,
            Phase(seconds=seconds, connections=case.many, rate=TIMES * rate),
            Phase(seconds=max(2.0, seconds / AFTER_SHARE), connections=case.usual, rate=rate / 2),
        )
    wrong = {name: count for found in (peak, flood, after) for name, count in found.others.items()}
    if wrong or flood.without_retry_after:
        raise CommandFailed(
            ExitCode.FAILED, f"Answers other than those expected: {wrong}, {flood.without_retry_after} …"
        )
    run = Run(peak, flood, after, max(usual_memory), max(memory))
    options.tell(f"{case.name}: {_said(case, run)}")
    return run


def _measurements(case: Case, run: Run) -> Iterator[Measurement]:
    peak, flood = run.peak, run.overload
    good, best = flood.taken / flood.seconds, peak.taken / peak.seconds
    for metric, unit, value in (
        ("peak", case.unit, best * case.worth),
        ("goodput", case.unit, good * case.worth),
        ("goodput of peak", "%", 100 * good / best),
        ("due", "of peak", flood.due / flood.seconds / best),
        ("sent", "of peak", flood.sent / flood.seconds / best),
        ("refused", "requests/s", flood.refused / flood.seconds),
        ("p99 at peak", "ms", peak.p99_ms),
        ("p99 under overload", "ms", flood.p99_ms),
        ("refused within (p99)", "ms", flood.refused_p99_ms),
        ("memory at most", "of before", run.memory_after / run.memory_before),
        ("back to usual after", "s", recovered_s(peak, run.after)),
        ("load generator", "cores", flood.processor_s / flood.seconds),
    ):
        yield measured(case.name, metric, unit, [value])


def recovered_s(peak: Outcome, after: Outcome) -> float:
    """Seconds from which on nothing is refused and p99 is as usual; all of them if it never is."""
    usual_ms = CALM * peak.p99_ms
    over = [
        number
        for number, window in enumerate(after.windows)
        if window.refused or not window.taken or window.p99_ms > usual_ms
    ]
    return (over[-1] + 1) * WINDOW_S if over else 0.0


def _said(case: Case, run: Run) -> str:
    peak, flood = run.peak, run.overload
    best, good = (found.taken / found.seconds for found in (peak, flood))
    return (
        f"peak {figure(best * case.worth)} {case.unit}, goodput {figure(good * case.worth)} "
        f"({100 * good / best:.0f} %) with {flood.due / flood.seconds / best:.1f} times the peak due and "
        f"{flood.sent / flood.seconds / best:.1f} times sent, {figure(flood.refused / flood.seconds)} "
        f"refused a second, p99 {peak.p99_ms:.1f} ms, then {flood.p99_ms:.1f} ms, refusals "
        f"{flood.refused_p99_ms:.1f} ms, memory {run.memory_before / MIB:,.0f} MiB, then "
        f"{run.memory_after / MIB:,.0f}, back to usual after {recovered_s(peak, run.after):.1f} s, "
        f"generator {flood.processor_s / flood.seconds:.2f} cores"
    )


def _put(engine: ServedEngine, prepared: Prepared, *phases: Phase) -> list[Outcome]:
    """Put phases of load on an engine. Raises CommandFailed."""
    url = urlsplit(engine.url)
    assert url.hostname is not None
    assert url.port is not None
    head = (
        f"POST {prepared.path} HTTP/1.1\r\nHost: {url.hostname}:{url.port}\r\nUser-Agent: tessera-bench\r\n"
        f"Content-Type: {prepared.media_type}\r\n"
    )
    plan = Plan(
        host=url.hostname,
        port=url.port,
        head=head,
        bodies=prepared.bodies,
        id_at=prepared.id_at,
        ids=prepared.ids,
        phases=list(phases),
    )
    done = subprocess.run(  # noqa: S603  # ourselves
        [sys.executable, "-m", GENERATOR],
        input=msgspec.msgpack.encode(plan),
        capture_output=True,
        timeout=GIVE_UP_S,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CommandFailed(ExitCode.FAILED, f"The load generator gave up: {said}.")
    return [msgspec.json.decode(line, type=Outcome) for line in done.stdout.splitlines()]


@contextmanager
def _memory(engine: ServedEngine) -> Iterator[list[int]]:
    """Samples of what the engine's process has in RAM."""
    samples = [resident_bytes(engine.pid)]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(WINDOW_S):
            samples.append(resident_bytes(engine.pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def _legs(_: Client, given: Accounts) -> Prepared:
    """One leg in each request."""
    accounts = [str(id) for id in to_uuids(given.open)]
    random = np.random.default_rng(SEED)
    bodies = [
        (
            f'{{"id":"{id}","debit":"{accounts[debit]}","credit":"{accounts[credit]}",'
            f'"amount":{amount},"asset":"GBP","code":{CODE}}}'
        ).encode()
        for id, (debit, credit), amount in zip(
            to_uuids(new_ids(512)),
            (random.choice(len(accounts), 2, replace=False) for _ in range(512)),
            random.integers(10_000, 99_999, 512).tolist(),
            strict=True,
        )
    ]
    return Prepared("/v1/legs", JSON, bodies, [len(b'{"id":"')] * len(bodies))


def _moves(client: Client, _: Accounts) -> Prepared:
    """One transfer between Parties in each request, by way of the framework."""
    parties = [str(client.create_party("person")["id"]) for _ in range(PARTIES)]
    legs = [
        {"debit": "A:bank", "credit": f"L:wallet/{party}", "amount": FUNDS, "asset": "GBP"}
        for party in parties
    ]
    client.move("journal", legs=legs)
    bodies = [
        (
            f'{{"id":"{id}","kind":"transfer","payer":"{payer}","payee":"{payee}","asset":"GBP","amount":100}}'
        ).encode()
        for id, payer, payee in zip(
            to_uuids(new_ids(PARTIES)), parties, parties[1:] + parties[:1], strict=True
        )
    ]
    return Prepared("/v1/moves", JSON, bodies, [len(b'{"id":"')] * len(bodies))


def _bulk(_: Client, accounts: Accounts) -> Prepared:
    """A batch of legs in each request, as an Arrow stream."""
    bodies, id_at = [], []
    for drawn in UNIFORM.drawn(accounts, BODIES * BATCH_LEGS, BATCH_LEGS, np.random.default_rng(SEED)):
        ids = new_ids(BATCH_LEGS)
        columns = columns_of({"id": ids, **drawn.columns()}, LEGS, lambda _: accounts.asset)
        body = stream(columns, slice(0, BATCH_LEGS), LEGS)
        bodies.append(body)
        id_at.append(body.index(ids_list(ids)[0].to_bytes(16, "big")))
    return Prepared("/v1/legs?answers=refused", MEDIA_TYPE, bodies, id_at, BATCH_LEGS)


CASES: Final = (
    Case("overload/one by one", _legs, 1, "transfers/s", usual=64, many=512),
    Case("overload/moves", _moves, 1, "Moves/s", usual=64, many=512),
    Case("overload/bulk", _bulk, BATCH_LEGS, "legs/s", usual=4, many=64),
)
