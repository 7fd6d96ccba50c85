"""Connections whose clients send too much, too slowly, or read nothing: they end, and others don't."""

import time
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.metrics import HttpMetrics
from gateway.protocol import protocol_for
from gateway.security.gate import Gate
from gateway.security.patience import ARRIVAL_S, HEAD_BYTES_MAX, UNREAD_S, patient
from tests.unit.test_protocol import Accepting, Wire, turns


class Transport(Wire):
    """A transport that may be broken off."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        """Nothing more comes while a test looks at what came."""

    def resume_reading(self) -> None:
        """It may."""


class Connection:
    """A protocol with an application that reads whole requests and answers with their length."""

    def __init__(self) -> None:
        self.engine = Accepting()
        engine: Any = self.engine
        kind = patient(protocol_for(engine, HttpMetrics(), Gate("default")))
        config = uvicorn.Config(
            self._application, loop="none", http=kind, ws="none", lifespan="off", log_config=None,
            interface="asgi3", access_log=False,
        )  # fmt: skip
        config.load()
        self.calls = 0
        self.wire = Transport()
        self.protocol: Any = kind(config, ServerState(), {})
        self.protocol.connection_made(self.wire)

    async def _application(self, _scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        content = str(size).encode()
        headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def give(self, *pieces: bytes) -> bytes:
        """Send pieces; what was answered."""
        for piece in pieces:
            if not self.wire.closed:
                self.protocol.data_received(piece)
                await turns()
        answered = b"".join(self.wire.written)
        self.wire.written.clear()
        return answered

    def later(self, seconds: float) -> None:
        """Let somebody look at the clock, after so much time."""
        self.protocol.check_patience(time.perf_counter() + seconds)


@pytest.fixture
async def connection() -> Connection:
    return Connection()


def status(answer: bytes) -> int:
    return int(answer.split()[1])


async def test_usual_requests_are_left_alone(connection: Connection) -> None:
    long = b"x" * (3 * HEAD_BYTES_MAX)
    for body in (b"", b"x", long):
        head = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        pieces = [(head + body)[at : at + 10_000] for at in range(0, len(head + body), 10_000)]
        assert (await connection.give(*pieces)).endswith(b"\r\n\r\n%d" % len(body))
        connection.later(ARRIVAL_S + 1)
        assert not connection.wire.closed
    assert connection.calls == 3


async def test_a_body_may_come_in_many_chunks(connection: Connection) -> None:
    head = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [b"1\r\nx\r\n"] * HEAD_BYTES_MAX
    assert (await connection.give(head, b"".join(chunks), b"0\r\n\r\n")).endswith(b"%d" % HEAD_BYTES_MAX)


async def test_many_headers_end_the_connection(connection: Connection) -> None:
    head = b"GET /v1/x HTTP/1.1\r\n" + b"X-Name: value\r\n" * HEAD_BYTES_MAX + b"\r\n"
    pieces = [head[at : at + 1_000] for at in range(0, len(head), 1_000)]
    answer = await connection.give(*pieces)
    assert (status(answer), connection.wire.closed, connection.calls) == (431, True, 0)
    assert b"head_too_large" in answer


async def test_many_headers_at_once_do_so_too(connection: Connection) -> None:
    head = b"GET /v1/x HTTP/1.1\r\n" + b"X-Name: value\r\n" * HEAD_BYTES_MAX + b"\r\n"
    assert status(await connection.give(head)) == 431
    assert (connection.wire.closed, connection.calls) == (True, 0)


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: "])
async def test_a_header_without_end(connection: Connection, start: bytes) -> None:
    pieces = [start] + [b"x" * 1_000] * (HEAD_BYTES_MAX // 1_000 + 10)
    assert status(await connection.give(*pieces)) == 431
    assert (connection.wire.closed, connection.calls) == (True, 0)


async def test_trailers_without_end(connection: Connection) -> None:
    head = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    await connection.give(head, *[b"X-Name: value\r\n" * 100] * HEAD_BYTES_MAX)
    assert connection.wire.closed


async def test_a_request_that_does_not_arrive(connection: Connection) -> None:
    for started in (b"GET /v1/x HT", b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123"):
        slow = Connection()
        await slow.give(started)
        slow.later(ARRIVAL_S - 1)
        assert not slow.wire.closed
        slow.later(ARRIVAL_S + 1)
        assert status(await slow.give()) == 408
        assert slow.wire.closed
    connection.later(ARRIVAL_S + 1)
    assert connection.wire.closed, "it never sent anything"


async def test_a_request_after_another_that_does_not_arrive(connection: Connection) -> None:
    await connection.give(b"GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.later(ARRIVAL_S + 1)
    assert not connection.wire.closed
    await connection.give(b"GET /v1/x HTTP/1.1\r\n")
    connection.later(ARRIVAL_S + 1)
    assert status(await connection.give()) == 408


async def test_a_short_cut_is_a_request_too(connection: Connection) -> None:
    leg = b'{"id":"00000000-0000-0000-0000-000000000001","amount":7,"asset":"GBP"}'
    head = b"POST /v1/legs HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        leg
    )
    for _ in range(3):
        await connection.give(head + leg)
        await connection.engine.answer()
        assert status(await connection.give()) == 201
        connection.later(ARRIVAL_S + 1)
        assert not connection.wire.closed
    assert connection.calls == 0
    fresh = Connection()
    fresh.protocol.heads.update(connection.protocol.heads)
    await fresh.give(head + leg)
    fresh.later(ARRIVAL_S + 1)
    assert not fresh.wire.closed, "its first request was whole, though nobody parsed it"


async def test_an_answer_that_is_due_comes_before_the_end(connection: Connection) -> None:
    """The head of a second request is too large while the first one is judged: its answer must not be taken
    for the first one's."""
    leg = b'{"id":"00000000-0000-0000-0000-000000000001","amount":7,"asset":"GBP"}'
    head = b"POST /v1/legs HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        leg
    )
    assert await connection.give(head + leg, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * HEAD_BYTES_MAX) == b""
    assert connection.wire.closed


async def test_an_answer_that_nobody_reads(connection: Connection) -> None:
    connection.protocol.pause_writing()
    connection.later(UNREAD_S - 1)
    assert not connection.wire.closed
    connection.protocol.resume_writing()
    connection.later(UNREAD_S + 1)
    connection.protocol.pause_writing()
    connection.later(UNREAD_S + 1)
    assert connection.wire.aborted
