"""Every request of the interface as a typed call, for either client.

    from gateway.client import Client, api
    from gateway.schemas import MoveDraft

    with Client("http://127.0.0.1:8330") as client:
        ada = client.call(api.create_party(PartyDraft(kind=PartyKind.PERSON, name="Ada")))
        for move in client.items(api.moves(party=ada.id)):
            print(move.state, move.amount)

A function here says what is asked and what the answer is; `client.call` asks, and gives the answer as the
struct that the server has for it. `client.ask` gives with it the position in the log, the version, and
whether it was a repeat. Writes that have no id get one, so they are repeated safely while the call lasts;
give one to be able to repeat them later.
"""

from collections.abc import Sequence
from urllib.parse import quote
from uuid import UUID

from engine.entities import PartyKind, Side, ThingKind
from gateway.client.calls import Call, Listing, get, listing, post
from gateway.events.schemas import EventPage
from gateway.explanation_schemas import ExplanationView
from gateway.quote_schemas import QuoteDraft, QuoteView
from gateway.reading_schemas import (
    BalancesDraft,
    CloseDraft,
    FoundAccounts,
    FoundBalances,
    FoundLegs,
    FoundMoves,
    FoundParties,
    HoldView,
    IdsDraft,
    KindView,
    NextStepsView,
    PartyPatch,
    ReopenDraft,
    ReversalDraft,
)
from gateway.schemas import (
    AccountDraft,
    AccountsAnswer,
    AccountView,
    BalanceView,
    BareAccountDraft,
    EntryView,
    GuardsPatch,
    HealthView,
    HistoryLine,
    LegDraft,
    LegResult,
    LegsAnswer,
    LegView,
    MoveAnswerView,
    MoveDraft,
    MoveSummary,
    MoveView,
    PartyDraft,
    PartyView,
    PreviewDraft,
    PreviewView,
    Readiness,
    ThingDraft,
    ThingView,
    TransitionDraft,
    TrialBalance,
)
from gateway.webhooks.schemas import (
    DeadEventView,
    DeliveryView,
    Replay,
    Replayed,
    Rotation,
    WebhookDraft,
    WebhookPatch,
    WebhookView,
    WebhookWithSecret,
)
from gateway.webhooks.source_schemas import (
    SourceDraft,
    SourcePatch,
    SourceRotation,
    SourceView,
    SourceWithSecret,
)

Time = str | int
"""RFC 3339 with an offset, or nanoseconds since 1970."""


# Parties


def create_party(draft: PartyDraft) -> Call[PartyView]:
    """Register a Party."""
    return post("/v1/parties", PartyView, draft)


def party(id: UUID | str) -> Call[PartyView]:
    """One Party."""
    return get(f"/v1/parties/{id}", PartyView)


def change_party(id: UUID | str, patch: PartyPatch) -> Call[PartyView]:
    """Change a Party; what is left out stays."""
    return Call(method="PATCH", path=f"/v1/parties/{id}", answer=PartyView, body=patch, keyed=True)


def parties(
    *, kind: PartyKind | None = None, name: str | None = None, related_to: UUID | str | None = None,
    relation: str | None = None, trust_min: int | None = None, order: str | None = None,
    limit: int | None = None,
) -> Listing[PartyView]:  # fmt: skip
    """Parties, those that fit."""
    return listing(
        "/v1/parties", PartyView, kind=kind, name=name, related_to=related_to, relation=relation,
        trust_min=trust_min, order=order, limit=limit,
    )  # fmt: skip


def look_up_parties(ids: Sequence[UUID]) -> Call[FoundParties]:
    """Up to 1,000 Parties at once."""
    return post("/v1/parties/lookup", FoundParties, IdsDraft(ids=list(ids)))


# Things


def create_thing(draft: ThingDraft) -> Call[ThingView]:
    """Add a Thing to the catalogue."""
    return post("/v1/things", ThingView, draft)


def thing(code: str) -> Call[ThingView]:
    """One Thing by its code."""
    return get(f"/v1/things/{quote(code, safe='')}", ThingView)


def things(
    *, kind: ThingKind | None = None, prefix: str | None = None, variant_of: str | None = None,
    part: str | None = None, order: str | None = None, limit: int | None = None,
) -> Listing[ThingView]:  # fmt: skip
    """Things, those that fit."""
    return listing(
        "/v1/things", ThingView, kind=kind, prefix=prefix, variant_of=variant_of, part=part, order=order,
        limit=limit,
    )  # fmt: skip


# Accounts


def open_account(draft: AccountDraft) -> Call[AccountView]:
    """Open the account of a key and an asset, or find it."""
    return post("/v1/accounts", AccountView, draft)


def open_accounts(drafts: Sequence[BareAccountDraft], *, answers: str | None = None) -> Call[AccountsAnswer]:
    """Open accounts under ids of yours; `answers="refused"` leaves out those that are there."""
    return post("/v1/accounts", AccountsAnswer, list(drafts), answers=answers)


def account(id: UUID | str) -> Call[AccountView]:
    """One account as it is now."""
    return get(f"/v1/accounts/{id}", AccountView)


def accounts(
    *, key: str | None = None, prefix: str | None = None, party: UUID | str | None = None,
    asset: str | None = None, parent: UUID | str | None = None, of_class: str | None = None,
    closed: bool | None = None, rollup: bool | None = None, order: str | None = None,
    limit: int | None = None,
) -> Listing[AccountView]:  # fmt: skip
    """Accounts, those that fit."""
    return listing(
        "/v1/accounts", AccountView, key=key, prefix=prefix, party=party, asset=asset, parent=parent,
        closed=closed, rollup=rollup, order=order, limit=limit, **{"class": of_class},
    )  # fmt: skip


def change_limits(id: UUID | str, patch: GuardsPatch) -> Call[AccountView]:
    """Set or take away an account's floor or ceiling."""
    return Call(method="PATCH", path=f"/v1/accounts/{id}", answer=AccountView, body=patch, keyed=True)


def close_account(id: UUID | str, draft: CloseDraft | None = None) -> Call[AccountView]:
    """Let an account refuse everything but the release of what it holds."""
    return post(f"/v1/accounts/{id}/close", AccountView, draft or CloseDraft(), keyed=True)


def reopen_account(id: UUID | str) -> Call[AccountView]:
    """Take back that it was closed."""
    return post(f"/v1/accounts/{id}/reopen", AccountView, ReopenDraft(), keyed=True)


def look_up_accounts(ids: Sequence[UUID]) -> Call[FoundAccounts]:
    """Up to 1,000 accounts at once."""
    return post("/v1/accounts/lookup", FoundAccounts, IdsDraft(ids=list(ids)))


def balance(id: UUID | str, *, at: Time | None = None, business: Time | None = None) -> Call[BalanceView]:
    """What an account has, now or as of a time of recording, of business, or both."""
    return get(f"/v1/accounts/{id}/balance", BalanceView, at=at, business=business)


def balances(draft: BalancesDraft) -> Call[FoundBalances]:
    """What up to 1,000 accounts have, now or as of a time."""
    return post("/v1/accounts/balances", FoundBalances, draft)


def account_entries(
    id: UUID | str, *, side: Side | None = None, start: Time | None = None, end: Time | None = None,
    code: int | None = None, order: str | None = None, limit: int | None = None,
) -> Listing[EntryView]:  # fmt: skip
    """The Entries of an account."""
    return listing(
        f"/v1/accounts/{id}/entries", EntryView, side=side, start=start, end=end, code=code, order=order,
        limit=limit,
    )  # fmt: skip


def account_history(
    id: UUID | str, *, side: Side | None = None, start: Time | None = None, end: Time | None = None,
    code: int | None = None, order: str | None = None, limit: int | None = None,
) -> Listing[HistoryLine]:  # fmt: skip
    """The counters of an account after each of its legs."""
    return listing(
        f"/v1/accounts/{id}/history", HistoryLine, side=side, start=start, end=end, code=code, order=order,
        limit=limit,
    )  # fmt: skip


# Entries, holds, legs


def entries(
    *, party: UUID | str | None = None, asset: str | None = None, kind: str | None = None,
    start: Time | None = None, end: Time | None = None, order: str | None = None, limit: int | None = None,
) -> Listing[EntryView]:  # fmt: skip
    """Entries of the whole ledger, those that fit."""
    return listing(
        "/v1/entries", EntryView, party=party, asset=asset, kind=kind, start=start, end=end, order=order,
        limit=limit,
    )  # fmt: skip


def holds(
    *, account: UUID | str | None = None, move: UUID | str | None = None, asset: str | None = None,
    expires_until: Time | None = None, closing: bool | None = None, order: str | None = None,
    limit: int | None = None,
) -> Listing[HoldView]:  # fmt: skip
    """Open holds, those that fit."""
    return listing(
        "/v1/holds", HoldView, account=account, move=move, asset=asset, expires_until=expires_until,
        closing=closing, order=order, limit=limit,
    )  # fmt: skip


def hold(id: UUID | str) -> Call[HoldView]:
    """A hold, and what became of it."""
    return get(f"/v1/holds/{id}", HoldView)


def post_leg(draft: LegDraft) -> Call[LegResult]:
    """Write one bare leg."""
    return post("/v1/legs", LegResult, draft)


def post_legs(drafts: Sequence[LegDraft], *, answers: str | None = None) -> Call[LegsAnswer]:
    """Write bare legs as one batch. `Client.post_legs` takes any number, and is quicker."""
    return post("/v1/legs", LegsAnswer, list(drafts), answers=answers)


def leg(id: UUID | str) -> Call[LegView]:
    """A leg with everything resolved."""
    return get(f"/v1/legs/{id}", LegView)


def look_up_legs(ids: Sequence[UUID]) -> Call[FoundLegs]:
    """Up to 1,000 legs at once."""
    return post("/v1/legs/lookup", FoundLegs, IdsDraft(ids=list(ids)))


# Moves


def create_move(draft: MoveDraft) -> Call[MoveAnswerView]:
    """Make a Move."""
    return post("/v1/moves", MoveAnswerView, draft)


def step(id: UUID | str, transition: str, draft: TransitionDraft | None = None) -> Call[MoveAnswerView]:
    """Let a Move take a step, or several joined by `+`."""
    path = f"/v1/moves/{id}/{quote(transition, safe='+')}"
    return post(path, MoveAnswerView, draft or TransitionDraft())


def preview(draft: PreviewDraft) -> Call[PreviewView]:
    """The Entries of a request, or its refusal; nothing is written."""
    return post("/v1/moves/preview", PreviewView, draft)


def price(draft: QuoteDraft) -> Call[QuoteView]:
    """What an order costs by its policies, and why; nothing is written."""
    return post("/v1/moves/quote", QuoteView, draft)


def move_quote(id: UUID | str) -> Call[QuoteView]:
    """What a Move's lines came from."""
    return get(f"/v1/moves/{id}/quote", QuoteView)


def reverse(id: UUID | str, draft: ReversalDraft | None = None) -> Call[MoveAnswerView]:
    """Take back what a Move has posted, as a whole and once."""
    return post(f"/v1/moves/{id}/reversal", MoveAnswerView, draft or ReversalDraft())


def preview_reversal(id: UUID | str, draft: ReversalDraft | None = None) -> Call[PreviewView]:
    """The Entries that a reversal would write."""
    return post(f"/v1/moves/{id}/reversal/preview", PreviewView, draft or ReversalDraft())


def move(id: UUID | str) -> Call[MoveView]:
    """A Move with its lines, steps and Entries."""
    return get(f"/v1/moves/{id}", MoveView)


def explanation(id: UUID | str) -> Call[ExplanationView]:
    """Why a Move's amounts are what they are, in words."""
    return get(f"/v1/moves/{id}/explanation", ExplanationView)


def next_steps(id: UUID | str) -> Call[NextStepsView]:
    """Where a Move can go from where it stands, and why not elsewhere."""
    return get(f"/v1/moves/{id}/transitions", NextStepsView)


def moves(
    *, party: UUID | str | None = None, payer: UUID | str | None = None, payee: UUID | str | None = None,
    kind: str | None = None, state: str | None = None, ended: bool | None = None, asset: str | None = None,
    reference: str | None = None, reverses: UUID | str | None = None, start: Time | None = None,
    end: Time | None = None, business_start: Time | None = None, business_end: Time | None = None,
    order: str | None = None, limit: int | None = None,
) -> Listing[MoveSummary]:  # fmt: skip
    """Moves, those that fit."""
    return listing(
        "/v1/moves", MoveSummary, party=party, payer=payer, payee=payee, kind=kind, state=state, ended=ended,
        asset=asset, reference=reference, reverses=reverses, start=start, end=end,
        business_start=business_start, business_end=business_end, order=order, limit=limit,
    )  # fmt: skip


def look_up_moves(ids: Sequence[UUID]) -> Call[FoundMoves]:
    """Up to 1,000 Moves at once."""
    return post("/v1/moves/lookup", FoundMoves, IdsDraft(ids=list(ids)))


def kinds() -> Listing[KindView]:
    """All kinds of Moves."""
    return listing("/v1/kinds", KindView)


def kind(name: str) -> Call[KindView]:
    """A kind of Moves: its states, and what leads from one to the next."""
    return get(f"/v1/kinds/{quote(name, safe='')}", KindView)


# Books, events and operations


def trial_balance(*, at: Time | None = None) -> Call[TrialBalance]:
    """All debits and credits of each asset, now or as of a time of recording."""
    return get("/v1/trial-balance", TrialBalance, at=at)


def events_page(
    *, after: str = "start", type: Sequence[str] = (), party: Sequence[UUID] = (),
    account: Sequence[UUID] = (), kind: Sequence[str] = (), asset: Sequence[str] = (),
) -> Call[EventPage]:  # fmt: skip
    """A page of what happened. `Client.events` goes on without end."""
    return get(
        "/v1/events", EventPage, after=after, type=type, party=party, account=account, kind=kind, asset=asset
    )


def health() -> Call[HealthView]:
    """How the engine is."""
    return get("/health", HealthView)


def ready() -> Call[Readiness]:
    """Whether it takes work."""
    return get("/ready", Readiness)


# Webhooks


def create_webhook(draft: WebhookDraft) -> Call[WebhookWithSecret]:
    """Have events sent to a URL."""
    return post("/v1/webhooks", WebhookWithSecret, draft)


def webhook(id: UUID | str) -> Call[WebhookView]:
    """How far a webhook has got, and how it is doing."""
    return get(f"/v1/webhooks/{id}", WebhookView)


def webhooks(*, order: str | None = None, limit: int | None = None) -> Listing[WebhookView]:
    """Where events are sent to."""
    return listing("/v1/webhooks", WebhookView, order=order, limit=limit)


def change_webhook(id: UUID | str, patch: WebhookPatch) -> Call[WebhookView]:
    """Change a webhook; what is left out stays."""
    return Call(method="PATCH", path=f"/v1/webhooks/{id}", answer=WebhookView, body=patch, keyed=True)


def remove_webhook(id: UUID | str) -> Call[WebhookView]:
    """Send nothing more, and forget everything about it."""
    return Call(method="DELETE", path=f"/v1/webhooks/{id}", answer=WebhookView)


def rotate_webhook(id: UUID | str, rotation: Rotation | None = None) -> Call[WebhookWithSecret]:
    """Give a webhook a new secret; every call makes another one."""
    return post(f"/v1/webhooks/{id}/rotate", WebhookWithSecret, rotation or Rotation())


def deliveries(
    id: UUID | str, *, failed: bool | None = None, order: str | None = None, limit: int | None = None
) -> Listing[DeliveryView]:
    """The newest attempts to deliver."""
    return listing(f"/v1/webhooks/{id}/deliveries", DeliveryView, failed=failed, order=order, limit=limit)


def dead_events(
    id: UUID | str, *, order: str | None = None, limit: int | None = None
) -> Listing[DeadEventView]:
    """Events that are not tried any more."""
    return listing(f"/v1/webhooks/{id}/dead", DeadEventView, order=order, limit=limit)


def replay_dead_events(id: UUID | str, replay: Replay | None = None) -> Call[Replayed]:
    """Try dead events again, all of them or those that are named."""
    return post(f"/v1/webhooks/{id}/replay", Replayed, replay or Replay())


def create_source(draft: SourceDraft) -> Call[SourceWithSecret]:
    """Take somebody's webhooks in."""
    return post("/v1/webhook-sources", SourceWithSecret, draft)


def source(name: str) -> Call[SourceView]:
    """A source of webhooks and its rules."""
    return get(f"/v1/webhook-sources/{quote(name, safe='')}", SourceView)


def sources(*, order: str | None = None, limit: int | None = None) -> Listing[SourceView]:
    """Whose webhooks are taken in."""
    return listing("/v1/webhook-sources", SourceView, order=order, limit=limit)


def change_source(name: str, patch: SourcePatch) -> Call[SourceView]:
    """Give a source other rules."""
    path = f"/v1/webhook-sources/{quote(name, safe='')}"
    return Call(method="PATCH", path=path, answer=SourceView, body=patch)


def remove_source(name: str) -> Call[SourceView]:
    """Refuse a source's messages from now on."""
    path = f"/v1/webhook-sources/{quote(name, safe='')}"
    return Call(method="DELETE", path=path, answer=SourceView)


def rotate_source(name: str, rotation: SourceRotation | None = None) -> Call[SourceWithSecret]:
    """Give a source a new secret: one that is made, or one of yours."""
    path = f"/v1/webhook-sources/{quote(name, safe='')}/rotate"
    return post(path, SourceWithSecret, rotation or SourceRotation())
