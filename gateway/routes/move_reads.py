"""Moves: read, found, looked up in bulk, and where they can go."""

from typing import Annotated, Final
from uuid import UUID

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body, FromQuery, QueryParameter

from actors.errors import NotFound
from gateway.cursors import seal, unseal
from gateway.move_commands import id_or_zero
from gateway.move_views import move_view, steps_view, summary
from gateway.openapi import answers
from gateway.preconditions import tag_of
from gateway.problems import refusal
from gateway.reading_schemas import FoundMoves, IdsDraft, NextStepsView
from gateway.routes.moves import CREDIT, DEBIT, ID, PATH, PAYEE, PAYER
from gateway.routes.parameters import (
    LIMIT_DEFAULT,
    Cursor,
    EngineOf,
    IdInPath,
    Limit,
    WaitLsn,
    new_id_like,
    read_after,
)
from gateway.routes.sense import (
    AssetFilter,
    Order,
    asset_number,
    kind_and_state,
    listing,
    missing,
    move_exists,
    parties_exist,
    time_range,
)
from gateway.schemas import MovePage, MoveView
from gateway.wire import Answer, Instant, JsonBody
from persistence.views import MoveFilter

STAMP: Final = "2011-12-09T12:50:00.000000001Z"
SUMMARY: Final = {
    "id": ID,
    "kind": "transfer",
    "state": "posted",
    "ended": True,
    "version": 1,
    "payer": PAYER,
    "payee": PAYEE,
    "asset": "GBP",
    "amount": 1250,
    "reverses": None,
    "reference": "invoice-536365",
    "metadata": {},
    "business_time": STAMP,
    "created": STAMP,
    "changed": STAMP,
}
LEG: Final = "019aa0c2-7c00-7000-8000-0000000001e6"
VIEW: Final = {
    **SUMMARY,
    "lines": [],
    "steps": [
        {
            "seq": 0,
            "request": ID,
            "transition": "post",
            "state": "posted",
            "timestamp": STAMP,
            "business_time": STAMP,
            "amount": 1250,
            "legs": 1,
            "inputs": {},
            "metadata": {},
        }
    ],
    "entries": [{"seq": 0, "leg": LEG, "timestamp": STAMP, **entry} for entry in (DEBIT, CREDIT)],
    "reversed_by": [],
}
STEPS: Final = {
    "id": ID,
    "kind": "transfer",
    "state": "pending",
    "version": 1,
    "transitions": [
        {
            "transition": "post",
            "allowed": True,
            "target": "posted",
            "needs": [],
            "takes": ["amount"],
            "code": None,
            "reason": None,
        },
        {
            "transition": "hold",
            "allowed": False,
            "target": None,
            "needs": [],
            "takes": [],
            "code": "move_state_differs",
            "reason": "transition: 'hold' does not lead on from pending; from pending lead post, void",
        },
    ],
}


@get(
    PATH + "/{move_id:str}",
    tags=["Moves"],
    summary="One Move",
    responses=answers(MoveView, VIEW, refusals=("invalid_parameter", "not_found")),
)
async def read_move(move_id: IdInPath, engine: EngineOf, wait_lsn: WaitLsn = None) -> Answer[MoveView]:
    """With its lines, its steps and the Entries it wrote."""
    await read_after(engine, wait_lsn)
    found = await engine.queries.moves_by_id([move_id.int])
    if not found:
        raise NotFound("Move", str(move_id))
    steps = await engine.queries.transitions(move_id.int)
    journal = await engine.queries.journal(move_id.int)
    reversals = await engine.queries.reversals([move_id.int])
    by = reversals.get(move_id.int, [])
    return Answer(move_view(engine, found[0], steps, journal, by), headers=tag_of(found[0].version, len(by)))


@get(
    PATH + "/{move_id:str}/transitions",
    tags=["Moves"],
    summary="Where a Move can go",
    responses=answers(NextStepsView, STEPS, refusals=("invalid_parameter", "move_not_found")),
)
async def list_transitions(move_id: IdInPath, engine: EngineOf) -> Answer[NextStepsView]:
    """Every transition of its kind, and whether it would be accepted now, as it is in memory. `reason` says
    why not: it does not lead on from the Move's state, or the ledger would refuse it.

    One that `needs` fields is allowed if nothing else is missing.
    """
    steps = await engine.next_steps(move_id.int, new_id_like(move_id.int))
    if steps.code:
        raise refusal(steps.code, steps.message)
    return Answer(steps_view(steps))


@get(
    PATH,
    tags=["Moves"],
    summary="Find Moves",
    responses=answers(
        MovePage,
        {"items": [SUMMARY], "next": None},
        refusals=("invalid_parameter", "invalid_cursor", "projection_behind"),
    ),
)
async def list_moves(
    engine: EngineOf,
    party: Annotated[UUID | None, QueryParameter(description="Payer or payee.")] = None,
    payer: FromQuery[UUID | None] = None,
    payee: FromQuery[UUID | None] = None,
    kind: Annotated[str | None, QueryParameter(description="Name of a kind, see /v1/kinds.")] = None,
    at_state: Annotated[
        str | None, QueryParameter(name="state", description="A state of that kind, or of any.")
    ] = None,
    ended: Annotated[bool | None, QueryParameter(description="Whether nothing leads on from there.")] = None,
    asset: AssetFilter = None,
    reference: Annotated[str | None, QueryParameter(description="Your own name for it.")] = None,
    reverses: Annotated[UUID | None, QueryParameter(description="Moves that reverse this one.")] = None,
    start: Annotated[Instant | None, QueryParameter(description="Created then or later.")] = None,
    end: Annotated[Instant | None, QueryParameter(description="Created then or earlier.")] = None,
    business_start: Annotated[
        Instant | None, QueryParameter(description="Of that business time or later.")
    ] = None,
    business_end: Annotated[
        Instant | None, QueryParameter(description="Of that business time or earlier.")
    ] = None,
    order: Order = "newest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    wait_lsn: WaitLsn = None,
) -> Answer[MovePage]:
    """Every filter that is given must fit. Without any, all Moves, by the time of their creation.

    A filter that names what is not there (a kind, a state, a Party …) is an error, not an empty list.
    """
    kind_and_state(engine, kind, at_state)
    timestamp_min, timestamp_max = time_range(start, end)
    business_min, business_max = time_range(business_start, business_end, "business_start", "business_end")
    name = listing(
        PATH, party=party, payer=payer, payee=payee, kind=kind, state=at_state, ended=ended, asset=asset,
        reference=reference, reverses=reverses, start=start, end=end, business_start=business_start,
        business_end=business_end, order=order,
    )  # fmt: skip
    wanted = MoveFilter(
        party=id_or_zero(party),
        payer=id_or_zero(payer),
        payee=id_or_zero(payee),
        kind=kind or "",
        state=at_state or "",
        ended=ended,
        asset=await asset_number(engine, asset),
        reference=reference,
        reverses=id_or_zero(reverses),
        timestamp_min=timestamp_min,
        timestamp_max=timestamp_max,
        business_min=business_min,
        business_max=business_max,
        limit=limit,
        newest_first=order == "newest",
        cursor=unseal(name, cursor),
    )
    await read_after(engine, wait_lsn)
    page = await engine.queries.moves(wanted)
    if not page.items:
        await parties_exist(engine, party=party, payer=payer, payee=payee)
        await move_exists(engine, "reverses", reverses)
    items = [summary(engine, move) for move in page.items]
    return Answer(MovePage(items=items, next=seal(name, page.cursor)))


@post(
    PATH + "/lookup",
    dto=JsonBody[IdsDraft],
    status_code=200,
    tags=["Moves"],
    summary="Many Moves by id",
    responses=answers(
        FoundMoves,
        {"items": [SUMMARY], "missing": []},
        refusals=("malformed_json", "invalid_field", "missing_field", "unknown_field"),
    ),
)
async def look_up_moves(
    data: Annotated[IdsDraft, Body(examples=[Example(value={"ids": [ID]})])],
    engine: EngineOf,
    wait_lsn: WaitLsn = None,
) -> Answer[FoundMoves]:
    """Up to 1,000 at once, in the order of the ids; those that nothing has are named."""
    await read_after(engine, wait_lsn)
    items = [summary(engine, move) for move in await engine.queries.moves_by_id([id.int for id in data.ids])]
    return Answer(FoundMoves(items=items, missing=missing(data.ids, [item.id for item in items])))


handlers: Final = (read_move, list_moves, list_transitions, look_up_moves)
