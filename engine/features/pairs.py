"""Which event stands for a pair of subject and partner: an index from both rows to the newest event."""

from typing import Any

import numpy as np

from engine.features.state import EVENT_CAPACITY, PAIR_COUNT, SEED
from engine.kernel.compiled import part, seldom
from engine.kernel.index import hash_id


@part
def _start(w: Any, kind: Any, row: Any, partner: Any) -> Any:
    """The slot where probing for a pair starts."""
    both = (np.uint64(row) << np.uint64(32)) | np.uint64(partner)
    return np.int64(hash_id(np.uint64(kind), both, w.scalars[SEED])) & (w.pairs.size - 1)


@part
def _start_of(w: Any, kind: Any, event: Any) -> Any:
    place = event & (w.scalars[EVENT_CAPACITY] - 1)
    return _start(w, kind, w.members[place, kind], w.members[place, w.partner[kind]])


@part
def newest_of_pair(w: Any, kind: Any, row: Any, partner: Any) -> Any:
    """The newest event of a pair, −1 if the ring holds none."""
    kinds, mask = w.found.size, w.pairs.size - 1
    ring = w.scalars[EVENT_CAPACITY] - 1
    slot = _start(w, kind, row, partner)
    while w.pairs[slot] != 0:
        entry = w.pairs[slot] - 1
        if entry % kinds == kind:
            place = (entry // kinds) & ring
            if w.members[place, kind] == row and w.members[place, w.partner[kind]] == partner:
                return entry // kinds
        slot = (slot + 1) & mask
    return np.int64(-1)


@part
def stand_for_pair(w: Any, kind: Any, event: Any, before: Any) -> None:
    """Lets an event stand for its pair, in place of the one before it (−1 = none)."""
    kinds, mask = w.found.size, w.pairs.size - 1
    slot = _start_of(w, kind, event)
    wanted = before * kinds + kind + 1 if before >= 0 else 0
    while w.pairs[slot] != wanted:
        slot = (slot + 1) & mask
    w.pairs[slot] = event * kinds + kind + 1
    if before < 0:
        w.scalars[PAIR_COUNT] += 1


@seldom
def forget_pair(w: Any, kind: Any, event: Any) -> None:
    """Takes out the pair that an event stands for; the slots behind it move up."""
    kinds, mask = w.found.size, w.pairs.size - 1
    gap = _start_of(w, kind, event)
    while w.pairs[gap] != event * kinds + kind + 1:
        gap = (gap + 1) & mask
    slot = (gap + 1) & mask
    while w.pairs[slot] != 0:
        entry = w.pairs[slot] - 1
        start = _start_of(w, entry % kinds, entry // kinds)
        if ((slot - start) & mask) >= ((slot - gap) & mask):
            w.pairs[gap] = w.pairs[slot]
            gap = slot
        slot = (slot + 1) & mask
    w.pairs[gap] = 0
    w.scalars[PAIR_COUNT] -= 1
