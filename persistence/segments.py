"""Account history from legs: which accounts a leg touches, and how; compiled, without Python work per leg.

A leg touches its two accounts and every ancestor that has only one of them below it (spec: roll-ups).
`Counters` are kept per account ordinal; `add_legs` adds a run of legs to them, and `segment_rows` writes one
row of `account_history` per account touched, in the COPY BINARY format.
"""

from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from engine.kernel.compiled import entry, part
from engine.layout import LEG_FACT, ROLLUP_LEVELS_MAX, LegFlag

Rows = npt.NDArray[np.void]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]

_PENDING: Final = int(LegFlag.PENDING)
_POST: Final = int(LegFlag.POST_PENDING)
_RELEASE: Final = int(LegFlag.VOID_PENDING | LegFlag.EXPIRY)
_KEEP_OPEN: Final = int(LegFlag.KEEP_OPEN)
TOUCHED_MAX: Final = 2 + 2 * ROLLUP_LEVELS_MAX
"""How many accounts a leg touches at most."""
_INT8_OID: Final = 20
_ELEMENT_BYTES: Final = 12
# fields, then shard, account, legs, first, last, four counters, and the array's size and header
_ROW_BYTES: Final = 2 + (4 + 2) + 2 * (4 + 4) + 6 * (4 + 8) + (4 + 20)

ACCOUNT: Final = 0
LEGS: Final = 1
FIRST: Final = 2
LAST: Final = 3
VALUES: Final = 4
DIGEST: Final = 8
MALFORMED: Final = 9
SEGMENT_WIDTH: Final = 10
"""Places in a segment as `parse` reads it; its four counters start at VALUES."""
_PRIME: Final = -7046029254386353131  # odd, and without pattern

COLUMNS: Final = (
    "shard", "account", "legs", "first", "last", "debits_pending", "debits_posted", "credits_pending",
    "credits_posted", "timestamps",
)  # fmt: skip
"""The columns of the rows that `segment_rows` writes."""

_LEGS = types.Array(numba.from_dtype(LEG_FACT), 1, "C", readonly=True)
_PARENTS = types.int32[::1]
_COUNTERS = types.int64[:, ::1]
_TOUCHED = types.int64[:, ::1]  # per account touched: account, number of legs, first and last timestamp
_INT8S = types.int64[::1]
_OPEN = types.int64[:, ::1]  # per account: positions since the last segment, first, last, digest
_SEGMENTS = types.int64[:, ::1]
_RAW = types.Array(types.uint8, 1, "C", readonly=True)
_STARTS = types.Array(types.int64, 1, "C", readonly=True)
_BYTES = types.uint8[::1]


@part
def effect(flags: int, amount: int, held: int) -> tuple[int, int]:
    """By how much a leg changes the pending and the posted counter of its side."""
    if flags & _RELEASE:
        return -held, 0
    if flags & _POST:
        return -(amount if flags & _KEEP_OPEN else held), amount
    if flags & _PENDING:
        return amount, 0
    return 0, amount


@part
def touched_by(debit: int, credit: int, parents: Int32s, out: Int64s) -> int:
    """Writes the accounts that a leg touches to `out`, those on the debit side first; returns how many
    those are in the low byte and how many in all in the next."""
    out[0] = debit
    n = 1
    if parents[debit] >= 0:
        above = parents[debit]
        while above >= 0:
            other = parents[credit]
            while other >= 0 and other != above:
                other = parents[other]
            if other < 0:
                out[n] = above
                n += 1
            above = parents[above]
    debits = n
    out[n] = credit
    n += 1
    if parents[credit] >= 0:
        above = parents[credit]
        while above >= 0:
            other = parents[debit]
            while other >= 0 and other != above:
                other = parents[other]
            if other < 0:
                out[n] = above
                n += 1
            above = parents[above]
    return debits | n << 8


@part
def _put(out: Uint8s, at: int, value: int, size: int) -> None:
    for i in range(size):
        out[at + i] = (value >> (8 * (size - 1 - i))) & 255


@entry(_LEGS, _PARENTS, _COUNTERS, _INT8S, _TOUCHED, returns=types.int64)
def _apply(legs: Rows, parents: Int32s, counters: Int64s, slots: Int64s, touched: Int64s) -> int:
    """Adds the legs to the counters, notes in `touched` what they touch, in order of first touch, and returns
    how many accounts that are. `slots` is all -1 before and after; its last items are scratch space."""
    around = slots[-TOUCHED_MAX:]
    used = 0
    for i in range(len(legs)):
        leg = legs[i]
        pending, posted = effect(leg.flags, leg.amount, leg.held)
        shape = touched_by(leg.debit, leg.credit, parents, around)
        debits = shape & 255
        for k in range(shape >> 8):
            account = around[k]
            side = 0 if k < debits else 2
            counters[account, side] += pending
            counters[account, side + 1] += posted
            slot = slots[account]
            if slot < 0:
                slot = used
                used += 1
                slots[account] = slot
                touched[slot, 0] = account
                touched[slot, 1] = 0
                touched[slot, 2] = leg.timestamp
            touched[slot, 1] += 1
            touched[slot, 3] = leg.timestamp
    for slot in range(used):
        slots[touched[slot, 0]] = -1
    return used


@entry(_LEGS, _PARENTS, _COUNTERS, _INT8S, _TOUCHED, types.int64, _BYTES)
def _write(
    legs: Rows,
    parents: Int32s,
    counters: Int64s,
    slots: Int64s,
    touched: Int64s,
    shard: int,
    rows: Uint8s,
) -> None:
    """Writes the rows for what `_apply` touched, in the order of `touched`."""
    at = 0
    for k in range(len(touched)):
        account = touched[k, 0]
        count = touched[k, 1]
        _put(rows, at, 10, 2)
        _put(rows, at + 2, 2, 4)
        _put(rows, at + 6, shard, 2)
        _put(rows, at + 8, 4, 4)
        _put(rows, at + 12, account, 4)
        _put(rows, at + 16, 4, 4)
        _put(rows, at + 20, count, 4)
        _put(rows, at + 24, 8, 4)
        _put(rows, at + 28, touched[k, 2], 8)
        _put(rows, at + 36, 8, 4)
        _put(rows, at + 40, touched[k, 3], 8)
        at += 48
        for c in range(4):
            _put(rows, at, 8, 4)
            _put(rows, at + 4, counters[account, c], 8)
            at += 12
        _put(rows, at, 20 + _ELEMENT_BYTES * count, 4)
        _put(rows, at + 4, 1, 4)  # dimensions
        _put(rows, at + 8, 0, 4)  # no nulls
        _put(rows, at + 12, _INT8_OID, 4)
        _put(rows, at + 16, count, 4)
        _put(rows, at + 20, 1, 4)  # lower bound
        at += 24
        slots[account] = at
        at += _ELEMENT_BYTES * count
    around = slots[-TOUCHED_MAX:]
    for i in range(len(legs)):
        leg = legs[i]
        shape = touched_by(leg.debit, leg.credit, parents, around)
        for k in range(shape >> 8):
            at = slots[around[k]]
            _put(rows, at, 8, 4)
            _put(rows, at + 4, leg.timestamp, 8)
            slots[around[k]] = at + _ELEMENT_BYTES
    for k in range(len(touched)):
        slots[touched[k, 0]] = -1


@part
def _get(raw: Uint8s, at: int, size: int) -> Any:
    value = np.int64(raw[at])
    if size < 8 and value & 128:
        value -= 256
    for i in range(1, size):
        value = (value << 8) | raw[at + i]
    return value


@part
def _mix(digest: int, timestamp: int) -> int:
    return (digest ^ timestamp) * _PRIME + 1


@entry(_RAW, _STARTS, types.int64, _SEGMENTS)
def parse(raw: Uint8s, starts: Int64s, shard: int, segments: Int64s) -> None:
    """Reads history rows in the COPY BINARY format, one from each of `starts`. A row that `segment_rows`
    would not have written gets a 1 in `MALFORMED`."""
    for k in range(len(segments)):
        at = starts[k]
        end = starts[k + 1]
        segment = segments[k]
        segment[MALFORMED] = 1
        if end - at < _ROW_BYTES or _get(raw, at, 2) != 10 or _get(raw, at + 6, 2) != shard:
            continue
        segment[ACCOUNT] = _get(raw, at + 12, 4)
        segment[LEGS] = _get(raw, at + 20, 4)
        segment[FIRST] = _get(raw, at + 28, 8)
        segment[LAST] = _get(raw, at + 40, 8)
        for c in range(4):
            segment[VALUES + c] = _get(raw, at + 52 + 12 * c, 8)
        at += 96
        count = _get(raw, at + 16, 4)
        if _get(raw, at + 4, 4) != 1 or count != segment[LEGS] or end - at != 24 + _ELEMENT_BYTES * count:
            continue
        at += 24
        digest = 0
        previous = segment[FIRST] - 1
        wrong = 0
        for i in range(count):
            timestamp = _get(raw, at + _ELEMENT_BYTES * i + 4, 8)
            if timestamp <= previous or (i == 0 and timestamp != segment[FIRST]):
                wrong += 1
            previous = timestamp
            digest = _mix(digest, timestamp)
        segment[DIGEST] = digest
        if wrong == 0 and previous == segment[LAST]:
            segment[MALFORMED] = 0


@part
def _fault_in(segment: Int64s, opened: Int64s, counters: Int64s, count: int) -> int:
    account = segment[ACCOUNT]
    if segment[MALFORMED]:
        return 1
    if account < 0 or account >= count:
        return 2
    if opened[account, 0] == 0 or opened[account, 2] != segment[LAST]:
        return 3
    if opened[account, 0] != segment[LEGS] or opened[account, 1] != segment[FIRST]:
        return 4
    if opened[account, 3] != segment[DIGEST]:
        return 4
    for c in range(4):
        if counters[account, c] != segment[VALUES + c]:
            return 5
    return 0


@entry(_LEGS, _PARENTS, _COUNTERS, _OPEN, _SEGMENTS, _INT8S, types.int64, returns=types.int64)
def walk(
    legs: Rows,
    parents: Int32s,
    counters: Int64s,
    opened: Int64s,
    segments: Int64s,
    position: Int64s,
    count: int,
) -> int:
    """Adds the legs to `counters`, and holds each segment against what its account went through since the one
    before (`opened`). Returns a place in FAULTS, 0 if all is well; `position[0]` is the next segment, the
    rest of it scratch space."""
    around = position[1:]
    k = position[0]
    fault = 0
    for i in range(len(legs)):
        leg = legs[i]
        pending, posted = effect(leg.flags, leg.amount, leg.held)
        shape = touched_by(leg.debit, leg.credit, parents, around)
        debits = shape & 255
        for t in range(shape >> 8):
            account = around[t]
            side = 0 if t < debits else 2
            counters[account, side] += pending
            counters[account, side + 1] += posted
            if opened[account, 0] == 0:
                opened[account, 1] = leg.timestamp
                opened[account, 3] = 0
            opened[account, 0] += 1
            opened[account, 2] = leg.timestamp
            opened[account, 3] = _mix(opened[account, 3], leg.timestamp)
        while fault == 0 and k < len(segments) and segments[k, LAST] <= leg.timestamp:
            fault = _fault_in(segments[k], opened, counters, count)
            if fault == 0:
                opened[segments[k, ACCOUNT], 0] = 0
                k += 1
    position[0] = k
    return fault


FAULTS: Final = (
    "",
    "is not as the projection writes it",
    "is of an account that does not exist",
    "does not end with a leg of the account",
    "has other positions than the log",
    "has other counters than the log gives",
)
"""What `walk` may find wrong with a segment."""


class Counters:
    """The four counters of every account of a shard, by ordinal, as the projection has them."""

    def __init__(self) -> None:
        self.count = 0
        """How many accounts there are."""
        self.values: npt.NDArray[np.int64] = np.zeros((1024, 4), np.int64)
        """Debits pending, debits posted, credits pending, credits posted."""
        self.parents: npt.NDArray[np.int32] = np.full(1024, -1, np.int32)
        self._slots: npt.NDArray[np.int64] = np.full(1024 + TOUCHED_MAX, -1, np.int64)

    def add_accounts(self, parents: npt.NDArray[np.int32]) -> None:
        """The next accounts in order of creation, with the ordinals of their parents (-1 = none)."""
        needed = self.count + len(parents)
        if needed > len(self.parents):
            grown = max(needed, 2 * len(self.parents)) - len(self.parents)
            self.values = np.concatenate((self.values, np.zeros((grown, 4), np.int64)))
            self.parents = np.concatenate((self.parents, np.full(grown, -1, np.int32)))
            self._slots = np.full(len(self.parents) + TOUCHED_MAX, -1, np.int64)
        self.parents[self.count : needed] = parents
        self.count = needed

    def add_legs(self, legs: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
        """Adds `legs` (LEG_FACT, in order, no burnt ids); returns which accounts they touch, in order, each
        with its number of legs and the first and last timestamp, for `segment_rows`."""
        if len(legs) == 0:
            return np.empty((0, 4), np.int64)
        assert int(legs["debit"].max()) < self.count
        assert int(legs["credit"].max()) < self.count
        room = min(self.count, TOUCHED_MAX * len(legs))
        touched = np.empty((room, 4), np.int64)
        used = _apply(legs, self.parents, self.values, self._slots, touched)
        return np.ascontiguousarray(touched[np.argsort(touched[:used, 0])])

    def segment_rows(
        self, shard: int, legs: npt.NDArray[np.void], touched: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint8]:
        """The history rows of all accounts that `legs` touch, which were the last to be added."""
        size = _ROW_BYTES * len(touched) + _ELEMENT_BYTES * int(touched[:, 1].sum())
        rows = np.empty(size, np.uint8)
        _write(legs, self.parents, self.values, self._slots, touched, shard, rows)
        return rows
