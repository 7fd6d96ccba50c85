"""Where state lives: which shard each bucket is on.

The map is fixed when a database is made, so an id leads to the same shard for ever. A Party and its accounts
are in the Party's bucket. Of the platform's accounts those without guards are *striped*: every shard has a
row of its own, in the first of its buckets, and the balance is their sum. Those with guards are one row, in
the bucket of what their key names.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

from engine.ids import BUCKETS, bucket_of_account
from engine.layout import LegColumns, LegFlag

SHARDS_MAX: Final = 1024

_BUCKET_SHIFT: Final = np.uint64(52)
_BUCKET_MASK: Final = np.uint64(BUCKETS - 1)
_SETTLING: Final = np.uint16(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)
_ONES: Final = np.uint64(2**64 - 1)

Shards = npt.NDArray[np.int16]


class Placement:
    """The bucket → shard map of a database. Every shard has at least one bucket."""

    def __init__(self, shard_of_bucket: Sequence[int]) -> None:
        if len(shard_of_bucket) != BUCKETS:
            raise ValueError(f"{len(shard_of_bucket)} buckets, not {BUCKETS}")
        self.shards = max(shard_of_bucket) + 1
        self.shard_of_bucket: Shards = np.array(shard_of_bucket, np.int16)
        self.shard_of_bucket.flags.writeable = False
        self._of_bucket = [int(shard) for shard in shard_of_bucket]
        self.platform_buckets = [self._of_bucket.index(shard) for shard in range(self.shards)]
        """By shard: the bucket of its rows of striped accounts."""

    @classmethod
    def even(cls, shards: int) -> "Placement":
        """Runs of buckets of nearly equal length."""
        if not 0 < shards <= SHARDS_MAX:
            raise ValueError(f"{shards} shards; accepted are 1 to {SHARDS_MAX}")
        return cls([bucket * shards // BUCKETS for bucket in range(BUCKETS)])

    def shard(self, bucket: int) -> int:
        """The shard that a bucket is on."""
        return self._of_bucket[bucket]

    def shard_of_account(self, account: int) -> int:
        """The shard that an account is on."""
        return self._of_bucket[bucket_of_account(account)]

    def of_accounts(self, accounts: npt.NDArray[np.uint64]) -> Shards:
        """The shards of accounts, ids of shape (n, 2)."""
        return self.shard_of_bucket[buckets_of_accounts(accounts)]

    def of_ids(self, ids: npt.NDArray[np.uint64]) -> Shards:
        """The shards that ids of legs, Moves or requests, shape (n, 2), are at home on."""
        return self.shard_of_bucket[buckets_of_ids(ids)]

    def bucket_of_name(self, tenant: str, name: str) -> int:
        """The bucket of a guarded account of the platform: that of the subject, or purpose, in its key."""
        return xxhash.xxh3_64_intdigest(f"{tenant}\0{name}".encode()) % BUCKETS

    def stripes(self, account: int) -> list[int]:
        """The rows of a striped account, one a shard, if this is that of shard 0; else just the account."""
        if self.shards == 1 or bucket_of_account(account) != self.platform_buckets[0]:
            return [account]
        rest = account & ((1 << 116) - 1)
        return [bucket << 116 | rest for bucket in self.platform_buckets]


ONE_SHARD: Final = Placement.even(1)


def strays_of_legs(legs: LegColumns) -> npt.NDArray[np.bool_]:
    """Legs whose ids are not of the bucket that they are at home in: their hold's, of a post or void, else
    their debit account's."""
    pending = legs.pending_id
    homes = buckets_of_accounts(legs.debit)
    settling = (legs.flags & _SETTLING != 0) & ((pending[:, 0] | pending[:, 1]) != 0)
    if settling.any():
        homes = np.where(settling, buckets_of_ids(pending), homes)
    strays: npt.NDArray[np.bool_] = (buckets_of_ids(legs.id) != homes) & _can_be_ids(legs.id)
    return strays


def strays_of_accounts(
    accounts: npt.NDArray[np.uint64], placement: Placement, shard: int
) -> npt.NDArray[np.bool_]:
    """Accounts, ids of shape (n, 2), that are not on a shard."""
    strays: npt.NDArray[np.bool_] = (placement.of_accounts(accounts) != shard) & _can_be_ids(accounts)
    return strays


def _can_be_ids(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Where an id is neither 0 nor 2¹²⁸ − 1."""
    high, low = ids[:, 0], ids[:, 1]
    possible: npt.NDArray[np.bool_] = ((high | low) != 0) & ((high & low) != _ONES)
    return possible


def buckets_of_accounts(accounts: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The buckets of accounts, ids of shape (n, 2)."""
    return (accounts[:, 0] >> _BUCKET_SHIFT).astype(np.int64)


def buckets_of_ids(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The buckets in ids of legs, Moves or requests, shape (n, 2)."""
    return (ids[:, 0] & _BUCKET_MASK).astype(np.int64)
