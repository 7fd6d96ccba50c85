"""Which earlier lines a refund reverses: first in, first out, over what is left of each line.

A refund line gives back units of one item, at one price, to one customer. It is served by that customer's
earlier lines of the same item: first by those sold at the same price, oldest first, then, for goods, by the
others, oldest first. One order line may serve several refund lines and one refund line may need several
order lines. Never more units nor money is taken from an order line than it brought in. What no line is left
for is *unmatched*: the item was bought before the records begin, or by somebody the records do not name.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulations.sales import Int64s


class Lines(NamedTuple):
    """Lines in order of business, of one length. Money and units sold or given back are never negative."""

    key: Int64s  # the same for lines of one customer and item; −1 = matches nothing
    price: Int64s
    units: Int64s
    money: Int64s
    refund: npt.NDArray[np.bool_]
    goods: npt.NDArray[np.bool_]  # fees are reversed at their own price only


class Pieces(NamedTuple):
    """Parts of refund lines, ascending by refund line; `order` is the line reversed, or −1 for none."""

    refund: Int64s
    order: Int64s
    units: Int64s
    money: Int64s


def match(lines: Lines) -> Pieces:
    """Cut every refund line into pieces that add up to it, each reversing one earlier line or none."""
    wanted = np.unique(lines.key[lines.refund])
    taking_part = lines.refund | (np.isin(lines.key, wanted) & (lines.key >= 0))
    positions = np.flatnonzero(taking_part)
    ledger = _Remaining()
    pieces: list[tuple[int, int, int, int]] = []
    columns = (positions, *(column[positions] for column in lines))
    for line, key, price, units, money, refund, goods in zip(*(c.tolist() for c in columns), strict=True):
        if refund:
            pieces.extend(ledger.take(line, key, price, units, money, goods))
        else:
            ledger.add(line, key, price, units, money)
    table = np.array(pieces, np.int64).reshape(-1, 4)
    return Pieces(*(np.ascontiguousarray(table[:, i]) for i in range(4)))


class _Remaining:
    """What is left to reverse of the order lines seen so far, oldest first under each key."""

    def __init__(self) -> None:
        self._open: dict[int, list[list[int]]] = {}  # key → [line, price, units left, money left], units > 0

    def add(self, line: int, key: int, price: int, units: int, money: int) -> None:
        if units > 0:
            self._open.setdefault(key, []).append([line, price, units, money])

    def take(
        self, line: int, key: int, price: int, units: int, money: int, goods: bool
    ) -> list[tuple[int, int, int, int]]:
        """The pieces of one refund line; what they take is no longer there for the next one."""
        entries = self._open.get(key, []) if key >= 0 else []
        candidates = [entry for entry in entries if entry[1] == price]
        if goods:
            candidates += [entry for entry in entries if entry[1] != price]
        pieces = []
        for entry in candidates:
            if units == 0:
                break
            taken = min(units, entry[2])
            value = min(taken * price, entry[3], money)
            entry[2] -= taken
            entry[3] -= value
            units -= taken
            money -= value
            pieces.append((line, entry[0], taken, value))
        if pieces:
            self._open[key] = [entry for entry in entries if entry[2] > 0]
        if units or money or not pieces:
            pieces.append((line, -1, units, money))
        return pieces
