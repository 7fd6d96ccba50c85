"""Holds: what pending legs reserve, until they are posted, voided or expired.

The table has every open hold, and every resolved one for as long as the generation in which it was resolved
is there: legs that are not in the window any more are judged by what PostgreSQL says of them.
"""

from typing import Any, Final

import numpy as np

from engine.kernel.accounts import move, set_closed
from engine.kernel.compiled import part, seldom
from engine.kernel.index import find, hash_id, insert, remove_newest
from engine.kernel.shapes import EXPIRY_STALE, GENERATION, HOLD_COUNT, NEXT_EXPIRY, SEED
from engine.layout import AMOUNT_MAX, SECOND_NS, HoldStatus, LegFlag

_NEVER: Final = np.int64(AMOUNT_MAX)
_SECOND: Final = np.int64(SECOND_NS)
_OPEN: Final = np.uint32(HoldStatus.OPEN)
_POSTED: Final = np.uint32(HoldStatus.POSTED)
_VOIDED: Final = np.uint32(HoldStatus.VOIDED)
_EXPIRED: Final = np.uint32(HoldStatus.EXPIRED)
_VOID: Final = int(LegFlag.VOID_PENDING)
_KEEP_OPEN: Final = int(LegFlag.KEEP_OPEN)
_EXPIRY: Final = int(LegFlag.EXPIRY)
_CLOSING_DEBIT: Final = int(LegFlag.CLOSING_DEBIT)
_CLOSING_CREDIT: Final = int(LegFlag.CLOSING_CREDIT)
_CLOSING: Final = _CLOSING_DEBIT | _CLOSING_CREDIT


@part
def find_hashed_hold(b: Any, hi: Any, lo: Any, digest: Any) -> Any:
    """The row of a hold whose id has this hash, or −1."""
    return find(b.hold_slots, 0, b.hold_slots.size - 1, b.holds, 0, hi, lo, digest)


@part
def find_hold(b: Any, hi: Any, lo: Any) -> Any:
    """The row of a hold, or −1."""
    return find_hashed_hold(b, hi, lo, hash_id(hi, lo, b.scalars[SEED]))


@part
def expiry_of(hold: Any) -> Any:
    """When a hold runs out; `AMOUNT_MAX` = never."""
    return hold.timestamp + hold.timeout * _SECOND if hold.timeout else _NEVER


@part
def add_hold(b: Any, fact: Any) -> None:
    """Adds the hold of a pending leg; there is room."""
    s = b.scalars
    number = s[HOLD_COUNT]
    hold = b.holds[number]
    hold.id_hi = fact.id_hi
    hold.id_lo = fact.id_lo
    hold.user_data_128_hi = fact.user_data_128_hi
    hold.user_data_128_lo = fact.user_data_128_lo
    hold.user_data_64 = fact.user_data_64
    hold.held = fact.amount
    hold.timestamp = fact.timestamp
    hold.generation = -1
    hold.debit = fact.debit
    hold.credit = fact.credit
    hold.user_data_32 = fact.user_data_32
    hold.timeout = fact.timeout
    hold.code = fact.code
    hold.flags = fact.flags
    hold.status = _OPEN
    expiry = expiry_of(hold)
    b.expiries[number] = expiry
    s[NEXT_EXPIRY] = min(s[NEXT_EXPIRY], expiry)
    insert(b.hold_slots, 0, b.hold_slots.size - 1, number, hash_id(fact.id_hi, fact.id_lo, s[SEED]))
    s[HOLD_COUNT] = number + 1


@part
def set_closing(b: Any, flags: Any, dr: Any, cr: Any, closed: Any) -> None:
    """Closes or reopens the accounts that a pending leg with these flags closes."""
    if flags & _CLOSING_DEBIT:
        set_closed(b.accounts[dr], closed)
    if flags & _CLOSING_CREDIT:
        set_closed(b.accounts[cr], closed)


@part
def resolves(fact: Any) -> Any:
    """Whether a post, void or expiry ends its hold."""
    return not fact.flags & _KEEP_OPEN or fact.amount == fact.held


@part
def settle(b: Any, number: Any, fact: Any) -> None:
    """Applies a post, void or expiry to its hold."""
    s = b.scalars
    hold = b.holds[number]
    dr, cr = np.int64(hold.debit), np.int64(hold.credit)
    if not resolves(fact):
        move(b, dr, cr, -fact.amount, fact.amount, 1)
        hold.held -= fact.amount
        return
    move(b, dr, cr, -fact.held, fact.amount, 1)
    hold.generation = s[GENERATION]
    if fact.flags & (_VOID | _EXPIRY):
        hold.status = _VOIDED if fact.flags & _VOID else _EXPIRED
        set_closing(b, hold.flags, dr, cr, False)
    else:
        hold.status = _POSTED
    if b.expiries[number] == s[NEXT_EXPIRY]:
        s[EXPIRY_STALE] = 1
    b.expiries[number] = _NEVER


@seldom
def unsettle(b: Any, number: Any, fact: Any) -> None:
    """Takes back what `settle` did with a post or void; the caller resets the counters."""
    hold = b.holds[number]
    dr, cr = np.int64(hold.debit), np.int64(hold.credit)
    if not resolves(fact):
        move(b, dr, cr, fact.amount, -fact.amount, -1)
        hold.held += fact.amount
        return
    move(b, dr, cr, fact.held, -fact.amount, -1)
    hold.generation = -1
    if fact.flags & _VOID:
        set_closing(b, hold.flags, dr, cr, True)
    hold.status = _OPEN
    b.expiries[number] = expiry_of(hold)


@seldom
def drop_newest_hold(b: Any) -> None:
    """Takes back `add_hold`, all but the counters it changed save that of the holds."""
    number = b.scalars[HOLD_COUNT] - 1
    hold = b.holds[number]
    digest = hash_id(hold.id_hi, hold.id_lo, b.scalars[SEED])
    remove_newest(b.hold_slots, 0, b.hold_slots.size - 1, number, digest)
    b.scalars[HOLD_COUNT] = number
