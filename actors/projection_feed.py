"""Feeds committed records to the projection, in order, off the path of replies.

Records come straight from the commit pipeline while they fit into a bound; what did not fit is read back from
the log. A lost database session is retried with growing pauses: the projection is late then, never wrong.
"""

import asyncio
import math
from collections import deque
from typing import Final

import structlog

from actors.projector_thread import ProjectorThread
from engine.record import Record
from persistence.errors import ConnectionLost, DatabaseUnreachable, ProjectionConflict, QueryFailed
from persistence.projection import SESSIONS

QUEUED_FACTS_MAX: Final = 2_000_000
"""Facts kept in memory for the projection; beyond it they are read back from the log."""
GROUP_LEGS_MAX: Final = 200_000
"""Legs that one transaction of the projection takes."""
LINGER_S: Final = 0.05
"""How long a few facts wait for more before a transaction of their own: one for every small commit would take
more of the machine than the commits do …"""
LINGER_BUSY_S: Final = 1.0
"""… and how long while more keep coming."""
PROMPT_FACTS: Final = 65_536
"""So many wait no longer; nor does anything that somebody waits for."""
SPREAD: Final = 0.7
"""A group that was gathered while few facts came is written in as many pieces as this share of the commits
that brought it, one after each commit to come, while nobody waits for it: PostgreSQL would otherwise keep a
processor for many milliseconds, and a commit of the log that wakes up there waits until the kernel's clock
ticks."""
GAP_S: Final = 0.0003
"""So long after a commit the answers are on their way, and PostgreSQL has a moment for the projection."""
BUSY_S: Final = 0.1
"""So long after a commit writers count as busy: the projection then leaves them most of the machine."""
PACED_LEGS_PER_S: Final = 250_000
"""How fast the projection goes while writers are busy and it is not far behind: commits of the log have to
wait until PostgreSQL has written what the projection put before them."""
RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
CONFLICTS_MAX: Final = 10
"""In a row. A writer that was deposed may project what it had committed beside its successor, for a while."""
_PASSING: Final = ("40", "53", "55P03", "57")
"""States of PostgreSQL that pass: conflicts, no room, locks, an operator at work."""

_log = structlog.get_logger(__name__)


class ProjectionFeed:
    """Runs one shard's projector. `lag_legs` is how many legs were committed since it began and are not yet
    projected."""

    def __init__(self, projector: ProjectorThread, committed_lsn: int, unhurried_legs: int) -> None:
        self._projector = projector
        self._loop = asyncio.get_running_loop()
        self._unhurried_legs = unhurried_legs  # further behind than that it goes as fast as it can
        self._queue: deque[Record] = deque()  # consecutive records, the newest is the newest committed one
        self._queued_facts = 0  # in the queue
        self._behind: deque[tuple[int, int]] = deque()  # LSN and legs of records that make up the lag
        self._committed_lsn = committed_lsn
        self.lag_legs = 0
        self._changed = asyncio.Event()
        self._wanted_lsn = 0  # somebody waits for everything up to it
        self._wanted = asyncio.Event()  # set when that was raised, or when the end is near
        self._hurry = asyncio.Event()  # set when there is a reason not to wait for more facts
        self._progress = asyncio.Event()  # set, and replaced, after every transaction of the projection
        self._closing = False
        self._added = 0.0  # when records came last, by the loop's clock
        self._next_start = 0.0  # of a group, if it keeps its pace
        self._commits = 0  # since the last group was complete
        projector.on_advance(self._announce)
        self.failure: Exception | None = None
        self._task = asyncio.create_task(self._run(), name="projection-feed")

    @property
    def projected_lsn(self) -> int:
        """Everything up to it can be seen in SQL."""
        return self._projector.lsn

    def add(self, records: list[Record]) -> None:
        """Take the records of a commit."""
        for record in records:
            self._queue.append(record)
            self._queued_facts += _facts(record)
            if len(record.legs):
                self._behind.append((record.lsn, len(record.legs)))
                self.lag_legs += len(record.legs)
        self._committed_lsn = records[-1].lsn
        self._added = self._loop.time()
        self._commits += 1
        self._loop.call_later(GAP_S, self._projector.gap)
        while self._queued_facts > QUEUED_FACTS_MAX and len(self._queue) > 1:
            self._queued_facts -= _facts(self._queue.popleft())
        if self._queued_facts >= PROMPT_FACTS:
            self._hurry.set()
        self._changed.set()

    async def wait_for(self, lsn: int) -> None:
        """Return once everything up to `lsn` is projected. Raises what stopped the projection, if it stopped
        before that."""
        self._want(lsn)
        while self._projector.lsn < lsn:
            if self.failure is not None:
                raise self.failure
            await self._progress.wait()

    async def wait_for_progress(self) -> None:
        """Return after the next transaction of the projection, or at once if it has stopped."""
        if self.failure is not None:
            raise self.failure
        self._want(self._committed_lsn)
        await self._progress.wait()

    def _want(self, lsn: int) -> None:
        self._wanted_lsn = max(self._wanted_lsn, lsn)
        self._wanted.set()
        self._hurry.set()
        self._projector.hurry(True)

    async def close(self, reason: Exception, drain: bool) -> None:
        """End; with `drain` only after everything committed is projected, if the database is there. Who still
        waits for the projection then is told the reason."""
        self._closing = True
        self._wanted.set()
        self._hurry.set()
        self._changed.set()
        self._projector.hurry(True)
        if not drain:
            self._task.cancel()
        await asyncio.wait([self._task])
        self.failure = self.failure or reason
        self._announce()
        await self._projector.close()

    async def _run(self) -> None:
        attempt = conflicts = 0
        while True:
            if self._projector.lsn >= self._committed_lsn:
                if self._closing:
                    return
                self._changed.clear()
                await self._changed.wait()
                continue
            try:
                if self._projector.handed >= self._committed_lsn:
                    await self._projector.flush()
                else:
                    await self._gather()
                    group = await self._next_group()
                    await self._keep_pace(sum(len(record.legs) for record in group))
                    at_once = 1 if self._writers_are_busy() else SESSIONS
                    await self._projector.extend(group, at_once, self._pieces())
                attempt = 0
            except Exception as exc:
                conflicts = conflicts + 1 if isinstance(exc, ProjectionConflict) else 0
                if not _passes(exc) and not 0 < conflicts < CONFLICTS_MAX:
                    _log.error(
                        "the projection has stopped", error=repr(exc), projected_lsn=self._projector.lsn
                    )
                    self.failure = exc
                    self._announce()
                    return
                if self._closing:
                    return
                pause = RETRY_S[min(attempt, len(RETRY_S) - 1)]
                attempt += 1
                _log.warning("the projection tries again", error=str(exc), retry_s=pause)
                await asyncio.sleep(pause)
                continue
            conflicts = 0
            self._announce()

    async def _gather(self) -> None:
        """Wait a little for more facts, unless there are many already, or somebody waits for these."""
        self._hurry.clear()
        if (
            self._closing
            or self._wanted_lsn > self._projector.handed
            or self._queued_facts >= PROMPT_FACTS
            or not self._queue
        ):
            return
        await _set_within(self._hurry, LINGER_S)
        if self._loop.time() - self._added < LINGER_S / 2:  # more keep coming
            await _set_within(self._hurry, LINGER_BUSY_S - LINGER_S)

    async def _keep_pace(self, legs: int) -> None:
        """Before a group of so many legs: wait if the last one is not long enough ago."""
        while (pause := self._next_start - self._loop.time()) > 0 and self._may_wait():
            self._wanted.clear()
            await _set_within(self._wanted, min(pause, BUSY_S))
        self._next_start = self._loop.time() + legs / PACED_LEGS_PER_S

    def _pieces(self) -> int:
        """In how many pieces to write the group that was just gathered; 0 = as fast as it goes."""
        commits, self._commits = self._commits, 0
        spread = self._may_wait()
        self._projector.hurry(not spread)
        return math.ceil(SPREAD * commits) if spread else 0

    def _may_wait(self) -> bool:
        wanted = self._closing or self._wanted_lsn > self._projector.handed
        return self._writers_are_busy() and not wanted and self.lag_legs < self._unhurried_legs

    def _writers_are_busy(self) -> bool:
        return self._loop.time() - self._added < BUSY_S

    async def _next_group(self) -> list[Record]:
        start = self._projector.handed + 1
        while self._queue and self._queue[0].lsn < start:
            self._queued_facts -= _facts(self._queue.popleft())
        if not self._queue or self._queue[0].lsn > start:
            return await self._projector.read_back(start, GROUP_LEGS_MAX)
        group: list[Record] = []
        legs = 0
        while self._queue and (not group or legs + len(self._queue[0].legs) <= GROUP_LEGS_MAX):
            record = self._queue.popleft()
            self._queued_facts -= _facts(record)
            legs += len(record.legs)
            group.append(record)
        return group

    def _announce(self) -> None:
        while self._behind and self._behind[0][0] <= self._projector.lsn:
            self.lag_legs -= self._behind.popleft()[1]
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _facts(record: Record) -> int:
    return len(record.legs) + len(record.accounts) + len(record.events)


def _passes(error: Exception) -> bool:
    """Whether trying again may help."""
    if isinstance(error, QueryFailed):
        return isinstance(error, ConnectionLost) or error.sqlstate.startswith(_PASSING)
    return isinstance(error, DatabaseUnreachable)
