"""Delivers to one endpoint: at least once, in order for each account and Move, in bounded memory.

The log is the outbox. A courier reads it from the endpoint's cursor, through its filter, and sends what is
there. What was not taken is written down by its position, with everything that waits behind it; then the
cursor moves on, and the other accounts with it. Once in a while, in one transaction, the cursor is moved to
where everything before was taken or written down. So after a crash some events are sent again, under the same
`webhook-id`, and none is left out.

A receiver that takes nothing at all is left alone more and more: one attempt at a time, after a pause that
doubles. Nothing is read meanwhile beyond what is held.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec
import structlog

from actors.runtime import Engine
from gateway.events.filters import EventFilter, wanted_by
from gateway.events.positions import Cursor, Position, cursor_of, cursor_text
from gateway.events.reader import Batch, EventLookup, EventReader
from gateway.webhooks.metrics import WebhookMetrics
from gateway.webhooks.queue import NEVER, DeliveryQueue, Item
from gateway.webhooks.sending import GONE, Outcome, Sender
from gateway.webhooks.settings import NANOSECONDS, WebhookSettings
from gateway.webhooks.signatures import signed
from gateway.wire import encode
from persistence.account_names import AccountNames
from persistence.webhooks import Attempt, KeptEvent, Place, Progress, Steps, StoredWebhook

FILTER_NAMES: Final = {name: f"filter.{name}" for name in EventFilter.__struct_fields__}
PAGE_EVENTS: Final = 1_000
NOTES_MAX: Final = 1_000
"""Attempts that are kept in memory until they are written down."""
LEAVE_S: Final = 0.5
"""How long the attempts that are on their way may take to end when the courier does."""

_logger = structlog.get_logger("tessera.gateway")


class Courier:
    """Delivers to one endpoint, as it was when the courier was made. One task runs it; `stop` ends it."""

    def __init__(
        self,
        engine: Engine,
        names: AccountNames,
        webhook: StoredWebhook,
        progress: Progress,
        settings: WebhookSettings,
        metrics: WebhookMetrics,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._engine = engine
        self._names = names
        self._webhook = webhook
        self._progress = progress
        self._settings = settings
        self._metrics = metrics
        self._wall_ns = wall_ns
        self._lookup = EventLookup(engine, names)
        self._stopping = asyncio.Event()
        self._queue = DeliveryQueue()
        self._beyond: dict[Place, KeptEvent] = {}  # written down already, and not met again yet
        self._sending: dict[asyncio.Task[Outcome], Item] = {}
        self._reading: asyncio.Task[Batch] | None = None
        self._reader: EventReader
        self._sender: Sender
        self._streak = 0  # attempts in a row that failed
        self._failing = webhook.failing
        self._quiet_until = 0  # the receiver is left alone until then
        self._gone = ""  # why the endpoint is to be disabled
        # What has become of events since it was last written down.
        self._keep: dict[Place, KeptEvent] = {}
        self._forget: set[Place] = set()
        self._notes: list[Attempt] = []
        self._attempt_seq = 0
        self._written = (webhook.cursor, webhook.failing)
        self._written_at = 0

    @property
    def waiting(self) -> int:
        """Events that were read and are not finished."""
        return self._queue.count

    @property
    def is_failing(self) -> bool:
        """Whether the receiver has taken nothing for a while."""
        return self._streak >= self._settings.failing_after

    def stop(self) -> None:
        """Let `run` end soon."""
        self._stopping.set()

    async def run(self) -> None:
        """Deliver until told to stop, or the endpoint is gone. Raises ShardStopped, PersistenceError."""
        webhook, settings = self._webhook, self._settings
        given = msgspec.json.decode(webhook.filter, type=EventFilter)
        wanted = await wanted_by(self._engine, given, FILTER_NAMES)
        cursor = cursor_of(webhook.cursor, self._engine.log_ends(), "cursor")
        await self._load(cursor)
        async with AsyncExitStack() as open:
            self._sender = await open.enter_async_context(
                Sender(
                    connections=settings.connections, timeout_s=settings.timeout_s, private=settings.private
                )
            )
            self._reader = open.enter_context(EventReader(self._engine, self._names, wanted, cursor))
            stopping = asyncio.create_task(self._stopping.wait(), name="webhook-stopping")
            open.callback(stopping.cancel)
            try:
                while not self._stopping.is_set() and not self._gone:
                    await self._step(stopping)
            finally:
                await self._leave()
        await self._write()
        if self._gone:
            await self._progress.disable(webhook.id, self._gone)
            _logger.warning("a webhook is disabled", webhook=str(webhook.id), reason=self._gone)

    async def _load(self, cursor: Cursor) -> None:
        """Take up what was not taken before. What is beyond the cursor will be met again, in its order."""
        id = self._webhook.id
        after: Place | None = None
        while page := await self._progress.events(id, after, PAGE_EVENTS, dead=False):
            for event in page:
                if event.place > cursor[event.place[0]]:
                    self._beyond[event.place] = event
                else:
                    self._queue.add(_item(event))
            after = page[-1].place
        for position in cursor:
            after = position
            while page := await self._progress.events(id, after, PAGE_EVENTS, dead=True):
                self._beyond |= {one.place: one for one in page if one.place[0] == position.shard}
                after = page[-1].place
                if after[0] != position.shard:
                    break
        self._attempt_seq = await self._progress.newest_attempt(id)

    async def _step(self, stopping: asyncio.Task[Any]) -> None:
        """Begin what can be begun, wait for something to happen, and take note of it."""
        self._begin_attempts()
        if self._reading is None and self._has_room():
            self._reading = asyncio.create_task(self._reader.next(), name="webhook-reading")
        waiting = {stopping, *self._sending}
        if self._reading is not None:
            waiting.add(self._reading)
        done, _ = await asyncio.wait(waiting, timeout=self._wait_s(), return_when=asyncio.FIRST_COMPLETED)
        for task in done & self._sending.keys():
            self._attempted(self._sending.pop(task), task.result())
        if self._reading in done:
            assert self._reading is not None
            batch, self._reading = self._reading.result(), None
            self._take_in(batch)
        if self._is_due_to_write():
            await self._write()

    async def _leave(self) -> None:
        """Take note of the attempts that end soon, and break off what else is on its way."""
        if self._sending:
            done, _ = await asyncio.wait(self._sending, timeout=LEAVE_S)
            for task in done:
                item = self._sending.pop(task)
                if not task.cancelled() and task.exception() is None:
                    self._attempted(item, task.result())
        tasks: list[asyncio.Task[Any]] = [*self._sending]
        if self._reading is not None:
            tasks.append(self._reading)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Reading

    def _has_room(self) -> bool:
        queue, settings = self._queue, self._settings
        return (
            queue.held_count < settings.held_max
            and queue.held_bytes < settings.held_bytes_max
            and queue.count < settings.unfinished_max
        )

    def _take_in(self, batch: Batch) -> None:
        for told in batch.events:
            if (known := self._beyond.pop(told.position, None)) is not None:
                if not known.dead:
                    self._queue.add(_item(known))
                continue
            item = Item(told.position, told.subjects, told.event.type, encode(told.event))
            if self._queue.add(item):
                self._keep[item.position] = KeptEvent(
                    place=item.position, type=item.type, subjects=item.subjects
                )

    # Sending

    @property
    def _most(self) -> int:
        """How many attempts there may be at a time."""
        return 1 if self.is_failing else self._settings.connections

    def _begin_attempts(self) -> None:
        now = self._wall_ns()
        while len(self._sending) < self._most and now >= self._quiet_until:
            item = self._queue.take(now)
            if item is None:
                return
            self._sending[asyncio.create_task(self._send(item), name="webhook-attempt")] = item

    async def _send(self, item: Item) -> Outcome:
        body = item.body
        if body is None:
            body = encode((await self._lookup.find(item.position)).event)
        webhook, position = self._webhook, item.position
        now = self._wall_ns()
        id = f"msg_{webhook.id.hex}_{position.shard}_{position.lsn}_{position.place}"
        headers = signed(id, now // NANOSECONDS, body, webhook.keys(now))
        return await self._sender.send(webhook.url, headers, body)

    def _attempted(self, item: Item, outcome: Outcome) -> None:
        now = self._wall_ns()
        self._note(item, outcome, now)
        self._metrics.attempted(taken=outcome.taken)
        if outcome.taken:
            self._streak, self._failing = 0, None
            self._finish(item)
            return
        self._streak += 1
        self._failing = self._failing or now
        self._quiet_until = now + self._settings.probe_pause_ns(self._streak, outcome.wait_s)
        if outcome.status == GONE:
            self._gone = f"it answered {GONE}: gone"
        elif self.is_failing and now - self._failing > self._settings.disabled_after_s * NANOSECONDS:
            self._gone = f"it took nothing for {(now - self._failing) // NANOSECONDS} s: {outcome.error}"
        if item.attempts + 1 >= self._settings.attempts_max:
            item.attempts += 1
            self._finish(item)
            self._keep_failed(item, outcome, now, dead=True)
            self._metrics.gave_up()
            return
        due = now + self._settings.pause_ns(item.attempts + 1, outcome.wait_s)
        for other in self._queue.fail(item, due):
            self._keep[other.position] = KeptEvent(
                place=other.position, type=other.type, subjects=other.subjects
            )
        self._keep_failed(item, outcome, now)

    def _finish(self, item: Item) -> None:
        if item.parked:
            self._keep.pop(item.position, None)
            self._forget.add(item.position)
        self._queue.finish(item)

    def _keep_failed(self, item: Item, outcome: Outcome, now: int, *, dead: bool = False) -> None:
        self._forget.discard(item.position)
        self._keep[item.position] = KeptEvent(
            place=item.position,
            type=item.type,
            subjects=item.subjects,
            due=item.due,
            failed=now,
            attempts=item.attempts,
            status=outcome.status,
            dead=dead,
            error=outcome.error,
        )

    def _note(self, item: Item, outcome: Outcome, now: int) -> None:
        self._attempt_seq += 1
        self._notes.append(
            Attempt(
                seq=self._attempt_seq,
                time=now,
                place=item.position,
                type=item.type,
                attempt=item.attempts + 1,
                status=outcome.status,
                error=outcome.error,
                took_us=outcome.took_us,
            )
        )

    # Writing it down

    def _is_due_to_write(self) -> bool:
        if len(self._notes) >= NOTES_MAX or len(self._keep) + len(self._forget) >= NOTES_MAX:
            return True
        late = self._wall_ns() >= self._written_at + self._settings.write_s * NANOSECONDS
        return late and self._has_news()

    def _has_news(self) -> bool:
        return bool(self._notes or self._keep or self._forget) or self._written != (
            self._position(),
            self._failing,
        )

    def _position(self) -> str:
        return cursor_text(self._queue.behind(self._reader.cursor))

    async def _write(self) -> None:
        """Raises WebhookGone, LeaseLost, and other kinds of PersistenceError; then nothing is written."""
        if self._has_news():
            cursor = self._position()
            await self._progress.write(
                self._webhook.id,
                Steps(cursor, self._failing, [*self._keep.values()], [*self._forget], self._notes),
            )
            self._keep, self._forget, self._notes = {}, set(), []
            self._written = (cursor, self._failing)
        self._written_at = self._wall_ns()

    def _wait_s(self) -> float | None:
        """How long to wait for something to happen, None without end."""
        now = self._wall_ns()
        moments = []
        due = self._queue.next_due()
        if due != NEVER and len(self._sending) < self._most:
            moments.append(max(due, self._quiet_until))
        if self._has_news():
            moments.append(self._written_at + int(self._settings.write_s * NANOSECONDS))
        return max(0, min(moments) - now) / NANOSECONDS if moments else None


def _item(event: KeptEvent) -> Item:
    item = Item(Position(*event.place), event.subjects, event.type)
    item.attempts, item.due = event.attempts, event.due
    return item
