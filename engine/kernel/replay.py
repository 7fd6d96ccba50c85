"""Replay: applying what the log says happened, without judging it again.

The same functions change state as when the facts were made, so a replayed ledger is array for array the
live one.
"""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.accounts import add_account
from engine.kernel.compiled import entry, part, prefetch
from engine.kernel.facts import apply
from engine.kernel.holds import find_hashed_hold
from engine.kernel.index import hash_id, home, likely_row
from engine.kernel.shapes import (
    ACCOUNT_COUNT,
    ACCOUNT_FACTS_INPUT,
    BOOKS_TYPE,
    GENERATION,
    GUARD_FACTS_INPUT,
    LAST_TIMESTAMP,
    LEG_FACTS_INPUT,
    LOOKAHEAD,
    LOOKAHEAD_RING,
    SEED,
    SLOT_COUNT,
)
from engine.kernel.window import place_of
from engine.layout import LegFlag

_LINE: Final = 64
_BURNT: Final = int(LegFlag.BURNT)
_SETTLING: Final = int(LegFlag.POST_PENDING | LegFlag.VOID_PENDING | LegFlag.EXPIRY)


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


@part
def seek_slots(b: Any, facts: Any, i: Any) -> None:
    """Asks for the index slots that fact `i` will need; keeps the hashes of its ids."""
    if i >= facts.size:
        return
    s = b.scalars
    fact = facts[i]
    place = 4 * (i % LOOKAHEAD_RING)
    b.digests[place + 2] = hash_id(fact.id_hi, fact.id_lo, s[SEED])
    window = place_of(s, s[GENERATION]) * s[SLOT_COUNT]
    prefetch(b.row_slots, window + home(b.digests[place + 2], s[SLOT_COUNT] - 1), 0)
    if fact.flags & _SETTLING:
        b.digests[place + 3] = hash_id(fact.pending_hi, fact.pending_lo, s[SEED])
        prefetch(b.hold_slots, home(b.digests[place + 3], b.hold_slots.size - 1), 0)


@part
def seek_rows(b: Any, facts: Any, i: Any) -> None:
    """Asks for the rows that fact `i` will need."""
    if i >= facts.size:
        return
    fact = facts[i]
    for line in range(3):
        prefetch(b.accounts, np.int64(fact.debit), line * _LINE)
        prefetch(b.accounts, np.int64(fact.credit), line * _LINE)
    if fact.flags & _SETTLING:
        digest = b.digests[4 * (i % LOOKAHEAD_RING) + 3]
        row = likely_row(b.hold_slots, b.hold_slots.size - 1, digest)
        if row >= 0:
            prefetch(b.holds, row, 0)
            prefetch(b.holds, row, _LINE)


@part
def look_ahead(b: Any, facts: Any, i: Any) -> None:
    """Gets memory under way for facts to come: slots two steps ahead of fact `i`, rows one step ahead."""
    if i == 0:
        for first in range(2 * LOOKAHEAD):
            seek_slots(b, facts, np.int64(first))
        for first in range(LOOKAHEAD):
            seek_rows(b, facts, np.int64(first))
    seek_slots(b, facts, i + 2 * LOOKAHEAD)
    seek_rows(b, facts, i + LOOKAHEAD)


@entry(BOOKS_TYPE, LEG_FACTS_INPUT, returns=types.int64)
def replay_legs(b: Any, facts: Any) -> Any:
    """Applies legs, expiries and burnt ids; returns how many could be: all, if what they name is there."""
    count = b.scalars[ACCOUNT_COUNT]
    for i in range(facts.size):
        look_ahead(b, facts, np.int64(i))
        fact = facts[i]
        place = 4 * (i % LOOKAHEAD_RING)
        hold = np.int64(-1)
        if not fact.flags & _BURNT:
            if not (0 <= fact.debit < count and 0 <= fact.credit < count):
                return i
            if fact.flags & _SETTLING:
                hold = find_hashed_hold(b, fact.pending_hi, fact.pending_lo, b.digests[place + 3])
                if hold < 0:
                    return i
        apply(b, fact, b.digests[place + 2], hold)
    return facts.size
