"""Which counter an amount would overflow: off the hot path, which only asks whether any would."""

from typing import Any, Final

import numpy as np

from engine.kernel.compiled import part, seldom
from engine.layout import AMOUNT_MAX
from engine.results import Result

_MAX: Final = np.int64(AMOUNT_MAX)
_PENDING: Final = 1
_POSTED: Final = 2
_BOTH: Final = 4


@part
def overflowing(pending: Any, posted: Any, amount: Any) -> Any:
    """Which of an account's counters on one side, or their sum, would exceed `AMOUNT_MAX`, as bits."""
    room = _MAX - amount
    found = _PENDING if pending > room else 0
    if posted > room:
        found |= _POSTED
    if pending + posted > room:
        found |= _BOTH
    return found


@seldom
def first_overflow(b: Any, dr: Any, cr: Any, amount: Any, pending: Any) -> Any:
    """The first overflow that applies to a leg, over both its accounts and their ancestors; there is one."""
    accounts = b.accounts
    debits = overflowing(accounts[dr].debits_pending, accounts[dr].debits_posted, amount)
    credits_ = overflowing(accounts[cr].credits_pending, accounts[cr].credits_posted, amount)
    dr, cr = np.int64(accounts[dr].parent), np.int64(accounts[cr].parent)
    while dr != cr:
        if dr > cr:
            debits |= overflowing(accounts[dr].debits_pending, accounts[dr].debits_posted, amount)
            dr = np.int64(accounts[dr].parent)
        else:
            credits_ |= overflowing(accounts[cr].credits_pending, accounts[cr].credits_posted, amount)
            cr = np.int64(accounts[cr].parent)
    if pending and debits & _PENDING:
        return Result.OVERFLOWS_DEBITS_PENDING.value
    if pending and credits_ & _PENDING:
        return Result.OVERFLOWS_CREDITS_PENDING.value
    if debits & _POSTED:
        return Result.OVERFLOWS_DEBITS_POSTED.value
    if credits_ & _POSTED:
        return Result.OVERFLOWS_CREDITS_POSTED.value
    if debits & _BOTH:
        return Result.OVERFLOWS_DEBITS.value
    return Result.OVERFLOWS_CREDITS.value
