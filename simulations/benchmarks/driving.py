"""Load on a served engine, made by the Python client in this process.

Closed loop: so many batches are on their way at a time, the next is sent when one is answered. Open loop:
batches are due at a fixed rate, whatever the server does; one that is sent late counts from when it was due,
so that a stall of the server is not left out of the latencies (coordinated omission).
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np

from gateway.client import Answers, Client
from simulations.benchmarks.mixes import Drawn, Mix

DEPTH: Final = 2
"""Batches on their way at a time in a closed loop."""
SENDERS: Final = 8
"""Batches on their way at a time at most in an open loop: more than there are while the server keeps up."""


class Load(NamedTuple):
    """What became of a load. Times are those of `perf_counter`; one latency, in seconds, for each request."""

    legs: int
    started: float
    ended: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Legs acknowledged a second."""
        return self.legs / (self.ended - self.started)

    def percentile_ms(self, percent: float) -> float:
        """The latency that so many of a hundred requests stayed within."""
        return float(np.percentile(self.latencies, percent)) * 1_000


def closed_loop(client: Client, mix: Mix, drawn: Sequence[Drawn], depth: int = DEPTH) -> Load:
    """Send batches, so many at a time. Raises AssertionError for an answer that is not the expected one."""
    waiting = deque(drawn)
    answered: list[tuple[int, float]] = []

    def post(**columns: Any) -> Answers:
        began = time.perf_counter()
        answers = client.post_legs(**columns)
        answered.append((len(answers), time.perf_counter() - began))
        return answers

    def send() -> None:
        while waiting:
            try:
                batch = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            mix.send(batch, post)

    started = time.perf_counter()
    _in_threads(depth, send, waiting.clear)
    return _load(answered, started)


def open_loop(client: Client, mix: Mix, drawn: Sequence[Drawn], rate: float) -> Load:
    """Send batches, so many a second; latencies count from when each was due. Raises as `closed_loop`."""
    waiting = deque(enumerate(drawn))
    answered: list[tuple[int, float]] = []
    started = time.perf_counter()

    def send() -> None:
        while waiting:
            try:
                number, batch = waiting.popleft()
            except IndexError:
                return
            due = started + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))

            def post(due: float = due, /, **columns: Any) -> Answers:
                answers = client.post_legs(**columns)
                answered.append((len(answers), time.perf_counter() - due))
                return answers

            mix.send(batch, post)

    _in_threads(SENDERS, send, waiting.clear)
    return _load(answered, started)


def _in_threads(count: int, work: Callable[[], None], give_up: Callable[[], None]) -> None:
    with ThreadPoolExecutor(count) as pool:
        try:
            for done in [pool.submit(work) for _ in range(count)]:
                done.result()
        finally:
            give_up()


def _load(answered: list[tuple[int, float]], started: float) -> Load:
    ended = time.perf_counter()
    return Load(sum(legs for legs, _ in answered), started, ended, [latency for _, latency in answered])
