"""Posting: batches and chains of legs, one leg after the other, to completion.

A leg is judged; an accepted one becomes a fact, which is applied at once, so that the next leg sees it. A chain
remembers the counters as they were when it began. If a member fails, what the chain did is taken back, newest
first, before the culprit's id is burnt if its refusal was transient.
"""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.accounts import add_account, find_account
from engine.kernel.compiled import entry, part, prefetch, seldom
from engine.kernel.facts import apply, copy_scalars, undo_chain
from engine.kernel.index import hash_id, home, likely_row
from engine.kernel.judge import judge_leg
from engine.kernel.shapes import (
    ANSWERS_TYPE,
    BOOKS_TYPE,
    GENERATION,
    INT64_INPUT,
    LAST_TIMESTAMP,
    LOADED_TYPE,
    LOOKAHEAD,
    SEED,
    SLOT_COUNT,
    columns_type,
)
from engine.kernel.window import place_of
from engine.layout import LEG_COLUMN_SPEC, OPEN_COLUMN_SPEC, LegColumns, LegFlag, OpenColumns
from engine.results import TRANSIENT, Result

_LINKED: Final = int(LegFlag.LINKED)
_IMPORTED: Final = int(LegFlag.IMPORTED)
_SETTLING: Final = int(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)
_BURNT: Final = np.uint16(LegFlag.BURNT)
_ZERO: Final = np.uint64(0)
_LINE: Final = 64
_TRANSIENT: Final = np.array([code in TRANSIENT for code in range(256)])


@part
def look_ahead(b: Any, c: Any, start: Any) -> None:
    """Asks for the memory that the next `LOOKAHEAD` legs will need: first index slots, then the rows behind them."""
    end = min(start + LOOKAHEAD, c.amount.size)
    seed = b.scalars[SEED]
    mask = b.account_slots.size - 1
    hold_mask = b.hold_slots.size - 1
    window = place_of(b.scalars, b.scalars[GENERATION]) * b.scalars[SLOT_COUNT]
    window_mask = b.scalars[SLOT_COUNT] - 1
    for i in range(start, end):
        place = 3 * (i - start)
        b.hashes[place] = hash_id(c.debit[i, 0], c.debit[i, 1], seed)
        b.hashes[place + 1] = hash_id(c.credit[i, 0], c.credit[i, 1], seed)
        prefetch(b.account_slots, home(b.hashes[place], mask), 0)
        prefetch(b.account_slots, home(b.hashes[place + 1], mask), 0)
        prefetch(b.row_slots, window + home(hash_id(c.id[i, 0], c.id[i, 1], seed), window_mask), 0)
        if c.flags[i] & _SETTLING:
            b.hashes[place + 2] = hash_id(c.pending_id[i, 0], c.pending_id[i, 1], seed)
            prefetch(b.hold_slots, home(b.hashes[place + 2], hold_mask), 0)
    for i in range(start, end):
        place = 3 * (i - start)
        for side in range(2):
            row = likely_row(b.account_slots, mask, b.hashes[place + side])
            if row >= 0:
                for line in range(3):
                    prefetch(b.accounts, row, line * _LINE)
        if c.flags[i] & _SETTLING:
            row = likely_row(b.hold_slots, hold_mask, b.hashes[place + 2])
            if row >= 0:
                prefetch(b.holds, row, 0)
                prefetch(b.holds, row, _LINE)


@seldom
def open_account(b: Any, opens: Any, number: Any, stamp: Any, answers: Any, opened: Any) -> Any:
    """Adds an account if it is not there yet; returns how many this call has opened then."""
    hi, lo = opens.id[number, 0], opens.id[number, 1]
    if find_account(b, hi, lo) >= 0:
        return opened
    fact = answers.opened[opened]
    fact.id_hi = hi
    fact.id_lo = lo
    fact.floor = opens.floor[number]
    fact.ceiling = opens.ceiling[number]
    fact.timestamp = stamp
    fact.party_hi = opens.party[number, 0]
    fact.party_lo = opens.party[number, 1]
    fact.user_data_128_hi = _ZERO
    fact.user_data_128_lo = _ZERO
    fact.user_data_64 = _ZERO
    fact.user_data_32 = 0
    fact.asset = opens.asset[number]
    fact.parent = -1
    fact.code = opens.code[number]
    fact.flags = 0
    answers.opened_index[opened] = number
    add_account(b, fact)
    return opened + 1


@seldom
def make_burnt(c: Any, i: Any, stamp: Any, fact: Any) -> None:
    """The fact that a leg's id is burnt."""
    fact.id_hi = c.id[i, 0]
    fact.id_lo = c.id[i, 1]
    fact.pending_hi = _ZERO
    fact.pending_lo = _ZERO
    fact.user_data_128_hi = _ZERO
    fact.user_data_128_lo = _ZERO
    fact.user_data_64 = _ZERO
    fact.amount = 0
    fact.held = 0
    fact.timestamp = stamp
    fact.debit = -1
    fact.credit = -1
    fact.user_data_32 = 0
    fact.timeout = 0
    fact.code = 0
    fact.flags = _BURNT
    fact._pad = 0


@seldom
def fail_members(answers: Any, start: Any, culprit: Any, stamp: Any) -> None:
    """Answers for the members of a chain before its culprit, whose stamp is `stamp`."""
    for i in range(start, culprit):
        answers.status[i] = Result.LINKED_EVENT_FAILED.value
        answers.timestamp[i] = stamp - (culprit - i)
        answers.amount[i] = 0


@seldom
def is_block(offsets: Any, before: Any, count: Any) -> Any:
    """Whether batches follow each other and cover all legs, and opens stand before legs in ascending order."""
    if offsets.size == 0 or offsets[0] != 0 or offsets[offsets.size - 1] != count:
        return False
    for batch in range(offsets.size - 1):
        if offsets[batch] > offsets[batch + 1]:
            return False
    last = np.int64(0)
    for number in range(before.size):
        if not last <= before[number] < count:
            return False
        last = before[number]
    return True


@entry(
    BOOKS_TYPE,
    columns_type(LegColumns, LEG_COLUMN_SPEC),
    INT64_INPUT,
    columns_type(OpenColumns, OPEN_COLUMN_SPEC),
    LOADED_TYPE,
    types.int64,
    types.int64,
    ANSWERS_TYPE,
    returns=types.UniTuple(types.int64, 2),
)
def post_legs(
    b: Any, c: Any, offsets: Any, opens: Any, loaded: Any, allowed: Any, now: Any, answers: Any
) -> Any:
    """Judges and applies a block of batches; returns how many facts and opened accounts there are.

    (−1, −1) if the block is not one: then nothing was done.
    """
    s = b.scalars
    if not is_block(offsets, opens.before, c.amount.size):
        return np.int64(-1), np.int64(-1)
    facts = np.int64(0)
    opened = np.int64(0)
    next_open = np.int64(0)
    open_count = opens.before.size
    looked_ahead = np.int64(0)
    for batch in range(offsets.size - 1):
        start, end = offsets[batch], offsets[batch + 1]
        if start == end:
            continue
        opens_end = next_open
        while opens_end < open_count and opens.before[opens_end] < end:
            opens_end += 1
        events = end - start + opens_end - next_open
        batch_time = max(now, s[LAST_TIMESTAMP] + events)
        batch_imported = (c.flags[start] & _IMPORTED) != 0
        stamp = batch_time - events
        chain = np.int64(-1)  # its first leg, −1 = none
        broken = False
        facts_before, opened_before = facts, opened
        for i in range(start, end):
            if i == looked_ahead:
                look_ahead(b, c, i)
                looked_ahead += LOOKAHEAD
            linked = (c.flags[i] & _LINKED) != 0
            opens_now = next_open < opens_end and opens.before[next_open] == i
            if chain < 0 and (linked or opens_now):
                chain = i
                copy_scalars(s, b.saved)
                facts_before, opened_before = facts, opened
            while next_open < opens_end and opens.before[next_open] == i:
                stamp += 1
                opened = open_account(b, opens, next_open, stamp, answers, opened)
                next_open += 1
            stamp += 1
            fact = answers.facts[facts]
            hold = np.int64(-1)
            if linked and i == end - 1:
                code = np.int64(Result.LINKED_EVENT_CHAIN_OPEN.value)
            elif broken:
                code = np.int64(Result.LINKED_EVENT_FAILED.value)
            else:
                code, hold = judge_leg(b, c, i, loaded, stamp, batch_time, batch_imported, allowed, fact)
            answers.status[i] = code
            if code == Result.CREATED.value or code == Result.EXISTS.value:
                answers.timestamp[i] = fact.timestamp
                answers.amount[i] = fact.amount
            else:
                answers.timestamp[i] = stamp
                answers.amount[i] = 0
            if code == Result.CREATED.value:
                apply(b, fact, hold)
                facts += 1
            else:
                if chain >= 0 and not broken:
                    undo_chain(b, fact)
                    facts, opened = facts_before, opened_before
                    fail_members(answers, chain, i, stamp)
                    broken = True
                if _TRANSIENT[code]:
                    fact = answers.facts[facts]
                    make_burnt(c, i, stamp, fact)
                    apply(b, fact, -1)
                    facts += 1
            if not linked:
                chain = np.int64(-1)
                broken = False
    return facts, opened
