"""Every request of the interface as a typed call, against a real gateway."""

import re
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import pytest

from engine.entities import PartyKind, Side
from gateway.client import AsyncClient, Client, RequestRefused, api
from gateway.client.calls import Call, Listing
from gateway.quote_schemas import PricingDraft, QuoteDraft, QuoteLineDraft
from gateway.reading_schemas import BalancesDraft, PartyPatch
from gateway.schemas import (
    AccountDraft,
    BareAccountDraft,
    GuardsPatch,
    JournalLegDraft,
    LegDraft,
    MoveDraft,
    PartyDraft,
    PreviewDraft,
    ThingDraft,
    TransitionDraft,
)
from gateway.webhooks.schemas import Rotation, WebhookDraft, WebhookPatch
from gateway.webhooks.source_schemas import SourceDraft, SourcePatch, SourceRule
from gateway.wire import Amount, Balance
from tests.fixtures_cluster import LOCAL
from tests.fixtures_gateway import RunningGateway
from tests.integration.test_access import ROUTES
from tests.integration.test_http_api import fresh_id

RUNTIMES = LOCAL

ID: Final = UUID(int=7)
NOWHERE: Final = "http://127.0.0.1:9/hook"
QUOTE: Final = QuoteDraft(
    asset="x", lines=[QuoteLineDraft(thing="x", quantity=1)], pricing=PricingDraft(policies=["x"])
)
COVERED: Final = re.compile(
    r"/v1/(accounts|entries|events|holds|kinds|legs|moves|parties|things|trial-|webhook)(?!.*/messages$).*"
    r"|/health|/ready"
)


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Client]:
    with Client(gateway.url) as client:
        yield client


def every_call() -> list[Call[Any]]:
    """A call by each function there is."""
    party = PartyDraft(kind=PartyKind.PERSON)
    found: list[Call[Any] | Listing[Any]] = [
        *(api.create_party(party), api.party(ID), api.change_party(ID, PartyPatch()), api.parties()),
        *(api.look_up_parties([ID]), api.thing("x"), api.things()),
        api.create_thing(ThingDraft(kind="asset", code="x")),  # type: ignore[arg-type]  # as text
        *(api.open_account(AccountDraft(key="A:x", asset="x")), api.open_accounts([]), api.account(ID)),
        *(api.accounts(), api.change_limits(ID, GuardsPatch()), api.close_account(ID)),
        *(api.reopen_account(ID), api.look_up_accounts([ID]), api.balance(ID)),
        *(api.balances(BalancesDraft(ids=[ID])), api.account_entries(ID), api.account_history(ID)),
        *(api.entries(), api.holds(), api.hold(ID), api.post_legs([]), api.leg(ID), api.look_up_legs([ID])),
        api.post_leg(LegDraft(id=ID, amount=Amount(1))),
        *(api.create_move(MoveDraft(kind="x")), api.step(ID, "post"), api.preview(PreviewDraft())),
        *(
            api.reverse(ID),
            api.preview_reversal(ID),
            api.move(ID),
            api.explanation(ID),
            api.next_steps(ID),
            api.moves(),
        ),
        *(api.price(QUOTE), api.move_quote(ID)),
        *(api.look_up_moves([ID]), api.kinds(), api.kind("x"), api.trial_balance(), api.events_page()),
        *(api.health(), api.ready(), api.webhooks(), api.webhook(ID), api.remove_webhook(ID)),
        *(api.create_webhook(WebhookDraft(url=NOWHERE)), api.change_webhook(ID, WebhookPatch())),
        *(api.rotate_webhook(ID), api.deliveries(ID), api.dead_events(ID), api.replay_dead_events(ID)),
        *(api.sources(), api.source("x"), api.remove_source("x"), api.rotate_source("x")),
        *(api.create_source(SourceDraft(name="x", rules=[])), api.change_source("x", SourcePatch(rules=[]))),
    ]
    return [one.page() if isinstance(one, Listing) else one for one in found]


def test_every_route_has_a_call_and_every_call_a_route() -> None:
    def fits(call: Call[Any], template: str) -> bool:
        return re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", template), call.path) is not None

    calls = every_call()
    routes = [route for route in ROUTES if route.method != "OPTIONS" and COVERED.fullmatch(route.template)]
    missing = [
        str(route)
        for route in routes
        if not any(call.method == route.method and fits(call, route.template) for call in calls)
    ]
    assert missing == []
    for call in calls:
        assert any(call.method == route.method and fits(call, route.template) for route in routes), call


def test_a_tour(client: Client) -> None:
    ada, bob = (
        client.call(api.create_party(PartyDraft(kind=PartyKind.PERSON, name=name))) for name in ("Ada", "Bob")
    )
    wallet = client.call(api.open_account(AccountDraft(key=f"L:wallet/{ada.id}", asset="GBP")))
    legs = [JournalLegDraft(debit="A:bank", credit=wallet.key, amount=Amount(100), asset="GBP")]
    client.call(api.create_move(MoveDraft(kind="journal", legs=legs)))
    usual: dict[str, Any] = {"kind": "transfer", "payer": ada.id, "payee": bob.id, "asset": "GBP"}
    tried = client.call(api.preview(PreviewDraft(**usual, amount=Amount(30))))
    assert [(entry.side, entry.amount) for entry in tried.entries] == [(Side.DEBIT, 30), (Side.CREDIT, 30)]
    made = client.ask(api.create_move(MoveDraft(**usual, amount=Amount(30), reference=f"r{ada.id}")))
    assert made.lsn > 0
    assert made.content.state == "posted"
    found = list(client.items(api.moves(party=ada.id, kind="transfer", limit=1), after=made.lsn))
    assert [move.id for move in found] == [made.content.id]
    assert client.call(api.balance(wallet.id)).posted == 70
    held = client.call(api.create_move(MoveDraft(**usual, amount=Amount(50), transition="hold")))
    [hold] = client.items(api.holds(move=held.id))
    assert hold.held == 50
    assert {step.transition for step in client.call(api.next_steps(held.id)).transitions} >= {"post", "void"}
    done = client.call(api.step(held.id, "post", TransitionDraft(amount=Amount(20))))
    assert done.ended
    assert client.call(api.reverse(made.content.id)).kind == "reversal"
    assert client.call(api.move(made.content.id)).reversed_by
    assert client.call(api.balance(wallet.id)).posted == 80
    lines = list(client.items(api.account_entries(wallet.id, limit=2, order="oldest")))
    assert [int(line.amount) for line in lines] == [100, 30, 20, 30]
    assert client.call(api.trial_balance()).balanced
    with pytest.raises(RequestRefused, match="below_floor"):
        client.call(api.create_move(MoveDraft(**usual, amount=Amount(81))))


def test_versions_and_repeats(client: Client) -> None:
    draft = PartyDraft(kind=PartyKind.ORG, name="Org", id=UUID(fresh_id()))
    first, again = client.ask(api.create_party(draft)), client.ask(api.create_party(draft))
    assert (first.replayed, again.replayed) == (False, True)
    assert first.version == again.version == 1
    changed = client.ask(api.change_party(first.content.id, PartyPatch(name="Other", if_version=1)))
    assert changed.version == 2
    with pytest.raises(RequestRefused, match="party_version_differs"):
        client.call(api.change_party(first.content.id, PartyPatch(name="Third", if_version=1)))
    key = f"L:wallet/{first.content.id}"
    account = client.call(api.open_account(AccountDraft(key=key, asset="GBP")))
    limited = client.call(api.change_limits(account.id, GuardsPatch(floor=Balance(-5))))
    assert limited.floor == -5
    assert client.call(api.close_account(account.id)).closed
    assert not client.call(api.reopen_account(account.id)).closed


def test_bare_legs_and_lookups(client: Client) -> None:
    one, other = UUID(fresh_id()), UUID(fresh_id())
    opened = client.call(
        api.open_accounts([BareAccountDraft(id=id, asset="GBP", code=1) for id in (one, other)])
    )
    assert opened.created == 2
    leg = LegDraft(
        id=UUID(fresh_id(account=str(one))), debit=one, credit=other, amount=Amount(5), asset="GBP", code=1
    )
    assert client.call(api.post_leg(leg)).code == "created"
    assert client.call(api.post_legs([leg])).repeated == 1
    assert client.call(api.leg(leg.id)).amount == 5
    found = client.call(api.look_up_accounts([other, ID, one]))
    assert [account.id for account in found.items] == [other, one]
    assert found.missing == [ID]
    assert [b.account for b in client.call(api.balances(BalancesDraft(ids=[one]))).items] == [one]
    assert len(list(client.items(api.account_history(one)))) == 1


def test_webhooks_both_ways(client: Client) -> None:
    draft = WebhookDraft(url=NOWHERE, name="ours")
    made = client.call(api.create_webhook(draft))
    id = made.webhook.id
    assert [one.id for one in client.items(api.webhooks(order="newest"))] == [id]
    assert client.call(api.change_webhook(id, WebhookPatch(state="paused"))).state == "paused"
    assert client.call(api.rotate_webhook(id, Rotation(overlap_s=0))).secret != made.secret
    assert list(client.items(api.deliveries(id, failed=True))) == []
    assert list(client.items(api.dead_events(id))) == []
    assert client.call(api.replay_dead_events(id)).events == 0
    assert client.call(api.remove_webhook(id)).name == "ours"
    rule = SourceRule(when={"type": "paid"}, transition="post", reference="data.order")
    assert client.call(api.create_source(SourceDraft(name="acme", rules=[rule]))).secret
    assert client.call(api.source("acme")).rules == [rule]
    assert [one.name for one in client.items(api.sources(limit=1))] == ["acme"]
    changed = client.call(api.change_source("acme", SourcePatch(rules=[rule, rule])))
    assert len(changed.rules) == 2
    assert client.call(api.rotate_source("acme")).source.old_secret_until is not None
    assert client.call(api.remove_source("acme")).name == "acme"


async def test_the_same_for_tasks(gateway: RunningGateway) -> None:
    async with AsyncClient(gateway.url) as client:
        made = await client.ask(api.create_party(PartyDraft(kind=PartyKind.PERSON, name="Tess")))
        names = [party.name async for party in client.items(api.parties(name="Tess"), after=made.lsn)]
        assert names == ["Tess"]
        assert (await client.call(api.party(made.content.id))).name == "Tess"
