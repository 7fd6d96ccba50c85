"""Compliance: who may buy what, and where to.

A rule is about some lines and a place, and demands something of the buyer: an age, a trust, a licence; or it
bans the lines from there. Where it is not kept, or not known to be kept, its `verdict` says what follows: the
order is denied, or held until somebody has looked at it. An order is as good as its worst line.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from engine.policies.facts import Code, OptionalCode, Period, Place, QuoteRequest, Selector
from engine.policies.trace import Judged

RULES_MAX: Final = 500
Verdict = Literal["allow", "hold", "deny"]
_WORST_LAST: Final[tuple[Verdict, ...]] = ("allow", "hold", "deny")


class ComplianceRule(Period, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One demand: exactly one of `age_min`, `trust_min`, `licence` and `banned`."""

    code: Code
    about: Selector
    place: Place = Place()
    verdict: Literal["hold", "deny"] = "deny"
    age_min: Annotated[int, Meta(ge=1, le=150)] | None = None
    trust_min: Annotated[int, Meta(ge=1, le=100)] | None = None
    licence: OptionalCode = ""
    banned: bool = False
    reason: Annotated[str, Meta(max_length=200)] = ""

    def __post_init__(self) -> None:
        demands = [self.age_min is not None, self.trust_min is not None, bool(self.licence), self.banned]
        if sum(demands) != 1:
            raise ValueError("a rule has one of age_min, trust_min, licence and banned")


class CompliancePolicy(
    msgspec.Struct,
    frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True,
    tag_field="policy", tag="compliance",
):  # fmt: skip
    """Rules, all of which must be kept."""

    rules: Annotated[list[ComplianceRule], Meta(min_length=1, max_length=RULES_MAX)]


def judge(policy: CompliancePolicy, request: QuoteRequest) -> list[Judged]:
    """What each rule that is about a line says of it."""
    steps = []
    for rule in policy.rules:
        if rule.place.has(request.ship_to) and rule.covers(request.as_of):
            for number, line in enumerate(request.lines, 1):
                if rule.about.takes(line):
                    steps.append(_judged(rule, request, number, line.thing))
    return steps


def verdict_of(steps: list[Judged]) -> Verdict:
    """The worst that was said."""
    return max((step.verdict for step in steps), key=_WORST_LAST.index, default="allow")


def _judged(rule: ComplianceRule, request: QuoteRequest, line: int, thing: str) -> Judged:
    what, kept, needed, found = _kept(rule, request)
    return Judged(
        rule=rule.code,
        line=line,
        thing=thing,
        verdict="allow" if kept else rule.verdict,
        what=what,
        reason=rule.reason,
        needed=needed,
        found=found,
        on=request.as_of.date() if what == "age" else None,
        where=str(rule.place),
    )


def _kept(
    rule: ComplianceRule, request: QuoteRequest
) -> tuple[Literal["banned", "age", "trust", "licence"], bool, str, str]:
    """What is demanded, whether it is so, what would do, and what was found ("" = nothing is known)."""
    standing = request.standing
    if rule.banned:
        return "banned", False, "", ""
    if rule.age_min is not None:
        age = standing.age(request.as_of.date())
        return "age", age is not None and age >= rule.age_min, str(rule.age_min), _text(age)
    if rule.trust_min is not None:
        trust = request.trust
        kept = trust is not None and trust >= rule.trust_min
        return "trust", kept, str(rule.trust_min), _text(trust)
    held = [
        licence
        for licence in standing.licences
        if licence.name == rule.licence and licence.place.has(request.ship_to)
    ]
    valid = [licence for licence in held if licence.covers(request.as_of)]
    found = valid[0].number or valid[0].name if valid else ("one that is not valid" if held else "")
    return "licence", bool(valid), rule.licence, found


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
