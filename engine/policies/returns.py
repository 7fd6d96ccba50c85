"""What is given back for what is returned: parts of the lines of a quote, as they were written down.

Nothing is priced or taxed anew. A line gives back the share of its units that are returned, of what the
buyer paid for it (not of a subsidy), a refundable fee the share of what all goods cost, and a tax the share
of each line that it is on. Shares are taken cumulatively, so any sequence of returns sums to the whole
exactly, and never to more.
"""

from collections.abc import Mapping

from engine.policies.amounts import share
from engine.policies.facts import PolicyError
from engine.policies.quote import Quote


def returned(quote: Quote, before: Mapping[int, int], now: Mapping[int, int]) -> dict[int, int]:
    """The amounts to be given back, by line of the order (from 1), for `now` units of each line after
    `before` units of each were returned already. Raises PolicyError."""
    _check(quote, before, now)
    after = {line: before.get(line, 0) + now.get(line, 0) for line in {*before, *now}}
    earlier, later = _given_back(quote, before), _given_back(quote, after)
    return {line: amount - earlier[line] for line, amount in later.items() if amount > earlier[line]}


def _given_back(quote: Quote, units: Mapping[int, int]) -> dict[int, int]:
    """What has been given back of each line once so many units of each are returned."""
    goods = {number: line for number, line in enumerate(quote.lines, 1) if line.kind == "goods"}
    paid = {number: line.amount - line.subsidy for number, line in goods.items()}
    back = {
        number: share(paid[number], units.get(number, 0), line.quantity) for number, line in goods.items()
    }
    part, whole = sum(back.values()), sum(paid.values())
    if not whole:  # all of it was free
        part, whole = sum(units.values()), sum(line.quantity for line in goods.values())
    refundable = {number for number, line in enumerate(quote.lines, 1) if line.refundable}
    for number, line in enumerate(quote.lines, 1):
        if line.kind == "fee":
            back[number] = share(line.amount, part, whole) if line.refundable else 0
        elif line.kind == "tax":
            back[number] = sum(
                share(tax, units.get(of, 0), goods[of].quantity) if of in goods else share(tax, part, whole)
                for of, tax in line.taxes.items()
                if of in refundable
            )
    return back


def _check(quote: Quote, before: Mapping[int, int], now: Mapping[int, int]) -> None:
    for number, units in [*before.items(), *now.items()]:
        there = 0 < number <= len(quote.lines) and quote.lines[number - 1].kind == "goods"
        if not there or units < 0:
            raise PolicyError(f"lines[{number - 1}]", "expected a line of goods, and 0 or more units of it")
        if before.get(number, 0) + now.get(number, 0) > quote.lines[number - 1].quantity:
            ordered = quote.lines[number - 1].quantity
            raise PolicyError(f"lines[{number - 1}].quantity", f"more than the {ordered} that were ordered")
