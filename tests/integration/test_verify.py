"""Books in order are found in order; whatever is changed anywhere is found too."""

import asyncio
import itertools
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from engine.facts import Envelope, Event, LineFacts, MoveFact, PartyFact, ThingFact
from engine.record import Record
from persistence import snapshots
from persistence.database import Database, DatabaseSettings
from persistence.embedded import EmbeddedServer
from persistence.projection import Projector
from persistence.recovery import recover
from persistence.verify import Report, verify
from tests.fixtures_postgres import TEMPLATE
from tests.logged_ledger import LedgerState, lived, write_log

BASE = "verify_base"
_numbers = itertools.count(1)


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


EVENTS: list[Event] = [
    Envelope("shop", event_count=9),
    PartyFact(id_of(1), "person", "Ann", b'{"b": 1, "a": 2.50}', 1, 5),
    PartyFact(id_of(2), "org", "Bob", b"{}", 1, 6),
    ThingFact(id_of(3), "product", "T", 1, 2, "Thing", b'{"x":[1]}', 7),
    *(
        MoveFact(
            request=id_of(50 + seq),
            move=id_of(50),
            kind="order",
            transition=f"t{seq}",
            state=f"s{seq}",
            ended=False,
            seq=seq,
            timestamp=8 + seq,
            business_time=3,
            payer=id_of(1),
            lines=LineFacts([1, 2], [3, 4], [5, 6]) if seq == 0 else None,
            metadata=b'{"z":1,"y":{}}' if seq == 0 else b"",
        )
        for seq in range(2)
    ),
]


async def _make(database: Database) -> None:
    """A log with everything in it, half of it projected in small steps, with two snapshots."""
    pair = lived(31, 120)
    records = await write_log(database, pair.kernel.log, [[], EVENTS])
    projector = Projector(database, 0)
    for at in range(0, len(records) - 5, 9):
        await projector.project(records[at : at + 9])
    await projector.close()
    for lsn in (len(records) // 2, len(records) - 2):
        state = LedgerState()
        recovered = await asyncio.to_thread(recover, database, 0, state, lsn)
        await asyncio.to_thread(snapshots.save, database, 0, lsn, recovered.chain, state.state())


def _copy(server: EmbeddedServer, name: str, template: str) -> Database:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return Database(DatabaseSettings(url=make_conninfo(server.dsn, dbname=name), connect_limit_s=10))


@pytest.fixture(scope="module")
def base(postgres_server: EmbeddedServer) -> str:
    asyncio.run(_make(_copy(postgres_server, BASE, TEMPLATE)))
    return BASE


@pytest.fixture
def books(base: str, postgres_server: EmbeddedServer) -> Iterator[Database]:
    """Books in order, to do with as a test likes."""
    name = f"verify_{next(_numbers)}"
    yield _copy(postgres_server, name, base)
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


async def check(database: Database) -> Report:
    return await verify(database, 0, fresh=LedgerState)


async def test_books_in_order_are_in_order(books: Database) -> None:
    seen: list[int] = []
    state = LedgerState()
    recovered = await asyncio.to_thread(recover, books, 0, state)
    report = await verify(
        books, 0, fresh=LedgerState, live=(recovered.lsn, state.state()), progress=seen.append
    )
    assert (report.ok, report.problems) == (True, [])
    assert report.lsn == recovered.lsn == seen[-1]
    async with books.session("test") as session:
        for table in ("leg", "burnt_id", "account", "party", "thing", "move", "request"):
            count = await (await session.execute(f"select count(*) from {table}".encode())).fetchone()
            assert (report.checked[table],) == count
            assert report.checked[table] > 0
    assert report.checked["history_segments"] > 20
    assert report.checked["snapshots"] == 2
    assert report.checked["live_state"] == 1
    assert report.checked["assets"] == 2


async def test_an_empty_log_is_in_order(database: Database) -> None:
    report = await check(database)
    assert (report.ok, report.lsn, report.problems) == (True, 0, [])


async def test_a_log_that_is_not_projected_is_in_order(database: Database) -> None:
    await write_log(database, lived(32, 20).kernel.log)
    report = await check(database)
    assert (report.ok, report.problems) == (True, [])


ONE_LEG = "ctid = (select ctid from leg order by timestamp offset 40 limit 1)"
ONE_SEGMENT = "ctid = (select ctid from account_history order by last offset 30 limit 1)"
A_HOLD = "ctid = (select ctid from leg where held is not null limit 1)"

TAMPERING = {
    "an amount": f"update leg set amount = amount + 1 where {ONE_LEG}",
    "a debit account": f"update leg set debit = credit, credit = debit where {ONE_LEG}",
    "a code": f"update leg set code = code + 1 where {ONE_LEG}",
    "a flag": f"update leg set flags = flags # 256 where {ONE_LEG}",
    "an id": f"update leg set id = '00000000-0000-0000-0000-000000000abc' where {ONE_LEG}",
    "what was held": f"update leg set held = held + 1 where {A_HOLD}",
    "a hold's end": f"update leg set pending_id = '00000000-0000-0000-0000-000000000abc' where {A_HOLD}",
    "a timeout": f"update leg set timeout = coalesce(timeout, 0) + 1 where {ONE_LEG}",
    "user data 128": f"update leg set user_data_128 = '00000000-0000-0000-0000-000000000abc' where {ONE_LEG}",
    "user data 64": f"update leg set user_data_64 = coalesce(user_data_64, 0) + 1 where {ONE_LEG}",
    "user data 32": f"update leg set user_data_32 = coalesce(user_data_32, 0) + 1 where {ONE_LEG}",
    "a missing leg": f"delete from leg where {ONE_LEG}",
    "the last leg": "delete from leg where timestamp = (select max(timestamp) from leg)",
    "one more leg": """
        insert into leg (timestamp, amount, debit, credit, code, flags, shard)
        select max(timestamp) + 1, 5, 0, 1, 1, 0, 0 from leg
    """,
    "a leg of another shard": f"update leg set shard = 1 where {ONE_LEG}",
    "a burnt id": """
        update burnt_id set id = '00000000-0000-0000-0000-000000000abc'
        where ctid = (select ctid from burnt_id limit 1)
    """,
    "a burnt id's time": "update burnt_id set timestamp = timestamp + 1",
    "a missing burnt id": "delete from burnt_id where ctid = (select ctid from burnt_id limit 1)",
    "a counter": f"update account_history set credits_posted = credits_posted + 1 where {ONE_SEGMENT}",
    "another counter": f"update account_history set debits_pending = debits_pending - 1 where {ONE_SEGMENT}",
    "a position": f"update account_history set timestamps[1] = timestamps[1] - 1 where {ONE_SEGMENT}",
    "a position less": """
        update account_history set timestamps = timestamps[2:], legs = legs - 1, first = timestamps[2]
        where ctid = (select ctid from account_history where legs > 2 limit 1)
    """,
    "a segment's size": f"update account_history set legs = legs + 1 where {ONE_SEGMENT}",
    "a segment's start": f"update account_history set first = first - 1 where {ONE_SEGMENT}",
    "a segment's account": f"update account_history set account = account + 1000 where {ONE_SEGMENT}",
    "a missing segment": f"delete from account_history where {ONE_SEGMENT}",
    "the last segment": "delete from account_history where last = (select max(last) from account_history)",
    "one more segment": """
        insert into account_history select first + 1, last + 1, 0, 0, 0, 0, account, 1, shard, array[last + 1]
        from account_history order by last desc limit 1
    """,
    "a floor": "update account set floor = coalesce(floor, 0) - 1 where ordinal = 9",
    "an account's flags": "update account set flags = flags # 2 where ordinal = 10",
    "a key": "update account set key = coalesce(key, '') || 'x' where ordinal = 11",
    "a parent": "update account set parent = 0 where ordinal = 0",
    "an account's id": "update account set id = '00000000-0000-0000-0000-000000000abc' where ordinal = 12",
    "an account's time": "update account set created = created + 1 where ordinal = 3",
    "a missing account": "delete from account where ordinal = 14",
    "the last account": "delete from account where ordinal = (select max(ordinal) from account)",
    "one more account": """
        insert into account (created, asset, ordinal, code, flags, shard, id)
        select 5, 1, max(ordinal) + 1, 1, 0, 0, '00000000-0000-0000-0000-000000000abc' from account
    """,
    "a party's name": "update party set name = 'Eve' where name = 'Ann'",
    "a party's profile": """update party set profile = '{"a": 2.51, "b": 1}' where name = 'Ann'""",
    "a missing party": "delete from party where name = 'Bob'",
    "a thing's exponent": "update thing set exponent = 3",
    "a thing's attributes": """update thing set attrs = '{"x":[2]}'""",
    "a Move's state": "update move set state = 's9' where seq = 1",
    "a Move's lines": """update move set lines = jsonb_set(lines, '{amounts,0}', '7') where seq = 0""",
    "a missing transition": "delete from move where seq = 1",
    "an answer": "update request set fact = fact || '\\x00' where id::text like '%32'",
    "a missing answer": "delete from request",
    "the cursor back": "update projection_cursor set lsn = lsn - 1",
    "the cursor forward": "update projection_cursor set lsn = lsn + 1",
    "the cursor far away": "update projection_cursor set lsn = 10000",
    "the cursor's time": "update projection_cursor set timestamp = timestamp + 1",
    "no cursor": "delete from projection_cursor",
    "a byte of the log": """
        update wal set payload = set_byte(payload, 90, 255 - get_byte(payload, 90)) where lsn = 20
    """,
    "the log's epoch": "update wal set epoch = epoch + 1 where lsn = 20",
    "a hole in the log": "delete from wal where lsn = 20",
    "the log's start": "delete from wal where lsn = 1",
    "the log's end": "delete from wal where lsn > (select lsn - 2 from projection_cursor)",
    "a record twice": "update wal set payload = (select payload from wal where lsn = 19) where lsn = 20",
    "a missing chunk": "delete from snapshot_chunk",
    "a lost snapshot's record": "update snapshot set chain = '\\x00112233445566778899aabbccddeeff'",
    "a snapshot's chain": "update snapshot set chain = set_byte(chain, 3, 255 - get_byte(chain, 3))",
    "a snapshot's checksum": """
        update snapshot set checksum = set_byte(checksum, 3, 255 - get_byte(checksum, 3))
    """,
    "a snapshot's chunk": """
        update snapshot_chunk set content = set_byte(content, 5000, 255 - get_byte(content, 5000))
    """,
    "an incomplete snapshot": "update snapshot set complete = false",
}


@pytest.mark.parametrize("what", TAMPERING)
async def test_tampering_is_found(books: Database, what: str) -> None:
    async with books.session("test") as session:
        await session.execute(TAMPERING[what].encode())
    report = await check(books)
    assert not report.ok, what
    assert report.problems


async def test_every_single_column_of_the_small_tables_counts(books: Database) -> None:
    """Not one column of the events' tables can be changed unseen."""
    changes = {
        "bigint": "{c} + 1", "integer": "{c} + 1", "smallint": "{c} + 1", "text": "coalesce({c}, '') || 'x'",
        "uuid": "'00000000-0000-0000-0000-000000000abc'", "boolean": "not {c}", "bytea": "{c} || '\\x01'",
        "ARRAY": "array['00000000-0000-0000-0000-000000000abc'::uuid]", "jsonb": "'[1]'",
    }  # fmt: skip
    async with books.session("test") as session:
        columns = await (
            await session.execute(
                "select table_name, column_name, data_type from information_schema.columns "
                "where table_schema = 'tessera' and table_name in ('party', 'thing', 'move', 'request')"
            )
        ).fetchall()
    assert len(columns) > 45
    for table, column, kind in columns:
        # One row only, so that keys stay unique; a null is changed too.
        change = changes[kind].format(c=f"coalesce({column}, 1)" if kind == "bigint" else column)
        row = f"where ctid = (select min(ctid) from {table})"
        async with books.session("test") as session:
            await session.execute(f"create table saved as select * from {table}".encode())
            await session.execute(f"update {table} set {column} = {change} {row}".encode())
            report = await check(books)
            assert not report.ok, (table, column)
            await session.execute(f"delete from {table}".encode())
            await session.execute(f"insert into {table} select * from saved".encode())
            await session.execute(b"drop table saved")
    assert (await check(books)).ok


async def test_a_valid_snapshot_of_another_state_is_found(books: Database) -> None:
    """Its checksums are right, its content is not."""
    state = LedgerState()
    recovered = await asyncio.to_thread(recover, books, 0, state, 30)
    wrong = state.state()
    wrong["ledger"]["accounts"]["credits_posted"][3] += 1
    await asyncio.to_thread(snapshots.save, books, 0, 30, recovered.chain, wrong)
    report = await check(books)
    assert report.problems == [
        "the snapshot at record 30 has another state.ledger.accounts than the log gives"
    ]


async def test_a_live_state_that_differs_is_found(books: Database) -> None:
    state = LedgerState()
    recovered = await asyncio.to_thread(recover, books, 0, state)
    wrong = state.state()
    wrong["ledger"]["accounts"]["version"][0] += 1
    report = await verify(books, 0, fresh=LedgerState, live=(recovered.lsn, wrong))
    assert report.problems == ["the live state has another state.ledger.accounts than the log gives"]
    beyond = await verify(books, 0, fresh=LedgerState, live=(recovered.lsn + 1, state.state()))
    assert not beyond.ok


async def test_the_projection_may_go_on_meanwhile(books: Database) -> None:
    """Verify reads all tables as they were at one moment."""
    projector = Projector(books, 0)
    await projector.start()
    rest: list[Record] = await projector.read_back(projector.lsn + 1, 10**9)
    checking = asyncio.create_task(check(books))
    for record in rest:
        await projector.project([record])
    await projector.close()
    assert (await checking).problems == []
    assert (await check(books)).ok
