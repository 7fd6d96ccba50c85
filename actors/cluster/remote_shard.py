"""A shard in another process: a door like the shard itself.

    send ─▶ parcel ─▶ frame ─▶ … ─▶ answer
              │ kept until answered
              └─▶ sent again, in order, when the connection was lost

What is left in one pass of the event loop goes out in one frame. When the shard dies, moves or is replaced,
the parcels that were not answered are sent again to the owner after it, with the same ids, so that each has
exactly one effect; callers see a pause. Only after `PATIENCE_S`, or when `SENDINGS_MAX` owners were lost with
it, are they told that there is no answer. What has no id (new guards) is never sent twice: its caller is told
that it may have happened.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog

from actors.cluster.client_connection import ClientConnection, connect
from actors.cluster.whereabouts import Whereabouts
from actors.cluster.wire import (
    ONCE,
    Arrived,
    AskHealth,
    Encoded,
    Question,
    Sendable,
    Verify,
    WaitDurable,
    WaitProjected,
    Welcome,
    encode_parcel,
)
from actors.committed_tail import CommittedTail
from actors.doors import Health
from actors.errors import ActorError, InvalidRequest, Overloaded, ShardStopped
from actors.log_follower import LogFollower
from actors.mailbox import RETRY_AFTER_S
from actors.messages import Fence, Message
from actors.settings import Settings
from persistence.cluster import Endpoint
from persistence.database import Database
from persistence.log_pages import LogPages
from persistence.recovery import Recovered
from persistence.verify import Report

PATIENCE_S: Final = 60.0
"""How long requests wait for a shard that can't be reached."""
SENDINGS_MAX: Final = 8
CONNECT_S: Final = 3.0
SILENCE_S: Final = 15.0
"""After so long without a sign of life a connection is given up."""
HEARTBEAT_S: Final = 1.0
PAUSE_MIN_S: Final = 0.005
PAUSE_MAX_S: Final = 0.25

_log = structlog.get_logger(__name__)


class _Parcel:
    """Messages that were left at one time."""

    def __init__(self, first: int, messages: Sequence[Sendable], encoded: Encoded, weight: int) -> None:
        loop = asyncio.get_running_loop()
        self.first = first
        self.encoded = encoded
        self.weight = weight
        self.futures = [loop.create_future() for _ in messages]
        self.open = len(messages)  # not answered yet
        self.once = any(type(message) in ONCE for message in messages)
        self.sendings = 0  # how many servers may have seen it


class RemoteCatalogue:
    """The Things that the shard has told of."""

    def __init__(self) -> None:
        self._things: list[RemoteThing] = []
        self._assets: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._things)

    def add(self, codes: Iterable[str]) -> None:
        """Take the next ones, in order of their asset numbers."""
        for code in codes:
            self._things.append(RemoteThing(code))
            self._assets[code] = len(self._things)

    def asset(self, code: str) -> int:
        """The asset number of a code, 0 if there is no such Thing."""
        return self._assets.get(code, 0)

    def thing(self, asset: int) -> "RemoteThing":
        """The Thing with that number. Raises IndexError."""
        if asset < 1:
            raise IndexError(asset)
        return self._things[asset - 1]


class RemoteThing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A Thing, as far as callers need it."""

    code: str


class RemoteTail(CommittedTail):
    """How far the shard's log goes. Records are not kept here: who follows reads them from the log."""

    def __init__(self, shard: "RemoteShard", lsn: int) -> None:
        super().__init__(shard.index, lsn)
        self._remote = shard
        self._asking: asyncio.Task[None] | None = None
        self._asked_by = 0  # followers

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Let the shard tell when there is more, for the length of the block."""
        self._asked_by += 1
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name=f"tail-{self._remote.index}")
        try:
            yield
        finally:
            self._asked_by -= 1
            if not self._asked_by:
                self._asking.cancel()
                self._asking = None

    def reach(self, lsn: int) -> None:
        """The log goes at least this far."""
        if lsn > self.lsn:
            self.lsn = lsn
            self._announce()

    async def _ask(self) -> None:
        while True:
            try:
                self.reach(await self._remote.ask(WaitDurable(self.lsn)))
            except ActorError as trouble:
                _log.warning("a log can't be followed now", shard=self._remote.index, error=str(trouble))
                await asyncio.sleep(HEARTBEAT_S)


class RemoteShard:
    """Shard `index` of a cluster, looked for from now on. Wait for `reached`, and `close` at the end."""

    def __init__(
        self, index: int, token: bytes, whereabouts: Whereabouts, settings: Settings, database: Database
    ) -> None:
        self.index = index
        self.token = token
        self.catalogue = RemoteCatalogue()
        self.recovered: Recovered
        self._settings = settings
        self._whereabouts = whereabouts
        self._connection: ClientConnection | None = None  # one that takes requests
        self._trouble = "it has not been found yet"  # why there is none
        self._lost_at = asyncio.get_running_loop().time()
        self._next_number = 1
        self._parcels: dict[int, _Parcel] = {}  # all that are not answered, by their first number, ascending
        self._owners: dict[int, _Parcel] = {}  # by the number of a message
        self._weight = 0  # of those parcels
        self._outbox: list[_Parcel] = []  # those that the present connection has not sent
        self._flushing = False  # whether `_flush` is on its way
        self._health: Health
        self._tail = RemoteTail(self, 0)
        self._pages = LogPages(database, index)
        self._reached = asyncio.Event()  # set by the first connection
        self._ended = asyncio.Event()
        self._jitter = random.Random()  # noqa: S311  # spreads retries only
        self._tasks = [
            asyncio.create_task(self._run(), name=f"remote-shard-{index}"),
            asyncio.create_task(self._watch_over(), name=f"remote-shard-{index}-heartbeat"),
        ]

    async def reached(self, limit_s: float) -> None:
        """Return once it has answered. Raises ShardStopped if it does not in time."""
        try:
            async with asyncio.timeout(limit_s):
                await self._reached.wait()
        except TimeoutError as exc:
            reason = f"it could not be reached in {limit_s:.0f} s: {self._trouble}"
            raise ShardStopped(self.index, reason) from exc

    # For callers

    def send(self, message: Message) -> asyncio.Future[Any]:
        """Leave a message; the future is its durable answer. Raises Overloaded or ShardStopped."""
        return self.send_all([message])[0]

    def send_all(self, messages: Sequence[Message]) -> list[asyncio.Future[Any]]:
        """Leave several messages, one after the other: all of them or, when they are refused, none."""
        return self._leave(messages, sum(message.weight for message in messages))

    async def catch_up(self) -> None:
        """Let the catalogue have every Thing that anybody was answered for before: the shard's owner tells of
        them before it gives any later answer."""
        await self.send(Fence())

    async def wait_projected(self, lsn: int | None) -> int:
        """Wait until SQL shows everything up to `lsn`, or everything answered so far; returns up to where."""
        position: int = await self.ask(WaitProjected(lsn))
        return position

    def follow(self, after: int) -> LogFollower:
        """Follow the committed log from a position on. Raises InvalidRequest for one that is not in it."""
        if not 0 <= after <= self._tail.lsn:
            raise InvalidRequest("lsn", f"{after} is not in the log", f"at most {self._tail.lsn}")
        return LogFollower(self.index, self._tail, self._pages, after)

    async def verify(self, progress: Callable[[int], None] | None = None) -> Report:
        """Let the shard replay its whole log and compare with its memory, projection and snapshots."""
        report: Report = await self.ask(Verify())
        if progress is not None:
            progress(report.lsn)
        return report

    def health(self) -> Health:
        """How it was when it was last heard of."""
        health = msgspec.structs.replace(self._health, lsn=max(self._tail.lsn, self._health.lsn))
        if self._connection is None:
            return msgspec.structs.replace(
                health, status="blocked", reason=f"shard {self.index} is not there now: {self._trouble}"
            )
        return health

    async def end(self) -> str:
        """Wait until this door is closed: the shard itself may come back at any time."""
        await self._ended.wait()
        return "it was closed"

    async def rest(self) -> None:
        """Nothing ends with this door: the shard goes on."""

    async def close(self) -> None:
        """Hang up. Who still waits is told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._fail_all("the connection was closed")
        self._tail.end("the connection was closed")
        await self._pages.close()
        self._ended.set()

    # For the connection

    @property
    def thing_count(self) -> int:
        """How much we have of the catalogue."""
        return len(self.catalogue)

    def welcomed(self, connection: ClientConnection, welcome: Welcome) -> None:
        """The connection takes requests: those that were not answered go first."""
        self.catalogue.add(welcome.things)
        self.recovered = welcome.recovered
        self._health = welcome.health
        self._tail.reach(welcome.health.lsn)
        self._connection = connection
        self._outbox = list(self._parcels.values())
        self._whereabouts.found(self.index)
        self._reached.set()
        self._flush()

    def answered(self, connection: ClientConnection, arrived: Arrived) -> None:
        """Answers are there."""
        self.catalogue.add(arrived.things)
        self._tail.reach(arrived.lsn)
        for number, answer in arrived.answers:
            if isinstance(answer, ShardStopped):
                connection.drop(str(answer))
                return
            self._settle(number, answer)

    def has_room(self) -> None:
        """Requests may be sent again."""
        self._flush()

    # Parcels

    def _leave(self, messages: Sequence[Sendable], weight: int) -> list[asyncio.Future[Any]]:
        if self._ended.is_set():
            raise ShardStopped(self.index, "the connection was closed")
        self._check_bounds(len(messages), weight)
        parcel = _Parcel(self._next_number, messages, encode_parcel(self._next_number, messages), weight)
        self._next_number += len(messages)
        self._parcels[parcel.first] = parcel
        for number in range(parcel.first, self._next_number):
            self._owners[number] = parcel
        self._weight += weight
        self._outbox.append(parcel)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        return parcel.futures

    def _check_bounds(self, count: int, weight: int) -> None:
        settings = self._settings
        if self._connection is None and self._lost_for_s() > PATIENCE_S:
            raise Overloaded(f"shard {self.index} can't be reached: {self._trouble}", RETRY_AFTER_S)
        if len(self._owners) + count > settings.mailbox_messages_max or (
            self._owners and self._weight + weight > settings.mailbox_weight_max
        ):
            raise Overloaded(f"too much waits for shard {self.index}", RETRY_AFTER_S)

    async def ask(self, question: Question) -> Any:
        """The answer to a question that does not go through the shard's mailbox."""
        (answer,) = self._leave([question], 1)
        return await answer

    def _flush(self) -> None:
        self._flushing = False
        connection = self._connection
        if connection is None or not connection.room or not self._outbox:
            return
        parcels, self._outbox = self._outbox, []
        for parcel in parcels:
            parcel.sendings += 1
        connection.send_parcels([parcel.encoded for parcel in parcels])

    def _settle(self, number: int, answer: Any) -> None:
        parcel = self._owners.pop(number, None)
        if parcel is None:
            return  # it was sent twice, and is answered twice
        parcel.open -= 1
        if not parcel.open:
            del self._parcels[parcel.first]
            self._weight -= parcel.weight
        future = parcel.futures[number - parcel.first]
        if future.done():
            return
        if isinstance(answer, ActorError):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _fail(self, parcel: _Parcel, error: ActorError) -> None:
        for number in range(parcel.first, parcel.first + len(parcel.futures)):
            self._settle(number, error)

    def _fail_all(self, reason: str) -> None:
        for parcel in list(self._parcels.values()):
            self._fail(parcel, ShardStopped(self.index, reason))
        self._outbox.clear()

    # Connections

    async def _run(self) -> None:
        pause_s = PAUSE_MIN_S
        try:
            while True:
                self._whereabouts.search(self.index)
                try:
                    await self._hold_connection()
                    pause_s = PAUSE_MIN_S
                except (OSError, TimeoutError) as exc:
                    self._trouble = str(exc) or "it does not answer"
                if self._lost_for_s() > PATIENCE_S:
                    self._fail_all(f"it has not been reached for {PATIENCE_S:.0f} s: {self._trouble}")
                await asyncio.sleep(pause_s * self._jitter.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
        finally:
            self._hang_up()

    async def _hold_connection(self) -> None:
        """Connect, and return when the connection is lost. Raises OSError or TimeoutError."""
        endpoint = self._whereabouts.of(self.index)
        if endpoint is None:
            raise ConnectionError("PostgreSQL does not say where it is: has it been started?")
        connection = await connect(endpoint, self, CONNECT_S)
        self._whereabouts.listen(self.index, self._moved)
        try:
            self._trouble = await connection.lost
        finally:
            self._connection = None
            self._lost_at = asyncio.get_running_loop().time()
            connection.transport.abort()
        _log.info("a shard was lost", shard=self.index, reason=self._trouble)
        for parcel in list(self._parcels.values()):
            if parcel.sendings >= (1 if parcel.once else SENDINGS_MAX):
                self._fail(parcel, ShardStopped(self.index, f"it may have happened or not: {self._trouble}"))

    def _moved(self, endpoint: Endpoint) -> None:
        """The shard has a new owner."""
        connection = self._connection
        if connection is not None and connection.endpoint.epoch < endpoint.epoch:
            connection.drop(f"it has a new owner, with epoch {endpoint.epoch}")

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.drop("the connection was closed")
            self._connection = None

    def _lost_for_s(self) -> float:
        return asyncio.get_running_loop().time() - self._lost_at

    async def _watch_over(self) -> None:
        """Ask for signs of life."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if (connection := self._connection) is None:
                continue
            try:
                async with asyncio.timeout(SILENCE_S):
                    self._health = await self.ask(AskHealth())
            except TimeoutError:
                if connection is self._connection and loop.time() - connection.heard_at > SILENCE_S:
                    connection.drop(f"it was silent for {SILENCE_S:.0f} s")
            except ActorError:
                continue  # too much waits, or nobody answers: health() says so
