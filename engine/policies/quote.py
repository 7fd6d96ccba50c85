"""A quote: the lines of an order with all that is due for them, and how each amount came about.

Policies run in one order: prices, promotions, compliance, fees, taxes. The lines that come out are those that
are written on the Move: the ordered ones first, under their own numbers and without taxes, then what the
buyer pays in fees, then one line for each tax. Their sum is the total. What the platform pays of it (a
discount that it funds, so that the seller gets the whole price) is a tender like the buyer's money: the
subsidy, and the rest is payable.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from engine.policies.amounts import AMOUNT_MAX
from engine.policies.compliance import CompliancePolicy, Verdict, judge, verdict_of
from engine.policies.facts import Moment, OrderLine, PolicyError, QuoteRequest, fault_of
from engine.policies.fees import FeePolicy, charge
from engine.policies.pricing import PricePolicy, price_lines
from engine.policies.promotions import PromotionPolicy, discount
from engine.policies.tax import Result, Taxable, TaxPolicy, tax
from engine.policies.trace import Charged, Discounted, NotCharged, NotDiscounted, Step, Taxed

Policy = PricePolicy | PromotionPolicy | CompliancePolicy | FeePolicy | TaxPolicy


class Policies(NamedTuple):
    """The policies of one order, at most one of each kind."""

    prices: PricePolicy
    promotions: PromotionPolicy | None = None
    compliance: CompliancePolicy | None = None
    fees: FeePolicy | None = None
    taxes: TaxPolicy | None = None


class QuoteLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the Move. `listed`, `discount` and `subsidy` are of ordered lines: the price before
    promotions, all that they take off for the buyer, and what the platform pays of that; with the taxes that
    prices include. `amount` is without these taxes, and has the subsidy in it."""

    kind: Literal["goods", "fee", "tax"]
    thing: str
    quantity: int
    amount: int
    listed: int = 0
    discount: int = 0
    subsidy: int = 0
    refundable: bool = True
    taxes: dict[int, int] = {}  # of a tax: its part for each line that it is on


class Quote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an order costs. `policies` are the versions that said so."""

    asset: str
    as_of: Moment
    lines: list[QuoteLine]
    total: int
    subsidy: int = 0
    verdict: Verdict = "allow"
    policies: dict[str, str] = {}  # by what they are about
    steps: list[Step] = []
    uses: dict[str, int] = {}  # of budgets: what promotions take of each
    seller_fees: dict[str, int] = {}  # by Thing: what the seller pays
    exponents: dict[str, int] = {}

    @property
    def payable(self) -> int:
        """What the buyer pays."""
        return self.total - self.subsidy

    @property
    def discounts(self) -> int:
        """All that promotions take off."""
        return sum(line.discount for line in self.lines)

    @property
    def taxes(self) -> int:
        """All taxes."""
        return sum(line.amount for line in self.lines if line.kind == "tax")


def policy_from_data(data: object, within: str = "") -> Policy:
    """A policy from plain dicts and lists, as read from JSON. Raises PolicyError, naming the field."""
    try:
        policy: Policy = msgspec.convert(data, Policy)
    except msgspec.ValidationError as exc:
        raise fault_of(exc, within) from exc
    return policy


def quote(policies: Mapping[str, Policy], request: QuoteRequest) -> Quote:
    """Price an order by policies, each under the name of its version. Raises PolicyError."""
    versions, chosen = _chosen(policies)
    priced = price_lines(chosen.prices, request)
    listed = [step.amount for step in priced]
    promoted = discount(chosen.promotions, request, listed) if chosen.promotions else []
    discounts = _taken(len(listed), promoted, lambda _step: True)
    subsidies = _taken(len(listed), promoted, lambda step: step.funded_by == "platform")
    untaxed = _taken(len(listed), promoted, lambda step: not step.reduces_tax_base)
    amounts = [before - less for before, less in zip(listed, discounts, strict=True)]
    judged = judge(chosen.compliance, request) if chosen.compliance else []
    charged = charge(chosen.fees, request, amounts) if chosen.fees else []
    fees = [step for step in charged if isinstance(step, Charged) and step.payer == "buyer"]
    taxed = Result([], [*amounts, *(fee.amount for fee in fees if fee.taxable)])
    if chosen.taxes:
        taxed = tax(chosen.taxes, request, _taxable(request, amounts, untaxed, fees))
    lines = [
        *_goods_lines(request, taxed.nets, listed, discounts, subsidies),
        *_fee_lines(fees, taxed.nets[len(amounts) :]),
        *_tax_lines(taxed),
    ]
    total = sum(line.amount for line in lines)
    if total > AMOUNT_MAX:
        raise PolicyError("lines", f"the order comes to more than {AMOUNT_MAX}")
    return Quote(
        asset=request.asset,
        as_of=request.as_of,
        lines=lines,
        total=total,
        subsidy=sum(subsidies),
        verdict=verdict_of(judged),
        policies=versions,
        steps=[*priced, *promoted, *judged, *charged, *taxed.steps],
        uses=_uses(promoted),
        seller_fees=_seller_fees(charged),
        exponents=request.exponents,
    )


def _chosen(policies: Mapping[str, Policy]) -> tuple[dict[str, str], Policies]:
    """The versions by what they are about, and the policies."""
    versions: dict[str, str] = {}
    chosen: dict[str, Any] = {}
    for version, policy in policies.items():
        name = str(policy.__struct_config__.tag)
        if name in versions:
            raise PolicyError("policies", f"{versions[name]} and {version} are both {name}; expected one")
        versions[name], chosen[name] = version, policy
    if "prices" not in chosen:
        raise PolicyError("policies", "none of them has prices")
    return versions, Policies(**chosen)


def _taken(
    lines: int, promoted: list[Discounted | NotDiscounted], counts: Callable[[Discounted], bool]
) -> list[int]:
    """What those promotions that count take off, by line."""
    taken = [0] * lines
    for step in promoted:
        if isinstance(step, Discounted) and counts(step):
            for number, part in step.shares.items():
                taken[number - 1] += part
    return taken


def _taxable(
    request: QuoteRequest, amounts: list[int], untaxed: list[int], fees: list[Charged]
) -> list[Taxable]:
    lines = [
        Taxable(number, line, line.tax_class, amount, more)
        for number, (line, amount, more) in enumerate(zip(request.lines, amounts, untaxed, strict=True), 1)
    ]
    return lines + [
        Taxable(fee.line, OrderLine(thing=fee.thing, quantity=1), fee.tax_class, fee.amount)
        for fee in fees
        if fee.taxable
    ]


def _goods_lines(
    request: QuoteRequest, nets: list[int], listed: list[int], discounts: list[int], subsidies: list[int]
) -> list[QuoteLine]:
    return [
        QuoteLine(
            kind="goods",
            thing=line.thing,
            quantity=line.quantity,
            amount=net + subsidy,
            listed=before,
            discount=discount,
            subsidy=subsidy,
        )
        for line, net, before, discount, subsidy in zip(
            request.lines, nets[: len(listed)], listed, discounts, subsidies, strict=True
        )
    ]


def _fee_lines(fees: list[Charged], taxed: list[int]) -> list[QuoteLine]:
    """Fees; `taxed` has the net amounts of those that are taxed."""
    left = iter(taxed)
    return [
        QuoteLine(
            kind="fee",
            thing=fee.thing,
            quantity=1,
            amount=next(left) if fee.taxable else fee.amount,
            refundable=fee.refundable,
        )
        for fee in fees
    ]


def _tax_lines(taxed: Result) -> list[QuoteLine]:
    parts: dict[str, dict[int, int]] = {}
    for step in taxed.steps:
        if isinstance(step, Taxed) and step.amount:
            by_line = parts.setdefault(step.thing, {})
            by_line[step.line] = by_line.get(step.line, 0) + step.amount
    return [
        QuoteLine(kind="tax", thing=thing, quantity=1, amount=sum(by_line.values()), taxes=by_line)
        for thing, by_line in parts.items()
    ]


def _uses(promoted: list[Discounted | NotDiscounted]) -> dict[str, int]:
    uses: dict[str, int] = {}
    for step in promoted:
        if isinstance(step, Discounted) and step.budget:
            uses[step.budget] = uses.get(step.budget, 0) + step.amount
    return uses


def _seller_fees(charged: list[Charged | NotCharged]) -> dict[str, int]:
    fees: dict[str, int] = {}
    for step in charged:
        if isinstance(step, Charged) and step.payer == "seller":
            fees[step.thing] = fees.get(step.thing, 0) + step.amount
    return fees
