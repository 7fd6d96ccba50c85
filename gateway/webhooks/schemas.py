"""The JSON objects of webhooks."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from gateway.events.filters import EventFilter
from gateway.schemas import Next
from gateway.webhooks.targets import URL_LENGTH_MAX
from gateway.wire import Instant

NAME_LENGTH_MAX = 256
OVERLAP_S_MAX = 30 * 86_400
REPLAYED_MAX = 1_000

Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=URL_LENGTH_MAX,
        description="Where events are sent to, by POST. https, at an address of the public internet, unless "
        "the gateway listens on loopback only or was told that every network will do.",
        examples=["https://example.com/tessera"],
    ),
]
WebhookName = Annotated[str, Meta(max_length=NAME_LENGTH_MAX, description="For people; need not be unique.")]
EventId = Annotated[str, Meta(min_length=5, max_length=64, examples=["0.42.1"])]


class WebhookDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint to be made."""

    url: Url
    name: WebhookName = ""
    filter: EventFilter | None = None
    after: Annotated[
        str,
        Meta(
            max_length=4_096,
            description="`now`, `start`, or the id of the event after which to begin.",
        ),
    ] = "now"
    id: UUID | None = None


class WebhookPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be changed of an endpoint; what is left out stays. `active` also enables one that was
    disabled: it goes on where it was."""

    url: Url | None = None
    name: WebhookName | None = None
    filter: EventFilter | None = None
    state: Literal["active", "paused"] | None = None


class WebhookView(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint. `position` is how far it has got: everything before was taken, or is among `waiting` and
    `dead`."""

    id: UUID
    url: str
    name: str
    filter: EventFilter
    state: Literal["active", "paused", "disabled"]
    reason: Annotated[str, Meta(description="Why it is disabled.")]
    created: Instant
    failing_since: Annotated[Instant | None, Meta(description="It has taken nothing since then.")]
    position: str
    waiting: Annotated[
        int, Meta(description="Events that wait for another attempt, or behind one that does.")
    ]
    dead: Annotated[int, Meta(description="Events that are not tried any more.")]
    old_secret_until: Annotated[Instant | None, Meta(description="So long a secret before signs too.")]


class WebhookWithSecret(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, and its new secret: this is the only time that it is shown. Null if this is a repeat."""

    webhook: WebhookView
    secret: Annotated[str | None, Meta(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


class WebhookPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some endpoints."""

    items: list[WebhookView]
    next: Next = None


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a secret is to be replaced."""

    overlap_s: Annotated[
        int, Meta(ge=0, le=OVERLAP_S_MAX, description="How long both secrets sign, in seconds.")
    ] = 86_400


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to deliver an event. Without `error` it was taken."""

    event: EventId
    type: str
    time: Instant
    attempt: Annotated[int, Meta(description="From 1.")]
    status: Annotated[int | None, Meta(description="Of the receiver's answer; null if there was none.")]
    error: str
    took_us: Annotated[int, Meta(description="How long it took, in microseconds.")]


class DeliveryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some attempts."""

    items: list[DeliveryView]
    next: Next = None


class DeadEventView(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is not tried any more. Its content is in the stream of events."""

    event: EventId
    type: str
    attempts: int
    last_attempt: Instant
    status: int | None
    error: str


class DeadEventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events that are not tried any more."""

    items: list[DeadEventView]
    next: Next = None


class Replay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead events are to be tried again."""

    events: Annotated[
        Annotated[list[EventId], Meta(min_length=1, max_length=REPLAYED_MAX)] | None,
        Meta(description="Their ids; without it, all of them."),
    ] = None


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How many events will be tried again."""

    events: int
