"""More requests than a server can do: raw connections, an epoll loop and prepared bytes, in a process of its
own on the same machine.

    python -m simulations.benchmarks.overload_generator < plan

    plan (stdin, JSON) ─▶ phases, one after the other without a pause
    closed loop (no rate)   every connection sends its next request when it has the answer to the last
    open loop               requests are due at a fixed rate, whatever the server does

Each connection has one request on its way at most, and the one that has waited longest is the next to send. A
request that is due while all connections wait for answers is not sent at all, and counted: what a server
refuses to read, nobody can offer it. Latencies count from when a request was sent. A request that was refused
is sent again as it is, as its client would; one that was taken is sent again under fresh ids.

The process makes way for others (`nice`): what it takes, the server on the same machine has not. It imports
what it needs and no more.
"""

import gc
import os
import select
import socket
import sys
import time
from collections import deque
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.client.ids import Sequence, new_ids

NICE: Final = 5
WAIT_S: Final = 0.0005
"""How long the loop sleeps at most before it looks what is due."""
WINDOW_S: Final = 0.5
"""Recovery is looked for in steps of this."""
SENT_MAX: Final = 64
"""Requests sent in a row before answers are looked at."""
RECEIVED_BYTES: Final = 1 << 18
ANSWERED_LATE_S: Final = 20.0
"""How long after the end of a phase's load its last answers may come."""
CREATED: Final = b"201"
REFUSALS: Final = (b"503", b"429")


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """So many requests a second, 0 = as fast as answers come, on the first so many connections."""

    seconds: float
    connections: int
    rate: float = 0.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent. The bodies have their ids at `id_at`, as text or, of `ids` legs, in 16 bytes each."""

    host: str
    port: int
    head: str  # all of the head but the length of the body
    bodies: list[bytes]
    id_at: list[int]
    ids: int = 0
    phases: list[Phase]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a phase."""

    taken: int
    refused: int
    p99_ms: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a phase. Latencies, of those that were taken, in ms."""

    seconds: float
    due: int
    sent: int
    taken: int
    refused: int
    refused_p99_ms: float
    without_retry_after: int
    others: dict[str, int]  # by status; `broken` for connections that were cut
    p50_ms: float
    p99_ms: float
    processor_s: float
    windows: list[Window]


class _Connection:
    """One connection and the request that it sends."""

    def __init__(self, run: "_Run", number: int) -> None:
        plan = run.plan
        which = number % len(plan.bodies)
        body = plan.bodies[which]
        head = f"{plan.head}Content-Length: {len(body)}\r\n\r\n".encode()
        self.request = bytearray(head + body)
        self.id_at = len(head) + plan.id_at[which]
        self.left = 0  # of the request, still to be sent
        self.received = b""
        self.sent_at = 0.0
        self.is_used = False
        self.fd = -1
        self.socket: socket.socket
        self.run = run

    def connect(self) -> None:
        self.socket = socket.create_connection((self.run.plan.host, self.run.plan.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.fd = self.socket.fileno()
        self.run.by_fd[self.fd] = self
        self.run.poll.register(self.fd, select.EPOLLIN)
        self.received = b""
        self.left = 0

    def close(self) -> None:
        del self.run.by_fd[self.fd]
        self.run.poll.unregister(self.fd)
        self.socket.close()

    def send(self, now: float) -> None:
        if self.is_used:
            self.run.renew(self)
            self.is_used = False
        self.sent_at = now
        try:
            sent = self.socket.send(self.request)
        except (BlockingIOError, ConnectionError):
            sent = 0
        self.left = len(self.request) - sent
        if self.left:
            self.run.poll.modify(self.fd, select.EPOLLIN | select.EPOLLOUT)

    def send_more(self) -> None:
        try:
            self.left -= self.socket.send(memoryview(self.request)[-self.left :])
        except BlockingIOError:
            return
        except ConnectionError:
            self.left = 0  # reading says so too
        if not self.left:
            self.run.poll.modify(self.fd, select.EPOLLIN)


class _Run:
    """All phases on their connections."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.poll = select.epoll()
        self.by_fd: dict[int, _Connection] = {}
        self._sequence = Sequence.drawn(np.random.default_rng())
        self._texts: list[bytes] = []
        count = max(phase.connections for phase in plan.phases)
        self.connections = [_Connection(self, number) for number in range(count)]
        self._idle: deque[_Connection] = deque()
        for connection in self.connections:
            self.renew(connection)
            connection.connect()

    def renew(self, connection: _Connection) -> None:
        """Give a request fresh ids."""
        at = connection.id_at
        if self.plan.ids:
            ids = new_ids(self.plan.ids, sequence=self._sequence).astype(">u8").tobytes()
            connection.request[at : at + len(ids)] = ids
            return
        if not self._texts:
            digits = new_ids(4_096, sequence=self._sequence).astype(">u8").tobytes().hex()
            self._texts = [_uuid_text(digits[i : i + 32]) for i in range(0, len(digits), 32)]
        text = self._texts.pop()
        connection.request[at : at + len(text)] = text

    def phase(self, phase: Phase) -> Outcome:
        """Put one phase's load."""
        tally = _Tally()
        used = self.connections[: phase.connections]
        self._idle = deque(used)
        waiting = 0
        processor = time.process_time()
        started = time.perf_counter()
        end = started + phase.seconds
        due = sent = asked = 0
        while True:
            now = time.perf_counter()
            if now >= end and (not waiting or now > end + ANSWERED_LATE_S):
                break
            if now < end:
                asked = int((now - started) * phase.rate) if phase.rate else sent + len(self._idle)
                burst = min(asked - due, len(self._idle), SENT_MAX)
                for _ in range(burst):
                    self._idle.popleft().send(time.perf_counter())
                sent += burst
                waiting += burst
                due += burst
                if due < asked and not self._idle:
                    due = asked  # nobody there to send them
            timeout = 0.0 if now < end and due < asked and self._idle else WAIT_S
            for fd, event in self.poll.poll(timeout):
                connection = self.by_fd[fd]
                if event & select.EPOLLOUT:
                    connection.send_more()
                if event & ~select.EPOLLOUT and self._receive(connection, tally, started):
                    waiting -= 1
                    self._idle.append(connection)
        for connection in used:
            if connection not in self._idle:  # its answer never came
                tally.others["unanswered"] = tally.others.get("unanswered", 0) + 1
                connection.close()
                connection.connect()
        return tally.outcome(phase, due, sent, time.process_time() - processor)

    def _receive(self, connection: _Connection, tally: "_Tally", started: float) -> bool:
        """Whether the answer is there as a whole."""
        try:
            data = connection.socket.recv(RECEIVED_BYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            tally.others["broken"] = tally.others.get("broken", 0) + 1
            connection.close()
            connection.connect()
            return True
        if connection.received:
            data = connection.received + data
        body_at = data.find(b"\r\n\r\n") + 4
        head = data[:body_at].lower()
        if body_at < 4 or len(data) < body_at + _length(head) or connection.left:
            connection.received = data
            return False
        connection.received = b""
        now = time.perf_counter()
        connection.is_used = tally.add(head, now - connection.sent_at, now - started)
        return True


class _Tally:
    """What has come back in a phase."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float]] = []  # when, and after how long
        self.refused: list[tuple[float, float]] = []
        self.without_retry_after = 0
        self.others: dict[str, int] = {}

    def add(self, head: bytes, took_s: float, at: float) -> bool:
        """Count an answer; whether the request was taken."""
        status = head[9:12]
        if status == CREATED:
            self.taken.append((at, took_s))
            return True
        if status in REFUSALS:
            self.refused.append((at, took_s))
            self.without_retry_after += b"\r\nretry-after:" not in head
            return False
        text = status.decode("latin-1")
        self.others[text] = self.others.get(text, 0) + 1
        return True

    def outcome(self, phase: Phase, due: int, sent: int, processor_s: float) -> Outcome:
        """What a phase came to; what was answered after its end counts for nothing but latencies."""
        taken, refused = (np.array(found).reshape(-1, 2) for found in (self.taken, self.refused))
        in_time = taken[:, 0] <= phase.seconds
        windows = []
        for number in range(int(phase.seconds / WINDOW_S)):
            inside = [(found[:, 0] // WINDOW_S == number) for found in (taken, refused)]
            windows.append(
                Window(
                    taken=int(inside[0].sum()),
                    refused=int(inside[1].sum()),
                    p99_ms=_percentile_ms(taken[inside[0], 1], 99),
                )
            )
        return Outcome(
            seconds=phase.seconds,
            due=due,
            sent=sent,
            taken=int(in_time.sum()),
            refused=len(refused),
            refused_p99_ms=_percentile_ms(refused[:, 1], 99),
            without_retry_after=self.without_retry_after,
            others=self.others,
            p50_ms=_percentile_ms(taken[:, 1], 50),
            p99_ms=_percentile_ms(taken[:, 1], 99),
            processor_s=processor_s,
            windows=windows,
        )


def _percentile_ms(seconds: npt.NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(seconds, percent)) * 1_000 if len(seconds) else 0.0


def _length(head: bytes) -> int:
    at = head.find(b"\r\ncontent-length:")
    return int(head[at + 17 : head.index(b"\r\n", at + 17)]) if at >= 0 else 0


def _uuid_text(digits: str) -> bytes:
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(parts).encode()


def _main() -> None:
    plan = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Plan)
    os.nice(NICE)
    run = _Run(plan)
    gc.freeze()
    gc.disable()  # nothing in here makes cycles
    for phase in plan.phases:
        sys.stdout.buffer.write(msgspec.json.encode(run.phase(phase)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _main()
