"""Parties: whoever exchanges."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import get, patch, post
from litestar.openapi.spec import Example
from litestar.params import Body, QueryParameter

from actors.errors import NotFound
from actors.runtime import Engine
from engine.commands import CreateParty, Refusal, UpdateParty
from engine.entities import PartyKind
from gateway.cursors import seal, unseal
from gateway.descriptions import (
    TRUST,
    check_relations,
    free_part,
    party_view,
    profile_of,
    related,
    relations_in,
)
from gateway.idempotency import IdempotencyKey, request_id
from gateway.openapi import LSN, REPLAYED, answers
from gateway.preconditions import IfMatch, expecting, tag_of
from gateway.problems import Problem, refusal
from gateway.reading_schemas import FoundParties, IdsDraft, PartyPatch
from gateway.routes.parameters import (
    LIMIT_DEFAULT,
    Cursor,
    EngineOf,
    IdInPath,
    Limit,
    WaitLsn,
    new_id,
    new_id_like,
    read_after,
    written,
)
from gateway.routes.sense import Order, listing, missing
from gateway.schemas import PartyDraft, PartyPage, PartyView
from gateway.wire import Answer, JsonBody
from persistence import views

PATH: Final = "/v1/parties"
PATCH_ATTEMPTS_MAX: Final = 5
"""How often a change is tried again because the Party changed meanwhile."""
DRAFT: Final = {"kind": "person", "name": "Alice", "profile": {"country": "GB"}, "trust": 80}
EMPLOYED: Final = {"kind": "employee_of", "party": "019aa0c2-7c00-7000-8000-000000000b0b"}
VIEW: Final = {
    "id": "019aa0c2-7c00-7000-8000-00000000a11c", **DRAFT, "relations": [EMPLOYED], "version": 1
}  # fmt: skip


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
        refusals=(
            "malformed_json",
            "exists_with_different_content",
            "party_not_found",
            "invalid_field",
            "unknown_field",
        ),
    ),
)
async def create_party(
    data: Annotated[PartyDraft, Body(examples=[Example(value=DRAFT)])],
    engine: EngineOf,
    key: IdempotencyKey = None,
) -> Answer[PartyView]:
    """Give `id`, a UUIDv7, or an `Idempotency-Key`, to be able to repeat the request."""
    id = await request_id(engine, key, f"POST {PATH}", data, data.id, lambda: new_id(engine))
    profile = profile_of(data.profile, data.trust, data.relations)
    await check_relations(engine, data.relations)
    command = CreateParty(id=id, kind=data.kind, name=data.name, profile=profile)
    [answer] = await engine.create_parties([command])
    if not answer.accepted:
        raise refusal(answer.code, answer.message)
    content = party_view(UUID(int=answer.id), data.kind, data.name, profile, answer.version)
    return written(content, answer.lsn, created=True, replayed=answer.replayed, version=answer.version)


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
    return Answer(_view(found[0]), headers=tag_of(found[0].version))


@patch(
    PATH + "/{party_id:str}",
    dto=JsonBody[PartyPatch],
    tags=["Parties"],
    summary="Change a Party",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        PartyView,
        {**VIEW, "version": 2},
        refusals=(
            "malformed_json",
            "not_found",
            "party_not_found",
            "party_version_differs",
            "invalid_field",
            "unknown_field",
        ),
        conditional=True,
    ),
)
async def change_party(
    party_id: IdInPath,
    data: Annotated[PartyPatch, Body(examples=[Example(value={"name": "Alice Liddell"})])],
    engine: EngineOf,
    key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Answer[PartyView]:
    """What is left out stays. What is so already is not written again, and leaves the version as it is."""
    if not isinstance(data.relations, msgspec.UnsetType):
        await check_relations(engine, data.relations)
    with expecting(if_match, data.if_version) as version:
        request = await request_id(
            engine, key, f"PATCH {PATH}/{party_id}", data, None, lambda: new_id_like(party_id.int)
        )
        return await _change(engine, party_id, data, version, request if key is not None else 0)


def _changed(document: dict[str, Any], data: PartyPatch) -> dict[str, Any]:
    """A Party's document with what is to be changed."""
    return profile_of(
        free_part(document) if isinstance(data.profile, msgspec.UnsetType) else data.profile,
        document.get(TRUST) if isinstance(data.trust, msgspec.UnsetType) else data.trust,
        relations_in(document) if isinstance(data.relations, msgspec.UnsetType) else data.relations,
    )


async def _change(
    engine: Engine, party_id: UUID, data: PartyPatch, if_version: int, request: int
) -> Answer[PartyView]:
    for _ in range(PATCH_ATTEMPTS_MAX):
        await read_after(engine, None)
        found = await engine.queries.parties([party_id.int])
        if not found:
            raise NotFound("Party", str(party_id))
        now = found[0]
        profile = _changed(now.profile, data)
        command = UpdateParty(
            id=now.id,
            name=now.name if isinstance(data.name, msgspec.UnsetType) else data.name,
            profile=profile,
            if_version=if_version or now.version,
        )
        answer = await engine.change_party(command, request)
        if answer.accepted:
            kind = PartyKind(now.kind)
            content = party_view(party_id, kind, command.name, profile, answer.version)
            return written(
                content, answer.lsn, created=False, replayed=bool(request) and answer.replayed,
                version=answer.version,
            )  # fmt: skip
        if if_version or answer.code != Refusal.PARTY_VERSION_DIFFERS:
            raise refusal(answer.code, answer.message)
    raise Problem(409, Refusal.PARTY_VERSION_DIFFERS, "The Party kept changing; try again.")


@get(
    PATH,
    tags=["Parties"],
    summary="Find Parties",
    responses=answers(
        PartyPage,
        {"items": [VIEW], "next": None},
        refusals=("invalid_parameter", "invalid_cursor", "projection_behind"),
    ),
)
async def list_parties(
    engine: EngineOf,
    kind: Annotated[PartyKind | None, QueryParameter(description="Only Parties of this kind.")] = None,
    name: Annotated[str | None, QueryParameter(description="Exactly this name.")] = None,
    related_to: Annotated[
        UUID | None, QueryParameter(description="Only Parties with a relation to this one.")
    ] = None,
    relation: Annotated[
        str | None, QueryParameter(min_length=1, description="Only Parties with a relation of this kind.")
    ] = None,
    trust_min: Annotated[
        int | None, QueryParameter(ge=0, le=100, description="Only Parties that are trusted so much or more.")
    ] = None,
    order: Order = "oldest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    wait_lsn: WaitLsn = None,
) -> Answer[PartyPage]:
    """In order of their ids, which for ids that the server made is roughly the order of creation."""
    path = listing(
        PATH, kind=kind, name=name, related_to=related_to, relation=relation, trust_min=trust_min, order=order
    )
    start = unseal(path, cursor)
    await read_after(engine, wait_lsn)
    page = await engine.queries.all_parties(
        limit,
        start,
        kind=kind or "",
        name=name,
        related=related(related_to, relation),
        trust_min=trust_min,
        newest_first=order == "newest",
    )
    return Answer(PartyPage(items=[_view(party) for party in page.items], next=seal(path, page.cursor)))


@post(
    PATH + "/lookup",
    dto=JsonBody[IdsDraft],
    status_code=200,
    tags=["Parties"],
    summary="Many Parties by id",
    responses=answers(
        FoundParties,
        {"items": [VIEW], "missing": []},
        refusals=("malformed_json", "invalid_field", "missing_field", "unknown_field"),
    ),
)
async def look_up_parties(
    data: Annotated[IdsDraft, Body(examples=[Example(value={"ids": [VIEW["id"]]})])],
    engine: EngineOf,
    wait_lsn: WaitLsn = None,
) -> Answer[FoundParties]:
    """Up to 1,000 at once, in the order of the ids; those that nothing has are named."""
    await read_after(engine, wait_lsn)
    items = [_view(party) for party in await engine.queries.parties([id.int for id in data.ids])]
    return Answer(FoundParties(items=items, missing=missing(data.ids, [item.id for item in items])))


def _view(party: views.PartyView) -> PartyView:
    return party_view(UUID(int=party.id), PartyKind(party.kind), party.name, party.profile, party.version)


handlers: Final = (create_party, read_party, change_party, list_parties, look_up_parties)
