"""Sets of ids: open addressing without rows beside it, for ids that come and go by the thousand.

A slot is the id itself; id 0, which nobody has, stands for a free one. Probing is linear, and a slot that is
freed is closed up behind, so a set is never slower than what is in it. The caller sees to it that at least
one slot in two is free. The hash depends on a secret seed, as in `engine.kernel.index`.
"""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.compiled import entry, part
from engine.kernel.index import hash_id
from engine.kernel.shapes import IDS_INPUT, column_of

_FREE: Final = np.uint64(0)
_SLOTS: Final = column_of(types.uint64, 2)
_SLOTS_INPUT: Final = column_of(types.uint64, 2, writable=False)


@part
def seek(slots: Any, seed: Any, hi: Any, lo: Any) -> Any:
    """The slot that has an id, or the free one where it would be."""
    mask = slots.shape[0] - 1
    place = np.int64(hash_id(hi, lo, seed)) & mask
    while (slots[place, 0] | slots[place, 1]) != _FREE and (slots[place, 0] != hi or slots[place, 1] != lo):
        place = (place + 1) & mask
    return place


@entry(_SLOTS, types.int64, IDS_INPUT, column_of(types.boolean), returns=types.int64)
def add(slots: Any, seed: Any, ids: Any, new: Any) -> Any:
    """Adds ids, but for 0; writes to `new` which were not there before, and returns how many these are."""
    count = 0
    for i in range(ids.shape[0]):
        hi, lo = ids[i, 0], ids[i, 1]
        place = seek(slots, seed, hi, lo)
        new[i] = (hi | lo) != _FREE and (slots[place, 0] | slots[place, 1]) == _FREE
        if new[i]:
            slots[place, 0] = hi
            slots[place, 1] = lo
            count += 1
    return count


@entry(_SLOTS, types.int64, IDS_INPUT, returns=types.int64)
def discard(slots: Any, seed: Any, ids: Any) -> Any:
    """Takes ids out that may be there; returns how many were."""
    mask = slots.shape[0] - 1
    count = 0
    for i in range(ids.shape[0]):
        hole = seek(slots, seed, ids[i, 0], ids[i, 1])
        if (slots[hole, 0] | slots[hole, 1]) == _FREE:
            continue
        count += 1
        place = hole
        while True:
            place = (place + 1) & mask
            hi, lo = slots[place, 0], slots[place, 1]
            if (hi | lo) == _FREE:
                break
            home = np.int64(hash_id(hi, lo, seed)) & mask
            if ((place - home) & mask) >= ((place - hole) & mask):  # it may stand in the hole
                slots[hole, 0] = hi
                slots[hole, 1] = lo
                hole = place
        slots[hole, 0] = _FREE
        slots[hole, 1] = _FREE
    return count


@entry(_SLOTS_INPUT, types.int64, IDS_INPUT, column_of(types.boolean), returns=types.int64)
def look_up(slots: Any, seed: Any, ids: Any, found: Any) -> Any:
    """Writes to `found` which ids are there; returns how many."""
    count = 0
    for i in range(ids.shape[0]):
        place = seek(slots, seed, ids[i, 0], ids[i, 1])
        found[i] = (slots[place, 0] | slots[place, 1]) != _FREE
        count += found[i]
    return count
