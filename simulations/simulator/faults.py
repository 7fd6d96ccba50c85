"""What goes wrong in a run, and when: all of it follows from the seed.

A `Plan` says everything about a run. Faults are of two sorts. Those that may befall any statement or message
are drawn when it is sent, each sort from a stream of its own, so that leaving one out changes nothing about
the others' draws. Those that have a time of their own (`Incident`) are drawn beforehand.
"""

import random
from typing import Final

import msgspec

STATEMENT_FAULTS: Final = (
    "statement_slow",  # it takes long
    "statement_failed",  # the server refuses it; nothing of it is there
    "statement_lost",  # the session ends before it gets there
    "answer_lost",  # it is done, and the session ends before its client hears of it
    "session_haunts",  # the client loses the session, and the server goes on with the statement for a while
    "commit_warned",  # the server commits and warns that a standby may not have it
    "disk_full",
    "snapshot_damaged",  # a byte of a snapshot is not what was written
)
MESSAGE_FAULTS: Final = (
    "message_dropped",
    "message_doubled",
    "message_late",
    "message_astray",
    "message_echoed",
)
SORTS: Final = (*STATEMENT_FAULTS, *MESSAGE_FAULTS)
INCIDENTS: Final = (
    "crash",  # a shard's process is killed, and started again
    "freeze",  # it stands still while another takes its place, and then goes on
    "replace",  # another takes its place while it runs
    "restart_server",  # all sessions end
    "partition",  # a shard hears no other shard and no client
    "clock_back",  # the host's clock is set back
)
UPKEEP: Final = (
    "hand_over",  # a shard comes to rest, leaves a snapshot and ends; another takes its place
    "snapshot",  # a follower of the log stores one
)
ERA: Final = 2_000
"""For so many steps incidents are drawn at a time, so that a shorter run has the same ones."""


class Incident(msgspec.Struct, frozen=True):
    """Something that happens to a shard at a step, for a time."""

    step: int
    what: str
    shard: int
    length_s: float


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run: its seed and, in a shrunk one, what is left of it."""

    seed: int
    steps: int = 2_000
    shards: int = 0  # 0 = as the seed says
    clients: int = 0  # 0 = as the seed says
    without: tuple[str, ...] = ()  # sorts of faults and of commands that are left out
    only: tuple[int, ...] | None = None  # which of the incidents happen; None = all


class Faults:
    """The faults of one run. With `calm` nothing goes wrong any more."""

    def __init__(self, plan: Plan, shards: int) -> None:
        self.calm = False
        rng = random.Random(f"{plan.seed}/faults")
        self._streams = {sort: random.Random(f"{plan.seed}/{sort}") for sort in SORTS}
        self._rates = {sort: _rate(random.Random(f"{plan.seed}/rate of {sort}"), sort) for sort in SORTS}
        for sort in plan.without:
            self._rates[sort] = 0.0
        self.delays = random.Random(f"{plan.seed}/delays")
        self.network_s = rng.choice((0.0005, 0.002, 0.01))
        self.commit_s = rng.choice((0.0005, 0.003, 0.02))
        self.projection_s = rng.choice((0.01, 0.3, 3.0))
        drawn = [
            _incident(rng, first, shards)
            for first in range(0, plan.steps, ERA)
            for _ in range(rng.choice((0, 2, 5, 8)))
        ]
        upkeep = random.Random(f"{plan.seed}/upkeep")
        drawn += [
            _incident(upkeep, first, shards, UPKEEP)
            for first in range(0, plan.steps, ERA)
            for _ in range(upkeep.choice((0, 2, 6)))
        ]
        kept = range(len(drawn)) if plan.only is None else plan.only
        self.incidents = sorted(
            (drawn[at] for at in kept if drawn[at].what not in plan.without), key=lambda one: -one.step
        )
        self.incident_count = len(drawn)

    def strikes(self, sort: str) -> bool:
        """Whether a fault of this sort happens now."""
        struck = self._streams[sort].random() < self._rates[sort]
        return struck and not self.calm

    def delay(self, mean_s: float) -> float:
        """How long something takes; never nothing."""
        return mean_s * (0.2 + self.delays.expovariate(1.0))

    def long_delay(self) -> float:
        """The same for what takes long."""
        return 0.2 + self.delays.random() * 2.0


def _rate(rng: random.Random, sort: str) -> float:
    rates = (0.0, 0.0, 0.01, 0.05) if sort in STATEMENT_FAULTS else (0.0, 0.02, 0.1, 0.25)
    return rng.choice(rates)


def _incident(rng: random.Random, first: int, shards: int, sorts: tuple[str, ...] = INCIDENTS) -> Incident:
    step = first + rng.randrange(ERA // 20, ERA)
    return Incident(step, rng.choice(sorts), rng.randrange(shards), 0.1 + 3 * rng.random())
