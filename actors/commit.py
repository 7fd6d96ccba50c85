"""The commit pipeline of one shard: records in, durable records out, one commit in flight.

    submit(record) ─▶ queue ─▶ COPY of all that waits = one commit ─▶ durable LSN ─▶ replies, projection

While a commit is on its way the next records gather, so a busy shard shares commits without waiting for anybody.
If a commit's outcome is unknown the pipeline asks the log what is there, appends the rest and goes on; if the log
belongs to somebody else by now, or differs, it gives up and says so: it never guesses.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from engine.record import Record
from persistence.errors import OutcomeUnknown, PersistenceError
from persistence.log import Log

COMMIT_BYTES_MAX: Final = 32 << 20
"""One commit takes whole records up to about this many bytes."""


class Unacknowledged(NamedTuple):
    """A record that is not known to be durable yet, and whom to tell."""

    record: Record
    payload: bytes
    durable: Callable[[], None]


class CommitPipeline:
    """Appends a shard's records to its log in order.

    `on_durable` sees every durable batch of records (for the projection); `on_failure` is called once, with the
    reason, when the pipeline gives up. `records_max` bounds what may be unacknowledged.
    """

    def __init__(
        self,
        log: Log,
        durable_lsn: int,
        records_max: int,
        on_durable: Callable[[list[Record]], None],
        on_failure: Callable[[PersistenceError], None],
    ) -> None:
        self._log = log
        self._records_max = records_max
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._waiting: deque[Unacknowledged] = deque()  # in LSN order, none of them in flight
        self._in_flight = 0  # records in the commit that is on its way
        self._arrived = asyncio.Event()  # set while records wait or the pipeline is closing
        self._room = asyncio.Event()  # set while fewer than records_max are unacknowledged
        self._room.set()
        self._closing = False
        self.durable_lsn = durable_lsn  # everything up to it is committed
        self.commits = 0  # commits made, for the metrics
        self._task = asyncio.create_task(self._run(), name="commit-pipeline")

    @property
    def unacknowledged(self) -> int:
        """How many records are not known to be durable."""
        return len(self._waiting) + self._in_flight

    def submit(self, record: Record, payload: bytes, durable: Callable[[], None]) -> None:
        """Queue a record; `durable` is called once it is committed."""
        self._waiting.append(Unacknowledged(record, payload, durable))
        if self.unacknowledged >= self._records_max:
            self._room.clear()
        self._arrived.set()

    async def room(self) -> None:
        """Return once another record may be submitted."""
        await self._room.wait()

    async def close(self) -> None:
        """Commit what waits, then end."""
        self._closing = True
        self._arrived.set()
        await asyncio.wait([self._task])

    def abort(self) -> None:
        """End at once; what is unacknowledged stays so."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self._arrived.wait()
                if not self._waiting:
                    return
                batch = self._next_batch()
                await self._commit(batch)
                self._acknowledge(batch)
        except PersistenceError as failure:
            self._on_failure(failure)

    def _next_batch(self) -> list[Unacknowledged]:
        batch = [self._waiting.popleft()]
        size = len(batch[0].payload)
        while self._waiting and size + len(self._waiting[0].payload) <= COMMIT_BYTES_MAX:
            size += len(self._waiting[0].payload)
            batch.append(self._waiting.popleft())
        self._in_flight = len(batch)
        if not self._waiting and not self._closing:
            self._arrived.clear()
        return batch

    async def _commit(self, batch: list[Unacknowledged]) -> None:
        rows = [(item.record.lsn, item.record.epoch, item.payload) for item in batch]
        while rows:
            try:
                await self._log.append(rows)
                return
            except OutcomeUnknown:
                there = await self._log.resolve(rows)
                rows = rows[there:]

    def _acknowledge(self, batch: list[Unacknowledged]) -> None:
        self._in_flight = 0
        self.commits += 1
        self.durable_lsn = batch[-1].record.lsn
        if self.unacknowledged < self._records_max:
            self._room.set()
        for item in batch:
            item.durable()
        self._on_durable([item.record for item in batch])
