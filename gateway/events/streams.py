"""Streams of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    id: 0.42.1
    data: {"id": "0.42.1", "type": "leg.posted", …}

    : still here
    id: 0.43.0

Every event is one JSON object. The second block has no data, so it is no event: it is sent when there was
nothing to tell for a while, and moves the position from which a client resumes. `id` is how far every shard
has been read; with one shard it is the id of the event.

A stream never holds more than one batch. When its client does not take that within a while the connection is
cut, without waiting for what is still in its buffers; the client may come again and resume.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.types import Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge

from actors.errors import Overloaded, ShardStopped
from actors.runtime import Engine
from gateway.events.filters import Wanted
from gateway.events.positions import Cursor, cursor_text
from gateway.events.reader import Batch, EventReader
from gateway.wire import encode
from persistence.account_names import AccountNames
from persistence.errors import PersistenceError

MEDIA_TYPE: Final = "text/event-stream"
CUT: Final = "tessera.cut"
"""Under this name `scope["extensions"]` has a function that ends the connection at once."""
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy that collects answers would keep events back
)

_logger = structlog.get_logger("tessera.gateway")


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How streams behave."""

    heartbeat_s: float = 15.0  # the longest silence
    stall_s: float = 30.0  # a client that takes nothing for so long is cut off
    retry_ms: int = 1000  # how long clients are told to wait before they come again
    streams_max: int = 1000


class EventStreams:
    """All streams of a gateway, and what they share. Close it before the engine."""

    def __init__(self, engine: Engine, registry: CollectorRegistry, settings: StreamSettings) -> None:
        self.engine = engine
        self.settings = settings
        self.names = AccountNames(engine.database)
        self.closing = asyncio.Event()
        self.count = 0
        self._open = Gauge("tessera_event_streams", "Streams of events that are open.", registry=registry)
        self._sent = Counter("tessera_events_sent", "Events sent to streams.", registry=registry)
        self._ended = Counter(
            "tessera_event_streams_ended",
            "Streams of events that ended, by why.",
            ["reason"],
            registry=registry,
        )

    def stream(self, wanted: Wanted, cursor: Cursor) -> "EventStream":
        """A response that streams what is wanted after `cursor`. Raises Overloaded if there are too many."""
        if self.closing.is_set():
            raise Overloaded("the gateway is about to end", 1)
        if self.count >= self.settings.streams_max:
            raise Overloaded(f"there are {self.count} streams of events already", 5)
        return EventStream(self, self.reader(wanted, cursor))

    def reader(self, wanted: Wanted, cursor: Cursor) -> EventReader:
        """A reader of what is wanted after `cursor`."""
        return EventReader(self.engine, self.names, wanted, cursor)

    async def close(self) -> None:
        """End all streams."""
        self.closing.set()
        await self.names.close()

    def began(self) -> None:
        """A stream is open."""
        self.count += 1
        self._open.set(self.count)

    def sent(self, events: int) -> None:
        """Events were sent."""
        self._sent.inc(events)

    def ended(self, reason: str) -> None:
        """A stream is over."""
        self.count -= 1
        self._open.set(self.count)
        self._ended.labels(reason).inc()


class Stalled(Exception):  # noqa: N818  # says what happened
    """The client does not take what it is sent."""


class EventStream(Response[Any]):
    """The response."""

    def __init__(self, streams: EventStreams, reader: EventReader) -> None:
        super().__init__(None, media_type=MEDIA_TYPE)
        self._streams = streams
        self._reader = reader

    def to_asgi_response(self, request: Request[Any, Any, Any], **_: Any) -> Any:  # type: ignore[override]  # it is written by hand
        """The stream as an ASGI application."""
        del request
        return self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = self._streams
        gone = asyncio.create_task(_gone(receive), name="event-stream-client")
        closing = asyncio.create_task(streams.closing.wait(), name="event-stream-closing")
        streams.began()
        reason = "failed"
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            with self._reader:
                reason = await self._stream(send, {gone, closing})
            if reason != "client":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except Stalled:
            reason = "stalled"
            cut: Any = scope["extensions"][CUT]  # type: ignore[index]  # our protocol put it there
            cut["now"]()
            await gone
        except ShardStopped:
            reason = "engine"
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except PersistenceError as exc:
            reason = "database"
            _logger.warning("a stream of events ends", error=str(exc))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            closing.cancel()
            streams.ended(reason)

    async def _stream(self, send: Send, ends: set[asyncio.Task[Any]]) -> str:
        """Send events until one of `ends` is done; returns whose end it is."""
        settings = self._streams.settings
        await self._send(send, b"retry: %d\nid: %s\n\n" % (settings.retry_ms, self._position()))
        said = self._reader.cursor
        reading: asyncio.Task[Batch] | None = None
        try:
            while True:
                reading = reading or asyncio.create_task(self._reader.next(), name="event-stream")
                done, _ = await asyncio.wait(
                    {reading, *ends}, timeout=settings.heartbeat_s, return_when=asyncio.FIRST_COMPLETED
                )
                if ended := ends & done:
                    return "client" if ended.pop().get_name() == "event-stream-client" else "gateway"
                if reading in done:
                    batch, reading = reading.result(), None
                    if batch.events:
                        await self._send(send, b"".join(_blocks(batch, said)))
                        self._streams.sent(len(batch.events))
                        said = batch.cursor
                else:
                    await self._send(send, b": still here\nid: %s\n\n" % self._position())
                    said = self._reader.cursor
        finally:
            if reading is not None:
                reading.cancel()

    async def _send(self, send: Send, block: bytes) -> None:
        """Raises Stalled if the client has not taken what came before in time."""
        try:
            async with asyncio.timeout(self._streams.settings.stall_s):
                await send({"type": "http.response.body", "body": block, "more_body": True})
        except TimeoutError as exc:
            raise Stalled from exc

    def _position(self) -> bytes:
        return cursor_text(self._reader.cursor).encode()


def _blocks(batch: Batch, before: Cursor) -> Iterable[bytes]:
    """Events as they are sent; `before` is how far the log had been read."""
    for told in batch.events:
        shard = told.position.shard
        cursor = (*before[:shard], told.position, *before[shard + 1 :])
        yield b"id: %s\ndata: %s\n\n" % (cursor_text(cursor).encode(), encode(told.event))


async def _gone(receive: Receive) -> None:
    """Return when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
