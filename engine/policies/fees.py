"""Fees: what is charged beside the prices, by the buyer's order or from the seller's share.

A fee is an amount, a rate on what the lines it is about cost after discounts, or an amount for each unit of
them, or a sum of these. What the buyer pays is a line of the order, under the Thing that the fee names (whose
account says where it goes); what the seller pays, such as a commission, is not, and is named beside the
lines. `refundable` says whether it is given back with what is returned, `taxable` whether taxes see it.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from engine.policies.amounts import Amount, Rate, Rounding, ratio, rounded
from engine.policies.facts import Code, OptionalCode, Period, Place, QuoteRequest, Selector
from engine.policies.trace import Charged, NotCharged

FEES_MAX: Final = 500


class Fee(Period, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fee. It is due from `from_amount` on, and not from `free_from` on, of what the lines that it is
    about cost."""

    code: Code
    thing: Code
    name: OptionalCode = ""
    payer: Literal["buyer", "seller"] = "buyer"
    asset: Code
    amount: Amount = 0
    rate: Rate = "0"
    per_unit: Amount = 0
    least: Amount = 0
    most: Amount | None = None
    about: Selector = Selector()
    place: Place = Place()
    from_amount: Amount = 0
    free_from: Amount | None = None
    taxable: bool = False
    tax_class: Code = "standard"
    refundable: bool = False

    def __post_init__(self) -> None:
        if not (self.amount or self.per_unit or self.least or ratio(self.rate)):
            raise ValueError("a fee needs an amount, a rate, per_unit or least")
        if self.most is not None and self.most < self.least:
            raise ValueError("most: less than least")
        if self.payer == "seller" and self.taxable:
            raise ValueError("taxable: the order's taxes are the buyer's; a seller's fee is in none of them")


class FeePolicy(
    msgspec.Struct,
    frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True,
    tag_field="policy", tag="fees",
):  # fmt: skip
    """Fees, each of which is charged if it is due."""

    fees: Annotated[list[Fee], Meta(min_length=1, max_length=FEES_MAX)]
    rounding: Rounding = "half_up"

    def __post_init__(self) -> None:
        codes = [fee.code for fee in self.fees]
        if len(set(codes)) != len(codes):
            raise ValueError("fees: two have the same code")


def charge(policy: FeePolicy, request: QuoteRequest, amounts: list[int]) -> list[Charged | NotCharged]:
    """The fees on lines that cost `amounts` after discounts. Those in other currencies, or for another time,
    are passed over."""
    steps: list[Charged | NotCharged] = []
    line = len(request.lines)
    for fee in policy.fees:
        if fee.asset != request.asset or not fee.covers(request.as_of):
            continue
        step = _charged(fee, policy.rounding, request, amounts)
        if isinstance(step, Charged):
            if not step.amount:
                continue
            if step.payer == "buyer":
                line += 1
                step = msgspec.structs.replace(step, line=line)
        steps.append(step)
    return steps


def _charged(fee: Fee, rounding: Rounding, request: QuoteRequest, amounts: list[int]) -> Charged | NotCharged:
    if not fee.place.has(request.ship_to):
        return NotCharged(fee=fee.code, why="elsewhere")
    about = [index for index, line in enumerate(request.lines) if fee.about.takes(line)]
    if not about:
        return NotCharged(fee=fee.code, why="nothing_it_is_for")
    base = sum(amounts[index] for index in about)
    if fee.free_from is not None and base >= fee.free_from:
        return NotCharged(fee=fee.code, why="order_large_enough", threshold=fee.free_from, found=base)
    if base < fee.from_amount:
        return NotCharged(fee=fee.code, why="order_too_small", threshold=fee.from_amount, found=base)
    units = sum(request.lines[index].quantity for index in about) if fee.per_unit else 0
    amount = fee.amount + rounded(base * ratio(fee.rate), rounding) + fee.per_unit * units
    limited = max(amount, fee.least)
    if fee.most is not None:
        limited = min(limited, fee.most)
    return Charged(
        fee=fee.code,
        thing=fee.thing,
        payer=fee.payer,
        amount=limited,
        name=fee.name,
        base=base,
        rate=fee.rate if ratio(fee.rate) else "",
        units=units,
        limited_to=limited if limited != amount else None,
        taxable=fee.taxable,
        tax_class=fee.tax_class,
        refundable=fee.refundable,
    )
