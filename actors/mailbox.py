"""A shard's mailbox: bounded in messages and in legs, first in first out. When full it refuses, never
waits."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from actors.errors import Overloaded, ShardStopped
from engine.crossing.messages import Frame

RETRY_AFTER_S: Final = 1


class Letter(NamedTuple):
    """A message on its way to a shard, where its answer goes, and when it was left (`perf_counter`). `trace`
    is the tracer's, of a request that is traced."""

    message: Any
    answer: asyncio.Future[Any]
    weight: int
    left_at: float = 0.0
    trace: Any = None


class Mailbox:
    """Letters wait here until the shard's next turn takes them.

    `messages_max` and `weight_max` bound what may wait; a letter's weight is the number of legs, Moves or
    reads in it.
    """

    def __init__(self, shard: int, messages_max: int, weight_max: int) -> None:
        self._shard = shard
        self._messages_max = messages_max
        self._weight_max = weight_max
        self._letters: deque[Letter] = deque()
        self._weight = 0  # sum over waiting letters
        self._arrived = asyncio.Event()  # set while something waits, and at the end
        self._changed = asyncio.Event()  # set by whatever may be a reason to look again
        self._closed: str | None = None  # why letters are refused
        self.ended = False  # nothing more will come
        self._frames: deque[Frame] = deque()  # from other shards, which bound them
        self._frames_weight = 0

    def __len__(self) -> int:
        return len(self._letters)

    @property
    def weight(self) -> int:
        """How many legs, Moves and reads are waiting."""
        return self._weight

    def put(self, messages: Sequence[tuple[Any, int]], trace: Any = None) -> list[asyncio.Future[Any]]:
        """Leave messages with their weights, all or none; the futures are their answers. Raises Overloaded
        when full and ShardStopped when closed. An empty mailbox takes any weight."""
        if self._closed is not None:
            raise ShardStopped(self._shard, self._closed)
        weight = sum(weight for _, weight in messages)
        if len(self._letters) + len(messages) > self._messages_max or (
            self._letters and self._weight + weight > self._weight_max
        ):
            raise Overloaded(f"the mailbox of shard {self._shard} is full", RETRY_AFTER_S)
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        letters = [Letter(message, loop.create_future(), weight, now, trace) for message, weight in messages]
        self._letters += letters
        self._weight += weight
        self._arrived.set()
        self._changed.set()
        return [letter.answer for letter in letters]

    def hear(self, frame: Frame) -> None:
        """Leave what another shard says. It is taken before letters, even by a mailbox that is closed."""
        self._frames.append(frame)
        self._frames_weight += frame.weight
        self._arrived.set()
        self._changed.set()

    def take_frames(self, weight_max: int) -> list[Frame]:
        """Frames for one turn, oldest first: at least one if any waits, else up to `weight_max` in weight."""
        taken: list[Frame] = []
        weight = 0
        while self._frames and (not taken or weight + self._frames[0].weight <= weight_max):
            frame = self._frames.popleft()
            weight += frame.weight
            taken.append(frame)
        self._frames_weight -= weight
        return taken

    def put_back(self, frames: Sequence[Frame]) -> None:
        """Frames that were taken, and are to be taken first again."""
        self._frames.extendleft(reversed(frames))
        self._frames_weight += sum(frame.weight for frame in frames)
        if frames:
            self._arrived.set()

    async def wait(self, timeout_s: float | None) -> None:
        """Return once something waits or the mailbox is closed, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return

    async def wait_for_more(self, weight: int, patient: Callable[[], bool]) -> None:
        """Return once so much waits, the mailbox is closed, or `patient` says no more: it is asked again
        whenever letters arrive, and after `wake`."""
        while self._weight + self._frames_weight < weight and self._closed is None and patient():
            self._changed.clear()
            await self._changed.wait()

    def wake(self) -> None:
        """Let who waits for more look again."""
        self._changed.set()

    def take(self, weight_max: int) -> list[Letter]:
        """The letters for one turn, oldest first: at least one if any waits, else up to `weight_max` in
        weight."""
        taken: list[Letter] = []
        weight = 0
        while self._letters and (not taken or weight + self._letters[0].weight <= weight_max):
            letter = self._letters.popleft()
            weight += letter.weight
            if not letter.answer.cancelled():
                taken.append(letter)
        self._weight -= weight
        if not self._letters and not self._frames and not self.ended:
            self._arrived.clear()
        return taken

    def refuse(self, reason: str) -> None:
        """Refuse letters from now on, for the first reason given. What waits already may still be taken."""
        self._closed = self._closed or reason
        self._changed.set()

    def close(self, reason: str) -> None:
        """Refuse letters, and wait for nothing any more: neither letters nor other shards."""
        self.refuse(reason)
        self.ended = True
        self._arrived.set()

    @property
    def closed(self) -> bool:
        """Whether letters are refused."""
        return self._closed is not None
