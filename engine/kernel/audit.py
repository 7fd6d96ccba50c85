"""The invariants of a ledger's state, checked over all of it: slow, for tests, recovery and `verify`."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import types

from engine.kernel.accounts import find_account, levels_above
from engine.kernel.compiled import entry
from engine.kernel.holds import expiry_of, find_hold
from engine.kernel.index import hash_id
from engine.kernel.shapes import (
    ACCOUNT_COUNT,
    BLOCK,
    BOOKS_TYPE,
    DROPPED,
    GENERATION,
    GENERATIONS,
    HOLD_COUNT,
    LAST_LEG,
    LAST_TIMESTAMP,
    ROW_CAPACITY,
    ROWS,
    SEED,
    SIDES,
    column_of,
)
from engine.kernel.window import find_row, place_of
from engine.layout import AMOUNT_MAX, ROLLUP_LEVELS_MAX, AccountFlag, HoldStatus, LegFlag

_MAX: Final = np.int64(AMOUNT_MAX)
_LEVELS: Final = int(ROLLUP_LEVELS_MAX)
_ROLLUP: Final = int(AccountFlag.ROLLUP)
_CLOSED: Final = int(AccountFlag.CLOSED)
_OPEN: Final = int(HoldStatus.OPEN)
_LOCKED: Final = int(HoldStatus.LOCKED)
_CLOSING_DEBIT: Final = int(LegFlag.CLOSING_DEBIT)
_CLOSING_CREDIT: Final = int(LegFlag.CLOSING_CREDIT)
_NO_ID: Final = int(LegFlag.EXPIRY)

FAULTS: Final = (
    "",
    "an account's index entry is missing",
    "a counter is negative, or pending and posted together exceed the greatest amount",
    "an account's version is below 1",
    "accounts are not in order of creation",
    "a parent is not an older roll-up of the same asset within the allowed levels",
    "pending counters differ from what the open holds reserve",
    "a roll-up's balance differs from that of the accounts below it",
    "a hold's index entry is missing",
    "a hold's expiry is not where the sweep looks",
    "an open hold's closing flag and its account disagree",
    "a hold names accounts that are not there, or holds a negative amount",
    "an id of the window is not in its index, or there twice",
    "the window's rows are not in order of time",
    "a row of the window names accounts or side rows that are not there",
    "a stamp is later than the last one",
)
"""What a number returned by the checks means; 0 is none."""


@entry(BOOKS_TYPE, column_of(types.int64), returns=types.int64)
def check_accounts(b: Any, where: Any) -> Any:
    """Checks each account by itself."""
    s = b.scalars
    for row in range(s[ACCOUNT_COUNT]):
        where[0] = row
        a = b.accounts[row]
        if find_account(b, a.id_hi, a.id_lo) != row:
            return 1
        if min(a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted) < 0:
            return 2
        if a.debits_pending > _MAX - a.debits_posted or a.credits_pending > _MAX - a.credits_posted:
            return 2
        if a.version < 1:
            return 3
        if row > 0 and a.timestamp <= b.accounts[row - 1].timestamp:
            return 4
        if a.timestamp > s[LAST_TIMESTAMP]:
            return 15
        if a.parent != -1:
            if not 0 <= a.parent < row or levels_above(b, row) > _LEVELS:
                return 5
            above = b.accounts[a.parent]
            if not above.flags & _ROLLUP or above.asset != a.asset:
                return 5
    return 0


@entry(
    BOOKS_TYPE,
    column_of(types.int64),
    column_of(types.int64),
    column_of(types.int64),
    column_of(types.int64),
    returns=types.int64,
)
def check_sums(b: Any, where: Any, debits: Any, credits_: Any, below: Any) -> Any:
    """Checks what follows from the open holds and from the accounts below a roll-up.

    The last three are scratch space, one per account: what is pending without a hold, on either side, and
    zeros.
    """
    s = b.scalars
    count = s[ACCOUNT_COUNT]
    for number in range(s[HOLD_COUNT]):
        hold = b.holds[number]
        if hold.status == _OPEN or hold.status == _LOCKED:
            debits[hold.debit] += hold.held
            credits_[hold.credit] += hold.held
            dr = np.int64(b.accounts[hold.debit].parent)
            cr = np.int64(b.accounts[hold.credit].parent)
            while dr != cr:
                if dr > cr:
                    debits[dr] += hold.held
                    dr = np.int64(b.accounts[dr].parent)
                else:
                    credits_[cr] += hold.held
                    cr = np.int64(b.accounts[cr].parent)
    for row in range(count - 1, -1, -1):
        where[0] = row
        a = b.accounts[row]
        if a.debits_pending != debits[row] or a.credits_pending != credits_[row]:
            return 6
        balance = a.credits_posted - a.debits_posted
        if a.flags & _ROLLUP and balance != below[row]:
            return 7
        if a.parent >= 0:
            below[a.parent] += balance
    return 0


@entry(BOOKS_TYPE, column_of(types.int64), returns=types.int64)
def check_holds(b: Any, where: Any) -> Any:
    """Checks each hold by itself."""
    s = b.scalars
    for number in range(s[HOLD_COUNT]):
        where[0] = number
        hold = b.holds[number]
        if not (0 <= hold.debit < s[ACCOUNT_COUNT] and 0 <= hold.credit < s[ACCOUNT_COUNT]) or hold.held < 0:
            return 11
        if find_hold(b, hold.id_hi, hold.id_lo) != number:
            return 8
        if b.expiries[number] != (expiry_of(hold) if hold.status == _OPEN else _MAX):
            return 9
        is_open = hold.status == _OPEN or hold.status == _LOCKED
        if is_open != (hold.generation < 0):
            return 9
        if is_open and hold.flags & _CLOSING_DEBIT and not b.accounts[hold.debit].flags & _CLOSED:
            return 10
        if is_open and hold.flags & _CLOSING_CREDIT and not b.accounts[hold.credit].flags & _CLOSED:
            return 10
    return 0


@entry(BOOKS_TYPE, column_of(types.int64), returns=types.int64)
def check_window(b: Any, where: Any) -> Any:
    """Checks the rows of all generations."""
    s = b.scalars
    last = np.int64(0)
    for generation in range(s[DROPPED], s[GENERATION] + 1):
        place = place_of(s, generation)
        block = GENERATIONS + place * BLOCK
        first = place * s[ROW_CAPACITY]
        for number in range(s[block + ROWS]):
            where[0] = number
            row = b.rows[first + number]
            digest = hash_id(row.id_hi, row.id_lo, s[SEED])
            if not row.flags & _NO_ID and find_row(b, row.id_hi, row.id_lo, digest) != first + number:
                return 12
            if row.timestamp < last:
                return 13
            last = row.timestamp
            if not (-1 <= row.debit < s[ACCOUNT_COUNT] and -1 <= row.credit < s[ACCOUNT_COUNT]):
                return 14
            if not 0 <= row.side <= s[block + SIDES]:
                return 14
    return 15 if last > s[LAST_LEG] or s[LAST_LEG] > s[LAST_TIMESTAMP] else 0


def unbalanced(accounts: npt.NDArray[Any], reserved: npt.NDArray[Any]) -> Iterator[str]:
    """Says which debits and credits differ; roll-ups are left out, since they repeat what is below them, and
    so is what is pending without a hold (RESERVED)."""
    accounts = without_reserved(accounts, reserved)
    accounts = accounts[(accounts["flags"] & AccountFlag.ROLLUP) == 0]
    by_asset = np.argsort(accounts["asset"], kind="stable")
    assets, starts = np.unique(accounts["asset"][by_asset], return_index=True)
    sums = {
        (side, kind): exact_sums(accounts[f"{side}_{kind}"][by_asset], starts)
        for side in ("debits", "credits")
        for kind in ("pending", "posted")
    }
    for place, asset in enumerate(assets.tolist()):
        for kind in ("pending", "posted"):
            debits, credits_ = sums["debits", kind][place], sums["credits", kind][place]
            if debits != credits_:
                yield f"{kind} debits and credits of asset {asset} differ: {debits} and {credits_}"


def without_reserved(accounts: npt.NDArray[Any], reserved: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The accounts as they would be without what is pending without a hold."""
    if len(reserved):
        accounts = accounts.copy()
        np.subtract.at(accounts["debits_pending"], reserved["account"], reserved["debits"])
        np.subtract.at(accounts["credits_pending"], reserved["account"], reserved["credits"])
    return accounts


def exact_sums(counters: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]) -> list[int]:
    """Sums from each start to the next, which cannot overflow below 2³¹ counters."""
    if not len(starts):
        return []
    high = np.add.reduceat(counters >> 32, starts).tolist()
    low = np.add.reduceat(counters & 0xFFFFFFFF, starts).tolist()
    return [(upper << 32) + lower for upper, lower in zip(high, low, strict=True)]
