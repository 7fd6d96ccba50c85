"""Which Moves a file's lines become, and what its refunds reverse; on a file with every trap in it."""

from pathlib import Path

import numpy as np
import pytest

from simulations.planning import Plan, PlannedKind, Unmatched, plan, unmatched
from simulations.sales import Sales, coded, constant
from simulations.sales_file import read_sales

TINY = Path(__file__).parents[1] / "simulation" / "tiny_sales.csv"


@pytest.fixture(scope="module")
def tiny() -> Plan:
    return plan(read_sales(TINY, "tiny"))


def moves(planned: Plan) -> list[tuple[str, str, str, int, int]]:
    """Each Move's invoice, kind, customer, number of lines and money."""
    sales = planned.sales
    found = []
    for move in range(planned.move_count):
        lines = planned.lines[planned.offsets[move] : planned.offsets[move + 1]]
        found.append(
            (
                sales.invoice.values[sales.invoice.codes[lines[0]]],
                PlannedKind(int(planned.kind[move])).name.lower(),
                sales.customer.values[sales.customer.codes[lines[0]]],
                len(lines),
                int(planned.money[lines].sum()),
            )
        )
    return found


def test_every_invoice_becomes_the_moves_its_lines_allow(tiny: Plan) -> None:
    assert moves(tiny) == [
        ("C900000", "refund", "501", 1, 8_500),
        ("900001", "order", "501", 5, 66_400),
        ("900002", "order", "501", 1, 15_800),
        ("900003", "order", "", 1, 0),
        ("900004", "order", "", 3, 14_938),
        ("900005", "write_off", "", 1, 0),
        ("C900006", "refund", "501", 2, 32_500),
        ("C900007", "refund", "501", 2, 33_300),
        ("C900008", "refund", "", 1, 1_255),
        ("C900009", "refund", "502", 2, 127_520),
        ("900010", "order", "502", 1, 34_000),
        ("900010", "refund", "502", 2, 5_100),
        ("900010", "write_off", "502", 1, 0),
        ("A900011", "bad_debt", "", 1, 1_062_060),
        ("A900012", "bad_debt", "", 1, -1_062_060),
        ("A900013", "bad_debt", "", 1, -1_062_060),
        ("C900014", "refund", "", 4, 565_531),
        ("900015", "order", "503", 1, 4_250),
        ("900016", "order", "503", 1, 4_250),
        ("900016", "order", "503", 1, 1_700),
        ("900017", "order", "503", 1, 4_250),
        ("900017", "order", "501", 1, 4_250),
        ("C900018", "refund", "503", 2, 5_250),
        ("900019", "order", "503", 1, 0),
    ]


def test_moves_of_one_invoice_are_numbered(tiny: Plan) -> None:
    numbered = np.flatnonzero(tiny.part).tolist()
    assert [(move, int(tiny.part[move])) for move in numbered] == [(11, 1), (12, 2), (19, 1), (21, 1)]


def test_no_money_is_lost(tiny: Plan) -> None:
    sales = tiny.sales
    out = np.array([PlannedKind(int(kind)) is PlannedKind.REFUND for kind in tiny.kind])[tiny.move_of_line]
    signed = np.where(out, -tiny.money, tiny.money)
    assert signed.tolist() == (sales.quantity * sales.price_mills).tolist()
    assert sorted(tiny.lines.tolist()) == list(range(sales.line_count))
    assert tiny.pieces.money.sum() == tiny.money[out].sum()


def test_fees_have_no_units_and_goods_have_theirs(tiny: Plan) -> None:
    items = [tiny.sales.item.values[code] for code in tiny.sales.item.codes]
    units = dict(zip(items, tiny.units.tolist(), strict=True))
    assert units["POST"] == units["D"] == units["B"] == units["AMAZONFEE"] == 0
    assert units["PADS"] == 3
    assert tiny.units.min() == 0


def test_refunds_reverse_what_the_file_holds(tiny: Plan) -> None:
    pieces = np.stack(tiny.pieces, axis=1).tolist()
    assert pieces == [
        [0, -1, 2, 8_500],  # before anything was bought
        [11, 1, 3, 12_750],
        [12, 5, 4, 15_800],  # at its own price
        [12, 1, 1, 3_950],  # then the oldest left, at another
        [13, 2, 12, 10_200],  # two lines exactly alike serve one refund line
        [13, 3, 6, 5_100],
        [14, 4, 1, 18_000],  # postage, money alone
        [15, -1, 1, 1_255],  # a guest
        [16, -1, 1, 7_500],
        [17, -1, 1, 120_020],
        [19, -1, 2, 1_700],
        [21, -1, 1, 3_400],
        [25, -1, 1, 531_500],
        [26, -1, 1, 16_130],
        [27, -1, 1, 15_001],
        [28, -1, 1, 2_900],
        [34, 30, 1, 4_250],  # dearer than it was sold
        [34, -1, 0, 1_000],
        [35, 31, 1, 0],  # given back for nothing
    ]
    assert unmatched(tiny) == Unmatched(lines=11, units=5, mills=708_906)
    refund = tiny.move_of_line[tiny.pieces.refund]
    assert tiny.piece_offsets[0] == 0
    assert np.repeat(np.arange(tiny.move_count), np.diff(tiny.piece_offsets)).tolist() == refund.tolist()
    served = tiny.pieces.order >= 0
    assert (tiny.move_of_line[tiny.pieces.order[served]] < refund[served]).all()


def test_lines_may_stand_in_any_order(tiny: Plan) -> None:
    shuffled = np.random.default_rng(7).permutation(tiny.sales.line_count)
    sales = tiny.sales
    again = plan(
        sales._replace(
            invoice=sales.invoice._replace(codes=sales.invoice.codes[shuffled]),
            item=sales.item._replace(codes=sales.item.codes[shuffled]),
            customer=sales.customer._replace(codes=sales.customer.codes[shuffled]),
            country=sales.country._replace(codes=sales.country.codes[shuffled]),
            seller=sales.seller._replace(codes=sales.seller.codes[shuffled]),
            quantity=sales.quantity[shuffled],
            price_mills=sales.price_mills[shuffled],
            time_ns=sales.time_ns[shuffled],
        )
    )
    assert sorted(moves(again)) == sorted(moves(tiny))
    assert unmatched(again) == unmatched(tiny)


def test_correction_of_a_price_reverses_nothing_and_moves_no_units() -> None:
    planned = plan(sales_of([("1", 2, 500), ("2", 1, -100)]))
    assert [move[1] for move in moves(planned)] == ["order", "refund"]
    assert planned.units.tolist() == [2, 0]
    assert planned.pieces.order.tolist() == [-1]
    assert unmatched(planned) == Unmatched(lines=1, units=0, mills=100)


def test_twice_negative_is_money_without_units() -> None:
    planned = plan(sales_of([("1", -2, -500)]))
    assert [move[1:2] + move[4:] for move in moves(planned)] == [("order", 1_000)]
    assert planned.units.tolist() == [0]


def test_very_long_invoice_is_cut() -> None:
    planned = plan(sales_of([("1", 1, 500)] * 12_000 + [("2", 1, 500)]))
    assert [move[3] for move in moves(planned)] == [5_000, 5_000, 2_000, 1]
    assert planned.part.tolist() == [0, 1, 2, 0]
    assert planned.lines.tolist() == list(range(12_001))


def test_nothing_sold_is_nothing_planned() -> None:
    planned = plan(sales_of([]))
    assert planned.move_count == 0
    assert unmatched(planned) == Unmatched(0, 0, 0)


def sales_of(rows: list[tuple[str, int, int]]) -> Sales:
    """Sales of one item to one customer: invoice, quantity and price."""
    n = len(rows)
    return Sales(
        dataset="test",
        currency="GBP",
        invoice=coded([row[0] for row in rows]),
        item=constant("T1", n),
        item_names=["LAMP"],
        customer=constant("7", n),
        country=constant("Norway", n),
        seller=constant("the shop", n),
        quantity=np.array([row[1] for row in rows], np.int64),
        price_mills=np.array([row[2] for row in rows], np.int64),
        time_ns=np.arange(n, dtype=np.int64) * 10**9,
    )
