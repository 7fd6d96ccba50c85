"""What a refund line reverses: oldest first, own price first, never more than an order line brought in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulations.matching import Lines, match

Line = tuple[int, int, int, bool, bool]  # key, price, units, refund, goods


def lines(rows: list[Line]) -> Lines:
    table = np.array(rows, np.int64).reshape(-1, 5)
    return Lines(
        key=table[:, 0],
        price=table[:, 1],
        units=table[:, 2],
        money=table[:, 1] * table[:, 2],
        refund=table[:, 3] == 1,
        goods=table[:, 4] == 1,
    )


def pieces(rows: list[Line]) -> list[tuple[int, ...]]:
    return [tuple(piece) for piece in np.stack(match(lines(rows)), axis=1).tolist()]


def sold(key: int, price: int, units: int) -> Line:
    return key, price, units, False, True


def back(key: int, price: int, units: int) -> Line:
    return key, price, units, True, True


def test_refund_takes_the_oldest_line_of_its_own_price_first() -> None:
    rows = [sold(1, 300, 2), sold(1, 250, 3), sold(1, 250, 4), back(1, 250, 5)]
    assert pieces(rows) == [(3, 1, 3, 750), (3, 2, 2, 500)]


def test_one_line_serves_several_refunds() -> None:
    rows = [sold(1, 250, 6), back(1, 250, 2), back(1, 250, 3), back(1, 250, 3)]
    assert pieces(rows) == [(1, 0, 2, 500), (2, 0, 3, 750), (3, 0, 1, 250), (3, -1, 2, 500)]


def test_dearer_refund_reverses_no_more_money_than_came_in() -> None:
    assert pieces([sold(1, 200, 2), back(1, 250, 2)]) == [(1, 0, 2, 400), (1, -1, 0, 100)]


def test_cheaper_refund_leaves_the_rest_of_the_money() -> None:
    rows = [sold(1, 250, 2), back(1, 200, 1), back(1, 300, 1)]
    assert pieces(rows) == [(1, 0, 1, 200), (2, 0, 1, 300)]


def test_fee_is_reversed_at_its_own_price_only() -> None:
    rows: list[Line] = [(1, 18, 1, False, False), (1, 20, 1, True, False), (1, 18, 1, True, False)]
    assert pieces(rows) == [(1, -1, 1, 20), (2, 0, 1, 18)]


def test_later_sale_other_key_and_nobody_serve_nothing() -> None:
    rows = [sold(2, 250, 1), sold(-1, 250, 1), back(1, 250, 1), back(-1, 250, 1), sold(1, 250, 1)]
    assert pieces(rows) == [(2, -1, 1, 250), (3, -1, 1, 250)]


def test_nothing_in_nothing_out() -> None:
    assert pieces([]) == []
    assert pieces([sold(1, 250, 1)]) == []


@given(
    st.lists(
        st.tuples(st.integers(-1, 2), st.integers(0, 3), st.integers(1, 4), st.booleans(), st.booleans()),
        max_size=40,
    )
)
def test_pieces_add_up_and_take_no_more_than_there_was(rows: list[Line]) -> None:
    found = pieces(rows)
    for number, (key, price, units, refund, _) in enumerate(rows):
        own = [piece for piece in found if piece[0] == number]
        taken = [piece for piece in found if piece[1] == number]
        assert bool(own) == refund
        assert not refund or sum(piece[2] for piece in own) == units
        assert not refund or sum(piece[3] for piece in own) == price * units
        assert sum(piece[2] for piece in taken) <= units
        assert sum(piece[3] for piece in taken) <= price * units
        assert all(rows[piece[0]][0] == key >= 0 and piece[0] > number for piece in taken)
