"""The order in which events are delivered, against a slow model that looks at everything each time."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.events.positions import Position
from gateway.webhooks.queue import NEVER, DeliveryQueue, Item

SUBJECTS = st.lists(st.sampled_from([bytes([number]) * 16 for number in range(5)]), min_size=1, max_size=3)


class Deliveries(RuleBasedStateMachine):
    """Events come, are tried, taken, and fail."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = DeliveryQueue()
        self.read = [0, 0]  # by shard
        self.all: list[Item] = []  # unfinished, in order
        self.taken: list[Item] = []
        self.parked: set[Position] = set()
        self.now = 1

    def blocked(self, item: Item) -> bool:
        before = self.all[: self.all.index(item)]
        return any(not set(item.subjects).isdisjoint(other.subjects) for other in before)

    @rule(subjects=SUBJECTS, shard=st.integers(0, 1), parked=st.booleans())
    def comes(self, subjects: list[bytes], shard: int, parked: bool) -> None:
        self.read[shard] += 1
        position = Position(shard, self.read[shard], 1)
        was_parked = parked and len(self.all) == len(self.parked)  # as when a courier begins
        item = Item(position, tuple(subjects), "leg.posted", None if was_parked else b"{}")
        self.all.append(item)
        if self.queue.add(item) or was_parked:
            self.parked.add(position)

    @rule()
    def is_tried(self) -> None:
        free = {item.position: item for item in self.all if item not in self.taken and not self.blocked(item)}
        ready = {position for position, item in free.items() if item.due <= self.now}
        item = self.queue.take(self.now)
        if item is None:
            assert not ready
            return
        assert item.position in ready
        self.taken.append(item)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def is_delivered(self, data: Any) -> None:
        item = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.queue.finish(item)
        self.all.remove(item)
        self.parked.discard(item.position)

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), pause=st.integers(0, 3))
    def fails(self, data: Any, pause: int) -> None:
        item = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        parked = self.queue.fail(item, self.now + pause)
        assert self.parked.isdisjoint(other.position for other in parked)
        self.parked |= {other.position for other in parked}
        assert item.position in self.parked

    @rule()
    def time_passes(self) -> None:
        self.now += 1

    @invariant()
    def what_waits_behind_what_is_parked_is_parked(self) -> None:
        blocked: set[bytes] = set()
        for item in self.all:
            behind = item not in self.taken and not blocked.isdisjoint(item.subjects)
            assert item.parked == (item.position in self.parked)
            assert item.parked or not behind
            assert item.parked == (item.body is None)
            if item.parked:
                blocked.update(item.subjects)

    @invariant()
    def counts_are_right(self) -> None:
        held = [item for item in self.all if not item.parked]
        assert self.queue.count == len(self.all)
        assert (self.queue.held_count, self.queue.held_bytes) == (len(held), 2 * len(held))

    @invariant()
    def the_cursor_passes_what_is_finished_or_parked(self) -> None:
        cursor = tuple(Position.before_record(shard, lsn + 1) for shard, lsn in enumerate(self.read))
        for shard, position in enumerate(self.queue.behind(cursor)):
            held = [item.position for item in self.all if not item.parked and item.position.shard == shard]
            assert position == (Position(shard, held[0].lsn, 0) if held else cursor[shard])

    @invariant()
    def it_knows_when_there_is_more(self) -> None:
        free = [item for item in self.all if item not in self.taken and not self.blocked(item)]
        assert self.queue.next_due() == min(
            (item.due if item.attempts else 0 for item in free), default=NEVER
        )


Deliveries.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDeliveries = Deliveries.TestCase


def test_those_that_failed_and_new_ones_take_turns() -> None:
    queue = DeliveryQueue()
    for number in range(1, 5):
        queue.add(Item(Position(0, number, 1), (bytes([number]) * 16,), "leg.posted", b"{}"))
    for item in [queue.take(1), queue.take(1)]:
        assert item is not None
        queue.fail(item, 1)
    order = []
    while (item := queue.take(1)) is not None:
        order.append(item.position.lsn)
    assert order == [1, 3, 2, 4]
