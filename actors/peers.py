"""How shards speak to each other."""

from collections import deque
from typing import Final, Protocol

from engine.crossing.messages import Frame

KEPT_MAX: Final = 10_000
"""Frames that wait for a shard that is not open yet; more are dropped, and said again later."""


class Peers(Protocol):
    """The way to other shards. What is told may be lost, late, twice there or out of order: whoever needs an
    answer tells it again."""

    def tell(self, shard: int, frame: Frame) -> None:
        """Let a shard have a frame. Never waits, and never raises."""


class Hearer(Protocol):
    """A shard that can be told things."""

    def hear(self, frame: Frame) -> None:
        """Take a frame, to be looked at in a turn."""


class NoPeers:
    """For a shard that is alone."""

    def tell(self, shard: int, _frame: Frame) -> None:
        """There is nobody."""
        raise AssertionError(f"one shard alone has nothing to say to shard {shard}")


class LocalPeers:
    """The shards of one process."""

    def __init__(self) -> None:
        self._shards: dict[int, Hearer] = {}
        self._waiting: dict[int, deque[Frame]] = {}  # by shard that is not open yet

    def join(self, index: int, shard: Hearer) -> None:
        """A shard is open, and can be spoken to."""
        self._shards[index] = shard
        for frame in self._waiting.pop(index, ()):
            shard.hear(frame)

    def tell(self, shard: int, frame: Frame) -> None:
        """Let a shard have a frame."""
        there = self._shards.get(shard)
        if there is not None:
            there.hear(frame)
        else:
            self._waiting.setdefault(shard, deque(maxlen=KEPT_MAX)).append(frame)
