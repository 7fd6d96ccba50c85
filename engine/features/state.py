"""How a feature store's state lies in arrays, and the types of the kernel's arguments.

Events are numbered from 0 in order of time. Event n is in place n & (capacity − 1) of a ring. Each window has
two positions in it, the first event that has not come in and the first that has not gone out, so that moving
time costs only what comes in and goes out. A subject has a row while the ring holds an event of it, and a
cell for every window.

The greatest amount of a window: an event stays in its subject's *descent* until a later one is at least as
large. The descent is linked both ways, as distances between event numbers; the front of a window is its
oldest event there.

Distinct partners of a window: of all events of a subject with one partner the newest stands for the pair, and
the others are *superseded*. A window counts those that stand for one.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from engine.features.definition import FeatureSet, Measure
from engine.kernel.shapes import column_of, rows_of
from engine.kernel.storage import slots_for

SUBJECT = np.dtype(
    [
        ("id_hi", "u8"),
        ("id_lo", "u8"),
        ("last", "i8"),  # time of its last event, ns
        ("descent", "i8"),  # its newest event of the descent, -1 = none
        ("events", "i4"),  # in the ring
        ("next_free", "i4"),  # of a free row: 1 + the next one
    ]
)
"""A party, a counterparty, an instrument: whatever has events in the ring. 40 bytes."""

CELL = np.dtype(
    [
        ("sum", "i8"),
        ("squares_hi", "u8"),  # sum of the squares, 128 bits
        ("squares_lo", "u8"),
        ("front", "i8"),  # the event with the greatest amount, the newest of several; -1 = none
        ("count", "i4"),
        ("distinct", "i4"),
        ("frauds", "i4"),
        ("disputes", "i4"),
    ]
)
"""One subject in one window, 48 bytes."""

# Places in `scalars`.
HEAD: Final = 0  # number of the next event
TAIL: Final = 1  # number of the oldest event in the ring
NOW: Final = 2  # the store's time, ns
LABELLED: Final = 3  # events before this one have been given the label that came with them
LABEL_DELAY: Final = 4
REACH: Final = 5  # of the longest window
ROWS: Final = 6  # rows that were ever used
FREE: Final = 7  # 1 + the first free row below that
SUBJECT_COUNT: Final = 8
PAIR_COUNT: Final = 9
SEED: Final = 10
EVENT_CAPACITY: Final = 11  # a power of two
SLOT_COUNT: Final = 12  # index slots of one kind of subject
EVENTS_MAX: Final = 13
SCALARS: Final = 14

# Bits of `marks`.
FRAUD: Final = 1  # known by now
DISPUTED: Final = 2
EXPECTED: Final = 4  # a fraud that will be known after the label delay

NOBODY: Final = 2**63 - 1
"""In `met`: the event has no partner."""


class Windows(NamedTuple):
    """The state of a store: see `FeatureStore` for what may change it."""

    scalars: npt.NDArray[np.int64]
    delay: npt.NDArray[np.int64]  # of each window
    reach: npt.NDArray[np.int64]
    entered: npt.NDArray[np.int64]  # of each window: the first event that has not come in
    left: npt.NDArray[np.int64]  # and the first that has not gone out
    uses: npt.NDArray[np.uint8]  # (subjects, windows): is there a feature of both?
    partner: npt.NDArray[np.int64]  # of each subject that DISTINCT is asked of; else -1
    ranks: npt.NDArray[np.uint8]  # of each subject: is MAX asked of it?
    time: npt.NDArray[np.int64]  # of each event in the ring
    amount: npt.NDArray[np.int64]
    marks: npt.NDArray[np.uint8]
    superseded: npt.NDArray[np.uint8]  # a bit for each subject
    members: npt.NDArray[np.int32]  # (events, subjects): rows, -1 = none
    newer: npt.NDArray[np.int32]  # distances in the descent, 0 = none
    older: npt.NDArray[np.int32]
    subjects: npt.NDArray[np.void]
    slots: npt.NDArray[np.uint64]  # (subjects × SLOT_COUNT): an index for each kind of subject
    cells: npt.NDArray[np.void]  # (rows × windows)
    pairs: npt.NDArray[np.int64]  # 1 + event × subjects + subject, 0 = free
    found: npt.NDArray[np.int64]  # scratch: rows of the present event
    met: npt.NDArray[np.int64]  # scratch: the event that stands for its pair so far, -1 = none, or NOBODY


class Events(NamedTuple):
    """Events to observe, in order of time: arrays of one length n, C-contiguous."""

    time: npt.NDArray[np.int64]  # ns since 1970-01-01 UTC
    amount: npt.NDArray[np.int64]  # minor units, 0 or more
    subjects: npt.NDArray[np.uint64]  # (n, subjects, 2): ids as two halves, 0 = none
    opened: npt.NDArray[np.int64]  # when the account was opened, ns; 0 = not known
    fraud: npt.NDArray[np.uint8]  # 1 = it will turn out to be one

    def between(self, first: int, last: int) -> "Events":
        """Those from `first` up to, and without, `last`."""
        time, amount, subjects, opened, fraud = self
        part = slice(first, last)
        return Events(time[part], amount[part], subjects[part], opened[part], fraud[part])


_WINDOWS_FIELDS: Final = {
    "scalars": column_of(types.int64),
    "delay": column_of(types.int64),
    "reach": column_of(types.int64),
    "entered": column_of(types.int64),
    "left": column_of(types.int64),
    "uses": column_of(types.uint8, 2),
    "partner": column_of(types.int64),
    "ranks": column_of(types.uint8),
    "time": column_of(types.int64),
    "amount": column_of(types.int64),
    "marks": column_of(types.uint8),
    "superseded": column_of(types.uint8),
    "members": column_of(types.int32, 2),
    "newer": column_of(types.int32, 2),
    "older": column_of(types.int32, 2),
    "subjects": rows_of(SUBJECT),
    "slots": column_of(types.uint64),
    "cells": rows_of(CELL),
    "pairs": column_of(types.int64),
    "found": column_of(types.int64),
    "met": column_of(types.int64),
}
_named_tuple: Any = types.NamedTuple  # untyped
WINDOWS_TYPE: Final = _named_tuple([_WINDOWS_FIELDS[name] for name in Windows._fields], Windows)
EVENTS_TYPE: Final = _named_tuple(
    [
        column_of(types.int64, 1, False),
        column_of(types.int64, 1, False),
        column_of(types.uint64, 3, False),
        column_of(types.int64, 1, False),
        column_of(types.uint8, 1, False),
    ],
    Events,
)
COLUMNS_TYPE: Final = column_of(types.int64, 2, False)  # features as rows of MEASURE, SUBJECT, WINDOW, WITH
MATRIX_TYPE: Final = column_of(types.float64, 2)

MEASURE_OF: Final = 0
SUBJECT_OF: Final = 1
WINDOW_OF: Final = 2
WITH_THIS: Final = 3


def make_windows(wanted: FeatureSet, events: int, subjects: int, seed: int) -> Windows:
    """An empty store with room for so many events (a power of two) and subjects."""
    kinds, spans = len(wanted.subjects), wanted.windows
    slot_count = slots_for(subjects)
    scalars = np.zeros(SCALARS, np.int64)
    scalars[NOW] = np.iinfo(np.int64).min
    scalars[LABEL_DELAY] = wanted.label_delay_ns
    scalars[REACH] = wanted.reach_ns
    scalars[SEED] = np.uint64(seed & 0xFFFFFFFFFFFFFFFF).astype(np.int64)
    scalars[EVENT_CAPACITY] = events
    scalars[SLOT_COUNT] = slot_count
    scalars[EVENTS_MAX] = wanted.events_max
    uses = np.zeros((kinds, len(spans)), np.uint8)
    partner = np.full(kinds, -1, np.int64)
    ranks = np.zeros(kinds, np.uint8)
    for feature in wanted.features:
        if feature.window is None:
            continue
        kind = wanted.subjects.index(feature.subject)
        uses[kind, spans.index(feature.window)] = 1
        if feature.measure is Measure.MAX:
            ranks[kind] = 1
        if feature.measure is Measure.DISTINCT:
            partner[kind] = wanted.subjects.index(wanted.partners[feature.subject])
    return Windows(
        scalars=scalars,
        delay=np.array([window.delay_ns for window in spans], np.int64),
        reach=np.array([window.reach_ns for window in spans], np.int64),
        entered=np.zeros(len(spans), np.int64),
        left=np.zeros(len(spans), np.int64),
        uses=uses,
        partner=partner,
        ranks=ranks,
        time=np.zeros(events, np.int64),
        amount=np.zeros(events, np.int64),
        marks=np.zeros(events, np.uint8),
        superseded=np.zeros(events, np.uint8),
        members=np.zeros((events, kinds), np.int32),
        newer=np.zeros((events, kinds), np.int32),
        older=np.zeros((events, kinds), np.int32),
        subjects=np.zeros(subjects, SUBJECT),
        slots=np.zeros(kinds * slot_count, np.uint64),
        cells=np.zeros(subjects * len(spans), CELL),
        pairs=np.zeros(_pair_slots(partner, events), np.int64),
        found=np.zeros(kinds, np.int64),
        met=np.zeros(kinds, np.int64),
    )


def columns_of(wanted: FeatureSet) -> npt.NDArray[np.int64]:
    """The features as the kernel reads them."""
    rows = []
    for feature in wanted.features:
        subject = wanted.subjects.index(feature.subject) if feature.subject else 0
        window = wanted.windows.index(feature.window) if feature.window is not None else 0
        rows.append((int(feature.measure), subject, window, int(feature.with_this)))
    return np.array(rows, np.int64).reshape(-1, 4)


def _pair_slots(partner: npt.NDArray[np.int64], events: int) -> int:
    return slots_for(int((partner >= 0).sum()) * events)


def with_more_events(w: Windows) -> Windows:
    """The same state with twice the room for events; the index of pairs is empty."""
    old = int(w.scalars[EVENT_CAPACITY])
    numbers = np.arange(w.scalars[TAIL], w.scalars[HEAD])
    grown: dict[str, npt.NDArray[Any]] = {}
    for name in ("time", "amount", "marks", "superseded", "members", "newer", "older"):
        column = getattr(w, name)
        grown[name] = np.zeros((2 * old, *column.shape[1:]), column.dtype)
        grown[name][numbers & (2 * old - 1)] = column[numbers & (old - 1)]
    w.scalars[EVENT_CAPACITY] = 2 * old
    return w._replace(pairs=np.zeros(_pair_slots(w.partner, 2 * old), np.int64), **grown)


def with_more_subjects(w: Windows) -> Windows:
    """The same state with twice the room for subjects; their index is empty."""
    rows, spans = 2 * len(w.subjects), len(w.delay)
    subjects, cells = np.zeros(rows, SUBJECT), np.zeros(rows * spans, CELL)
    subjects[: len(w.subjects)] = w.subjects
    cells[: len(w.cells)] = w.cells
    slot_count = slots_for(rows)
    w.scalars[SLOT_COUNT] = slot_count
    return w._replace(subjects=subjects, cells=cells, slots=np.zeros(len(w.found) * slot_count, np.uint64))
