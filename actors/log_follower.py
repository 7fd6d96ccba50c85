"""Follows a shard's committed log from any position: what is past is read back from the log, what is new is
handed on as it is committed."""

import asyncio
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from actors.committed_tail import CommittedTail
from engine.record import Record
from persistence.log_pages import LogPages


class LogFollower:
    """Gives the records after a position, each once, in order. A context manager, for one task.

    `lsn` is the last record that was given. Nothing is read ahead: whoever does not ask costs nothing.
    """

    def __init__(self, shard: int, tail: CommittedTail, pages: LogPages, after: int) -> None:
        self.shard = shard
        self.lsn = after
        self._tail = tail
        self._pages = pages
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._open.enter_context(self._tail.followed())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def behind(self) -> bool:
        """Whether there are records to be had at once."""
        return self.lsn < self._tail.lsn

    async def next(self) -> list[Record]:
        """The next records, at least one; waits until there is one.

        May be cancelled: then nothing is lost. Raises ShardStopped if there will be no more, LogDamaged,
        QueryFailed, DatabaseUnreachable.
        """
        await self._tail.wait(self.lsn)
        records = self._tail.after(self.lsn)
        if not records:
            records = await self._pages.read(self.lsn, self._tail.lsn)
        self.lsn = records[-1].lsn
        return records

    async def wait(self, timeout_s: float) -> bool:
        """Wait until there is a record to be had, or the time is over; whether there is. Raises
        ShardStopped."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._tail.wait(self.lsn)
        except TimeoutError:
            return False
        return True
