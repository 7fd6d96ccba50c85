"""What a leg's accounts are, by ordinal: id, owner, asset and key, none of which ever changes.

For readers of the log, which has ordinals only. The newest ones asked for are kept in arrays of fixed size; a
lookup of many is one query, and what costs is independent of how many accounts there are.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from persistence.database import Database
from persistence.session_pool import SessionPool
from persistence.statements import statements

SLOTS: Final = 1 << 16
"""Accounts that are kept for each shard: those with the same remainder take each other's place."""

_SQL: Final = statements("account_names")

Ordinals = npt.NDArray[np.int64]


class AccountColumns(NamedTuple):
    """Accounts, one for each ordinal that was asked for."""

    id: npt.NDArray[np.uint64]  # (n, 2)
    party: npt.NDArray[np.uint64]  # (n, 2), zeros = none
    asset: npt.NDArray[np.uint32]
    key: npt.NDArray[np.object_]  # str, or None for an account without one

    def take(self, at: npt.NDArray[np.int64]) -> "AccountColumns":
        """The accounts at these places."""
        return AccountColumns(self.id[at], self.party[at], self.asset[at], self.key[at])

    def put(self, at: npt.NDArray[Any], others: "AccountColumns") -> None:
        """Write others over the accounts at these places."""
        self.id[at], self.party[at] = others.id, others.party
        self.asset[at], self.key[at] = others.asset, others.key


def _columns(count: int) -> AccountColumns:
    return AccountColumns(
        np.zeros((count, 2), np.uint64),
        np.zeros((count, 2), np.uint64),
        np.zeros(count, np.uint32),
        np.full(count, None, np.object_),
    )


class _Kept(NamedTuple):
    """What is known of a shard's accounts, by slot."""

    ordinal: Ordinals  # −1 = the slot is free
    columns: AccountColumns


class AccountNames:
    """Looks accounts up for any number of readers."""

    def __init__(self, database: Database, slots: int = SLOTS) -> None:
        self._pool = SessionPool(database, f"tessera {database.schema} names", size=2)
        self._slots = slots
        self._kept: dict[int, _Kept] = {}  # by shard

    async def find(self, shard: int, ordinals: Ordinals) -> AccountColumns | None:
        """The accounts with these ordinals, each given once; None if SQL does not show all of them yet."""
        kept = self._kept.setdefault(shard, _Kept(np.full(self._slots, -1), _columns(self._slots)))
        slots = ordinals % self._slots
        known = kept.ordinal[slots] == ordinals
        found = kept.columns.take(slots)
        missing = ordinals[~known]
        if len(missing):
            loaded = await self._load(shard, missing)
            if loaded is None:
                return None
            found.put(~known, loaded)
            kept.columns.put(slots[~known], loaded)
            kept.ordinal[slots[~known]] = missing
        return found

    async def close(self) -> None:
        """Ends the sessions."""
        await self._pool.close()

    async def _load(self, shard: int, ordinals: Ordinals) -> AccountColumns | None:
        rows = await self._pool.fetch(_SQL["accounts"], {"shard": shard, "ordinals": ordinals.tolist()})
        if len(rows) < len(ordinals):
            return None
        place = {ordinal: at for at, ordinal in enumerate(ordinals.tolist())}
        columns = _columns(len(ordinals))
        for ordinal, id, party, asset, key in rows:
            at = place[ordinal]
            columns.id[at] = id.int >> 64, id.int & (2**64 - 1)
            if party is not None:
                columns.party[at] = party.int >> 64, party.int & (2**64 - 1)
            columns.asset[at] = asset
            columns.key[at] = key
        return columns
