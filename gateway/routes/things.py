"""Things: whatever is offered, owned or counted. Every Thing is an asset."""

from typing import Annotated, Final
from uuid import UUID

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body, FromPath, QueryParameter

from actors.errors import InvalidRequest, NotFound
from engine.commands import CreateThing
from engine.entities import ThingKind
from gateway.cursors import seal, unseal
from gateway.descriptions import attributes_of, check_things, part_of, thing_view
from gateway.idempotency import IdempotencyKey, request_id
from gateway.openapi import LSN, REPLAYED, answers
from gateway.problems import refusal
from gateway.quotes import check_policy
from gateway.routes.parameters import (
    LIMIT_DEFAULT,
    Cursor,
    EngineOf,
    Limit,
    WaitLsn,
    new_id,
    read_after,
    written,
)
from gateway.routes.sense import Order, asset_number, listing
from gateway.schemas import ThingDraft, ThingPage, ThingView
from gateway.wire import Answer, JsonBody
from persistence import views

PATH: Final = "/v1/things"
DRAFT: Final = {"kind": "asset", "code": "GBP", "exponent": 2, "name": "Pound sterling"}
VIEW: Final = {
    **{"id": "019aa0c2-7c00-7000-8000-0000000006b9", **DRAFT, "asset": 1, "attrs": {}},
    **{"rights": [], "meter": None, "variant_of": None, "options": {}, "bundle": []},
}


@post(
    PATH,
    dto=JsonBody[ThingDraft],
    tags=["Things"],
    summary="Create a Thing",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        ThingView,
        VIEW,
        status=201,
        repeated=True,
        refusals=(
            "malformed_json",
            "thing_code_already_used",
            "thing_not_found",
            "invalid_field",
            "unknown_field",
        ),
    ),
)
async def create_thing(
    data: Annotated[ThingDraft, Body(examples=[Example(value=DRAFT)])],
    engine: EngineOf,
    key: IdempotencyKey = None,
) -> Answer[ThingView]:
    """Currencies, products, points, seats: whatever has an amount. The engine gives it its asset number.

    `rights` say what its owner may do with it, `meter` how its use is measured, `variant_of` and `options`
    which variant of what it is, and `bundle` what comes with it. Things that these name must be there.
    The `attrs` of a `policy` are the policy.
    """
    attributes = attributes_of(data)
    if data.kind == ThingKind.POLICY:
        check_policy(data.attrs)
    await check_things(engine, data)
    command = CreateThing(
        id=await request_id(engine, key, f"POST {PATH}", data, data.id, lambda: new_id(engine)),
        kind=data.kind,
        code=data.code,
        exponent=data.exponent,
        name=data.name,
        attrs=attributes,
    )
    [answer] = await engine.create_things([command])
    if not answer.accepted:
        raise refusal(answer.code, answer.message)
    content = thing_view(
        attributes,
        id=UUID(int=answer.id),
        kind=data.kind,
        code=data.code,
        asset=answer.asset,
        exponent=data.exponent,
        name=data.name,
    )
    return written(content, answer.lsn, created=True, replayed=answer.replayed)


@get(
    PATH + "/{code:str}",
    tags=["Things"],
    summary="One Thing",
    responses=answers(ThingView, VIEW, refusals=("not_found",)),
)
async def read_thing(code: FromPath[str], engine: EngineOf, wait_lsn: WaitLsn = None) -> Answer[ThingView]:
    """By its code."""
    await engine.know_assets([code])
    try:
        number = engine.asset_number(code)
    except InvalidRequest as exc:
        raise NotFound("Thing", code) from exc
    await read_after(engine, wait_lsn)
    # The catalogue in memory knows the number, the query tables the rest; they are ordered by number.
    page = await engine.queries.all_things(1, str(number - 1))
    if not page.items or page.items[0].asset != number:
        raise NotFound("Thing", code)
    return Answer(_view(page.items[0]))


@get(
    PATH,
    tags=["Things"],
    summary="Find Things",
    responses=answers(
        ThingPage,
        {"items": [VIEW], "next": None},
        refusals=("invalid_parameter", "invalid_cursor", "projection_behind"),
    ),
)
async def list_things(
    engine: EngineOf,
    kind: Annotated[ThingKind | None, QueryParameter(description="Only Things of this kind.")] = None,
    prefix: Annotated[str | None, QueryParameter(description="Codes that start with this.")] = None,
    variant_of: Annotated[str | None, QueryParameter(description="Only variants of this Thing.")] = None,
    part: Annotated[str | None, QueryParameter(description="Only bundles with this Thing in them.")] = None,
    order: Order = "oldest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    wait_lsn: WaitLsn = None,
) -> Answer[ThingPage]:
    """In order of their asset numbers, which is that of their creation."""
    path = listing(PATH, kind=kind, prefix=prefix, variant_of=variant_of, part=part, order=order)
    for name, code in (("variant_of", variant_of), ("part", part)):
        await asset_number(engine, code, name)
    start = unseal(path, cursor)
    await read_after(engine, wait_lsn)
    page = await engine.queries.all_things(
        limit,
        start,
        kind=kind or "",
        prefix=prefix or "",
        variant_of=variant_of,
        part=part_of(part),
        newest_first=order == "newest",
    )
    return Answer(ThingPage(items=[_view(thing) for thing in page.items], next=seal(path, page.cursor)))


def _view(thing: views.ThingView) -> ThingView:
    return thing_view(
        thing.attrs,
        id=UUID(int=thing.id),
        kind=ThingKind(thing.kind),
        code=thing.code,
        asset=thing.asset,
        exponent=thing.exponent,
        name=thing.name,
    )


handlers: Final = (create_thing, read_thing, list_things)
