"""Judging a leg without changing anything: the specification of legs, in its order of precedence.

Each function returns the first code that applies. On the way `fact` is filled with what will be written
down if the leg is accepted; if its id is known, with what was written down then.
"""

from typing import Any, Final

import numpy as np

from engine.kernel.accounts import BELOW, OVERFLOW, against, find_hinted, is_stamp_of_account
from engine.kernel.compiled import part, seldom
from engine.kernel.form import is_int_max, is_zero, judge_id, judge_message
from engine.kernel.holds import expiry_of, find_hashed_hold
from engine.kernel.index import hash_id
from engine.kernel.overflow import first_overflow
from engine.kernel.repeats import inherited_id, judge_repeat, recall_loaded, seek_loaded
from engine.kernel.shapes import LAST_LEG, LOOKAHEAD_RING, SEED
from engine.kernel.window import find_row, recall
from engine.layout import AMOUNT_MAX, SECOND_NS, AccountFlag, HoldStatus, LegFlag
from engine.results import Result

_MAX: Final = np.int64(AMOUNT_MAX)
_SECOND: Final = np.int64(SECOND_NS)
_ZERO: Final = np.uint64(0)

_PENDING: Final = int(LegFlag.PENDING)
_POST: Final = int(LegFlag.POST_PENDING)
_VOID: Final = int(LegFlag.VOID_PENDING)
_SETTLING: Final = _POST | _VOID
_KEEP_OPEN: Final = int(LegFlag.KEEP_OPEN)
_BALANCING_DEBIT: Final = int(LegFlag.BALANCING_DEBIT)
_BALANCING_CREDIT: Final = int(LegFlag.BALANCING_CREDIT)
_BALANCING: Final = _BALANCING_DEBIT | _BALANCING_CREDIT
_CLOSING: Final = int(LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT)
_NOT_WITH_SETTLING: Final = _PENDING | _BALANCING | _CLOSING
_IMPORTED: Final = int(LegFlag.IMPORTED)
_BURNT: Final = int(LegFlag.BURNT)
_CLOSED: Final = int(AccountFlag.CLOSED)
_ROLLUP: Final = int(AccountFlag.ROLLUP)
_PAIR: Final = int(AccountFlag.PAIR)
_CROSSING: Final = int(LegFlag.CROSSING)
_PART: Final = int(LegFlag.PART)
_OPEN: Final = int(HoldStatus.OPEN)
_POSTED: Final = int(HoldStatus.POSTED)
_VOIDED: Final = int(HoldStatus.VOIDED)
_LOCKED: Final = int(HoldStatus.LOCKED)


@part
def judge_leg(
    b: Any,
    c: Any,
    i: Any,
    loaded: Any,
    stamp: Any,
    batch_time: Any,
    batch_imported: Any,
    allowed: Any,
    fact: Any,
) -> Any:
    """The answer to leg `i` of the columns `c`, and the row of the hold that it posts or voids."""
    flags = np.int64(c.flags[i])
    code = judge_message((flags & _IMPORTED) != 0, batch_imported, c.timestamp[i], batch_time)
    if code == 0 and flags & ~allowed:
        code = Result.RESERVED_FLAG.value
    if code == 0:
        code = judge_id(c.id, i)
    if code != 0:
        return code, np.int64(-1)
    hi, lo = c.id[i, 0], c.id[i, 1]
    row = find_row(b, hi, lo, b.digests[4 * (i % LOOKAHEAD_RING) + 2])
    if row >= 0 or loaded.facts.size > 0:
        code = judge_known(b, c, i, loaded, row, fact)
        if code != 0:
            return code, np.int64(-1)
    fact.id_hi = hi
    fact.id_lo = lo
    fact.timestamp = c.timestamp[i] if flags & _IMPORTED else stamp
    fact.flags = c.flags[i]
    fact._pad = 0
    if flags & _SETTLING:
        return judge_settling(b, c, i, loaded, flags, fact)
    return judge_placing(b, c, i, flags, fact), np.int64(-1)


@seldom
def judge_known(b: Any, c: Any, i: Any, loaded: Any, row: Any, fact: Any) -> Any:
    """The answer to a leg whose id may be known: `row` is its row in the window, −1 if it is not there."""
    if row >= 0:
        recall(b, row, fact)
    else:
        position = seek_loaded(loaded.facts, c.id[i, 0], c.id[i, 1])
        if position < 0:
            return Result.CREATED.value
        recall_loaded(loaded.facts, position, fact)
    if fact.flags & _BURNT:
        return Result.ID_ALREADY_FAILED.value
    return judge_repeat(b, c, i, loaded, fact)


@part
def judge_placing(b: Any, c: Any, i: Any, flags: Any, fact: Any) -> Any:
    """Phases 3 to 6 for a leg that is no post or void."""
    code = judge_placing_form(c, i, flags)
    if code != 0:
        return code
    ahead = i % LOOKAHEAD_RING
    dr = find_hinted(b, c.debit[i, 0], c.debit[i, 1], b.digests[4 * ahead], b.hints[2 * ahead])
    if dr < 0:
        return Result.DEBIT_ACCOUNT_NOT_FOUND.value
    cr = find_hinted(b, c.credit[i, 0], c.credit[i, 1], b.digests[4 * ahead + 1], b.hints[2 * ahead + 1])
    if cr < 0:
        return Result.CREDIT_ACCOUNT_NOT_FOUND.value
    debited = b.accounts[dr]
    credited = b.accounts[cr]
    if (debited.flags | credited.flags) & (_ROLLUP | _PAIR):
        code = judge_sort(debited.flags, credited.flags, flags)
        if code != 0:
            return code
    if debited.asset != credited.asset:
        return Result.ACCOUNTS_MUST_HAVE_THE_SAME_ASSET.value
    if c.asset[i] != debited.asset:
        return Result.TRANSFER_MUST_HAVE_THE_SAME_ASSET_AS_ACCOUNTS.value
    if flags & _IMPORTED:
        code = judge_import(b, fact.timestamp, debited.timestamp, credited.timestamp, c.timeout[i])
        if code != 0:
            return code
    if (debited.flags | credited.flags) & _CLOSED:
        if debited.flags & _CLOSED:
            return Result.DEBIT_ACCOUNT_ALREADY_CLOSED.value
        return Result.CREDIT_ACCOUNT_ALREADY_CLOSED.value
    amount = c.amount[i]
    if flags & _BALANCING:
        amount = balanced(debited, credited, flags, amount)
    found = against(b, debited, credited, amount)
    if found & OVERFLOW:
        return first_overflow(b, dr, cr, amount, (flags & _PENDING) != 0)
    if c.timeout[i] != 0 and c.timeout[i] * _SECOND > _MAX - fact.timestamp:
        return Result.OVERFLOWS_TIMEOUT.value
    code = judge_versions(c, i, debited, credited)
    if code != 0:
        return code
    if found != 0:
        return Result.BELOW_FLOOR.value if found & BELOW else Result.ABOVE_CEILING.value
    fill_placed(c, i, dr, cr, amount, fact)
    return Result.CREATED.value


@seldom
def judge_sort(debited: Any, credited: Any, flags: Any) -> Any:
    """Whether accounts with these flags may have legs. Those of pairs of shards are there only for the
    engine's own legs."""
    if not flags & _CROSSING:
        if debited & _PAIR:
            return Result.DEBIT_ACCOUNT_NOT_FOUND.value
        if credited & _PAIR:
            return Result.CREDIT_ACCOUNT_NOT_FOUND.value
    if debited & _ROLLUP:
        return Result.DEBIT_ACCOUNT_IS_ROLLUP.value
    if credited & _ROLLUP:
        return Result.CREDIT_ACCOUNT_IS_ROLLUP.value
    return Result.CREATED.value


@part
def judge_placing_form(c: Any, i: Any, flags: Any) -> Any:
    """Phase 3 for a leg that is no post or void."""
    if flags & _KEEP_OPEN:
        return Result.FLAGS_ARE_MUTUALLY_EXCLUSIVE.value
    if is_zero(c.debit, i):
        return Result.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO.value
    if is_int_max(c.debit, i):
        return Result.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX.value
    if is_zero(c.credit, i):
        return Result.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO.value
    if is_int_max(c.credit, i):
        return Result.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX.value
    if c.debit[i, 0] == c.credit[i, 0] and c.debit[i, 1] == c.credit[i, 1]:
        return Result.ACCOUNTS_MUST_BE_DIFFERENT.value
    if not is_zero(c.pending_id, i) and not flags & _CROSSING:
        return Result.PENDING_ID_MUST_BE_ZERO.value
    if not flags & _PENDING:
        if c.timeout[i] != 0:
            return Result.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER.value
        if flags & _CLOSING:
            return Result.CLOSING_TRANSFER_MUST_BE_PENDING.value
    if c.asset[i] == 0:
        return Result.ASSET_MUST_NOT_BE_ZERO.value
    if c.code[i] == 0:
        return Result.CODE_MUST_NOT_BE_ZERO.value
    if c.amount[i] < 0:
        return Result.AMOUNT_MUST_NOT_BE_NEGATIVE.value
    return Result.CREATED.value


@seldom
def regresses(b: Any, timestamp: Any) -> Any:
    """Whether an imported leg's timestamp is not after the last leg, or is an account's own."""
    return timestamp <= b.scalars[LAST_LEG] or is_stamp_of_account(b, timestamp)


@seldom
def judge_import(b: Any, timestamp: Any, debit_created: Any, credit_created: Any, timeout: Any) -> Any:
    """What phase 4 asks of the timestamp that an imported leg brings."""
    if regresses(b, timestamp):
        return Result.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS.value
    if timestamp <= debit_created:
        return Result.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT.value
    if timestamp <= credit_created:
        return Result.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT.value
    if timeout != 0:
        return Result.IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO.value
    return Result.CREATED.value


@seldom
def balanced(debited: Any, credited: Any, flags: Any, amount: Any) -> Any:
    """What a balancing leg really moves; `amount` is its bound. Nothing here can wrap round."""
    if flags & _BALANCING_DEBIT:
        there = debited.credits_posted - (debited.debits_posted + debited.debits_pending)
        kept = max(debited.floor, 0)
        amount = min(amount, there - kept if there > kept else 0)
    if flags & _BALANCING_CREDIT:
        lacking = credited.debits_posted - (credited.credits_posted + credited.credits_pending)
        kept = min(credited.ceiling, 0)
        amount = min(amount, lacking + kept if lacking > 0 and lacking + kept > 0 else 0)
    return amount


@part
def judge_versions(c: Any, i: Any, debited: Any, credited: Any) -> Any:
    """The version conditions of phase 6."""
    if c.if_debit_version[i] != 0 and c.if_debit_version[i] != debited.version:
        return Result.DEBIT_ACCOUNT_VERSION_DIFFERS.value
    if c.if_credit_version[i] != 0 and c.if_credit_version[i] != credited.version:
        return Result.CREDIT_ACCOUNT_VERSION_DIFFERS.value
    return Result.CREATED.value


@part
def fill_placed(c: Any, i: Any, dr: Any, cr: Any, amount: Any, fact: Any) -> None:
    """The fact of an accepted leg that is no post or void."""
    crossing = (c.flags[i] & _CROSSING) != 0
    fact.pending_hi = c.pending_id[i, 0] if crossing else _ZERO
    fact.pending_lo = c.pending_id[i, 1] if crossing else _ZERO
    fact.user_data_128_hi = c.user_data_128[i, 0]
    fact.user_data_128_lo = c.user_data_128[i, 1]
    fact.user_data_64 = c.user_data_64[i]
    fact.user_data_32 = c.user_data_32[i]
    fact.amount = amount
    fact.held = 0
    fact.debit = dr
    fact.credit = cr
    fact.timeout = c.timeout[i]
    fact.code = c.code[i]


@part
def judge_settling(b: Any, c: Any, i: Any, loaded: Any, flags: Any, fact: Any) -> Any:
    """Phases 3 to 6 for a post or void, and the row of its hold."""
    none = np.int64(-1)
    code = judge_settling_form(c, i, flags)
    if code != 0:
        return code, none
    digest = b.digests[4 * (i % LOOKAHEAD_RING) + 3]
    number = find_hashed_hold(b, c.pending_id[i, 0], c.pending_id[i, 1], digest)
    if number >= 0:
        b.seen[0] = b.holds[number]
        if b.holds[number].flags & _PART:
            return Result.PENDING_TRANSFER_NOT_FOUND.value, none
    else:
        code = look_elsewhere(b, c, i, loaded)
        if code != 0:
            return code, none
    hold = b.seen[0]
    debited = b.accounts[hold.debit]
    credited = b.accounts[hold.credit]
    code = judge_hold(c, i, flags, hold, debited, credited, fact.timestamp)
    if code == 0 and flags & _IMPORTED and regresses(b, fact.timestamp):
        code = Result.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS.value
    if code == 0 and flags & _POST:
        if debited.flags & _CLOSED:
            code = Result.DEBIT_ACCOUNT_ALREADY_CLOSED.value
        elif credited.flags & _CLOSED:
            code = Result.CREDIT_ACCOUNT_ALREADY_CLOSED.value
    if code == 0:
        code = judge_versions(c, i, debited, credited)
    if code == 0:
        fill_settled(c, i, flags, hold, fact)
    return code, number


@part
def judge_settling_form(c: Any, i: Any, flags: Any) -> Any:
    """Phase 3 for a post or void."""
    if flags & _NOT_WITH_SETTLING or (flags & _SETTLING) == _SETTLING:
        return Result.FLAGS_ARE_MUTUALLY_EXCLUSIVE.value
    if flags & _KEEP_OPEN and flags & _VOID:
        return Result.FLAGS_ARE_MUTUALLY_EXCLUSIVE.value
    if is_zero(c.pending_id, i):
        return Result.PENDING_ID_MUST_NOT_BE_ZERO.value
    if is_int_max(c.pending_id, i):
        return Result.PENDING_ID_MUST_NOT_BE_INT_MAX.value
    if c.pending_id[i, 0] == c.id[i, 0] and c.pending_id[i, 1] == c.id[i, 1]:
        return Result.PENDING_ID_MUST_BE_DIFFERENT.value
    if c.timeout[i] != 0:
        return Result.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER.value
    if c.amount[i] < 0:
        return Result.AMOUNT_MUST_NOT_BE_NEGATIVE.value
    return Result.CREATED.value


@seldom
def look_elsewhere(b: Any, c: Any, i: Any, loaded: Any) -> Any:
    """What is known of a pending id that is no hold in memory: fills `seen` if it was one."""
    hi, lo = c.pending_id[i, 0], c.pending_id[i, 1]
    row = find_row(b, hi, lo, hash_id(hi, lo, b.scalars[SEED]))
    if row >= 0:
        if b.rows[row].flags & _BURNT:
            return Result.PENDING_TRANSFER_NOT_FOUND.value
        return Result.PENDING_TRANSFER_NOT_PENDING.value
    position = seek_loaded(loaded.facts, hi, lo)
    if position < 0:
        return Result.PENDING_TRANSFER_NOT_FOUND.value
    known = loaded.facts[position]
    if known.flags & (_BURNT | _PART):
        return Result.PENDING_TRANSFER_NOT_FOUND.value
    if not known.flags & _PENDING:
        return Result.PENDING_TRANSFER_NOT_PENDING.value
    hold = b.seen[0]
    hold.held = known.held
    hold.timestamp = known.timestamp
    hold.timeout = known.timeout
    hold.debit = known.debit
    hold.credit = known.credit
    hold.code = known.code
    hold.status = loaded.status[position]
    return Result.CREATED.value


@part
def judge_hold(c: Any, i: Any, flags: Any, hold: Any, debited: Any, credited: Any, timestamp: Any) -> Any:
    """What phase 4 asks about the hold."""
    if not is_zero(c.debit, i) and (c.debit[i, 0] != debited.id_hi or c.debit[i, 1] != debited.id_lo):
        return Result.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID.value
    if not is_zero(c.credit, i) and (c.credit[i, 0] != credited.id_hi or c.credit[i, 1] != credited.id_lo):
        return Result.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID.value
    if c.asset[i] != 0 and c.asset[i] != debited.asset:
        return Result.PENDING_TRANSFER_HAS_DIFFERENT_ASSET.value
    if c.code[i] != 0 and c.code[i] != hold.code:
        return Result.PENDING_TRANSFER_HAS_DIFFERENT_CODE.value
    amount = asked_of_hold(c, i, flags, hold.held)
    if amount > hold.held:
        return Result.EXCEEDS_PENDING_TRANSFER_AMOUNT.value
    if flags & _VOID and amount < hold.held:
        return Result.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT.value
    if hold.status != _OPEN:
        if hold.status == _POSTED:
            return Result.PENDING_TRANSFER_ALREADY_POSTED.value
        if hold.status == _VOIDED:
            return Result.PENDING_TRANSFER_ALREADY_VOIDED.value
        if hold.status == _LOCKED:
            return Result.SHARD_UNAVAILABLE.value
        return Result.PENDING_TRANSFER_EXPIRED.value
    if hold.timeout != 0 and expiry_of(hold) <= timestamp:
        return Result.PENDING_TRANSFER_EXPIRED.value
    return Result.CREATED.value


@part
def asked_of_hold(c: Any, i: Any, flags: Any, held: Any) -> Any:
    """How much of a hold a post or void asks for, `held` if for all of it."""
    all_of_it = np.int64(0) if flags & _VOID else _MAX
    return held if c.amount[i] == all_of_it else c.amount[i]


@part
def fill_settled(c: Any, i: Any, flags: Any, hold: Any, fact: Any) -> None:
    """The fact of an accepted post or void, with what it inherits from its hold."""
    fact.pending_hi = c.pending_id[i, 0]
    fact.pending_lo = c.pending_id[i, 1]
    wide = inherited_id(c.user_data_128[i, 0], c.user_data_128[i, 1], hold)
    fact.user_data_128_hi, fact.user_data_128_lo = wide
    fact.user_data_64 = c.user_data_64[i] if c.user_data_64[i] != _ZERO else hold.user_data_64
    fact.user_data_32 = c.user_data_32[i] if c.user_data_32[i] != 0 else hold.user_data_32
    fact.amount = np.int64(0) if flags & _VOID else asked_of_hold(c, i, flags, hold.held)
    fact.held = hold.held
    fact.debit = hold.debit
    fact.credit = hold.credit
    fact.timeout = 0
    fact.code = hold.code
