"""More JSON objects of the HTTP interface: kinds, next steps, holds, bulk lookups, and small changes.

The rules are those of `gateway.schemas`.
"""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from gateway.schemas import (
    AccountView,
    BalanceView,
    LegView,
    MoveSummary,
    Name,
    Next,
    PartyView,
    Reference,
    Relations,
    TrustScore,
    Version,
)
from gateway.wire import Amount, Instant

IDS_MAX: Final = 1_000
"""How many ids one bulk lookup takes."""

# Kinds of Moves and where a Move can go


class TransitionView(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a kind's state machine. `needs` and `takes` name fields of the request; `a|b` is one of
    them. The engine itself takes those that are `by_engine`."""

    name: str
    sources: list[str]
    target: str
    needs: list[str]
    takes: list[str]
    inputs: Annotated[dict[str, int | str], Meta(description="Inputs of this step alone, with defaults.")]
    by_engine: bool


class KindView(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of Move: its states, the first of which a Move starts in, and what leads from one to the next.

    `needs` and `takes` name fields of the creation, `usual` the transitions that it takes if it names none.
    """

    name: str
    code: Annotated[int, Meta(description="Of its legs.")]
    states: list[str]
    ended: Annotated[list[str], Meta(description="States from which nothing leads on.")]
    usual: str
    needs: list[str]
    takes: list[str]
    inputs: Annotated[dict[str, int | str], Meta(description="What else its postings name, with defaults.")]
    roles: Annotated[
        dict[str, str], Meta(description="Inputs that are the id of another Move or of a Party.")
    ]
    columns: Annotated[dict[str, int | str], Meta(description="What else its lines have, with defaults.")]
    transitions: list[TransitionView]


class KindPage(msgspec.Struct, frozen=True, kw_only=True):
    """All kinds."""

    items: list[KindView]
    next: Next = None


class NextStepView(msgspec.Struct, frozen=True, kw_only=True):
    """A transition of a Move's kind as it stands now: `allowed`, or `code` and `reason` say why not.

    `target` is the state it leads to, null if it does not lead on from here.
    """

    transition: str
    allowed: bool
    target: str | None
    needs: list[str]
    takes: list[str]
    code: str | None
    reason: str | None


class NextStepsView(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Move stands, and where it can go from there."""

    id: UUID
    kind: str
    state: str
    version: int
    transitions: list[NextStepView]


class ReversalDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a reversal may carry. There is one of each Move at most, so it needs no id."""

    reason: Annotated[str, Meta(max_length=64)] = ""
    reference: Reference | None = None
    metadata: dict[str, Any] | None = None
    business_time: Instant | None = None


# Holds


class HoldStepView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a hold, or of a part of it: an amount was posted, the rest released."""

    leg: Annotated[UUID | None, Meta(description="Null: it ran out by itself.")]
    how: Literal["posted", "voided", "expired"]
    amount: Amount
    held_before: Amount
    timestamp: Instant


class HoldView(msgspec.Struct, frozen=True, kw_only=True):
    """What a pending leg reserves. `held` is what is left of it; once it is resolved, what was left before.

    `closing`: while it is open, an account of it is closed.
    """

    id: UUID
    status: Literal["open", "posted", "voided", "expired"]
    debit: UUID
    debit_key: str
    credit: UUID
    credit_key: str
    asset: str
    held: Amount
    created: Instant
    expires: Instant | None
    closing: bool
    move: UUID | None
    seq: int | None
    code: int
    steps: Annotated[list[HoldStepView] | None, Meta(description="What became of it; null in lists.")] = None


class HoldPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some open holds."""

    items: list[HoldView]
    next: Next = None


# Bulk lookups

Ids = Annotated[list[UUID], Meta(min_length=1, max_length=IDS_MAX, description="Of what is looked up.")]
Missing = Annotated[list[UUID], Meta(description="Ids that nothing has.")]


class IdsDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ids to look up at once."""

    ids: Ids


class BalancesDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accounts whose balances are wanted, now or as of a recording time, a business time, or both."""

    ids: Ids
    at: Instant | None = None
    business: Instant | None = None


class FoundAccounts(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts that were found, in the order of the ids."""

    items: list[AccountView]
    missing: Missing


class FoundBalances(msgspec.Struct, frozen=True, kw_only=True):
    """The balances of the accounts that were found, in the order of the ids."""

    items: list[BalanceView]
    missing: Missing


class FoundMoves(msgspec.Struct, frozen=True, kw_only=True):
    """The Moves that were found, in the order of the ids."""

    items: list[MoveSummary]
    missing: Missing


class FoundLegs(msgspec.Struct, frozen=True, kw_only=True):
    """The legs that were found, in the order of the ids."""

    items: list[LegView]
    missing: Missing


class FoundParties(msgspec.Struct, frozen=True, kw_only=True):
    """The Parties that were found, in the order of the ids."""

    items: list[PartyView]
    missing: Missing


# Small changes


class PartyPatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change about a Party. What is left out stays; profile and relations are replaced as a whole."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    profile: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    trust: TrustScore | msgspec.UnsetType | None = msgspec.UNSET
    relations: Relations | msgspec.UnsetType = msgspec.UNSET
    if_version: Version = 0


class CloseDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to close an account. One that still has something is closed only with `even_with_balance`."""

    even_with_balance: bool = False
    if_version: Version = 0


class ReopenDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reopening needs nothing."""
