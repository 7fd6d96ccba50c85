"""Legs to measure with: seeded, made outside the time that is measured."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.layout import AccountColumns, LegColumns, LegFlag, account_columns, leg_columns
from engine.ledger import LegBlock

BATCH_LEGS: Final = 8_190
START_MS: Final = 1_700_000_000_000
LEGS_PER_MS: Final = 1_000
ASSET: Final = 1


class Workload:
    """Makes accounts, and batches of legs between them."""

    def __init__(self, accounts: int, seed: int = 7) -> None:
        self._random = np.random.default_rng(seed)
        self._made = 0
        self.account_ids = self.ids(accounts)

    def ids(self, count: int) -> npt.NDArray[np.uint64]:
        """UUIDv7s as a client makes them: in order of time, random within a millisecond."""
        ms = START_MS + (self._made + np.arange(count)) // LEGS_PER_MS
        self._made += count
        made = np.empty((count, 2), np.uint64)
        made[:, 0] = ms.astype(np.uint64) << np.uint64(16) | np.uint64(0x7000)
        made[:, 1] = self._random.integers(0, 1 << 62, count, dtype=np.uint64) | np.uint64(1 << 63)
        return made

    @property
    def now(self) -> int:
        """The time (ns) at which the last ids were made."""
        return (START_MS + self._made // LEGS_PER_MS) * 1_000_000

    def accounts(self) -> AccountColumns:
        """The accounts, unguarded."""
        count = len(self.account_ids)
        return account_columns(
            count,
            id=self.account_ids,
            asset=np.full(count, ASSET),
            code=np.ones(count),
            party=self.account_ids,
        )

    def simple(self, count: int = BATCH_LEGS) -> LegColumns:
        """Plain legs between accounts drawn evenly."""
        debit, credit = self._pairs(count)
        return leg_columns(
            count,
            id=self.ids(count),
            debit=self.account_ids[debit],
            credit=self.account_ids[credit],
            amount=self._random.integers(1, 100_000, count),
            asset=np.full(count, ASSET),
            code=np.ones(count),
        )

    def mixed(self, count: int = BATCH_LEGS) -> LegColumns:
        """A quarter holds, a quarter posts or voids of holds placed just before, a quarter chains of two, a
        quarter plain."""
        legs = self.simple(count)
        quarter = count // 4
        flags, pending = legs.flags, legs.pending_id
        flags[:quarter] = LegFlag.PENDING
        resolving = np.arange(quarter, 2 * quarter)
        flags[resolving] = np.where(resolving % 4 == 0, LegFlag.VOID_PENDING, LegFlag.POST_PENDING)
        pending[resolving] = legs.id[resolving - quarter]
        legs.amount[resolving] = legs.amount[resolving - quarter]
        legs.debit[resolving] = legs.credit[resolving] = 0
        legs.asset[resolving] = legs.code[resolving] = 0
        flags[2 * quarter : 3 * quarter - 1 : 2] = LegFlag.LINKED
        return legs

    def _pairs(self, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        accounts = len(self.account_ids)
        debit = self._random.integers(0, accounts, count)
        return debit, (debit + self._random.integers(1, accounts, count)) % accounts


def block(legs: LegColumns) -> LegBlock:
    """One client's batch, as the kernel takes it."""
    return LegBlock(legs, np.array([0, len(legs.amount)], np.int64))
