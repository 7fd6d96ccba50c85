"""Bare legs in bulk. JSON arrays become columns here; a columnar format can fill those columns directly."""

from typing import Annotated, Final
from uuid import UUID

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body

from actors.answers import LegAnswers
from actors.errors import InvalidRequest, NotFound
from actors.runtime import Engine
from engine.commands import Refusal
from engine.layout import LegColumns, LegFlag, ids_column, leg_columns
from engine.results import Result
from gateway.account_views import uuid_or_none
from gateway.openapi import LSN, REPLAYED, answers
from gateway.problems import gateway_problem, refusal
from gateway.routes.parameters import EngineOf, IdInPath, WaitLsn, read_after, written
from gateway.schemas import LEGS_PER_REQUEST_MAX, LegDraft, LegResult, LegsAnswer, LegView
from gateway.wire import Amount, Answer, Instant, JsonBody, Unsigned64

PATH: Final = "/v1/legs"
FLAGS: Final = {str(flag.name).lower(): flag.value for flag in LegFlag}
LEG: Final = {
    "id": "019aa0c2-7c00-7000-8000-0000000001e6",
    "debit": "1a5b2c3d-0000-4000-8000-000000000001",
    "credit": "1a5b2c3d-0000-4000-8000-000000000002",
    "amount": 1250,
    "asset": "GBP",
    "code": 1,
}
STAMP: Final = "2011-12-09T12:50:00.000000001Z"
VIEW: Final = {
    **LEG,
    "flags": [],
    "pending_id": None,
    "timeout": 0,
    "user_data_128": None,
    "user_data_64": 0,
    "user_data_32": 0,
    "timestamp": STAMP,
}
ANSWER: Final = {
    "created": 1,
    "repeated": 0,
    "refused": 0,
    "results": [{"id": LEG["id"], "code": "created", "timestamp": STAMP}],
}


def columns_of(drafts: list[LegDraft], assets: dict[str, int]) -> LegColumns:
    """The legs column by column; `assets` gives the numbers of the codes."""
    return leg_columns(
        len(drafts),
        id=ids_column([draft.id.int for draft in drafts]),
        debit=ids_column([_int(draft.debit) for draft in drafts]),
        credit=ids_column([_int(draft.credit) for draft in drafts]),
        amount=[draft.amount for draft in drafts],
        asset=[assets[draft.asset] if draft.asset else 0 for draft in drafts],
        code=[draft.code for draft in drafts],
        flags=[sum({FLAGS[name] for name in draft.flags}) for draft in drafts],
        pending_id=ids_column([_int(draft.pending_id) for draft in drafts]),
        timeout=[draft.timeout for draft in drafts],
        user_data_128=ids_column([_int(draft.user_data_128) for draft in drafts]),
        user_data_64=[draft.user_data_64 or 0 for draft in drafts],
        user_data_32=[draft.user_data_32 for draft in drafts],
        timestamp=[draft.timestamp or 0 for draft in drafts],
        if_debit_version=[draft.if_debit_version for draft in drafts],
        if_credit_version=[draft.if_credit_version for draft in drafts],
    )


def _int(value: UUID | None) -> int:
    return value.int if value else 0


@post(
    PATH,
    dto=JsonBody[list[LegDraft]],
    tags=["Legs"],
    summary="Write bare legs",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        LegsAnswer,
        ANSWER,
        status=201,
        repeated=True,
        refusals=("malformed_json", "too_many_items", "below_floor", "invalid_amount"),
    ),
)
async def post_legs(
    data: Annotated[list[LegDraft], Body(examples=[Example(value=[LEG])])], engine: EngineOf
) -> Answer[LegsAnswer]:
    """A JSON array of legs, judged in order as one batch; each answers with its own result code.

    `201` if any was created, `200` if none was and some were there already. If every leg was refused, the
    answer is a problem with the code of the first one; no leg of the batch is then in the ledger.
    """
    if not 1 <= len(data) <= LEGS_PER_REQUEST_MAX:
        raise gateway_problem(
            "too_many_items" if data else "invalid_field",
            f"The body holds {len(data)} legs.",
            "body",
            f"1 to {LEGS_PER_REQUEST_MAX} legs",
        )
    outcome = await engine.post_legs(columns_of(data, _asset_numbers(data, engine)))
    return _answer(data, outcome)


def _asset_numbers(drafts: list[LegDraft], engine: Engine) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for index, draft in enumerate(drafts):
        if draft.asset is not None and draft.asset not in numbers:
            try:
                numbers[draft.asset] = engine.asset_number(draft.asset)
            except InvalidRequest as exc:
                raise refusal(
                    Refusal.ASSET_NOT_FOUND, f"[{index}].asset: {exc.problem}.", f"[{index}].asset"
                ) from exc
    return numbers


def _answer(drafts: list[LegDraft], outcome: LegAnswers) -> Answer[LegsAnswer]:
    statuses = [Result(status) for status in outcome.status.tolist()]
    created, repeated = statuses.count(Result.CREATED), statuses.count(Result.EXISTS)
    if not created and not repeated:
        index = next((i for i, s in enumerate(statuses) if s is not Result.LINKED_EVENT_FAILED), 0)
        others = f" None of the {len(statuses)} legs was written." if len(statuses) > 1 else ""
        message = f"Leg {index} was refused: {statuses[index].slug}.{others}"
        raise refusal(statuses[index].slug, message, f"[{index}]", {"Tessera-Lsn": str(outcome.lsn)})
    results = [
        LegResult(id=draft.id, code=status.slug, timestamp=Instant(timestamp))
        for draft, status, timestamp in zip(drafts, statuses, outcome.timestamp.tolist(), strict=True)
    ]
    content = LegsAnswer(
        created=created, repeated=repeated, refused=len(statuses) - created - repeated, results=results
    )
    return written(content, outcome.lsn, created=created > 0, replayed=repeated == len(statuses))


@get(
    PATH + "/{leg_id:str}",
    tags=["Legs"],
    summary="One leg",
    responses=answers(LegView, VIEW, refusals=("invalid_parameter", "not_found")),
)
async def read_leg(leg_id: IdInPath, engine: EngineOf, wait_lsn: WaitLsn = None) -> Answer[LegView]:
    """With everything resolved: what it inherited, and the amount that was really moved."""
    await read_after(engine, wait_lsn)
    found = await engine.queries.legs([leg_id.int])
    if not found:
        raise NotFound("leg", str(leg_id))
    leg = found[0]
    content = LegView(
        id=leg_id,
        debit=UUID(int=leg.debit),
        credit=UUID(int=leg.credit),
        amount=Amount(leg.amount),
        asset=engine.asset_code(leg.asset),
        code=leg.code,
        flags=[name for name, value in FLAGS.items() if leg.flags & value],
        pending_id=uuid_or_none(leg.pending_id),
        timeout=leg.timeout,
        user_data_128=uuid_or_none(leg.user_data_128),
        user_data_64=Unsigned64(leg.user_data_64),
        user_data_32=leg.user_data_32,
        timestamp=Instant(leg.timestamp),
    )
    return Answer(content)


handlers: Final = (post_legs, read_leg)
