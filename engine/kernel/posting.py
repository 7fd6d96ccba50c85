"""Posting: batches and chains of legs, one leg after the other, to completion.

A leg is judged; an accepted one becomes a fact, which is applied at once, so that the next leg sees it. A
chain remembers the counters as they were when it began. If a member fails, what the chain did is taken
back, newest first, before the culprit's id is burnt if its refusal was transient.
"""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.accounts import add_account, find_account
from engine.kernel.batches import are_offsets, are_opens
from engine.kernel.compiled import entry, part, prefetch, seldom
from engine.kernel.facts import apply, copy_scalars, undo_chain
from engine.kernel.index import hash_id, home, likely_row
from engine.kernel.judge import judge_leg
from engine.kernel.shapes import (
    ANSWERS_TYPE,
    BOOKS_TYPE,
    COUNTS,
    GENERATION,
    INT64_INPUT,
    LAST_TIMESTAMP,
    LOADED_TYPE,
    LOOKAHEAD,
    LOOKAHEAD_RING,
    SEED,
    SLOT_COUNT,
    columns_type,
)
from engine.kernel.window import place_of
from engine.layout import (
    LEG_COLUMN_SPEC,
    OPEN_COLUMN_SPEC,
    PAIR_CODE,
    AccountFlag,
    LegColumns,
    LegFlag,
    OpenColumns,
)
from engine.results import TRANSIENT, Result

_LINKED: Final = int(LegFlag.LINKED)
_IMPORTED: Final = int(LegFlag.IMPORTED)
_SETTLING: Final = int(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)
_BURNT: Final = np.uint16(LegFlag.BURNT)
_PLAIN: Final = np.uint16(0)
_PAIR: Final = np.uint16(AccountFlag.PAIR)
_ZERO: Final = np.uint64(0)
_LINE: Final = 64
_TRANSIENT: Final = np.array([code in TRANSIENT for code in range(256)])


@part
def seek_slots(b: Any, c: Any, i: Any) -> None:
    """Asks for the index slots that leg `i` will need; keeps the hashes of its ids."""
    if i >= c.amount.size:
        return
    s = b.scalars
    place = 4 * (i % LOOKAHEAD_RING)
    b.digests[place] = hash_id(c.debit[i, 0], c.debit[i, 1], s[SEED])
    b.digests[place + 1] = hash_id(c.credit[i, 0], c.credit[i, 1], s[SEED])
    b.digests[place + 2] = hash_id(c.id[i, 0], c.id[i, 1], s[SEED])
    prefetch(b.account_slots, home(b.digests[place], b.account_slots.size - 1), 0)
    prefetch(b.account_slots, home(b.digests[place + 1], b.account_slots.size - 1), 0)
    window = place_of(s, s[GENERATION]) * s[SLOT_COUNT]
    prefetch(b.row_slots, window + home(b.digests[place + 2], s[SLOT_COUNT] - 1), 0)
    if c.flags[i] & _SETTLING:
        b.digests[place + 3] = hash_id(c.pending_id[i, 0], c.pending_id[i, 1], s[SEED])
        prefetch(b.hold_slots, home(b.digests[place + 3], b.hold_slots.size - 1), 0)


@part
def seek_rows(b: Any, c: Any, i: Any) -> None:
    """Asks for the rows behind the slots of leg `i`; keeps where its accounts probably are."""
    if i >= c.amount.size:
        return
    place = i % LOOKAHEAD_RING
    if c.flags[i] & _SETTLING:
        row = likely_row(b.hold_slots, b.hold_slots.size - 1, b.digests[4 * place + 3])
        if row >= 0:
            prefetch(b.holds, row, 0)
            prefetch(b.holds, row, _LINE)
        return
    for side in range(2):
        row = likely_row(b.account_slots, b.account_slots.size - 1, b.digests[4 * place + side])
        b.hints[2 * place + side] = row
        if row >= 0:
            for line in range(3):
                prefetch(b.accounts, row, line * _LINE)


@part
def look_ahead(b: Any, c: Any, i: Any) -> None:
    """Gets memory under way for legs to come: slots two steps ahead of leg `i`, rows one step ahead."""
    if i == 0:
        for first in range(2 * LOOKAHEAD):
            seek_slots(b, c, np.int64(first))
        for first in range(LOOKAHEAD):
            seek_rows(b, c, np.int64(first))
    seek_slots(b, c, i + 2 * LOOKAHEAD)
    seek_rows(b, c, i + LOOKAHEAD)


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
    fact.flags = _PAIR if opens.code[number] == PAIR_CODE else _PLAIN
    answers.opened_index[opened] = number
    add_account(b, fact)
    return opened + 1


@part
def answer(answers: Any, i: Any, code: Any, stamp: Any, fact: Any) -> None:
    """Writes the answer to leg `i`: with the time and amount of the leg that is there now, if one is."""
    answers.status[i] = code
    if code == Result.CREATED.value or code == Result.EXISTS.value:
        answers.timestamp[i] = fact.timestamp
        answers.amount[i] = fact.amount
    else:
        answers.timestamp[i] = stamp
        answers.amount[i] = 0


@seldom
def burn(b: Any, c: Any, i: Any, stamp: Any, fact: Any) -> None:
    """Makes a leg's id one that failed."""
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
    apply(b, fact, b.digests[4 * (i % LOOKAHEAD_RING) + 2], np.int64(-1))


@seldom
def fail_members(answers: Any, start: Any, culprit: Any, stamp: Any) -> None:
    """Answers for the members of a chain before its culprit, whose stamp is `stamp`."""
    for i in range(start, culprit):
        answers.status[i] = Result.LINKED_EVENT_FAILED.value
        answers.timestamp[i] = stamp - (culprit - i)
        answers.amount[i] = 0


@entry(
    BOOKS_TYPE,
    columns_type(LegColumns, LEG_COLUMN_SPEC),
    INT64_INPUT,
    columns_type(OpenColumns, OPEN_COLUMN_SPEC),
    LOADED_TYPE,
    types.int64,
    types.int64,
    ANSWERS_TYPE,
    returns=COUNTS,
)
def post_legs(
    b: Any, c: Any, offsets: Any, opens: Any, loaded: Any, allowed: Any, now: Any, answers: Any
) -> Any:
    """Judges and applies a block of batches; returns how many facts and opened accounts there are.

    (−1, −1) if the block is not one: then nothing was done.
    """
    s = b.scalars
    if not (are_offsets(offsets, c.amount.size) and are_opens(opens.before, c.amount.size)):
        return np.int64(-1), np.int64(-1)
    facts = np.int64(0)
    opened = np.int64(0)
    next_open = np.int64(0)
    open_count = opens.before.size
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
        chain: Any = np.int64(-1)  # its first leg, −1 = none
        broken = False
        facts_before, opened_before = facts, opened
        for i in range(start, end):
            look_ahead(b, c, i)
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
                code = Result.LINKED_EVENT_CHAIN_OPEN.value
            elif broken:
                code = Result.LINKED_EVENT_FAILED.value
            else:
                code, hold = judge_leg(b, c, i, loaded, stamp, batch_time, batch_imported, allowed, fact)
            answer(answers, i, code, stamp, fact)
            if code == Result.CREATED.value:
                apply(b, fact, b.digests[4 * (i % LOOKAHEAD_RING) + 2], hold)
                facts += 1
            elif chain >= 0 and not broken:
                undo_chain(b, fact)
                facts, opened = facts_before, opened_before
                fail_members(answers, chain, i, stamp)
                broken = True
            if _TRANSIENT[code]:
                burn(b, c, i, stamp, answers.facts[facts])
                facts += 1
            if not linked:
                chain = np.int64(-1)
                broken = False
    return facts, opened
