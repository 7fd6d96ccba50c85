"""Moves: created, taken from state to state, reversed, and tried out. `move_reads` has the rest."""

from typing import Annotated, Final

import msgspec
from litestar import post
from litestar.openapi.spec import Example
from litestar.params import Body, FromPath

from actors.runtime import Engine
from engine.commands import MoveCommand, Refusal
from gateway.idempotency import IdempotencyKey, request_id
from gateway.move_commands import creation, id_or_zero, step, trial
from gateway.move_views import answer_view, preview_view
from gateway.openapi import LSN, REPLAYED, answers
from gateway.preconditions import IfMatch, expecting
from gateway.problems import Problem, refusal
from gateway.quotes import check_metadata, priced
from gateway.reading_schemas import ReversalDraft
from gateway.reversals import reversal_of
from gateway.routes.parameters import EngineOf, IdInPath, new_id, new_id_like, written
from gateway.schemas import MoveAnswerView, MoveDraft, PreviewDraft, PreviewView, TransitionDraft
from gateway.wire import Answer, JsonBody

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
DEBIT: Final = {
    "account": "3fa1c0de-5b1e-4d5e-9c3a-0f2d6a7b8c9d",
    "key": f"L:wallet/{PAYER}",
    "side": "debit",
    "amount": 1250,
    "asset": "GBP",
    "effect": "posted",
}
CREDIT: Final = {
    **DEBIT,
    "account": "77aa0000-1111-4222-8333-944455556666",
    "key": f"L:wallet/{PAYEE}",
    "side": "credit",
}
PREVIEW: Final = {"state": "posted", "entries": [DEBIT, CREDIT]}
REVERSAL: Final = {
    **ANSWER,
    "id": "019aa0c2-7c00-7000-a1b2-c3d4e5f60718",
    "request": "019aa0c2-7c00-7000-a1b2-c3d4e5f60718",
    "kind": "reversal",
}
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
    return written(
        answer_view(answer),
        answer.lsn,
        created=created,
        replayed=answer.replayed,
        version=answer.version,
    )


@post(
    PATH,
    dto=JsonBody[MoveDraft],
    tags=["Moves"],
    summary="Create a Move",
    response_headers=[LSN, REPLAYED],
    responses=answers(MoveAnswerView, ANSWER, status=201, repeated=True, refusals=REFUSALS),
)
async def create_move(
    data: Annotated[MoveDraft, Body(examples=[Example(value=DRAFT)])],
    engine: EngineOf,
    key: IdempotencyKey = None,
) -> Answer[MoveAnswerView]:
    """Give `id`, a UUIDv7, or an `Idempotency-Key`, to be able to repeat the request: it happens once,
    however often it is sent.

    With `pricing`, lines have a thing and a quantity, policies say what they cost, and the Move keeps the
    quote: its lines are those of the quote, with fees and taxes."""
    request = await request_id(
        engine,
        key,
        f"POST {PATH}",
        data,
        data.id,
        lambda: new_id(engine, id_or_zero(data.payer)),
    )
    try:
        return await submit(engine, creation(await priced(engine, data, request), request), created=True)
    except Problem as problem:
        if data.pricing is None or problem.code != Refusal.EXISTS_WITH_DIFFERENT_CONTENT:
            raise
    # Perhaps the same request was on its way, and priced a moment earlier: its Move has the quote by now.
    return await submit(engine, creation(await priced(engine, data, request), request), created=True)


@post(
    PATH + "/{move_id:str}/{transition:str}",
    dto=JsonBody[TransitionDraft],
    status_code=200,
    tags=["Moves"],
    summary="Take a Move further",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        MoveAnswerView,
        ANSWER,
        refusals=[*REFUSALS, "move_not_found", "move_state_differs", "move_version_differs"],
        conditional=True,
    ),
)
async def take_transition(
    move_id: IdInPath,
    transition: FromPath[str],
    data: Annotated[TransitionDraft, Body(examples=[Example(value={})])],
    engine: EngineOf,
    key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Answer[MoveAnswerView]:
    """`transition` is a name of the Move's kind, or several joined by `+`, all taken or none.

    With `if_version`, or `If-Match` and the Move's ETag, it is taken only from that version of the Move.
    """
    check_metadata(data.metadata)
    with expecting(if_match, data.if_version) as version:
        request = await request_id(
            engine,
            key,
            f"POST {PATH}/{move_id}/{transition}",
            data,
            data.id,
            lambda: new_id_like(move_id.int),
        )
        wanted = msgspec.structs.replace(data, if_version=version)
        return await submit(engine, step(wanted, move_id, transition, request), created=False)


@post(
    PATH + "/preview",
    dto=JsonBody[PreviewDraft],
    status_code=200,
    tags=["Moves"],
    summary="Try a Move out",
    responses=answers(
        PreviewView,
        PREVIEW,
        refusals=[*REFUSALS, "move_not_found", "move_state_differs", "move_version_differs", "id_invalid"],
    ),
)
async def preview_move(
    data: Annotated[PreviewDraft, Body(examples=[Example(value=DRAFT)])], engine: EngineOf
) -> Answer[PreviewView]:
    """The Entries that the request would write if it were sent now: posted, held or released. Nothing is
    written, no id is used up. It is judged as the request would be, and refused for the same reasons."""
    if data.id:
        request = data.id.int
    else:
        request = new_id_like(data.move.int) if data.move else new_id(engine, id_or_zero(data.payer))
    return await _shown(engine, trial(await priced(engine, data, request), request))


@post(
    PATH + "/{move_id:str}/reversal",
    dto=JsonBody[ReversalDraft],
    tags=["Moves"],
    summary="Reverse a Move",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        MoveAnswerView,
        REVERSAL,
        status=201,
        repeated=True,
        refusals=(
            "malformed_json",
            "not_found",
            "move_not_ended",
            "nothing_to_reverse",
            "below_floor",
            "exists_with_different_content",
            "invalid_field",
            "unknown_field",
        ),
    ),
)
async def reverse_move(
    move_id: IdInPath,
    data: Annotated[ReversalDraft, Body(examples=[Example(value={"metadata": {"ticket": 4711}})])],
    engine: EngineOf,
) -> Answer[MoveAnswerView]:
    """Takes back everything that a Move has posted, in a Move of its own of the kind `reversal`, all or
    nothing. It is refused where that is not possible any more: the money is spent, the order was refunded.

    There is one reversal of a Move at most, so the request needs no id: sent again, it changes nothing. To
    take back lines of an order, or less than all, create a Move of the kind `refund`.
    """
    return await submit(engine, await reversal_of(engine, move_id, data), created=True)


@post(
    PATH + "/{move_id:str}/reversal/preview",
    dto=JsonBody[ReversalDraft],
    status_code=200,
    tags=["Moves"],
    summary="Try a reversal out",
    responses=answers(
        PreviewView,
        {"state": "posted", "entries": [{**CREDIT, "side": "debit"}, {**DEBIT, "side": "credit"}]},
        refusals=(
            "malformed_json",
            "not_found",
            "move_not_ended",
            "nothing_to_reverse",
            "below_floor",
            "id_invalid",
            "invalid_field",
            "unknown_field",
        ),
    ),
)
async def preview_reversal(
    move_id: IdInPath,
    data: Annotated[ReversalDraft, Body(examples=[Example(value={})])],
    engine: EngineOf,
) -> Answer[PreviewView]:
    """The Entries that a reversal would post if it were sent now. Nothing is written."""
    return await _shown(engine, await reversal_of(engine, move_id, data))


async def _shown(engine: Engine, command: MoveCommand) -> Answer[PreviewView]:
    preview = await engine.preview(command)
    if preview.code:
        raise refusal(preview.code, preview.message)
    return Answer(await preview_view(engine, preview))


handlers: Final = (create_move, take_transition, preview_move, reverse_move, preview_reversal)
