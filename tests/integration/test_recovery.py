"""What is recovered is what was there, array for array; a log that is wrong is refused where it is wrong."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from engine.record import Record, chain_hash, decode, encode
from engine.shard_state import ShardState
from persistence import snapshots
from persistence.database import Database
from persistence.errors import LogDamaged
from persistence.recovery import Recovered, Replayable, build_snapshot, recover
from persistence.verify import differences
from tests.contract.ledger_pair import LedgerPair
from tests.ledgers import SMALL, replay
from tests.logged_ledger import LedgerState, lived, write_log


async def recovered(database: Database, target: Replayable, **more: Any) -> Recovered:
    return await asyncio.to_thread(recover, database, 0, target, **more)


async def execute(database: Database, statement: str, *parameters: Any) -> None:
    async with database.session("test") as session:
        await session.execute(statement.encode(), parameters or None)


async def snapshot_at(database: Database, lsn: int, make: Callable[[], Any] = LedgerState) -> None:
    target = make()
    at = await recovered(database, target, last=lsn)
    await asyncio.to_thread(snapshots.save, database, 0, lsn, at.chain, target.state())


@pytest.fixture
async def pair(database: Database) -> LedgerPair:
    """A live ledger, and its log in the database."""
    pair = lived(51, 150)
    await write_log(database, pair.kernel.log)
    return pair


def assert_is_live(state: LedgerState, pair: LedgerPair) -> None:
    assert list(differences(pair.kernel.ledger.state(), state.ledger.state())) == []
    state.ledger.check()


async def test_from_the_log_alone(database: Database, pair: LedgerPair) -> None:
    state = LedgerState()
    seen: list[int] = []
    at = await recovered(database, state, progress=seen.append)
    assert_is_live(state, pair)
    assert (at.lsn, at.epoch, at.snapshot_lsn, at.rejected) == (len(pair.kernel.log) + 1, 1, 0, [])
    assert at.records == at.lsn == seen[-1]
    assert at.legs == sum(len(record.legs) for record in pair.kernel.log)


async def test_an_empty_log_gives_an_empty_state(database: Database) -> None:
    state = LedgerState()
    at = await recovered(database, state)
    assert (at.lsn, at.epoch, at.chain, at.records) == (0, 0, bytes(16), 0)
    assert list(differences(LedgerState().state(), state.state())) == []


async def test_from_a_snapshot_and_the_tail(database: Database, pair: LedgerPair) -> None:
    for lsn in (10, 60):
        await snapshot_at(database, lsn)
    state = LedgerState()
    at = await recovered(database, state)
    assert_is_live(state, pair)
    assert (at.snapshot_lsn, at.records) == (60, at.lsn - 60)


async def test_the_newest_snapshot_is_damaged(database: Database, pair: LedgerPair) -> None:
    for lsn in (10, 60):
        await snapshot_at(database, lsn)
    await execute(database, "update snapshot_chunk set content = set_byte(content, 9, 7) where lsn = 60")
    state = LedgerState()
    at = await recovered(database, state)
    assert_is_live(state, pair)
    assert at.snapshot_lsn == 10
    assert "record 60" in at.rejected[0]


async def test_a_snapshot_whose_last_record_was_never_committed(database: Database, pair: LedgerPair) -> None:
    """Its writer believed that record to be durable; it is gone, or another writer's stands there."""
    at = await recovered(database, LedgerState())
    lost = Record(shard=0, lsn=at.lsn + 1, epoch=1, time=1, previous=at.chain)
    await execute(database, "insert into wal values (0, %s, 1, %s)", lost.lsn, encode(lost))
    chain = chain_hash(encode(lost))
    await asyncio.to_thread(snapshots.save, database, 0, lost.lsn, chain, {"ledger": "of the lost turn"})

    await execute(database, "delete from wal where lsn = %s", lost.lsn)
    state = LedgerState()
    after = await recovered(database, state)
    assert_is_live(state, pair)
    assert (after.lsn, after.snapshot_lsn) == (at.lsn, 0)
    assert "does not have the record" in after.rejected[0]

    other = encode(msgspec.structs.replace(lost, time=2))
    await execute(database, "insert into wal values (0, %s, 1, %s)", lost.lsn, other)
    state = LedgerState()
    after = await recovered(database, state)
    assert_is_live(state, pair)
    assert (after.lsn, after.chain, after.snapshot_lsn) == (lost.lsn, chain_hash(other), 0)
    assert "another record" in after.rejected[0]


async def test_only_up_to_a_record(database: Database, pair: LedgerPair) -> None:
    await snapshot_at(database, 60)
    state = LedgerState()
    at = await recovered(database, state, last=40)
    assert (at.lsn, at.snapshot_lsn) == (40, 0)
    expected = LedgerState()
    replay(pair.kernel.log[:39], expected.ledger)  # after the opening record
    assert list(differences(expected.state(), state.state())) == []


async def test_a_follower_builds_a_snapshot_from_the_committed_log(
    database: Database, pair: LedgerPair
) -> None:
    built = await asyncio.to_thread(build_snapshot, database, 0, LedgerState())
    state = LedgerState()
    at = await recovered(database, state)
    assert_is_live(state, pair)
    assert (at.snapshot_lsn, at.records) == (built.lsn, 0)
    nothing_new = await asyncio.to_thread(build_snapshot, database, 0, LedgerState())
    assert nothing_new.records == 0


async def test_the_whole_state_of_a_shard(database: Database, pair: LedgerPair) -> None:
    def make() -> ShardState:
        return ShardState("shop", SMALL)

    plain, from_snapshot = make(), make()
    await recovered(database, plain)
    await snapshot_at(database, 60, make)
    at = await recovered(database, from_snapshot)
    assert at.snapshot_lsn == 60
    assert list(differences(plain.state(), from_snapshot.state())) == []
    assert list(differences(pair.kernel.ledger.state(), plain.ledger.state())) == []


async def test_shards_do_not_mix(database: Database) -> None:
    one, other = lived(52, 30), lived(53, 30)
    await write_log(database, one.kernel.log, shard=0)
    await write_log(database, other.kernel.log, shard=1)
    for shard, pair in enumerate((one, other)):
        state = LedgerState()
        await asyncio.to_thread(recover, database, shard, state)
        assert_is_live(state, pair)


async def test_large_logs_come_in_batches(
    database: Database, pair: LedgerPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.log_reader.BATCH_RECORDS", 7)
    state = LedgerState()
    seen: list[int] = []
    at = await recovered(database, state, progress=seen.append)
    assert_is_live(state, pair)
    assert seen == [*range(7, at.lsn, 7), at.lsn] or seen == list(range(7, at.lsn + 1, 7))


async def rewritten(database: Database, lsn: int, **changes: Any) -> None:
    """Replaces a record by one that says something else, and is otherwise in order."""
    async with database.session("test") as session:
        cursor = await session.execute("select payload from wal where lsn = %s", (lsn,))
        row = await cursor.fetchone()
    assert row is not None
    payload = encode(msgspec.structs.replace(decode(row[0]), **changes))
    await execute(database, "update wal set payload = %s where lsn = %s", payload, lsn)
    if "epoch" in changes:
        await execute(database, "update wal set epoch = %s where lsn = %s", changes["epoch"], lsn)


async def refused(database: Database) -> LogDamaged:
    with pytest.raises(LogDamaged) as damage:
        await recovered(database, LedgerState())
    return damage.value


@pytest.mark.usefixtures("pair")
async def test_a_hole_is_refused(database: Database) -> None:
    await execute(database, "delete from wal where lsn = 30")
    damage = await refused(database)
    assert (damage.lsn, damage.shard) == (30, 0)
    assert "missing" in str(damage)


@pytest.mark.usefixtures("pair")
async def test_a_missing_start_is_refused(database: Database) -> None:
    await execute(database, "delete from wal where lsn < 5")
    assert (await refused(database)).lsn == 1


async def test_a_falling_epoch_is_refused(database: Database, pair: LedgerPair) -> None:
    """Chained and intact, but by a writer that had been deposed."""
    await write_log(database, [])
    last = len(pair.kernel.log) + 2
    await rewritten(database, last, epoch=5)
    async with database.session("test") as session:
        cursor = await session.execute("select payload from wal where lsn = %s", (last,))
        row = await cursor.fetchone()
    assert row is not None
    stale = Record(shard=0, lsn=last + 1, epoch=4, time=1, previous=chain_hash(row[0]))
    await execute(database, "insert into wal values (0, %s, 4, %s)", last + 1, encode(stale))
    damage = await refused(database)
    assert damage.lsn == last + 1
    assert "epoch" in str(damage)


@pytest.mark.usefixtures("pair")
async def test_a_broken_chain_is_refused(database: Database) -> None:
    await rewritten(database, 20, time=12345)
    damage = await refused(database)
    assert damage.lsn == 21
    assert "chain" in str(damage)


@pytest.mark.usefixtures("pair")
async def test_a_damaged_record_is_refused(database: Database) -> None:
    await execute(database, "update wal set payload = set_byte(payload, 77, 3) where lsn = 25")
    damage = await refused(database)
    assert damage.lsn == 25
    assert "checksum" in str(damage)


@pytest.mark.usefixtures("pair")
async def test_a_record_in_another_ones_place_is_refused(database: Database) -> None:
    await execute(
        database, "update wal set payload = (select payload from wal where lsn = 24) where lsn = 25"
    )
    assert (await refused(database)).lsn == 25


@pytest.mark.usefixtures("pair")
async def test_the_link_to_the_snapshot_is_checked(database: Database) -> None:
    await snapshot_at(database, 30)
    await rewritten(database, 31, previous=bytes(16))
    assert (await refused(database)).lsn == 31
