"""What a shard answers about legs and accounts. Ids are integers, times nanoseconds, amounts minor units."""

import msgspec
import numpy as np
import numpy.typing as npt

from engine.layout import CEILING_UNSET, FLOOR_UNSET, AccountFlag


class LegAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each leg or account of a batch, in order: `status` (u8, a `Result`) and its stamp
    (i8)."""

    status: npt.NDArray[np.uint8]
    timestamp: npt.NDArray[np.int64]
    lsn: int = 0


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """An account as it is: its four counters, guards and version."""

    id: int
    asset: int
    code: int
    party: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    floor: int | None
    ceiling: int | None
    version: int
    closed: bool
    rollup: bool
    timestamp: int
    lsn: int = 0
    replayed: bool = False  # it is what was answered to the same request before


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """What a key stands for: the id and the digest of the request that claimed it first."""

    request: int
    digest: bytes
    replayed: bool  # it was claimed before
    lsn: int = 0


def account_state(row: np.void) -> AccountState:
    """The state of an account from its row in the ledger."""
    floor, ceiling, flags = int(row["floor"]), int(row["ceiling"]), int(row["flags"])
    return AccountState(
        id=int(row["id_hi"]) << 64 | int(row["id_lo"]),
        asset=int(row["asset"]),
        code=int(row["code"]),
        party=int(row["party_hi"]) << 64 | int(row["party_lo"]),
        debits_pending=int(row["debits_pending"]),
        debits_posted=int(row["debits_posted"]),
        credits_pending=int(row["credits_pending"]),
        credits_posted=int(row["credits_posted"]),
        floor=None if floor == FLOOR_UNSET else floor,
        ceiling=None if ceiling == CEILING_UNSET else ceiling,
        version=int(row["version"]),
        closed=bool(flags & AccountFlag.CLOSED),
        rollup=bool(flags & AccountFlag.ROLLUP),
        timestamp=int(row["timestamp"]),
    )
