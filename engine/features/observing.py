"""What Python calls: events in order of time go in, rows of features come out."""

from typing import Any, Final

import numpy as np
from numba import types

from engine.features.pairs import stand_for_pair
from engine.features.state import (
    COLUMNS_TYPE,
    EVENT_CAPACITY,
    EVENTS_MAX,
    EVENTS_TYPE,
    HEAD,
    MATRIX_TYPE,
    PAIR_COUNT,
    ROWS,
    SEED,
    SLOT_COUNT,
    TAIL,
    WINDOWS_TYPE,
)
from engine.features.subjects import has_room
from engine.features.values import write_features
from engine.features.windows import add, advance, locate, mark
from engine.kernel.compiled import entry
from engine.kernel.index import hash_id, insert
from engine.kernel.shapes import column_of

_NUMBERS: Final = column_of(types.int64, 1, False)


@entry(WINDOWS_TYPE, COLUMNS_TYPE, EVENTS_TYPE, types.int64, MATRIX_TYPE, returns=types.int64)
def observe(w: Any, columns: Any, events: Any, first: Any, matrix: Any) -> Any:
    """Reads the features of each event from the first on, then takes it in.

    Returns the number of the first event that there is no room for, or how many events there are. Without
    columns nothing is read.
    """
    s = w.scalars
    for i in range(first, events.time.size):
        advance(w, events.time[i])
        if s[HEAD] - s[TAIL] >= min(s[EVENT_CAPACITY], s[EVENTS_MAX]) or not has_room(w, w.found.size):
            return i
        locate(w, events.subjects, i)
        if columns.shape[0] > 0:
            write_features(w, columns, events, i, matrix)
        add(w, events, i)
    return events.time.size


@entry(WINDOWS_TYPE, COLUMNS_TYPE, EVENTS_TYPE, MATRIX_TYPE)
def read(w: Any, columns: Any, events: Any, matrix: Any) -> None:
    """Reads the features that each event would have if it were the next one; takes in none."""
    for i in range(events.time.size):
        advance(w, events.time[i])
        locate(w, events.subjects, i)
        write_features(w, columns, events, i, matrix)


@entry(WINDOWS_TYPE, types.int64)
def move_on(w: Any, now: Any) -> None:
    """Moves the store's time on."""
    advance(w, now)


@entry(WINDOWS_TYPE, _NUMBERS, types.int64)
def mark_events(w: Any, numbers: Any, label: Any) -> None:
    """Marks events by number; those that the ring does not hold any more change nothing."""
    for i in range(numbers.size):
        if w.scalars[TAIL] <= numbers[i] < w.scalars[HEAD]:
            mark(w, numbers[i], label)


@entry(WINDOWS_TYPE)
def index_subjects(w: Any) -> None:
    """Fills the empty index of subjects, from the events of the ring."""
    s = w.scalars
    ring, count = s[EVENT_CAPACITY] - 1, s[SLOT_COUNT]
    for event in range(s[HEAD] - 1, s[TAIL] - 1, -1):
        for kind in range(w.found.size):
            row = np.int64(w.members[event & ring, kind])
            if row >= 0 and w.subjects[row].next_free == 0:
                subject = w.subjects[row]
                subject.next_free = -1  # seen
                digest = hash_id(subject.id_hi, subject.id_lo, s[SEED])
                insert(w.slots, kind * count, count - 1, row, digest)
    for used in range(s[ROWS]):
        if w.subjects[used].next_free < 0:
            w.subjects[used].next_free = 0


@entry(WINDOWS_TYPE)
def index_pairs(w: Any) -> None:
    """Fills the empty index of pairs, from the events of the ring."""
    s = w.scalars
    ring = s[EVENT_CAPACITY] - 1
    s[PAIR_COUNT] = 0
    for event in range(s[TAIL], s[HEAD]):
        for kind in range(w.found.size):
            place = event & ring
            if w.partner[kind] < 0 or w.members[place, kind] < 0:
                continue
            if (w.superseded[place] >> kind) & 1 == 0:
                stand_for_pair(w, kind, event, np.int64(-1))
