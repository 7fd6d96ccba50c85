"""Applying facts: the one place where legs change state, for live legs and for replayed ones."""

from typing import Any, Final

import numpy as np

from engine.kernel.accounts import drop_accounts, move
from engine.kernel.compiled import part, seldom
from engine.kernel.holds import add_hold, drop_newest_hold, find_hold, set_closing, settle, unsettle
from engine.kernel.shapes import (
    ACCOUNT_COUNT,
    BLOCK,
    GENERATION,
    GENERATIONS,
    LAST_LEG,
    LAST_TIMESTAMP,
    ROW_CAPACITY,
    ROWS,
)
from engine.kernel.window import forget_newest, place_of, recall, remember
from engine.layout import LegFlag

_PENDING: Final = int(LegFlag.PENDING)
_CLOSING: Final = int(LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT)
_SETTLING: Final = int(LegFlag.POST_PENDING | LegFlag.VOID_PENDING | LegFlag.EXPIRY)
_BURNT: Final = int(LegFlag.BURNT)


@part
def copy_scalars(source: Any, to: Any) -> None:
    """Copies all counters: when a chain begins, and back when it failed."""
    for place in range(source.size):
        to[place] = source[place]


@part
def apply(b: Any, fact: Any, digest: Any, hold: Any) -> None:
    """Does what a fact says. `digest` is the hash of its id, and `hold` the row of the hold that it names."""
    s = b.scalars
    flags = fact.flags
    if not flags & _BURNT:
        if flags & _SETTLING:
            settle(b, hold, fact)
        elif flags & _PENDING:
            move(b, np.int64(fact.debit), np.int64(fact.credit), fact.amount, 0, 1)
            add_hold(b, fact)
            if flags & _CLOSING:
                set_closing(b, flags, fact.debit, fact.credit, True)
        else:
            move(b, np.int64(fact.debit), np.int64(fact.credit), 0, fact.amount, 1)
        s[LAST_LEG] = fact.timestamp
    s[LAST_TIMESTAMP] = max(s[LAST_TIMESTAMP], fact.timestamp)
    remember(b, fact, digest)


@seldom
def undo_chain(b: Any, scratch: Any) -> None:
    """Takes back all since `saved` was filled: accepted legs, newest first, then opened accounts."""
    s = b.scalars
    before = b.saved
    place = place_of(s, s[GENERATION])
    block = GENERATIONS + place * BLOCK
    while s[block + ROWS] > before[block + ROWS]:
        forget_newest(b)
        number = s[block + ROWS] - 1
        recall(b, place * s[ROW_CAPACITY] + number, scratch)
        s[block + ROWS] = number
        flags = scratch.flags
        if flags & _SETTLING:
            unsettle(b, find_hold(b, scratch.pending_hi, scratch.pending_lo), scratch)
        elif flags & _PENDING:
            drop_newest_hold(b)
            move(b, np.int64(scratch.debit), np.int64(scratch.credit), -scratch.amount, 0, -1)
            if flags & _CLOSING:
                set_closing(b, flags, scratch.debit, scratch.credit, False)
        else:
            move(b, np.int64(scratch.debit), np.int64(scratch.credit), 0, -scratch.amount, -1)
    drop_accounts(b, before[ACCOUNT_COUNT])
    copy_scalars(before, s)
