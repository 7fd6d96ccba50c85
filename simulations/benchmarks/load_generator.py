"""A load generator for small JSON requests: raw connections in a process of its own, on the same machine.

    python -m simulations.benchmarks.load_generator '{"host": …, "port": …, …}' < bodies

    bodies (stdin, one a line) ─▶ requests, made before the clock starts
    closed loop   every connection sends its next request when it has the answer to the last
    open loop     requests are due at a fixed rate, whatever the server does; one that is due while all
                  connections wait for answers is sent late, and its latency counts from when it was due

Each connection has one request on its way at most, as ordinary clients do. The generator says how much
processor time it took itself: what it takes, a server on the same machine has not. It imports little, since
it is started for every run.
"""

import asyncio
import gc
import sys
import time
from typing import Final, cast

import httptools
import msgspec
import numpy as np
import uvloop

TICK_S: Final = 0.001
"""How often an open loop looks what is due; what that delays is counted as latency."""
NS: Final = 1_000_000_000
CREATED: Final = 201


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests go, and how: `rate` a second, or as fast as answers come if it is 0."""

    host: str
    port: int
    path: str
    connections: int = 64
    rate: int = 0
    token: str = ""  # an API key


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the requests, all of which were answered with 201. Latencies are in ms."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    processor_s: float

    @property
    def rate(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds

    @property
    def share(self) -> float:
        """How much of one processor the generator took."""
        return self.processor_s / self.seconds


class _Connection(asyncio.Protocol):
    """One connection; `due_ns` is when its present request should have been sent."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self.due_ns = 0
        self.body = b""  # of the last answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, due_ns: int) -> None:
        """Send a request; the connection is idle."""
        self.due_ns = due_ns
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """The answer's body, which is so small that it comes in one piece."""
        self.body = body

    def on_message_complete(self) -> None:
        """An answer is there as a whole."""
        self._run.answered(self, self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.fail(f"the server ended a connection: {exc or 'without a reason'}")

    def close(self) -> None:
        """End it."""
        self._transport.close()


class _Run:
    """One load from its first request to its last answer."""

    def __init__(self, target: Target, requests: list[bytes]) -> None:
        self._target = target
        self._requests = requests
        self._sent = 0
        self._latencies: list[int] = []
        self._idle: list[_Connection] = []  # of an open loop
        self._started_ns = 0
        self._ended_ns = 0
        self._ended = asyncio.get_running_loop().create_future()

    async def run(self) -> Load:
        """Put the load. Raises RuntimeError if it can't be put, or the server refuses some of it."""
        loop = asyncio.get_running_loop()
        host, port = self._target.host, self._target.port
        connections = []
        for _ in range(self._target.connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), host, port)
            connections.append(connection)
        processor = time.process_time()
        self._started_ns = time.perf_counter_ns()
        if self._target.rate:
            self._idle = connections
            self._tick()
        else:
            for connection in connections[: len(self._requests)]:
                self._next(connection, self._started_ns)
        await self._ended
        processor = time.process_time() - processor
        for connection in connections:
            connection.close()
        p50, p99, longest = (np.percentile(self._latencies, [50, 99, 100]) / 1e6).tolist()
        return Load(
            requests=len(self._requests),
            seconds=(self._ended_ns - self._started_ns) / NS,
            p50_ms=p50,
            p99_ms=p99,
            max_ms=longest,
            processor_s=processor,
        )

    def answered(self, connection: _Connection, status: int) -> None:
        """A connection has its answer; it may send again."""
        if status != CREATED:
            self.fail(f"a request was answered with {status}, not with {CREATED}: {connection.body!r}")
            return
        now = time.perf_counter_ns()
        self._latencies.append(now - connection.due_ns)
        if len(self._latencies) == len(self._requests):
            self._ended_ns = now
            self._ended.set_result(None)
        elif self._sent == len(self._requests):
            return
        elif not self._target.rate:
            self._next(connection, now)
        elif (due_ns := self._due_ns()) <= now:
            self._next(connection, due_ns)
        else:
            self._idle.append(connection)

    def fail(self, reason: str) -> None:
        """Give up."""
        if not self._ended.done():
            self._ended.set_exception(RuntimeError(reason))

    def _next(self, connection: _Connection, due_ns: int) -> None:
        self._sent += 1
        connection.send(self._requests[self._sent - 1], due_ns)

    def _due_ns(self) -> int:
        """When the next request of an open loop is due."""
        return self._started_ns + self._sent * NS // self._target.rate

    def _tick(self) -> None:
        now = time.perf_counter_ns()
        while self._idle and self._sent < len(self._requests) and (due_ns := self._due_ns()) <= now:
            self._next(self._idle.pop(), due_ns)
        if self._sent < len(self._requests):
            asyncio.get_running_loop().call_later(TICK_S, self._tick)


def _request(target: Target, body: bytes) -> bytes:
    """A request as an ordinary client sends it."""
    key = f"Authorization: Bearer {target.token}\r\n" if target.token else ""
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\nUser-Agent: tessera-bench\r\n"
        f"Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"{key}\r\n"
    )
    return head.encode() + body


async def _put(target: Target, requests: list[bytes]) -> Load:
    return await _Run(target, requests).run()


def _main(argument: str) -> None:
    target = msgspec.json.decode(argument, type=Target)
    requests = [_request(target, body) for body in sys.stdin.buffer.read().splitlines()]
    gc.freeze()
    gc.disable()  # nothing in here makes cycles
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = runner.run(_put(target, requests))
    sys.stdout.buffer.write(msgspec.json.encode(load))


if __name__ == "__main__":
    _main(sys.argv[1])
