"""The newest committed records of a shard, for those who follow its log as it grows.

Nothing is kept while nobody follows. Those who fall behind what is kept read the log itself; so what a slow
follower costs does not depend on how slow it is.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

from actors.errors import ShardStopped
from engine.record import Record

KEPT_FACTS_MAX: Final = 100_000
"""Facts that are kept; the newest record is kept whatever its size."""
GIVEN_FACTS_MAX: Final = 10_000
"""Facts given at a time, unless a single record has more."""


class CommittedTail:
    """The end of one shard's committed log. `lsn` is the last committed record."""

    def __init__(self, shard: int, lsn: int) -> None:
        self.lsn = lsn
        self._shard = shard
        self._records: deque[Record] = deque()  # consecutive, up to `lsn`
        self._facts = 0  # in them
        self._followers = 0
        self._advanced = asyncio.Event()  # set, and replaced, whenever records are added, and at the end
        self._ended: str | None = None  # why there will be no more

    def add(self, records: list[Record]) -> None:
        """Take records that were just committed."""
        self.lsn = records[-1].lsn
        if not self._followers:
            return
        self._records += records
        self._facts += sum(map(_facts, records))
        while self._facts > KEPT_FACTS_MAX and len(self._records) > 1:
            self._facts -= _facts(self._records.popleft())
        self._announce()

    def end(self, reason: str) -> None:
        """There will be no more records."""
        self._ended = self._ended or reason
        self._announce()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Keep records for the length of the block."""
        self._followers += 1
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers:
                self._records.clear()
                self._facts = 0

    async def wait(self, lsn: int) -> None:
        """Return once there are records after `lsn`. Raises ShardStopped if there will be none."""
        while self.lsn <= lsn:
            if self._ended is not None:
                raise ShardStopped(self._shard, self._ended)
            await self._advanced.wait()

    def after(self, lsn: int) -> list[Record]:
        """The first of the records after `lsn`; none if they are not kept here any more."""
        if not self._records or not self._records[0].lsn <= lsn + 1 <= self.lsn:
            return []
        given: list[Record] = []
        facts = 0
        for record in islice(self._records, lsn + 1 - self._records[0].lsn, None):
            facts += _facts(record)
            if given and facts > GIVEN_FACTS_MAX:
                break
            given.append(record)
        return given

    def _announce(self) -> None:
        advanced, self._advanced = self._advanced, asyncio.Event()
        advanced.set()


def _facts(record: Record) -> int:
    return len(record.legs) + len(record.accounts) + len(record.guards) + len(record.events)
