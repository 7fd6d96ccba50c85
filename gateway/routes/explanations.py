"""Explanations: why a Move's amounts are what they are."""

from typing import Final

from litestar import get

from gateway.explanation_schemas import ExplanationView
from gateway.explanations import explanation_of
from gateway.openapi import answers
from gateway.routes.moves import ID, PATH, PAYEE, PAYER
from gateway.routes.parameters import EngineOf, IdInPath, WaitLsn, read_after
from gateway.wire import Answer

_STEP: Final = [
    "Step 0, post: it is posted.",
    f"12.50 GBP: debit L:wallet/{PAYER}, credit L:wallet/{PAYEE}.",
]
_OPENING: Final = "This is a Move of the kind transfer, now posted, over 12.50 GBP."
VIEW: Final = {
    "move": ID,
    "kind": "transfer",
    "state": "posted",
    "lines": [],
    "steps": [
        {
            "seq": 0,
            "transition": "post",
            "state": "posted",
            "request": ID,
            "principal": "key:shop",
            "sentences": _STEP,
        }
    ],
    "related": [],
    "sentences": [_OPENING, *_STEP],
}


@get(
    PATH + "/{move_id:str}/explanation",
    tags=["Moves"],
    summary="Why a Move's amounts are what they are",
    responses=answers(ExplanationView, VIEW, refusals=("invalid_parameter", "not_found")),
)
async def explain_move(
    move_id: IdInPath, engine: EngineOf, wait_lsn: WaitLsn = None
) -> Answer[ExplanationView]:
    """Its lines, its steps with every leg in words, what of it was taken back and by which Moves, and the
    Moves that it has to do with. `sentences` has all of that in order, to be read out."""
    await read_after(engine, wait_lsn)
    return Answer(await explanation_of(engine, move_id.int))


handlers: Final = (explain_move,)
