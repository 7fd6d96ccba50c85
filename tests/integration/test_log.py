"""The log on a real PostgreSQL: one writer, durable appends, unknown outcomes resolved by reading."""

import asyncio
import os
import signal
import time
from typing import Final

import psycopg
import pytest
import uvloop

from engine.record import FIRST_CHAIN, Record, chain_hash, encode
from persistence.database import Database, DatabaseSettings
from persistence.embedded import EmbeddedServer
from persistence.errors import (
    DatabaseRefused,
    Deposed,
    LockHeld,
    LogDiverged,
    LogError,
    LogFull,
    LogUnavailable,
    OutcomeUnknown,
)
from persistence.log import Entry, Head, Log
from persistence.schema import migrate
from tests.faults.proxy import PostgresProxy

SECOND_NS = 1_000_000_000


def entry(log: Log, after: int = 0, time_ns: int | None = None) -> Entry:
    """The record that comes `after` more than the next one."""
    lsn = log.head.lsn + 1 + after
    record = Record(
        shard=log.shard,
        lsn=lsn,
        epoch=log.epoch,
        time=time.time_ns() if time_ns is None else time_ns,
        previous=log.head.chain if after == 0 else FIRST_CHAIN,
    )
    return lsn, log.epoch, encode(record)


async def stored(database: Database) -> list[Entry]:
    async with database.session("test") as session:
        cursor = await session.execute("select lsn, epoch, payload from wal order by shard, lsn")
        return await cursor.fetchall()


def behind(proxy: PostgresProxy) -> Database:
    return Database(DatabaseSettings(url=proxy.dsn, connect_limit_s=5))


async def test_an_empty_log_starts_at_zero_with_epoch_one(database: Database) -> None:
    async with await Log.open(database, 0) as log:
        assert (log.head, log.epoch, log.last_time) == (Head(0, 0, FIRST_CHAIN), 1, 0)


async def test_what_was_appended_is_there_for_the_next_writer_with_the_next_epoch(database: Database) -> None:
    async with await Log.open(database, 3) as log:
        first = entry(log)
        await log.append([first])
        others = [entry(log), entry(log, after=1), entry(log, after=2)]
        await log.append(others)
    assert await stored(database) == [first, *others]
    async with await Log.open(database, 3) as log:
        assert log.head == Head(4, 1, chain_hash(others[-1][2]))
        assert log.epoch == 2
        await log.append([entry(log)])
    assert [row[:2] for row in await stored(database)] == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2)]


async def test_shards_and_schemas_have_logs_of_their_own(database: Database) -> None:
    other = Database(DatabaseSettings(url=database.dsn, schema="other"))
    await migrate(other)
    async with (
        await Log.open(database, 0) as a,
        await Log.open(database, 1) as b,
        await Log.open(other, 0) as c,
    ):
        for log in (a, b, c):
            await log.append([entry(log)])
    assert len(await stored(database)) == 2
    assert len(await stored(other)) == 1


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3_000_000])
async def test_payloads_of_all_sizes_come_back_as_they_were(database: Database, size: int) -> None:
    async with await Log.open(database, 0) as log:
        entries = [(1, 1, os.urandom(size)), (2, 1, b"small"), (3, 1, os.urandom(size))]
        await log.append(entries)
    assert await stored(database) == entries


async def test_many_small_records_in_one_append_are_one_commit(database: Database) -> None:
    async with await Log.open(database, 0) as log:
        entries = [(lsn, 1, os.urandom(200)) for lsn in range(1, 1501)]
        await log.append(entries)
        async with database.session("test") as session:
            cursor = await session.execute("select count(*), count(distinct xmin::text) from wal")
            assert await cursor.fetchone() == (1500, 1)


def test_the_log_works_on_uvloop(database: Database) -> None:
    async def run() -> None:
        async with await Log.open(database, 0) as log:
            await log.append([(1, 1, os.urandom(300_000))])
            await log.confirm()
        assert len(await stored(database)) == 1

    uvloop.run(run())


async def test_records_out_of_order_are_a_bug_and_nothing_is_written(database: Database) -> None:
    async with await Log.open(database, 0) as log:
        for wrong in [[(2, 1, b"")], [(1, 2, b"")], [(1, 1, b""), (3, 1, b"")], [(0, 1, b"")]]:
            with pytest.raises(ValueError, match="the next record of shard 0"):
                await log.append(wrong)
        await log.append([(1, 1, b"")])
    assert len(await stored(database)) == 1


async def test_every_commit_is_synced_to_disk(database: Database) -> None:
    async with await Log.open(database, 0) as log:
        before = await log.wal_syncs()
        for _ in range(20):
            await log.append([entry(log)])
        assert await log.wal_syncs() - before >= 20


# One writer


async def test_a_second_writer_is_refused_and_told_who_the_first_is(database: Database) -> None:
    async with await Log.open(database, 0) as log:
        with pytest.raises(LockHeld, match="has a writer already") as refused:
            await Log.open(database, 0, lock_wait_s=0)
        assert f":{os.getpid()}" in refused.value.application
        assert refused.value.pid > 0
        await log.append([entry(log)])


async def test_a_writer_that_is_just_going_away_is_waited_for(database: Database) -> None:
    first = await Log.open(database, 0)
    opening = asyncio.create_task(Log.open(database, 0, lock_wait_s=30))
    async with database.session("test") as session:
        await _until_waiting(session, writers=2)
    await first.close()
    async with await opening as second:
        await second.append([entry(second)])


async def _until_waiting(session: psycopg.AsyncConnection[tuple[object, ...]], writers: int) -> None:
    """Returns when so many sessions of writers are there."""
    query = "select count(*) from pg_stat_activity where application_name like 'tessera tessera/0 %'"
    while (await (await session.execute(query)).fetchone()) != (writers,):
        pass


async def test_a_takeover_ends_the_first_writer_which_can_then_neither_append_nor_confirm(
    database: Database,
) -> None:
    first = await Log.open(database, 0)
    await first.append([entry(first)])
    async with await Log.open(database, 0, takeover=True) as second:
        assert (second.head, second.epoch) == (first.head, 2)
        with pytest.raises(OutcomeUnknown):
            await first.confirm()
        with pytest.raises(OutcomeUnknown):
            await first.append([entry(first)])
        with pytest.raises(Deposed, match="another writer now"):
            await first.resolve([])
        for refused in (first.append([entry(first)]), first.confirm()):
            with pytest.raises(Deposed):
                await refused
        with pytest.raises(Deposed):
            await first.resolve([])
        await second.append([entry(second)])
        await second.confirm()
    await first.close()
    assert [row[:2] for row in await stored(database)] == [(1, 1), (2, 2)]


async def test_a_writer_whose_successor_has_come_and_gone_is_deposed(database: Database) -> None:
    first = await Log.open(database, 0)
    async with await Log.open(database, 0, takeover=True) as second:
        await second.append([entry(second)])
    with pytest.raises(Deposed, match="has had another writer"):
        await first.resolve([])
    await first.close()


async def test_a_closed_log_refuses_everything_and_frees_the_lock(database: Database) -> None:
    log = await Log.open(database, 0)
    await log.close()
    with pytest.raises(LogError, match="closed"):
        await log.append([entry(log)])
    with pytest.raises(LogError, match="closed"):
        await log.confirm()
    async with await Log.open(database, 0, lock_wait_s=0):
        pass
    await log.close()


# Unknown outcomes


ONE_OR_MORE: Final = pytest.mark.parametrize(
    ("count", "end"), [(1, b"S"), (3, b"c")], ids=["one record, inserted", "several, copied"]
)
"""How many records a commit has, and the type of its last message."""


@ONE_OR_MORE
async def test_a_commit_that_did_not_arrive_is_found_missing_and_appended_again(
    database: Database, count: int, end: bytes
) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        log = await Log.open(behind(proxy), 0)
        await log.append([entry(log)])
        entries = [entry(log, after) for after in range(count)]
        cut = proxy.cut_before(end)
        with pytest.raises(OutcomeUnknown) as unknown:
            await log.append(entries)
        assert cut.is_set()
        assert (unknown.value.first, unknown.value.last) == (2, 1 + count)
        assert await log.resolve(entries) == 0
        assert log.head.lsn == 1
        await log.append(entries)
        await log.close()
    assert [row[:2] for row in await stored(database)] == [(lsn, 1) for lsn in range(1, 2 + count)]


@ONE_OR_MORE
async def test_a_commit_that_arrived_is_found_and_not_repeated(
    database: Database, count: int, end: bytes
) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        log = await Log.open(behind(proxy), 0)
        await log.append([entry(log)])
        entries = [entry(log, after) for after in range(count)]
        cut = proxy.cut_after(end)
        with pytest.raises(OutcomeUnknown):
            await log.append(entries)
        await cut.wait()
        assert await log.resolve(entries) == count
        assert log.head == Head(1 + count, 1, chain_hash(entries[-1][2]))
        await log.append([entry(log)])
        await log.close()
    assert (await stored(database))[1:-1] == entries


async def test_only_the_durable_prefix_counts(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        log = await Log.open(behind(proxy), 0)
        entries = [entry(log), entry(log, after=1), entry(log, after=2)]
        proxy.cut_after(b"c")
        with pytest.raises(OutcomeUnknown):
            await log.append(entries[:2])
        assert await log.resolve(entries) == 2
        await log.append(entries[2:])
        await log.close()
    assert await stored(database) == entries


async def test_a_lost_session_is_noticed_by_confirm_and_resolved_without_records(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        log = await Log.open(behind(proxy), 0)
        await log.append([entry(log)])
        proxy.cut()
        with pytest.raises(OutcomeUnknown):
            await log.confirm()
        assert await log.resolve([]) == 0
        await log.confirm()
        await log.close()


@pytest.mark.parametrize("statement", [b"set_config", b"pg_try_advisory_lock", b"order by lsn limit"])
async def test_a_session_lost_while_resolving_is_made_again(database: Database, statement: bytes) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        log = await Log.open(behind(proxy), 0)
        entries = [entry(log), entry(log, after=1)]
        proxy.cut_after(b"c")
        with pytest.raises(OutcomeUnknown):
            await log.append(entries)
        cut = proxy.cut_before(b"P", statement)
        assert await log.resolve(entries) == 2
        assert cut.is_set()
        await log.append([entry(log)])
        await log.close()


@ONE_OR_MORE
async def test_an_append_that_is_cancelled_must_be_resolved(
    database: Database, count: int, end: bytes
) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        log = await Log.open(behind(proxy), 0)
        await log.append([entry(log)])
        entries = [entry(log, after) for after in range(count)]
        stalled = proxy.stall_at(end)
        appending = asyncio.create_task(log.append(entries))
        await stalled.wait()
        appending.cancel()
        proxy.cut()
        with pytest.raises(asyncio.CancelledError):
            await appending
        with pytest.raises(OutcomeUnknown):
            await log.append(entries)
        there = await log.resolve(entries)
        await log.append(entries[there:] or [entry(log)])
        await log.close()


@pytest.mark.parametrize("found", ["another record", "a hole", "nothing"])
async def test_a_log_that_ends_otherwise_is_not_written_any_more(database: Database, found: str) -> None:
    log = await Log.open(database, 0)
    await log.append([entry(log)])
    await log.append([entry(log)])
    async with database.session("test") as session:
        await session.execute("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'")
        if found == "another record":
            await session.execute("insert into wal values (0, 3, 1, 'something else')")
        elif found == "a hole":
            await session.execute("insert into wal values (0, 4, 1, 'something else')")
        else:
            await session.execute("delete from wal where lsn = 2")
    entries = [entry(log)]
    with pytest.raises(OutcomeUnknown):
        await log.append(entries)
    with pytest.raises(LogDiverged):
        await log.resolve(entries)
    with pytest.raises(LogDiverged):
        await log.append(entries)
    await log.close()


async def test_a_record_that_is_there_already_ends_the_writer(database: Database) -> None:
    async with await Log.open(database, 0) as log:
        async with database.session("test") as session:
            await session.execute("insert into wal values (0, 1, 1, 'something else')")
        with pytest.raises(LogDiverged):
            await log.append([entry(log)])
        with pytest.raises(LogDiverged):
            await log.resolve([])


async def test_a_refused_commit_leaves_nothing_and_the_log_usable(database: Database) -> None:
    async with await Log.open(database, 0) as log:
        async with database.session("test") as session:
            await session.execute(
                "alter table wal add constraint none check (length(payload) < 1000) not valid"
            )
        with pytest.raises(LogUnavailable, match="did not take"):
            await log.append([(1, 1, bytes(1000))])
        await log.append([(1, 1, bytes(999))])


async def test_a_full_disk_is_told_apart_and_leaves_nothing(database: Database) -> None:
    async with await Log.open(database, 0) as log, database.session("test") as session:
        await session.execute(
            "create function full_disk() returns trigger language plpgsql as"
            " $$ begin raise exception 'No space left on device' using errcode = 'disk_full'; end $$"
        )
        await session.execute(
            "create trigger full_disk before insert on wal for each row execute function full_disk()"
        )
        with pytest.raises(LogFull, match="no disk space left"):
            await log.append([entry(log)])
        await session.execute("drop trigger full_disk on wal")
        await log.append([entry(log)])
    assert len(await stored(database)) == 1


async def test_room_is_made_ahead_while_the_log_is_written(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.log.ROOM_RECORDS", 10)
    monkeypatch.setattr("persistence.log.ROOM_RECORDS_MIN", 1 << 20)
    async with database.session("test") as session:
        await session.execute("select wal_partitions(1, 1)")
        await session.execute("insert into wal values (0, %s, 1, %s)", (1048570, entry_at(1048570)))
        async with await Log.open(database, 0) as log:
            for _ in range(20):
                await log.append([entry(log)])
                assert log._making_room is not None or log._room_end > log.head.lsn
                if log._making_room is not None:
                    await log._making_room
        cursor = await session.execute(
            "select tableoid::regclass::text, count(*) from wal group by 1 order by 1"
        )
        assert await cursor.fetchall() == [("wal_000000", 6), ("wal_000001", 15)]


def entry_at(lsn: int) -> bytes:
    return encode(Record(shard=0, lsn=lsn, epoch=1, time=time.time_ns()))


# Killed servers


async def test_a_killed_backend_loses_no_acknowledged_record(own_server: EmbeddedServer) -> None:
    database = Database(DatabaseSettings(url=own_server.dsn, connect_limit_s=30))
    await migrate(database)
    async with await Log.open(database, 0) as log:
        await log.append([entry(log)])
        async with database.session("test") as session:
            row = await (
                await session.execute("select pid from pg_locks where locktype = 'advisory'")
            ).fetchone()
        assert row is not None
        os.kill(row[0], signal.SIGKILL)
        entries = [entry(log)]
        with pytest.raises(OutcomeUnknown):
            await _append_until_lost(log, entries)
        there = await log.resolve([entry for entry in entries if entry[0] > log.head.lsn])
        assert there in (0, 1)
        await log.append([entry(log)])
    found = await stored(database)
    assert [row[0] for row in found] == list(range(1, log.head.lsn + 1))


async def _append_until_lost(log: Log, entries: list[Entry]) -> None:
    """The kill takes a moment to strike; `entries` always ends with what was tried last."""
    while True:
        await log.append([entries[-1]])
        entries.append(entry(log))


async def test_a_killed_server_is_started_again_and_the_log_goes_on(own_server: EmbeddedServer) -> None:
    database = Database(DatabaseSettings(data_dir=str(own_server.data_dir)))
    database.start()
    await migrate(database)
    async with await Log.open(database, 0) as log:
        for _ in range(3):
            await log.append([entry(log)])
            pid = own_server.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            entries = [entry(log)]
            with pytest.raises(OutcomeUnknown):
                await _append_until_lost(log, entries)
            await log.resolve([entries[-1]])
    found = await stored(database)
    assert [row[0] for row in found] == list(range(1, log.head.lsn + 1))
    database.stop()


# Databases that must not be used


async def test_a_pooler_is_refused(database: Database) -> None:
    async with PostgresProxy(database.dsn, pooler_pid=4711) as proxy:
        with pytest.raises(DatabaseRefused, match="connection pooler") as refused:
            await Log.open(behind(proxy), 0)
    assert refused.value.reason == "pooler"


async def test_a_server_without_fsync_is_refused(own_server: EmbeddedServer) -> None:
    database = Database(DatabaseSettings(url=own_server.dsn))
    await migrate(database)
    async with database.session("test") as session:
        await session.execute("alter system set fsync = off")
        await session.execute("select pg_reload_conf()")
    with pytest.raises(DatabaseRefused, match="fsync=off") as refused:
        await _open_until_refused(database)
    assert refused.value.reason == "fsync"


async def _open_until_refused(database: Database) -> None:
    """A changed setting takes a moment to reach new sessions."""
    while True:
        await (await Log.open(database, 0)).close()


async def test_a_standby_is_refused(own_server: EmbeddedServer) -> None:
    database = Database(DatabaseSettings(url=own_server.dsn))
    await migrate(database)
    own_server.stop()
    (own_server.cluster / "standby.signal").touch()
    own_server.start()
    with pytest.raises(DatabaseRefused, match="standby") as refused:
        await Log.open(database, 0)
    assert refused.value.reason == "standby"


@pytest.mark.parametrize("skew_ns", [-6 * SECOND_NS, 6 * SECOND_NS])
async def test_a_clock_that_is_off_is_refused(database: Database, skew_ns: int) -> None:
    with pytest.raises(DatabaseRefused, match="clock") as refused:
        await Log.open(database, 0, clock=lambda: time.time_ns() + skew_ns)
    assert refused.value.reason == "clock"


async def test_a_clock_behind_the_last_record_is_refused(database: Database) -> None:
    async with await Log.open(database, 0) as log:
        await log.append([entry(log, time_ns=time.time_ns() + 3600 * SECOND_NS)])
    with pytest.raises(DatabaseRefused, match="behind the last record") as refused:
        await Log.open(database, 0)
    assert refused.value.reason == "clock"


async def test_commits_wait_for_the_disk_whatever_the_database_says(database: Database) -> None:
    async with database.session("test") as session:
        cursor = await session.execute("select current_database()")
        name = (await cursor.fetchone() or ("",))[0]
        await session.execute(f'alter database "{name}" set synchronous_commit = off')
    async with await Log.open(database, 0) as log:
        before = await log.wal_syncs()
        for _ in range(5):
            await log.append([entry(log)])
        assert await log.wal_syncs() - before >= 5


async def test_a_cancelled_wait_for_a_standby_is_an_unknown_outcome(own_server: EmbeddedServer) -> None:
    database = Database(DatabaseSettings(url=own_server.dsn))
    await migrate(database)
    async with await Log.open(database, 0) as log, database.session("test") as session:
        await log.append([entry(log)])
        await session.execute("set synchronous_commit = local")
        await session.execute("alter system set synchronous_standby_names = 'nobody'")
        await session.execute("select pg_reload_conf()")
        entries = [entry(log)]
        appending = asyncio.create_task(_append_until_lost(log, entries))
        waiting = "select pid from pg_stat_activity where wait_event = 'SyncRep'"
        while (row := await (await session.execute(waiting)).fetchone()) is None:
            pass
        await session.execute("select pg_cancel_backend(%s)", row)
        with pytest.raises(OutcomeUnknown, match="synchronous replication"):
            await appending
        await session.execute("alter system reset synchronous_standby_names")
        await session.execute("select pg_reload_conf()")
        assert await log.resolve([entries[-1]]) == 1
        await log.append([entry(log)])
