"""What is rebuilt from the log is what was live, array for array, whatever the log holds and wherever
recovery starts; and a log that is wrong is refused at open, with its position.
"""

import asyncio
import re
from collections import Counter
from itertools import chain
from typing import Any

import pytest
import structlog.testing

from actors.runtime import Engine
from engine.facts import MoveFact, PartyFact
from engine.layout import AccountFlag, LegFlag
from engine.record import chain_hash, decode, encode
from engine.shard_state import ShardState
from persistence import recovery, snapshots
from persistence.database import Database
from persistence.errors import DatabaseRefused, LogDamaged, SnapshotTooEarly
from persistence.log import Log
from persistence.log_reader import START, LogReader
from tests.engine_life import Life, empty_state, living
from tests.fixtures_engine import Clock, Shop, same, settings_of, shard_of

TURNS = 160
Ended = tuple[dict[str, Any], int]
"""A state, and the record that it comes after."""
UNSWEPT = {"sweep_interval_ns": 1 << 62}


async def execute(database: Database, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    async with database.session("test") as session:
        cursor = await session.execute(statement.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []


async def replayed(database: Database, last: int) -> ShardState:
    """From the log alone."""
    state = empty_state()
    await asyncio.to_thread(recovery.replay_tail, database, 0, state, START, last)
    return state


async def recovered(database: Database, last: int) -> tuple[ShardState, recovery.Recovered]:
    state = empty_state()
    return state, await asyncio.to_thread(recovery.recover, database, 0, state, last)


async def resume(database: Database) -> Engine:
    """Open again, a moment after the last record, and leave holds that have run out where they are."""
    ((payload,),) = await execute(database, "select payload from wal order by lsn desc limit 1")
    running = Clock()
    running.ahead_ns = max(0, decode(payload).time - running())
    return await Engine.open(living(database, **UNSWEPT), running)


def assert_resumed(before: dict[str, Any], engine: Engine) -> None:
    """An engine that was just opened has the state before, but for its opening record."""
    after = shard_of(engine).state.state()
    for part in ("ledger", "directory", "moves"):
        same(before[part], after[part], part)


@pytest.mark.parametrize("seed", range(3))
async def test_recovered_is_live(database: Database, seed: int) -> None:
    clock = Clock(stopped=True)
    async with Engine.running(living(database), clock) as engine:
        life = await Life.begun(engine, clock, seed)
        await life.go_on(TURNS // 2)
        middle = await asyncio.to_thread(recovery.build_snapshot, database, 0, empty_state())
        await life.go_on(TURNS // 2)
        await life.end_holds()
        lsn, live = await engine.capture()

        alone = await replayed(database, lsn)
        same(live, alone.state())
        alone.ledger.check()

        with_snapshot, report = await recovered(database, lsn)
        assert (report.snapshot_lsn, report.lsn, report.rejected) == (middle.lsn, lsn, [])
        same(live, with_snapshot.state())

        newest = await asyncio.to_thread(recovery.build_snapshot, database, 0, empty_state())
        from_newest, report = await recovered(database, newest.lsn)
        assert (report.snapshot_lsn, report.records) == (newest.lsn, 0)
        same(live, from_newest.state())

        proof = await engine.verify()
        assert proof.ok, proof.problems
        _, live = await engine.capture()

    engine = await resume(database)
    try:
        assert engine.recovery.records == 0, "the graceful end left a snapshot"
        assert_resumed(live, engine)
    finally:
        await engine.close()
    await everything_happened(database)


async def everything_happened(database: Database) -> None:
    """The log holds all that it can hold, or the tests above prove less than they say."""
    with LogReader(database, 0) as reader:
        records = [logged.record for batch in reader for logged in batch]
    flags: Counter[str] = Counter()
    for bits in chain.from_iterable(record.legs["flags"].tolist() for record in records):
        flags.update(flag.name or "" for flag in LegFlag(bits))
    between_shards = {LegFlag.PART, LegFlag.CROSSING}
    assert {flag.name for flag in LegFlag if flag not in between_shards} - flags.keys() == set(), flags
    accounts = [flag for record in records for flag in record.accounts["flags"].tolist()]
    assert any(flag & AccountFlag.ROLLUP for flag in accounts)
    assert any(flag & AccountFlag.IMPORTED for flag in accounts)
    assert sum(len(record.guards) for record in records)
    assert records[-1].dropped > 3
    assert records[-1].generation > records[-1].dropped
    events = [event for record in records for event in record.events]
    assert any(isinstance(event, PartyFact) and event.version > 1 for event in events)
    moves = [event for event in events if isinstance(event, MoveFact)]
    assert {fact.kind for fact in moves} == {
        "transfer", "journal", "order", "refund", "adjustment", "opening"
    }  # fmt: skip
    assert {"expired", "voided", "cancelled", "fulfilled", "succeeded"} <= {fact.state for fact in moves}
    assert {"below_floor", "move_version_differs"} <= {fact.code for fact in moves}
    assert any(fact.reference for fact in moves)


@pytest.fixture
async def ended(database: Database) -> Ended:
    """A life that ended gracefully, with two snapshots; its last state, and where the newest one stands."""
    async with Engine.running(living(database)):
        pass  # so that there has been an epoch before
    clock = Clock(stopped=True)
    async with Engine.running(living(database), clock) as engine:
        life = await Life.begun(engine, clock, 9)
        await life.go_on(15)
        await asyncio.to_thread(recovery.build_snapshot, database, 0, empty_state())
        await life.go_on(10)
        lsn, live = await engine.capture()
    return live, lsn


async def test_a_corrupt_snapshot_falls_back_loudly(database: Database, ended: Ended) -> None:
    live, lsn = ended
    await execute(
        database,
        "update snapshot_chunk set content = set_byte(content, 99, get_byte(content, 99) # 1) where lsn = %s",
        lsn,
    )
    with structlog.testing.capture_logs() as logs:
        engine = await resume(database)
    try:
        assert 0 < engine.recovery.snapshot_lsn < lsn
        (why,) = engine.recovery.rejected
        assert f"snapshot at record {lsn}" in why
        assert "checksum" in why
        assert [entry["lsn"] for entry in logs if entry["log_level"] == "warning"] == [lsn]
        assert_resumed(live, engine)
    finally:
        await engine.close()


async def test_without_any_valid_snapshot_the_log_is_enough(database: Database, ended: Ended) -> None:
    live, _ = ended
    await execute(database, "update snapshot set checksum = '\\x00'")
    engine = await resume(database)
    try:
        assert engine.recovery.snapshot_lsn == 0
        assert len(engine.recovery.rejected) == 3
        assert_resumed(live, engine)
    finally:
        await engine.close()


async def test_a_snapshot_whose_last_record_never_committed_is_ignored(
    database: Database, ended: Ended
) -> None:
    _, lsn = ended
    expected = await replayed(database, lsn - 1)
    for table in ("snapshot", "snapshot_chunk"):
        await execute(database, f"create table {table}_kept as select * from {table} where lsn = {lsn}")
    await execute(database, "delete from wal where lsn = %s", lsn)
    await execute(database, "update projection_cursor set lsn = %s", lsn - 1)
    engine = await resume(database)
    try:
        assert engine.recovery.lsn == lsn - 1
        assert engine.recovery.snapshot_lsn < lsn
        assert "does not have the record" in engine.recovery.rejected[0]
        assert_resumed(expected.state(), engine)
        assert engine.health().lsn == lsn, "another record stands there now"
    finally:
        await engine.close()
    await execute(database, "delete from snapshot where lsn >= %s", lsn)
    for table in ("snapshot", "snapshot_chunk"):
        await execute(database, f"insert into {table} select * from {table}_kept")
    engine = await resume(database)
    try:
        assert "another record where it stands" in engine.recovery.rejected[0]
        assert_resumed(expected.state(), engine)
    finally:
        await engine.close()


async def test_no_snapshot_is_published_before_its_record(database: Database, ended: Ended) -> None:
    live, lsn = ended
    with pytest.raises(SnapshotTooEarly, match=f"record {lsn + 1} "):
        await asyncio.to_thread(snapshots.save, database, 0, lsn + 1, bytes(16), live)


# A log that is wrong


async def hole(database: Database, lsn: int) -> str:
    await execute(database, "delete from wal where lsn = %s", lsn)
    return f"record {lsn} is missing: {lsn + 1} comes next"


async def falling_epoch(database: Database, lsn: int) -> str:
    """The record says so itself, and what follows is chained to it."""
    rows = await execute(database, "select lsn, payload from wal where lsn >= %s order by lsn", lsn)
    previous = None
    for number, payload in rows:
        record = decode(payload)
        fields = {field: getattr(record, field) for field in record.__struct_fields__}
        if number == lsn:
            fields["epoch"] = 1
        fields["previous"] = record.previous if previous is None else previous
        written = encode(type(record)(**fields))
        previous = chain_hash(written)
        await execute(
            database,
            "update wal set payload = %s, epoch = %s where lsn = %s",
            written,
            fields["epoch"],
            number,
        )
    return f"record {lsn} is of epoch 1, after epoch 2"


async def broken_chain(database: Database, lsn: int) -> str:
    """A record that is right by itself, and not the one that the next knows."""
    ((payload,),) = await execute(database, "select payload from wal where lsn = %s", lsn - 1)
    record = decode(payload)
    fields = {field: getattr(record, field) for field in record.__struct_fields__} | {"time": record.time + 1}
    await execute(
        database, "update wal set payload = %s where lsn = %s", encode(type(record)(**fields)), lsn - 1
    )
    return f"record {lsn} is not chained to the record before it"


async def flipped_bit(database: Database, lsn: int) -> str:
    await execute(
        database,
        "update wal set payload = set_byte(payload, 90, get_byte(payload, 90) # 1) where lsn = %s",
        lsn,
    )
    return f"record {lsn} is damaged"


@pytest.mark.parametrize("fault", [hole, falling_epoch, broken_chain, flipped_bit], ids=lambda f: f.__name__)
async def test_a_wrong_log_is_refused_where_it_is_wrong(database: Database, ended: Ended, fault: Any) -> None:
    _, lsn = ended
    await execute(database, "delete from snapshot")
    wrong = lsn - 5
    message = await fault(database, wrong)
    with pytest.raises(LogDamaged, match=re.escape(message)) as refused:
        await resume(database)
    assert refused.value.lsn == wrong
    assert refused.value.shard == 0
    log = await Log.open(database, 0, clock=Clock())  # whoever refused has let go of everything
    await log.close()


async def test_settings_with_too_little_room_are_refused_with_a_reason(database: Database) -> None:
    """The window of ids can't become smaller than what the log needs; the same settings open it again."""
    wide = settings_of(database, ids_per_generation=8, generations_max=8)
    narrow = settings_of(database, ids_per_generation=8, generations_max=3)
    async with Engine.running(wide) as engine:
        shop = await Shop.opened(engine)
        await engine.wait_projected()
        async with database.session("test") as session, session.transaction():
            await session.execute(b"lock table leg in exclusive mode")
            for _ in range(5):
                await engine.submit([shop.transfer(1) for _ in range(8)])
    with pytest.raises(DatabaseRefused, match="does not fit these settings") as refused:
        await Engine.open(narrow)
    assert refused.value.reason == "settings"
    await execute(database, "delete from snapshot")
    with pytest.raises(LogDamaged, match="can't be applied with these settings: there is no room"):
        await Engine.open(narrow)
    async with Engine.running(wide) as engine:
        shop.engine = engine
        assert await shop.balance(shop.seller) == 40
