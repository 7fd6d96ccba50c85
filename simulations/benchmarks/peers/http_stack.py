"""The least that can stand between HTTP and PostgreSQL in Python: uvloop, httptools, libpq, and nothing else.

    POST, a small JSON object  →  one call of a function in PostgreSQL  →  201 and what it returned

A peer that lives in a database gets this gateway, so that what is compared is what stands behind it. A
request takes a session of the pool for as long as its transaction lasts; others wait in order of arrival.

    python -m simulations.benchmarks.peers.http_stack '{"dsn": …, "statement": …, …}'

prints its port, and serves until its stdin is closed.
"""

import asyncio
import gc
import sys
from collections import deque
from collections.abc import Sequence
from typing import Final, cast

import httptools
import msgspec
import uvloop
from psycopg.pq import ExecStatus, PGconn
from psycopg.pq.abc import PGresult

HOST: Final = "127.0.0.1"
BACKLOG: Final = 1_024
STATEMENT: Final = b"call"
STATUS_LINES: Final = {201: b"201 Created", 409: b"409 Conflict", 500: b"500 Internal Server Error"}


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """What the server does: runs `statement`, with these fields of a request as its parameters, on so many
    sessions. It is answered 201 if that returns `created`, or whatever it returns if that is empty."""

    dsn: str
    statement: str
    fields: list[str]
    sessions: int
    created: str = ""


class RefusedByPostgres(Exception):  # noqa: N818  # told to the client
    """PostgreSQL answered a call with an error; its message."""


class Session:
    """A session of PostgreSQL that runs the prepared call, one at a time. Each is a transaction, and durable
    when it has been answered."""

    def __init__(self, calls: Calls) -> None:
        self._pgconn = PGconn.connect(calls.dsn.encode())
        _check(self._pgconn.prepare(STATEMENT, calls.statement.encode()), ExecStatus.COMMAND_OK)
        self._pgconn.nonblocking = 1
        self._loop = asyncio.get_running_loop()
        self._result: PGresult | None = None
        self._done: asyncio.Future[None]
        self._loop.add_reader(self._pgconn.socket, self._read)

    async def call(self, values: Sequence[bytes]) -> bytes:
        """Run the call, which returns one text. Raises RefusedByPostgres."""
        self._done = self._loop.create_future()
        self._pgconn.send_query_prepared(STATEMENT, values)
        if self._pgconn.flush():
            raise AssertionError("a small statement did not fit into the socket's buffer")
        await self._done
        assert self._result is not None
        _check(self._result, ExecStatus.TUPLES_OK)
        return self._result.get_value(0, 0) or b""

    def _read(self) -> None:
        self._pgconn.consume_input()
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                self._done.set_result(None)
                return
            self._result = result


def _check(result: PGresult, wanted: ExecStatus) -> None:
    if result.status != wanted:
        raise RefusedByPostgres(result.error_message.decode().strip())


class Gateway:
    """Requests of all connections, and the sessions that serve them."""

    def __init__(self, calls: Calls) -> None:
        self._fields = calls.fields
        self._created = calls.created.encode()
        self._idle = [Session(calls) for _ in range(calls.sessions)]
        self._waiting: deque[tuple[list[bytes], Connection]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, body: bytes, connection: "Connection") -> None:
        """Answer a request as soon as there is a session for it."""
        content = msgspec.json.decode(body)
        values = [str(content[name]).encode() for name in self._fields]
        if not self._idle:
            self._waiting.append((values, connection))
            return
        task = asyncio.get_running_loop().create_task(self._serve(self._idle.pop(), values, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, session: Session, values: list[bytes], connection: "Connection") -> None:
        while True:
            try:
                returned = await session.call(values)
                connection.answer(201 if self._created in {b"", returned} else 409, returned)
            except RefusedByPostgres as refusal:
                connection.answer(500, str(refusal).encode())
            if not self._waiting:
                self._idle.append(session)
                return
            values, connection = self._waiting.popleft()


class Connection(asyncio.Protocol):
    """A client's connection, with one request on its way at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes are there."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """A part of a body is there."""
        self._body += body

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        body, self._body = self._body, b""
        self._gateway.take(body, self)

    def answer(self, status: int, returned: bytes) -> None:
        """Answer it."""
        content = msgspec.json.encode({"returned": returned.decode()})
        self._transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (STATUS_LINES[status], len(content), content)
        )


async def _serve(calls: Calls) -> None:
    gateway = Gateway(calls)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(gateway), HOST, 0, backlog=BACKLOG
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(msgspec.json.decode(sys.argv[1], type=Calls)))
