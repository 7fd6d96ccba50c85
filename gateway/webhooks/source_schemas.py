"""The JSON objects of webhooks that come in."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from gateway.schemas import Next
from gateway.webhooks.schemas import OVERLAP_S_MAX
from gateway.wire import Instant

RULES_MAX = 64
MEMBERS_MAX = 16

SourceName = Annotated[
    str,
    Meta(
        pattern="^[a-z][a-z0-9-]{0,62}$",
        description="Small letters, digits and hyphens.",
        examples=["acme-payments"],
    ),
]
Path = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        description="Where in the message something stands: names, or places in an array, joined by dots.",
        examples=["data.payment.order_id"],
    ),
]
GivenSecret = Annotated[
    str,
    Meta(max_length=128, description="`whsec_` and Base64, of 24 to 64 bytes; without it, one is made."),
]


class SourceRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a message does that has these values at these paths. The Move is named by `move`, the path of its
    id, or by `reference`, the path of its external reference."""

    when: Annotated[dict[Path, str | int | bool], Meta(min_length=1, max_length=MEMBERS_MAX)]
    transition: Annotated[
        str, Meta(min_length=1, max_length=128, description="One, or several joined by `+`.")
    ]
    move: Path | None = None
    reference: Path | None = None
    amount: Annotated[Path | None, Meta(description="Of an amount in minor units.")] = None
    reason: Path | None = None
    metadata: Annotated[
        dict[str, Path], Meta(max_length=MEMBERS_MAX, description="What is noted at the Move, by name.")
    ] = {}

    def __post_init__(self) -> None:
        if (self.move is None) == (self.reference is None):
            raise ValueError("a rule has either move or reference")


Rules = Annotated[
    list[SourceRule], Meta(min_length=1, max_length=RULES_MAX, description="The first that fits counts.")
]


class SourceDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source to be made."""

    name: SourceName
    rules: Rules
    secret: GivenSecret | None = None


class SourcePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be changed of a source."""

    rules: Rules


class SourceRotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a secret is to be replaced."""

    secret: GivenSecret | None = None
    overlap_s: Annotated[
        int, Meta(ge=0, le=OVERLAP_S_MAX, description="How long the old one is good too, in seconds.")
    ] = 86_400


class SourceView(msgspec.Struct, frozen=True, kw_only=True):
    """A source; `url` is the path that its messages are sent to."""

    name: str
    url: str
    rules: list[SourceRule]
    created: Instant
    old_secret_until: Instant | None


class SourceWithSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A source, and its new secret: this is the only time that it is shown."""

    source: SourceView
    secret: Annotated[str, Meta(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


class SourcePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some sources."""

    items: list[SourceView]
    next: Next = None


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message: `ignored` if no rule fits it."""

    outcome: Literal["done", "ignored"]
    move: UUID | None = None
    state: Annotated[str | None, Meta(description="Of the Move since.")] = None
