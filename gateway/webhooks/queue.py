"""Which event of an endpoint is to be sent next.

Every event has subjects: the accounts and the Move that it is about. Of each subject, one event is on its way
at a time, in the order of the log; so an event that must be tried again holds up those that share a subject
with it, and those behind them, and nothing else.

An event in the queue is either *held*, with its content, or *parked*: written down elsewhere as one that was
not taken, without its content, which is in the log. What fails is parked, and with it everything that waits
behind it. So what is held is what is on its way and little more, however long something fails.

Times are nanoseconds since 1970.
"""

import heapq
from collections import deque
from itertools import count
from typing import Final

from gateway.events.positions import Cursor, Position

NEVER: Final = 2**63 - 1


class Item:
    """An event in the queue."""

    __slots__ = ("attempts", "body", "due", "finished", "parked", "position", "subjects", "type")

    def __init__(
        self, position: Position, subjects: tuple[bytes, ...], type: str, body: bytes | None = None
    ) -> None:
        self.position = position
        self.subjects = tuple(dict.fromkeys(subjects))
        self.type = type
        self.body = body  # None = it is in the log
        self.attempts = 0
        self.due = 0  # not before this time
        self.parked = body is None
        self.finished = False  # taken, or given up


class DeliveryQueue:
    """The events of one endpoint that are not finished. All changes are methods."""

    def __init__(self) -> None:
        self._by_subject: dict[bytes, deque[Item]] = {}  # unfinished, in order of the log; none is empty
        self._fresh: deque[Item] = deque()  # free to go, and never tried
        self._again: list[tuple[int, int, Item]] = []  # free to go at a time; a heap
        self._order = count()
        self._was_fresh = False  # what was taken last
        self._held: dict[int, Item] = {}  # those with their content, in order of the log
        self.count = 0  # unfinished
        self.held_bytes = 0

    @property
    def held_count(self) -> int:
        """Events whose content is here."""
        return len(self._held)

    def add(self, item: Item) -> bool:
        """Add an event that comes after all others of its shard, or one that was parked before; true if it
        is parked just now, since it waits behind one that is."""
        queues = [self._by_subject.setdefault(subject, deque()) for subject in item.subjects]
        blocked = any(queues)
        parked_now = not item.parked and any(queue[-1].parked for queue in queues if queue)
        for queue in queues:
            queue.append(item)
        self.count += 1
        if parked_now:
            item.parked, item.body = True, None
        elif item.body is not None:
            self._held[id(item)] = item
            self.held_bytes += len(item.body)
        if not blocked:
            self._free(item)
        return parked_now

    def take(self, now: int) -> Item | None:
        """The next event to be tried, if there is one. New ones and those that are tried again take turns."""
        due = bool(self._again) and self._again[0][0] <= now
        if self._fresh and not (due and self._was_fresh):
            self._was_fresh = True
            return self._fresh.popleft()
        self._was_fresh = False
        return heapq.heappop(self._again)[2] if due else None

    def next_due(self) -> int:
        """When `take` has something again, unless something changes before."""
        if self._fresh:
            return 0
        return self._again[0][0] if self._again else NEVER

    def finish(self, item: Item) -> None:
        """An event that was taken from the queue is delivered, or given up."""
        assert not item.finished
        item.finished = True
        self.count -= 1
        self._let_go(item)
        freed = []
        for subject in item.subjects:
            queue = self._by_subject[subject]
            assert queue[0] is item, "events of a subject go in order"
            queue.popleft()
            if queue:
                freed.append(queue[0])
            else:
                del self._by_subject[subject]
        for other in dict.fromkeys(freed):
            if all(self._by_subject[subject][0] is other for subject in other.subjects):
                self._free(other)

    def fail(self, item: Item, due: int) -> list[Item]:
        """An event that was taken from the queue is to be tried again at a time; returns what is parked by
        that."""
        item.attempts += 1
        item.due = due
        self._free(item)
        if item.parked:
            return []  # and so is everything behind it
        blocked: set[bytes] = set()
        parked: list[Item] = []
        for other in self._held.values():
            if other is item or not blocked.isdisjoint(other.subjects):
                blocked.update(other.subjects)
                parked.append(other)
        for other in parked:
            other.parked = True
            self._let_go(other)
        return parked

    def behind(self, cursor: Cursor) -> Cursor:
        """How far everything is finished or parked, for somebody who has read up to `cursor`."""
        first: dict[int, Position] = {}
        for item in self._held.values():
            first.setdefault(item.position.shard, item.position)
            if len(first) == len(cursor):
                break
        return tuple(
            _before(first[position.shard]) if position.shard in first else position for position in cursor
        )

    def _free(self, item: Item) -> None:
        """Nothing is before it."""
        if item.due or item.attempts:
            heapq.heappush(self._again, (item.due, next(self._order), item))
        else:
            self._fresh.append(item)

    def _let_go(self, item: Item) -> None:
        """Its content is needed no more."""
        if item.body is not None:
            del self._held[id(item)]
            self.held_bytes -= len(item.body)
            item.body = None


def _before(position: Position) -> Position:
    return Position(position.shard, position.lsn, position.place - 1)
