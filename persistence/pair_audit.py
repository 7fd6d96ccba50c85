"""The audit of what shards owe each other.

For an account on another shard a pair account stands in a shard's books, so each log balances by itself, and
what the two pair accounts of two shards have together is what was decided and is not done on both yet. Here
that is proved crossing by crossing: whatever a crossing gives a pair account on one shard, it takes from that
on the other, and nothing but crossings gives or takes.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine.crossing.tables import legs_of
from engine.facts import AppliedFact, DecidedFact
from engine.layout import AccountFlag, LegFlag
from engine.record import Record

_RELEASE: Final = int(LegFlag.VOID_PENDING | LegFlag.EXPIRY)
_POST: Final = int(LegFlag.POST_PENDING)

Name = tuple[int, int, int]
"""Of a crossing: home, epoch and counter."""
Place = tuple[int, int]
"""Of a pair account: the other shard, and the asset."""
Sum = tuple[int, int]
"""Credits less debits, pending and posted."""


class PairLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a crossing gave the account of one shard that stands for another: credits less debits."""

    home: int
    epoch: int
    counter: int
    other: int
    asset: int
    pending: int
    posted: int

    @property
    def name(self) -> Name:
        """The crossing's."""
        return self.home, self.epoch, self.counter


class PairBook:
    """What crossings did to the pair accounts of one shard, from its log."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self._crossings: dict[tuple[Name, Place], Sum] = {}
        self._places: dict[int, Place] = {}  # by account
        self._accounts = 0

    def add(self, record: Record) -> None:
        """The next record."""
        pairs = np.flatnonzero(record.accounts["flags"] & int(AccountFlag.PAIR))
        for row in pairs.tolist():
            other = int(record.keys[row].removeprefix("C:"))
            self._places[self._accounts + row] = other, int(record.accounts["asset"][row])
        self._accounts += len(record.accounts)
        # What holds came to, elsewhere too, is told by crossings of its own.
        settled = {
            (self.shard, event.epoch, event.counter): [legs_of(part) for part in event.settled if part]
            for event in record.events
            if isinstance(event, DecidedFact)
        }
        told = [part["timestamp"] for parts in settled.values() for part in parts]
        for event in record.events:
            if isinstance(event, AppliedFact | DecidedFact):
                home = event.home if isinstance(event, AppliedFact) else self.shard
                legs = record.legs[event.leg_first : event.leg_first + event.leg_count]
                if told:
                    legs = legs[~np.isin(legs["timestamp"], np.concatenate(told))]
                self._note((home, event.epoch, event.counter), legs)
        for name, parts in settled.items():
            for part in parts:
                self._note(name, part)

    def faults(self, counters: npt.NDArray[np.int64]) -> Iterator[str]:
        """What pair accounts have, (n, 4) counters by account, that crossings do not explain."""
        sums: defaultdict[Place, Sum] = defaultdict(lambda: (0, 0))
        for (_, place), (pending, posted) in self._crossings.items():
            sums[place] = sums[place][0] + pending, sums[place][1] + posted
        for account, place in self._places.items():
            debits_pending, debits_posted, credits_pending, credits_posted = counters[account].tolist()
            if sums[place] != (credits_pending - debits_pending, credits_posted - debits_posted):
                yield f"account {account} has not what crossings with shard {place[0]} gave it"

    def lines(self) -> list[PairLine]:
        """All of it."""
        return [PairLine(*name, *place, *sum_) for (name, place), sum_ in self._crossings.items()]

    def _note(self, name: Name, legs: npt.NDArray[Any]) -> None:
        if not len(legs):
            return
        flags, amount = legs["flags"], legs["amount"]
        held = np.where(flags & int(LegFlag.KEEP_OPEN), amount, legs["held"])
        pending = np.where(flags & int(LegFlag.PENDING), amount, 0)
        pending = np.where(flags & (_RELEASE | _POST), -held, pending)
        posted = np.where(flags & (_RELEASE | int(LegFlag.PENDING)), 0, amount)
        for side, sign in (("debit", -1), ("credit", 1)):
            rows, inverse = np.unique(legs[side], return_inverse=True)
            for at, account in enumerate(rows.tolist()):
                place = self._places.get(account)
                if place is None:
                    continue
                mine = inverse == at
                before = self._crossings.get((name, place), (0, 0))
                self._crossings[name, place] = (
                    before[0] + sign * int(pending[mine].sum()),
                    before[1] + sign * int(posted[mine].sum()),
                )


def pair_faults(shards: Sequence[Sequence[PairLine]]) -> Iterator[str]:
    """Crossings that did one thing on one shard and another on the other, from the lines of all shards in
    order. Those that are done on one only are on their way."""
    known = [{(line.name, line.other, line.asset): line for line in lines} for lines in shards]
    for shard, lines in enumerate(shards):
        for line in lines:
            found = known[line.other].get((line.name, shard, line.asset)) if line.other > shard else None
            if found is not None and (found.pending, found.posted) != (-line.pending, -line.posted):
                yield (
                    f"crossing {line.name} gave shard {shard} {line.pending} pending, {line.posted} posted "
                    f"of asset {line.asset}, and shard {line.other} {found.pending} and {found.posted}"
                )


def on_their_way(shards: Sequence[Sequence[PairLine]]) -> int:
    """How many crossings are done on one shard of a pair, and not on the other."""
    known = [{(line.name, line.other, line.asset) for line in lines} for lines in shards]
    return sum(
        (line.name, shard, line.asset) not in known[line.other]
        for shard, lines in enumerate(shards)
        for line in lines
    )
