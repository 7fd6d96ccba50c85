"""A connection of the gateway, on a transport that is not there and an engine that accepts everything."""

import asyncio
import json
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
import uvicorn
from uvicorn.server import ServerState

from actors.answers import LegAnswers
from engine.layout import LegColumns
from gateway.metrics import HttpMetrics
from gateway.protocol import HEAD_BYTES_MAX, HEADS_MAX, ShortCut, protocol_for
from gateway.security.gate import Gate

KEEP_ALIVE_S: Final = 75


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Accepting:
    """An engine that answers when it is told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[LegColumns, asyncio.Future[LegAnswers]]] = []

    def asset_number(self, _: str) -> int:
        return 1

    def send_batches(
        self, columns: LegColumns, _: npt.NDArray[np.int64], __: tuple[str, ...]
    ) -> "asyncio.Future[LegAnswers]":
        answer: asyncio.Future[LegAnswers] = asyncio.get_running_loop().create_future()
        self.batches.append((columns, answer))
        return answer

    async def answer(self) -> None:
        """Accept what came since the last time."""
        await turns()
        batches, self.batches = self.batches, []
        for columns, answer in batches:
            count = len(columns.amount)
            answer.set_result(
                LegAnswers(status=np.zeros(count, np.uint8), timestamp=np.ones(count, np.int64))
            )
        await turns()


class Connection:
    """A protocol and both of its ends."""

    def __init__(self, kind: type[ShortCut], engine: Accepting) -> None:
        config = uvicorn.Config(
            _nothing, loop="none", http=kind, ws="none", lifespan="off", log_config=None,
            interface="asgi3", timeout_keep_alive=KEEP_ALIVE_S,
        )  # fmt: skip
        config.load()
        self.engine = engine
        self.wire = Wire()
        self.protocol = kind(config, ServerState(), {})
        self.protocol.connection_made(self.wire)

    async def post(self, *headers: str) -> bytes:
        """Post a leg, and return the answer."""
        self.send(*headers)
        await self.engine.answer()
        return self.wire.written[-1]

    def send(self, *headers: str) -> None:
        """Post a leg that nobody has answered yet."""
        leg = {"id": str(UUID(int=1)), "debit": str(UUID(int=2)), "amount": 7, "asset": "GBP"}
        body = json.dumps(leg).encode()
        lines = ["POST /v1/legs HTTP/1.1", "Content-Type: application/json", *headers]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        self.protocol.data_received(head.encode() + body)


async def _nothing(_scope: object, _receive: object, _send: object) -> None:
    raise AssertionError("these requests don't get as far as the application")


async def turns() -> None:
    """Let the loop do what it has to do."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def connection() -> Connection:
    engine = Accepting()
    kind = protocol_for(engine, HttpMetrics(), Gate("default"))  # type: ignore[arg-type]  # it has what is needed of an engine
    return Connection(kind, engine)


async def test_a_head_is_parsed_once(connection: Connection) -> None:
    for _ in range(3):
        assert (await connection.post("Host: x")).startswith(b"HTTP/1.1 201 Created\r\n")
        assert len(connection.protocol.heads) == 1
    assert len(connection.wire.written) == 3


async def test_memory_for_heads_is_bounded(connection: Connection) -> None:
    long = "X-Long: " + "x" * HEAD_BYTES_MAX
    for number in range(HEADS_MAX + 10):
        await connection.post(f"X-Number: {number}")
        await connection.post(f"X-Number: {number}", long)
    assert len(connection.wire.written) == 2 * (HEADS_MAX + 10)
    assert len(connection.protocol.heads) == 10
    assert max(map(len, connection.protocol.heads)) <= HEAD_BYTES_MAX


async def test_a_connection_without_requests_is_closed_in_time(connection: Connection) -> None:
    """Short cuts don't set the clock again; when it goes off, it is looked when the last one was."""
    protocol = connection.protocol

    def clock() -> asyncio.TimerHandle | None:
        return protocol.timeout_keep_alive_task

    await connection.post()
    first = clock()
    assert first is not None
    await connection.post()
    assert clock() is first
    protocol.timeout_keep_alive_handler()
    second = clock()
    assert second is not None
    assert second is not first
    assert second.when() <= protocol.loop.time() + KEEP_ALIVE_S
    connection.send()
    protocol.timeout_keep_alive_handler()
    assert clock() is None, "it is being served"
    await connection.engine.answer()
    assert clock() is not None
    assert not connection.wire.is_closing()
    protocol._answered -= KEEP_ALIVE_S
    protocol.timeout_keep_alive_handler()
    assert connection.wire.is_closing()
