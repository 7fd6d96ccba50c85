"""From a subject's id to its row, and rows that come and go with the events of the ring."""

from typing import Any, Final

import numpy as np

from engine.features.state import FREE, ROWS, SEED, SLOT_COUNT, SUBJECT_COUNT
from engine.kernel.compiled import part, seldom
from engine.kernel.index import find, hash_id, insert

_ROW: Final = np.uint64(0x00000000FFFFFFFF)
_FREE_SLOT: Final = np.uint64(0)


@part
def row_of(w: Any, kind: Any, hi: Any, lo: Any) -> Any:
    """The row of a subject, −1 if it has none."""
    s = w.scalars
    count = s[SLOT_COUNT]
    digest = hash_id(hi, lo, s[SEED])
    return find(w.slots, kind * count, count - 1, w.subjects, np.int64(0), hi, lo, digest)


@part
def has_room(w: Any, more: Any) -> Any:
    """Whether so many subjects more have rows to go to."""
    s = w.scalars
    return s[SUBJECT_COUNT] + more <= w.subjects.size


@seldom
def take_row(w: Any, kind: Any, hi: Any, lo: Any) -> Any:
    """A row for a subject that has none; there is room."""
    s = w.scalars
    if s[FREE] > 0:
        row = s[FREE] - 1
        s[FREE] = np.int64(w.subjects[row].next_free)
    else:
        row = s[ROWS]
        s[ROWS] += 1
    s[SUBJECT_COUNT] += 1
    subject = w.subjects[row]
    subject.id_hi = hi
    subject.id_lo = lo
    subject.last = 0
    subject.descent = -1
    subject.events = 0
    subject.next_free = 0
    spans = w.delay.size
    for span in range(spans):
        w.cells[row * spans + span].front = -1
    insert(w.slots, kind * s[SLOT_COUNT], s[SLOT_COUNT] - 1, row, hash_id(hi, lo, s[SEED]))
    return row


@seldom
def give_row_back(w: Any, kind: Any, row: Any) -> None:
    """Frees the row of a subject without events; its cells are empty by now.

    The slots behind its own move up, as far as they are nearer to where their probing starts.
    """
    s = w.scalars
    subject = w.subjects[row]
    base, mask = kind * s[SLOT_COUNT], s[SLOT_COUNT] - 1
    gap = np.int64(hash_id(subject.id_hi, subject.id_lo, s[SEED])) & mask
    while np.int64(w.slots[base + gap] & _ROW) - 1 != row:
        gap = (gap + 1) & mask
    place = (gap + 1) & mask
    while w.slots[base + place] != _FREE_SLOT:
        other = w.subjects[np.int64(w.slots[base + place] & _ROW) - 1]
        start = np.int64(hash_id(other.id_hi, other.id_lo, s[SEED])) & mask
        if ((place - start) & mask) >= ((place - gap) & mask):
            w.slots[base + gap] = w.slots[base + place]
            gap = place
        place = (place + 1) & mask
    w.slots[base + gap] = _FREE_SLOT
    subject.next_free = np.int32(s[FREE])
    s[FREE] = row + 1
    s[SUBJECT_COUNT] -= 1
