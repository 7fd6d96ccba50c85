"""The projection holds exactly what the log says, once, whatever dies in between."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import psycopg
import pytest

from engine.facts import NO_ID, Envelope, Event, LineFacts, MoveFact, PartyFact, ThingFact
from engine.layout import CEILING_UNSET, FLOOR_UNSET, LegFlag
from engine.ledger import Ledger
from engine.record import Record
from engine.reference import LegFact
from persistence.database import Database, DatabaseSettings
from persistence.errors import ConnectionLost, DatabaseUnreachable, ProjectionConflict, ProjectionGap
from persistence.projection import Projector
from persistence.projection_rows import decode_answer
from tests.faults.proxy import PostgresProxy
from tests.ledgers import leg_facts
from tests.logged_ledger import ObviousHistory, lived, write_log

LEGS = """
select id, timestamp, debit, credit, amount, code, flags, pending_id, held, timeout, user_data_128,
user_data_64, user_data_32 from leg order by timestamp
"""
ACCOUNTS = """
select id, created, asset, floor, ceiling, parent, code, flags, party, user_data_128, user_data_64,
user_data_32 from account order by ordinal
"""


async def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    async with database.session("test") as session:
        return await (await session.execute(query.encode())).fetchall()


async def project(database: Database, records: Sequence[Record], sizes: Sequence[int]) -> None:
    """Projects the records in groups of these sizes, again and again."""
    projector = Projector(database, 0)
    await projector.start()
    at = turn = 0
    while at < len(records):
        size = sizes[turn % len(sizes)]
        await projector.project(records[at : at + size])
        at, turn = at + size, turn + 1
    assert projector.lsn == records[-1].lsn
    await projector.close()


def wide(value: Any) -> int:
    return 0 if value is None else int(value.int)


def is_burnt(fact: LegFact) -> bool:
    return bool(fact.flags & LegFlag.BURNT)


def projected_leg(row: tuple[Any, ...]) -> LegFact:
    return LegFact(
        id=wide(row[0]),
        timestamp=row[1],
        debit=row[2],
        credit=row[3],
        amount=row[4],
        code=row[5],
        flags=row[6],
        pending_id=wide(row[7]),
        held=row[8] or 0,
        timeout=row[9] or 0,
        user_data_128=wide(row[10]),
        user_data_64=(row[11] or 0) % 2**64,
        user_data_32=row[12] or 0,
    )


async def assert_projected(database: Database, ledger: Ledger, log: Sequence[Any]) -> None:
    """The tables hold all legs, accounts as they are now, and every account's history with its counters."""
    facts = [fact for record in log for fact in leg_facts(record.legs)]
    legs = [projected_leg(row) for row in await rows(database, LEGS)]
    assert legs == [fact for fact in facts if not is_burnt(fact)]
    burnt = [(wide(row[0]), row[1]) for row in await rows(database, "select id, timestamp from burnt_id")]
    assert sorted(burnt) == sorted((fact.id, fact.timestamp) for fact in facts if is_burnt(fact))
    accounts = await rows(database, ACCOUNTS)
    assert len(accounts) == ledger.account_count
    for row, account in zip(accounts, ledger.accounts, strict=True):
        assert row[0].int == int(account["id_hi"]) << 64 | int(account["id_lo"])
        assert (row[1], row[2], row[6]) == (account["timestamp"], account["asset"], account["code"])
        assert row[3] == (None if account["floor"] == FLOOR_UNSET else account["floor"])
        assert row[4] == (None if account["ceiling"] == CEILING_UNSET else account["ceiling"])
        assert row[5] == (None if account["parent"] < 0 else account["parent"])
        assert row[7] == account["flags"]
        assert wide(row[8]) == int(account["party_hi"]) << 64 | int(account["party_lo"])
        assert (row[10] or 0) % 2**64 == account["user_data_64"]
        assert (row[11] or 0) == account["user_data_32"]
    await assert_history(database, ObviousHistory(log))


async def assert_history(database: Database, expected: ObviousHistory) -> None:
    query = "select * from account_history order by account, last"
    segments: dict[int, list[tuple[Any, ...]]] = {}
    for row in await rows(database, query):
        segments.setdefault(row[6], []).append(row)
    for ordinal, lines in expected.lines.items():
        stamps: list[int] = []
        for first, last, *counters, account, legs, shard, timestamps in segments.get(ordinal, []):
            stamps += timestamps
            assert (first, last, legs) == (timestamps[0], timestamps[-1], len(timestamps))
            assert tuple(counters) == expected.counters(ordinal, last)
            assert (account, shard) == (ordinal, 0)
        assert stamps == [line.fact.timestamp for line in lines]


@pytest.mark.parametrize(("seed", "sizes"), [(1, [1]), (2, [3, 1, 40]), (3, [1000])])
async def test_the_tables_hold_what_the_log_says(database: Database, seed: int, sizes: list[int]) -> None:
    pair = lived(seed, 150)
    await project(database, await write_log(database, pair.kernel.log), sizes)
    await assert_projected(database, pair.kernel.ledger, pair.kernel.log)


async def test_a_large_group_is_built_in_threads_and_in_chunks(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.projection.INLINE_FACTS_MAX", 10)
    monkeypatch.setattr("persistence.projection.CHUNK_LEGS", 37)
    monkeypatch.setattr("persistence.projection.GROUP_LEGS_MAX", 300)
    pair = lived(4, 150)
    await project(database, await write_log(database, pair.kernel.log), [1000])
    await assert_projected(database, pair.kernel.ledger, pair.kernel.log)


async def test_closed_accounts_are_known_to_the_next_projector(database: Database) -> None:
    """A hold that closed its account is released in a later session: the account is open again."""
    pair = lived(5, 400)
    flags = np.concatenate([record.legs["flags"] for record in pair.kernel.log])
    assert (flags & int(LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT)).any()
    records = await write_log(database, pair.kernel.log)
    for at in range(0, len(records), 7):
        await project(database, records[at : at + 7], [2])
    await assert_projected(database, pair.kernel.ledger, pair.kernel.log)


async def test_records_that_are_there_already_are_passed_over_and_a_gap_is_refused(
    database: Database,
) -> None:
    records = await write_log(database, lived(6, 20).kernel.log)
    projector = Projector(database, 0)
    await projector.project(records[:10])
    await projector.project(records[5:12])
    assert projector.lsn == 12
    with pytest.raises(ProjectionGap) as refused:
        await projector.project(records[13:])
    assert (refused.value.expected, refused.value.found) == (13, 14)
    await projector.project(records[12:])
    assert projector.lsn == len(records)
    await projector.close()


async def test_records_are_read_back_from_the_log(database: Database) -> None:
    records = await write_log(database, lived(7, 60).kernel.log)
    projector = Projector(database, 0)
    few = await projector.read_back(5, 1)
    assert few[0].lsn == 5
    assert sum(len(record.legs) for record in few[:-1]) == 0
    everything = await projector.read_back(1, 10**9)
    assert [record.lsn for record in everything] == [record.lsn for record in records]
    assert await projector.read_back(len(records) + 1, 10) == []


async def test_of_two_projectors_one_gets_on(database: Database) -> None:
    records = await write_log(database, lived(8, 20).kernel.log)
    first, second = Projector(database, 0), Projector(database, 0)
    await first.start()
    await second.start()
    await first.project(records[:8])
    with pytest.raises(ProjectionConflict):
        await second.project(records[:8])
    await second.project(records[:12])  # it has looked again
    assert second.lsn == 12
    await first.close()
    await second.close()


async def test_a_session_that_breaks_in_the_middle_leaves_nothing_behind(database: Database) -> None:
    """Every session is ended at some statement of the transaction; in the end all is there, once."""
    pair = lived(9, 120)
    records = await write_log(database, pair.kernel.log)
    for statement, expected in (("leg", 0), ("account_history", 0), ("account", 0)):
        trigger = f"""
            create function break_{statement}() returns trigger language plpgsql as $$
            begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
            create trigger break_{statement} after insert on {statement}
            for each statement execute function break_{statement}();
        """
        await rows_of_nothing(database, trigger)
        projector = Projector(database, 0)
        with pytest.raises(DatabaseUnreachable):
            await projector.project(records)
        assert await rows(database, "select lsn from projection_cursor") == [(expected,)]
        assert await rows(database, "select count(*) from leg") == [(0,)]
        await rows_of_nothing(database, f"drop trigger break_{statement} on {statement}")
        await projector.close()
    await project(database, records, [50])
    await assert_projected(database, pair.kernel.ledger, pair.kernel.log)


async def rows_of_nothing(database: Database, statements: str) -> None:
    async with database.session("test") as session:
        await session.execute(statements.encode())


async def test_a_lost_answer_to_a_commit_does_not_project_twice(database: Database) -> None:
    """The server commits, and the connection is gone before it can say so."""
    pair = lived(10, 60)
    records = await write_log(database, pair.kernel.log)
    async with PostgresProxy(database.dsn) as proxy:
        projector = Projector(Database(DatabaseSettings(url=proxy.dsn, connect_limit_s=5)), 0)
        await projector.project(records[:20])
        struck = proxy.cut_after(b"Q", holding=b"COMMIT")
        await projector.project(records)
        assert struck.is_set()
        assert projector.lsn == len(records)
        await projector.close()
    await assert_projected(database, pair.kernel.ledger, pair.kernel.log)


@pytest.mark.parametrize("broken_group", [1, 2, 5])
async def test_groups_at_work_together_fail_together(
    database: Database, monkeypatch: pytest.MonkeyPatch, broken_group: int
) -> None:
    """Two sessions write; one is gone in the middle of its group. The groups before it are there, none after
    it is, and the next attempt goes on from there."""
    monkeypatch.setattr("persistence.projection.GROUP_LEGS_MAX", 30)
    pair = lived(11, 120)
    records = await write_log(database, pair.kernel.log)
    trigger = f"""
        create sequence groups;
        create function break_once() returns trigger language plpgsql as $$
        begin
            if nextval('groups') = {broken_group} then perform pg_terminate_backend(pg_backend_pid()); end if;
            return null;
        end $$;
        create trigger break_once after insert on leg for each statement execute function break_once();
    """
    await rows_of_nothing(database, trigger)
    projector = Projector(database, 0)

    async def extended() -> None:
        await projector.extend(records)
        await projector.flush()

    with pytest.raises(ConnectionLost):
        await extended()
    cursor, newest = (await rows(database, "select lsn, timestamp from projection_cursor"))[0]
    assert projector.handed == projector.lsn == cursor < len(records)
    assert await rows(database, f"select count(*) from leg where timestamp > {newest}") == [(0,)]
    await extended()
    assert projector.lsn == len(records)
    await projector.close()
    await assert_projected(database, pair.kernel.ledger, pair.kernel.log)


async def started_waiting(database: Database) -> None:
    """Returns once some session waits for a lock."""
    while await rows(database, "select count(*) from pg_locks where not granted") == [(0,)]:
        pass


async def test_a_cancelled_projection_goes_on_where_the_tables_are(database: Database) -> None:
    pair = lived(11, 80)
    records = await write_log(database, pair.kernel.log)
    projector = Projector(database, 0)
    async with database.session("blocker") as blocker, blocker.transaction():
        await blocker.execute("lock table leg in access exclusive mode")
        task = asyncio.create_task(projector.project(records))
        await started_waiting(database)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await projector.project(records)
    await projector.close()
    await assert_projected(database, pair.kernel.ledger, pair.kernel.log)


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def move(seq: int, request: int, **more: Any) -> MoveFact:
    fact = MoveFact(
        request=id_of(request),
        move=id_of(100),
        kind="order",
        transition="place",
        state="placed",
        ended=False,
        seq=seq,
        timestamp=10 + seq,
        business_time=5,
        payer=id_of(7),
        digest=b"digest",
    )
    return msgspec.structs.replace(fact, **more)


async def test_parties_things_moves_and_answers_are_projected(database: Database) -> None:
    lines = LineFacts(things=[1, 2], quantities=[3, 4], amounts=[2**60, 5], orders=[NO_ID, id_of(9)])
    created = move(
        0,
        100,
        payee=id_of(8),
        reference="r/1",
        lines=lines,
        metadata=b'{"a":[1,{"b":null}]}',
        inputs={"tax": 7},
        holds=[id_of(55)],
        expires_at=99,
        tender="card",
        amount=2**60 + 5,
        asset=3,
        leg_count=4,
    )
    refused = move(0, 101, code="below_floor", message="no")
    changed = move(1, 102, transition="capture+fulfil", state="fulfilled", ended=True)
    events: list[list[Event]] = [
        [
            Envelope("shop", principal="alice", event_first=1, event_count=4),
            PartyFact(id_of(7), "person", "Ann", b'{"x":1}', 1, 5),
            ThingFact(id_of(9), "product", "SKU", 3, 2, "A thing", b"{}", 6),
            created,
            refused,
        ],
        [PartyFact(id_of(7), "person", "Anne", b"{}", 2, 8), changed],
    ]
    pair = lived(12, 2)
    await project(database, await write_log(database, pair.kernel.log[:2], events), [1])

    parties = "select id, version, timestamp, tenant, kind, name, profile from party"
    assert [(wide(r[0]), *r[1:]) for r in await rows(database, parties)] == [
        (7, 2, 8, "shop", "person", "Anne", {})
    ]
    things = "select id, asset, exponent, tenant, kind, code, name, attrs from thing"
    assert [(wide(r[0]), *r[1:]) for r in await rows(database, things)] == [
        (9, 3, 2, "shop", "product", "SKU", "A thing", {})
    ]
    moves = await rows(
        database,
        """
        select seq, state, ended, reference, lines, metadata, inputs, holds, expires_at, tender, amount,
               payee, principal, leg_count, transition
        from move order by seq
        """,
    )
    expected_lines = {
        "things": [1, 2],
        "quantities": [3, 4],
        "amounts": [2**60, 5],
        "orders": [None, "00000000-0000-0000-0000-000000000009"],
    }
    first, second = moves
    assert first[:7] == (0, "placed", False, "r/1", expected_lines, {"a": [1, {"b": None}]}, {"tax": 7})
    assert [hold.int for hold in first[7]] == [55]
    assert (*first[8:11], wide(first[11]), *first[12:]) == (99, "card", 2**60 + 5, 8, "alice", 4, "place")
    assert second[:7] == (1, "fulfilled", True, None, None, None, None)
    assert second[14] == "capture+fulfil"
    answers = await rows(database, "select id, lsn, fact from request order by id")
    assert [(wide(r[0]), r[1]) for r in answers] == [(100, 2), (101, 2), (102, 3)]
    assert [decode_answer(r[2]) for r in answers] == [created, refused, changed]


async def test_sql_itself_refuses_a_leg_twice(database: Database) -> None:
    """The last line of defence: the tables' own keys."""
    records = await write_log(database, lived(13, 20).kernel.log)
    await project(database, records, [100])
    again = [msgspec.structs.replace(record, lsn=record.lsn + len(records)) for record in records]
    projector = Projector(database, 0)
    with pytest.raises(Exception, match="duplicate key") as refused:
        await projector.project(again)
    assert not isinstance(refused.value, psycopg.Error)
    assert await rows(database, "select lsn from projection_cursor") == [(len(records),)]
    await projector.close()


async def test_groups_spread_over_time_until_somebody_waits(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written in small pieces, one in each gap, until somebody waits; the tables are the same."""
    monkeypatch.setattr("persistence.projection.SPREAD_BYTES_MIN", 64)
    pair = lived(12, 120)
    records = await write_log(database, pair.kernel.log)
    projector = Projector(database, 0)
    await projector.extend(records[:60], 1, 20)
    await projector.flush()
    assert projector.lsn == 60
    monkeypatch.setattr("persistence.projection.GAP_MAX_S", 600.0)
    extending = asyncio.ensure_future(projector.extend(records[60:], 1, 20))
    while not extending.done():
        projector.gap()
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(flushing := asyncio.ensure_future(projector.flush())), 0.3)
    projector.hurried = True
    projector.gap()
    await asyncio.wait_for(flushing, 30)
    assert projector.lsn == len(records)
    await projector.close()
    await assert_projected(database, pair.kernel.ledger, pair.kernel.log)
