"""What a shard knows of crossings: everything that its log says of them and that has not ended.

The tables change by facts only, the same live and in a replay. What a fact does to accounts and holds is done
here too, but for legs, which stand in the record by themselves.
"""

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine.crossing.messages import Name
from engine.facts import (
    AppliedFact,
    BegunFact,
    CrossingFact,
    DecidedFact,
    EndedFact,
    PreparedFact,
)
from engine.id_set import IdSet
from engine.layout import LEG_FACT, RESERVED, AccountFlag, LegFlag
from engine.ledger import NOTHING_RESERVED, Ledger
from engine.record import unpack_rows
from engine.rows import Rows, joined

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(
    tuple[
        list[tuple[int, BegunFact]],  # with the epoch
        list[PreparedFact],
        list[DecidedFact],
        list[tuple[int, tuple[int, int], list[tuple[int, int]]]],  # by home: low, and what was applied
        list[tuple[bytes, bytes]],  # open holds over shards, and the accounts elsewhere
    ]
)


class Tables:
    """Crossings by name. `begun` and `decided` are this shard's own, `prepared` are others'."""

    def __init__(self, shard: int, ledger: Ledger) -> None:
        self.shard = shard
        self.begun: dict[Name, BegunFact] = {}
        self.prepared: dict[Name, PreparedFact] = {}
        self.decided: dict[Name, DecidedFact] = {}  # until all have confirmed
        self.applied: dict[int, set[tuple[int, int]]] = {}  # by home: epoch and counter of what was confirmed
        self.low: dict[int, tuple[int, int]] = {}  # by home: everything before has ended
        self.unanswered = IdSet(ledger.config.hash_seed)  # ids of legs and requests whose crossing goes on
        self.elsewhere: dict[bytes, bytes] = {}  # open hold that is at home here → its account elsewhere
        self._ledger = ledger

    @property
    def reserved(self) -> Rows:
        """Everything that is set aside (RESERVED)."""
        facts: list[BegunFact | PreparedFact] = [*self.begun.values(), *self.prepared.values()]
        return joined([needs_of(fact) for fact in facts], RESERVED) if facts else NOTHING_RESERVED

    def is_done(self, name: Name) -> bool:
        """Whether another shard's crossing was applied here, or has ended long ago."""
        key = (name.epoch, name.counter)
        return key < self.low.get(name.home, (0, 0)) or key in self.applied.get(name.home, ())

    def lowest(self, present: tuple[int, int]) -> tuple[int, int]:
        """Epoch and counter: everything this shard began before has ended. `present` are those of what it
        would begin next."""
        open_ = [(name.epoch, name.counter) for table in (self.begun, self.decided) for name in table]
        return min(open_, default=present)

    # Facts

    def replay(self, fact: CrossingFact, epoch: int) -> None:
        """Apply what happened, in a record of that epoch."""
        if isinstance(fact, BegunFact | PreparedFact):
            self._ledger.take_reserved(needs_of(fact))
            self._ledger.lock_holds(ids_of(fact.locked))
        self.note(fact, epoch)

    def note(self, fact: CrossingFact, epoch: int) -> None:
        """The same live: what it sets aside is set aside already."""
        match fact:
            case BegunFact():
                self.begun[Name(self.shard, epoch, fact.counter)] = fact
            case PreparedFact():
                self.prepared[Name(fact.home, fact.epoch, fact.counter)] = fact
            case DecidedFact():
                name = Name(self.shard, fact.epoch, fact.counter)
                self._give_up(self.begun.pop(name, None))
                if fact.peers:
                    self.decided[name] = fact
                    self.unanswered.add(ids_of(fact.ids))
            case AppliedFact():
                self._apply(fact)
            case EndedFact():
                ended = self.decided.pop(Name(self.shard, fact.epoch, fact.counter))
                self.unanswered.discard(ids_of(ended.ids))

    def note_legs(self, facts: Rows) -> None:
        """Keep in mind which open holds have their other account elsewhere; `facts` are LEG_FACTs."""
        flags = facts["flags"]
        crossing = (flags & _HOLD_ELSEWHERE) == _CROSSING_HOLD
        for fact in facts[crossing]:
            self.elsewhere[_id(fact, "id")] = _id(fact, "pending")
        if not self.elsewhere:
            return
        for fact in facts[settlements_elsewhere(facts, self._ledger)]:
            if not fact["flags"] & LegFlag.KEEP_OPEN or fact["amount"] == fact["held"]:
                self.elsewhere.pop(_id(fact, "pending"), None)

    def _apply(self, fact: AppliedFact) -> None:
        self._give_up(self.prepared.pop(Name(fact.home, fact.epoch, fact.counter), None))
        applied = self.applied.setdefault(fact.home, set())
        if fact.confirmed:
            applied.add((fact.epoch, fact.counter))
        if fact.low > self.low.get(fact.home, (0, 0)):
            self.low[fact.home] = low = fact.low
            applied.difference_update([key for key in applied if key < low])

    def _give_up(self, fact: BegunFact | PreparedFact | None) -> None:
        if fact is not None:
            self._ledger.release_reserved(needs_of(fact))
            self._ledger.unlock_holds(ids_of(fact.locked))

    # State

    def state(self) -> npt.NDArray[np.uint8]:
        """Everything, as bytes, equal for equal histories."""
        content = (
            [(name.epoch, fact) for name, fact in self.begun.items()],
            list(self.prepared.values()),
            list(self.decided.values()),
            [
                (home, self.low.get(home, (0, 0)), sorted(applied))
                for home, applied in sorted(self.applied.items())
            ],
            list(self.elsewhere.items()),
        )
        return np.frombuffer(_encoder.encode(content), np.uint8).copy()

    def restore(self, state: npt.NDArray[np.uint8]) -> None:
        """Take the place of earlier tables; the ledger has been restored by itself."""
        begun, prepared, decided, applied, elsewhere = _decoder.decode(state.tobytes())
        self.begun = {Name(self.shard, epoch, fact.counter): fact for epoch, fact in begun}
        self.prepared = {Name(fact.home, fact.epoch, fact.counter): fact for fact in prepared}
        self.decided = {Name(self.shard, fact.epoch, fact.counter): fact for fact in decided}
        self.applied = {home: set(names) for home, _, names in applied}
        self.low = {home: low for home, low, _ in applied if low != (0, 0)}
        self.unanswered.clear()
        for fact in decided:
            self.unanswered.add(ids_of(fact.ids))
        self.elsewhere = dict(elsewhere)


_CROSSING_HOLD: Final = int(LegFlag.PENDING | LegFlag.CROSSING)
_HOLD_ELSEWHERE: Final = _CROSSING_HOLD | int(LegFlag.PART)
_SETTLING: Final = int(LegFlag.POST_PENDING | LegFlag.VOID_PENDING | LegFlag.EXPIRY)


def settlements_elsewhere(facts: Rows, ledger: Ledger) -> npt.NDArray[np.bool_]:
    """Which of the LEG_FACTs resolve a hold, or a part of one, whose other side is on another shard."""
    settling: npt.NDArray[np.bool_] = (facts["flags"] & _SETTLING) != 0
    where = np.flatnonzero(settling)
    if len(where):
        flags = ledger.accounts["flags"]
        sides = flags[facts["debit"][where]] | flags[facts["credit"][where]]
        settling[where] = (sides & AccountFlag.PAIR) != 0
    return settling


def needs_of(fact: BegunFact | PreparedFact) -> Rows:
    """What a crossing has set aside (RESERVED)."""
    if fact.needs:
        return unpack_rows(fact.needs, RESERVED)
    return np.frombuffer(fact.reserved, RESERVED)


def legs_of(packed: bytes) -> Rows:
    """LEG_FACTs from a fact."""
    return unpack_rows(packed, LEG_FACT)


def ids_of(raw: bytes) -> npt.NDArray[np.uint64]:
    """Ids that stand one after the other, as a column."""
    return np.frombuffer(raw, ">u8").astype(np.uint64).reshape(-1, 2)


def bytes_of(ids: npt.NDArray[np.uint64]) -> bytes:
    """The inverse of `ids_of`."""
    return ids.astype(">u8").tobytes()


def _id(fact: np.void, name: str) -> bytes:
    return int(fact[f"{name}_hi"]).to_bytes(8, "big") + int(fact[f"{name}_lo"]).to_bytes(8, "big")
