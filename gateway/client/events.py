"""Events as they are committed, for as long as somebody takes them.

A stream that breaks is opened again where it was: after the last event that arrived as a whole. So each event
is given once, in order, whoever was restarted meanwhile. The server says something at least every 15 seconds;
a connection that is silent for longer than the client's timeout is given up and opened again.
"""

import asyncio
import http.client
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlencode

import msgspec

from gateway.client.errors import ClientError, Unavailable
from gateway.client.transport import Stream, Transport

PATH: Final = "/v1/events"
BLOCK_BYTES: Final = 1 << 16
EVENT_BYTES_MAX: Final = 64 << 20
"""What is longer is no event."""
_END: Final = b"\n\n"

Event = dict[str, Any]


class Arrived(NamedTuple):
    """An event, and where to go on after it."""

    position: str
    event: Event


class Events(Iterator[Event]):
    """Events without end, each once, in order. Close it, or use it as a context manager.

    `position` is where to go on after the event that was given last: pass it as `after` to another one.
    """

    def __init__(self, transport: Transport, query: Mapping[str, Any], after: str) -> None:
        self.position = after
        self._transport = transport
        self._query = {name: value for name, value in query.items() if value is not None}
        self._read_to = after  # after the last event that has arrived
        self._arrived: deque[Arrived] = deque()
        self._rest = bytearray()  # the beginning of a block
        self._stream: Stream | None = None
        self._openings = 0  # since something arrived
        self._closed = False
        self._reading = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> Event:
        """The next event; waits for it. Raises RequestRefused, Unavailable, or StopIteration once it is
        closed."""
        while not self._arrived:
            if self._closed:
                raise StopIteration
            self._read()
        self.position, event = self._arrived.popleft()
        return event

    def some(self) -> list[Arrived]:
        """As many of the next events as have arrived; waits for the first. Nothing once it is closed."""
        while not self._arrived and not self._closed:
            self._read()
        some = list(self._arrived)
        self._arrived.clear()
        return some

    def close(self) -> None:
        """End the stream, from any thread. Who waits for the next event gets StopIteration."""
        self._closed = True
        if (stream := self._stream) is not None:
            stream.cut()
        if self._reading.acquire(blocking=False):  # else who reads lets go of it
            try:
                self._let_go()
            finally:
                self._reading.release()

    def _read(self) -> None:
        """Take in what comes next, or open the stream, again if it broke."""
        with self._reading:
            try:
                stream = self._stream or self._open()
            except Unavailable:
                if self._closed:
                    return
                raise
            try:
                block = stream.read(BLOCK_BYTES)
            except (OSError, http.client.HTTPException):
                block = b""
            if block:
                self._take_in(block)
            if not block or self._closed:
                self._let_go()

    def _let_go(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        self._rest.clear()

    def _open(self) -> Stream:
        if self._openings > 1:  # it was opened again, and said nothing again
            self._transport.pause(self._openings - 1)
        self._openings += 1
        query = urlencode({**self._query, "after": self._read_to}, doseq=True)
        accept = {"Accept": "text/event-stream"}
        self._stream = self._transport.stream(f"{PATH}?{query}", accept, lambda: not self._closed)
        if self._closed:
            self._stream.cut()
        return self._stream

    def _take_in(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > EVENT_BYTES_MAX and _END not in self._rest:
            raise ClientError(f"an event of more than {EVENT_BYTES_MAX} bytes")
        *blocks, rest = self._rest.split(_END)
        self._rest = rest
        for block in blocks:
            fields = dict(line.partition(b": ")[::2] for line in bytes(block).split(b"\n"))
            self._read_to = fields.get(b"id", b"").decode() or self._read_to
            if b"data" in fields:
                self._openings = 0
                self._arrived.append(Arrived(self._read_to, msgspec.json.decode(fields[b"data"])))
        if not self._arrived:
            self.position = self._read_to


class AsyncEvents(AsyncIterator[Event]):
    """The same for the tasks of an event loop. The stream is read in a thread of its own."""

    def __init__(self, events: Events) -> None:
        self.position = events.position
        self._events = events
        self._arrived: deque[Arrived] = deque()
        self._thread = ThreadPoolExecutor(1, "tessera-events")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def __anext__(self) -> Event:
        """As `Events.__next__`; StopAsyncIteration once it is closed. If it is cancelled nothing is lost."""
        if not self._arrived:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._wait)
            if not self._arrived:
                raise StopAsyncIteration
        self.position, event = self._arrived.popleft()
        return event

    async def aclose(self) -> None:
        """End the stream."""
        self._events.close()
        await asyncio.to_thread(self._thread.shutdown)

    def _wait(self) -> None:
        """Let something arrive, unless it has since this was asked for."""
        if not self._arrived:
            self._arrived += self._events.some()
