"""Accounts: finding and adding them, and moving money on two of them and on the roll-ups above.

A leg counts for every ancestor that has only one of its two accounts below it. A parent's row is always
smaller than its children's, so walking up from both sides, each time from the greater row, meets at the
first ancestor that both share; above it nothing changes.
"""

from typing import Any, Final

import numpy as np

from engine.kernel.compiled import part, seldom
from engine.kernel.index import find, hash_id, insert, remove_newest
from engine.kernel.shapes import ACCOUNT_COUNT, LAST_TIMESTAMP, SEED
from engine.layout import AMOUNT_MAX, ROLLUP_LEVELS_MAX, AccountFlag

OVERFLOW: Final = 1
BELOW: Final = 2
ABOVE: Final = 4
"""What is in the way of an amount, as bits."""

_MAX: Final = np.int64(AMOUNT_MAX)
_LEVELS: Final = int(ROLLUP_LEVELS_MAX)
_CLOSED: Final = np.uint16(AccountFlag.CLOSED)
_NOT_CLOSED: Final = np.uint16(0xFFFF & ~AccountFlag.CLOSED)


@part
def find_account(b: Any, hi: Any, lo: Any) -> Any:
    """The row of an account, or −1."""
    digest = hash_id(hi, lo, b.scalars[SEED])
    return find(b.account_slots, 0, b.account_slots.size - 1, b.accounts, 0, hi, lo, digest)


@part
def find_hinted(b: Any, hi: Any, lo: Any, digest: Any, hint: Any) -> Any:
    """The row of an account, or −1: probably the row `hint`, unless that is −1 or out of date."""
    if 0 <= hint < b.scalars[ACCOUNT_COUNT]:
        account = b.accounts[hint]
        if account.id_lo == lo and account.id_hi == hi:
            return hint
    return find(b.account_slots, 0, b.account_slots.size - 1, b.accounts, 0, hi, lo, digest)


@part
def add_account(b: Any, fact: Any) -> None:
    """Adds the account that a fact describes; there is room and its id is new."""
    s = b.scalars
    number = s[ACCOUNT_COUNT]
    account = b.accounts[number]
    account.id_hi = fact.id_hi
    account.id_lo = fact.id_lo
    account.debits_pending = 0
    account.debits_posted = 0
    account.credits_pending = 0
    account.credits_posted = 0
    account.floor = fact.floor
    account.ceiling = fact.ceiling
    account.version = 1
    account.timestamp = fact.timestamp
    account.party_hi = fact.party_hi
    account.party_lo = fact.party_lo
    account.user_data_128_hi = fact.user_data_128_hi
    account.user_data_128_lo = fact.user_data_128_lo
    account.user_data_64 = fact.user_data_64
    account.user_data_32 = fact.user_data_32
    account.asset = fact.asset
    account.parent = fact.parent
    account.code = fact.code
    account.flags = fact.flags
    digest = hash_id(fact.id_hi, fact.id_lo, s[SEED])
    insert(b.account_slots, 0, b.account_slots.size - 1, number, digest)
    s[ACCOUNT_COUNT] = number + 1
    s[LAST_TIMESTAMP] = max(s[LAST_TIMESTAMP], fact.timestamp)


@seldom
def drop_accounts(b: Any, count: Any) -> None:
    """Takes back the newest accounts, down to `count`; the caller resets the counters."""
    mask = b.account_slots.size - 1
    for number in range(b.scalars[ACCOUNT_COUNT] - 1, count - 1, -1):
        account = b.accounts[number]
        digest = hash_id(account.id_hi, account.id_lo, b.scalars[SEED])
        remove_newest(b.account_slots, 0, mask, number, digest)


@seldom
def is_stamp_of_account(b: Any, timestamp: Any) -> Any:
    """Whether an account was created at this time; rows are in order of creation."""
    low, high = np.int64(0), b.scalars[ACCOUNT_COUNT]
    while low < high:
        middle = (low + high) // 2
        if b.accounts[middle].timestamp < timestamp:
            low = middle + 1
        else:
            high = middle
    return low < b.scalars[ACCOUNT_COUNT] and b.accounts[low].timestamp == timestamp


@seldom
def levels_above(b: Any, row: Any) -> Any:
    """How many ancestors an account has."""
    levels = 0
    row = b.accounts[row].parent
    while row >= 0 and levels <= _LEVELS:
        levels += 1
        row = b.accounts[row].parent
    return levels


@part
def debit(account: Any, pending: Any, posted: Any, step: Any) -> None:
    """Adds to an account's debits."""
    account.debits_pending += pending
    account.debits_posted += posted
    account.version += step


@part
def credit(account: Any, pending: Any, posted: Any, step: Any) -> None:
    """Adds to an account's credits."""
    account.credits_pending += pending
    account.credits_posted += posted
    account.version += step


@seldom
def move_above(b: Any, dr: Any, cr: Any, pending: Any, posted: Any, step: Any) -> None:
    """What a leg does to the ancestors `dr` and `cr` of its accounts, and to theirs."""
    accounts = b.accounts
    while dr != cr:
        if dr > cr:
            debit(accounts[dr], pending, posted, step)
            dr = accounts[dr].parent
        else:
            credit(accounts[cr], pending, posted, step)
            cr = accounts[cr].parent


@part
def move(b: Any, dr: Any, cr: Any, pending: Any, posted: Any, step: Any) -> None:
    """Adds to the counters of both accounts and their ancestors; `step` is 1, or −1 to take a leg back."""
    debited = b.accounts[dr]
    credited = b.accounts[cr]
    debit(debited, pending, posted, step)
    credit(credited, pending, posted, step)
    if debited.parent != credited.parent:
        move_above(b, debited.parent, credited.parent, pending, posted, step)


@part
def against_debit(account: Any, amount: Any) -> Any:
    """What is in the way of debiting an account."""
    debits = account.debits_pending + account.debits_posted
    if amount > _MAX - debits:
        return OVERFLOW
    if amount > 0 and account.credits_posted - debits - amount < account.floor:
        return BELOW
    return 0


@part
def against_credit(account: Any, amount: Any) -> Any:
    """What is in the way of crediting an account."""
    credits_ = account.credits_pending + account.credits_posted
    if amount > _MAX - credits_:
        return OVERFLOW
    if amount > 0 and credits_ + amount - account.debits_posted > account.ceiling:
        return ABOVE
    return 0


@seldom
def against_above(b: Any, dr: Any, cr: Any, amount: Any) -> Any:
    """What is in the way among the ancestors `dr` and `cr` of a leg's accounts, and theirs."""
    accounts = b.accounts
    found = 0
    while dr != cr:
        if dr > cr:
            found |= against_debit(accounts[dr], amount)
            dr = accounts[dr].parent
        else:
            found |= against_credit(accounts[cr], amount)
            cr = accounts[cr].parent
    return found


@part
def against(b: Any, debited: Any, credited: Any, amount: Any) -> Any:
    """What is in the way of a leg of this amount, among both accounts and their ancestors."""
    found = against_debit(debited, amount) | against_credit(credited, amount)
    if debited.parent != credited.parent:
        found |= against_above(b, debited.parent, credited.parent, amount)
    return found


@part
def set_closed(account: Any, closed: Any) -> None:
    """Closes or reopens an account."""
    if closed:
        account.flags = np.uint16(account.flags | _CLOSED)
    else:
        account.flags = np.uint16(account.flags & _NOT_CLOSED)
