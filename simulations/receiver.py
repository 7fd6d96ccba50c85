"""A receiver of webhooks for tests and benchmarks: it takes, refuses, hangs or is late, as told."""

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple, Self, cast

import httptools
import uvloop

START_S: Final = 30


class Message(NamedTuple):
    """A request as it came in; names of headers are lower case."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Which event of which endpoint it is."""
        return self.headers["webhook-id"]


class Reply(NamedTuple):
    """What is answered, and after how long. Status 0 is no answer: the connection is cut."""

    status: int = 204
    after_s: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


HANG: Final = Reply(after_s=3_600.0)
CUT: Final = Reply(status=0)


class Receiver:
    """A server on loopback, in a thread of its own; `decide` is called there for every message."""

    def __init__(self, decide: Callable[[Message], Reply]) -> None:
        self.decide = decide
        self.url = ""
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="receiver")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_S), "the receiver did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        open: set[_Connection] = set()
        server = await self._loop.create_server(lambda: _Connection(self, open), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        self._started.set()
        await self._stop.wait()
        server.close()
        for connection in list(open):
            connection.transport.abort()
        while open:  # noqa: ASYNC110  # each is told on the next turn of the loop
            await asyncio.sleep(0)
        await server.wait_closed()


class _Connection(asyncio.Protocol):
    """One connection; its requests come one after the other."""

    transport: asyncio.Transport

    def __init__(self, receiver: Receiver, open: set["_Connection"]) -> None:
        self._receiver = receiver
        self._open = open
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[str, str] = {}
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._headers, self._body = {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body += body

    def on_message_complete(self) -> None:
        """Called by the parser."""
        reply = self._receiver.decide(Message(self._headers, self._body))
        if reply.after_s:
            asyncio.get_running_loop().call_later(reply.after_s, self._answer, reply)
        else:
            self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        if self.transport.is_closing():
            return
        if not reply.status:
            self.transport.abort()
            return
        lines = [f"HTTP/1.1 {reply.status} Done", *(f"{name}: {value}" for name, value in reply.headers)]
        if reply.status != 204:  # 204 has no length
            lines.append(f"Content-Length: {len(reply.body)}")
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + reply.body)
