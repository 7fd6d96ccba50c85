"""Several shards in one process, without a database: the real turns on the real state, each with a log in
memory, and between them a network that a test makes as bad as it likes.

A `World` does one step at a time and draws which from its seed: a turn of some shard, a commit of what some
shard has written, a message that arrives, or is lost, or arrives twice, or the death of a shard, which comes
back with what its log has. `close` proves what must hold in the end.
"""

import asyncio
from collections import deque
from random import Random
from typing import Any, Final, NamedTuple

import numpy as np

from actors.commit import Reply
from actors.errors import ShardStopped
from actors.mailbox import Letter
from actors.sharded_turn import ShardedTurn
from actors.unfinished import Unfinished
from engine.crossing.machine import PATIENCE_NS
from engine.crossing.messages import Frame
from engine.ledger import LedgerConfig, LoadedLegs
from engine.moves import LoadedRequests, UnknownRequests
from engine.placement import Placement
from engine.record import chain_hash, decode, encode
from engine.shard_state import ShardState
from persistence.pair_audit import PairBook, on_their_way, pair_faults
from tests.fixtures_engine import same

TENANT: Final = "t"
START: Final = 1_700_000_000_000_000_000
CONFIG: Final = LedgerConfig(
    ids_per_generation=1 << 14, turn_events_max=1 << 12, accounts_initial=64, holds_initial=64, hash_seed=1
)
STEPS_MAX: Final = 20_000
REST_MAX: Final = 500
"""A world that is left alone comes to rest in far fewer."""


class Faults(NamedTuple):
    """How likely it is that a message is lost or doubled, and that a step is the death of a shard."""

    lost: float = 0.0
    doubled: float = 0.0
    deaths: float = 0.0


NO_FAULTS: Final = Faults()


class _Nothing:
    """Ids here are new, and none is ever forgotten."""

    async def find_legs(self, ids: Any) -> LoadedLegs:
        raise AssertionError(f"{len(ids)} ids are not known to be new")

    async def find_requests(self, unknown: UnknownRequests) -> LoadedRequests:
        raise AssertionError(f"{unknown} are not known to be new")


class _Written(NamedTuple):
    """What may be said once the log is durable up to a length."""

    length: int
    replies: list[Reply]
    frames: dict[int, Frame]


class Node:
    """One shard, as it is between two deaths, and its log, which stays."""

    def __init__(self, index: int, placement: Placement) -> None:
        self.index = index
        self.placement = placement
        self.log: list[bytes] = []
        self.durable = 0  # records of the log that are
        self.open()

    def open(self) -> None:
        """Begin with what the log has, as its next owner."""
        self.state = ShardState(TENANT, CONFIG, self.placement, self.index)
        for payload in self.log:
            self.state.replay(decode(payload))
        self.state.chain = chain_hash(self.log[-1]) if self.log else self.state.chain
        self.epoch = self.state.epoch + 1
        opening = self.state.opening_record(self.index, self.epoch, max(START, self.state.time))
        self.write(opening)
        self.durable = len(self.log)
        self.unfinished = Unfinished()
        self.letters: list[Letter] = []
        self.taken: list[Letter] = []
        self.frames: deque[Frame] = deque()
        self.written: deque[_Written] = deque()

    def write(self, record: Any) -> None:
        """Put a record into the log."""
        payload = encode(record)
        self.log.append(payload)
        self.state.advance(record, chain_hash(payload))

    async def turn(self, now: int, sweep: bool) -> dict[int, Frame]:
        """Take everything that waits; what other shards may be told at once."""
        letters, self.letters = self.letters, []
        frames, self.frames = list(self.frames), deque()
        self.taken = [letter for letter in self.taken if not letter.answer.done()] + letters
        self.state.begin_turn()
        turn = ShardedTurn(self.state, _Nothing(), now, letters, frames, self.unfinished, self.epoch)
        if sweep:
            turn.sweep()
        await turn.run()
        self.frames.extendleft(reversed(turn.unheard))
        record = turn.record(self.index, self.epoch)
        if record is not None:
            self.write(record)
        self.state.ledger.check(self.state.reserved)
        self.written.append(_Written(len(self.log), turn.replies(self.state.lsn), turn.once_durable))
        return turn.at_once

    def commit(self, records: int) -> list[dict[int, Frame]]:
        """Make some records durable; what others may be told by that."""
        self.durable = min(self.durable + records, len(self.log))
        told = []
        while self.written and self.written[0].length <= self.durable:
            written = self.written.popleft()
            for reply in written.replies:
                reply.give()
            told.append(written.frames)
        return told

    def die(self, kept: int) -> None:
        """Lose everything but the log, of which so many records beyond the durable ones were on disk."""
        self.log = self.log[: self.durable + kept]
        for letter in (*self.taken, *self.letters):
            if not letter.answer.done():
                letter.answer.set_exception(ShardStopped(self.index, "it died"))
        self.open()


class World:
    """Shards, and what is on its way between them."""

    def __init__(self, shards: int, seed: int) -> None:
        self.random = Random(seed)
        self.placement = Placement.even(shards)
        self.nodes = [Node(index, self.placement) for index in range(shards)]
        self.now = START
        self.faults = NO_FAULTS
        self.wire: list[tuple[int, Frame]] = []
        self.deaths = 0

    def send(self, shard: int, message: Any) -> asyncio.Future[Any]:
        """Leave a message; the future is its durable answer."""
        answer = asyncio.get_running_loop().create_future()
        self.nodes[shard].letters.append(Letter(message, answer, message.weight))
        return answer

    async def answer(self, shard: int, message: Any) -> Any:
        """The answer to a message; raises ShardStopped if the shard died before it gave one."""
        future = self.send(shard, message)
        for _ in range(STEPS_MAX):
            if future.done():
                return future.result()
            await self.step()
        raise AssertionError("no answer")

    async def step(self) -> None:
        """Let something happen."""
        random = self.random
        self.now += random.choice((1, 1_000, 1_000_000))
        if random.random() < self.faults.deaths:
            node = random.choice(self.nodes)
            node.die(random.randint(0, len(node.log) - node.durable))
            self.deaths += 1
        kind = random.random()
        if kind < 0.4 and self.wire:
            self._deliver()
        elif kind < 0.7:
            node = random.choice(self.nodes)
            if node.letters or node.frames or random.random() < 0.2:
                self._tell(await node.turn(self.now, random.random() < 0.3))
        else:
            node = random.choice(self.nodes)
            for frames in node.commit(random.randint(1, 3)):
                self._tell(frames)
        if not self.wire and random.random() < 0.02:
            self.now += PATIENCE_NS

    async def rest(self, sweep: bool = False) -> None:
        """Let everything come to its end, without faults."""
        self.faults = NO_FAULTS
        for _ in range(REST_MAX):
            for node in self.nodes:
                self._tell(await node.turn(self.now, sweep))
                for frames in node.commit(len(node.log)):
                    self._tell(frames)
            while self.wire:
                self._deliver()
            if self.is_at_rest:
                return
            self.now += PATIENCE_NS // 4
        raise AssertionError("it does not come to its end")

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is on its way, and nobody waits."""
        return not self.wire and all(
            not (
                node.letters
                or node.frames
                or node.written
                or node.unfinished.answers
                or node.unfinished.parked
            )
            and node.state.crossings is not None
            and node.state.crossings.idle
            for node in self.nodes
        )

    async def close(self) -> None:
        """Prove what must hold: logs tell the states, books are in order, pairs of shards owe nothing."""
        await self.rest()
        books = []
        for node in self.nodes:
            again = ShardState(TENANT, CONFIG, self.placement, node.index)
            book = PairBook(node.index)
            for payload in node.log:
                again.replay(decode(payload))
                book.add(decode(payload))
            same(node.state.state(), again.state())
            restored = ShardState(TENANT, CONFIG, self.placement, node.index)
            restored.restore(node.state.state())
            same(node.state.state(), restored.state())
            assert not len(node.state.reserved)
            accounts = node.state.ledger.accounts
            names = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
            counters = np.stack([accounts[name] for name in names], axis=1)
            assert list(book.faults(counters)) == []
            books.append(book.lines())
        assert list(pair_faults(books)) == []
        assert on_their_way(books) == 0

    def _tell(self, frames: dict[int, Frame]) -> None:
        for shard, frame in frames.items():
            if self.random.random() >= self.faults.lost:
                self.wire.append((shard, frame))
            if self.random.random() < self.faults.doubled:
                self.wire.append((shard, frame))

    def _deliver(self) -> None:
        shard, frame = self.wire.pop(self.random.randrange(len(self.wire)))
        self.nodes[shard].frames.append(frame)
