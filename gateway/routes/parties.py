"""Parties: whoever exchanges."""

from typing import Annotated, Final
from uuid import UUID

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body

from actors.errors import NotFound
from engine.commands import CreateParty
from engine.entities import PartyKind
from gateway.cursors import seal, unseal
from gateway.openapi import LSN, REPLAYED, answers
from gateway.problems import refusal
from gateway.routes.parameters import (
    LIMIT_DEFAULT,
    Cursor,
    EngineOf,
    IdInPath,
    Limit,
    WaitLsn,
    new_id,
    read_after,
    written,
)
from gateway.schemas import PartyDraft, PartyPage, PartyView
from gateway.wire import Answer, JsonBody
from persistence import views

PATH: Final = "/v1/parties"
DRAFT: Final = {"kind": "person", "name": "Alice", "profile": {"country": "GB"}}
VIEW: Final = {"id": "019aa0c2-7c00-7000-8000-00000000a11c", **DRAFT, "version": 1}


@post(
    PATH,
    dto=JsonBody[PartyDraft],
    tags=["Parties"],
    summary="Create a Party",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        PartyView,
        VIEW,
        status=201,
        repeated=True,
        refusals=("malformed_json", "exists_with_different_content", "invalid_field", "unknown_field"),
    ),
)
async def create_party(
    data: Annotated[PartyDraft, Body(examples=[Example(value=DRAFT)])], engine: EngineOf
) -> Answer[PartyView]:
    """Give `id`, a UUIDv7, to be able to repeat the request; without one the server makes it."""
    command = CreateParty(
        id=data.id.int if data.id else new_id(engine), kind=data.kind, name=data.name, profile=data.profile
    )
    [answer] = await engine.create_parties([command])
    if not answer.accepted:
        raise refusal(answer.code, answer.message)
    content = PartyView(
        id=UUID(int=answer.id),
        kind=data.kind,
        name=data.name,
        profile=data.profile,
        version=answer.version,
    )
    return written(content, answer.lsn, created=True, replayed=answer.replayed)


@get(
    PATH + "/{party_id:str}",
    tags=["Parties"],
    summary="One Party",
    responses=answers(PartyView, VIEW, refusals=("invalid_parameter", "not_found")),
)
async def read_party(party_id: IdInPath, engine: EngineOf, wait_lsn: WaitLsn = None) -> Answer[PartyView]:
    """By its id."""
    await read_after(engine, wait_lsn)
    found = await engine.queries.parties([party_id.int])
    if not found:
        raise NotFound("Party", str(party_id))
    return Answer(_view(found[0]))


@get(
    PATH,
    tags=["Parties"],
    summary="All Parties",
    responses=answers(
        PartyPage, {"items": [VIEW], "next": None}, refusals=("invalid_parameter", "invalid_cursor")
    ),
)
async def list_parties(
    engine: EngineOf, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None, wait_lsn: WaitLsn = None
) -> Answer[PartyPage]:
    """In order of their ids, which for ids that the server made is roughly the order of creation."""
    start = unseal(PATH, cursor)
    await read_after(engine, wait_lsn)
    page = await engine.queries.all_parties(limit, start)
    return Answer(PartyPage(items=[_view(party) for party in page.items], next=seal(PATH, page.cursor)))


def _view(party: views.PartyView) -> PartyView:
    return PartyView(
        id=UUID(int=party.id),
        kind=PartyKind(party.kind),
        name=party.name,
        profile=party.profile,
        version=party.version,
    )


handlers: Final = (create_party, read_party, list_parties)
