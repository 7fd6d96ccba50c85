"""Bare legs as JSON, one or many. `gateway.fast_lane` takes what is small or comes as columns."""

from typing import Annotated, Final
from uuid import UUID

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body

from actors.errors import NotFound
from actors.runtime import Engine
from engine.results import Result
from gateway.account_views import uuid_or_none
from gateway.hot_legs import batch_answer, leg_answer, listed
from gateway.idempotency import IdempotencyKey, claim_only
from gateway.leg_columns import LEG_FLAGS, columns_of
from gateway.openapi import LSN, REPLAYED, answers
from gateway.problems import gateway_problem
from gateway.reading_schemas import FoundLegs, IdsDraft
from gateway.routes.parameters import Answers, EngineOf, IdInPath, WaitLsn, asset_numbers, read_after, written
from gateway.routes.sense import missing
from gateway.schemas import LEGS_PER_REQUEST_MAX, LegDraft, LegResult, LegsAnswer, LegView
from gateway.wire import Amount, Answer, Instant, JsonBody, OneOrMany, Unsigned64
from persistence import views

PATH: Final = "/v1/legs"
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


@post(
    PATH,
    dto=OneOrMany[LegDraft | list[LegDraft]],
    tags=["Legs"],
    summary="Write bare legs",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        LegsAnswer | LegResult,
        ANSWER,
        status=201,
        repeated=True,
        refusals=("malformed_json", "malformed_arrow", "too_many_items", "below_floor", "invalid_amount"),
    ),
)
async def post_legs(
    data: Annotated[LegDraft | list[LegDraft], Body(examples=[Example(value=[LEG])])],
    engine: EngineOf,
    which: Answers = "all",
    key: IdempotencyKey = None,
) -> Answer[LegsAnswer] | Answer[LegResult]:
    """A JSON array of legs, judged in order as one batch; each answers with its own result code. Or one leg
    as an object, answered with an object.

    `201` if any was created, `200` if none was and some were there already. If every leg was refused, the
    answer is a problem with the code of the first one; no leg of the batch is then in the ledger.

    For bulk, send an Arrow stream (`application/vnd.apache.arrow.stream`) of up to 65,536 legs with columns
    named as the fields here, ids as 16 bytes. Its answer is a stream of `timestamp` and `status`, whatever
    they are; `?answers=refused` leaves out the rows that are in the ledger.
    """
    drafts = [data] if isinstance(data, LegDraft) else data
    if not 1 <= len(drafts) <= LEGS_PER_REQUEST_MAX:
        raise gateway_problem(
            "too_many_items" if drafts else "invalid_field",
            f"The body holds {len(drafts)} legs.",
            "body",
            f"1 to {LEGS_PER_REQUEST_MAX} legs",
        )
    assets = await asset_numbers(engine, [draft.asset for draft in drafts], alone=drafts is not data)
    await claim_only(engine, key, f"POST {PATH}", data)
    outcome = await engine.post_legs(columns_of(drafts, assets))
    statuses, timestamps = outcome.status.tolist(), outcome.timestamp.tolist()
    if isinstance(data, LegDraft):
        single = leg_answer(data.id, statuses[0], timestamps[0], outcome.lsn)
        created = statuses[0] == Result.CREATED
        return written(single, outcome.lsn, created=created, replayed=not created)
    content = batch_answer([draft.id for draft in data], statuses, timestamps, outcome.lsn)
    replayed = content.repeated == len(statuses)
    return written(listed(content, which), outcome.lsn, created=content.created > 0, replayed=replayed)


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
    return Answer(_view(engine, found[0]))


@post(
    PATH + "/lookup",
    dto=JsonBody[IdsDraft],
    status_code=200,
    tags=["Legs"],
    summary="Many legs by id",
    responses=answers(
        FoundLegs,
        {"items": [VIEW], "missing": []},
        refusals=("malformed_json", "invalid_field", "missing_field", "unknown_field"),
    ),
)
async def look_up_legs(
    data: Annotated[IdsDraft, Body(examples=[Example(value={"ids": [LEG["id"]]})])],
    engine: EngineOf,
    wait_lsn: WaitLsn = None,
) -> Answer[FoundLegs]:
    """Up to 1,000 at once, in the order of the ids; those that nothing has are named."""
    await read_after(engine, wait_lsn)
    items = [_view(engine, leg) for leg in await engine.queries.legs([id.int for id in data.ids])]
    return Answer(FoundLegs(items=items, missing=missing(data.ids, [item.id for item in items])))


def _view(engine: Engine, leg: views.LegView) -> LegView:
    return LegView(
        id=UUID(int=leg.id),
        debit=UUID(int=leg.debit),
        credit=UUID(int=leg.credit),
        amount=Amount(leg.amount),
        asset=engine.asset_code(leg.asset),
        code=leg.code,
        flags=[name for name, value in LEG_FLAGS.items() if leg.flags & value],
        pending_id=uuid_or_none(leg.pending_id),
        timeout=leg.timeout,
        user_data_128=uuid_or_none(leg.user_data_128),
        user_data_64=Unsigned64(leg.user_data_64),
        user_data_32=leg.user_data_32,
        timestamp=Instant(leg.timestamp),
    )


handlers: Final = (post_legs, read_leg, look_up_legs)
