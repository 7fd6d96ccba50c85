"""The state machine of one shard's crossings: messages and chains in, facts and messages out.

Live, a turn calls it: first with what other shards have said, then to look again at what waits, at last with
the chains that it has for several shards. What has to be judged comes in two steps, so that the turn can ask
PostgreSQL in between for ids that memory has forgotten. In a replay only the tables change, by the facts that
were made.
"""

from typing import Any, Final

import numpy as np

from engine.crossing.common import Bits, Common, Ids, column_of
from engine.crossing.effects import Effects
from engine.crossing.home import HomeSide
from engine.crossing.messages import Frame
from engine.crossing.peer import PeerSide
from engine.crossing.tables import Tables
from engine.directory import Directory
from engine.facts import CrossingFact
from engine.layout import LegColumns
from engine.ledger import Ledger
from engine.placement import Placement
from engine.rows import Rows

PATIENCE_NS: Final = 500_000_000
"""After how long without an answer something is said again."""


class Crossings:
    """The crossings of shard `shard`: those that it is the home of, and its part in others'."""

    def __init__(
        self, tenant: str, placement: Placement, shard: int, ledger: Ledger, directory: Directory
    ) -> None:
        self._common = Common(tenant, placement, shard, ledger, directory)
        self.home = HomeSide(self._common)
        self.peer = PeerSide(self._common)

    @property
    def tables(self) -> Tables:
        """What the log says of them."""
        return self._common.tables

    @property
    def epoch(self) -> int:
        """Of the present owner, as far as it has taken over; 0 = there is none, this is a replay."""
        return self._common.epoch

    @property
    def idle(self) -> bool:
        """Whether everything has come to its end."""
        tables = self.tables
        return not (tables.begun or tables.prepared or tables.decided)

    def is_unanswered(self, request: int) -> bool:
        """Whether a request is decided, and not all shards have done their part."""
        return self.tables.unanswered.which(column_of(request)) is not None

    def are_in_doubt(self, ids: Ids) -> Bits | None:
        """Which of the ids a crossing is going to use, or has used without having come to its end; None =
        none of them."""
        return self._common.in_doubt(ids)

    def inheriting(self, legs: LegColumns) -> LegColumns:
        """Legs whose posts and voids do not name what their hold, here, has on another shard."""
        return self._common.inheriting(legs)

    def begin_epoch(self, epoch: int, effects: Effects) -> None:
        """Take over: what earlier owners began and did not decide is aborted for ever; what they decided is
        told again, and what is in doubt is asked for, with the next look."""
        self._common.epoch = epoch
        self.home.begin_epoch(effects)
        self.peer.begin_epoch()

    def look_again(self, effects: Effects, now: int) -> None:
        """Say again what had no answer for a while, and give up what has waited too long."""
        self.home.look_again(effects, now, PATIENCE_NS)
        self.peer.ask(effects, now, PATIENCE_NS)

    def legs_in(self, frame: Frame) -> int:
        """How many legs a frame makes this shard look at, or makes happen, at most."""
        return (
            sum(len(prepare.legs.amount) for prepare in frame.prepares)
            + sum(self.home.legs_of(vote.name) for vote in frame.votes)
            + sum(self.peer.legs_of(decide.name) + len(decide.settled.amount) for decide in frame.decisions)
        )

    def hear(self, frame: Frame, effects: Effects, now: int) -> None:
        """What another shard has to say, but for what has to be judged (`prepares`)."""
        sender = frame.sender
        for vote in frame.votes:
            self.home.on_vote(sender, vote, effects, now)
        for decide in frame.decisions:
            legs = self.peer.on_decision(sender, decide, effects, now)
            if legs is not None:
                self.cascade(legs, [], [], effects, now)
        for applied in frame.confirmations:
            self.home.on_confirmation(sender, applied, effects)
        for ask in frame.questions:
            self.home.on_question(sender, ask, effects)

    def cascade(
        self, facts: Rows, requests: list[int], claims: list[Any], effects: Effects, now: int
    ) -> Bits:
        """Tell the other sides of holds what legs that have just happened made of them: which legs did. Who
        claims them waits until it is done there."""
        return self.home.cascade(facts, requests, claims, effects, now)

    def note_legs(self, facts: Rows) -> None:
        """Legs have happened, here alone."""
        self.tables.note_legs(facts)

    def replay(self, fact: CrossingFact, epoch: int) -> None:
        """Apply what happened, in a record of that epoch."""
        self.tables.replay(fact, epoch)

    def state(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Everything that the log determines, as bytes."""
        return self.tables.state()

    def restore(self, state: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Take the place of earlier ones."""
        self.tables.restore(state)
