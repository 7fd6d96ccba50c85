"""The checks of the invariants find what is wrong, whichever it is."""

from collections.abc import Callable

import numpy as np
import pytest

from engine.kernel.shapes import HOLD_COUNT, LAST_LEG, LAST_TIMESTAMP, Books
from engine.layout import AccountFlag, LegFlag, ids_column
from engine.ledger import InvariantBroken, Ledger
from tests.unit.kernel_scenes import NOW, PENDING, new_ledger, open_accounts, send, v7


def healthy_ledger() -> Ledger:
    """Some of everything."""
    ledger = new_ledger(ids_per_generation=64)
    open_accounts(ledger, [5], flags=[AccountFlag.ROLLUP])
    open_accounts(ledger, [6, 7], parent=ids_column([5, 5]))
    send(ledger, {"id": v7(1)}, {"id": v7(2), "debit": 6}, {"id": v7(3), "debit": 6, "credit": 7})
    send(ledger, {"id": v7(4), "flags": PENDING, "timeout": 5, "user_data_64": 1, "debit": 6})
    send(ledger, {"id": v7(5), "flags": PENDING | LegFlag.CLOSING_DEBIT, "debit": 3})
    return ledger


def first(slots: np.ndarray, row: int) -> int:
    """The place of a row's slot."""
    return int(np.flatnonzero((slots & np.uint64(0xFFFFFFFF)) == row + 1)[0])


def lose_account_slot(b: Books) -> None:
    b.account_slots[first(b.account_slots, 1)] = 0


def lose_hold_slot(b: Books) -> None:
    b.hold_slots[first(b.hold_slots, 0)] = 0


def lose_row_slot(b: Books) -> None:
    b.row_slots[first(b.row_slots, 0)] = 0


def set_account(field: str, row: int, value: int) -> Callable[[Books], None]:
    def change(b: Books) -> None:
        b.accounts[row][field] = value

    return change


def set_hold(field: str, value: int, row: int = 0) -> Callable[[Books], None]:
    def change(b: Books) -> None:
        b.holds[row][field] = value

    return change


def set_row(field: str, value: int) -> Callable[[Books], None]:
    def change(b: Books) -> None:
        b.rows[1][field] = value

    return change


def set_scalar(place: int, value: int) -> Callable[[Books], None]:
    def change(b: Books) -> None:
        b.scalars[place] = value

    return change


def move_expiry(b: Books) -> None:
    b.expiries[0] += 1


def forget_hold(b: Books) -> None:
    b.scalars[HOLD_COUNT] -= 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lose_account_slot, "account's index entry"),
        (set_account("debits_posted", 0, -1), "negative"),
        (set_account("credits_pending", 1, 2**63 - 1), "exceed the greatest amount"),
        (set_account("version", 0, 0), "version is below 1"),
        (set_account("timestamp", 1, NOW - 100), "order of creation"),
        (set_account("parent", 5, 6), "parent is not"),
        (set_account("parent", 5, 0), "parent is not"),
        (set_account("asset", 4, 2), "parent is not"),
        (set_account("debits_pending", 0, 5), "pending counters"),
        (forget_hold, "pending counters"),
        (set_account("credits_posted", 4, 5), "roll-up's balance"),
        (lose_hold_slot, "hold's index entry"),
        (move_expiry, "expiry is not where"),
        (set_hold("status", 1), "expiry is not where"),
        (set_account("flags", 2, 0), "closing flag"),
        (set_hold("debit", 99), "names accounts that are not there"),
        (set_hold("held", -1), "negative amount"),
        (lose_row_slot, "not in its index"),
        (set_row("timestamp", NOW - 1), "order of time"),
        (set_row("credit", 99), "accounts or side rows"),
        (set_row("side", 9), "accounts or side rows"),
        (set_scalar(LAST_LEG, NOW), "later than the last one"),
        (set_scalar(LAST_TIMESTAMP, NOW - 10), "later than the last one"),
        (set_account("debits_posted", 0, 11), "debits and credits of asset 1 differ"),
    ],
)
def test_damage_is_found(damage: Callable[[Books], None], words: str) -> None:
    ledger = healthy_ledger()
    ledger.check()
    damage(ledger._books)
    with pytest.raises(InvariantBroken, match=words):
        ledger.check()


def test_sums_of_the_largest_amounts_are_exact() -> None:
    ledger = new_ledger(8)
    pairs = [(1, 2), (3, 4), (5, 6), (7, 8)]
    rows = [{"id": v7(n), "debit": d, "credit": c, "amount": 2**63 - 1} for n, (d, c) in enumerate(pairs)]
    send(ledger, *rows)
    assert ledger.accounts["debits_posted"].tolist() == [2**63 - 1, 0] * 4
    ledger.check()
