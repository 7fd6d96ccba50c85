"""200,000 random legs: what the kernel answers in blocks is what the reference model answers one by one.

Lives of small ledgers, a few thousand legs each, are driven by seeds: some that are committed, and fresh ones
from the seed in the header of the test run on. A failure prints the seed of its life; add it to `COMMITTED`.
`python -m tests.contract.test_bulk_equivalence [LEGS]` prints how often each result comes up.
"""

import sys
from collections import Counter
from random import Random
from typing import Final

import pytest

from engine.ledger import LedgerConfig
from engine.results import ACCOUNT_PRECEDENCE, LEG_PRECEDENCE, Result
from tests.contract.ledger_pair import LedgerPair
from tests.contract.leg_workload import PROFILES, Workload

LEGS_MIN: Final = 200_000
BLOCKS: Final = 50  # of one life
LEGS_OF_BLOCK: Final = 150
LEGS_OF_BATCH: Final = 30
TINY: Final = LedgerConfig(
    ids_per_generation=256, turn_events_max=4096, accounts_initial=8, holds_initial=8, hash_seed=7
)
"""In one life every table has to grow, and the id window to turn, many times."""
COMMITTED: Final = tuple(range(16))
"""Seeds whose lives together meet every result, four of each profile, and those that once found something."""
NOT_WITH_ONE_SHARD: Final = {Result.ID_IN_WRONG_BUCKET}


class Tally:
    """How often each result came up."""

    def __init__(self) -> None:
        self.of_legs: Counter[Result] = Counter()
        self.of_accounts: Counter[Result] = Counter()

    @property
    def legs(self) -> int:
        """How many legs there were."""
        return self.of_legs.total()

    def live(self, seed: int) -> None:
        """Lives one ledger's life, and counts."""
        print(f"seed {seed}")
        pair = live(seed)
        self.of_legs.update(pair.leg_results)
        self.of_accounts.update(pair.account_results)

    def missing(self) -> list[str]:
        """The results that never came up."""
        legs = set(LEG_PRECEDENCE) - NOT_WITH_ONE_SHARD - self.of_legs.keys()
        accounts = set(ACCOUNT_PRECEDENCE) - NOT_WITH_ONE_SHARD - self.of_accounts.keys()
        return [f"leg {r.slug}" for r in sorted(legs)] + [f"account {r.slug}" for r in sorted(accounts)]


def live(seed: int) -> LedgerPair:
    """One ledger's life. Everything in it follows from the seed."""
    random = Random(seed)
    pair = LedgerPair(TINY)
    workload = Workload(random, pair.reference, PROFILES[seed % len(PROFILES)])
    pair.create_accounts([workload.first_accounts()], workload.now)
    for _ in range(BLOCKS):  # a turn has one of these, or a few
        workload.let_time_pass()
        between_blocks(random, pair, workload)
        messages, of_moves = workload.block(LEGS_OF_BLOCK, LEGS_OF_BATCH)
        pair.apply_block(messages, workload.now, of_moves)
        if random.random() < 0.7:
            pair.compare()
    pair.compare()
    return pair


def between_blocks(random: Random, pair: LedgerPair, workload: Workload) -> None:
    """What else happens to a ledger."""
    kind = random.random()
    if kind < 0.3:
        pair.create_accounts(workload.account_batches(), workload.now)
    elif kind < 0.36:
        pair.set_guards(*workload.guards(), workload.now)
    elif kind < 0.46:
        if random.random() < 0.4:
            workload.meet_expiry(0)
        pair.expire(workload.now, random.choice((1, 3, 100)))
    elif kind < 0.6:
        pair.kernel.project()
        if random.random() < 0.5:
            pair.kernel.forget()
    elif kind < 0.63:
        pair.restart()


def test_committed_lives_are_equal_and_meet_every_result() -> None:
    tally = Tally()
    for seed in COMMITTED:
        tally.live(seed)
    assert tally.missing() == []


def test_fresh_lives_are_equal(pytestconfig: pytest.Config) -> None:
    tally = Tally()
    seed = int(pytestconfig.getoption("randomly_seed"))
    while tally.legs < LEGS_MIN:
        tally.live(seed)
        seed += 1


def report(legs: int) -> None:
    """Prints how often each result comes up."""
    tally = Tally()
    seed = 0
    while tally.legs < legs:
        tally.live(seed)
        seed += 1
    for name, order, counts in (
        ("leg", LEG_PRECEDENCE, tally.of_legs),
        ("account", ACCOUNT_PRECEDENCE, tally.of_accounts),
    ):
        for result in order:
            print(f"{name:8} {result.slug:60} {counts[result]:8}")


if __name__ == "__main__":
    report(int(sys.argv[1]) if len(sys.argv) > 1 else LEGS_MIN)
