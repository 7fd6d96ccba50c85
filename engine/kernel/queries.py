"""Reading: accounts by id, and which ids of a block have to be looked up in PostgreSQL."""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.accounts import find_account
from engine.kernel.compiled import entry, part, seldom
from engine.kernel.holds import find_hold
from engine.kernel.index import hash_id
from engine.kernel.shapes import BOOKS_TYPE, IDS_INPUT, SEED, WATERMARK, column_of, columns_type
from engine.kernel.window import FUTURE_MS, find_row, is_uuid7, unix_ms
from engine.layout import LEG_COLUMN_SPEC, LegColumns, LegFlag

_SETTLING: Final = int(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)
_ZERO: Final = np.uint64(0)
_ONES: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


@part
def is_no_id(hi: Any, lo: Any) -> Any:
    """Whether an id is 0 or 2¹²⁸ − 1, which no leg has."""
    return (hi | lo) == _ZERO or (hi & lo) == _ONES


@entry(BOOKS_TYPE, IDS_INPUT, column_of(types.int64))
def find_accounts(b: Any, ids: Any, rows: Any) -> None:
    """Writes the row of each account to `rows`, −1 where there is none."""
    for i in range(rows.size):
        rows[i] = find_account(b, ids[i, 0], ids[i, 1])


@entry(BOOKS_TYPE, IDS_INPUT, column_of(types.int64))
def find_holds(b: Any, ids: Any, rows: Any) -> None:
    """Writes the row of each hold to `rows`, −1 where there is none."""
    for i in range(rows.size):
        rows[i] = find_hold(b, ids[i, 0], ids[i, 1])


@seldom
def is_stray(strays: Any, hi: Any, lo: Any) -> Any:
    """Whether an id is among the strays, which are sorted by id."""
    low, high = 0, strays.shape[0]
    while low < high:
        middle = (low + high) // 2
        if strays[middle, 0] < hi or (strays[middle, 0] == hi and strays[middle, 1] < lo):
            low = middle + 1
        else:
            high = middle
    return low < strays.shape[0] and strays[low, 0] == hi and strays[low, 1] == lo


@part
def is_new(s: Any, strays: Any, newest: Any, hi: Any, lo: Any) -> Any:
    """Whether an id that is not in memory is provably new: younger than all dropped, not of the future."""
    if not (is_uuid7(hi, lo) and s[WATERMARK] < unix_ms(hi) <= newest):
        return False
    return strays.shape[0] == 0 or not is_stray(strays, hi, lo)


@entry(BOOKS_TYPE, IDS_INPUT, IDS_INPUT, types.int64, column_of(types.boolean))
def are_new(b: Any, ids: Any, strays: Any, now: Any, new: Any) -> None:
    """Writes to `new` which ids can't have been used before."""
    s = b.scalars
    newest = now // 1_000_000 + FUTURE_MS
    for i in range(new.size):
        hi, lo = ids[i, 0], ids[i, 1]
        new[i] = is_new(s, strays, newest, hi, lo) and find_row(b, hi, lo, hash_id(hi, lo, s[SEED])) < 0


@entry(
    BOOKS_TYPE,
    columns_type(LegColumns, LEG_COLUMN_SPEC),
    IDS_INPUT,
    types.int64,
    column_of(types.uint64, 2),
    returns=types.int64,
)
def unknown_ids(b: Any, c: Any, strays: Any, now: Any, unknown: Any) -> Any:
    """Writes ids that only PostgreSQL can tell to `unknown`, with room for two a leg; returns how many."""
    s = b.scalars
    newest = now // 1_000_000 + FUTURE_MS
    count = 0
    for i in range(c.amount.size):
        flags = c.flags[i]
        hi, lo = c.id[i, 0], c.id[i, 1]
        needless = is_new(s, strays, newest, hi, lo) or is_no_id(hi, lo)
        if not needless and find_row(b, hi, lo, hash_id(hi, lo, s[SEED])) < 0:
            unknown[count, 0] = hi
            unknown[count, 1] = lo
            count += 1
        if flags & _SETTLING:
            hi, lo = c.pending_id[i, 0], c.pending_id[i, 1]
            if is_new(s, strays, newest, hi, lo) or is_no_id(hi, lo):
                continue
            if find_hold(b, hi, lo) < 0 and find_row(b, hi, lo, hash_id(hi, lo, s[SEED])) < 0:
                unknown[count, 0] = hi
                unknown[count, 1] = lo
                count += 1
    return count
