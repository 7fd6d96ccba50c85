"""Many commands in one turn lead to what they lead to one at a time, and nothing is left where nothing may be
left.
"""

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import ids
from engine.commands import Lines, MoveAnswer, MoveCommand
from engine.layout import AMOUNT_MAX
from tests.desk import START, Shop

FIRST_ID = 10_000
THINGS = ("MUG", "LAMP", "CLOCK", "POST")
AMOUNTS = st.sampled_from([1, 2, 5, 5, 30, 0, AMOUNT_MAX])
PATHS = {
    "order": [
        "",
        "place",
        "place+capture",
        "place+capture+fulfil",
        "place+capture+cancel",
        "cancel",
        "fulfil",
    ],
    "refund": ["", "grant", "grant+succeed", "grant+to_credit", "grant_unfulfilled+succeed", "reject"],
    "transfer": ["", "post", "hold", "hold+post", "hold+void", "void"],
}
STEPS = ["place", "capture", "fulfil", "cancel", "grant", "succeed", "to_credit", "reject", "post", "void"]
MAKER = Shop()
"""Makes commands; the shops that take them have the same Parties and Things."""


def id_of(number: int) -> int:
    """The same ids in both shops."""
    return ids.uuid7(START // 1_000_000, 0, FIRST_ID + number)


@st.composite
def commands(draw: st.DrawFn) -> list[MoveCommand]:
    """Creations and steps, often of the same few Moves; some requests come twice, some with other content."""
    made: list[MoveCommand] = []
    for number in range(draw(st.integers(1, 14))):
        id = id_of(draw(st.integers(0, number)) if draw(st.integers(0, 9)) == 0 else number)
        created = [command.id for command in made if not command.move]
        if draw(st.booleans()) and created:
            move = draw(st.sampled_from(created))
            amount = draw(st.sampled_from([0, 0, 3]))
            version = draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
            step = draw(st.sampled_from(STEPS))
            made.append(MoveCommand(id=id, move=move, transition=step, amount=amount, if_version=version))
            continue
        kind = draw(st.sampled_from(sorted(PATHS)))
        path = draw(st.sampled_from(PATHS[kind]))
        reference = draw(st.sampled_from([None, None, None, None, "a"]))
        if kind == "transfer":
            funds = draw(st.sampled_from([{"debit": "A:bank"}, {}]))
            payer, payee = draw(st.permutations([MAKER.buyer, MAKER.seller]))
            parties = {"payer": payer, "payee": payee, "inputs": funds, "reference": reference}
            made.append(MAKER.transfer(draw(AMOUNTS), id=id, transition=path, **parties))
            continue
        lines = draw(lines_of(kind, made))
        if kind == "order":
            made.append(MAKER.order(path, id=id, lines=lines, reference=reference))
        else:
            made.append(MAKER.refund(lines, path, id=id, reference=reference))
    return made


@st.composite
def lines_of(draw: st.DrawFn, kind: str, made: Sequence[MoveCommand]) -> Lines:
    """A few lines; those of a refund may reverse lines of earlier Moves."""
    count = draw(st.integers(1, 4))
    small = st.integers(0, 4)
    earlier = [0] + [command.id for command in made if command.kind == "order"]
    orders = [draw(st.sampled_from(earlier)) for _ in range(count)] if kind == "refund" else []
    return Lines(
        things=[draw(st.sampled_from(THINGS)) for _ in range(count)],
        quantities=[draw(small) for _ in range(count)],
        amounts=[draw(AMOUNTS) if draw(st.integers(0, 15)) == 0 else draw(small) for _ in range(count)],
        orders=orders,
        order_lines=[draw(st.integers(1, 4)) if order else 0 for order in orders],
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(commands())
def test_one_turn_is_as_many(made: list[MoveCommand]) -> None:
    together, apart = Shop(), Shop()
    at_once = together.send(*made)
    one_by_one = [apart.send(command)[0] for command in made]
    assert [essence(answer) for answer in at_once] == [essence(answer) for answer in one_by_one]
    assert books(together) == books(apart)
    assert together.book.open.keys() == apart.book.open.keys()
    for shop in (together, apart):
        nothing_is_left(shop, made)
        again = shop.send(*made)
        kept = [answer for answer in again if answer.replayed]
        assert all(answer.code in {"", "move_version_differs"} or answer.leg_count == 0 for answer in kept)
        shop.close()


def essence(answer: MoveAnswer) -> tuple[object, ...]:
    """An answer without its time."""
    return (
        answer.request, answer.move, answer.state, answer.seq, answer.code, answer.replayed, answer.ended,
        answer.unmatched_amount, answer.leg_count,
    )  # fmt: skip


def books(shop: Shop) -> dict[tuple[int, int], tuple[int, ...]]:
    """The counters of every account."""
    counters = ("debits_pending", "debits_posted", "credits_pending", "credits_posted", "version")
    return {
        (int(account["id_hi"]), int(account["id_lo"])): tuple(int(account[name]) for name in counters)
        for account in shop.ledger.accounts
    }


def nothing_is_left(shop: Shop, made: list[MoveCommand]) -> None:
    """Accounts of Moves that have ended are empty."""
    for command in made:
        if shop.book.window.find_ended(command.id) is not None:
            text = ids.format_id(command.id)
            assert shop.balance(f"L:order/{text}") == 0
            assert shop.balance(f"L:refund/{text}") == 0
