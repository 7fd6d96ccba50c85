"""Taxes: stages in order, each of which may see what those before it came to.

A stage has one tax for a line at most: the rule for the narrowest place that the order goes to, of equal ones
that for the line's tax class rather than for any, of equal ones the first. A rule is a rate on what the line
costs (and on the taxes of the stages that its stage is `on`: tax on tax), or an amount for each unit of what
is measured (an excise): the line's quantity times an attribute of its Thing, such as its millilitres.

Prices include the taxes of stages that are `inclusive`. What a line costs without them is solved for exactly;
each such tax is rounded, and the rest is the line's net amount, so net and taxes sum to the price. Other
taxes come on top. A stage is rounded line by line, or once for the order, and split over the lines by
largest remainder.

A Party with a valid certificate does not pay a tax that is `exemptable`. Where prices include that tax, they
fall by it.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from engine.policies.amounts import Rate, Rounding, allocate, ratio, rounded
from engine.policies.facts import (
    Certificate,
    Code,
    OptionalCode,
    OrderLine,
    Period,
    Place,
    PolicyError,
    QuoteRequest,
)
from engine.policies.trace import Exempted, NotExempted, Taxed

STAGES_MAX: Final = 16
RULES_MAX: Final = 1_000
ORDER_MAX: Final = 10_000


class PerUnit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """So much for each unit: of the line's quantity, or of that times a whole number that its Thing has
    under `measure`."""

    amount: Rate  # in minor units of `asset`, may be a part of one
    asset: Code
    measure: OptionalCode = ""


class TaxRule(Period, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One tax: where, on what, how much, and the Thing that it is written down as, whose account says to
    whom it is owed."""

    thing: Code
    place: Place = Place()
    tax_class: OptionalCode = ""  # "" = any
    rate: Rate | None = None
    per_unit: PerUnit | None = None
    exemptable: bool = True

    def __post_init__(self) -> None:
        if (self.rate is None) == (self.per_unit is None):
            raise ValueError("a tax has a rate or per_unit")


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Taxes of one kind. Stages are judged in `order`; `on` names earlier ones that are taxed here too."""

    name: Code
    order: Annotated[int, Meta(ge=0, le=ORDER_MAX)]
    rules: Annotated[list[TaxRule], Meta(min_length=1, max_length=RULES_MAX)]
    on: list[Code] = []
    inclusive: bool = False
    round_per: Literal["line", "order"] = "line"
    rounding: Rounding = "half_up"


class TaxPolicy(
    msgspec.Struct,
    frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True,
    tag_field="policy", tag="taxes",
):  # fmt: skip
    """The stages of taxation."""

    stages: Annotated[list[Stage], Meta(min_length=1, max_length=STAGES_MAX)]

    def __post_init__(self) -> None:
        known: dict[str, Stage] = {}
        for stage in sorted(self.stages, key=lambda stage: stage.order):
            if stage.name in known:
                raise ValueError(f"stages: there are two named {stage.name!r}")
            for name in stage.on:
                earlier = known.get(name)
                if earlier is None or earlier.order == stage.order:
                    raise ValueError(f"stages: {stage.name!r} is on {name!r}, which is no earlier stage")
                if stage.inclusive and not earlier.inclusive:
                    raise ValueError(
                        f"stages: prices include {stage.name!r}, so they include {name!r}, which it is on"
                    )
            known[stage.name] = stage


class Taxable(NamedTuple):
    """A line as taxes see it."""

    number: int
    line: OrderLine
    tax_class: str
    amount: int  # what the buyer pays for it, with taxes that prices include
    extra: int = 0  # discounts that do not reduce what is taxed


class Result(NamedTuple):
    """What taxes make of the lines."""

    steps: list[Taxed | Exempted | NotExempted]
    nets: list[int]  # by line: its amount without the taxes that it includes


class _Due(NamedTuple):
    """One tax on one line."""

    rule: TaxRule
    units: int  # of a tax by the unit
    said: Exempted | NotExempted | None  # of a certificate for it

    @property
    def exempt(self) -> bool:
        return isinstance(self.said, Exempted)

    def on(self, base: Fraction | int) -> Fraction:
        """What it comes to on a base, exactly."""
        if self.rule.rate is not None:
            return Fraction(base) * ratio(self.rule.rate)
        assert self.rule.per_unit is not None, "checked when the policy was read"
        return ratio(self.rule.per_unit.amount) * self.units


_Dues = Mapping[str, list[_Due | None]]  # by stage and line


def tax(policy: TaxPolicy, request: QuoteRequest, lines: list[Taxable]) -> Result:
    """The taxes on these lines. Raises PolicyError."""
    stages = sorted(policy.stages, key=lambda stage: stage.order)
    dues = {stage.name: [_due(stage, request, line) for line in lines] for stage in stages}
    amounts: list[dict[str, int]] = [{} for _ in lines]  # by line and stage
    nets = _nets([stage for stage in stages if stage.inclusive], dues, lines, amounts)
    for stage in stages:
        if not stage.inclusive:
            bases = [
                net + line.extra + sum(taxes.get(name, 0) for name in stage.on)
                for net, line, taxes in zip(nets, lines, amounts, strict=True)
            ]
            exact = [
                one.on(base) if one is not None and not one.exempt else None
                for one, base in zip(dues[stage.name], bases, strict=True)
            ]
            _note(stage, exact, amounts)
    steps: list[Taxed | Exempted | NotExempted] = []
    for stage in stages:
        for index, one in enumerate(dues[stage.name]):
            if one is not None and one.said is not None:
                steps.append(one.said)
            if one is not None and not one.exempt and stage.name in amounts[index]:
                steps.append(_taxed(stage, one, lines[index], nets[index], amounts[index]))
    return Result(steps, nets)


def _nets(stages: list[Stage], dues: _Dues, lines: list[Taxable], amounts: list[dict[str, int]]) -> list[int]:
    """What lines cost without the taxes of these stages, which their amounts include; notes those taxes."""
    exact = [_without(stages, dues, index, line) for index, line in enumerate(lines)]
    included: list[dict[str, int]] = [{} for _ in lines]
    for stage in stages:
        _note(stage, [taxes.get(stage.name) for _, taxes in exact], included)
    nets = []
    for index, (line, (net, taxes)) in enumerate(zip(lines, exact, strict=True)):
        left = line.amount - sum(included[index].values())
        if left < 0:  # each was rounded up, and there is not enough for all
            left, *parts = allocate(line.amount, [net, *taxes.values()])
            included[index] = dict(zip(taxes, parts, strict=True))
        nets.append(left)
        if any((one := dues[stage.name][index]) is not None and one.exempt for stage in stages):
            included[index] = _after_exemptions(stages, dues, index, net)
        amounts[index] |= included[index]
    return nets


def _without(
    stages: list[Stage], dues: _Dues, index: int, line: Taxable
) -> tuple[Fraction, dict[str, Fraction]]:
    """A line's net amount and the taxes that are in its price, exactly, as if there were no exemptions.

    Each tax is a multiple of the net amount plus a constant, so the price is, and that is solved.
    """
    parts: dict[str, tuple[Fraction, Fraction]] = {}
    for stage in stages:
        one = dues[stage.name][index]
        if one is not None:
            on = [parts[name] for name in stage.on if name in parts]
            constant = one.on(sum((part[1] for part in on), Fraction(0)))
            multiple = (
                one.on(1 + sum((part[0] for part in on), Fraction(0))) if one.rule.rate else Fraction(0)
            )
            parts[stage.name] = multiple, constant
    if line.extra and parts:
        raise PolicyError(
            f"lines[{line.number - 1}]",
            "a discount that does not reduce what is taxed goes with taxes on top of the price only",
        )
    constants = sum((part[1] for part in parts.values()), Fraction(0))
    net = (line.amount - constants) * Fraction(1, 1 + sum((part[0] for part in parts.values()), Fraction(0)))
    if net < 0:
        raise PolicyError(f"lines[{line.number - 1}]", "the taxes in the price come to more than the price")
    return net, {name: multiple * net + constant for name, (multiple, constant) in parts.items()}


def _after_exemptions(stages: list[Stage], dues: _Dues, index: int, net: Fraction) -> dict[str, int]:
    """The taxes that are left on a net amount, where prices include more than are due."""
    left: dict[str, int] = {}
    for stage in stages:
        one = dues[stage.name][index]
        if one is not None and not one.exempt:
            base = net + sum(left.get(name, 0) for name in stage.on)
            left[stage.name] = rounded(one.on(base), stage.rounding)
    return left


def _note(stage: Stage, exact: list[Fraction | None], amounts: list[dict[str, int]]) -> None:
    """Round a stage's taxes, None where there is none, and put them with the others of their line."""
    taxed = [(index, value) for index, value in enumerate(exact) if value is not None]
    if stage.round_per == "line":
        parts = [rounded(value, stage.rounding) for _, value in taxed]
    else:
        total = rounded(sum((value for _, value in taxed), Fraction(0)), stage.rounding)
        parts = allocate(total, [value for _, value in taxed])
    for (index, _), part in zip(taxed, parts, strict=True):
        amounts[index][stage.name] = part


def _due(stage: Stage, request: QuoteRequest, line: Taxable) -> _Due | None:
    """The tax of a stage on a line, if there is one."""
    best: TaxRule | None = None
    for rule in stage.rules:
        if (
            rule.place.has(request.ship_to)
            and rule.tax_class in {"", line.tax_class}
            and rule.covers(request.as_of)
            and (best is None or _precision(rule) > _precision(best))
        ):
            best = rule
    if best is None:
        return None
    return _Due(best, _units(best, request, line), _certified(stage, best, request, line.number))


def _precision(rule: TaxRule) -> tuple[int, bool]:
    return rule.place.precision, bool(rule.tax_class)


def _units(rule: TaxRule, request: QuoteRequest, line: Taxable) -> int:
    per_unit = rule.per_unit
    if per_unit is None:
        return 0
    if per_unit.asset != request.asset:
        raise PolicyError(
            f"lines[{line.number - 1}]", f"{rule.thing} is due in {per_unit.asset}, not in {request.asset}"
        )
    if not per_unit.measure:
        return line.line.quantity
    measured = line.line.attrs.get(per_unit.measure)
    if type(measured) is not int or measured < 0:
        raise PolicyError(
            f"{line.line.thing}.attrs.{per_unit.measure}",
            f"expected a whole number, for {rule.thing}, not {measured!r}",
        )
    return line.line.quantity * measured


def _certified(
    stage: Stage, rule: TaxRule, request: QuoteRequest, line: int
) -> Exempted | NotExempted | None:
    """What is to be said of certificates for a tax; a valid one comes first."""
    held = [
        certificate
        for certificate in request.standing.certificates
        if (not certificate.stages or stage.name in certificate.stages)
        and certificate.place.has(request.ship_to)
    ]
    if not held:
        return None
    valid = [certificate for certificate in held if certificate.covers(request.as_of)]
    chosen = (valid or held)[0]
    if not rule.exemptable:
        return NotExempted(stage=stage.name, line=line, certificate=chosen.number, why="not_exemptable")
    if valid:
        return Exempted(
            stage=stage.name, line=line, certificate=chosen.number, valid_until=chosen.valid_until
        )
    return _invalid(chosen, request, stage.name, line)


def _invalid(certificate: Certificate, request: QuoteRequest, stage: str, line: int) -> NotExempted:
    early = certificate.valid_from is not None and request.as_of < certificate.valid_from
    return NotExempted(
        stage=stage,
        line=line,
        certificate=certificate.number,
        why="not_yet_valid" if early else "expired",
        moment=certificate.valid_from if early else certificate.valid_until,
    )


def _taxed(stage: Stage, one: _Due, line: Taxable, net: int, taxes: dict[str, int]) -> Taxed:
    on = {name: taxes[name] for name in stage.on if taxes.get(name)}
    per_unit = one.rule.per_unit
    return Taxed(
        stage=stage.name,
        line=line.number,
        thing=one.rule.thing,
        amount=taxes[stage.name],
        base=net + line.extra + sum(on.values()) if per_unit is None else 0,
        rate=one.rule.rate or "",
        units=one.units,
        per_unit=per_unit.amount if per_unit is not None else "",
        measure=per_unit.measure if per_unit is not None else "",
        on_taxes=on if per_unit is None else {},
        inclusive=stage.inclusive,
        where=str(one.rule.place),
        tax_class=line.tax_class,
        rounding=stage.rounding,
        allocated=stage.round_per == "order",
    )
