"""Moves: what commands are accepted, and what a request gets when it is sent again.

All run on the real ledger. At the end of each test the desk proves the ledger's invariants, and that replay
and restore lead to the same state.
"""

from typing import Any

import msgspec
import pytest

from engine import ids
from engine.commands import Lines, MoveCommand, Refusal
from engine.entities import Side
from engine.layout import AMOUNT_MAX
from tests.desk import START, Shop, fields_of


def test_transfer_moves_money_and_writes_one_leg(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 250)
    command = shop.transfer(100, reference="rent", metadata={"month": "May"}, business_time=7)
    answer = shop.one(command)
    assert (answer.code, answer.state, answer.seq, answer.version, answer.leg_count) == (
        "",
        "posted",
        0,
        1,
        1,
    )
    assert answer.ended
    assert not answer.replayed
    assert shop.balance(f"L:wallet/{shop.b}") == 150
    assert shop.balance(f"L:wallet/{shop.s}") == 100
    fact = shop.facts[-1]
    assert (fact.reference, fact.metadata, fact.business_time) == ("rent", b'{"month":"May"}', 7)
    assert fact.timestamp == answer.timestamp
    assert shop.book.open == {}


def test_transfer_between_accounts_given_by_key(shop: Shop) -> None:
    shop.do(**fields_of(shop.transfer(70, inputs={"debit": "A:bank"})))
    assert shop.balance("A:bank") == 70
    assert shop.balance(f"L:wallet/{shop.s}") == 70


def test_held_transfer_is_posted_in_part(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    held = shop.one(shop.transfer(100, transition="hold", timeout=60))
    assert (held.state, held.ended) == ("pending", False)
    assert shop.balance(f"L:wallet/{shop.b}") == 100
    refused = shop.ask(move=held.move, transition="post", amount=101)
    assert refused.code == "exceeds_pending_transfer_amount"
    assert (refused.state, refused.version) == ("pending", 1)
    posted = shop.do(move=held.move, transition="post", amount=30)
    assert (posted.state, posted.seq, posted.version, posted.ended) == ("posted", 1, 2, True)
    assert shop.balance(f"L:wallet/{shop.b}") == 70
    assert shop.one(shop.transfer(70)).accepted, "what was not posted is free again"


def test_held_transfer_is_posted_whole_or_voided(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    first = shop.one(shop.transfer(40, transition="hold"))
    second = shop.one(shop.transfer(60, transition="hold"))
    assert shop.one(shop.transfer(1)).code == "below_floor"
    assert shop.do(move=first.move, transition="post").state == "posted"
    assert shop.do(move=second.move, transition="void").state == "voided"
    assert shop.balance(f"L:wallet/{shop.b}") == 60


def test_hold_that_runs_out_expires_its_move(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    held = shop.one(shop.transfer(100, transition="hold", timeout=60))
    assert shop.book.open[held.move].expires_at == held.timestamp + 60 * 10**9
    assert shop.wait(30) == []
    (fact,) = shop.wait(31)
    assert (fact.state, fact.transition, fact.ended, fact.seq) == ("expired", "expire", True, 1)
    late = shop.ask(move=held.move, transition="post")
    assert (late.code, "expired" in late.message) == (Refusal.MOVE_ENDED, True)
    assert shop.one(shop.transfer(100)).accepted


def test_expire_is_not_for_clients(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    held = shop.one(shop.transfer(100, transition="hold", timeout=60))
    refused = shop.ask(move=held.move, transition="expire")
    assert refused.code == Refusal.MOVE_STATE_DIFFERS
    assert "post, void" in refused.message


BAD_TRANSFERS: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "gift"}, Refusal.KIND_UNKNOWN, "there are adjustment, affiliate_commission"),
    ({"kind": ""}, Refusal.KIND_UNKNOWN, "there is no ''"),
    ({"transition": "fly"}, Refusal.TRANSITION_UNKNOWN, "it has hold, post, void"),
    ({"transition": "void"}, Refusal.MOVE_STATE_DIFFERS, "from proposed lead post, hold"),
    ({"transition": "hold+" * 8 + "hold"}, Refusal.TRANSITION_UNKNOWN, "more than 8"),
    ({"amount": 0}, Refusal.AMOUNT_NOT_POSITIVE, "above 0"),
    ({"amount": -1}, Refusal.AMOUNT_NEGATIVE, "-1"),
    ({"amount": AMOUNT_MAX + 1}, Refusal.AMOUNT_OVERFLOWS, "beyond"),
    ({"amount": 2**200}, Refusal.AMOUNT_OVERFLOWS, "beyond"),
    ({"amount": 1.5}, Refusal.FIELD_INVALID, "whole number"),
    ({"amount": float("nan")}, Refusal.FIELD_INVALID, "whole number"),
    ({"amount": True}, Refusal.FIELD_INVALID, "whole number"),
    ({"asset": "EUR"}, Refusal.ASSET_NOT_FOUND, "'EUR'"),
    ({"asset": ""}, Refusal.FIELD_MISSING, "asset"),
    ({"payer": 0}, Refusal.FIELD_MISSING, "payer"),
    ({"payer": 2**128 - 1}, Refusal.FIELD_INVALID, "payer"),
    ({"payer": 99}, Refusal.PARTY_NOT_FOUND, "payer"),
    ({"payee": 99}, Refusal.PARTY_NOT_FOUND, "payee"),
    ({"tender": "psp"}, Refusal.FIELD_NOT_ACCEPTED, "taken are amount, asset, payee, payer"),
    ({"timeout": 5}, Refusal.FIELD_NOT_ACCEPTED, "timeout"),
    ({"transition": "hold", "timeout": 2**32}, Refusal.FIELD_INVALID, "timeout"),
    ({"inputs": {"debit": "bank"}}, Refusal.ACCOUNT_KEY_INVALID, "expected an account key"),
    ({"inputs": {"debit": "A:b ank"}}, Refusal.ACCOUNT_KEY_INVALID, "class:purpose"),
    ({"inputs": {"debit": 7}}, Refusal.FIELD_INVALID, "expected text"),
    ({"inputs": {"from": "A:bank"}}, Refusal.FIELD_NOT_ACCEPTED, "taken here are credit, debit"),
    ({"reference": ""}, Refusal.FIELD_INVALID, "reference"),
    ({"reference": "a\nb"}, Refusal.FIELD_INVALID, "control"),
    ({"reference": "x" * 256}, Refusal.FIELD_INVALID, "longer"),
    ({"metadata": {"x": "y" * 70_000}}, Refusal.FIELD_INVALID, "metadata"),
    ({"metadata": {"x": "\ud800"}}, Refusal.FIELD_INVALID, "can't be written as JSON"),
    ({"asset": "\ud800"}, Refusal.ASSET_NOT_FOUND, "asset"),
    ({"reference": "\ud800"}, Refusal.FIELD_INVALID, "control"),
    ({"business_time": -1}, Refusal.FIELD_INVALID, "business_time"),
    ({"if_version": 3}, Refusal.FIELD_NOT_ACCEPTED, "no version yet"),
    ({"id": 0}, Refusal.ID_INVALID, "id"),
    ({"id": 2**128 - 1}, Refusal.ID_INVALID, "id"),
    ({"move": 77, "transition": "post"}, Refusal.MOVE_NOT_FOUND, "there is no Move"),
]


@pytest.mark.parametrize(("fields", "code", "says"), BAD_TRANSFERS, ids=lambda value: str(value)[:40])
def test_bad_transfer_is_refused_and_changes_nothing(
    shop: Shop, fields: dict[str, Any], code: str, says: str
) -> None:
    before = shop.book.state()["window"]["generations"].tobytes()
    answer = shop.one(shop.transfer(**({"amount": 10} | fields)))
    assert answer.code == code
    assert says in answer.message
    assert not answer.accepted
    assert shop.book.state()["window"]["generations"].tobytes() == before
    assert shop.ledger.account_count == 0


def test_metadata_nested_too_deeply_is_refused(shop: Shop) -> None:
    document: dict[str, Any] = {}
    for _ in range(5_000):
        document = {"x": document}
    answer = shop.one(shop.transfer(metadata=document))
    assert answer.code == Refusal.FIELD_INVALID
    assert "metadata: nested too deeply" in answer.message


def test_transfer_to_oneself_is_refused(shop: Shop) -> None:
    answer = shop.one(shop.transfer(payee=shop.buyer))
    assert answer.code == Refusal.PARTIES_MUST_BE_DIFFERENT
    assert "oneself" in answer.message


def test_guard_says_which_leg_it_refused(shop: Shop) -> None:
    answer = shop.one(shop.transfer(5))
    assert answer.code == "below_floor"
    assert f"leg 1 of 1, L:wallet/{shop.b} > L:wallet/{shop.s} = 5" in answer.message
    assert (answer.state, answer.version) == ("", 0)


def test_accepted_request_gets_its_answer_again(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    command = shop.transfer(60, metadata={"a": 1, "b": 2})
    first = shop.one(command)
    again = shop.one(msgspec.structs.replace(command, metadata={"b": 2, "a": 1}))
    assert again == msgspec.structs.replace(first, replayed=True)
    assert shop.balance(f"L:wallet/{shop.s}") == 60


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount", 61), ("payee", 5), ("metadata", {"x": 1}), ("reference", "r"), ("transition", "hold")],
)
def test_other_content_under_the_same_id_is_refused(shop: Shop, field: str, value: Any) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    command = shop.transfer(60)
    shop.one(command)
    answer = shop.one(msgspec.structs.replace(command, **{field: value}))
    assert answer.code == Refusal.EXISTS_WITH_DIFFERENT_CONTENT
    assert answer.message.endswith(f" in {field}")


def test_first_difference_is_named(shop: Shop) -> None:
    command = shop.order()
    shop.one(command)
    lines = Lines(things=["MUG"], quantities=[1], amounts=[1])
    answer = shop.one(msgspec.structs.replace(command, lines=lines, reference="r"))
    assert answer.message.endswith(" in lines")


def test_transient_refusal_is_kept(shop: Shop) -> None:
    command = shop.transfer(60)
    first = shop.one(command)
    assert first.code == "below_floor"
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    again = shop.one(command)
    assert again == msgspec.structs.replace(first, replayed=True)
    assert shop.one(msgspec.structs.replace(command, id=shop.id())).accepted


def test_other_refusal_is_judged_afresh(shop: Shop) -> None:
    shop.fund(f"L:wallet/{shop.b}", "GBP", 100)
    command = shop.transfer(60, asset="EUR")
    assert shop.one(command).code == Refusal.ASSET_NOT_FOUND
    shop.thing("EUR", "asset")
    assert shop.one(command).code == "below_floor"


def test_version_condition(shop: Shop) -> None:
    order = shop.one(shop.order("place"))
    stale = MoveCommand(id=shop.id(), move=order.move, transition="capture", if_version=7)
    refused = shop.one(stale)
    assert refused.code == Refusal.MOVE_VERSION_DIFFERS
    assert "version 1, not 7" in refused.message
    assert shop.do(move=order.move, transition="capture", if_version=1).version == 2
    assert shop.one(stale).replayed, "it could have turned into a success"


def test_two_steps_of_one_move_in_one_turn(shop: Shop) -> None:
    create = shop.order("place")
    steps = [MoveCommand(id=shop.id(), move=create.id, transition=name) for name in ("capture", "fulfil")]
    answers = shop.send(create, steps[0], steps[0], steps[1], shop.order())
    assert [answer.state for answer in answers] == ["placed", "paid", "paid", "fulfilled", "fulfilled"]
    assert [answer.replayed for answer in answers] == [False, False, True, False, False]


def test_reference_is_unique_for_its_payer(shop: Shop) -> None:
    first = shop.one(shop.order(reference="536365"))
    twice = shop.send(shop.order(reference="9"), shop.order(reference="9"))
    assert [answer.code for answer in twice] == ["", Refusal.REFERENCE_ALREADY_USED]
    answer = shop.one(shop.order(reference="536365"))
    assert answer.code == Refusal.REFERENCE_ALREADY_USED
    assert ids.format_id(first.move) in answer.message
    other = shop.party()
    assert shop.one(shop.order(reference="536365", payer=other)).accepted


def test_times_are_those_of_the_legs(shop: Shop) -> None:
    answer = shop.one(shop.order())
    assert START < answer.timestamp == shop.ledger.last_timestamp


def test_preview_says_what_would_be_written_and_writes_nothing(shop: Shop) -> None:
    command = shop.order()
    before = shop.book.state()["open"].tobytes(), shop.ledger.account_count
    shown = shop.book.preview(command, shop.now)
    assert (shown.state, shown.code) == ("fulfilled", "")
    assert (shop.book.state()["open"].tobytes(), shop.ledger.account_count) == before
    answer = shop.one(command)
    assert len(shown.entries) == 2 * answer.leg_count
    sums: dict[str, int] = {}
    for entry in shown.entries:
        key = f"{entry.key}@{entry.asset}"
        sums[key] = sums.get(key, 0) + (entry.amount if entry.side == Side.DEBIT else -entry.amount)
    assert sums[f"A:psp@{shop.gbp}"] == 850
    assert sums[f"L:order/{ids.format_id(command.id)}@{shop.gbp}"] == 0


def test_preview_knows_residuals_and_refusals(shop: Shop) -> None:
    order = shop.one(shop.order("place+capture"))
    cancel = MoveCommand(id=shop.id(), move=order.move, transition="cancel")
    shown = shop.book.preview(cancel, shop.now)
    assert [entry.amount for entry in shown.entries[:4]] == [850] * 4
    assert shop.book.preview(shop.transfer(5), shop.now).code == "below_floor"
    assert shop.book.preview(shop.transfer(0), shop.now).code == Refusal.AMOUNT_NOT_POSITIVE
    assert shop.book.preview(shop.transfer(kind="gift"), shop.now).code == Refusal.KIND_UNKNOWN
    assert shop.book.preview(msgspec.structs.replace(cancel, transition="place"), shop.now).code
    assert shop.one(cancel).accepted
