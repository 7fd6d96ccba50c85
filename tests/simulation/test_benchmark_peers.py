"""The load generator tells the truth, and what runs beside the engine is what it is said to be."""

import random
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import psycopg
import pytest

from gateway.options import CommandFailed
from persistence.embedded import EmbeddedServer
from simulations.benchmarks.load import put
from simulations.benchmarks.load_generator import Target
from simulations.benchmarks.measurement import SMALL, Options, PeerFigure
from simulations.benchmarks.one_by_one import CONNECTIONS, HOT, UNIFORM, transfers
from simulations.benchmarks.peers import pgledger, plain_postgres, postgres, tigerbeetle
from simulations.benchmarks.peers.http_stack import HOST, Calls

SCALE: Final = msgspec.structs.replace(
    SMALL, runs=2, accounts=50, bulk_legs=(10_000, 20_000), requests=CONNECTIONS
)
TINY: Final = Options(scale=SCALE, tell=lambda _: None)


def id_of(number: int) -> str:
    return str(UUID(int=number))


@pytest.fixture
def ledger(postgres_server: EmbeddedServer) -> Iterator[str]:
    """A database with the plain ledger in it, and ten accounts; the last two are of another asset, and of one
    that may not owe anything."""
    name = f"peer_{random.getrandbits(48):x}"
    with psycopg.connect(postgres_server.dsn, autocommit=True) as session:
        session.execute(f"create database {name}")
    dsn = psycopg.conninfo.make_conninfo(postgres_server.dsn, dbname=name)
    with psycopg.connect(dsn, autocommit=True) as session:
        plain_postgres.LEDGER.install(session)
        for number in range(1, 11):
            session.execute(
                "insert into account (id, asset, least_balance) values (%s, %s, %s)",
                (id_of(number), 2 if number == 9 else 1, 0 if number == 10 else None),
            )
    yield dsn
    with psycopg.connect(postgres_server.dsn, autocommit=True) as session:
        session.execute(f"drop database {name} with (force)")


def bodies(count: int) -> list[bytes]:
    return [
        msgspec.json.encode({"id": id_of(100 + number), "debit": id_of(1), "credit": id_of(2), "amount": 3})
        for number in range(count)
    ]


def calls(dsn: str, **changed: Any) -> Calls:
    given: dict[str, Any] = {
        "statement": plain_postgres.LEDGER.statement,
        "sessions": 2,
        "created": "created",
    }
    given |= changed
    return Calls(dsn=dsn, fields=["id", "debit", "credit", "amount"], **given)


# The load


def test_a_load_is_put_as_a_whole_and_what_it_took_is_told(ledger: str) -> None:
    with postgres.gateway(calls(ledger)) as port:
        load = put(Target(host=HOST, port=port, path="/", connections=8), bodies(100))
    assert load.requests == 100
    assert 0 < load.p50_ms <= load.p99_ms <= load.max_ms
    assert load.processor_s > 0
    postgres.check(plain_postgres.LEDGER, ledger, 100)
    with pytest.raises(CommandFailed, match=r"not in order: \(100, 0\) and not \(99, 0\)"):
        postgres.check(plain_postgres.LEDGER, ledger, 99)


def test_a_refusal_or_a_lost_connection_ends_the_load(ledger: str) -> None:
    with postgres.gateway(calls(ledger)) as port:
        target = Target(host=HOST, port=port, path="/", connections=2)
        with pytest.raises(CommandFailed, match=r"answered with 409, not with 201.*exists"):
            put(target, [*bodies(3), *bodies(1)])
        with pytest.raises(CommandFailed, match=r"answered with 500, not with 201.*uuid"):
            put(target, [b'{"id":"","debit":"","credit":"","amount":1}'])
    with pytest.raises(CommandFailed, match="ConnectionRefused"):
        put(target, bodies(1))


def test_latency_counts_from_when_a_request_was_due(ledger: str) -> None:
    """Two sessions that take 50 ms answer 40 requests a second; 200 a second are due. The last of 40 is due
    after 0.2 s and answered after 1 s, though it was sent just before."""
    slow = calls(
        ledger, statement="select pg_sleep(0.05 + 0 * length($1 || $2 || $3 || $4))::text", created=""
    )
    with postgres.gateway(slow) as port:
        late = put(Target(host=HOST, port=port, path="/", connections=2, rate=200), bodies(40))
        closed = put(Target(host=HOST, port=port, path="/", connections=2), bodies(40))
    assert late.seconds > 0.9
    assert late.max_ms > 700
    assert closed.p50_ms < late.p50_ms


def test_transfers_are_the_same_every_time_but_for_their_ids() -> None:
    accounts = [id_of(number) for number in range(50)]
    for case, credited in ((UNIFORM, 50), (HOT, 1)):
        first, again = (list(transfers(case, accounts, 500)) for _ in range(2))
        assert [item[1:] for item in first] == [item[1:] for item in again]
        assert len({item[0] for item in first + again}) == 1_000
        assert all(debit != credit for _, debit, credit, _ in first)
        assert len({credit for _, _, credit, _ in first}) == credited


# Plain PostgreSQL


@pytest.mark.parametrize(
    ("debit", "credit", "amount", "answer"),
    [
        (1, 2, 5, "created"),
        (1, 1, 5, "accounts_must_be_different"),
        (1, 77, 5, "account_not_found"),
        (1, 9, 5, "accounts_must_have_the_same_asset"),
        (2, 10, 5, "created"),
    ],
)
def test_a_transfer_is_judged(ledger: str, debit: int, credit: int, amount: int, answer: str) -> None:
    with psycopg.connect(ledger, autocommit=True) as session:
        given = (id_of(500), id_of(debit), id_of(credit), amount)
        query = "select make_transfer(%s, %s, %s, %s)"
        assert session.execute(query, given).fetchone() == (answer,)
        made = answer == "created"
        balances: dict[UUID, int] = dict(
            session.execute("select id, balance from account where balance <> 0").fetchall()
        )
        assert balances == ({UUID(id_of(debit)): -amount, UUID(id_of(credit)): amount} if made else {})
        assert session.execute(query, given).fetchone() == ("exists" if made else answer,)
        if made:
            other = (*given[:3], amount + 1)
            assert session.execute(query, other).fetchone() == ("exists_with_different_content",)
            lines = session.execute("select account, amount from entry order by amount").fetchall()
            assert lines == [(UUID(id_of(debit)), -amount), (UUID(id_of(credit)), amount)]


def test_an_account_that_may_not_owe_does_not(ledger: str) -> None:
    with psycopg.connect(ledger, autocommit=True) as session:
        with pytest.raises(psycopg.errors.CheckViolation):
            session.execute("select make_transfer(%s, %s, %s, 1)", (id_of(500), id_of(10), id_of(1)))
        assert session.execute("select count(*) from transfer").fetchone() == (0,)


def test_many_transfers_in_one_call_do_what_they_do_one_by_one(ledger: str) -> None:
    ids, debits, credits = ([id_of(start + n) for n in range(3)] for start in (500, 1, 4))
    with psycopg.connect(ledger, autocommit=True) as session:
        query = "select make_transfers(%s::uuid[], %s::uuid[], %s::uuid[], %s)"
        assert session.execute(query, (ids, debits, credits, [5, 6, 7])).fetchone() == (3,)
        assert session.execute(query, (ids, debits, credits, [5, 6, 7])).fetchone() == (0,)
        balances = session.execute("select balance from account order by id limit 6").fetchall()
        assert balances == [(-5,), (-6,), (-7,), (5,), (6,), (7,)]
        assert session.execute("select count(*), sum(amount) from entry").fetchone() == (6, 0)


def test_plain_postgresql_runs_beside_the_engine_whatever_is_given() -> None:
    one_by_one, *latencies = list(
        plain_postgres.one_by_one(msgspec.structs.replace(TINY, only="one-by-one/uniform"))
    )
    assert (one_by_one.peer, one_by_one.name) == ("plain PostgreSQL", "one-by-one/uniform")
    assert [figure.metrics for figure in latencies] == [("request p50",), ("request p99",)]
    bulk = list(plain_postgres.bulk(TINY))
    assert [figure.name for figure in bulk] == ["bulk/uniform 10k", "bulk/uniform 20k"]
    for figure in (one_by_one, *latencies, *bulk):
        assert len(figure.runs) == SCALE.runs
        assert min(figure.runs) > 0
    assert not list(plain_postgres.bulk(msgspec.structs.replace(TINY, only="bulk/holds")))


# pgledger and TigerBeetle


def test_peers_that_are_not_given_do_not_run() -> None:
    assert not list(pgledger.one_by_one(TINY))
    assert not list(tigerbeetle.benchmark(TINY))
    assert not list(tigerbeetle.client(TINY))
    assert tigerbeetle.versions(TINY) == {}


@pytest.mark.parametrize("content", [b"select 1;", b"\x7fELF\xff"])
def test_a_file_that_is_not_pgledger_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.sql"
    path.write_bytes(content)
    with pytest.raises(CommandFailed, match=r"other\.sql"):
        pgledger.check(msgspec.structs.replace(TINY, pgledger=path))


REPORT: Final = """
25 batches in 0.34 s
transfer batch size = 8189 txs
transfer batch delay = 0ns
load accepted = 584291 tx/s
batch latency p1   = 1 ms
batch latency p50  = 13 ms
batch latency p99  = 31 ms
batch latency p100 = 40 ms+ (exceeds histogram resolution)

100 queries in 0.2 s
query latency p50  = 2 ms
query latency p99  = 9 ms
"""


def test_what_tigerbeetle_prints_is_read() -> None:
    assert tigerbeetle.parsed(REPORT) == tigerbeetle.Load(584_291.0, 13.0, 31.0)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("", "says nothing of its load"),
        (REPORT.replace("load accepted", "load"), "says nothing of its load"),
        (REPORT.replace("batch latency p99", "latency"), "says nothing of its load"),
        (REPORT.replace("8189", "254"), "batches of 254, not of 8189"),
    ],
)
def test_output_that_is_not_tigerbeetles_is_refused(output: str, said: str) -> None:
    with pytest.raises(CommandFailed, match=said):
        tigerbeetle.parsed(output)


def program(path: Path, script: str) -> Path:
    """A program that does what a shell script says."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_binary_that_says_what_tigerbeetle_says_is_read(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.write_text(REPORT)
    script = f'case "$1" in version) echo "TigerBeetle version 9.8.7+cafe";; benchmark) cat {report};; esac'
    given = msgspec.structs.replace(TINY, tigerbeetle=program(tmp_path / "beetle", script))
    tigerbeetle.check(given)
    assert tigerbeetle.versions(given) == {"TigerBeetle": "9.8.7+cafe"}
    figures: list[PeerFigure] = list(tigerbeetle.benchmark(given))
    assert [figure.name for figure in figures] == ["bulk/uniform 10k"] * 3 + ["bulk/uniform 20k"] * 3
    assert figures[0].runs == [584_291.0, 584_291.0]
    assert not list(tigerbeetle.client(given)), "it says that it needs an interpreter"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'another version 1.2'", "does not say that it is TigerBeetle"),
        ('[ "$1" = version ] && echo "TigerBeetle version 1" || { echo "no room" >&2; exit 1; }', "no room"),
    ],
)
def test_a_binary_that_can_not_be_used_is_refused(tmp_path: Path, script: str, said: str) -> None:
    binary = program(tmp_path / "beetle", script)
    given = msgspec.structs.replace(TINY, tigerbeetle=binary, tigerbeetle_python=binary)
    with pytest.raises(CommandFailed, match=said):
        tigerbeetle.check(given)


def test_the_client_needs_a_server_and_paths_must_be_programs(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="needs a server"):
        tigerbeetle.check(msgspec.structs.replace(TINY, tigerbeetle_python=tmp_path / "python"))
    with pytest.raises(CommandFailed, match="can't be run"):
        tigerbeetle.check(msgspec.structs.replace(TINY, tigerbeetle=tmp_path / "beetle"))
