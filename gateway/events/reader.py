"""Reads events: from a cursor, through a filter, in batches, for as long as somebody asks.

Events of one shard come in the order of its log. Between shards there is no order, and a reader takes what is
there. What it holds in memory is one piece of the log of each shard, whoever is slow.
"""

import asyncio
from collections import deque
from contextlib import ExitStack
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np

from actors.log_follower import LogFollower
from actors.runtime import Engine
from engine.record import Record
from gateway.events.filters import Wanted
from gateway.events.positions import Cursor, Position
from gateway.events.record_events import Indexes, RecordEvents
from gateway.events.views import Told, told
from persistence.account_names import AccountColumns, AccountNames

BATCH_EVENTS: Final = 256
"""Events in a batch."""
BATCH_FACTS: Final = 20_000
"""Facts of the log that are looked through for one batch, unless a single record has more."""


class Batch(NamedTuple):
    """Events, and how far the log has been read with them. There may be none: nothing there was wanted."""

    events: list[Told]
    cursor: Cursor


class EventReader:
    """One reader of events. A context manager, for one task. `cursor` is how far it has read."""

    def __init__(self, engine: Engine, names: AccountNames, wanted: Wanted, cursor: Cursor) -> None:
        self.cursor = cursor
        self._readers = [
            _ShardReader(
                engine, names, wanted, engine.follow(position.shard, position.lsn - 1), position.place
            )
            for position in cursor
        ]
        self._open = ExitStack()
        self._coming: dict[asyncio.Task[list[Told]], _ShardReader] = {}

    def __enter__(self) -> Self:
        for reader in self._readers:
            self._open.enter_context(reader.follower)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._coming:
            task.cancel()
        self._open.close()

    @property
    def behind(self) -> bool:
        """Whether there is more to be read at once."""
        return any(reader.behind for reader in self._readers)

    async def next(self) -> Batch:
        """The next batch; waits until something is committed.

        May be cancelled: then nothing is lost. Raises ShardStopped if there will be no more, and
        PersistenceError.
        """
        if len(self._readers) == 1:
            return self._batch(self._readers[0], await self._readers[0].next())
        for reader in self._readers:
            if reader not in self._coming.values():
                task = asyncio.create_task(reader.next(), name=f"events-{reader.follower.shard}")
                self._coming[task] = reader
        done, _ = await asyncio.wait(self._coming, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        return self._batch(self._coming.pop(task), task.result())

    def _batch(self, reader: "_ShardReader", events: list[Told]) -> Batch:
        shard = reader.follower.shard
        self.cursor = (*self.cursor[:shard], reader.position, *self.cursor[shard + 1 :])
        return Batch(events, self.cursor)


class _ShardReader:
    """Reads the events of one shard, after the `index`-th of the record that comes next."""

    def __init__(
        self, engine: Engine, names: AccountNames, wanted: Wanted, follower: LogFollower, index: int
    ) -> None:
        self.follower = follower
        self.position = Position(follower.shard, follower.lsn + 1, index)
        self._engine = engine
        self._names = names
        self._wanted = wanted
        self._records: deque[Record] = deque()  # read and not looked through yet
        self._events: RecordEvents | None = None  # of the record that is being told
        self._fitting: Indexes  # of its events, those that are not told yet

    @property
    def behind(self) -> bool:
        return self._events is not None or bool(self._records) or self.follower.behind

    async def next(self) -> list[Told]:
        """Some events, or none if what was looked through had none; `position` then is after them."""
        facts = 0
        while True:
            events = self._events or await self._begin()
            facts += events.size
            found = await self._tell(events)
            if found or facts >= BATCH_FACTS or not self._records:
                return found

    async def _begin(self) -> RecordEvents:
        """Take the next record, and find out which of its events are wanted."""
        if not self._records:
            self._records += await self.follower.next()
        record = self._records[0]
        events = RecordEvents(record)

        async def find(ordinals: Indexes) -> AccountColumns:
            return await self._accounts(record.lsn, ordinals)

        fitting = await events.fitting(self._wanted, find)
        seen = self.position.place if self.position.lsn == record.lsn else 0
        self._fitting = fitting[fitting >= seen]
        self._events = events
        self._records.popleft()
        return events

    async def _tell(self, events: RecordEvents) -> list[Told]:
        record = events.record
        chosen = self._fitting[:BATCH_EVENTS]
        found: list[Told] = []
        if len(chosen):
            names = await self._accounts(record.lsn, events.ordinals(chosen))
            found = told(self._engine, events, chosen, names)
        self._fitting = self._fitting[BATCH_EVENTS:]
        if len(self._fitting):
            self.position = found[-1].position
        else:
            self._events = None
            self.position = Position.before_record(record.shard, record.lsn + 1)
        return found

    async def _accounts(self, lsn: int, ordinals: Indexes) -> AccountColumns:
        return await _accounts_of(self._engine, self._names, self.follower.shard, lsn, ordinals)


class EventLookup:
    """Finds single events again. The piece of the log that was read last is kept, since those that are looked
    for tend to stand near each other."""

    def __init__(self, engine: Engine, names: AccountNames) -> None:
        self._engine = engine
        self._names = names
        self._records: list[Record] = []

    async def find(self, position: Position) -> Told:
        """The event at a position, which must be one that was told before.

        Raises ShardStopped and PersistenceError.
        """
        record = await self._record(position.shard, position.lsn)
        events = RecordEvents(record)
        index = np.array([position.place - 1], np.int64)
        ordinals = events.ordinals(index)
        accounts = await _accounts_of(self._engine, self._names, position.shard, position.lsn, ordinals)
        return told(self._engine, events, index, accounts)[0]

    async def _record(self, shard: int, lsn: int) -> Record:
        kept = self._records
        if not kept or kept[0].shard != shard or not kept[0].lsn <= lsn <= kept[-1].lsn:
            with self._engine.follow(shard, lsn - 1) as follower:
                kept = self._records = await follower.next()
        return kept[lsn - kept[0].lsn]


async def _accounts_of(
    engine: Engine, names: AccountNames, shard: int, lsn: int, ordinals: Indexes
) -> AccountColumns:
    """What is known of accounts of a record. Those that are new wait until SQL shows them."""
    found = await names.find(shard, ordinals)
    if found is None:
        await engine.wait_shown(shard, lsn)
        found = await names.find(shard, ordinals)
    assert found is not None, "accounts of a record are shown with it"
    return found
