"""What is sent in bulk: seeded legs between ten thousand accounts, drawn outside the time that is measured.

A batch is drawn as numbers of accounts and becomes columns when it is sent, as in a program that has its
transfers at hand. Ids are left to the client. Whatever the order in which batches are judged, the books that
a mix makes are the same.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.layout import AMOUNT_MAX, LegFlag
from engine.results import Result
from gateway.client import Answers, Client, new_account_ids

BATCH_LEGS: Final = 8_189
CODE: Final = 1
AMOUNT_LIMIT: Final = 100_000
ZIPF: Final = 0.99
POOR: Final = 100
"""Accounts that must not be overdrawn and have nothing."""
REFUSED_EVERY: Final = 10
VOIDED_EVERY: Final = 4

Rows = npt.NDArray[np.int32]
Pairs = tuple[Rows, Rows]


class Accounts(NamedTuple):
    """The accounts of a ledger: open ones, and poor ones."""

    asset: int
    open: npt.NDArray[np.uint64]
    poor: npt.NDArray[np.uint64]

    @classmethod
    def created(cls, client: Client, count: int) -> "Accounts":
        """New accounts in an empty ledger, the same ones every time."""
        asset = int(client.create_thing("GBP", exponent=2)["asset"])
        ids = new_account_ids(count + POOR, random=np.random.default_rng(count))
        floor = np.full(len(ids), np.iinfo(np.int64).min)
        floor[count:] = 0
        client.create_accounts(id=ids, asset=asset, code=CODE, floor=floor).check()
        return cls(asset, ids[:count], ids[count:])


Post = Callable[..., Answers]
"""Sends one batch, given by columns, and waits for its answers."""


def even(random: np.random.Generator, accounts: int, count: int) -> Pairs:
    """Two different accounts for each leg, all equally likely."""
    debit = random.integers(0, accounts, count, np.int32)
    return debit, (debit + random.integers(1, accounts, count, np.int32)) % np.int32(accounts)


def zipf(random: np.random.Generator, accounts: int, count: int) -> Pairs:
    """Two different accounts for each leg, the k-th with a likelihood of k to the power of −0.99."""
    weights = np.arange(1, accounts + 1) ** -ZIPF
    shares = np.cumsum(weights) / weights.sum()
    debit = np.searchsorted(shares, random.random(count)).astype(np.int32)
    credit = np.searchsorted(shares, random.random(count)).astype(np.int32)
    return debit, np.where(debit == credit, (credit + 1) % accounts, credit).astype(np.int32)


def hot(random: np.random.Generator, accounts: int, count: int) -> Pairs:
    """Every leg pays the same account."""
    return random.integers(1, accounts, count, np.int32), np.zeros(count, np.int32)


class Drawn(NamedTuple):
    """One batch before it is sent."""

    accounts: Accounts
    debit: Rows
    credit: Rows
    amount: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.amount)

    def columns(self) -> dict[str, Any]:
        """As the client takes it."""
        return {
            "debit": self.accounts.open.take(self.debit, axis=0),
            "credit": self.accounts.open.take(self.credit, axis=0),
            "amount": self.amount,
            "asset": self.accounts.asset,
            "code": CODE,
        }


class Mix(NamedTuple):
    """A kind of load: which accounts its legs are between, and how a batch that was drawn is sent, in one
    request or, one after the other, in `requests`."""

    name: str
    draw: Callable[[np.random.Generator, int, int], Pairs]
    send: Callable[[Drawn, Post], None]
    requests: int = 1

    def drawn(
        self, accounts: Accounts, legs: int, batch_legs: int, random: np.random.Generator
    ) -> list[Drawn]:
        """Batches of so many legs in all."""
        legs = -(-legs // self.requests)
        debit, credit = self.draw(random, len(accounts.open), legs)
        amount = random.integers(1, AMOUNT_LIMIT, legs)
        cuts = [slice(start, start + batch_legs) for start in range(0, legs, batch_legs)]
        return [Drawn(accounts, debit[rows], credit[rows], amount[rows]) for rows in cuts]


def _post(drawn: Drawn, post: Post) -> None:
    _judged(post(**drawn.columns()))


def _hold_and_resolve(drawn: Drawn, post: Post) -> None:
    """A batch of holds, then one that posts three quarters of them and voids the rest."""
    held = post(**drawn.columns(), flags=LegFlag.PENDING)
    _judged(held)
    void = np.arange(len(drawn)) % VOIDED_EVERY == 0
    resolved = post(
        pending_id=held.ids,
        amount=np.where(void, 0, AMOUNT_MAX),
        flags=np.where(void, LegFlag.VOID_PENDING, LegFlag.POST_PENDING),
    )
    _judged(resolved)


def _post_linked(drawn: Drawn, post: Post) -> None:
    """Chains of two."""
    flags = np.zeros(len(drawn), np.uint16)
    flags[: len(flags) - 1 : 2] = LegFlag.LINKED
    _judged(post(**drawn.columns(), flags=flags))


def _post_with_refusals(drawn: Drawn, post: Post) -> None:
    """Every tenth leg debits an account that has nothing."""
    columns = drawn.columns()
    poor = np.arange(0, len(drawn), REFUSED_EVERY)
    columns["debit"][poor] = drawn.accounts.poor[poor % POOR]
    expected = np.full(len(drawn), Result.CREATED, np.uint8)
    expected[poor] = Result.BELOW_FLOOR
    _judged(post(**columns), expected)


def _judged(answers: Answers, expected: npt.NDArray[np.uint8] | int = Result.CREATED) -> None:
    if (answers.status != expected).any():
        raise AssertionError(f"answers other than those expected: {answers.counts()}")


UNIFORM: Final = Mix("uniform", even, _post)
MIXES: Final = (
    UNIFORM,
    Mix("zipf 0.99", zipf, _post),
    Mix("one hot account", hot, _post),
    Mix("holds", even, _hold_and_resolve, requests=2),
    Mix("linked pairs", even, _post_linked),
    Mix("10 % refused", even, _post_with_refusals),
)
