"""The sweep: when the next hold is due, which go first, and what an expiry writes down."""

import pytest

from engine.layout import AMOUNT_MAX, LegFlag
from engine.ledger import Ledger, TurnTooLarge
from tests.unit.kernel_scenes import NOW, PENDING, POST, SECOND, VOID, new_ledger, send, slugs, v7


def hold(number: int, timeout: int, **given: int) -> dict[str, int]:
    """A hold of 10 from account 1 to account 2."""
    return {"id": v7(number), "flags": PENDING, "timeout": timeout} | given


def test_next_expiry_is_that_of_the_first_open_hold() -> None:
    ledger = new_ledger()
    assert ledger.next_expiry == AMOUNT_MAX
    send(ledger, hold(1, 30), hold(2, 10), hold(3, 0), hold(4, 20))
    assert ledger.next_expiry == NOW + 2 + 10 * SECOND
    send(ledger, {"id": v7(11), "flags": POST, "pending_id": v7(2), "amount": 1})
    assert ledger.next_expiry == NOW + 4 + 20 * SECOND
    send(ledger, {"id": v7(12), "flags": VOID, "pending_id": v7(1)})
    assert ledger.next_expiry == NOW + 4 + 20 * SECOND
    ledger.expire(NOW + 21 * SECOND, 10)
    assert ledger.next_expiry == AMOUNT_MAX
    ledger.check()


def test_due_holds_go_in_order_of_expiry_then_creation_and_no_more_than_asked() -> None:
    ledger = new_ledger()
    for number, timeout in enumerate((5, 3, 4, 3, 9)):
        send(ledger, hold(number, timeout), now=NOW + 1 + number)
    due = NOW + 6 * SECOND
    assert len(ledger.expire(NOW + 2 * SECOND, 10)) == 0
    first = ledger.expire(due, 3)
    assert (first["pending_lo"] & 15).tolist() == [1, 3, 2]
    assert first["timestamp"].tolist() == [due - 2, due - 1, due]
    rest = ledger.expire(due, 3)
    assert (rest["pending_lo"] & 15).tolist() == [0]
    assert rest["timestamp"].tolist() == [due + 1]
    assert ledger.accounts["debits_pending"].tolist() == [10, 0, 0, 0]
    ledger.check()


def test_an_expiry_says_what_was_held_and_where() -> None:
    ledger = new_ledger()
    send(ledger, hold(1, 5, code=8, user_data_64=3))
    send(ledger, {"id": v7(2), "flags": POST | LegFlag.KEEP_OPEN, "pending_id": v7(1), "amount": 4})
    (fact,) = ledger.expire(NOW + 9 * SECOND, 10)
    assert fact.item() == (
        *(0, 0, v7(1) >> 64, v7(1) & (2**64 - 1), 0, 0, 0),
        *(0, 6, NOW + 9 * SECOND, 0, 1, 0, 0, 8, LegFlag.EXPIRY, 0),
    )
    assert ledger.accounts["version"].tolist() == [4, 4, 1, 1]
    assert ledger.accounts["credits_posted"].tolist() == [0, 4, 0, 0]
    late = {"id": v7(3), "flags": POST, "pending_id": v7(1), "amount": 6}
    assert slugs(send(ledger, late)) == "pending_transfer_expired"
    assert slugs(send(ledger, late | {"amount": 7})) == "exceeds_pending_transfer_amount"


def test_a_hold_that_ran_out_reserves_until_the_sweep() -> None:
    ledger = new_ledger()
    send(ledger, {"id": v7(1), "debit": 3, "credit": 1})
    ledger.set_guards(0, 0, AMOUNT_MAX, NOW + 10)
    send(ledger, hold(2, 1))
    later = NOW + 5 * SECOND
    assert slugs(send(ledger, {"id": v7(3), "amount": 1}, now=later)) == "below_floor"
    ledger.expire(later, 1)
    assert slugs(send(ledger, {"id": v7(4), "amount": 1}, now=later)) == "created"


def test_expiries_need_room_in_the_turn() -> None:
    ledger: Ledger = new_ledger(ids_per_generation=4, turn_events_max=2)
    ledger.begin_turn()
    send(ledger, *(hold(n, 1) for n in range(6)))
    with pytest.raises(TurnTooLarge):
        ledger.expire(NOW + 9 * SECOND, 10)
    ledger.begin_turn()
    assert len(ledger.expire(NOW + 9 * SECOND, 10)) == 6
    ledger.check()
