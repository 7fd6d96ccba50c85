"""Snapshots are published whole, found when they are valid, and passed over, loudly, when they are not."""

import asyncio
from typing import Any

import numpy as np
import pytest

from engine.record import chain_hash
from persistence import snapshot_codec, snapshots
from persistence.database import Database
from persistence.errors import PersistenceError, SnapshotTooEarly
from persistence.snapshots import Snapshot
from tests.logged_ledger import lived, write_log


async def chain_at(database: Database, lsn: int) -> bytes:
    ((payload,),) = await execute(database, f"select payload from wal where lsn = {lsn}")
    return chain_hash(payload)


async def saved(database: Database, *positions: int) -> list[dict[str, Any]]:
    """Snapshots at these records; the states are made up."""
    states = []
    for lsn in positions:
        state = {"lsn": lsn, "array": np.arange(lsn * 1000)}
        chain = await chain_at(database, lsn)
        await asyncio.to_thread(snapshots.save, database, 0, lsn, chain, state)
        states.append(state)
    return states


async def newest(database: Database, last: int | None = None) -> tuple[Snapshot | None, list[str]]:
    rejected: list[str] = []
    found = await asyncio.to_thread(snapshots.load_newest_valid, database, 0, rejected, last)
    return found, rejected


async def execute(database: Database, statement: str) -> list[tuple[Any, ...]]:
    async with database.session("test") as session:
        cursor = await session.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []


@pytest.fixture
async def logged(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A log of some records; chunks are small."""
    monkeypatch.setattr(snapshot_codec, "CHUNK_BYTES_MAX", 5000)
    monkeypatch.setattr(snapshots, "BLOCK_BYTES", 1000)
    await write_log(database, lived(41, 20).kernel.log)
    return database


async def test_without_a_snapshot_there_is_none(logged: Database) -> None:
    assert await newest(logged) == (None, [])


async def test_the_newest_is_found_with_its_place(logged: Database) -> None:
    _, state = await saved(logged, 4, 9)
    found, rejected = await newest(logged)
    assert found is not None
    assert rejected == []
    assert (found.head.lsn, found.head.epoch, found.head.chain) == (9, 1, await chain_at(logged, 9))
    assert found.state["lsn"] == 9
    assert np.array_equal(found.state["array"], state["array"])
    earlier, _ = await newest(logged, last=8)
    assert earlier is not None
    assert earlier.head.lsn == 4


async def test_the_newest_three_are_kept(logged: Database) -> None:
    await saved(logged, 2, 3, 4, 5, 6)
    assert await execute(logged, "select lsn from snapshot order by lsn") == [(4,), (5,), (6,)]
    assert await execute(logged, "select distinct lsn from snapshot_chunk order by lsn") == [(4,), (5,), (6,)]


async def test_one_can_be_taken_again(logged: Database) -> None:
    await saved(logged, 5, 5)
    found, rejected = await newest(logged)
    assert found is not None
    assert (found.head.lsn, rejected) == (5, [])


@pytest.mark.parametrize(
    "damage",
    [
        "update snapshot_chunk set content = set_byte(content, 100, 1) where chunk = 2 and lsn = 9",
        "update snapshot_chunk set content = substr(content, 1, 200) where chunk = 2 and lsn = 9",
        "delete from snapshot_chunk where chunk = 1 and lsn = 9",
        "delete from snapshot_chunk where chunk = (select max(chunk) from snapshot_chunk) and lsn = 9",
        "insert into snapshot_chunk select 0, 9, 99, content from snapshot_chunk where chunk = 0 and lsn = 9",
        "update snapshot set chain = set_byte(chain, 0, 255 - get_byte(chain, 0)) where lsn = 9",
        "update snapshot set checksum = set_byte(checksum, 0, 255 - get_byte(checksum, 0)) where lsn = 9",
        "update snapshot set chunks = chunks - 1 where lsn = 9",
        "update snapshot set format = format + 1 where lsn = 9",
        "update snapshot set complete = false where lsn = 9",
        "delete from wal where lsn = 9",
        "update wal set payload = (select payload from wal where lsn = 8) where lsn = 9",
    ],
)
async def test_a_damaged_one_is_passed_over_loudly(
    logged: Database, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await saved(logged, 4, 9)
    await execute(logged, damage)
    found, rejected = await newest(logged)
    assert found is not None
    assert found.head.lsn == 4
    assert len(rejected) == 1
    assert "record 9" in rejected[0]
    assert "passed over" in capsys.readouterr().out


async def test_swapped_chunks_are_noticed(logged: Database) -> None:
    await saved(logged, 9)
    await execute(logged, "update snapshot_chunk set chunk = chunk + 100 where chunk in (1, 2)")
    await execute(logged, "update snapshot_chunk set chunk = 103 - chunk where chunk > 100")
    found, rejected = await newest(logged)
    assert found is None
    assert len(rejected) == 1


async def test_a_record_that_is_not_in_the_log_has_no_snapshot(logged: Database) -> None:
    last = (await execute(logged, "select max(lsn) from wal"))[0][0]
    chain = await chain_at(logged, last)
    with pytest.raises(SnapshotTooEarly):
        await asyncio.to_thread(snapshots.save, logged, 0, last + 1, chain, {"a": 1})
    with pytest.raises(SnapshotTooEarly):
        await asyncio.to_thread(snapshots.save, logged, 0, last, bytes(16), {"a": 1})
    assert await execute(logged, "select count(*) from snapshot") == [(0,)]


async def test_a_session_that_breaks_in_the_middle_leaves_the_older_ones(logged: Database) -> None:
    await saved(logged, 4)
    await execute(
        logged,
        """
        create function break_off() returns trigger language plpgsql as $$
        begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
        create trigger break_off after insert on snapshot_chunk
        for each statement execute function break_off()
        """,
    )
    chain = await chain_at(logged, 9)
    with pytest.raises(PersistenceError):
        await asyncio.to_thread(snapshots.save, logged, 0, 9, chain, {"array": np.arange(10_000)})
    found, rejected = await newest(logged)
    assert found is not None
    assert (found.head.lsn, rejected) == (4, [])
