"""Moves: created, taken from state to state, tried out, read and listed."""

from typing import Annotated, Final, Literal
from uuid import UUID

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body, FromPath, FromQuery, QueryParameter

from actors.errors import NotFound
from actors.runtime import Engine
from engine.commands import MoveCommand
from gateway.cursors import seal, unseal
from gateway.move_commands import creation, id_or_zero, step, trial
from gateway.move_views import answer_view, move_view, preview_view, summary
from gateway.openapi import LSN, REPLAYED, answers
from gateway.problems import gateway_problem, refusal
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
from gateway.schemas import (
    MoveAnswerView,
    MoveDraft,
    MovePage,
    MoveView,
    PreviewDraft,
    PreviewView,
    TransitionDraft,
)
from gateway.wire import Answer, Instant, JsonBody
from persistence.views import TIME_MAX, MoveFilter

PATH: Final = "/v1/moves"
ID: Final = "019aa0c2-7c00-7000-8000-000000000536"
PAYER: Final = "019aa0c2-7c00-7000-8000-00000000a11c"
PAYEE: Final = "019aa0c2-7c00-7000-8000-000000000b0b"
DRAFT: Final = {
    "id": ID,
    "kind": "transfer",
    "payer": PAYER,
    "payee": PAYEE,
    "asset": "GBP",
    "amount": 1250,
    "reference": "invoice-536365",
}
ANSWER: Final = {
    "id": ID,
    "request": ID,
    "kind": "transfer",
    "state": "posted",
    "ended": True,
    "version": 1,
    "seq": 0,
    "timestamp": "2011-12-09T12:50:00.000000001Z",
    "legs": 1,
    "unmatched_quantity": 0,
    "unmatched_amount": 0,
}
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
DEBIT: Final = {
    "account": "3fa1c0de-5b1e-4d5e-9c3a-0f2d6a7b8c9d",
    "key": f"L:wallet/{PAYER}",
    "side": "debit",
    "amount": 1250,
    "asset": "GBP",
}
CREDIT: Final = {
    **DEBIT,
    "account": "77aa0000-1111-4222-8333-944455556666",
    "key": f"L:wallet/{PAYEE}",
    "side": "credit",
}
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
    "entries": [
        {"seq": 0, "leg": LEG, "pending": False, "timestamp": STAMP, **entry} for entry in (DEBIT, CREDIT)
    ],
}
PREVIEW: Final = {"state": "posted", "entries": [DEBIT, CREDIT]}
REFUSALS: Final = (
    "malformed_json",
    "below_floor",
    "exists_with_different_content",
    "reference_already_used",
    "kind_unknown",
    "transition_unknown",
    "invalid_amount",
    "negative_amount",
    "parties_must_be_different",
    "unknown_field",
)


async def submit(engine: Engine, command: MoveCommand, *, created: bool) -> Answer[MoveAnswerView]:
    """Carry out one command and answer for it."""
    [answer] = await engine.submit([command])
    if not answer.accepted:
        headers = {"Tessera-Lsn": str(answer.lsn)}
        if answer.replayed:
            headers["Idempotent-Replayed"] = "true"
        raise refusal(answer.code, answer.message, headers=headers)
    return written(answer_view(answer), answer.lsn, created=created, replayed=answer.replayed)


@post(
    PATH,
    dto=JsonBody[MoveDraft],
    tags=["Moves"],
    summary="Create a Move",
    response_headers=[LSN, REPLAYED],
    responses=answers(MoveAnswerView, ANSWER, status=201, repeated=True, refusals=REFUSALS),
)
async def create_move(
    data: Annotated[MoveDraft, Body(examples=[Example(value=DRAFT)])], engine: EngineOf
) -> Answer[MoveAnswerView]:
    """Give `id`, a UUIDv7, to be able to repeat the request: it happens once, however often it is sent."""
    request = data.id.int if data.id else new_id(engine, id_or_zero(data.payer))
    return await submit(engine, creation(data, request), created=True)


@post(
    PATH + "/{move_id:str}/{transition:str}",
    dto=JsonBody[TransitionDraft],
    status_code=200,
    tags=["Moves"],
    summary="Take a Move further",
    response_headers=[LSN, REPLAYED],
    responses=answers(MoveAnswerView, ANSWER, refusals=[*REFUSALS, "move_not_found", "move_state_differs"]),
)
async def take_transition(
    move_id: IdInPath,
    transition: FromPath[str],
    data: Annotated[TransitionDraft, Body(examples=[Example(value={})])],
    engine: EngineOf,
) -> Answer[MoveAnswerView]:
    """`transition` is a name of the Move's kind, or several joined by `+`, all taken or none."""
    request = data.id.int if data.id else new_id_like(move_id.int)
    return await submit(engine, step(data, move_id, transition, request), created=False)


@post(
    PATH + "/preview",
    dto=JsonBody[PreviewDraft],
    status_code=200,
    tags=["Moves"],
    summary="Try a Move out",
    responses=answers(PreviewView, PREVIEW, refusals=REFUSALS),
)
async def preview_move(
    data: Annotated[PreviewDraft, Body(examples=[Example(value=DRAFT)])], engine: EngineOf
) -> Answer[PreviewView]:
    """The Entries that the request would post if it were sent now. Nothing is written, no id is used up."""
    if data.id:
        request = data.id.int
    else:
        request = new_id_like(data.move.int) if data.move else new_id(engine, id_or_zero(data.payer))
    preview = await engine.preview(trial(data, request))
    if preview.code:
        raise refusal(preview.code, preview.message)
    return Answer(preview_view(engine, preview))


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
    return Answer(move_view(engine, found[0], steps, journal))


@get(
    PATH,
    tags=["Moves"],
    summary="Find Moves",
    responses=answers(
        MovePage,
        {"items": [SUMMARY], "next": None},
        refusals=("invalid_parameter", "invalid_cursor"),
    ),
)
async def list_moves(
    engine: EngineOf,
    party: Annotated[UUID | None, QueryParameter(description="Payer or payee.")] = None,
    payer: FromQuery[UUID | None] = None,
    payee: FromQuery[UUID | None] = None,
    kind: FromQuery[str | None] = None,
    at_state: Annotated[str | None, QueryParameter(name="state")] = None,
    reference: Annotated[str | None, QueryParameter(description="Your own name for it.")] = None,
    reverses: Annotated[UUID | None, QueryParameter(description="Moves that reverse this one.")] = None,
    start: Annotated[Instant | None, QueryParameter(description="Created then or later.")] = None,
    end: Annotated[Instant | None, QueryParameter(description="Created then or earlier.")] = None,
    order: Annotated[Literal["newest", "oldest"], QueryParameter(description="Which come first.")] = "newest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    wait_lsn: WaitLsn = None,
) -> Answer[MovePage]:
    """Every filter that is given must fit. Without any, all Moves."""
    if start is not None and end is not None and start > end:
        raise gateway_problem("invalid_parameter", "The range is empty: start is after end.", "start")
    listing = f"{PATH}/{order}"
    wanted = MoveFilter(
        party=id_or_zero(party),
        payer=id_or_zero(payer),
        payee=id_or_zero(payee),
        kind=kind or "",
        state=at_state or "",
        reference=reference,
        reverses=id_or_zero(reverses),
        timestamp_min=start or 0,
        timestamp_max=TIME_MAX if end is None else end,
        limit=limit,
        newest_first=order == "newest",
        cursor=unseal(listing, cursor),
    )
    await read_after(engine, wait_lsn)
    page = await engine.queries.moves(wanted)
    items = [summary(engine, move) for move in page.items]
    return Answer(MovePage(items=items, next=seal(listing, page.cursor)))


handlers: Final = (create_move, take_transition, preview_move, read_move, list_moves)
