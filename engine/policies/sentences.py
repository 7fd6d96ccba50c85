"""The steps of a quote as sentences that can be read out to whoever asks."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.policies.amounts import money
from engine.policies.quote import Quote
from engine.policies.trace import (
    Charged,
    Discounted,
    Exempted,
    Judged,
    NotCharged,
    NotDiscounted,
    NotExempted,
    Priced,
    Step,
    Taxed,
)


def sentence(step: Step, quote: Quote) -> str:
    """One step of a quote, for people."""
    return _SAID[type(step)](step, _Money(quote))


def sentences(quote: Quote) -> list[str]:
    """All steps of a quote, in order."""
    return [sentence(step, quote) for step in quote.steps]


class _Money:
    """Writes amounts of a quote."""

    def __init__(self, quote: Quote) -> None:
        self.asset = quote.asset
        self._exponents = quote.exponents

    def __call__(self, amount: int, asset: str = "") -> str:
        asset = asset or self.asset
        return money(amount, self._exponents.get(asset, 0), asset)


def _priced(step: Priced, text: _Money) -> str:
    unit = _unit(step.price, step.per, step.asset, text)
    said = f"Line {step.line}: {step.quantity} of {step.thing} at {unit}"
    if step.rate:
        said += f", converted at {step.rate} {text.asset} for 1 {step.asset},"
    said += f" come to {text(step.amount)}. The price is {_LEVELS[step.level].format(step=step)}"
    if step.over:
        others = ", ".join(
            f"{_PLAIN[other.level]} of {_unit(other.price, other.per, other.asset, text)}"
            for other in step.over
        )
        said += f"; it goes before {others}"
    return said + "."


def _unit(price: int, per: int, asset: str, text: _Money) -> str:
    return f"{text(price, asset)} {'each' if per == 1 else f'for {per}'}"


_LEVELS: Final = {
    "list": "the list price",
    "segment": "that of the segment {step.segment}",
    "contract": "that of the contract {step.contract}",
    "tier": "that from a quantity of {step.from_quantity} on, and {step.counted} were counted",
    "promo": "a promotional one",
}
_PLAIN: Final = {
    "list": "the list price",
    "segment": "a segment's price",
    "contract": "a contract's price",
    "tier": "a price by quantity",
    "promo": "a promotional price",
}


def _discounted(step: Discounted, text: _Money) -> str:
    name = step.name or step.promotion
    said = f"{name} takes {text(step.amount)} off"
    if step.coupon:
        said += f" for the coupon {step.coupon}"
    if step.sets:
        said += f", having fitted {_times(step.sets)}"
    shares = ", ".join(f"{text(part)} of line {line}" for line, part in step.shares.items())
    said += f": {shares}"
    if step.funded_by == "platform":
        said += "; the platform pays for it"
    if step.budget:
        said += f", from the budget {step.budget}"
    if not step.reduces_tax_base:
        said += "; it is taxed all the same"
    return said + "."


def _not_discounted(step: NotDiscounted, text: _Money) -> str:
    why = {
        "not_now": "it does not hold at this time",
        "coupon_missing": "its coupon was not given",
        "segment_missing": "it is for another segment",
        "amount_too_small": f"it is for {text(step.needed)} or more, and there were {text(step.found)}",
        "quantity_too_small": f"it is for {step.needed} or more, and there were {step.found}",
        "nothing_to_discount": "the order has nothing that it is for",
        "budget_too_small": f"its budget had {text(step.found)} left, and {text(step.needed)} were needed",
        "excluded": f"{step.by} applies, and the two do not go together",
        "not_the_best": f"the order is cheaper without it: others take {text(step.found)} off",
    }[step.why]
    return f"{step.promotion} takes nothing off: {why}."


def _charged(step: Charged, text: _Money) -> str:
    name = step.name or step.fee
    parts = [f"{step.rate} of {text(step.base)}"] if step.rate else []
    parts += [f"for {step.units} units"] if step.units else []
    said = f"{name} is {text(step.amount)}"
    if parts:
        said += f", {' and '.join(parts)}"
    if step.limited_to is not None:
        said += ", which is the limit"
    said += f"; the {step.payer} pays it"
    said += ", it is taxed" if step.taxable else ""
    return said + (", and it is given back with what is returned." if step.refundable else ".")


def _not_charged(step: NotCharged, text: _Money) -> str:
    why = {
        "elsewhere": "the order goes elsewhere",
        "nothing_it_is_for": "the order has nothing that it is for",
        "order_large_enough": f"it is free from {text(step.threshold)} on, and there are {text(step.found)}",
        "order_too_small": f"it is due from {text(step.threshold)} on, and there are {text(step.found)}",
    }[step.why]
    return f"{step.fee} is not charged: {why}."


def _taxed(step: Taxed, text: _Money) -> str:
    said = f"Line {step.line}: {step.stage} ({step.where}) is {text(step.amount)}"
    if step.rate:
        said += f", {step.rate} of {text(step.base)}"
    else:
        measured = f"{step.units} {step.measure}" if step.measure else f"{step.units}"
        said += f", {step.per_unit} {text.asset} in minor units for each of {measured}"
    if step.on_taxes:
        taxes = ", ".join(f"{text(amount)} of {name}" for name, amount in step.on_taxes.items())
        said += f", which has {taxes} in it"
    if step.inclusive:
        said += "; the price includes it"
    if step.allocated:
        said += "; it was rounded once for the whole order"
    return said + "."


def _exempted(step: Exempted, _text: _Money) -> str:
    until = f", valid until {step.valid_until.isoformat()}" if step.valid_until is not None else ""
    return f"Line {step.line}: no {step.stage}, because of the certificate {step.certificate}{until}."


def _not_exempted(step: NotExempted, _text: _Money) -> str:
    when = step.moment.isoformat() if step.moment is not None else ""
    why = {
        "expired": f"it was valid until {when}",
        "not_yet_valid": f"it is valid from {when} on",
        "not_exemptable": "nobody is exempt from this tax",
    }[step.why]
    return f"Line {step.line}: {step.stage} is due, in spite of the certificate {step.certificate}: {why}."


def _judged(step: Judged, _text: _Money) -> str:
    found = step.found or "unknown"
    what = {
        "banned": f"it may not go to {step.where}",
        "age": f"the buyer must be {step.needed} or older and is {found}",
        "trust": f"the buyer's trust must be {step.needed} or more and is {found}",
        "licence": f"the buyer needs the licence {step.needed}, and has {step.found or 'none'}",
    }[step.what]
    verdict = {"allow": "allowed", "hold": "held until somebody has looked at it", "deny": "denied"}
    reason = f" ({step.reason})" if step.reason else ""
    return f"Line {step.line}: {step.thing} is {verdict[step.verdict]} by {step.rule}{reason}: {what}."


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


_SAID: Final[Mapping[type, Callable[[Any, _Money], str]]] = {
    Priced: _priced,
    Discounted: _discounted,
    NotDiscounted: _not_discounted,
    Charged: _charged,
    NotCharged: _not_charged,
    Taxed: _taxed,
    Exempted: _exempted,
    NotExempted: _not_exempted,
    Judged: _judged,
}
