"""What shards say to each other about crossings. Everything for one shard goes out in one frame a turn."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.directory import ThingRow
from engine.layout import LegColumns, OpenColumns


class Name(NamedTuple):
    """A crossing: unique for ever."""

    home: int
    epoch: int  # of the home
    counter: int


class Prepare(NamedTuple):
    """Judge these legs, and set aside what they need. Chain k has the legs `offsets[k]` to `offsets[k + 1]`;
    both accounts are named as clients name them, wherever they are."""

    name: Name
    legs: LegColumns
    offsets: npt.NDArray[np.int64]
    opens: OpenColumns  # accounts to open, if they are not there, before the legs of their chain
    keys: list[str]  # of these accounts
    parties: list[int]  # that must exist …
    party_chains: list[int]  # … for these chains
    principals: list[str]  # on whose word, by chain, or one for all


class Vote(NamedTuple):
    """What became of it, by leg, once it is durable."""

    name: Name
    status: npt.NDArray[np.uint8]
    missing: list[int]  # places of Parties that are not there


class Decide(NamedTuple):
    """What to do now. Chains that are not kept, and all where `kept` is empty, come to nothing."""

    name: Name
    kept: npt.NDArray[np.uint8]
    confirm: bool  # the home waits for `Applied`
    burnt: npt.NDArray[np.uint64]  # (n, 2): ids that failed
    settled: LegColumns  # posts, voids, expiries: `pending_id` is the hold at home, `timestamp` what it held
    low: tuple[int, int]  # epoch and counter: whatever the home began before that has ended


class Applied(NamedTuple):
    """It is done, and durable. `first` is the stamp of the first of the crossing's legs here, 0 = none."""

    name: Name
    first: int


class Ask(NamedTuple):
    """What became of it?"""

    name: Name


class AskThings(NamedTuple):
    """Which Things are there after the first `known`? Questions are numbered."""

    number: int
    known: int


class Things(NamedTuple):
    """The answer: the Things after the first `known`, durable, and all that there were."""

    number: int
    known: int
    things: list[ThingRow]


class Frame(NamedTuple):
    """Everything that one shard has to say to another at one time."""

    sender: int
    prepares: list[Prepare]
    votes: list[Vote]
    decisions: list[Decide]
    confirmations: list[Applied]
    questions: list[Ask]
    asked_things: list[AskThings]
    things: list[Things]

    @property
    def weight(self) -> int:
        """About how many legs it makes a turn look at."""
        legs = sum(len(one.legs.amount) for one in self.prepares)
        legs += sum(len(one.status) for one in self.votes)
        legs += sum(len(one.kept) + len(one.settled.amount) for one in self.decisions)
        return 1 + legs + len(self.confirmations) + len(self.questions)


def empty_frame(sender: int) -> Frame:
    """A frame to be filled."""
    return Frame(sender, [], [], [], [], [], [], [])
