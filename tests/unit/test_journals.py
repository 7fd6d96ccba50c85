"""Adjustments, journals, openings, and kinds of one's own: what they accept and post."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commands import JournalEntries, JournalLegs, Lines, Refusal
from engine.entities import Side
from engine.intake import paired_rows
from engine.kinds import kind_from_data
from engine.standard_kinds import STANDARD_KINDS
from tests.desk import Shop


def test_units_written_off_and_found(shop: Shop) -> None:
    lines = Lines(things=["MUG", "LAMP"], quantities=[-5, 2])
    shop.do(kind="adjustment", payer=shop.seller, reason="write_off", lines=lines)
    assert shop.balance("I:shrink.contra", "MUG") == 5
    assert shop.balance("I:world", "MUG") == -5
    assert shop.balance("I:shrink.contra", "LAMP") == -2


def test_debts_fees_and_discounts(shop: Shop) -> None:
    lines = Lines(
        amounts=[1106206, -1106206, -1106206, 40, -15],
        reasons=["bad_debt", "bad_debt", "bad_debt", "fee", "discount"],
    )
    shop.do(kind="adjustment", payer=shop.buyer, asset="GBP", lines=lines)
    assert shop.balance("X:baddebt") == 1106206
    assert shop.balance("R:fee") == 40
    assert shop.balance("R:discount") == -15
    assert shop.balance(f"A:ar/{shop.b}") == -1106206 + 25
    fee = Lines(things=["POST"], quantities=[-1], amounts=[-1300])
    shop.do(
        kind="adjustment", payer=shop.buyer, asset="GBP", reason="fee", lines=fee, inputs={"account": "A:psp"}
    )
    assert shop.balance("A:psp") == -1300


@pytest.mark.parametrize("reason", ["", "whim"])
def test_adjustment_needs_a_reason_it_knows(shop: Shop, reason: str) -> None:
    lines = Lines(amounts=[1])
    answer = shop.ask(kind="adjustment", payer=shop.buyer, asset="GBP", lines=lines, reason=reason)
    assert answer.code in {Refusal.FIELD_MISSING, Refusal.FIELD_INVALID}
    assert "bad_debt, correction, discount, fee, write_off" in answer.message
    missing = shop.ask(kind="adjustment", payer=shop.buyer, lines=lines, reason="fee")
    assert missing.code == Refusal.ASSET_NOT_FOUND


def test_journal_of_entries_is_paired_for_each_asset(shop: Shop) -> None:
    entries = JournalEntries(
        accounts=["A:bank", "X:psp", "A:psp", "I:world", f"I:owned/{shop.b}"],
        sides=[Side.DEBIT, Side.DEBIT, Side.CREDIT, Side.CREDIT, Side.DEBIT],
        amounts=[90, 10, 100, 3, 3],
        assets=["GBP", "GBP", "GBP", "MUG", "MUG"],
    )
    answer = shop.do(kind="journal", entries=entries)
    assert answer.leg_count == 3
    assert (shop.balance("A:bank"), shop.balance("X:psp"), shop.balance("A:psp")) == (90, 10, -100)
    assert shop.balance(f"I:owned/{shop.b}", "MUG") == 3


BAD_JOURNALS: list[tuple[dict[str, Any], str, str]] = [
    ({}, Refusal.FIELD_MISSING, "legs or entries"),
    ({"legs": JournalLegs([], [], [], [])}, Refusal.LINES_INVALID, "empty"),
    ({"legs": JournalLegs(["A:a"], ["A:b"], [0], ["GBP"])}, Refusal.AMOUNT_NOT_POSITIVE, "leg 1"),
    ({"legs": JournalLegs(["A:a"], ["A:b"], [-4], ["GBP"])}, Refusal.AMOUNT_NEGATIVE, "-4"),
    ({"legs": JournalLegs(["A:a"], ["A:b"], [4], ["USD"])}, Refusal.ASSET_NOT_FOUND, "'USD'"),
    ({"legs": JournalLegs(["A:a"], ["A:b", "A:c"], [4], ["GBP"])}, Refusal.LINES_INVALID, "others have 2"),
    ({"legs": JournalLegs(["cash"], ["A:b"], [4], ["GBP"])}, Refusal.ACCOUNT_KEY_INVALID, "'cash'"),
    (
        {"legs": JournalLegs(["L:wallet/bob"], ["A:b"], [4], ["GBP"])},
        Refusal.ACCOUNT_KEY_INVALID,
        "Party's id",
    ),
    ({"legs": JournalLegs(["A:a"], ["A:a"], [4], ["GBP"])}, "accounts_must_be_different", "different"),
    (
        {"entries": JournalEntries(["A:a", "A:b"], [Side.DEBIT, Side.CREDIT], [4, 5], ["GBP", "GBP"])},
        Refusal.NOT_BALANCED,
        "GBP has debits of 4 and credits of 5",
    ),
]


@pytest.mark.parametrize(("fields", "code", "says"), BAD_JOURNALS, ids=lambda value: str(value)[:30])
def test_bad_journal_is_refused(shop: Shop, fields: dict[str, Any], code: str, says: str) -> None:
    answer = shop.ask(kind="journal", **fields)
    assert answer.code == code
    assert says in answer.message
    assert shop.ledger.account_count == 0


def test_opening_balances_on_both_sides(shop: Shop) -> None:
    entries = JournalEntries(
        accounts=["A:bank", f"L:wallet/{shop.b}", "A:psp"],
        sides=[Side.DEBIT, Side.CREDIT, Side.DEBIT],
        amounts=[500, 120, 0],
        assets=["GBP"] * 3,
    )
    assert shop.do(kind="opening", entries=entries).leg_count == 2
    assert shop.balance("A:bank") == 500
    assert shop.balance(f"L:wallet/{shop.b}") == 120
    assert shop.balance("L:opening.contra") == 380


ENTRIES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=1, max_size=12)


@given(ENTRIES, ENTRIES)
def test_pairing_keeps_every_amount(debits: list[tuple[int, int]], credits: list[tuple[int, int]]) -> None:
    directory = Shop().directory
    short = sum(amount for _, amount in debits) - sum(amount for _, amount in credits)
    (debits if short < 0 else credits).append((4, abs(short)))
    rows = [(f"A:d{name}", Side.DEBIT, amount) for name, amount in debits]
    rows += [(f"A:c{name}", Side.CREDIT, amount) for name, amount in credits]
    entries = JournalEntries(
        accounts=[key for key, _, _ in rows],
        sides=[side for _, side, _ in rows],
        amounts=[amount for _, _, amount in rows],
        assets=["GBP"] * len(rows),
    )
    legs = paired_rows(entries, directory)
    totals: dict[str, int] = {}
    for debit, credit, amount in zip(
        legs["leg.debit"], legs["leg.credit"], legs.amounts["leg.amount"], strict=True
    ):
        assert amount > 0
        totals[debit] = totals.get(debit, 0) + amount
        totals[credit] = totals.get(credit, 0) + amount
    expected: dict[str, int] = {}
    for key, _, amount in rows:
        expected[key] = expected.get(key, 0) + amount
    assert totals == {key: amount for key, amount in expected.items() if amount}
    assert legs.count <= len(rows)


def test_kind_added_as_data() -> None:
    tip = kind_from_data(
        {
            "name": "tip",
            "code": 100,
            "states": ["offered", "given"],
            "usual": "give",
            "needs": ["payer", "payee", "asset", "amount"],
            "inputs": {"percent": 10},
            "transitions": [
                {
                    "name": "give",
                    "sources": ["offered"],
                    "target": "given",
                    "postings": [
                        {
                            "debit": "A:psp",
                            "credit": "L:tip/{payee}",
                            "amount": "amount - amount * percent // 100",
                        },
                        {"debit": "A:psp", "credit": "R:fee#tips", "amount": "amount * percent // 100"},
                    ],
                }
            ],
        }
    )
    shop = Shop(kinds=[*STANDARD_KINDS, tip])
    shop.do(kind="tip", payer=shop.buyer, payee=shop.seller, asset="GBP", amount=55, inputs={"percent": 20})
    assert shop.balance(f"L:tip/{shop.s}") == 44
    assert shop.balance("R:fee#tips") == 11
    negative = shop.ask(
        kind="tip", payer=shop.buyer, payee=shop.seller, asset="GBP", amount=5, inputs={"percent": 900}
    )
    assert negative.code == Refusal.AMOUNT_NEGATIVE
    shop.close()
