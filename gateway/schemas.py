"""The JSON objects of the HTTP interface: what routes accept and what they answer.

Requests refuse unknown fields. Ids are UUID text, amounts and times as `gateway.wire` says. Fields that are
not given in a request and have no value in an answer are left out or null, never a magic number.
"""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from engine.entities import Effect, PartyKind, Side, ThingKind
from gateway.quote_schemas import PricingDraft
from gateway.wire import Amount, Balance, Instant, Sum, Unsigned64

NAME_LENGTH_MAX: Final = 256
KEY_LENGTH_MAX: Final = 256
REFERENCE_LENGTH_MAX: Final = 128
LEGS_PER_REQUEST_MAX: Final = 8_190

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
Next = Annotated[
    str | None, Meta(description="Pass it as `cursor` for the page after this one; null: this was the last.")
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
Version = Annotated[int, Meta(ge=0, le=2**63 - 1, description="0 = whatever it is.")]


# Parties and Things


RELATIONS_MAX: Final = 256
PARTS_MAX: Final = 256
TrustScore = Annotated[int, Meta(ge=0, le=100)]
Trust = Annotated[
    TrustScore | None, Meta(description="From 0, none, to 100, full; null: nobody said.", examples=[80])
]
Label = Annotated[str, Meta(min_length=1, max_length=64)]


class Relation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a Party is to another one."""

    kind: Annotated[Label, Meta(description="A word of your own.", examples=["employee_of"])]
    party: Annotated[UUID, Meta(description="The other one.")]


Relations = Annotated[list[Relation], Meta(max_length=RELATIONS_MAX)]


class PartyDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Party to create."""

    kind: PartyKind
    name: Name = ""
    profile: dict[str, Any] = {}
    trust: Trust = None
    relations: Relations = []
    id: UUID | None = None


class PartyView(msgspec.Struct, frozen=True, kw_only=True):
    """Someone or something that exchanges."""

    id: UUID
    kind: PartyKind
    name: str
    profile: dict[str, Any]
    trust: Annotated[Trust, Meta(description="Shown to nobody who is bound to a Party.")]
    relations: list[Relation]
    version: int


class PartyPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some Parties."""

    items: list[PartyView]
    next: Next = None


Positive = Annotated[int, Meta(ge=1, le=2**53 - 1)]


class Right(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What whoever has a Thing may do with it: how often, for how long, and whether it may be passed on."""

    name: Annotated[Label, Meta(description="A word of your own.", examples=["stream"])]
    uses: Annotated[Positive | None, Meta(description="How often; null: no limit.")] = None
    term_s: Annotated[Positive | None, Meta(description="Seconds; null: for ever.")] = None
    transferable: bool = False


class Meter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the use of a Thing is measured: in units of another Thing, so many of them included."""

    unit: Annotated[AssetCode, Meta(description="Code of the Thing that is counted.", examples=["KWH"])]
    included: Annotated[Amount | None, Meta(description="How much is not counted; null: none.")] = None
    period: Annotated[
        Literal["once", "day", "month", "year"], Meta(description="For which the included ones are.")
    ] = "once"


class BundlePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Thing that comes with a bundle, and how many of it, in its minor units."""

    thing: AssetCode
    quantity: Positive = 1


Rights = Annotated[list[Right], Meta(max_length=PARTS_MAX)]
Bundle = Annotated[list[BundlePart], Meta(max_length=PARTS_MAX)]
Options = Annotated[
    dict[Label, Annotated[str, Meta(max_length=64)]],
    Meta(max_length=64, description="What makes the variant.", examples=[{"size": "M"}]),
]
VariantOf = Annotated[
    AssetCode | None, Meta(description="Code of the Thing that it is a variant of.", examples=["shirt"])
]


class ThingDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Thing to create. `exponent` is the number of decimals of its minor unit and never changes."""

    kind: ThingKind
    code: AssetCode
    exponent: Annotated[int, Meta(ge=0, le=18, examples=[2])] = 0
    name: Name = ""
    attrs: dict[str, Any] = {}
    rights: Rights = []
    meter: Meter | None = None
    variant_of: VariantOf = None
    options: Options = {}
    bundle: Bundle = []
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
    rights: list[Right]
    meter: Meter | None
    variant_of: VariantOf
    options: dict[str, str]
    bundle: list[BundlePart]


class ThingPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some Things."""

    items: list[ThingView]
    next: Next = None


# Accounts

AccountFlagName = Literal["linked", "closed", "imported", "rollup"]


class BareAccountDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to open under an id of yours, for bare legs. Limits left out are none."""

    id: UUID
    asset: AssetCode
    code: Annotated[Unsigned16, Meta(description="Class of the chart of accounts, or your own; not 0.")]
    party: UUID | None = None
    parent: Annotated[UUID, Meta(description="Id of a roll-up account.")] | None = None
    flags: list[AccountFlagName] = []
    floor: Balance | None = None
    ceiling: Balance | None = None
    user_data_128: UUID | None = None
    user_data_64: Unsigned64 | None = None
    user_data_32: Unsigned32 = 0
    timestamp: Instant | None = None


class AccountDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to open: a key of the chart of accounts and an asset, which together are its name for ever.

    Limits left out are those of its class. `floor` is the least that credits minus debits may be, counting
    what is reserved; `ceiling` is the most.
    """

    key: AccountKey
    asset: AssetCode
    floor: Balance | None = None
    ceiling: Balance | None = None
    parent: Annotated[UUID, Meta(description="Id of a roll-up account.")] | None = None
    rollup: Annotated[bool, Meta(description="It takes no legs of its own; others name it as parent.")] = (
        False
    )


class GuardsPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New limits of an account. One that is left out stays as it is; null takes it away."""

    floor: Balance | msgspec.UnsetType | None = msgspec.UNSET
    ceiling: Balance | msgspec.UnsetType | None = msgspec.UNSET
    if_version: Version = 0


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """The four counters of an account, in minor units."""

    debits_pending: Amount
    debits_posted: Amount
    credits_pending: Amount
    credits_posted: Amount


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """An account as it is now."""

    id: UUID
    key: str
    asset: str
    party: UUID | None
    parent: UUID | None
    code: int
    rollup: bool
    closed: bool
    floor: Balance | None
    ceiling: Balance | None
    version: int
    created: Instant
    counters: Counters


class AccountPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some accounts."""

    items: list[AccountView]
    next: Next = None


class BalanceView(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has on its normal side, in minor units.

    The normal side is debits for assets, expenses, memos and units, else credits. `posted` is what was moved;
    `available` is that less what is held on its way out (`pending_out`); what is held on its way in
    (`pending_in`) never counts. `at` or `business` say as of when; by business time only `posted` is known.
    """

    account: UUID
    asset: str
    posted: Balance
    available: Balance | None = None
    pending_out: Amount | None = None
    pending_in: Amount | None = None
    version: int | None = None
    at: Instant | None = None
    business: Instant | None = None
    counters: Counters | None = None


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an account: one half of a leg that was posted. In a roll-up's Entry, `key` is that of the
    account below it."""

    side: Side
    amount: Amount
    asset: str
    timestamp: Instant
    business_time: Instant
    leg: UUID
    account: UUID
    key: str
    counter_account: UUID
    counter_key: str
    move: UUID | None
    seq: int | None
    code: int


class EntryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some Entries of an account."""

    items: list[EntryView]
    next: Next = None


class HistoryLine(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of an account right after a leg."""

    leg: UUID
    timestamp: Instant
    counters: Counters


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of an account's history."""

    items: list[HistoryLine]
    next: Next = None


# Moves


class LineDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a Move: how many of which Thing for how much in all. Only adjustments may go below 0."""

    thing: Annotated[str, Meta(max_length=64, description="Code of the Thing.", examples=["mug"])] = ""
    quantity: Balance | None = None
    amount: Balance | None = None
    order: Annotated[UUID, Meta(description="Refunds: the order whose line this reverses.")] | None = None
    order_line: Annotated[int, Meta(ge=1, description="The number of that line.")] | None = None
    reason: str = ""
    inputs: Annotated[
        dict[str, int | str], Meta(description="Columns of the kind's own.", examples=[{"tax": 420}])
    ] = {}


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
    pricing: Annotated[
        PricingDraft | None,
        Meta(description="Policies that give the lines, each a thing and a quantity, their amounts."),
    ] = None
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


class PreviewDraft(MoveDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to try out: a Move to create, or with `move` the next step of one that is there."""

    kind: Annotated[str, Meta(max_length=64, examples=["transfer"])] = ""
    move: UUID | None = None
    if_version: Version = 0


class PreviewEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line that a request would write. `effect`: it is posted, or only held, or released."""

    account: UUID
    key: str
    side: Side
    amount: Amount
    asset: str
    effect: Effect


class PreviewView(msgspec.Struct, frozen=True, kw_only=True):
    """What a request would do if it were sent now: its Entries, and the state it leads to."""

    state: str
    entries: list[PreviewEntry]


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


class LineView(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a Move."""

    line: int
    thing: str | None
    quantity: Balance | None
    amount: Balance | None
    order: UUID | None
    order_line: int | None
    reason: str | None
    inputs: dict[str, int | str] = {}


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted request to a Move."""

    seq: int
    request: UUID
    transition: str
    state: str
    timestamp: Instant
    business_time: Instant
    amount: Amount | None
    legs: int
    inputs: dict[str, Any]
    metadata: dict[str, Any]


class MoveEntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One line that a Move wrote: the two halves of a leg follow each other. `effect`: it was posted, or only
    held, or released."""

    seq: int
    leg: UUID
    account: UUID
    key: str
    side: Side
    amount: Amount
    asset: str
    effect: Effect
    timestamp: Instant


class MoveSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A Move: what its creation says, and where it stands now."""

    id: UUID
    kind: str
    state: str
    ended: bool
    version: int
    payer: UUID | None
    payee: UUID | None
    asset: str | None
    amount: Amount | None
    reverses: UUID | None
    reference: str | None
    metadata: dict[str, Any]
    business_time: Instant
    created: Instant
    changed: Instant


class MoveView(MoveSummary, frozen=True, kw_only=True):
    """A Move with everything: its lines, its steps, its Entries, and the Moves that reverse it."""

    lines: list[LineView]
    steps: list[StepView]
    entries: list[MoveEntryView]
    reversed_by: list[UUID]


class MovePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some Moves."""

    items: list[MoveSummary]
    next: Next = None


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
    user_data_64: Unsigned64 | None = None
    user_data_32: Unsigned32 = 0
    timestamp: Instant | None = None
    if_debit_version: Version = 0
    if_credit_version: Version = 0


class LegResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one leg, or of one account of a batch, in the order in which they were sent."""

    id: UUID
    code: str
    timestamp: Instant


class LegsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch of legs."""

    created: int
    repeated: int
    refused: int
    results: list[LegResult]


class AccountsAnswer(LegsAnswer, frozen=True, kw_only=True):
    """What became of a batch of accounts."""


class LegView(msgspec.Struct, frozen=True, kw_only=True):
    """A leg with everything resolved."""

    id: UUID
    debit: UUID
    credit: UUID
    amount: Amount
    asset: str
    code: int
    flags: list[str]
    pending_id: UUID | None
    timeout: int
    user_data_128: UUID | None
    user_data_64: Unsigned64
    user_data_32: int
    timestamp: Instant


# Books and operations


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine is: `serving`, `blocked` (new work is refused just now) or `stopped`, and why."""

    status: Literal["serving", "blocked", "stopped"]
    reason: str
    shard: int
    epoch: int
    lsn: int
    projected_lsn: int
    projection_lag_legs: int
    waiting: int
    accounts: int
    open_moves: int


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the engine takes work now, and if not, why."""

    ready: bool
    reason: str


class TrialBalanceLine(msgspec.Struct, frozen=True, kw_only=True):
    """All debits and all credits of one asset; the difference is 0 or the books are wrong."""

    asset: str
    accounts: int
    debits: Sum
    credits: Sum
    difference: Balance
    debits_pending: Sum
    credits_pending: Sum


class TrialBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Every asset of the ledger, and whether all of them balance."""

    balanced: bool
    lines: list[TrialBalanceLine]
