"""Plain PostgreSQL as a team would write it: three tables and a function; see `plain_postgres.sql`."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Final

import numpy as np
import psycopg

from gateway.client import new_account_ids, new_ids, to_uuids
from simulations.benchmarks.measurement import Options, PeerFigure, short
from simulations.benchmarks.mixes import AMOUNT_LIMIT, BATCH_LEGS, even
from simulations.benchmarks.peers import postgres
from simulations.benchmarks.peers.postgres import Ledger, Session

NAME: Final = "plain PostgreSQL"
ASSET: Final = 1
DEPTH: Final = 2
"""Batches on their way at a time."""
LEGS_MAX: Final = 500_000
"""More legs in bulk would only take longer, and be a little slower."""
SEED: Final = 17


def _install(session: Session) -> None:
    session.execute(files(__package__).joinpath("plain_postgres.sql").read_bytes())


def _open_accounts(session: Session, count: int) -> list[str]:
    ids = to_uuids(new_account_ids(count, random=np.random.default_rng(count)))
    with session.cursor() as cursor, cursor.copy("copy account (id, asset) from stdin") as copy:
        for id in ids:
            copy.write_row((id, ASSET))
    return [str(id) for id in ids]


LEDGER: Final = Ledger(
    name=NAME,
    install=_install,
    open_accounts=_open_accounts,
    statement="select make_transfer($1, $2, $3, $4)",
    fields=("id", "debit", "credit", "amount"),
    created="created",
    books="select (select count(*) from transfer), (select sum(balance)::bigint from account)",
)


def one_by_one(options: Options) -> Iterator[PeerFigure]:
    """Transfers one by one."""
    return postgres.one_by_one(LEDGER, options)


def bulk(options: Options) -> Iterator[PeerFigure]:
    """The best that it can do in bulk: a whole batch in one call, set by set, two sessions at a time."""
    names = [f"bulk/uniform {short(legs)}" for legs in options.scale.bulk_legs]
    names = [name for name in names if options.wants(name)]
    if not names:
        return
    legs = min(options.scale.bulk_legs[0], LEGS_MAX)
    rates = []
    for run in range(options.scale.runs):
        rates.append(_bulk_rate(legs, options.scale.accounts))
        options.tell(f"bulk, {NAME}, run {run + 1}: {rates[-1]:,.0f} legs/s")
    for name in names:
        yield PeerFigure(peer=NAME, name=name, metrics=("acknowledged", "drained"), runs=rates)


def _bulk_rate(legs: int, accounts: int) -> float:
    with postgres.database() as dsn:
        with psycopg.connect(dsn, autocommit=True) as session:
            _install(session)
            ids = _open_accounts(session, accounts)
            session.execute("vacuum analyze")
        batches = _batches(ids, legs)
        with ThreadPoolExecutor(DEPTH) as pool:
            started = time.perf_counter()
            done = [pool.submit(_send, dsn, batches[number::DEPTH]) for number in range(DEPTH)]
            made = sum(sent.result() for sent in done)
            seconds = time.perf_counter() - started
        assert made == legs
        postgres.check(LEDGER, dsn, legs)
    return legs / seconds


Batch = tuple[str, str, str, str]
"""The columns of a batch as PostgreSQL's arrays in text: ids, debits, credits, amounts."""


def _batches(accounts: list[str], legs: int) -> list[Batch]:
    """All batches, ready to be sent: putting them together is not measured."""
    random = np.random.default_rng(SEED)
    batches = []
    for start in range(0, legs, BATCH_LEGS):
        count = min(BATCH_LEGS, legs - start)
        debit, credit = even(random, len(accounts), count)
        columns = (
            map(str, to_uuids(new_ids(count))),
            (accounts[row] for row in debit.tolist()),
            (accounts[row] for row in credit.tolist()),
            map(str, random.integers(1, AMOUNT_LIMIT, count).tolist()),
        )
        ids, debits, credits, amounts = (f"{{{','.join(column)}}}" for column in columns)
        batches.append((ids, debits, credits, amounts))
    return batches


def _send(dsn: str, batches: list[Batch]) -> int:
    """Send batches one after the other; returns how many transfers were made."""
    made = 0
    with psycopg.connect(dsn, autocommit=True) as session:
        for batch in batches:
            found = session.execute("select make_transfers(%s, %s, %s, %s)", batch, prepare=True).fetchone()
            assert found is not None
            made += int(found[0])
    return made
