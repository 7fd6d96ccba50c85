"""The JSON objects of the HTTP interface: what routes accept and what they answer.

Requests refuse unknown fields. Ids are UUID text, amounts and times as `gateway.wire` says. Fields that are
not given in a request and have no value in an answer are left out or null, never a magic number.
"""

from typing import Annotated, Any, Final, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from engine.entities import PartyKind, Side, ThingKind
from gateway.wire import Amount, Balance, Instant, Unsigned64

T = TypeVar("T")

NAME_LENGTH_MAX: Final = 256
KEY_LENGTH_MAX: Final = 256
REFERENCE_LENGTH_MAX: Final = 128
LEGS_PER_REQUEST_MAX: Final = 8_190
ITEMS_PER_REQUEST_MAX: Final = 1_000

Name = Annotated[str, Meta(max_length=NAME_LENGTH_MAX, description="For people; need not be unique.")]
AssetCode = Annotated[
    str, Meta(min_length=1, max_length=64, description="Code of the Thing that is counted.", examples=["GBP"])
]
AccountKey = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=KEY_LENGTH_MAX,
        description="class:purpose/party_or_subject[/sub][#lot]; the class is one of A X L R E M I.",
        examples=["L:cash/alice", "A:bank"],
    ),
]
Reference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=REFERENCE_LENGTH_MAX,
        description="Your own name for it; unique for the payer.",
        examples=["invoice-536365"],
    ),
]
Unsigned32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Unsigned16 = Annotated[int, Meta(ge=0, le=2**16 - 1)]
Version = Annotated[int, Meta(ge=0, description="0 = whatever it is.")]


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Some of a list. Pass `next` as `cursor` to go on; null means that was all."""

    items: list[T]
    next: str | None = None


# Parties and Things


class PartyDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Party to create."""

    kind: PartyKind
    name: Name = ""
    profile: dict[str, Any] = {}
    id: UUID | None = None


class PartyView(msgspec.Struct, frozen=True, kw_only=True):
    """Someone or something that exchanges."""

    id: UUID
    kind: PartyKind
    name: str
    profile: dict[str, Any]
    version: int


class ThingDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Thing to create. `exponent` is the number of decimals of its minor unit and never changes."""

    kind: ThingKind
    code: AssetCode
    exponent: Annotated[int, Meta(ge=0, le=18, examples=[2])] = 0
    name: Name = ""
    attrs: dict[str, Any] = {}
    id: UUID | None = None


class ThingView(msgspec.Struct, frozen=True, kw_only=True):
    """Anything offered or owned; `asset` is its number in bare legs."""

    id: UUID
    kind: ThingKind
    code: str
    asset: int
    exponent: int
    name: str
    attrs: dict[str, Any]


# Accounts


class AccountDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to open: a key of the chart of accounts, an asset, an owner, and limits on its balance.

    `floor` is what credits minus debits must stay above or at, `ceiling` what they must stay below or at.
    """

    key: AccountKey
    asset: AssetCode
    party: UUID | None = None
    floor: Balance | None = None
    ceiling: Balance | None = None
    parent: UUID | None = None
    rollup: bool = False


class GuardsPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New limits. A field that is left out stays as it is; null removes the limit."""

    floor: Balance | msgspec.UnsetType | None = msgspec.UNSET
    ceiling: Balance | msgspec.UnsetType | None = msgspec.UNSET
    if_version: Version = 0


class BalanceView(msgspec.Struct, frozen=True, kw_only=True):
    """The four counters of an account, in minor units, and what follows from them.

    `posted` is credits minus debits; `available` is what a debit may take before it meets the floor, counting
    what is reserved; null without a floor.
    """

    debits_posted: Amount
    debits_pending: Amount
    credits_posted: Amount
    credits_pending: Amount
    posted: Balance
    at: Instant | None = None


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger as its account sees it."""

    side: Side
    amount: Amount
    timestamp: Instant
    leg: UUID | None
    account: UUID
    counter_account: UUID
    code: int


# Moves


class LineDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a Move: how many of which Thing for how much in all. Only adjustments may go below 0."""

    thing: Annotated[str, Meta(max_length=64, description="Code of the Thing.", examples=["mug"])] = ""
    quantity: Balance | None = None
    amount: Balance | None = None
    order: Annotated[UUID, Meta(description="Refunds: the order whose line this reverses.")] | None = None
    order_line: Annotated[int, Meta(ge=1, description="The number of that line.")] | None = None
    reason: str = ""


class JournalLegDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One leg of a journal Move, by account key."""

    debit: AccountKey
    credit: AccountKey
    amount: Amount
    asset: AssetCode


class JournalEntryDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One side of a journal or opening Move; the entries must balance for each asset."""

    account: AccountKey
    side: Side
    amount: Amount
    asset: AssetCode


class MoveDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Move to create. Which fields a kind needs is the kind's to say; it refuses those it does not take.

    `id` makes the request idempotent; without one the server makes one, and the request can't be repeated.
    `transition` may name several, joined by `+`; left out, the kind's usual first steps are taken.
    """

    kind: Annotated[str, Meta(min_length=1, max_length=64, examples=["transfer"])]
    id: Annotated[UUID, Meta(description="A UUIDv7 of yours.")] | None = None
    transition: str = ""
    payer: UUID | None = None
    payee: UUID | None = None
    asset: AssetCode | None = None
    amount: Amount | None = None
    tender: str = ""
    reason: str = ""
    lines: list[LineDraft] | None = None
    legs: list[JournalLegDraft] | None = None
    entries: list[JournalEntryDraft] | None = None
    reverses: UUID | None = None
    reference: Reference | None = None
    metadata: dict[str, Any] | None = None
    inputs: Annotated[dict[str, int | str], Meta(description="What else the kind's postings name.")] = {}
    business_time: Instant | None = None
    timeout: Annotated[Unsigned32, Meta(description="Seconds; for holds.")] = 0


class TransitionDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a transition of a Move may carry. `id` makes it idempotent; without one the server makes one."""

    id: Annotated[UUID, Meta(description="A UUIDv7 of yours, for this request.")] | None = None
    amount: Amount | None = None
    tender: str = ""
    reason: str = ""
    lines: list[LineDraft] | None = None
    metadata: dict[str, Any] | None = None
    inputs: dict[str, int | str] = {}
    business_time: Instant | None = None
    timeout: Unsigned32 = 0
    if_version: Version = 0


class PreviewDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to preview: a Move to create, or with `move` and `transition` the next step of one that is
    there."""

    create: MoveDraft | None = None
    move: UUID | None = None
    transition: str = ""
    request: TransitionDraft | None = None


class MoveAnswerView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request: where the Move stands after it."""

    id: UUID
    request: UUID
    kind: str
    state: str
    ended: bool
    version: int
    seq: int
    timestamp: Instant
    legs: Annotated[int, Meta(description="How many legs it wrote.")]
    unmatched_quantity: Annotated[Balance, Meta(description="Of lines that reverse nothing known.")]
    unmatched_amount: Balance


# Bare legs

LegFlagName = Literal[
    "linked",
    "pending",
    "post_pending",
    "void_pending",
    "balancing_debit",
    "balancing_credit",
    "closing_debit",
    "closing_credit",
    "imported",
    "keep_open",
]


class LegDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A debit and a credit of one amount of one asset. Posts and voids may leave out what they inherit."""

    id: UUID
    debit: UUID | None = None
    credit: UUID | None = None
    amount: Amount
    asset: AssetCode | None = None
    code: Unsigned16 = 0
    flags: list[LegFlagName] = []
    pending_id: UUID | None = None
    timeout: Unsigned32 = 0
    user_data_128: UUID | None = None
    user_data_64: Unsigned64 = Unsigned64(0)
    user_data_32: Unsigned32 = 0
    timestamp: Instant = Instant(0)
    if_debit_version: Version = 0
    if_credit_version: Version = 0


class LegResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one leg, in the order in which they were sent."""

    id: UUID
    code: str
    timestamp: Instant


# Books and operations


class TrialBalanceLine(msgspec.Struct, frozen=True, kw_only=True):
    """All debits and all credits of one asset; the difference is 0 or the books are wrong."""

    asset: str
    debits: Amount
    credits: Amount
    difference: Balance


class TrialBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Every asset of the ledger, and whether all of them balance."""

    balanced: bool
    lines: list[TrialBalanceLine]
