"""Commerce in one turn leads to what it leads to one command at a time: kinds that read balances, keep
counters and set limits are decided as if they had been alone.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import ids
from engine.commands import Lines, MoveCommand
from tests.desk import Shop
from tests.unit.test_move_equivalence import MAKER, books, essence, id_of

CARD = id_of(5_000)
STEPS = [
    "authorize", "capture_req", "capture_ok", "capture_fail", "void", "submit", "paid", "returned", "recall",
    "hold", "capture", "release", "clear", "succeed", "reduce", "approve", "clawback", "recognise",
    "recognise_end", "issue", "breakage",
]  # fmt: skip


def marketplace_order() -> dict[str, Any]:
    lines = Lines(things=["MUG"], quantities=[1], amounts=[20], columns={"commission": [2], "tax": [3]})
    return {"kind": "marketplace_order", "payer": MAKER.buyer, "payee": MAKER.seller, "lines": lines}


def payment() -> dict[str, Any]:
    inputs = {"order": ids.format_id(id_of(6_000))}
    return {"kind": "payment", "payer": MAKER.buyer, "amount": 9, "inputs": inputs}


def payout() -> dict[str, Any]:
    inputs = {"batch": ids.format_id(id_of(7_000)), "fee": 1, "minimum": 4}
    return {"kind": "payout", "payer": MAKER.seller, "inputs": inputs}


def redemption() -> dict[str, Any]:
    inputs = {"card": ids.format_id(CARD), "order": ids.format_id(id_of(6_001))}
    return {"kind": "gift_card_redemption", "payer": MAKER.buyer, "amount": 7, "inputs": inputs}


def commission() -> dict[str, Any]:
    return {"kind": "affiliate_commission", "payer": MAKER.seller, "amount": 10}


def card() -> dict[str, Any]:
    return {"kind": "gift_card", "payer": MAKER.buyer, "amount": 20, "id": CARD}


PATHS: list[tuple[Callable[[], dict[str, Any]], list[str]]] = [
    (marketplace_order, ["place+capture+fulfil+clear", "place+capture+cancel", "place", "place+cancel"]),
    (payment, ["authorize", "charge", "authorize+void", ""]),
    (payout, ["build", "build+submit", "build+submit+paid", "build+recall", ""]),
    (redemption, ["hold", "hold+release", ""]),
    (commission, ["accrue", "accrue+approve", ""]),
    (card, ["issue", ""]),
]


@st.composite
def commands(draw: st.DrawFn) -> list[MoveCommand]:
    """Creations and steps, often of the same few Moves."""
    made: list[MoveCommand] = []
    for number in range(draw(st.integers(2, 16))):
        created = [command.id for command in made if not command.move]
        steps = draw(st.booleans())
        if created and steps:
            amount = draw(st.sampled_from([0, 2, 4, 9]))
            step, move = draw(st.sampled_from(STEPS)), draw(st.sampled_from(created))
            made.append(MoveCommand(id=id_of(number), move=move, transition=step, amount=amount))
            continue
        creation, paths = draw(st.sampled_from(PATHS))
        fields = {"id": id_of(number), "asset": "GBP", **creation()}
        made.append(MoveCommand(transition=draw(st.sampled_from(paths)), **fields))
    return made


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(commands())
def test_one_turn_is_as_many(made: list[MoveCommand]) -> None:
    together, apart = Shop(), Shop()
    at_once = together.send(*made)
    one_by_one = [apart.send(command)[0] for command in made]
    assert [essence(answer) for answer in at_once] == [essence(answer) for answer in one_by_one]
    assert books(together) == books(apart)
    for shop in (together, apart):
        for key in shop.book.open:
            assert shop.book.standing(key)[0]
        again = shop.send(*made)
        assert all(answer.replayed for answer, first in zip(again, at_once, strict=True) if first.accepted)
        shop.close()
