"""The kernel's ledger and the reference model, given the same and held to answer the same.

Beside the live ledger a follower is rebuilt from the log, record by record, and must be the same array for
array.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.layout import LEG_FLAGS_OF_CLIENTS, LegFlag
from engine.ledger import Ledger, LedgerConfig
from engine.reference import Account, Answer, LegFact, Outcome, ReferenceLedger
from engine.results import Result
from tests.ledgers import KernelLedger, Message, account_states, replay


class LedgerPair:
    """One ledger twice; every method asserts that both did the same. A turn lasts until they are compared."""

    def __init__(self, config: LedgerConfig) -> None:
        self.config = config
        self.kernel = KernelLedger(config)
        self.reference = ReferenceLedger()
        self.follower = Ledger(config)
        self.leg_results: Counter[Result] = Counter()
        self.account_results: Counter[Result] = Counter()
        self._followed = 0  # records

    @property
    def legs(self) -> int:
        """How many legs it was given."""
        return self.leg_results.total()

    def create_accounts(self, batches: Sequence[Sequence[Account]], now: int) -> None:
        """All batches in one call, against one after the other."""
        got = self.kernel.create_account_batches(batches, now)
        self.reference.forget_stamps(int(self.kernel.ledger.state()["dropped_leg"]))
        expected = _joined([self.reference.create_accounts(batch, now) for batch in batches])
        self.account_results.update(answer.result for answer in expected.answers)
        _same([account for batch in batches for account in batch], expected, got)

    def apply_block(self, messages: Sequence[Message], now: int, of_moves: bool = False) -> None:
        """All batches in one block, against one after the other."""
        allowed = LEG_FLAGS_OF_CLIENTS | (LegFlag.OF_MOVE if of_moves else 0)
        expected = _joined([self.reference.apply_batch(m.legs, now, m.opens, allowed) for m in messages])
        got = self.kernel.apply_block(messages, now, allowed)
        self.leg_results.update(answer.result for answer in expected.answers)
        _same([leg for message in messages for leg in message.legs], expected, got)

    def set_guards(self, ordinal: int, floor: int, ceiling: int, now: int) -> None:
        """New guards."""
        expected = self.reference.set_guards(ordinal, floor, ceiling, now)
        assert self.kernel.set_guards(ordinal, floor, ceiling, now) == expected

    def expire(self, now: int, limit: int) -> list[LegFact]:
        """The sweep."""
        expected = self.reference.expire(now, limit)
        assert self.kernel.expire(now, limit) == expected
        return expected

    def compare(self) -> None:
        """Holds all that is there against the reference model, itself and its own log."""
        ledger = self.kernel.ledger
        ledger.check()
        assert account_states(ledger) == [self.reference.accounts[id] for id in self.reference.ids.values()]
        assert ledger.last_timestamp == self.reference.last_timestamp
        assert ledger.next_expiry == self.reference.next_expiry
        self._follow()
        same_state(ledger.state(), self.follower.state())

    def restart(self) -> None:
        """Goes on with the follower, as after a crash; the ledger so far is gone."""
        self._follow()
        self.kernel.ledger = self.follower
        self.follower = Ledger(self.config)
        self.follower.restore(self.kernel.ledger.state())

    def _follow(self) -> None:
        self.kernel.end_turn()
        replay(self.kernel.log[self._followed :], self.follower)
        self._followed = len(self.kernel.log)


def same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Asserts that two ledgers' states are equal, array for array."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        same = np.array_equal(value, other[name]) if isinstance(value, np.ndarray) else value == other[name]
        assert same, name


def _joined(outcomes: list[Outcome]) -> Outcome:
    return Outcome(
        [answer for outcome in outcomes for answer in outcome.answers],
        [fact for outcome in outcomes for fact in outcome.facts],
        [account for outcome in outcomes for account in outcome.accounts],
    )


def _same(events: Sequence[Any], expected: Outcome, got: Outcome) -> None:
    for index, (event, right, answer) in enumerate(zip(events, expected.answers, got.answers, strict=True)):
        assert answer == right, f"{index}: {_differ(right, answer)} for {event}"
    assert got.facts == expected.facts
    assert got.accounts == expected.accounts


def _differ(right: Answer, answer: Answer) -> str:
    return f"{right.result.slug}, not {answer.result.slug} ({right.timestamp}, {right.amount})"
