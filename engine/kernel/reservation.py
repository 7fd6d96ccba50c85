"""Reserving: chains of legs are judged as if they happened now, taken back, and what they need is set aside,
so that they can happen later without being judged again.

Judged as they would be posted, a chain's legs see each other: what one brings the next may take, and a
residual is what is really left. What has to be set aside is less than the sum of the legs: from an account
with a floor only what the chain takes beyond what it brings, and onto one with a ceiling only what it brings
beyond what it takes. On the side without a guard all of it is set aside, so that nothing can overflow later.
What is set aside stands in the pending counters, of roll-ups above too. A hold that the chain posts or voids
is locked: it reserves what it reserved, and nobody else may resolve it.
"""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.accounts import drop_accounts
from engine.kernel.batches import are_offsets, are_opens
from engine.kernel.compiled import entry, seldom
from engine.kernel.facts import apply, copy_scalars, undo_chain
from engine.kernel.holds import expiry_of, find_hold
from engine.kernel.judge import judge_leg
from engine.kernel.posting import answer, fail_members, look_ahead, open_account
from engine.kernel.shapes import (
    ACCOUNT_COUNT,
    ANSWERS_TYPE,
    BOOKS_TYPE,
    COUNTS,
    EXPIRY_STALE,
    IDS_INPUT,
    INT64_INPUT,
    LAST_TIMESTAMP,
    LOADED_TYPE,
    LOOKAHEAD_RING,
    RESERVED_INPUT,
    RESERVED_ROWS,
    column_of,
    columns_type,
)
from engine.layout import (
    AMOUNT_MAX,
    CEILING_UNSET,
    FLOOR_UNSET,
    LEG_COLUMN_SPEC,
    OPEN_COLUMN_SPEC,
    HoldStatus,
    LegColumns,
    LegFlag,
    OpenColumns,
)
from engine.results import Result

_NEVER: Final = np.int64(AMOUNT_MAX)
_OPEN: Final = np.uint32(HoldStatus.OPEN)
_LOCKED: Final = np.uint32(HoldStatus.LOCKED)
_PENDING: Final = int(LegFlag.PENDING)
_POST: Final = int(LegFlag.POST_PENDING)
_SETTLING: Final = int(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)
_OUT: Final = 0  # what is taken from an account by legs that have not reserved it yet
_FUNDS: Final = 1  # what it is brought, and may be taken again
_IN: Final = 2  # what it is brought by legs that have not reserved room for it yet
_SINKS: Final = 3  # what is taken from it, and makes room
"""Columns of the scratch space."""


@seldom
def note(needs: Any, touched: Any, count: Any, row: Any, column: Any, amount: Any) -> Any:
    """Adds to what is known of an account; returns how many accounts are known."""
    if needs[row, 0] | needs[row, 1] | needs[row, 2] | needs[row, 3] == 0:
        touched[count] = row
        count += 1
    needs[row, column] += amount
    return count


@seldom
def note_leg(b: Any, fact: Any, needs: Any, touched: Any, count: Any) -> Any:
    """Takes account of a leg, on both sides and on the roll-ups that it concerns."""
    if fact.amount == 0:
        return count
    dr, cr = np.int64(fact.debit), np.int64(fact.credit)
    reserved = (fact.flags & _SETTLING) != 0
    moves = not fact.flags & _PENDING
    while dr != cr:
        if dr > cr:
            if not reserved:
                count = note(needs, touched, count, dr, _OUT, fact.amount)
            if moves:
                count = note(needs, touched, count, dr, _SINKS, fact.amount)
            dr = np.int64(b.accounts[dr].parent)
        else:
            if not reserved:
                count = note(needs, touched, count, cr, _IN, fact.amount)
            if moves:
                count = note(needs, touched, count, cr, _FUNDS, fact.amount)
            cr = np.int64(b.accounts[cr].parent)
    return count


@seldom
def set_aside(b: Any, needs: Any, row: Any, reserved: Any, entries: Any) -> Any:
    """Reserves what is known to be needed of an account; returns how many reservations there are."""
    account = b.accounts[row]
    debits, credits_ = needs[row, _OUT], needs[row, _IN]
    if account.floor != FLOOR_UNSET:
        debits = max(np.int64(0), debits - needs[row, _FUNDS])
    if account.ceiling != CEILING_UNSET:
        credits_ = max(np.int64(0), credits_ - needs[row, _SINKS])
    for column in range(4):
        needs[row, column] = 0
    if debits == 0 and credits_ == 0:
        return entries
    return take(b, reserved, entries, row, np.uint32(0), debits, credits_)


@seldom
def take(b: Any, reserved: Any, entries: Any, row: Any, step: Any, debits: Any, credits_: Any) -> Any:
    """Makes one reservation."""
    account = b.accounts[row]
    account.debits_pending += debits
    account.credits_pending += credits_
    account.version += step
    reservation = reserved[entries]
    reservation.account = row
    reservation.step = step
    reservation.debits = debits
    reservation.credits = credits_
    return entries + 1


@seldom
def lock(b: Any, number: Any) -> None:
    """Locks a hold."""
    b.holds[number].status = _LOCKED
    b.expiries[number] = _NEVER
    b.scalars[EXPIRY_STALE] = 1


@seldom
def reserve_chain(
    b: Any, c: Any, start: Any, end: Any, facts: Any, needs: Any, touched: Any, reserved: Any, entries: Any
) -> Any:
    """Sets aside what the legs of a chain need; returns how many reservations there are."""
    count = np.int64(0)
    for i in range(start, end):
        fact = facts[i]
        if fact.flags & _SETTLING:
            lock(b, find_hold(b, fact.pending_hi, fact.pending_lo))
            if not fact.flags & _POST:
                continue
        count = note_leg(b, fact, needs, touched, count)
        # Whoever comes later under the same version must not find it any more.
        if c.if_debit_version[i] != 0:
            entries = take(b, reserved, entries, fact.debit, np.uint32(1), np.int64(0), np.int64(0))
        if c.if_credit_version[i] != 0:
            entries = take(b, reserved, entries, fact.credit, np.uint32(1), np.int64(0), np.int64(0))
    for place in range(count):
        entries = set_aside(b, needs, touched[place], reserved, entries)
    return entries


@entry(
    BOOKS_TYPE,
    columns_type(LegColumns, LEG_COLUMN_SPEC),
    INT64_INPUT,
    columns_type(OpenColumns, OPEN_COLUMN_SPEC),
    LOADED_TYPE,
    types.int64,
    types.int64,
    ANSWERS_TYPE,
    RESERVED_ROWS,
    column_of(types.int64),
    column_of(types.int64, 2),
    column_of(types.int64),
    returns=COUNTS,
)
def reserve_legs(
    b: Any,
    c: Any,
    offsets: Any,
    opens: Any,
    loaded: Any,
    allowed: Any,
    now: Any,
    answers: Any,
    reserved: Any,
    ends: Any,
    needs: Any,
    touched: Any,
) -> Any:
    """Judges chains, each all or none, and reserves what the acceptable ones need; returns how many
    reservations and opened accounts there are.

    `answers.facts[i]` is what leg i would be, with one row more for scratch; `ends[k]` is where the
    reservations of chain k end. (−1, −1) if the block is not one: then nothing was done.
    """
    s = b.scalars
    if not (are_offsets(offsets, c.amount.size) and are_opens(opens.before, c.amount.size)):
        return np.int64(-1), np.int64(-1)
    spare = answers.facts.size - 1
    entries = np.int64(0)
    opened = np.int64(0)
    next_open = np.int64(0)
    for chain in range(offsets.size - 1):
        start, end = offsets[chain], offsets[chain + 1]
        opens_end = next_open
        while opens_end < opens.before.size and opens.before[opens_end] < end:
            opens_end += 1
        events = end - start + opens_end - next_open
        batch_time = max(now, s[LAST_TIMESTAMP] + events)
        stamp = batch_time - events
        accounts_before, time_before, opened_before = s[ACCOUNT_COUNT], s[LAST_TIMESTAMP], opened
        while next_open < opens_end:
            stamp += 1
            opened = open_account(b, opens, next_open, stamp, answers, opened)
            next_open += 1
        copy_scalars(s, b.saved)
        culprit: Any = np.int64(-1)
        for i in range(start, end):
            look_ahead(b, c, i)
            stamp += 1
            fact = answers.facts[i]
            hold = np.int64(-1)
            if culprit >= 0:
                code = Result.LINKED_EVENT_FAILED.value
            else:
                code, hold = judge_leg(b, c, i, loaded, stamp, batch_time, False, allowed, fact)
            answer(answers, i, code, stamp, fact)
            if code == Result.CREATED.value:
                apply(b, fact, b.digests[4 * (i % LOOKAHEAD_RING) + 2], hold)
            elif culprit < 0:
                culprit = i
                fail_members(answers, start, i, stamp)
        undo_chain(b, answers.facts[spare])
        if culprit < 0:
            entries = reserve_chain(b, c, start, end, answers.facts, needs, touched, reserved, entries)
        else:
            drop_accounts(b, accounts_before)
            s[ACCOUNT_COUNT] = accounts_before
            s[LAST_TIMESTAMP] = time_before
            opened = opened_before
        ends[chain] = entries
    return entries, opened


@entry(RESERVED_INPUT, column_of(types.int64, 2), RESERVED_ROWS, returns=types.int64)
def fold(reserved: Any, places: Any, folded: Any) -> Any:
    """Adds up reservations by account, in the order in which accounts first come; returns how many there are.
    `places` is zero for all accounts, before and after."""
    count = np.int64(0)
    for i in range(reserved.size):
        reservation = reserved[i]
        account = reservation.account
        place = places[account, 0] - 1
        if place < 0:
            place = count
            count += 1
            places[account, 0] = count
            folded[place].account = account
            folded[place].step = np.uint32(0)
            folded[place].debits = np.int64(0)
            folded[place].credits = np.int64(0)
        sum_ = folded[place]
        sum_.step += reservation.step
        sum_.debits += reservation.debits
        sum_.credits += reservation.credits
    for place in range(count):
        places[folded[place].account, 0] = np.int64(0)
    return count


@entry(BOOKS_TYPE, RESERVED_INPUT, types.int64)
def shift_reserved(b: Any, reserved: Any, sign: Any) -> None:
    """Makes reservations as they were made once (1), or gives them up (−1); versions never fall."""
    for i in range(reserved.size):
        reservation = reserved[i]
        account = b.accounts[reservation.account]
        account.debits_pending += sign * reservation.debits
        account.credits_pending += sign * reservation.credits
        if sign > 0:
            account.version += reservation.step


@entry(BOOKS_TYPE, IDS_INPUT, types.int64, returns=types.int64)
def lock_holds(b: Any, ids: Any, locked: Any) -> Any:
    """Locks those holds that are open, or unlocks those that are locked; returns how many were found."""
    found = 0
    for i in range(ids.shape[0]):
        number = find_hold(b, ids[i, 0], ids[i, 1])
        if number < 0:
            continue
        found += 1
        hold = b.holds[number]
        if locked and hold.status == _OPEN:
            lock(b, number)
        elif not locked and hold.status == _LOCKED:
            hold.status = _OPEN
            b.expiries[number] = expiry_of(hold)
            b.scalars[EXPIRY_STALE] = 1
    return found
