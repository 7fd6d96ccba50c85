"""The accounts of one shard that stand for others: one for each other shard and asset."""

import numpy as np
import numpy.typing as npt

from engine import ids
from engine.layout import (
    ACCOUNT_FACT,
    CEILING_UNSET,
    FLOOR_UNSET,
    PAIR_CODE,
    AccountFlag,
    ids_column,
)
from engine.ledger import Ledger
from engine.placement import Placement

Rows = npt.NDArray[np.void]


class PairAccounts:
    """Knows the pair accounts of shard `shard` by other shard and asset, and opens them."""

    def __init__(self, tenant: str, placement: Placement, shard: int, ledger: Ledger) -> None:
        self._tenant = tenant
        self._shards = placement.shards
        self._bucket = placement.platform_buckets[shard]
        self._ledger = ledger
        self._ids: dict[tuple[int, int], tuple[int, int]] = {}  # (other, asset) → halves of the id
        self._peers: dict[int, int] = {}  # row of a pair account → the other shard
        self._open: set[tuple[int, int]] = set()  # (other, asset) that are known to be there

    def id(self, other: int, asset: int) -> tuple[int, int]:
        """The halves of the id of the account that stands for another shard."""
        found = self._ids.get((other, asset))
        if found is None:
            id = ids.account_id(self._bucket, self._tenant, key_of(other), asset)
            found = self._ids[other, asset] = (id >> 64, id & (2**64 - 1))
        return found

    def peer(self, row: int) -> int:
        """Which shard the pair account in a row of the ledger stands for."""
        found = self._peers.get(row)
        if found is None:
            account = self._ledger.accounts[row]
            asset, id = int(account["asset"]), (int(account["id_hi"]), int(account["id_lo"]))
            found = next(other for other in range(self._shards) if self.id(other, asset) == id)
            self._peers[row] = found
        return found

    def peers(self, rows: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.int64]:
        """`peer` of each of many rows."""
        distinct, which = np.unique(rows, return_inverse=True)
        return np.array([self.peer(row) for row in distinct.tolist()], np.int64)[which]

    def missing(self, wanted: set[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of the accounts, by other shard and asset, that are not there yet; in order."""
        new = sorted(wanted - self._open)
        if not new:
            return []
        column = ids_column([high << 64 | low for high, low in (self.id(*pair) for pair in new)])
        absent = [pair for pair, row in zip(new, self._ledger.lookup(column), strict=True) if row < 0]
        self._open |= wanted
        return absent

    def facts(self, pairs: list[tuple[int, int]], now: int) -> Rows:
        """ACCOUNT_FACTs of accounts to be opened, stamped after everything that there is."""
        facts = np.zeros(len(pairs), ACCOUNT_FACT)
        first = max(now, self._ledger.last_timestamp + 1)
        for place, (other, asset) in enumerate(pairs):
            fact = facts[place]
            fact["id_hi"], fact["id_lo"] = self.id(other, asset)
            fact["asset"] = asset
            fact["timestamp"] = first + place
        facts["floor"] = FLOOR_UNSET
        facts["ceiling"] = CEILING_UNSET
        facts["parent"] = -1
        facts["code"] = PAIR_CODE
        facts["flags"] = AccountFlag.PAIR
        return facts


def key_of(other: int) -> str:
    """The key of the accounts that stand for another shard."""
    return f"C:{other}"
