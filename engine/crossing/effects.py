"""What a turn has to write down and to send for its crossings, gathered while it goes on."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from engine.crossing.messages import Frame, empty_frame
from engine.facts import Event
from engine.rows import Rows


class Finished(NamedTuple):
    """Chains that somebody waits for have come to their end, everywhere."""

    claim: Any  # as it was given
    status: npt.NDArray[np.uint8]  # by leg
    timestamp: npt.NDArray[np.int64]
    missing: int  # a Party that there is not, 0 = none


class Words(Protocol):
    """Takes note of on whose word facts came; "" is the engine itself."""

    def legs(self, principal: str, count: int) -> None:
        """The next facts about legs."""

    def events(self, principal: str, count: int) -> None:
        """The next events."""


class Effects:
    """Facts for the log, frames for other shards, and what has come to its end. The first four lists and
    `words` are the turn's own."""

    def __init__(
        self,
        shard: int,
        accounts: list[Rows],
        keys: list[str],
        legs: list[Rows],
        events: list[Event],
        words: Words,
    ) -> None:
        self.accounts = accounts
        self.keys = keys
        self.legs = legs
        self.decided: list[Finished] = []  # requests that happen, while others have still to do their part
        self.finished: list[Finished] = []
        self.ended: list[Any] = []  # claims on settlements that all shards have by now
        self.at_once: dict[int, Frame] = {}  # by shard
        self.once_durable: dict[int, Frame] = {}  # by shard; not before the turn's record is
        self.leg_count = 0  # how many legs were added here
        self._events = events
        self._words = words
        self._shard = shard

    def now(self, shard: int) -> Frame:
        """What is told to a shard at once."""
        return self.at_once.setdefault(shard, empty_frame(self._shard))

    def later(self, shard: int) -> Frame:
        """What is told to a shard when the turn is durable."""
        return self.once_durable.setdefault(shard, empty_frame(self._shard))

    def add_legs(self, facts: Rows, runs: Iterable[tuple[str, int]]) -> int:
        """Take facts for the log, so many in a row on somebody's word; returns their place among the record's
        legs."""
        place = sum(len(part) for part in self.legs)
        self.legs.append(facts)
        self.leg_count += len(facts)
        for principal, count in runs:
            self._words.legs(principal, count)
        return place

    def add_event(self, event: Event) -> None:
        """Take an event for the log."""
        self._events.append(event)
        self._words.events("", 1)
