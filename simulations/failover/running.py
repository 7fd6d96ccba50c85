"""One run: a stage, clients, blows in random order, and the proof of the books."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from statistics import median
from typing import Final

import msgspec

from simulations.benchmarks.served import fresh_folder
from simulations.failover.blows import BLOWS, LIMITS_S
from simulations.failover.clients import Clients, Market
from simulations.failover.judging import judge
from simulations.failover.stage import Stage

CLIENTS: Final = 8
CALM_ANSWERS_MAX: Final = 40
"""Up to so many answers each client gets between two blows."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is done: how many blows of each kind, to a cluster of what size."""

    blows: Mapping[str, int]
    shards: int = 1
    accounts: int = 0  # idle ones
    keep_head: bool = False  # whether the head's tables survive it
    seed: int = 0


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """The longest that any client waited for an answer, around each blow of a kind, in seconds."""

    blow: str
    median_s: float
    longest_s: float
    limit_s: float | None  # that they should have stayed under
    each_s: list[float]

    @property
    def held(self) -> bool:
        """Whether nobody waited longer than they should."""
        return self.limit_s is None or self.longest_s <= self.limit_s


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run whose books are in order."""

    waits: list[Waits]
    transfers: int
    chains: int
    books: str  # their hash


def run_blows(options: Options, tell: Callable[[str], None]) -> Outcome:
    """Carry it out. Raises AssertionError or CommandFailed if the cluster or its books are not in order."""
    random = Random(options.seed)
    order = [name for name, count in options.blows.items() for _ in range(count)]
    random.shuffle(order)
    waits: dict[str, list[float]] = {}
    with fresh_folder() as folder:
        with Stage.opened(folder, options.shards, options.keep_head) as stage:
            market = Market(stage.urls[0], options.accounts)
            with writing(Clients(stage.urls, market, random.getrandbits(32), CLIENTS)) as clients:
                for number, name in enumerate(order, 1):
                    clients.calm(random.randrange(1, CALM_ANSWERS_MAX))
                    for what, waited_s in BLOWS[name](stage, clients, random).items():
                        waits.setdefault(what, []).append(waited_s)
                        tell(f"{number} of {len(order)}: {what}, waited {waited_s:.2f} s")
        books = judge(stage, clients)
    return Outcome(
        waits=[
            Waits(
                blow=what,
                median_s=median(each),
                longest_s=max(each),
                limit_s=LIMITS_S.get(what),
                each_s=each,
            )
            for what, each in sorted(waits.items())
        ],
        transfers=len(clients.transfers),
        chains=len(clients.chains),
        books=books,
    )


@contextmanager
def writing(clients: Clients) -> Iterator[Clients]:
    """Clients that are stopped at the end."""
    try:
        yield clients
    finally:
        clients.stop()
