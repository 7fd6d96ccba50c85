"""Promotions: what is taken off the prices of an order, and off which lines.

They apply one after the other, the highest `priority` first and of equal ones the first in the policy; each
sees what those before it left. An `exclusive` one stands alone. `stacking` says which apply: with `priority`
each one that can, in order (an exclusive one only if none did before it, and then none after it); with
`best_deal` those that together take most off, of equal sets the smaller one, then the one with the earlier
promotions.

A promotion's discount is split over the lines that it is about, and every line's share is kept: what is
returned gives back what was paid for it, never the list price.

A unit counts in one promotion by units (`buy_get`) only, whether as bought or as given.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from engine.policies.amounts import Amount, Quantity, Rate, allocate, ratio, rounded, share
from engine.policies.facts import Code, OptionalCode, Period, PolicyError, QuoteRequest, Selector
from engine.policies.sets import Basket, take_sets
from engine.policies.trace import Discounted, NotDiscounted

PROMOTIONS_MAX: Final = 500
COMBINED_MAX: Final = 12
"""Promotions among which the best deal is looked for: twice the work for each more."""


class PercentOff(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="percent_off"
):
    """A part of the amounts of some lines."""

    rate: Rate
    of: Selector = Selector()

    def __post_init__(self) -> None:
        _check_rate(self.rate)


class AmountOff(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="amount_off"
):
    """An amount, as far as the lines that it is about have it."""

    amount: Amount
    asset: Code
    of: Selector = Selector()


class BuyGet(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="buy_get"
):
    """For so many units of some lines, so many of others for less: the cheapest of them, as often as it
    fits. With `spread` the discount is split over both, by what they cost alone, as for a bundle; else it is
    that of the units given."""

    buy: Selector
    get: Selector
    buy_quantity: Quantity = 1
    get_quantity: Quantity = 1
    rate: Rate = "100%"
    sets_max: Quantity | None = None
    spread: bool = False

    def __post_init__(self) -> None:
        _check_rate(self.rate)


class Promotion(Period, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A discount and its conditions. `budget` names what it is paid from; if less is left than it comes to,
    there is none, or with `partial` as much as is left."""

    code: Code
    benefit: PercentOff | AmountOff | BuyGet
    name: OptionalCode = ""
    priority: int = 0
    exclusive: bool = False
    coupon: OptionalCode = ""
    segment: OptionalCode = ""
    about: Selector = Selector()  # lines that the minimum looks at
    amount_min: Amount = 0
    quantity_min: Annotated[int, Meta(ge=0)] = 0
    amount_max: Amount | None = None  # of the discount
    budget: OptionalCode = ""
    partial: bool = False
    funded_by: Literal["seller", "platform"] = "seller"
    reduces_tax_base: bool = True


class PromotionPolicy(
    msgspec.Struct,
    frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True,
    tag_field="policy", tag="promotions",
):  # fmt: skip
    """Promotions, and how they go together."""

    promotions: Annotated[list[Promotion], Meta(min_length=1, max_length=PROMOTIONS_MAX)]
    stacking: Literal["priority", "best_deal"] = "priority"

    def __post_init__(self) -> None:
        codes = [promotion.code for promotion in self.promotions]
        if len(set(codes)) != len(codes):
            twice = next(code for code in codes if codes.count(code) > 1)
            raise ValueError(f"promotions: there are two with the code {twice!r}")


class _State:
    """What is left to discount after some promotions."""

    def __init__(self, amounts: list[int], budgets: dict[str, int], lines: int) -> None:
        self.amounts = amounts  # by line
        self.budgets = budgets
        self.used = [0] * lines  # units by line that count in a promotion already
        self.loose = [*amounts]  # by line: what the others cost; not more than the line
        self.steps: list[Discounted | NotDiscounted] = []
        self.total = 0
        self.alone = ""  # the exclusive promotion that applies

    def copy(self) -> "_State":
        other = _State([*self.amounts], {**self.budgets}, 0)
        other.used, other.loose, other.steps = [*self.used], [*self.loose], [*self.steps]
        other.total, other.alone = self.total, self.alone
        return other

    def take(self, shares: Mapping[int, int], used: Mapping[int, int], request: QuoteRequest) -> None:
        """Take shares off lines: off the units that are used, or off all units of a line alike."""
        for index, units in used.items():
            free = request.lines[index].quantity - self.used[index]
            self.loose[index] -= share(self.loose[index], units, free)
            self.used[index] += units
        for index, part in shares.items():
            before = self.amounts[index]
            self.amounts[index] -= part
            if index not in used:
                self.loose[index] = share(self.loose[index], before - part, before)


def discount(
    policy: PromotionPolicy, request: QuoteRequest, amounts: list[int]
) -> list[Discounted | NotDiscounted]:
    """What promotions take off lines that cost `amounts`; a step for each promotion, in the order in which
    they were judged. Raises PolicyError."""
    ordered = sorted(policy.promotions, key=lambda promotion: -promotion.priority)
    state = _State([*amounts], {**request.budgets}, len(amounts))
    possible = []
    for promotion in ordered:
        if (closed := _closed(promotion, request)) is None:
            possible.append(promotion)
        else:
            state.steps.append(closed)
    if policy.stacking == "priority":
        return _in_order(possible, request, state).steps
    return _best(possible, request, state).steps


def _in_order(promotions: list[Promotion], request: QuoteRequest, state: _State) -> _State:
    first = ""
    for promotion in promotions:
        if state.alone or (promotion.exclusive and first):
            by = state.alone or first
            state.steps.append(NotDiscounted(promotion=promotion.code, why="excluded", by=by))
            continue
        before = state.total
        _apply(promotion, request, state)
        if state.total > before:
            first = first or promotion.code
            state.alone = promotion.code if promotion.exclusive else ""
    return state


def _best(promotions: list[Promotion], request: QuoteRequest, start: _State) -> _State:
    """The set that takes most off."""
    hopeful, steps, found = [], [], []
    for promotion in promotions:
        alone = start.copy()
        _apply(promotion, request, alone)
        last = alone.steps[-1]
        if isinstance(last, NotDiscounted) and _stays_so(promotion, last):
            steps.append(last)
            continue
        hopeful.append(promotion)
        if promotion.exclusive and alone.total:
            found.append((alone.total, [promotion.code], alone))
    together = [promotion for promotion in hopeful if not promotion.exclusive]
    if len(together) > COMBINED_MAX:
        raise PolicyError(
            "promotions",
            f"{len(together)} could apply together; the best deal is looked for among {COMBINED_MAX} at most",
        )
    _combinations(together, request, start.copy(), [], found)
    order = [promotion.code for promotion in hopeful]
    total, codes, state = min(
        found, key=lambda one: (-one[0], len(one[1]), [order.index(code) for code in one[1]])
    )
    steps += [
        NotDiscounted(promotion=code, why="not_the_best", found=total) for code in order if code not in codes
    ]
    state.steps += steps
    return state


def _stays_so(promotion: Promotion, step: NotDiscounted) -> bool:
    """Whether a promotion that takes nothing off alone takes nothing off after others either: amounts only
    shrink, but a budget may suffice then, and other units may be the cheapest."""
    if step.why == "nothing_to_discount":
        return not isinstance(promotion.benefit, BuyGet)
    return step.why != "budget_too_small"


def _combinations(
    left: list[Promotion],
    request: QuoteRequest,
    state: _State,
    taken: list[str],
    found: list[tuple[int, list[str], _State]],
) -> None:
    """Every set of promotions, each in order, those that take nothing off left out. What nothing is left of
    can't be discounted more, so nothing is added there."""
    if not left or not any(state.amounts):
        found.append((state.total, taken, state))
        return
    with_it = state.copy()
    _apply(left[0], request, with_it)
    if with_it.total > state.total:
        _combinations(left[1:], request, with_it, [*taken, left[0].code], found)
    _combinations(left[1:], request, state, taken, found)


def _closed(promotion: Promotion, request: QuoteRequest) -> NotDiscounted | None:
    """Why it can't apply, whatever the others do."""
    if not promotion.covers(request.as_of):
        return NotDiscounted(promotion=promotion.code, why="not_now")
    if promotion.coupon and promotion.coupon not in request.coupons:
        return NotDiscounted(promotion=promotion.code, why="coupon_missing")
    if promotion.segment and promotion.segment not in request.standing.segments:
        return NotDiscounted(promotion=promotion.code, why="segment_missing")
    return None


def _apply(promotion: Promotion, request: QuoteRequest, state: _State) -> None:
    """Take off what a promotion takes off, and say so, or why it doesn't."""
    about = [index for index, line in enumerate(request.lines) if promotion.about.takes(line)]
    amount = sum(state.amounts[index] for index in about)
    quantity = sum(request.lines[index].quantity for index in about)
    if amount < promotion.amount_min:
        state.steps.append(_not(promotion, "amount_too_small", promotion.amount_min, amount))
        return
    if quantity < promotion.quantity_min:
        state.steps.append(_not(promotion, "quantity_too_small", promotion.quantity_min, quantity))
        return
    shares, used, sets = _shares(promotion, request, state)
    total = sum(shares.values())
    limit = total if promotion.amount_max is None else min(total, promotion.amount_max)
    if promotion.budget:
        left = state.budgets.get(promotion.budget, 0)
        if left < limit and not (promotion.partial and left):
            state.steps.append(_not(promotion, "budget_too_small", limit, left))
            return
        limit = min(limit, left)
    if not limit:
        state.steps.append(_not(promotion, "nothing_to_discount"))
        return
    if limit < total:
        parts = allocate(limit, list(shares.values()))
        shares = {index: part for index, part in zip(shares, parts, strict=True) if part}
    state.take(shares, used, request)
    if promotion.budget:
        state.budgets[promotion.budget] -= limit
    state.total += limit
    state.steps.append(
        Discounted(
            promotion=promotion.code,
            amount=limit,
            shares={index + 1: part for index, part in sorted(shares.items())},
            name=promotion.name,
            coupon=promotion.coupon,
            budget=promotion.budget,
            funded_by=promotion.funded_by,
            reduces_tax_base=promotion.reduces_tax_base,
            sets=sets,
        )
    )


def _shares(
    promotion: Promotion, request: QuoteRequest, state: _State
) -> tuple[dict[int, int], dict[int, int], int]:
    """The discount by line (from 0), the units that it uses up, and how often it fits."""
    benefit = promotion.benefit
    if isinstance(benefit, BuyGet):
        return _given(benefit, request, state)
    of = [
        index for index, line in enumerate(request.lines) if benefit.of.takes(line) and state.amounts[index]
    ]
    whole = sum(state.amounts[index] for index in of)
    if isinstance(benefit, PercentOff):
        total = rounded(whole * ratio(benefit.rate))
    elif benefit.asset != request.asset:
        total = 0
    else:
        total = min(benefit.amount, whole)
    parts = allocate(total, [state.amounts[index] for index in of])
    return {index: part for index, part in zip(of, parts, strict=True) if part}, {}, 0


def _given(
    benefit: BuyGet, request: QuoteRequest, state: _State
) -> tuple[dict[int, int], dict[int, int], int]:
    basket = Basket(
        free=[line.quantity - used for line, used in zip(request.lines, state.used, strict=True)],
        amounts=state.loose,
        buy=[benefit.buy.takes(line) for line in request.lines],
        get=[benefit.get.takes(line) for line in request.lines],
    )
    taken = take_sets(basket, benefit.buy_quantity, benefit.get_quantity, benefit.sets_max)
    used = {
        index: bought + given
        for index, (bought, given) in enumerate(zip(taken.bought, taken.given, strict=True))
        if bought + given
    }
    values = basket.values(taken.given)
    weights = values
    if benefit.spread:
        weights = basket.values(
            [bought + given for bought, given in zip(taken.bought, taken.given, strict=True)]
        )
    total = rounded(sum(values) * ratio(benefit.rate))
    parts = allocate(total, weights) if total else []
    return {index: part for index, part in enumerate(parts) if part}, used, taken.sets


def _not(promotion: Promotion, why: Literal[
    "amount_too_small", "quantity_too_small", "nothing_to_discount", "budget_too_small"
], needed: int = 0, found: int = 0) -> NotDiscounted:  # fmt: skip
    return NotDiscounted(promotion=promotion.code, why=why, needed=needed, found=found)


def _check_rate(rate: str) -> None:
    if ratio(rate) > Fraction(1):
        raise ValueError(f"rate: {rate} is more than all of it")
