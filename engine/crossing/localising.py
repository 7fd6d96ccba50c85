"""From chains over several shards to what each of them has of it.

Legs are given as clients name them. A shard has those legs that have an account on it, or whose hold is at
home on it. For the account of such a leg that is elsewhere stands a pair account, and `pending_id` names it;
what concerns only the other account (its version, closing it) is left to the other shard. A leg keeps its id
on the shard that the id leads to; elsewhere it has one that follows from it (`part_ids`), which no client can
use.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.crossing.pairs import PairAccounts
from engine.layout import LegColumns, LegFlag, OpenColumns, leg_columns
from engine.ledger import Ledger
from engine.placement import Placement

Shards = npt.NDArray[np.int16]
Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint64]

_SETTLING: Final = np.uint16(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)
_OF_DEBIT: Final = np.uint16(LegFlag.CLOSING_DEBIT | LegFlag.BALANCING_DEBIT)
_OF_CREDIT: Final = np.uint16(LegFlag.CLOSING_CREDIT | LegFlag.BALANCING_CREDIT)
_PART: Final = np.uint16(LegFlag.PART)
_CROSSING: Final = np.uint16(LegFlag.CROSSING)
_BUCKET: Final = np.uint64(0xFFF)
_VARIANT_MASK: Final = np.uint64(0b11 << 62)
_MASK_62: Final = np.uint64((1 << 62) - 1)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_ASSET_BITS: Final = 32
_ASSET_MAX: Final = (1 << _ASSET_BITS) - 1
_SALT: Final = np.uint64(0x2545F4914F6CDD1D)


class Sides(NamedTuple):
    """Where the two accounts of legs are; of a post or void, both are where its hold is."""

    debit: Shards
    credit: Shards

    def here(self, shard: int) -> npt.NDArray[np.bool_]:
        """Which of the legs a shard has."""
        here: npt.NDArray[np.bool_] = (self.debit == shard) | (self.credit == shard)
        return here


class Local(NamedTuple):
    """Legs as one shard has them, and the pair accounts that they need, by other shard and asset."""

    legs: LegColumns
    pairs: set[tuple[int, int]]


def sides_of(legs: LegColumns, placement: Placement) -> Sides:
    """Where legs have their accounts."""
    debit, credit = placement.of_accounts(legs.debit), placement.of_accounts(legs.credit)
    settling = legs.flags & _SETTLING != 0
    if settling.any():
        holds = placement.of_ids(legs.pending_id)
        debit, credit = np.where(settling, holds, debit), np.where(settling, holds, credit)
    return Sides(debit, credit)


def localised(
    legs: LegColumns,
    shard: int,
    placement: Placement,
    pairs: PairAccounts,
    ledger: Ledger,
    asset_max: int,
) -> Local:
    """Legs as `shard` has them: each of them has a side there. Where that is an account which is not there,
    and of an asset beyond `asset_max`, no pair account is worth opening."""
    sides = sides_of(legs, placement)
    no_debit, no_credit = sides.debit != shard, sides.credit != shard
    assets, of_accounts = _assets(legs, no_debit, ledger)
    asset_max = max(asset_max, of_accounts)
    flags = legs.flags.copy()
    flags[no_debit] &= ~_OF_DEBIT
    flags[no_credit] &= ~_OF_CREDIT
    flags[no_debit | no_credit] |= _CROSSING
    strange = placement.of_ids(legs.id) != shard
    flags[strange] |= _PART
    bucket = placement.platform_buckets[shard]
    debit, credit, pending = legs.debit.copy(), legs.credit.copy(), legs.pending_id.copy()
    needed: set[tuple[int, int]] = set()
    for absent, own, theirs, others in (
        (no_debit, debit, legs.debit, sides.debit),
        (no_credit, credit, legs.credit, sides.credit),
    ):
        rows = np.flatnonzero(absent)
        if not len(rows):
            continue
        pending[rows] = theirs[rows]
        named, which = _pairs_of(others[rows], assets[rows])
        needed.update(pair for pair in named if pair[1] <= asset_max)
        own[rows] = np.array([pairs.id(*pair) for pair in named], np.uint64)[which]
    local = legs._replace(
        id=np.where(strange[:, None], part_ids(legs.id, bucket), legs.id) if strange.any() else legs.id,
        flags=flags,
        debit=debit,
        credit=credit,
        pending_id=pending,
        timeout=np.where(strange, np.uint32(0), legs.timeout),
        if_debit_version=np.where(no_debit, 0, legs.if_debit_version),
        if_credit_version=np.where(no_credit, 0, legs.if_credit_version),
    )
    return Local(local, needed)


def _pairs_of(others: Shards, assets: npt.NDArray[np.uint32]) -> tuple[list[tuple[int, int]], Ints]:
    """The other shards and assets that legs have to do with, and by leg, which of these."""
    if (assets == assets[0]).all():  # as most are: this needs no sorting
        counts = np.bincount(others)
        place = np.cumsum(counts > 0) - 1
        return [(other, int(assets[0])) for other in np.flatnonzero(counts).tolist()], place[others]
    keys, which = np.unique(others.astype(np.int64) << _ASSET_BITS | assets, return_inverse=True)
    return [(key >> _ASSET_BITS, key & _ASSET_MAX) for key in keys.tolist()], which


def explicit_elsewhere(
    legs: LegColumns, shard: int, placement: Placement, is_elsewhere: Callable[[int, int], bool]
) -> LegColumns:
    """Posts and voids may name the accounts of their hold, and one of these may be on another shard than the
    hold: it is left to be inherited if `is_elsewhere` (hold, account) says that it is the hold's."""
    settling = np.flatnonzero((legs.flags & _SETTLING != 0) & (placement.of_ids(legs.pending_id) == shard))
    if not len(settling):
        return legs
    named: dict[str, Ids] = {}
    for name in ("debit", "credit"):
        ids = getattr(legs, name)[settling]
        away = (placement.of_accounts(ids) != shard) & ids.any(axis=1)
        for row in settling[away].tolist():
            hold, account = _wide(legs.pending_id[row]), _wide(getattr(legs, name)[row])
            if is_elsewhere(hold, account):
                column = named.setdefault(name, getattr(legs, name).copy())
                column[row] = 0
    return legs._replace(**named)  # type: ignore[arg-type]  # both are columns of ids


def _wide(halves: Ids) -> int:
    high, low = halves.tolist()
    return int(high) << 64 | int(low)


def _assets(
    legs: LegColumns, no_debit: npt.NDArray[np.bool_], ledger: Ledger
) -> tuple[npt.NDArray[np.uint32], int]:
    """The assets of the accounts that are here, which need not be what the legs say; and the greatest of
    those that are."""
    rows = ledger.lookup(np.where(no_debit[:, None], legs.credit, legs.debit))
    there = rows >= 0
    if not there.any():
        return legs.asset, 0
    assets: npt.NDArray[np.uint32] = np.where(there, ledger.accounts["asset"][rows * there], legs.asset)
    return assets, int(assets.max(where=there, initial=0))


def part_ids(legs: Ids, bucket: int) -> Ids:
    """Ids for what a shard, `bucket` being of it, has of legs that are at home elsewhere: different ones for
    different legs of one millisecond, and of the same kind."""
    parts = np.empty_like(legs)
    parts[:, 0] = legs[:, 0] & ~_BUCKET | np.uint64(bucket)
    low = legs[:, 1]
    mixed = (low ^ _SALT) & _MASK_62
    mixed = ((mixed ^ (mixed >> np.uint64(31))) * _MIX_1) & _MASK_62
    mixed = ((mixed ^ (mixed >> np.uint64(29))) * _MIX_2) & _MASK_62
    parts[:, 1] = (mixed ^ (mixed >> np.uint64(32))) | (low & _VARIANT_MASK)
    return parts


def part_id(leg: int, bucket: int) -> int:
    """`part_ids` of one leg."""
    column = np.array([[leg >> 64, leg & (2**64 - 1)]], np.uint64)
    high, low = part_ids(column, bucket)[0].tolist()
    return int(high) << 64 | int(low)


def chosen(legs: LegColumns, rows: Ints | npt.NDArray[np.bool_]) -> LegColumns:
    """Some of the legs."""
    if rows.dtype == np.bool_:
        rows = np.flatnonzero(rows)
    return LegColumns(*(column.take(rows, axis=0) for column in legs))  # type: ignore[arg-type]  # in order


def joined(parts: list[LegColumns]) -> LegColumns:
    """Legs one after the other."""
    if len(parts) < 2:
        return parts[0] if parts else leg_columns(0)
    return LegColumns(*map(np.concatenate, zip(*parts, strict=True)))


def chosen_opens(opens: OpenColumns, rows: Ints) -> OpenColumns:
    """Some of the accounts to be opened."""
    return OpenColumns(*(column[rows] for column in opens))  # type: ignore[arg-type]  # as above
