"""Orders that policies price: what they are told of Party, Things and time, and the quote that a Move keeps.

Policies are Things of the kind `policy`: their attributes are the policy, their code is the name of its
version, and neither ever changes. A Move that names policies gets its lines and amounts from the quote, and
keeps the quote in its metadata under `QUOTE`, with what it was asked for. A request that is sent again gets
the quote that its Move has, whatever Party and time are by then.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from actors.errors import NotFound
from actors.runtime import Engine
from engine.commands import Refusal
from engine.entities import ThingKind
from engine.policies.facts import OrderLine, Place, PolicyError, QuoteRequest, Standing
from engine.policies.pricing import PricePolicy
from engine.policies.promotions import PromotionPolicy
from engine.policies.quote import Policy, Quote, policy_from_data, quote
from engine.policies.sentences import sentence
from gateway.descriptions import PREFIX, TRUST, free_part, standing_in
from gateway.problems import Problem, gateway_problem, refusal
from gateway.quote_schemas import QuoteDraft, QuoteLineDraft, QuoteLineView, QuoteView, TraceStep
from gateway.routes.parameters import read_after
from gateway.schemas import LineDraft, MoveDraft
from gateway.wire import Amount, Balance, Instant, encode
from persistence.views import ThingView

Draft = TypeVar("Draft", bound=MoveDraft)

QUOTE: Final = f"{PREFIX}quote"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND_NS: Final = 1_000


async def quote_of(engine: Engine, draft: QuoteDraft) -> Quote:
    """What an order costs now. Raises Problem."""
    await read_after(engine, None)
    standing, trust = await _standing(engine, draft.payer)
    pricing = draft.pricing
    codes = [*dict.fromkeys([*(line.thing for line in draft.lines), *pricing.policies])]
    found = await engine.queries.things_by_code(engine.settings.tenant, codes)
    things = {thing.code: thing for thing in found}
    policies = {
        code: _policy(things, code, f"pricing.policies[{index}]")
        for index, code in enumerate(pricing.policies)
    }
    if len(policies) < len(pricing.policies):
        raise _invalid("pricing.policies", "each once")
    request = QuoteRequest(
        asset=draft.asset,
        as_of=_moment(draft.business_time or time.time_ns()),
        lines=[_line(things, index, line) for index, line in enumerate(draft.lines)],
        ship_to=_place(draft),
        standing=standing,
        trust=trust,
        coupons=pricing.coupons,
        budgets=await _budgets(engine, draft.asset, policies),
        exponents=await _exponents(engine, draft.asset, policies),
    )
    try:
        return quote(policies, request)
    except PolicyError as exc:
        where = exc.where if exc.where.startswith("lines") else f"pricing.{exc.where}"
        raise _invalid(where, exc.reason) from exc


async def priced(engine: Engine, draft: Draft, request: int) -> Draft:
    """A Move to create as the engine takes it: with the lines of its quote if it names policies. Raises
    Problem."""
    check_metadata(draft.metadata)
    if draft.pricing is None:
        return draft
    asked = _asked(draft)
    content = msgspec.to_builtins(asked, enc_hook=int)
    found = await _kept(engine, request, content)
    if found is None:
        found = await quote_of(engine, asked)
        if found.verdict != "allow":
            raise _not_compliant(found)
    kept = {"asked": content, "quote": msgspec.json.decode(encode(found))}
    return msgspec.structs.replace(
        draft,
        pricing=None,
        lines=[
            LineDraft(thing=line.thing, quantity=Balance(line.quantity), amount=Balance(line.amount))
            for line in found.lines
        ],
        metadata={**(draft.metadata or {}), QUOTE: kept},
    )


async def quote_of_move(engine: Engine, move: UUID) -> Quote:
    """The quote that a Move keeps. Raises NotFound."""
    if not await engine.queries.moves_by_id([move.int]):
        raise NotFound("Move", str(move))
    kept = await _metadata(engine, move.int)
    if QUOTE not in kept:
        raise NotFound("quote of the Move", str(move))
    return _read(kept[QUOTE]["quote"])


def quote_view(found: Quote) -> QuoteView:
    """A quote as clients get it."""
    return QuoteView(
        asset=found.asset,
        as_of=Instant((found.as_of - _EPOCH) // timedelta(microseconds=1) * _MICROSECOND_NS),
        total=Amount(found.total),
        subsidy=Amount(found.subsidy),
        payable=Amount(found.payable),
        discounts=Amount(found.discounts),
        taxes=Amount(found.taxes),
        verdict=found.verdict,
        policies=found.policies,
        lines=[
            QuoteLineView(
                line=number,
                kind=line.kind,
                thing=line.thing,
                quantity=line.quantity,
                amount=Amount(line.amount),
                listed=Amount(line.listed) if line.kind == "goods" else None,
                discount=Amount(line.discount) if line.kind == "goods" else None,
                subsidy=Amount(line.subsidy) if line.kind == "goods" else None,
                refundable=line.refundable,
                taxes=_amounts(line.taxes),
            )
            for number, line in enumerate(found.lines, 1)
        ],
        trace=[
            TraceStep(sentence=sentence(step, found), step=msgspec.to_builtins(step, str_keys=True))
            for step in found.steps
        ],
        uses=_amounts(found.uses),
        seller_fees=_amounts(found.seller_fees),
    )


def check_metadata(metadata: Mapping[str, Any] | None) -> None:
    """Raises Problem for a name that is not the client's to give."""
    for name in metadata or ():
        if name.startswith(PREFIX):
            raise _invalid(f"metadata.{name}", f"names that begin with {PREFIX} are taken")


def check_policy(attrs: Mapping[str, Any]) -> None:
    """Raises Problem if the attributes of a Thing are no policy."""
    try:
        policy_from_data(dict(attrs), "attrs")
    except PolicyError as exc:
        raise _invalid(exc.where, exc.reason) from exc


def _asked(draft: MoveDraft) -> QuoteDraft:
    """What a Move asks to be priced."""
    assert draft.pricing is not None, "asked of Moves with pricing only"
    for field, given in (("asset", draft.asset), ("lines", draft.lines)):
        if not given:
            raise refusal(Refusal.FIELD_MISSING, f"{field}: missing; pricing goes with it.", field)
    assert draft.asset is not None, "just checked"
    lines = []
    for index, line in enumerate(draft.lines or ()):
        if line != LineDraft(thing=line.thing, quantity=line.quantity):
            raise _invalid(f"lines[{index}]", "a line that policies price has a thing and a quantity")
        if not line.thing or line.quantity is None or line.quantity < 1:
            raise _invalid(f"lines[{index}]", "expected a thing, and a quantity of 1 or more")
        lines.append(QuoteLineDraft(thing=line.thing, quantity=int(line.quantity)))
    return QuoteDraft(
        asset=draft.asset,
        lines=lines,
        pricing=draft.pricing,
        payer=draft.payer,
        business_time=draft.business_time,
    )


async def _kept(engine: Engine, request: int, asked: Any) -> Quote | None:
    """The quote of the Move with that id, if there is one, and it was asked for the same."""
    await read_after(engine, None)
    if not await engine.queries.moves_by_id([request]):
        return None
    kept = (await _metadata(engine, request)).get(QUOTE)
    if kept is None or kept["asked"] != asked:
        return None
    return _read(kept["quote"])


def _read(document: Any) -> Quote:
    """A quote as it is kept: JSON has numbers of lines as texts."""
    return msgspec.convert(document, Quote, strict=False)


async def _metadata(engine: Engine, move: int) -> dict[str, Any]:
    """What the creation of a Move gave."""
    creation = (await engine.queries.transitions(move))[0]
    return creation.metadata


def _policy(things: Mapping[str, ThingView], code: str, where: str) -> Policy:
    thing = things.get(code)
    if thing is None:
        raise refusal(Refusal.THING_NOT_FOUND, f"{where}: there is no Thing with the code {code!r}.", where)
    if thing.kind != ThingKind.POLICY:
        raise _invalid(where, f"{code!r} is of the kind {thing.kind}; expected {ThingKind.POLICY}")
    try:
        return policy_from_data(free_part(thing.attrs))
    except PolicyError as exc:
        raise _invalid(where, f"{code!r} can't be used, {exc}") from exc


def _line(things: Mapping[str, ThingView], index: int, line: QuoteLineDraft) -> OrderLine:
    thing = things.get(line.thing)
    if thing is None:
        where = f"lines[{index}].thing"
        problem = f"{where}: there is no Thing with the code {line.thing!r}."
        raise refusal(Refusal.THING_NOT_FOUND, problem, where)
    attrs = {name: value for name, value in free_part(thing.attrs).items() if _plain(value)}
    return OrderLine(thing=line.thing, quantity=line.quantity, attrs=attrs)


def _plain(value: Any) -> bool:
    """Whether policies can look at an attribute: no floats, no documents."""
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return value is None or isinstance(value, bool | int | str)


async def _standing(engine: Engine, payer: UUID | None) -> tuple[Standing, int | None]:
    if payer is None:
        return Standing(), None
    found = await engine.queries.parties([payer.int])
    if not found:
        raise NotFound("Party", str(payer))
    profile = found[0].profile
    return standing_in(profile, "payer.profile"), profile.get(TRUST)


async def _budgets(engine: Engine, asset: str, policies: Mapping[str, Policy]) -> dict[str, int]:
    """What is left in the budgets that promotions name by their campaigns, on `M:budget/{campaign}`."""
    names = {
        promotion.budget
        for policy in policies.values()
        if isinstance(policy, PromotionPolicy)
        for promotion in policy.promotions
        if promotion.budget
    }
    left = {}
    for name in sorted(names):
        try:
            left[name] = max((await engine.account(f"M:budget/{name}", asset).balance()).available, 0)
        except NotFound:
            left[name] = 0
    return left


async def _exponents(engine: Engine, asset: str, policies: Mapping[str, Policy]) -> dict[str, int]:
    """The decimals of all currencies in question."""
    codes = {asset}
    for policy in policies.values():
        if isinstance(policy, PricePolicy):
            codes |= {row.asset for row in policy.rows} | {rate.to for rate in policy.exchange}
    found = await engine.queries.things_by_code(engine.settings.tenant, sorted(codes))
    exponents = {thing.code: thing.exponent for thing in found}
    if asset not in exponents:
        raise refusal(Refusal.ASSET_NOT_FOUND, f"asset: no Thing has the code {asset!r}.", "asset")
    return exponents


def _place(draft: QuoteDraft) -> Place:
    ship_to = draft.pricing.ship_to
    if ship_to.region and not ship_to.country:
        raise _invalid("pricing.ship_to.country", "a region needs its country")
    return Place(country=ship_to.country, region=ship_to.region)


def _moment(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // _MICROSECOND_NS)


def _amounts(by_name: Mapping[Any, int]) -> dict[str, Amount]:
    return {str(name): Amount(amount) for name, amount in by_name.items()}


def _not_compliant(found: Quote) -> Problem:
    refused: Sequence[str] = [
        sentence(step, found) for step in found.steps if getattr(step, "verdict", "allow") != "allow"
    ]
    return gateway_problem("not_compliant", " ".join(refused), "lines")


def _invalid(where: str, reason: str) -> Problem:
    return gateway_problem("invalid_field", f"{where}: {reason}.", where)
