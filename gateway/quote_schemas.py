"""The JSON objects of quotes: what an order is to be priced by, and what it costs and why."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from engine.policies.facts import LINES_MAX
from gateway.wire import Amount, Instant

POLICIES_MAX = 5
COUPONS_MAX = 32

ThingCode = Annotated[str, Meta(min_length=1, max_length=64, description="Code of a Thing.")]
Area = Annotated[str, Meta(max_length=64)]


class PlaceDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an order goes, in the words of the policies."""

    country: Annotated[Area, Meta(examples=["DE"])] = ""
    region: Annotated[Area, Meta(examples=["BY"])] = ""


class PricingDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a Move's lines are priced by: Things of the kind `policy`, one of each sort at most."""

    policies: Annotated[
        list[ThingCode],
        Meta(min_length=1, max_length=POLICIES_MAX, description="Codes.", examples=[["prices@3", "vat@1"]]),
    ]
    ship_to: PlaceDraft = PlaceDraft()
    coupons: Annotated[list[ThingCode], Meta(max_length=COUPONS_MAX, description="Codes of coupons.")] = []


class QuoteLineDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of which Thing."""

    thing: Annotated[ThingCode, Meta(examples=["mug"])]
    quantity: Annotated[int, Meta(ge=1, le=2**53 - 1)]


class QuoteDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order to be priced. Without a payer it is priced for somebody of whom nothing is known."""

    asset: Annotated[ThingCode, Meta(examples=["GBP"])]
    lines: Annotated[list[QuoteLineDraft], Meta(min_length=1, max_length=LINES_MAX)]
    pricing: PricingDraft
    payer: UUID | None = None
    business_time: Annotated[Instant | None, Meta(description="As of when policies hold; left out: now.")] = (
        None
    )


class QuoteLineView(msgspec.Struct, frozen=True, kw_only=True):
    """One line as it is, or would be, written on the Move. `listed` and `discount` include the taxes that
    prices include, `amount` does not; the `subsidy` is the platform's part of it. `taxes` are a tax's parts,
    by the number of the line they are on."""

    line: int
    kind: Literal["goods", "fee", "tax"]
    thing: str
    quantity: int
    amount: Amount
    listed: Amount | None
    discount: Amount | None
    subsidy: Amount | None
    refundable: bool
    taxes: dict[str, Amount]


class TraceStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step to the result: a sentence to read out, and the same for programs."""

    sentence: str
    step: dict[str, Any]


class QuoteView(msgspec.Struct, frozen=True, kw_only=True):
    """What an order costs, and why. `uses` says what promotions take from budgets, `seller_fees` what the
    seller pays, by the fee's Thing."""

    asset: str
    as_of: Instant
    total: Amount
    subsidy: Annotated[Amount, Meta(description="What the platform pays of the total.")]
    payable: Annotated[Amount, Meta(description="What the buyer pays of the total.")]
    discounts: Amount
    taxes: Amount
    verdict: Annotated[
        Literal["allow", "hold", "deny"], Meta(description="What compliance says of the order.")
    ]
    policies: Annotated[dict[str, str], Meta(description="The versions that said so, by what they are.")]
    lines: list[QuoteLineView]
    trace: list[TraceStep]
    uses: dict[str, Amount]
    seller_fees: dict[str, Amount]
