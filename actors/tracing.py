"""What whoever traces requests is told by a shard. Without a tracer, nothing is made or kept for it."""

from collections.abc import Sequence
from typing import Any, Protocol

from actors.mailbox import Letter


class Tracer(Protocol):
    """Follows messages of traced requests through a shard. Times are those of `perf_counter`."""

    def current(self) -> Any:
        """The request in whose context we are, if it is traced, else None."""

    def decided(self, shard: int, letters: Sequence[Letter], started: float, ended: float) -> None:
        """A turn has decided these letters; their answers come when they are durable."""
