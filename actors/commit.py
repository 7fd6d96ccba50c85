"""The commit pipeline of one shard: turns in, durable answers out, one round trip to the log in flight.

    submit(record, replies) ─▶ queue ─▶ one COPY of all that waits = a commit ─▶ replies, projection

While a commit is on its way the next turns gather, so a busy shard shares commits without waiting for
anybody. When it is done, the next one is sent before the answers are given: PostgreSQL works meanwhile. A
turn that changed nothing has no record; its answers wait for the records before it, or, when there are none,
for one round trip that proves the log is still ours. If the outcome of a commit is unknown the pipeline asks
the log what is there, appends the rest and goes on; if the log belongs to somebody else by now, or differs,
it gives up and says so: it never guesses.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog

from actors.errors import ActorError
from engine.record import Record
from persistence.errors import (
    DatabaseUnreachable,
    LogFull,
    LogUnavailable,
    OutcomeUnknown,
    PersistenceError,
)
from persistence.log import Log

ATTEMPTS_MAX: Final = 20
"""How often a commit is tried in a row before the shard stops; a full disk is waited for without end."""
CLOSING_ATTEMPTS_MAX: Final = 2
"""The same once the shard is closing: nobody waits much longer for its end."""
PAUSE_S: Final = 0.2
COMMIT_BYTES_MAX: Final = 32 << 20
"""One commit takes whole records up to about this many bytes."""

_log = structlog.get_logger(__name__)


class Reply(NamedTuple):
    """An answer that is ready, and may be given once what it saw is durable; an ActorError is raised."""

    future: asyncio.Future[Any]
    answer: Any

    def give(self) -> None:
        """Let the caller have it, if it still waits."""
        if self.future.done():
            return
        if isinstance(self.answer, ActorError):
            self.future.set_exception(self.answer)
        else:
            self.future.set_result(self.answer)


class _Turn(NamedTuple):
    record: Record | None
    payload: bytes
    replies: list[Reply]


class CommitPipeline:
    """Appends a shard's records to its log in order and gives answers when they are durable.

    `on_durable` sees every durable batch of records (for the projection); `on_settled` is called after every
    commit; `on_failure` once, with the reason, when the pipeline gives up. `turns_max` bounds how many turns
    may wait.
    """

    def __init__(
        self,
        log: Log,
        durable_lsn: int,
        turns_max: int,
        on_durable: Callable[[list[Record]], None],
        on_settled: Callable[[], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._log = log
        self._turns_max = turns_max
        self._on_durable = on_durable
        self._on_settled = on_settled
        self._on_failure = on_failure
        self._waiting: deque[_Turn] = deque()  # in order, none of them in flight
        self._in_flight: list[_Turn] = []  # in the round trip that is on its way
        self._arrived = asyncio.Event()  # set while turns wait or the pipeline is closing
        self._room = asyncio.Event()  # set while fewer than turns_max wait
        self._room.set()
        self._closing = False
        self.durable_lsn = durable_lsn  # everything up to it is committed
        self.commits = 0  # commits made
        self.commit_s = 0.0  # how long the last one took
        self.blocked: PersistenceError | None = None  # why nothing can be committed just now
        self._task = asyncio.create_task(self._run(), name="commit-pipeline")

    @property
    def unanswered(self) -> int:
        """How many turns have not been answered yet."""
        return len(self._waiting) + len(self._in_flight)

    def submit(self, record: Record | None, payload: bytes, replies: list[Reply]) -> None:
        """Queue a turn; its replies are given once everything it saw is durable and ours."""
        self._waiting.append(_Turn(record, payload, replies))
        if self.unanswered >= self._turns_max:
            self._room.clear()
        self._arrived.set()

    async def room(self) -> None:
        """Return once another turn may be submitted."""
        await self._room.wait()

    async def close(self) -> None:
        """Commit what waits, then end."""
        self._closing = True
        self._arrived.set()
        await asyncio.wait([self._task])

    async def abort(self) -> list[Reply]:
        """End at once; the replies that were not given are handed back."""
        self._task.cancel()
        await asyncio.wait([self._task])
        return self.take_unanswered()

    def take_unanswered(self) -> list[Reply]:
        """The replies that were not given; they are forgotten here."""
        left = [reply for turn in (*self._in_flight, *self._waiting) for reply in turn.replies]
        self._in_flight = []
        self._waiting.clear()
        return left

    async def _run(self) -> None:
        try:
            while True:
                await self._arrived.wait()
                if not self._waiting:
                    return
                self._in_flight = self._next_batch()
                sent_at = time.perf_counter()
                await self._make_durable(self._in_flight)
                self.commit_s = time.perf_counter() - sent_at
                await self._acknowledge()
        except Exception as failure:  # whatever it is, nothing can be acknowledged any more
            self._on_failure(failure)

    def _next_batch(self) -> list[_Turn]:
        batch: list[_Turn] = []
        size = 0
        while self._waiting and (not batch or size + len(self._waiting[0].payload) <= COMMIT_BYTES_MAX):
            turn = self._waiting.popleft()
            size += len(turn.payload)
            batch.append(turn)
        if not self._waiting and not self._closing:
            self._arrived.clear()
        return batch

    async def _make_durable(self, batch: list[_Turn]) -> None:
        rows = [
            (turn.record.lsn, turn.record.epoch, turn.payload) for turn in batch if turn.record is not None
        ]
        unknown = False  # whether some of the rows may be there already
        for attempt in itertools.count(1):
            try:
                if unknown:
                    rows = rows[await self._log.resolve(rows) :]
                    unknown = False
                if rows:
                    await self._log.append(rows)
                    self.commits += 1
                else:
                    await self._log.confirm()
                self.blocked = None
                return
            except (OutcomeUnknown, DatabaseUnreachable, LogUnavailable) as trouble:
                unknown = unknown or isinstance(trouble, OutcomeUnknown)
                self.blocked = trouble
                _log.warning("the log waits", error=str(trouble), attempt=attempt)
                if self._closing:
                    if attempt >= CLOSING_ATTEMPTS_MAX:
                        raise
                elif attempt >= ATTEMPTS_MAX and not isinstance(trouble, LogFull):
                    raise
                if attempt > 1:
                    await asyncio.sleep(PAUSE_S)

    async def _acknowledge(self) -> None:
        batch, self._in_flight = self._in_flight, []
        records = [turn.record for turn in batch if turn.record is not None]
        if records:
            self.durable_lsn = records[-1].lsn
            self._on_durable(records)
        if self.unanswered < self._turns_max:
            self._room.set()
        self._on_settled()
        try:
            await asyncio.sleep(0)  # whoever waited for this commit may have a turn for the next one
        finally:
            asyncio.get_running_loop().call_soon(_give, batch)  # once that one has been sent


def _give(batch: list[_Turn]) -> None:
    for turn in batch:
        for reply in turn.replies:
            reply.give()
