"""Hashing and open addressing: from a 128-bit id to a row.

A slot is 0 when free, else the upper 32 bits of the id's hash and 1 + its row. Probing is linear, tables
are at most two thirds full, and the hash depends on a secret seed, so that nobody can choose ids that
collide. Slots are only ever freed in the reverse order of their taking, which leaves the table as it was
before.

A table may be one of several in an array: `base` is where it begins, `mask` its size less one, and
`first_row` what row 0 of it means in `rows`.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.kernel.compiled import part

_TAG: Final = np.uint64(0xFFFFFFFF00000000)
_ROW: Final = np.uint64(0x00000000FFFFFFFF)
_FREE: Final = np.uint64(0)
_M1: Final = np.uint64(0xFF51AFD7ED558CCD)
_M2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_M3: Final = np.uint64(0x9E3779B97F4A7C15)
_S33: Final = np.uint64(33)
_S29: Final = np.uint64(29)
_S32: Final = np.uint64(32)


@part
def hash_id(hi: Any, lo: Any, seed: Any) -> Any:
    """64 well mixed bits of an id and the seed."""
    seed = np.uint64(seed)
    x = lo ^ seed
    x = (x ^ (x >> _S33)) * _M1
    x = (x ^ (x >> _S29)) * _M2
    x = (x ^ (x >> _S32)) + (hi ^ (seed * _M3)) * _M3
    x = (x ^ (x >> _S33)) * _M1
    x = (x ^ (x >> _S29)) * _M2
    return x ^ (x >> _S32)


@part
def home(digest: Any, mask: Any) -> Any:
    """The slot, from the beginning of the table, where probing starts."""
    return np.int64(digest) & mask


@part
def find(
    slots: npt.NDArray[np.uint64],
    base: Any,
    mask: Any,
    rows: Any,
    first_row: Any,
    hi: Any,
    lo: Any,
    digest: Any,
) -> Any:
    """The row with this id, from the beginning of the table, or −1."""
    tag = digest & _TAG
    place = np.int64(digest) & mask
    while True:
        slot = slots[base + place]
        if slot == _FREE:
            return np.int64(-1)
        if (slot & _TAG) == tag:
            row = np.int64(slot & _ROW) - np.int64(1)
            found = rows[first_row + row]
            if found.id_lo == lo and found.id_hi == hi:
                return row
        place = (place + np.int64(1)) & mask


@part
def likely_row(slots: npt.NDArray[np.uint64], mask: Any, digest: Any) -> Any:
    """The row that `find` will look at first, without looking at it; −1 if there is none."""
    tag = digest & _TAG
    place = np.int64(digest) & mask
    while slots[place] != _FREE and (slots[place] & _TAG) != tag:
        place = (place + np.int64(1)) & mask
    if slots[place] == _FREE:
        return np.int64(-1)
    return np.int64(slots[place] & _ROW) - np.int64(1)


@part
def insert(slots: npt.NDArray[np.uint64], base: Any, mask: Any, row: Any, digest: Any) -> None:
    """Enters a row whose id is not in the table."""
    place = np.int64(digest) & mask
    while slots[base + place] != _FREE:
        place = (place + np.int64(1)) & mask
    slots[base + place] = (digest & _TAG) | np.uint64(row + np.int64(1))


@part
def remove_newest(slots: npt.NDArray[np.uint64], base: Any, mask: Any, row: Any, digest: Any) -> None:
    """Takes out the row that was entered last."""
    slot = (digest & _TAG) | np.uint64(row + np.int64(1))
    place = np.int64(digest) & mask
    while slots[base + place] != slot:
        place = (place + np.int64(1)) & mask
    slots[base + place] = _FREE
