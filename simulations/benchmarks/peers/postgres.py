"""Ledgers inside PostgreSQL, under the same load as the engine.

They get our embedded server with the settings that the engine has (fsync and synchronous_commit on), the same
HTTP, and the pool that suits them best.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psycopg

from gateway.options import CommandFailed, ExitCode
from persistence.embedded import EmbeddedServer
from simulations.benchmarks.load import put
from simulations.benchmarks.load_generator import Load, Target
from simulations.benchmarks.measurement import Options, PeerFigure
from simulations.benchmarks.one_by_one import (
    CLOSED,
    CONNECTIONS,
    P50,
    P99,
    THROUGHPUT,
    WARM_UP_SHARE,
    Case,
    said,
    transfers,
)
from simulations.benchmarks.peers.http_stack import HOST, Calls

POOLS: Final = (4, 8, 16, 32)
"""Sizes that are tried before those that did best are measured."""
TRIAL_SHARE: Final = 5
"""A trial of a pool has one request for so many that are measured."""
SLOWER: Final = 4
"""A peer gets one request for so many that the engine gets: its rate shows sooner than its answers do."""
END_S: Final = 60

Session = psycopg.Connection[tuple[object, ...]]


class Ledger(NamedTuple):
    """A ledger in PostgreSQL: how its tables and functions are made, how accounts are (returning their ids),
    how a transfer's JSON is called, and how the books are looked at: how many transfers there are, and the
    sum of all balances, which must be 0."""

    name: str
    install: Callable[[Session], None]
    open_accounts: Callable[[Session, int], list[str]]
    statement: str
    fields: tuple[str, ...]
    created: str
    books: str


def one_by_one(ledger: Ledger, options: Options) -> Iterator[PeerFigure]:
    """What the ledger does in the closed loops, at the size of the pool that is best for each."""
    cases = [case for case in CLOSED if options.wants(case.name)]
    if not cases:
        return
    with database() as dsn:
        with psycopg.connect(dsn, autocommit=True) as session:
            ledger.install(session)
            accounts = ledger.open_accounts(session, options.scale.accounts)
            session.execute("vacuum analyze")
        count = max(options.scale.requests // SLOWER, TRIAL_SHARE * CONNECTIONS)
        trial = count // TRIAL_SHARE
        sent = 0
        for case in cases:
            trials = {size: _run(ledger, dsn, accounts, case, size, trial) for size in POOLS}
            sent += len(trials) * (trial + _warm_up(trial))
            best = max(POOLS, key=lambda size: trials[size].rate)
            loads = []
            for _ in range(options.scale.runs):
                loads.append(_run(ledger, dsn, accounts, case, best, count))
                sent += count + _warm_up(count)
                options.tell(f"{case.name}, {ledger.name} with {best} sessions: {said(loads[-1])}")
            yield _figure(ledger, case, THROUGHPUT, [load.rate for load in loads])
            yield _figure(ledger, case, P50, [load.p50_ms for load in loads])
            yield _figure(ledger, case, P99, [load.p99_ms for load in loads])
        check(ledger, dsn, sent)


def check(ledger: Ledger, dsn: str, sent: int) -> None:
    """Raises CommandFailed unless the ledger has so many transfers, and its books balance."""
    with psycopg.connect(dsn, autocommit=True) as session:
        found = session.execute(ledger.books).fetchone()
    if found != (sent, 0):
        raise CommandFailed(
            ExitCode.FAILED,
            f"The books of {ledger.name} are not in order: {found} and not {(sent, 0)} are the number of "
            "transfers and the sum of all balances.",
        )


@contextmanager
def database() -> Iterator[str]:
    """A fresh embedded server for the length of a block; how to reach it."""
    with tempfile.TemporaryDirectory(prefix="tessera-peer-") as folder:
        server = EmbeddedServer(Path(folder))
        server.start()
        try:
            yield server.dsn
        finally:
            server.destroy()


@contextmanager
def gateway(calls: Calls) -> Iterator[int]:
    """The HTTP server before a ledger, in a process of its own; its port."""
    process = subprocess.Popen(  # noqa: S603  # ourselves
        [
            *(sys.executable, "-m", "simulations.benchmarks.peers.http_stack"),
            msgspec.json.encode(calls).decode(),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise CommandFailed(ExitCode.FAILED, "The gateway of a peer did not start.")
        yield int(line)
    finally:
        process.communicate(timeout=END_S)


def _run(ledger: Ledger, dsn: str, accounts: list[str], case: Case, sessions: int, count: int) -> Load:
    calls = Calls(
        dsn=dsn,
        statement=ledger.statement,
        fields=list(ledger.fields),
        sessions=sessions,
        created=ledger.created,
    )
    with gateway(calls) as port:
        target = Target(host=HOST, port=port, path="/transfers", connections=CONNECTIONS)
        put(target, _bodies(case, accounts, _warm_up(count)))
        return put(target, _bodies(case, accounts, count))


def _warm_up(count: int) -> int:
    """How many requests come before `count` that are measured."""
    return 1 + count // WARM_UP_SHARE


def _bodies(case: Case, accounts: list[str], count: int) -> Iterator[bytes]:
    for id, debit, credit, amount in transfers(case, accounts, count):
        yield f'{{"id":"{id}","debit":"{debit}","credit":"{credit}","amount":{amount}}}'.encode()


def _figure(ledger: Ledger, case: Case, metric: str, runs: list[float]) -> PeerFigure:
    return PeerFigure(peer=ledger.name, name=case.name, metrics=(metric,), runs=runs)
