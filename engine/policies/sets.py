"""Which units of a basket make up the sets of a promotion of the form "buy so many, get so many for less"."""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from engine.policies.amounts import share


class Basket(NamedTuple):
    """Lines, column by column."""

    free: list[int]  # units that no other promotion counts
    amounts: list[int]  # what these cost together
    buy: list[bool]  # whether the units may count as bought
    get: list[bool]  # and as given

    def unit(self, index: int) -> Fraction:
        """What one of these units of a line costs, exactly."""
        return Fraction(self.amounts[index], max(self.free[index], 1))

    def values(self, units: list[int]) -> list[int]:
        """What so many units of each line cost."""
        return [
            share(amount, count, max(free, 1))
            for amount, count, free in zip(self.amounts, units, self.free, strict=True)
        ]


class Sets(NamedTuple):
    """Units by line."""

    bought: list[int]
    given: list[int]
    sets: int


def take_sets(basket: Basket, buy: int, get: int, most: int | None) -> Sets:
    """As many sets as fit: given are the cheapest units, bought are the dearest of those that are left.

    Of equal prices the earlier line is given and bought first. Units that may be both are given only as far
    as enough are left to be bought.
    """
    both = sum(free for free, b, g in zip(basket.free, basket.buy, basket.get, strict=True) if b and g)
    only_buy = sum(
        free for free, b, g in zip(basket.free, basket.buy, basket.get, strict=True) if b and not g
    )
    only_get = sum(
        free for free, b, g in zip(basket.free, basket.buy, basket.get, strict=True) if g and not b
    )
    sets = _fitting(
        lambda count: max(count * buy - only_buy, 0) + max(count * get - only_get, 0) <= both,
        (only_buy + only_get + both) // (buy + get),
    )
    if most is not None:
        sets = min(sets, most)
    lines = range(len(basket.free))
    given, bought = [0] * len(basket.free), [0] * len(basket.free)
    wanted, shared = sets * get, both - max(sets * buy - only_buy, 0)
    for index in sorted((i for i in lines if basket.get[i]), key=basket.unit):
        units = min(basket.free[index], wanted)
        if basket.buy[index]:
            units = min(units, shared)
            shared -= units
        given[index] = units
        wanted -= units
    wanted = sets * buy
    for index in sorted((i for i in lines if basket.buy[i]), key=lambda index: -basket.unit(index)):
        units = min(basket.free[index] - given[index], wanted)
        bought[index] = units
        wanted -= units
    return Sets(bought, given, sets)


def _fitting(fits: Callable[[int], bool], most: int) -> int:
    """The greatest count that fits; whatever is less than one that fits does too."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        if fits(middle):
            least = middle
        else:
            most = middle - 1
    return least
