"""Whole amounts, exact rates, and how the one becomes the other.

Sums must come out: `allocate` splits an amount so that the parts sum to it, and `partial` takes parts one
after the other so that any sequence of them sums to it.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import Annotated, Final, Literal

from msgspec import Meta

AMOUNT_MAX: Final = 2**63 - 1
QUANTITY_MAX: Final = 2**53 - 1
RATE_PATTERN: Final = r"^([0-9]{1,12}(\.[0-9]{1,12})?%?|[0-9]{1,18}/[1-9][0-9]{0,17})$"

Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MAX, description="In minor units.")]
Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX, description="In the Thing's minor units.")]
Rate = Annotated[
    str,
    Meta(
        pattern=RATE_PATTERN,
        description="Exact: a decimal, a percentage, or a ratio.",
        examples=["0.0825", "19%", "1/3"],
    ),
]
Rounding = Literal["half_up", "half_even", "up", "down"]
"""What becomes of a part of a minor unit; `up` is away from zero."""

_RATE: Final = re.compile(RATE_PATTERN)


@lru_cache(maxsize=4096)
def ratio(text: str) -> Fraction:
    """A rate as an exact number. Raises ValueError."""
    if _RATE.match(text) is None:
        raise ValueError(f"expected a decimal, a percentage or a ratio, not {text!r}")
    percent = text.endswith("%")
    return Fraction(text.removesuffix("%")) * Fraction(1, 100 if percent else 1)


def rounded(value: Fraction | int, rounding: Rounding = "half_up") -> int:
    """The whole number that stands for a value."""
    whole, rest = divmod(abs(value.numerator), value.denominator)
    side = 2 * rest - value.denominator  # below 0: less than half
    more = {
        "half_up": side >= 0,
        "half_even": side > 0 or (side == 0 and whole % 2 == 1),
        "up": rest > 0,
        "down": False,
    }
    whole += more[rounding]
    return whole if value >= 0 else -whole


def allocate(total: int, weights: Sequence[Fraction | int]) -> list[int]:
    """Split an amount in proportion to weights, by largest remainder; the parts sum to it exactly.

    Of equal remainders the earlier gets more. Weights must not be negative; if all are 0, they count as
    equal. No part is more than its weight if the total is not more than their sum.
    """
    if not weights:
        if total:
            raise ValueError("nothing to allocate to")
        return []
    scale = lcm(*(weight.denominator for weight in weights))
    whole = [weight.numerator * (scale // weight.denominator) for weight in weights]
    if min(whole) < 0:
        raise ValueError("a weight below 0")
    if not any(whole):
        whole = [1] * len(whole)
    size, every = abs(total), sum(whole)
    split = [divmod(size * weight, every) for weight in whole]
    parts = [part for part, _ in split]
    rest = size - sum(parts)
    for index in sorted(range(len(split)), key=lambda index: -split[index][1])[:rest]:
        parts[index] += 1
    return parts if total >= 0 else [-part for part in parts]


def share(total: int, done: int, whole: int) -> int:
    """What `done` of `whole` comes to, rounded half up: 0 of it is 0, all of it is all."""
    if not 0 <= done <= whole or not whole:
        raise ValueError(f"{done} of {whole}")
    return rounded(Fraction(total * done, whole))


def partial(total: int, before: int, now: int, whole: int) -> int:
    """What `now` more of `whole` comes to after `before` of it. Any sequence of these sums to the share."""
    return share(total, before + now, whole) - share(total, before, whole)


def money(amount: int, exponent: int, asset: str) -> str:
    """An amount as people write it, such as `12.50 EUR`."""
    sign = "−" if amount < 0 else ""
    digits = str(abs(amount)).rjust(exponent + 1, "0")
    text = f"{digits[:-exponent]}.{digits[-exponent:]}" if exponent else digits
    return f"{sign}{text} {asset}"
