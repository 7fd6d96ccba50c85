"""What happens between turns: new generations, dropped ones, holds that run out, tables that grow."""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.compiled import entry
from engine.kernel.facts import apply
from engine.kernel.holds import expiry_of
from engine.kernel.index import hash_id, insert
from engine.kernel.shapes import (
    ACCOUNT_COUNT,
    BLOCK,
    BOOKS_TYPE,
    DROPPED,
    EXPIRY_STALE,
    GENERATION,
    GENERATIONS,
    HIGH,
    HOLD_COUNT,
    INT64_INPUT,
    LAST,
    LAST_TIMESTAMP,
    LEG_FACTS,
    LOW,
    NEWEST,
    NEXT_EXPIRY,
    ROW_CAPACITY,
    ROWS,
    SEED,
    SIDES,
    SLOT_COUNT,
    STRAYS,
    column_of,
)
from engine.kernel.window import place_of
from engine.layout import AMOUNT_MAX, HoldStatus, LegFlag

_NEVER: Final = np.int64(AMOUNT_MAX)
_OPEN: Final = int(HoldStatus.OPEN)
_EXPIRY: Final = int(LegFlag.EXPIRY)
_ZERO: Final = np.uint64(0)


@entry(BOOKS_TYPE)
def begin_generation(b: Any) -> None:
    """Opens the next generation; its place in the ring is free."""
    s = b.scalars
    if s[GENERATION] >= 0:
        s[GENERATIONS + place_of(s, s[GENERATION]) * BLOCK + LAST] = s[LAST_TIMESTAMP]
    s[GENERATION] += 1
    block = GENERATIONS + place_of(s, s[GENERATION]) * BLOCK
    s[block + ROWS] = 0
    s[block + SIDES] = 0
    s[block + LOW] = _NEVER
    s[block + HIGH] = -1
    s[block + NEWEST] = -1
    s[block + STRAYS] = 0
    s[block + LAST] = _NEVER


@entry(BOOKS_TYPE)
def index_accounts(b: Any) -> None:
    """Fills the empty index of the accounts."""
    for number in range(b.scalars[ACCOUNT_COUNT]):
        account = b.accounts[number]
        digest = hash_id(account.id_hi, account.id_lo, b.scalars[SEED])
        insert(b.account_slots, 0, b.account_slots.size - 1, number, digest)


@entry(BOOKS_TYPE)
def index_holds(b: Any) -> None:
    """Fills the empty index of the holds, and their expiries."""
    for number in range(b.scalars[HOLD_COUNT]):
        hold = b.holds[number]
        b.expiries[number] = expiry_of(hold) if hold.status == _OPEN else _NEVER
        digest = hash_id(hold.id_hi, hold.id_lo, b.scalars[SEED])
        insert(b.hold_slots, 0, b.hold_slots.size - 1, number, digest)
    b.scalars[EXPIRY_STALE] = 1


@entry(BOOKS_TYPE)
def clear_oldest(b: Any) -> None:
    """Drops the oldest generation: empties its index, and forgets the holds that were resolved in it."""
    s = b.scalars
    first = place_of(s, s[DROPPED]) * s[SLOT_COUNT]
    for slot in range(first, first + s[SLOT_COUNT]):
        b.row_slots[slot] = _ZERO
    kept = np.int64(0)
    for number in range(s[HOLD_COUNT]):
        hold = b.holds[number]
        if hold.generation < 0 or hold.generation > s[DROPPED]:
            if kept < number:
                b.holds[kept] = b.holds[number]
                b.expiries[kept] = b.expiries[number]
            kept += 1
    s[DROPPED] += 1
    if kept < s[HOLD_COUNT]:
        s[HOLD_COUNT] = kept
        for slot in range(b.hold_slots.size):
            b.hold_slots[slot] = _ZERO
        index_holds(b)


@entry(BOOKS_TYPE, types.int64)
def index_rows(b: Any, place: Any) -> None:
    """Fills the empty index of the generation at a place of the ring."""
    s = b.scalars
    first = place * s[ROW_CAPACITY]
    for number in range(s[GENERATIONS + place * BLOCK + ROWS]):
        row = b.rows[first + number]
        if not row.flags & _EXPIRY:
            digest = hash_id(row.id_hi, row.id_lo, s[SEED])
            insert(b.row_slots, place * s[SLOT_COUNT], s[SLOT_COUNT] - 1, number, digest)


@entry(BOOKS_TYPE, returns=types.int64)
def first_expiry(b: Any) -> Any:
    """When the first open hold runs out; `AMOUNT_MAX` if none ever does."""
    s = b.scalars
    if s[EXPIRY_STALE]:
        first = _NEVER
        for number in range(s[HOLD_COUNT]):
            first = min(first, b.expiries[number])
        s[NEXT_EXPIRY] = first
        s[EXPIRY_STALE] = 0
    return s[NEXT_EXPIRY]


@entry(BOOKS_TYPE, types.int64, column_of(types.int64), returns=types.int64)
def due_holds(b: Any, now: Any, numbers: Any) -> Any:
    """Writes the rows of the holds that are due to `numbers`; returns how many there are."""
    count = 0
    for number in range(b.scalars[HOLD_COUNT]):
        if b.expiries[number] <= now:
            numbers[count] = number
            count += 1
    return count


@entry(BOOKS_TYPE, INT64_INPUT, types.int64, LEG_FACTS)
def expire_holds(b: Any, numbers: Any, time: Any, facts: Any) -> None:
    """Releases these holds; the last is stamped `time`."""
    for i in range(numbers.size):
        hold = b.holds[numbers[i]]
        fact = facts[i]
        fact.id_hi = _ZERO
        fact.id_lo = _ZERO
        fact.pending_hi = hold.id_hi
        fact.pending_lo = hold.id_lo
        fact.user_data_128_hi = _ZERO
        fact.user_data_128_lo = _ZERO
        fact.user_data_64 = _ZERO
        fact.amount = 0
        fact.held = hold.held
        fact.timestamp = time - numbers.size + 1 + i
        fact.debit = hold.debit
        fact.credit = hold.credit
        fact.user_data_32 = 0
        fact.timeout = 0
        fact.code = hold.code
        fact.flags = _EXPIRY
        fact._pad = 0
        apply(b, fact, _ZERO, numbers[i])
