"""What the books come to: the same figures are made when they are exported and when they are imported."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from engine.facts import Envelope
from engine.layout import ACCOUNT, AccountFlag, LegFlag
from engine.ledger import Ledger
from engine.placement import Placement
from persistence.exports.manifest import AssetTotals, ShardEntry
from persistence.log_reader import Logged
from persistence.recovery import Replayable
from persistence.sums import run_sums

ROWS_AT_A_TIME: Final = 65_536
_SIDES: Final = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")

Rows = npt.NDArray[np.void]


class WithLedger(Replayable, Protocol):
    """State with a ledger in it."""

    ledger: Ledger


Fresh = Callable[[Placement, int], WithLedger]
"""Makes the empty state of a shard."""


class ShardTotals:
    """Follows one shard's log, on a state that was empty. `tenants` are those on whose behalf it was
    written."""

    def __init__(self, shard: int, state: WithLedger) -> None:
        self.shard = shard
        self.state = state
        self.tenants: set[str] = set()
        self.legs = 0
        self._last: Logged | None = None
        self._log = hashlib.sha256()

    def add(self, logged: Logged) -> None:
        """The next record. Raises LedgerError, ValueError or KeyError if its facts can't be applied."""
        record = logged.record
        self.state.replay(record)
        self._log.update(len(logged.payload).to_bytes(8, "big"))
        self._log.update(logged.payload)
        self.tenants.update(event.tenant for event in record.events if isinstance(event, Envelope))
        self.legs += len(record.legs) - int(np.count_nonzero(record.legs["flags"] & int(LegFlag.BURNT)))
        self._last = logged

    @property
    def records(self) -> int:
        """How many there were."""
        return 0 if self._last is None else self._last.head.lsn

    def entry(self) -> ShardEntry:
        """What its log and its books are."""
        assert self._last is not None
        return ShardEntry(
            shard=self.shard,
            records=self._last.head.lsn,
            epoch=self._last.head.epoch,
            time=self._last.record.time,
            chain=self._last.head.chain.hex(),
            log_sha256=self._log.hexdigest(),
            books_sha256=books_sha256(self.state.ledger.accounts),
        )


def books_sha256(accounts: Rows) -> str:
    """A hash of all accounts, in order: what they are and what is on them."""
    digest = hashlib.sha256(repr(ACCOUNT.descr).encode())
    for at in range(0, len(accounts), ROWS_AT_A_TIME):
        digest.update(np.ascontiguousarray(accounts[at : at + ROWS_AT_A_TIME]).tobytes())
    return digest.hexdigest()


def asset_totals(shards: Iterable[ShardTotals]) -> list[AssetTotals]:
    """The control totals of all shards together, by asset."""
    accounts: dict[int, int] = {}
    sums: dict[int, list[int]] = {}
    for shard in shards:
        rows = shard.state.ledger.accounts
        rows = rows[rows["flags"] & int(AccountFlag.ROLLUP) == 0]
        rows = rows[np.argsort(rows["asset"], kind="stable")]
        assets, starts, counts = np.unique(rows["asset"], return_index=True, return_counts=True)
        columns = [run_sums(rows[side], starts) for side in _SIDES]
        for at, (asset, count) in enumerate(zip(assets.tolist(), counts.tolist(), strict=True)):
            accounts[asset] = accounts.get(asset, 0) + count
            known = sums.setdefault(asset, [0, 0, 0, 0])
            sums[asset] = [before + column[at] for before, column in zip(known, columns, strict=True)]
    return [
        AssetTotals(
            asset=asset,
            accounts=accounts[asset],
            **dict(zip(_SIDES, map(str, sums[asset]), strict=True)),
        )
        for asset in sorted(accounts)
    ]
