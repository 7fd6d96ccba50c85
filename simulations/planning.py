"""From sales to Moves: which lines make one Move, of which kind, in which order, and what refunds reverse.

An invoice is one Move wherever its lines allow it. The rules, line by line:

- an invoice whose number begins with `A` adjusts bad debt: money without units, either way;
- money coming in is an `order`, money going out a `refund`, on whatever invoice it stands;
- units going out of stock for nothing (quantity < 0, price 0) are a `write-off`, or a `refund` of no money if
  the invoice is a cancellation (`C`);
- a line worth nothing otherwise is an `order` line: a gift, or a note.

So an invoice of mixed signs becomes an order and a refund with the same number. An invoice that names two
customers, countries or sellers, or runs into another month, is likewise cut, so that no total by any of them
depends on how an invoice was written. Everything here is columnar: there is no object per line.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from simulations.matching import Lines, Pieces, match
from simulations.sales import GUEST, Int64s, Sales

CANCELLATION_PREFIX: Final = "C"
BAD_DEBT_PREFIX: Final = "A"
FEES: Final[Mapping[str, str]] = {
    "POST": "shipping",
    "POSTAGE": "shipping",
    "DOT": "shipping",
    "C2": "shipping",
    "D": "discount",
    "M": "correction",
    "m": "correction",
    "B": "correction",
    "S": "samples",
    "CRUK": "fee",
    "BANK CHARGES": "fee",
    "AMAZONFEE": "fee",
}
"""Stock codes that stand for money alone (postage, discounts, corrections, samples, commission, fees), and
the revenue account that it goes to. Their lines have no units."""


LINES_PER_MOVE_MAX: Final = 5_000
"""Longer invoices become several Moves; a refund may need more lines than the invoice has."""


class PlannedKind(IntEnum):
    """What a planned Move does. The order in which Moves of one invoice are submitted."""

    ORDER = 0
    REFUND = 1
    WRITE_OFF = 2
    BAD_DEBT = 3


class Plan(NamedTuple):
    """Moves in the order in which they are submitted; columns of length m unless said otherwise."""

    sales: Sales
    kind: npt.NDArray[np.int8]  # PlannedKind
    part: npt.NDArray[np.int32]  # 0, 1 … for Moves that share an invoice number
    time_ns: Int64s  # of the first line
    offsets: Int64s  # m + 1 positions in `lines`
    lines: Int64s  # numbers of sales lines, grouped by Move
    units: Int64s  # per sales line: what moves besides money, 0 for fees; never negative
    money: Int64s  # per sales line, in mills; negative only in bad debt
    move_of_line: Int64s  # per sales line
    position_of_line: Int64s  # per sales line: its place among the lines of its Move
    pieces: Pieces  # of all refund lines, grouped by Move; numbers are those of sales lines
    piece_offsets: Int64s  # m + 1 positions in `pieces`

    @property
    def move_count(self) -> int:
        """How many Moves there are."""
        return len(self.kind)


class Unmatched(NamedTuple):
    """What refunds reverse nothing the records hold."""

    lines: int  # refund lines of which at least a part reverses nothing
    units: int
    mills: int


def plan(sales: Sales) -> Plan:
    """The Moves that these sales are. Pure: the same sales give the same plan."""
    fee = np.array([item in FEES for item in sales.item.values], bool)[sales.item.codes]
    amount = sales.quantity * sales.price_mills
    kind_of_line = _kinds_of_lines(sales, fee, amount)
    group = _groups(sales, kind_of_line)
    lines, offsets = _arrange(sales, group, kind_of_line)
    first = lines[offsets[:-1]]
    kind = kind_of_line[first]
    counts = np.diff(offsets)
    move_of_line = np.empty(sales.line_count, np.int64)
    move_of_line[lines] = np.repeat(np.arange(len(kind)), counts)
    position_of_line = np.empty(sales.line_count, np.int64)
    position_of_line[lines] = np.arange(len(lines)) - np.repeat(offsets[:-1], counts)
    units = np.where(fee | (amount < 0) & (sales.quantity > 0), 0, np.abs(sales.quantity))
    units[(sales.quantity < 0) & (kind_of_line == PlannedKind.ORDER)] = 0
    units[kind_of_line == PlannedKind.BAD_DEBT] = 0
    money = np.where(kind_of_line == PlannedKind.BAD_DEBT, amount, np.abs(amount))
    pieces = _match(sales, lines, kind_of_line, fee, money)
    return Plan(
        sales=sales,
        kind=kind.astype(np.int8),
        part=_parts(sales.invoice.codes[first]),
        time_ns=sales.time_ns[first],
        offsets=offsets,
        lines=lines,
        units=units,
        money=money,
        move_of_line=move_of_line,
        position_of_line=position_of_line,
        pieces=pieces,
        piece_offsets=np.searchsorted(move_of_line[pieces.refund], np.arange(len(kind) + 1)),
    )


def unmatched(planned: Plan) -> Unmatched:
    """How much of the refunds reverses nothing."""
    none = planned.pieces.order < 0
    goods = planned.units[planned.pieces.refund] > 0
    return Unmatched(
        lines=len(np.unique(planned.pieces.refund[none])),
        units=int(planned.pieces.units[none & goods].sum()),
        mills=int(planned.pieces.money[none].sum()),
    )


def _kinds_of_lines(sales: Sales, fee: npt.NDArray[np.bool_], amount: Int64s) -> npt.NDArray[np.int64]:
    starts = [number[:1] for number in sales.invoice.values]
    cancelling = np.array([start == CANCELLATION_PREFIX for start in starts], bool)[sales.invoice.codes]
    bad_debt = np.array([start == BAD_DEBT_PREFIX for start in starts], bool)[sales.invoice.codes]
    for_nothing = (amount == 0) & (sales.quantity < 0) & ~fee
    return np.select(
        [bad_debt, (amount < 0) | (for_nothing & cancelling), for_nothing],
        [PlannedKind.BAD_DEBT, PlannedKind.REFUND, PlannedKind.WRITE_OFF],
        PlannedKind.ORDER,
    ).astype(np.int64)


def _groups(sales: Sales, kind: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A number per line, the same for lines of one Move."""
    months = sales.time_ns.astype("M8[ns]").astype("M8[M]").astype(np.int64)
    group = sales.invoice.codes.astype(np.int64) * len(PlannedKind) + kind
    for column in (sales.customer.codes, sales.country.codes, sales.seller.codes, months):
        _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
        if not np.array_equal(column, column[first][inverse]):  # rare: one invoice, two customers or the like
            distinct, codes = np.unique(column, return_inverse=True)
            group = inverse * len(distinct) + codes
    _, inverse, counts = np.unique(group, return_inverse=True, return_counts=True)
    if counts.size and counts.max() > LINES_PER_MOVE_MAX:
        order = np.argsort(inverse, kind="stable")
        place = np.empty(len(group), np.int64)
        place[order] = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
        group = inverse * len(group) + place // LINES_PER_MOVE_MAX
    return group


def _arrange(
    sales: Sales, group: npt.NDArray[np.int64], kind: npt.NDArray[np.int64]
) -> tuple[Int64s, Int64s]:
    """Lines grouped by Move, and where each Move begins; Moves by time, then as they stand in the records."""
    _, first, inverse, counts = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(first), np.int64)
    rank[np.lexsort((first, kind[first], sales.invoice.codes[first], sales.time_ns[first]))] = np.arange(
        len(first)
    )
    lines = np.argsort(rank[inverse], kind="stable")
    sizes = np.empty(len(first), np.int64)
    sizes[rank] = counts
    return lines, np.concatenate(([0], np.cumsum(sizes)))


def _parts(invoice: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Numbers from 0 for Moves of the same invoice."""
    order = np.argsort(invoice, kind="stable")
    same = np.zeros(len(order), bool)
    same[1:] = invoice[order][1:] == invoice[order][:-1]
    number = np.arange(len(order))
    part = np.empty(len(order), np.int32)
    part[order] = number - np.maximum.accumulate(np.where(same, 0, number))
    return part


def _match(
    sales: Sales, lines: Int64s, kind: npt.NDArray[np.int64], fee: npt.NDArray[np.bool_], money: Int64s
) -> Pieces:
    """The pieces of all refund lines, in the order of `lines`, with the numbers of sales lines."""
    guest = np.array([customer == GUEST for customer in sales.customer.values], bool)[sales.customer.codes]
    key = sales.customer.codes.astype(np.int64) * len(sales.item.values) + sales.item.codes
    # A guest's refund cannot be laid to any guest's order, and a correction of a price gives nothing back.
    nobody = guest | (sales.quantity * sales.price_mills < 0) & (sales.quantity > 0)
    taking_part = lines[(kind == PlannedKind.ORDER)[lines] | (kind == PlannedKind.REFUND)[lines]]
    found = match(
        Lines(
            key=np.where(nobody, -1, key)[taking_part],
            price=np.abs(sales.price_mills)[taking_part],
            units=np.abs(sales.quantity)[taking_part],
            money=money[taking_part],
            refund=(kind == PlannedKind.REFUND)[taking_part],
            goods=~fee[taking_part],
        )
    )
    return found._replace(
        refund=taking_part[found.refund],
        order=np.where(found.order < 0, -1, taking_part[found.order]) if len(taking_part) else found.order,
    )
