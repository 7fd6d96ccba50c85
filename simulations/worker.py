"""An engine in a process of its own that replays sales until it has finished or is killed.

    python -m simulations.worker < order.json

The order says which database and which sales. After each message whose Moves are durable the worker prints a
line, `<Moves answered so far> <seconds since the first was sent>`: what stands there was acknowledged, and
must be in the books whatever happens to the worker.
"""

import asyncio
import logging
import sys
import time

import msgspec

from actors.runtime import Engine
from actors.settings import Settings
from gateway.logs import configure_logs
from simulations.replay import replay
from simulations.source import Source, read_source


class WorkOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker is to do, and where."""

    settings: Settings
    source: Source


class Progress(msgspec.Struct, frozen=True):
    """A line of a worker."""

    moves: int
    seconds: float

    def line(self) -> str:
        """As the worker prints it."""
        return f"{self.moves} {self.seconds:.6f}"


def read_progress(line: str) -> Progress:
    """The inverse of `Progress.line`. Raises ValueError."""
    moves, seconds = line.split()
    return Progress(int(moves), float(seconds))


async def work(order: WorkOrder) -> None:
    """Replay the order's sales, telling every step on stdout."""
    planned = read_source(order.source)
    async with Engine.running(order.settings) as engine:
        started = time.perf_counter()

        def report(done: int, _: int) -> None:
            print(Progress(done, time.perf_counter() - started).line(), flush=True)

        await replay(engine, planned, report)


def main() -> None:
    """Read the order from stdin and carry it out. Logs go to stderr, as those of every command."""
    configure_logs(logging.WARNING)
    asyncio.run(work(decode_order(sys.stdin.buffer.read())))


def encode_order(order: WorkOrder) -> bytes:
    """An order as a worker reads it."""
    return msgspec.json.encode(order, enc_hook=str)


def decode_order(content: bytes) -> WorkOrder:
    """The inverse of `encode_order`. Raises msgspec.ValidationError."""
    return msgspec.json.decode(content, type=WorkOrder, dec_hook=_decode)


def _decode(kind: type, value: object) -> object:
    return kind(value)


if __name__ == "__main__":
    main()
