"""Ids seen before: whether a leg says the same as the one that is written down under its id."""

from typing import Any, Final

import numpy as np

from engine.kernel.accounts import find_account
from engine.kernel.compiled import part, seldom
from engine.kernel.form import is_zero
from engine.kernel.holds import find_hold
from engine.layout import AMOUNT_MAX, AccountFlag, LegFlag
from engine.results import Result

_MAX: Final = np.int64(AMOUNT_MAX)
_ZERO: Final = np.uint64(0)
_VOID: Final = int(LegFlag.VOID_PENDING)
_SETTLING: Final = int(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)
_CROSSING: Final = int(LegFlag.CROSSING)
_PAIR: Final = int(AccountFlag.PAIR)
_BALANCING: Final = int(LegFlag.BALANCING_DEBIT | LegFlag.BALANCING_CREDIT)


@seldom
def seek_loaded(facts: Any, hi: Any, lo: Any) -> Any:
    """The position of an id among facts that are sorted by id, or −1."""
    low, high = 0, facts.size
    while low < high:
        middle = (low + high) // 2
        fact = facts[middle]
        if fact.id_hi < hi or (fact.id_hi == hi and fact.id_lo < lo):
            low = middle + 1
        else:
            high = middle
    if low < facts.size and facts[low].id_hi == hi and facts[low].id_lo == lo:
        return low
    return -1


@part
def recall_loaded(facts: Any, position: Any, fact: Any) -> None:
    """Copies a fact that PostgreSQL remembered."""
    known = facts[position]
    fact.id_hi = known.id_hi
    fact.id_lo = known.id_lo
    fact.pending_hi = known.pending_hi
    fact.pending_lo = known.pending_lo
    fact.user_data_128_hi = known.user_data_128_hi
    fact.user_data_128_lo = known.user_data_128_lo
    fact.user_data_64 = known.user_data_64
    fact.amount = known.amount
    fact.held = known.held
    fact.timestamp = known.timestamp
    fact.debit = known.debit
    fact.credit = known.credit
    fact.user_data_32 = known.user_data_32
    fact.timeout = known.timeout
    fact.code = known.code
    fact.flags = known.flags


@seldom
def judge_repeat(b: Any, c: Any, i: Any, loaded: Any, fact: Any) -> Any:
    """The first difference between leg `i` and the fact under its id, or `EXISTS`."""
    flags = np.int64(c.flags[i])
    if (flags | fact.flags) & _CROSSING:
        return judge_crossing_repeat(b, c, i, loaded, fact)
    if flags != fact.flags:
        return Result.EXISTS_WITH_DIFFERENT_FLAGS.value
    if c.pending_id[i, 0] != fact.pending_hi or c.pending_id[i, 1] != fact.pending_lo:
        return Result.EXISTS_WITH_DIFFERENT_PENDING_ID.value
    if c.timeout[i] != fact.timeout:
        return Result.EXISTS_WITH_DIFFERENT_TIMEOUT.value
    inherits = (flags & _SETTLING) != 0
    if differs_in_account(b.accounts[fact.debit], c.debit, i, inherits):
        return Result.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID.value
    if differs_in_account(b.accounts[fact.credit], c.credit, i, inherits):
        return Result.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID.value
    if differs_in_amount(c.amount[i], flags, fact):
        return Result.EXISTS_WITH_DIFFERENT_AMOUNT.value
    code = difference_in_user_data(b, c, i, loaded, inherits, fact)
    if code != 0:
        return code
    if c.asset[i] != b.accounts[fact.debit].asset and not (inherits and c.asset[i] == 0):
        return Result.EXISTS_WITH_DIFFERENT_ASSET.value
    if c.code[i] != fact.code and not (inherits and c.code[i] == 0):
        return Result.EXISTS_WITH_DIFFERENT_CODE.value
    return Result.EXISTS.value


@seldom
def judge_crossing_repeat(b: Any, c: Any, i: Any, loaded: Any, fact: Any) -> Any:
    """The same where either, or both, have an account on another shard."""
    flags = np.int64(c.flags[i])
    if (flags ^ fact.flags) & ~_CROSSING:
        return Result.EXISTS_WITH_DIFFERENT_FLAGS.value
    if not flags & _CROSSING and not is_zero(c.pending_id, i):
        return Result.EXISTS_WITH_DIFFERENT_PENDING_ID.value
    if c.timeout[i] != fact.timeout:
        return Result.EXISTS_WITH_DIFFERENT_TIMEOUT.value
    if is_other_account(b, c.debit, c.pending_id, i, flags, fact.debit, fact):
        return Result.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID.value
    if is_other_account(b, c.credit, c.pending_id, i, flags, fact.credit, fact):
        return Result.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID.value
    if differs_in_amount(c.amount[i], flags, fact):
        return Result.EXISTS_WITH_DIFFERENT_AMOUNT.value
    code = difference_in_user_data(b, c, i, loaded, False, fact)
    if code != 0:
        return code
    if c.asset[i] != b.accounts[fact.debit].asset:
        return Result.EXISTS_WITH_DIFFERENT_ASSET.value
    if c.code[i] != fact.code:
        return Result.EXISTS_WITH_DIFFERENT_CODE.value
    return Result.EXISTS.value


@part
def is_other_account(b: Any, ids: Any, elsewhere: Any, i: Any, flags: Any, row: Any, fact: Any) -> Any:
    """Whether a leg names another account than the fact, wherever they are: a pair account stands for the one
    that `elsewhere`, or the fact's pending id, has."""
    hi, lo = ids[i, 0], ids[i, 1]
    if flags & _CROSSING:
        number = find_account(b, hi, lo)
        if number >= 0 and b.accounts[number].flags & _PAIR:
            hi, lo = elsewhere[i, 0], elsewhere[i, 1]
    account = b.accounts[row]
    if fact.flags & _CROSSING and account.flags & _PAIR:
        return hi != fact.pending_hi or lo != fact.pending_lo
    return hi != account.id_hi or lo != account.id_lo


@part
def differs_in_account(account: Any, ids: Any, i: Any, inherits: Any) -> Any:
    """Whether a leg names another account."""
    if inherits and (ids[i, 0] | ids[i, 1]) == _ZERO:
        return False
    return ids[i, 0] != account.id_hi or ids[i, 1] != account.id_lo


@part
def differs_in_amount(amount: Any, flags: Any, fact: Any) -> Any:
    """Whether a leg asks for another amount than it was given."""
    if flags & _VOID:
        return amount != 0 and amount != fact.held
    if flags & _SETTLING and amount == _MAX:
        return fact.amount != fact.held
    if flags & _BALANCING:
        return amount < fact.amount
    return amount != fact.amount


@part
def inherited_id(hi: Any, lo: Any, hold: Any) -> Any:
    """The wide user data of a post or void, the hold's if it has none of its own."""
    if (hi | lo) == _ZERO:
        return hold.user_data_128_hi, hold.user_data_128_lo
    return hi, lo


@part
def difference_in_user_data(b: Any, c: Any, i: Any, loaded: Any, inherits: Any, fact: Any) -> Any:
    """The first difference in user data, after inheritance from the hold; 0 = none."""
    hi, lo = c.user_data_128[i, 0], c.user_data_128[i, 1]
    middle, short = c.user_data_64[i], c.user_data_32[i]
    if inherits and ((hi | lo) == _ZERO or middle == _ZERO or short == 0):
        number = find_hold(b, fact.pending_hi, fact.pending_lo)
        position = seek_loaded(loaded.facts, fact.pending_hi, fact.pending_lo) if number < 0 else -1
        if number >= 0:
            hold = b.holds[number]
            hi, lo = inherited_id(hi, lo, hold)
            middle = middle if middle != _ZERO else hold.user_data_64
            short = short if short != 0 else hold.user_data_32
        elif position >= 0:
            known = loaded.facts[position]
            hi, lo = inherited_id(hi, lo, known)
            middle = middle if middle != _ZERO else known.user_data_64
            short = short if short != 0 else known.user_data_32
    if hi != fact.user_data_128_hi or lo != fact.user_data_128_lo:
        return Result.EXISTS_WITH_DIFFERENT_USER_DATA_128.value
    if middle != fact.user_data_64:
        return Result.EXISTS_WITH_DIFFERENT_USER_DATA_64.value
    if short != fact.user_data_32:
        return Result.EXISTS_WITH_DIFFERENT_USER_DATA_32.value
    return 0
