"""The JSON objects of events. Streams, lists and webhooks all have these very ones."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from gateway.events.filters import EventType
from gateway.schemas import BundlePart, LineView, Meter, Relation, Right
from gateway.wire import Amount, Balance, Instant, Unsigned64


class PartyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A Party as it is since the event."""

    id: UUID
    kind: str
    name: str
    profile: dict[str, Any]
    relations: list[Relation]
    version: int


class ThingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A Thing that was added to the catalogue."""

    id: UUID
    kind: str
    code: str
    asset: int
    exponent: int
    name: str
    attrs: dict[str, Any]
    rights: list[Right]
    meter: Meter | None
    variant_of: str | None
    options: dict[str, str]
    bundle: list[BundlePart]


class AccountEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An account that was opened."""

    id: UUID
    key: str | None
    asset: str
    party: UUID | None
    parent: UUID | None
    code: int
    rollup: bool
    floor: Balance | None
    ceiling: Balance | None


class LimitsEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An account that was given new limits."""

    account: UUID
    key: str | None
    asset: str
    party: UUID | None
    floor: Balance | None
    ceiling: Balance | None


class LegEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A leg, with everything resolved: a debit and a credit of one amount, and so two Entries once it is
    posted.

    `amount` is what was really moved or held, 0 for a void and an expiry; `held` is what a hold had before it
    was posted, voided or ran out. `id` is null for an expiry.
    """

    id: UUID | None
    debit: UUID
    debit_key: str | None
    debit_party: UUID | None
    credit: UUID
    credit_key: str | None
    credit_party: UUID | None
    amount: Amount
    asset: str
    code: int
    flags: list[str]
    pending_id: UUID | None
    held: Amount | None
    timeout: int
    move: UUID | None
    seq: Annotated[int | None, Meta(description="The step of the Move that caused it.")]
    business_time: Instant | None
    user_data_128: UUID | None
    user_data_64: Unsigned64 | None
    user_data_32: int | None


class MoveEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a Move, from 0, its creation. What only a creation knows is null or empty later, unless a
    later request gave it anew."""

    id: UUID
    request: UUID
    kind: str
    transition: str
    state: str
    ended: bool
    seq: int
    version: int
    payer: UUID | None
    payee: UUID | None
    asset: str | None
    amount: Amount | None
    tender: str
    reason: str
    reference: str | None
    reverses: UUID | None
    lines: list[LineView]
    inputs: dict[str, Any]
    metadata: dict[str, Any]
    legs: Annotated[int, Meta(description="How many legs it wrote; they come before it.")]
    business_time: Instant
    expires_at: Instant | None


Data = Annotated[
    Any,
    Meta(
        extra_json_schema={
            "oneOf": [
                {"$ref": f"#/components/schemas/{kind.__name__}"}
                for kind in (PartyEvent, ThingEvent, AccountEvent, LimitsEvent, LegEvent, MoveEvent)
            ]
        }
    ),
]
"""What an event is about, by its type."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened. `id` is its position in the log, `lsn` that of its record: a query with it as
    `Tessera-Wait-Lsn` sees the event."""

    id: Annotated[str, Meta(examples=["0.42.1"])]
    type: EventType
    timestamp: Instant
    lsn: int
    data: Data


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events. There may be none although more follow: `more` tells."""

    items: list[Event]
    position: Annotated[str, Meta(description="Pass it as `after` to go on, now or when there is more.")]
    more: Annotated[bool, Meta(description="Whether the log goes on beyond `position` already.")]
