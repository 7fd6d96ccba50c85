"""A chain that fails leaves no trace: not in the state, and not in the indexes."""

from typing import Any

import numpy as np
import pytest

from engine.kernel import shapes
from engine.layout import AccountFlag, LegFlag, account_columns, ids_column, open_columns
from engine.ledger import Ledger
from engine.results import Result
from tests.unit.kernel_scenes import (
    LINKED,
    MS,
    NOW,
    PENDING,
    POST,
    SECOND,
    VOID,
    assert_same,
    block,
    config,
    new_ledger,
    open_accounts,
    send,
    slugs,
    v7,
)

KEEP_OPEN = POST | LegFlag.KEEP_OPEN
CLOSING = PENDING | LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT
CULPRIT = {"id": v7(999), "code": 0}
"""Refused, but not for a transient reason, so it is not burnt either."""


def busy_ledger() -> Ledger:
    """Accounts 5 and 6 below roll-up 8, 7 below roll-up 9; holds 1 to 4, of which 4 closes its accounts."""
    ledger = new_ledger(ids_per_generation=1024, accounts_initial=64, holds_initial=64)
    open_accounts(ledger, [8, 9], flags=np.full(2, AccountFlag.ROLLUP))
    open_accounts(ledger, [5, 6, 7], parent=ids_column([8, 8, 9]))
    holds = [{"id": v7(n), "flags": PENDING, "timeout": 10 * n, "amount": 100} for n in (1, 2, 3)]
    send(ledger, *holds, {"id": v7(4), "flags": CLOSING, "debit": 3, "credit": 4, "amount": 0})
    send(ledger, {"id": v7(5), "debit": 1, "credit": 5, "amount": 50})
    return ledger


def indexes(ledger: Ledger) -> dict[str, bytes]:
    """What a state leaves out."""
    books = ledger._books
    holds = int(books.scalars[shapes.HOLD_COUNT])
    return {
        "accounts": books.account_slots.tobytes(),
        "holds": books.hold_slots.tobytes(),
        "rows": books.row_slots.tobytes(),
        "expiries": books.expiries[:holds].tobytes(),
        "scalars": books.scalars.tobytes(),
    }


CHAINS: dict[str, list[dict[str, Any]]] = {
    "plain legs": [{"id": v7(100)}, {"id": v7(101), "debit": 2, "credit": 1}],
    "wide legs": [{"id": v7(100), "user_data_128": 3}, {"id": v7(101), "user_data_32": 3}],
    "new holds": [{"id": v7(100), "flags": PENDING, "timeout": 1}, {"id": v7(101), "flags": PENDING}],
    "a hold and its post": [
        {"id": v7(100), "flags": PENDING, "timeout": 1},
        {"id": v7(101), "flags": POST, "pending_id": v7(100), "amount": 3},
    ],
    "a hold, captures and its void": [
        {"id": v7(100), "flags": PENDING},
        {"id": v7(101), "flags": KEEP_OPEN, "pending_id": v7(100), "amount": 3},
        {"id": v7(102), "flags": KEEP_OPEN, "pending_id": v7(100), "amount": 0},
        {"id": v7(103), "flags": VOID, "pending_id": v7(100)},
    ],
    "posts and voids of older holds": [
        {"id": v7(100), "flags": POST, "pending_id": v7(1), "amount": 2**63 - 1},
        {"id": v7(101), "flags": POST, "pending_id": v7(2), "amount": 0},
        {"id": v7(102), "flags": VOID, "pending_id": v7(3)},
    ],
    "captures of an older hold, all of it in the end": [
        {"id": v7(100), "flags": KEEP_OPEN, "pending_id": v7(1), "amount": 99},
        {"id": v7(101), "flags": KEEP_OPEN, "pending_id": v7(1), "amount": 1},
    ],
    "a void that reopens": [{"id": v7(100), "flags": VOID, "pending_id": v7(4)}],
    "reopening and closing again": [
        {"id": v7(100), "flags": VOID, "pending_id": v7(4)},
        {"id": v7(101), "flags": CLOSING, "debit": 3, "credit": 4, "timeout": 5},
    ],
    "closing": [{"id": v7(100), "flags": CLOSING, "timeout": 5}],
    "across roll-ups": [
        {"id": v7(100), "debit": 5, "credit": 7},
        {"id": v7(101), "debit": 5, "credit": 6},
        {"id": v7(102), "debit": 7, "credit": 1, "flags": PENDING},
    ],
    "balancing": [{"id": v7(100), "debit": 5, "credit": 1, "flags": LegFlag.BALANCING_DEBIT, "amount": 90}],
    "amount zero": [{"id": v7(100), "amount": 0}],
    "ids of all times": [{"id": 77}, {"id": v7(9, MS + 10**6)}, {"id": v7(9, MS + 1)}, {"id": v7(9, MS - 1)}],
}


def linked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These legs as one chain that the culprit ends."""
    return [row | {"flags": row.get("flags", 0) | LINKED} for row in rows] + [CULPRIT]


@pytest.mark.parametrize("rows", CHAINS.values(), ids=CHAINS.keys())
def test_failed_chain_leaves_no_trace(rows: list[dict[str, Any]]) -> None:
    ledger = busy_ledger()
    assert ledger.next_expiry == ledger.accounts["timestamp"][8] + 1 + 10 * SECOND
    state, before = ledger.state(), indexes(ledger)
    outcome = ledger.apply_legs(block(linked(rows)), NOW + 1000)
    assert slugs(outcome) == "linked_event_failed " * len(rows) + "code_must_not_be_zero"
    assert len(outcome.facts) == 0
    assert_same(ledger.state(), state)
    assert indexes(ledger) == before
    ledger.check()


@pytest.mark.parametrize("rows", CHAINS.values(), ids=CHAINS.keys())
def test_the_same_chain_without_a_culprit_is_applied(rows: list[dict[str, Any]]) -> None:
    ledger = busy_ledger()
    chain = linked(rows)[:-1]
    chain[-1] = chain[-1] | {"flags": chain[-1]["flags"] & ~LINKED}
    assert set(slugs(ledger.apply_legs(block(chain), NOW + 1000)).split()) == {"created"}
    ledger.check()


def test_accounts_opened_by_a_failed_chain_are_gone() -> None:
    ledger = busy_ledger()
    state, before = ledger.state(), None
    opens = open_columns(2, before=[0, 0], id=ids_column([50, 51]), asset=[1, 1], code=[1, 1])
    rows = [{"id": v7(100), "debit": 50, "credit": 51, "flags": LINKED}, CULPRIT]
    outcome = ledger.apply_legs(block(rows, opens=opens), NOW + 1000)
    assert slugs(outcome) == "linked_event_failed code_must_not_be_zero"
    assert len(outcome.opened) == 0
    assert_same(ledger.state(), state)
    assert ledger.lookup(ids_column([50, 51])).tolist() == [-1, -1]
    before = indexes(ledger)
    lone = [{"id": v7(100), "debit": 50, "credit": 51, "code": 0}]
    ledger.apply_legs(block(lone, opens=opens._replace(before=np.zeros(2, np.int64))), NOW + 1000)
    assert indexes(ledger) == before


def test_opened_accounts_serve_the_legs_after_them_and_are_opened_once() -> None:
    ledger = busy_ledger()
    opens = open_columns(3, before=[0, 1, 1], id=ids_column([50, 50, 51]), asset=[1, 1, 1], code=[1, 1, 1])
    rows = [{"id": v7(100), "credit": 50}, {"id": v7(101), "debit": 50, "credit": 51}]
    outcome = ledger.apply_legs(block(rows, opens=opens), NOW + 1000)
    assert slugs(outcome) == "created created"
    assert outcome.opened_index.tolist() == [0, 2]
    assert outcome.opened["timestamp"].tolist() == [NOW + 996, NOW + 999]
    assert outcome.timestamp.tolist() == [NOW + 997, NOW + 1000]
    assert ledger.lookup(ids_column([50, 51])).tolist() == [9, 10]
    ledger.check()


def test_the_culprit_of_a_chain_is_burnt_and_the_rest_of_it_is_not() -> None:
    ledger = new_ledger()
    rows = [{"id": v7(1), "flags": LINKED}, {"id": v7(2), "credit": 77, "flags": LINKED}, {"id": v7(3)}]
    outcome = send(ledger, *rows)
    assert slugs(outcome) == "linked_event_failed credit_account_not_found linked_event_failed"
    (fact,) = outcome.facts
    assert (fact["id_lo"], fact["flags"], fact["debit"]) == (v7(2) & (2**64 - 1), LegFlag.BURNT, -1)
    assert fact["timestamp"] == outcome.timestamp[1] == ledger.last_timestamp
    again = send(ledger, {"id": v7(1)}, {"id": v7(2)}, {"id": v7(3)})
    assert slugs(again) == "created id_already_failed created"
    ledger.check()


def test_chain_longer_than_what_is_looked_ahead() -> None:
    ledger = new_ledger(ids_per_generation=1024)
    state = ledger.state()
    rows = [{"id": v7(n), "debit": 1 + n % 3, "credit": 4} for n in range(300)]
    assert slugs(send(ledger, *linked(rows))).endswith("code_must_not_be_zero")
    assert_same(ledger.state(), state)
    assert set(slugs(send(ledger, *rows)).split()) == {"created"}
    ledger.check()


def test_failed_chain_of_accounts_leaves_no_trace() -> None:
    ledger = Ledger(config())
    open_accounts(ledger, [1, 2])
    state, before = ledger.state(), indexes(ledger)
    columns = account_columns(
        4, id=ids_column([3, 4, 5, 6]), asset=[1] * 4, code=[1, 1, 0, 1], flags=[1, 1, 1, 0]
    )
    outcome = ledger.create_accounts(columns, np.array([0, 4]), NOW + 1000)
    assert [Result(status).slug for status in outcome.status] == [
        "linked_event_failed",
        "linked_event_failed",
        "code_must_not_be_zero",
        "linked_event_failed",
    ]
    assert outcome.timestamp.tolist() == [NOW + 997, NOW + 998, NOW + 999, NOW + 1000]
    assert_same(ledger.state(), state)
    assert indexes(ledger)["scalars"] == before["scalars"]
    ledger.check()
