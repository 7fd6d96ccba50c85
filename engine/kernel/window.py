"""The id window: what was seen lately, in generations of fixed size.

A leg's id is looked for in every generation whose range of upper 48 bits has it; a fresh UUIDv7 is in the
range of the newest one only. When a generation is dropped its newest UUIDv7 time becomes the watermark: an
id that is younger was never dropped. Ids that were far in the future when they were seen would raise that
watermark into the future, so they are kept apart as strays, and by id for ever once dropped, as far as
there is room.
"""

from typing import Any, Final

import numpy as np

from engine.kernel.compiled import part, seldom
from engine.kernel.index import find, hash_id, insert, remove_newest
from engine.kernel.shapes import (
    BLOCK,
    DROPPED,
    GENERATION,
    GENERATIONS,
    HIGH,
    LAST_LEG,
    LAST_ROW,
    LOW,
    NEWEST,
    RING,
    ROW_CAPACITY,
    ROWS,
    SEED,
    SIDES,
    SLOT_COUNT,
    STRAY_CAPACITY,
    STRAYS,
)
from engine.layout import LegFlag

FUTURE_MS: Final = 60_000
"""How far ahead of the clock a UUIDv7 may be and still be taken for new."""

_MS: Final = np.int64(1_000_000)
_S16: Final = np.uint64(16)
_S12: Final = np.uint64(12)
_S62: Final = np.uint64(62)
_NIBBLE: Final = np.uint64(15)
_VERSION_7: Final = np.uint64(7)
_VARIANT: Final = np.uint64(2)
_ZERO: Final = np.uint64(0)
_NO_ID: Final = int(LegFlag.EXPIRY)
_BURNT: Final = int(LegFlag.BURNT)


@part
def is_uuid7(hi: Any, lo: Any) -> Any:
    """Whether the version and variant bits are those of a UUIDv7."""
    return ((hi >> _S12) & _NIBBLE) == _VERSION_7 and (lo >> _S62) == _VARIANT


@part
def unix_ms(hi: Any) -> Any:
    """The upper 48 bits of an id: a UUIDv7's time."""
    return np.int64(hi >> _S16)


@part
def place_of(s: Any, generation: Any) -> Any:
    """The place of a generation in the ring."""
    return generation % s[RING]


@part
def find_row(b: Any, hi: Any, lo: Any, digest: Any) -> Any:
    """The row of an id in `rows`, in whichever generation it is, or −1."""
    s = b.scalars
    time = unix_ms(hi)
    mask = s[SLOT_COUNT] - 1
    generation = s[GENERATION]
    place = place_of(s, generation)
    while generation >= s[DROPPED]:
        block = GENERATIONS + place * BLOCK
        if s[block + LOW] <= time <= s[block + HIGH]:
            first = place * s[ROW_CAPACITY]
            row = find(b.row_slots, place * s[SLOT_COUNT], mask, b.rows, first, hi, lo, digest)
            if row >= 0:
                return first + row
        generation -= 1
        place -= 1
        if place < 0:
            place += s[RING]
    return np.int64(-1)


@seldom
def note_time(s: Any, strays: Any, block: Any, place: Any, hi: Any, lo: Any) -> None:
    """Takes account of a UUIDv7 that is younger than all others of its generation."""
    time = unix_ms(hi)
    if time > s[LAST_ROW] // _MS + FUTURE_MS and s[block + STRAYS] < s[STRAY_CAPACITY]:
        stray = place * s[STRAY_CAPACITY] + s[block + STRAYS]
        strays[stray, 0] = hi
        strays[stray, 1] = lo
        s[block + STRAYS] += 1
    else:
        s[block + NEWEST] = time


@part
def remember(b: Any, fact: Any, digest: Any) -> None:
    """Adds a fact to the present generation; there is room. `digest` is the hash of its id."""
    s = b.scalars
    place = place_of(s, s[GENERATION])
    block = GENERATIONS + place * BLOCK
    number = s[block + ROWS]
    s[block + ROWS] = number + 1
    row = b.rows[place * s[ROW_CAPACITY] + number]
    row.id_hi = fact.id_hi
    row.id_lo = fact.id_lo
    row.amount = fact.amount
    row.timestamp = s[LAST_LEG] if fact.flags & _BURNT else fact.timestamp
    row.debit = fact.debit
    row.credit = fact.credit
    row.code = fact.code
    row.flags = fact.flags
    row.side = side_of(b, block, place, fact)
    s[LAST_ROW] = max(s[LAST_ROW], fact.timestamp)
    if not fact.flags & _NO_ID:
        insert(b.row_slots, place * s[SLOT_COUNT], s[SLOT_COUNT] - 1, number, digest)
        time = unix_ms(fact.id_hi)
        s[block + LOW] = min(s[block + LOW], time)
        s[block + HIGH] = max(s[block + HIGH], time)
        if time > s[block + NEWEST] and is_uuid7(fact.id_hi, fact.id_lo):
            note_time(s, b.strays, block, place, fact.id_hi, fact.id_lo)


@part
def side_of(b: Any, block: Any, place: Any, fact: Any) -> Any:
    """The number of a side row with the fact's rarer fields: 0, the last one if it has the same, or new."""
    wide = (
        fact.user_data_128_hi | fact.user_data_128_lo | fact.user_data_64 | fact.pending_hi | fact.pending_lo
    )
    if wide == _ZERO and fact.user_data_32 == 0 and fact.timeout == 0 and fact.held == 0:
        return np.int32(0)
    s = b.scalars
    first = place * s[ROW_CAPACITY]
    count = s[block + SIDES]
    if count > 0:
        last = b.sides[first + count - 1]
        if (
            last.user_data_128_lo == fact.user_data_128_lo
            and last.user_data_128_hi == fact.user_data_128_hi
            and last.user_data_64 == fact.user_data_64
            and last.user_data_32 == fact.user_data_32
            and last.pending_lo == fact.pending_lo
            and last.pending_hi == fact.pending_hi
            and last.timeout == fact.timeout
            and last.held == fact.held
        ):
            return np.int32(count)
    side = b.sides[first + count]
    side.pending_hi = fact.pending_hi
    side.pending_lo = fact.pending_lo
    side.user_data_128_hi = fact.user_data_128_hi
    side.user_data_128_lo = fact.user_data_128_lo
    side.user_data_64 = fact.user_data_64
    side.held = fact.held
    side.user_data_32 = fact.user_data_32
    side.timeout = fact.timeout
    s[block + SIDES] = count + 1
    return np.int32(count + 1)


@seldom
def recall(b: Any, row_number: Any, fact: Any) -> None:
    """Makes the fact that a row of the window stands for; a burnt id's has no timestamp."""
    row = b.rows[row_number]
    fact.id_hi = row.id_hi
    fact.id_lo = row.id_lo
    fact.amount = row.amount
    fact.timestamp = row.timestamp
    fact.debit = row.debit
    fact.credit = row.credit
    fact.code = row.code
    fact.flags = row.flags
    fact.pending_hi = _ZERO
    fact.pending_lo = _ZERO
    fact.user_data_128_hi = _ZERO
    fact.user_data_128_lo = _ZERO
    fact.user_data_64 = _ZERO
    fact.held = 0
    fact.user_data_32 = 0
    fact.timeout = 0
    if row.side > 0:
        capacity = b.scalars[ROW_CAPACITY]
        side = b.sides[row_number // capacity * capacity + row.side - 1]
        fact.pending_hi = side.pending_hi
        fact.pending_lo = side.pending_lo
        fact.user_data_128_hi = side.user_data_128_hi
        fact.user_data_128_lo = side.user_data_128_lo
        fact.user_data_64 = side.user_data_64
        fact.held = side.held
        fact.user_data_32 = side.user_data_32
        fact.timeout = side.timeout


@part
def forget_newest(b: Any) -> None:
    """Takes the newest row out of the index; the caller resets the counters."""
    s = b.scalars
    place = place_of(s, s[GENERATION])
    number = s[GENERATIONS + place * BLOCK + ROWS] - 1
    row = b.rows[place * s[ROW_CAPACITY] + number]
    digest = hash_id(row.id_hi, row.id_lo, s[SEED])
    remove_newest(b.row_slots, place * s[SLOT_COUNT], s[SLOT_COUNT] - 1, number, digest)


@seldom
def is_stamp_of_leg(b: Any, timestamp: Any) -> Any:
    """Whether a leg or an expiry in the window has this stamp; rows are in order of time."""
    s = b.scalars
    for generation in range(s[GENERATION], s[DROPPED] - 1, -1):
        place = place_of(s, generation)
        first = place * s[ROW_CAPACITY]
        low, high = first, first + s[GENERATIONS + place * BLOCK + ROWS]
        while low < high:
            middle = (low + high) // 2
            if b.rows[middle].timestamp < timestamp:
                low = middle + 1
            else:
                high = middle
        end = first + s[GENERATIONS + place * BLOCK + ROWS]
        if low < end and b.rows[low].timestamp == timestamp and not b.rows[low].flags & _BURNT:
            return True
    return False
