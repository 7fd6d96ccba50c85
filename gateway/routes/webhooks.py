"""Webhooks: endpoints that events are sent to, their secrets, what they took and what they did not."""

import time
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.openapi.spec import Example
from litestar.params import Body, QueryParameter

from actors.errors import NotFound
from actors.runtime import Engine
from engine.commands import Refusal
from gateway.cursors import seal, unseal
from gateway.events.filters import EventFilter, wanted_by
from gateway.events.positions import cursor_of, cursor_text
from gateway.idempotency import IdempotencyKey, claim_only, request_id
from gateway.openapi import REPLAYED, answers
from gateway.problems import gateway_problem, refusal
from gateway.routes.parameters import LIMIT_DEFAULT, Cursor, EngineOf, IdInPath, Limit, new_id
from gateway.routes.sense import Order, listing
from gateway.security.authorization import caller_of
from gateway.security.confined import forbidden
from gateway.webhooks.courier import FILTER_NAMES
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.rotation import given_or_made, overlap_of, rotate
from gateway.webhooks.schemas import (
    DeadEventPage,
    DeadEventView,
    DeliveryPage,
    DeliveryView,
    Replay,
    Replayed,
    Rotation,
    WebhookDraft,
    WebhookPage,
    WebhookPatch,
    WebhookView,
    WebhookWithSecret,
)
from gateway.webhooks.signatures import secret_text
from gateway.webhooks.targets import TargetRefused, check_url
from gateway.wire import Answer, Instant, JsonBody
from persistence.errors import TooManyWebhooks
from persistence.webhooks import Place, StoredWebhook, WebhookChange

PATH: Final = "/v1/webhooks"
DRAFT: Final = {"url": "https://example.com/tessera", "filter": {"types": ["move"], "kinds": ["transfer"]}}
VIEW: Final = {
    "id": "019aa0c2-7c00-7000-8000-000000000e3d",
    "url": "https://example.com/tessera",
    "name": "",
    "filter": {"types": ["move"], "parties": [], "accounts": [], "kinds": ["transfer"], "assets": []},
    "state": "active",
    "reason": "",
    "created": "2011-12-09T12:50:00.000000001Z",
    "failing_since": None,
    "position": "0.43.0",
    "waiting": 0,
    "dead": 0,
    "old_secret_until": None,
}
WITH_SECRET: Final = {"webhook": VIEW, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
DELIVERY: Final = {
    "event": "0.42.3",
    "type": "move.created",
    "time": "2011-12-09T12:50:00.000000001Z",
    "attempt": 1,
    "status": 204,
    "error": "",
    "took_us": 31250,
}
DEAD: Final = {
    "event": "0.42.3",
    "type": "move.created",
    "attempts": 14,
    "last_attempt": "2011-12-12T02:50:00.000000001Z",
    "status": 500,
    "error": "answered 500",
}
REFUSALS: Final = (
    "malformed_json",
    "invalid_parameter",
    "invalid_cursor",
    "invalid_field",
    "missing_field",
    "unknown_field",
)

Decoder: Final = msgspec.json.Decoder(EventFilter)


def _dispatcher(request: Request[Any, Any, Any]) -> Dispatcher:
    found: Dispatcher = request.app.state.webhooks
    return found


@post(
    PATH,
    dto=JsonBody[WebhookDraft],
    tags=["Webhooks"],
    summary="Have events sent to a URL",
    response_headers=[REPLAYED],
    responses=answers(
        WebhookWithSecret,
        WITH_SECRET,
        status=201,
        repeated=True,
        refusals=(*REFUSALS, "too_many_webhooks", "exists_with_different_content"),
    ),
)
async def create_webhook(
    request: Request[Any, Any, Any],
    data: Annotated[WebhookDraft, Body(examples=[Example(value=DRAFT)])],
    engine: EngineOf,
    key: IdempotencyKey = None,
) -> Answer[WebhookWithSecret]:
    """The answer has the secret that its events are signed with; it is shown this once. Whoever makes or
    changes a webhook needs the scope `events:read` too."""
    dispatcher = _dispatcher(request)
    filter = data.filter or EventFilter()
    await _check(request, engine, data.url, filter)
    cursor = cursor_text(cursor_of(data.after, engine.log_ends(), "after"))
    id = UUID(int=await request_id(engine, key, f"POST {PATH}", data, data.id, lambda: new_id(engine)))
    secret = given_or_made()
    new = StoredWebhook(
        id=id,
        tenant=engine.settings.tenant,
        created=time.time_ns(),
        url=data.url,
        name=data.name,
        filter=msgspec.json.encode(filter),
        cursor=cursor,
        secret=secret,
        principal=caller_of(request.scope).principal.name,
    )
    try:
        made = await dispatcher.stored.add(new)
    except TooManyWebhooks as exc:
        raise gateway_problem("too_many_webhooks", f"There may be {exc.limit} webhooks.") from exc
    if made:
        await dispatcher.changed()
        return Answer(WebhookWithSecret(webhook=_view(new), secret=secret_text(secret)), 201)
    found = await _found(dispatcher, id)
    differing = [name for name in ("url", "name", "filter") if getattr(found, name) != getattr(new, name)]
    if differing:
        raise refusal(Refusal.EXISTS_WITH_DIFFERENT_CONTENT, f"{differing[0]}: the webhook has another one")
    return Answer(WebhookWithSecret(webhook=_view(found), secret=None), 200, {"Idempotent-Replayed": "true"})


@get(
    PATH,
    tags=["Webhooks"],
    summary="Where events are sent to",
    responses=answers(
        WebhookPage, {"items": [VIEW], "next": None}, refusals=("invalid_parameter", "invalid_cursor")
    ),
)
async def list_webhooks(
    request: Request[Any, Any, Any],
    order: Order = "oldest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Answer[WebhookPage]:
    """In order of their ids, which for ids that the server made is roughly the order of creation."""
    path = listing(PATH, order=order)
    after = unseal(path, cursor)
    stored = _dispatcher(request).stored
    found = await stored.page(UUID(after) if after else None, limit + 1, newest_first=order == "newest")
    more = str(found[limit - 1].id) if len(found) > limit else None
    return Answer(WebhookPage(items=[_view(one) for one in found[:limit]], next=seal(path, more)))


@get(
    PATH + "/{webhook_id:str}",
    tags=["Webhooks"],
    summary="One webhook",
    responses=answers(WebhookView, VIEW, refusals=("invalid_parameter", "not_found")),
)
async def read_webhook(request: Request[Any, Any, Any], webhook_id: IdInPath) -> Answer[WebhookView]:
    """How far it has got, and how it is doing."""
    return Answer(_view(await _found(_dispatcher(request), webhook_id)))


@patch(
    PATH + "/{webhook_id:str}",
    dto=JsonBody[WebhookPatch],
    tags=["Webhooks"],
    summary="Change a webhook",
    responses=answers(WebhookView, VIEW, refusals=(*REFUSALS, "not_found")),
)
async def change_webhook(
    request: Request[Any, Any, Any],
    webhook_id: IdInPath,
    data: Annotated[WebhookPatch, Body(examples=[Example(value={"state": "paused"})])],
    engine: EngineOf,
    key: IdempotencyKey = None,
) -> Answer[WebhookView]:
    """From the next attempt on. A paused one stays where it is in the log, and goes on from there."""
    await _check(request, engine, data.url, data.filter)
    dispatcher = _dispatcher(request)
    await _found(dispatcher, webhook_id)
    await claim_only(engine, key, f"PATCH {PATH}/{webhook_id}", data)
    change = WebhookChange(
        url=data.url,
        name=data.name,
        filter=None if data.filter is None else msgspec.json.encode(data.filter),
        state=data.state,
    )
    await dispatcher.stored.change(webhook_id, change)
    await dispatcher.changed()
    return Answer(_view(await _found(dispatcher, webhook_id)))


@delete(
    PATH + "/{webhook_id:str}",
    status_code=200,
    tags=["Webhooks"],
    summary="End a webhook",
    responses=answers(WebhookView, VIEW, refusals=("invalid_parameter", "not_found")),
)
async def remove_webhook(request: Request[Any, Any, Any], webhook_id: IdInPath) -> Answer[WebhookView]:
    """Nothing more is sent, and everything about it is forgotten."""
    dispatcher = _dispatcher(request)
    last = await _found(dispatcher, webhook_id)
    if not await dispatcher.stored.remove(webhook_id):
        raise NotFound("webhook", str(webhook_id))
    await dispatcher.changed()
    return Answer(_view(last))


@post(
    PATH + "/{webhook_id:str}/rotate",
    dto=JsonBody[Rotation],
    status_code=200,
    tags=["Webhooks"],
    summary="Give a webhook a new secret",
    responses=answers(WebhookWithSecret, WITH_SECRET, refusals=(*REFUSALS, "not_found")),
)
async def rotate_secret(
    request: Request[Any, Any, Any],
    webhook_id: IdInPath,
    data: Annotated[Rotation, Body(examples=[Example(value={"overlap_s": 3600})])],
) -> Answer[WebhookWithSecret]:
    """For a while events are signed with both, so that the receiver can take its time. Every request makes
    another secret."""
    dispatcher = _dispatcher(request)
    secret = given_or_made()
    store = partial(dispatcher.stored.rotate, webhook_id)
    await rotate(store, secret, data.overlap_s, "webhook", str(webhook_id))
    await dispatcher.changed()
    view = _view(await _found(dispatcher, webhook_id))
    return Answer(WebhookWithSecret(webhook=view, secret=secret_text(secret)))


@get(
    PATH + "/{webhook_id:str}/deliveries",
    tags=["Webhooks"],
    summary="What was sent",
    responses=answers(
        DeliveryPage,
        {"items": [DELIVERY], "next": None},
        refusals=("invalid_parameter", "not_found", "invalid_cursor"),
    ),
)
async def list_deliveries(
    request: Request[Any, Any, Any],
    webhook_id: IdInPath,
    failed: Annotated[
        bool | None, QueryParameter(description="Only attempts that failed, or only those that did not.")
    ] = None,
    order: Order = "newest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Answer[DeliveryPage]:
    """Attempts in the order in which they were made; some ten thousand are kept. They are written down once a
    second."""
    path = listing(f"{PATH}/{webhook_id}/deliveries", failed=failed, order=order)
    after = unseal(path, cursor)
    dispatcher = _dispatcher(request)
    await _found(dispatcher, webhook_id)
    found = await dispatcher.stored.attempts(
        webhook_id, int(after) if after else None, limit + 1, newest_first=order == "newest", failed=failed
    )
    more = str(found[limit - 1].seq) if len(found) > limit else None
    items = [
        DeliveryView(
            event=_event_id(one.place),
            type=one.type,
            time=Instant(one.time),
            attempt=one.attempt,
            status=one.status,
            error=one.error,
            took_us=one.took_us,
        )
        for one in found[:limit]
    ]
    return Answer(DeliveryPage(items=items, next=seal(path, more)))


@get(
    PATH + "/{webhook_id:str}/dead",
    tags=["Webhooks"],
    summary="What could not be delivered",
    responses=answers(
        DeadEventPage,
        {"items": [DEAD], "next": None},
        refusals=("invalid_parameter", "not_found", "invalid_cursor"),
    ),
)
async def list_dead_events(
    request: Request[Any, Any, Any],
    webhook_id: IdInPath,
    order: Order = "oldest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Answer[DeadEventPage]:
    """Events that are not tried any more, in the order of the log."""
    path = listing(f"{PATH}/{webhook_id}/dead", order=order)
    after = unseal(path, cursor)
    dispatcher = _dispatcher(request)
    await _found(dispatcher, webhook_id)
    start = _place(after) if after else None
    found = await dispatcher.stored.dead_events(webhook_id, start, limit + 1, newest_first=order == "newest")
    more = _event_id(found[limit - 1].place) if len(found) > limit else None
    items = [
        DeadEventView(
            event=_event_id(one.place),
            type=one.type,
            attempts=one.attempts,
            last_attempt=Instant(one.failed),
            status=one.status,
            error=one.error,
        )
        for one in found[:limit]
    ]
    return Answer(DeadEventPage(items=items, next=seal(path, more)))


@post(
    PATH + "/{webhook_id:str}/replay",
    dto=JsonBody[Replay],
    status_code=200,
    tags=["Webhooks"],
    summary="Try dead events again",
    responses=answers(Replayed, {"events": 1}, refusals=(*REFUSALS, "not_found")),
)
async def replay_dead_events(
    request: Request[Any, Any, Any],
    webhook_id: IdInPath,
    data: Annotated[Replay, Body(examples=[Example(value={"events": ["0.42.3"]})])],
) -> Answer[Replayed]:
    """All of them, or those that are named; each comes after whatever its account has sent meanwhile."""
    dispatcher = _dispatcher(request)
    await _found(dispatcher, webhook_id)
    count = await dispatcher.stored.replay(webhook_id, data.events)
    await dispatcher.changed()
    return Answer(Replayed(events=count))


async def _check(
    request: Request[Any, Any, Any], engine: Engine, url: str | None, filter: EventFilter | None
) -> None:
    """Raises Problem for a receiver or a filter that can't be, and for a caller who may not read events."""
    if not caller_of(request.scope).principal.scopes.allow("events", "read"):
        raise forbidden("A webhook tells events, so this needs the scope events:read as well.")
    if url is not None:
        try:
            check_url(url, private=_dispatcher(request).settings.private)
        except TargetRefused as exc:
            raise gateway_problem("invalid_field", f"url: {exc}.", "url") from exc
    if filter is not None:
        await wanted_by(engine, filter, FILTER_NAMES)


async def _found(dispatcher: Dispatcher, id: UUID) -> StoredWebhook:
    if (found := await dispatcher.stored.get(id)) is None:
        raise NotFound("webhook", str(id))
    return found


def _event_id(place: Place) -> str:
    return ".".join(map(str, place))


def _place(text: str) -> Place:
    shard, lsn, place = map(int, text.split("."))
    return shard, lsn, place


def _view(stored: StoredWebhook) -> WebhookView:
    return WebhookView(
        id=stored.id,
        url=stored.url,
        name=stored.name,
        filter=Decoder.decode(stored.filter),
        state=stored.state,  # type: ignore[arg-type]  # the table has no others
        reason=stored.reason,
        created=Instant(stored.created),
        failing_since=None if stored.failing is None else Instant(stored.failing),
        position=stored.cursor,
        waiting=stored.waiting,
        dead=stored.dead,
        old_secret_until=overlap_of(stored),
    )


handlers: Final = (
    create_webhook,
    list_webhooks,
    read_webhook,
    change_webhook,
    remove_webhook,
    rotate_secret,
    list_deliveries,
    list_dead_events,
    replay_dead_events,
)
