"""Who gets in while there is too much to do: the bounds, what refusing says and costs, and who is next."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.server import ServerState

from gateway.admission import (
    EMPTY_S,
    RELEASED_MAX,
    THROWN_AWAY_BYTES,
    TICK_S,
    Admission,
    AdmissionSettings,
    Lane,
)
from gateway.arrow_schema import MEDIA_TYPE
from gateway.metrics import HttpMetrics
from gateway.protocol import protocol_for
from gateway.security.gate import Gate
from gateway.security.patience import patient
from tests.fixtures_engine import BOUND_S
from tests.unit.test_patience import Transport
from tests.unit.test_protocol import Accepting, turns

NARROW: Final = AdmissionSettings(legs=1, others=1, large_requests=1, large_bytes=1_000)
LEG: Final = {
    "id": "019aa0c2-7c00-7000-8000-0000000001e6",
    "debit": "00000000-0000-0000-0000-000000000001",
    "credit": "00000000-0000-0000-0000-000000000002",
    "amount": 1,
    "asset": "GBP",
    "code": 1,
}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Waiting:
    """A connection that is held."""

    def __init__(self, unread_bytes: int = 0) -> None:
        self.unread_bytes = unread_bytes
        self.released = 0

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lane(clock: Clock, sure_requests: int = 100, sure: int = 100) -> Lane:
    return Lane(sure_requests, sure, clock)


def entered(into: Lane, weight: int = 1) -> int:
    """How many get in until one does not."""
    count = 0
    while into.admits(weight):
        into.enter(weight)
        count += 1
    return count


def rounds(of: Lane, at_once: int, count: int) -> int:
    """So many requests come at once, again and again; the most that were in progress."""
    most = 0
    for _ in range(count):
        inside = 0
        for _ in range(at_once):
            if of.admits(1):
                of.enter(1)
                inside += 1
        most = max(most, inside)
        for _ in range(inside):
            of.leave(1)
    return most


def test_a_burst_gets_in_and_a_queue_does_not(clock: Clock) -> None:
    narrow = lane(clock)
    burst = entered(narrow)
    assert 120 < burst < 300
    for _ in range(burst):
        narrow.leave(1)
    assert rounds(narrow, 1_000, 20) == 100, "too much comes, again and again: what is sure, and no more"
    assert rounds(narrow, 10, 100) == 10
    assert rounds(narrow, 120, 1) == 120, "there was little for a while: a burst gets in"
    assert rounds(narrow, 1_000, 20) <= 200
    assert rounds(narrow, 1_000, 1) == 100
    clock.now += 2 * EMPTY_S
    assert entered(narrow) == burst, "there was nothing for a moment: all is forgotten"


def test_what_is_sure_is_always_taken(clock: Clock) -> None:
    narrow = lane(clock)
    for at_once in (100, 1_000, 99):
        assert rounds(narrow, at_once, 30) >= min(100, at_once)


def test_bodies_count_by_their_bytes(clock: Clock) -> None:
    large = lane(clock, sure_requests=2, sure=1_000)
    assert large.admits(90_000), "one that is alone, however large"
    large.enter(90_000)
    assert large.admits(90_000), "the second one too"
    large.enter(90_000)
    assert not large.admits(1)
    large.leave(90_000)
    large.leave(90_000)
    for _ in range(20):
        large.enter(200)
        large.enter(200)
        assert large.admits(600)
        large.enter(200)
        assert large.admits(400)
        for _ in range(3):
            large.leave(200)


def test_who_comes_too_early_makes_way(clock: Clock) -> None:
    narrow = lane(clock)
    rounds(narrow, 1_000, 20)
    for _ in range(100):
        assert not narrow.admits(1, waited=True)
        assert narrow.admits(1)
        narrow.enter(1)
    for _ in range(100):
        narrow.leave(1)
    clock.now += 2 * EMPTY_S
    assert narrow.admits(1, waited=True), "nobody else has come"


async def test_connections_are_taken_up_again_at_a_bounded_rate() -> None:
    registry = CollectorRegistry()
    admission = Admission(registry=registry)
    small, large = [Waiting() for _ in range(RELEASED_MAX)], [Waiting(99 * THROWN_AWAY_BYTES) for _ in "ab"]
    held = [*small, *large]
    for connection in held:
        admission.refused(admission.legs, connection)
    assert not any(connection.released for connection in held)
    async with asyncio.timeout(BOUND_S):
        while not large[-1].released:
            await asyncio.sleep(TICK_S / 10)
            if large[0].released:
                assert all(connection.released for connection in small)
    assert [connection.released for connection in held] == [1] * len(held)
    assert registry.get_sample_value("tessera_overload_refusals_total", {"lane": "legs"}) == len(held)


class Gateway:
    """Connections to a gateway with one place in each lane."""

    def __init__(self) -> None:
        self.engine = Accepting()
        engine: Any = self.engine  # it has what is needed of one
        self.admission = Admission(NARROW, CollectorRegistry())
        self.metrics = HttpMetrics()
        self.calls = 0
        self.go_on = asyncio.Event()
        self._kind = patient(protocol_for(engine, self.metrics, Gate("default"), admission=self.admission))

    def connect(self) -> "Connection":
        config = uvicorn.Config(
            self._application, loop="none", http=self._kind, ws="none", lifespan="off", log_config=None,
            interface="asgi3", access_log=False,
        )  # fmt: skip
        config.load()
        return Connection(self._kind(config, ServerState(), {}))

    async def _application(self, _scope: Any, _receive: Any, send: Any) -> None:
        self.calls += 1
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    def be_full(self) -> None:
        """There has been too much to do for a while."""
        for lane in (self.admission.legs, self.admission.others, self.admission.large):
            lane.fullness = 1e9

    def refused(self, lane: str) -> float:
        [family] = self.admission._refused[getattr(self.admission, lane)].collect()
        return float(family.samples[0].value)


class Connection:
    """A client's end."""

    def __init__(self, protocol: Any) -> None:
        self.wire = Transport()
        self.protocol = protocol
        protocol.connection_made(self.wire)

    async def send(self, data: bytes) -> tuple[int, bytes]:
        """Status and bytes of what was answered, 0 = nothing yet."""
        self.protocol.data_received(data)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes]:
        await turns()
        said = b"".join(self.wire.written)
        self.wire.written.clear()
        return int(said[9:12] or 0), said


def request(method: str, path: str, body: bytes = b"", media_type: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def leg() -> bytes:
    return request("POST", "/v1/legs", json.dumps(LEG).encode())


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway()


async def fill_with_a_leg(gateway: Gateway) -> Callable[[], Any]:
    status, _ = await gateway.connect().send(leg())
    assert status == 0
    answer: Callable[[], Any] = gateway.engine.answer
    return answer


async def fill_with_a_body(gateway: Gateway) -> Callable[[], Any]:
    first = gateway.connect()
    await first.send(request("POST", "/v1/legs", b"x" * 100_000, MEDIA_TYPE)[:50_000])

    async def hang_up() -> None:
        first.protocol.connection_lost(None)

    return hang_up


async def fill_with_another(gateway: Gateway) -> Callable[[], Any]:
    await gateway.connect().send(request("POST", "/v1/moves", b"{}"))

    async def go_on() -> None:
        gateway.go_on.set()
        await turns()

    return go_on


@pytest.mark.parametrize(
    ("lane", "fill", "next"),
    [
        ("legs", fill_with_a_leg, leg()),
        ("others", fill_with_another, request("POST", "/v1/moves", b"{}")),
        ("others", fill_with_another, request("GET", "/v1/things")),
        ("large", fill_with_a_body, request("POST", "/v1/legs", b"x" * 90_000, MEDIA_TYPE)),
        ("large", fill_with_a_body, request("POST", "/v1/moves", b"x" * 90_000)),
    ],
    ids=["a leg", "a Move", "a list", "Arrow", "a long body"],
)
async def test_a_request_is_refused_by_its_head(gateway: Gateway, lane: str, fill: Any, next: bytes) -> None:
    free = await fill(gateway)
    gateway.be_full()
    calls, batches = gateway.calls, len(gateway.engine.batches)
    connection = gateway.connect()
    head_ends = next.index(b"\r\n\r\n") + 4
    status, said = await connection.send(next[:head_ends])
    assert status == 503, "before any of the body is there"
    assert b"\r\nretry-after: 1\r\n" in said
    problem = json.loads(said.partition(b"\r\n\r\n")[2])
    assert (problem["code"], problem["status"]) == ("overloaded", 503)
    for start in range(head_ends, len(next), 40_000):
        assert await connection.send(next[start : start + 40_000]) == (0, b""), "the body goes nowhere"
    assert (gateway.calls, len(gateway.engine.batches)) == (calls, batches), "nobody has heard of it"
    assert gateway.refused(lane) == 1
    assert not connection.wire.is_closing()
    await free()
    assert (await connection.send(leg()))[0] == 0, "there is room again, on the same connection"
    assert len(gateway.engine.batches) == 1
    await gateway.engine.answer()
    assert (await connection.answer())[0] == 201
    for left in (gateway.admission.legs, gateway.admission.others, gateway.admission.large):
        assert (left.requests, left.weight) == (0, 0)


async def test_a_head_that_is_remembered_is_refused_too(gateway: Gateway) -> None:
    connection = gateway.connect()
    await connection.send(leg())
    await gateway.engine.answer()
    assert (await connection.answer())[0] == 201
    assert len(connection.protocol.heads) == 1
    await fill_with_a_leg(gateway)
    gateway.be_full()
    for _ in range(3):
        assert (await connection.send(leg()))[0] == 503
    assert gateway.refused("legs") == 3
    assert len(gateway.engine.batches) == 1


async def test_what_comes_after_a_body_that_is_thrown_away_is_seen(gateway: Gateway) -> None:
    free = await fill_with_a_body(gateway)
    gateway.be_full()
    long = request("POST", "/v1/legs", b"x" * 90_000, MEDIA_TYPE)
    connection = gateway.connect()
    for pieces in ([long], [long[:200], long[200:70_000], long[70_000:]], [long[:60_000], long[60_000:]]):
        statuses = [(await connection.send(piece))[0] for piece in pieces]
        assert statuses == [503] + [0] * (len(pieces) - 1)
    assert len(connection.protocol.refusals) == 1
    await connection.send(long[:50_000])
    await free()
    status, _ = await connection.send(long[50_000:] + leg())
    assert status == 0
    assert len(gateway.engine.batches) == 1
    await gateway.engine.answer()
    assert (await connection.answer())[0] == 201


async def test_a_body_in_chunks_is_left_to_the_parser(gateway: Gateway) -> None:
    await fill_with_another(gateway)
    gateway.be_full()
    head = b"POST /v1/moves HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection = gateway.connect()
    for _ in range(3):
        assert (await connection.send(head))[0] == 503
        assert (await connection.send(b"5\r\nwhole\r\n0\r\n\r\n"))[0] == 0
    assert not connection.protocol.refusals
    assert gateway.refused("others") == 3


async def test_who_waits_to_be_told_to_continue_is_let_go(gateway: Gateway) -> None:
    await fill_with_a_body(gateway)
    gateway.be_full()
    head = request("POST", "/v1/legs", b"x" * 90_000, MEDIA_TYPE).partition(b"\r\n\r\n")[0]
    connection = gateway.connect()
    status, said = await connection.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert status == 503
    assert b"connection: close" in said
    assert connection.wire.is_closing()


async def test_whoever_asks_how_it_is_is_told(gateway: Gateway) -> None:
    await fill_with_another(gateway)
    gateway.be_full()
    gateway.go_on.set()
    for path in ("/health", "/ready", "/metrics", "/v1/events?after=start"):
        assert (await gateway.connect().send(request("GET", path)))[0] == 200
