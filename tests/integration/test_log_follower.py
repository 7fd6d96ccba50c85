"""Following the committed log: every record once, in order, whether it is read back or handed on."""

import asyncio

import pytest

from actors import committed_tail
from actors.committed_tail import CommittedTail
from actors.errors import InvalidRequest, ShardStopped
from actors.log_follower import LogFollower
from actors.runtime import Engine
from engine.record import Record
from persistence import log_pages
from persistence.database import Database
from tests.fixtures_engine import BOUND_S, Shop, settings_of


async def read(follower: LogFollower, last: int) -> list[Record]:
    """The records up to one, as they are given."""
    found: list[Record] = []
    async with asyncio.timeout(BOUND_S):
        while follower.lsn < last:
            found += await follower.next()
    return found


def end_of(engine: Engine) -> int:
    (lsn,) = engine.log_ends()
    return lsn


async def trade(shop: Shop, count: int) -> None:
    """So many transfers, each in a record of its own."""
    for _ in range(count):
        await shop.do(shop.transfer())


def assert_complete(records: list[Record], first: int, last: int) -> None:
    assert [record.lsn for record in records] == list(range(first, last + 1))


async def test_what_is_past_is_read_back_and_what_is_new_is_handed_on(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        await trade(shop, 3)
        with engine.follow(0, 0) as follower:
            past = await read(follower, end_of(engine))
            assert_complete(past, 1, end_of(engine))
            assert not follower.behind
            coming = asyncio.create_task(follower.next())
            await asyncio.sleep(0)
            assert not coming.done()
            await trade(shop, 1)
            first = await coming
            await trade(shop, 4)
            assert_complete(past + first + await read(follower, end_of(engine)), 1, end_of(engine))


async def test_followers_from_anywhere_see_the_same(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        await trade(shop, 5)
        middle = end_of(engine)
        with engine.follow(0, 0) as first, engine.follow(0, middle) as second:
            await trade(shop, 5)
            whole = await read(first, end_of(engine))
            assert_complete(whole, 1, end_of(engine))
            rest = await read(second, end_of(engine))
            assert [record.previous for record in rest] == [record.previous for record in whole[middle:]]
            assert [record.events for record in rest] == [record.events for record in whole[middle:]]


async def test_a_follower_that_falls_behind_what_is_kept_reads_the_log(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committed_tail, "KEPT_FACTS_MAX", 6)
    monkeypatch.setattr(log_pages, "PAGE_RECORDS_MAX", 4)
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        start = end_of(engine)
        with engine.follow(0, start) as follower:
            await trade(shop, 12)
            assert_complete(await read(follower, end_of(engine)), start + 1, end_of(engine))


async def test_pages_are_cut_by_their_size(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_pages, "PAGE_BYTES_MAX", 1000)
    monkeypatch.setattr(log_pages, "INLINE_BYTES_MAX", 0)
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        await trade(shop, 12)
        with engine.follow(0, 0) as follower:
            first = await follower.next()
            assert 1 <= len(first) < 8
            assert_complete(first + await read(follower, end_of(engine)), 1, end_of(engine))


async def test_a_follower_is_told_when_there_will_be_no_more(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        await trade(shop, 1)
        follower = engine.follow(0, end_of(engine))
        with follower:
            waiting = asyncio.create_task(follower.next())
            await asyncio.sleep(0)
            await engine.close()
            with pytest.raises(ShardStopped):
                await waiting


async def test_positions_that_are_not_in_the_log_are_refused(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        for shard, lsn in ((0, -1), (0, end_of(engine) + 1), (1, 0), (-1, 0)):
            with pytest.raises(InvalidRequest):
                engine.follow(shard, lsn)


def test_nothing_is_kept_while_nobody_follows() -> None:
    tail = CommittedTail(0, 0)
    tail.add([Record(shard=0, lsn=1, epoch=1, time=1)])
    assert tail.lsn == 1
    assert tail.after(0) == []
    with tail.followed():
        tail.add([Record(shard=0, lsn=2, epoch=1, time=2)])
        assert [record.lsn for record in tail.after(1)] == [2]
        assert tail.after(0) == []
        assert tail.after(2) == []
    assert tail.after(1) == []
