"""Replay: applying what the log says happened, without judging it again.

The same functions change state as when the facts were made, so a replayed ledger is array for array the
live one.
"""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.accounts import add_account
from engine.kernel.compiled import entry, prefetch
from engine.kernel.facts import apply
from engine.kernel.index import hash_id, home
from engine.kernel.shapes import (
    ACCOUNT_COUNT,
    ACCOUNT_FACTS_INPUT,
    BOOKS_TYPE,
    GENERATION,
    GUARD_FACTS_INPUT,
    LAST_TIMESTAMP,
    LEG_FACTS_INPUT,
    LOOKAHEAD,
    SEED,
    SLOT_COUNT,
)
from engine.kernel.window import place_of
from engine.layout import LegFlag

_LINE: Final = 64
_BURNT: Final = int(LegFlag.BURNT)


@entry(BOOKS_TYPE, ACCOUNT_FACTS_INPUT)
def replay_accounts(b: Any, facts: Any) -> None:
    """Adds accounts; there is room."""
    for i in range(facts.size):
        add_account(b, facts[i])


@entry(BOOKS_TYPE, GUARD_FACTS_INPUT, returns=types.int64)
def replay_guards(b: Any, facts: Any) -> Any:
    """Gives accounts new guards; returns how many facts could be applied."""
    s = b.scalars
    for i in range(facts.size):
        fact = facts[i]
        if not 0 <= fact.account < s[ACCOUNT_COUNT]:
            return i
        account = b.accounts[fact.account]
        account.floor = fact.floor
        account.ceiling = fact.ceiling
        account.version += 1
        s[LAST_TIMESTAMP] = max(s[LAST_TIMESTAMP], fact.timestamp)
    return facts.size


@entry(BOOKS_TYPE, LEG_FACTS_INPUT, returns=types.int64)
def replay_legs(b: Any, facts: Any) -> Any:
    """Applies legs, expiries and burnt ids; returns how many could be, all unless the log names what is not
    there."""
    s = b.scalars
    window = place_of(s, s[GENERATION]) * s[SLOT_COUNT]
    mask = s[SLOT_COUNT] - 1
    count = s[ACCOUNT_COUNT]
    for i in range(facts.size):
        ahead = i + LOOKAHEAD
        if ahead < facts.size:
            coming = facts[ahead]
            digest = hash_id(coming.id_hi, coming.id_lo, s[SEED])
            prefetch(b.row_slots, window + home(digest, mask), 0)
            for line in range(3):
                prefetch(b.accounts, np.int64(coming.debit), line * _LINE)
                prefetch(b.accounts, np.int64(coming.credit), line * _LINE)
        fact = facts[i]
        if not fact.flags & _BURNT and not (0 <= fact.debit < count and 0 <= fact.credit < count):
            return i
        if not apply(b, fact, hash_id(fact.id_hi, fact.id_lo, s[SEED]), np.int64(-1)):
            return i
    return facts.size
