"""Webhooks that come in: who may send them, and what they do."""

import time
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.openapi.spec import Example
from litestar.params import Body, PathParameter

from actors.errors import NotFound
from gateway.cursors import seal_place, unseal_place
from gateway.openapi import REPLAYED, answers
from gateway.problems import gateway_problem
from gateway.routes.parameters import LIMIT_DEFAULT, Cursor, EngineOf, Limit
from gateway.routes.sense import Order, listing
from gateway.security.authorization import caller_of
from gateway.security.confined import forbidden
from gateway.security.gate import MESSAGES_PATH
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.inbound import BODY_BYTES_MAX, check_signature, take_in
from gateway.webhooks.rotation import given_or_made, overlap_of, rotate
from gateway.webhooks.signatures import SignatureRefused, secret_text
from gateway.webhooks.source_schemas import (
    SourceDraft,
    SourcePage,
    SourcePatch,
    SourceRotation,
    SourceRule,
    SourceView,
    SourceWithSecret,
    Taken,
)
from gateway.wire import Answer, Instant, JsonBody
from persistence.webhook_sources import StoredSource, WebhookSources

PATH: Final = "/v1/webhook-sources"
RULE: Final = {
    "when": {"type": "payment.captured"},
    "transition": "capture",
    "reference": "data.order_id",
    "amount": "data.amount",
    "metadata": {"payment": "data.id"},
}
DRAFT: Final = {"name": "acme-payments", "rules": [RULE]}
VIEW: Final = {
    "name": "acme-payments",
    "url": f"{PATH}/acme-payments/messages",
    "rules": [{**RULE, "move": None, "reason": None}],
    "created": "2011-12-09T12:50:00.000000001Z",
    "old_secret_until": None,
}
WITH_SECRET: Final = {"source": VIEW, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
TAKEN: Final = {"outcome": "done", "move": "019aa0c2-7c00-7000-8000-000000000536", "state": "captured"}
REFUSALS: Final = ("malformed_json", "invalid_field", "missing_field", "unknown_field")

NameInPath = Annotated[str, PathParameter(description="The name of a source.")]
Rules: Final = msgspec.json.Decoder(list[SourceRule])


def _stored(request: Request[Any, Any, Any]) -> WebhookSources:
    dispatcher: Dispatcher = request.app.state.webhooks
    return dispatcher.sources


@post(
    PATH,
    dto=JsonBody[SourceDraft],
    tags=["Webhook sources"],
    summary="Take webhooks in",
    responses=answers(SourceWithSecret, WITH_SECRET, status=201, refusals=(*REFUSALS, "name_already_used")),
)
async def create_source(
    request: Request[Any, Any, Any],
    data: Annotated[SourceDraft, Body(examples=[Example(value=DRAFT)])],
) -> Answer[SourceWithSecret]:
    """Its messages take Moves further, so this needs the scope `moves:write` as well. The answer has the
    secret that messages are signed with; it is shown this once."""
    _check_caller(request)
    secret = given_or_made(data.secret)
    new = StoredSource(
        name=data.name,
        created=time.time_ns(),
        rules=msgspec.json.encode(data.rules),
        secret=secret,
        principal=caller_of(request.scope).principal.name,
    )
    if not await _stored(request).add(new):
        raise gateway_problem("name_already_used", f"There is a source {data.name!r} already.", "name")
    return Answer(SourceWithSecret(source=_view(new), secret=secret_text(secret)), 201)


@get(
    PATH,
    tags=["Webhook sources"],
    summary="Who may send webhooks",
    responses=answers(
        SourcePage, {"items": [VIEW], "next": None}, refusals=("invalid_parameter", "invalid_cursor")
    ),
)
async def list_sources(
    request: Request[Any, Any, Any],
    order: Order = "oldest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Answer[SourcePage]:
    """In order of creation."""
    path = listing(PATH, order=order)
    after = unseal_place(path, cursor)
    found = await _stored(request).page(after, limit + 1, newest_first=order == "newest")
    return Answer(
        SourcePage(items=[_view(one) for one in found[:limit]], next=seal_place(path, found, limit))
    )


@get(
    PATH + "/{source:str}",
    tags=["Webhook sources"],
    summary="One source",
    responses=answers(SourceView, VIEW, refusals=("not_found",)),
)
async def read_source(request: Request[Any, Any, Any], source: NameInPath) -> Answer[SourceView]:
    """By its name."""
    return Answer(_view(await _found(request, source)))


@patch(
    PATH + "/{source:str}",
    dto=JsonBody[SourcePatch],
    tags=["Webhook sources"],
    summary="Give a source other rules",
    responses=answers(SourceView, VIEW, refusals=(*REFUSALS, "not_found")),
)
async def change_source(
    request: Request[Any, Any, Any],
    source: NameInPath,
    data: Annotated[SourcePatch, Body(examples=[Example(value={"rules": [RULE]})])],
) -> Answer[SourceView]:
    """They hold from the next message on."""
    _check_caller(request)
    if not await _stored(request).change(source, msgspec.json.encode(data.rules)):
        raise NotFound("source", source)
    return Answer(_view(await _found(request, source)))


@delete(
    PATH + "/{source:str}",
    status_code=200,
    tags=["Webhook sources"],
    summary="End a source",
    responses=answers(SourceView, VIEW, refusals=("not_found",)),
)
async def remove_source(request: Request[Any, Any, Any], source: NameInPath) -> Answer[SourceView]:
    """Its messages are refused from now on."""
    last = await _found(request, source)
    if not await _stored(request).remove(source):
        raise NotFound("source", source)
    return Answer(_view(last))


@post(
    PATH + "/{source:str}/rotate",
    dto=JsonBody[SourceRotation],
    status_code=200,
    tags=["Webhook sources"],
    summary="Give a source a new secret",
    responses=answers(SourceWithSecret, WITH_SECRET, refusals=(*REFUSALS, "not_found")),
)
async def rotate_source(
    request: Request[Any, Any, Any],
    source: NameInPath,
    data: Annotated[SourceRotation, Body(examples=[Example(value={"overlap_s": 3600})])],
) -> Answer[SourceWithSecret]:
    """The one that is given, or one that is made; for a while the old one is good too."""
    _check_caller(request)
    secret = given_or_made(data.secret)
    await rotate(partial(_stored(request).rotate, source), secret, data.overlap_s, "source", source)
    view = _view(await _found(request, source))
    return Answer(SourceWithSecret(source=view, secret=secret_text(secret)))


@post(
    MESSAGES_PATH.replace("}", ":str}"),
    status_code=200,
    tags=["Webhook sources"],
    summary="Send a webhook",
    response_headers=[REPLAYED],
    responses=answers(
        Taken,
        TAKEN,
        refusals=(
            "malformed_json",
            "bad_signature",
            "body_too_large",
            "unsupported_media_type",
            "invalid_field",
            "move_not_found",
            "move_state_differs",
            "exists_with_different_content",
            "below_floor",
        ),
    ),
)
async def receive_message(
    request: Request[Any, Any, Any], source: NameInPath, engine: EngineOf
) -> Answer[Taken]:
    """For the source itself: JSON, signed as Standard Webhooks are, by the headers `webhook-id`,
    `webhook-timestamp` and `webhook-signature`. It needs no key. The same message again has no effect; one
    that can't have its effect yet may be sent again."""
    body = await request.body()
    if len(body) > BODY_BYTES_MAX:
        raise gateway_problem(
            "body_too_large", "The message is too large.", accepted=f"{BODY_BYTES_MAX} bytes"
        )
    stored = await _stored(request).get(source)
    try:
        id = check_signature(stored, dict(request.headers), body)
        if stored is None:
            raise SignatureRefused("there is no such source")
    except SignatureRefused as exc:
        request.app.state.gate.note_refusal(request.scope, "bad_signature", "", {"why": str(exc)})
        raise gateway_problem("bad_signature", "The message is not signed as it must be.") from exc
    taken, replayed = await take_in(engine, stored, id, body)
    return Answer(taken, headers={"Idempotent-Replayed": "true"} if replayed else None)


def _check_caller(request: Request[Any, Any, Any]) -> None:
    if not caller_of(request.scope).principal.scopes.allow("moves", "write"):
        raise forbidden("A source takes Moves further, so this needs the scope moves:write as well.")


async def _found(request: Request[Any, Any, Any], name: str) -> StoredSource:
    if (found := await _stored(request).get(name)) is None:
        raise NotFound("source", name)
    return found


def _view(stored: StoredSource) -> SourceView:
    return SourceView(
        name=stored.name,
        url=f"{PATH}/{stored.name}/messages",
        rules=Rules.decode(stored.rules),
        created=Instant(stored.created),
        old_secret_until=overlap_of(stored),
    )


handlers: Final = (
    create_source,
    list_sources,
    read_source,
    change_source,
    remove_source,
    rotate_source,
    receive_message,
)
