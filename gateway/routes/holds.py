"""Holds: what is reserved now, and what became of what was."""

from collections.abc import Sequence
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import get
from litestar.params import QueryParameter

from actors.errors import NotFound
from actors.runtime import Engine
from engine.ids import format_id, parse_id
from engine.layout import SECOND_NS, LegFlag, ids_column
from engine.open_holds import STATUS_NAMES, HoldFilter, HoldState, closed_by
from gateway.account_views import uuid_or_none
from gateway.cursors import seal, unseal
from gateway.move_commands import id_or_zero
from gateway.openapi import answers
from gateway.reading_schemas import HoldPage, HoldStepView, HoldView
from gateway.routes.parameters import LIMIT_DEFAULT, Cursor, EngineOf, IdInPath, Limit, read_after
from gateway.routes.sense import (
    AssetFilter,
    Order,
    account_exists,
    asset_number,
    listing,
    move_exists,
)
from gateway.wire import Amount, Answer, Instant
from persistence.filters import parse_cursor, parse_time
from persistence.views import HoldStepView as HoldStep

PATH: Final = "/v1/holds"
ID: Final = "019aa0c2-7c00-7000-8000-0000000001e6"
MOVE: Final = "019aa0c2-7c00-7000-8000-000000000536"
VIEW: Final = {
    "id": ID,
    "status": "open",
    "debit": "3fa1c0de-5b1e-4d5e-9c3a-0f2d6a7b8c9d",
    "debit_key": "L:wallet/019aa0c2-7c00-7000-8000-00000000a11c",
    "credit": "77aa0000-1111-4222-8333-944455556666",
    "credit_key": "L:wallet/019aa0c2-7c00-7000-8000-000000000b0b",
    "asset": "GBP",
    "held": 3000,
    "created": "2011-12-09T12:50:00.000000001Z",
    "expires": "2011-12-16T12:50:00.000000001Z",
    "closing": False,
    "move": MOVE,
    "seq": 0,
    "code": 1,
    "steps": None,
}
STEP: Final = {
    "leg": "019aa0c2-7c00-7000-8000-0000000001e7",
    "how": "posted",
    "amount": 1000,
    "held_before": 3000,
    "timestamp": "2011-12-10T09:00:00.000000001Z",
}


@get(
    PATH,
    tags=["Holds"],
    summary="Find open holds",
    responses=answers(
        HoldPage, {"items": [VIEW], "next": None}, refusals=("invalid_parameter", "invalid_cursor")
    ),
)
async def list_holds(
    engine: EngineOf,
    account: Annotated[UUID | None, QueryParameter(description="On either side.")] = None,
    move: Annotated[UUID | None, QueryParameter(description="Holds of this Move.")] = None,
    asset: AssetFilter = None,
    expires_until: Annotated[
        Instant | None, QueryParameter(description="Those that run out then or earlier.")
    ] = None,
    closing: Annotated[bool, QueryParameter(description="Only those that close an account.")] = False,
    order: Order = "newest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Answer[HoldPage]:
    """From memory, by the time of their creation, with everything that was answered before. A hold of a Move
    is resolved by the Move's transitions, any other by a leg with `post_pending` or `void_pending`."""
    name = listing(
        PATH, account=account, move=move, asset=asset, until=expires_until, closing=closing, order=order
    )
    after = parse_cursor(unseal(name, cursor), (parse_time, parse_id), (0, 0))
    number = await asset_number(engine, asset)
    await account_exists(engine, "account", account)
    wanted = HoldFilter(
        account=id_or_zero(account),
        move=id_or_zero(move),
        asset=number,
        expires_until=int(expires_until or 0),
        closing=closing,
        newest_first=order == "newest",
        after=(after[0], after[1]),
        limit=limit,
    )
    page = await engine.find_holds(wanted)
    if not page.items and move is not None:
        await read_after(engine, None)
        await move_exists(engine, "move", move)
    last = page.items[-1] if page.more else None
    return Answer(
        HoldPage(
            items=await _views(engine, page.items),
            next=seal(name, f"{last.created}|{format_id(last.id)}" if last else None),
        )
    )


@get(
    PATH + "/{hold_id:str}",
    tags=["Holds"],
    summary="One hold",
    responses=answers(
        HoldView,
        {**VIEW, "status": "posted", "steps": [STEP]},
        refusals=("invalid_parameter", "not_found", "projection_behind"),
    ),
)
async def read_hold(hold_id: IdInPath, engine: EngineOf) -> Answer[HoldView]:
    """By the id of the pending leg, with everything that became of it, however long ago."""
    found = (await engine.find_holds(HoldFilter(ids=[hold_id.int]))).items
    await read_after(engine, None)
    if not found:
        found = await _from_history(engine, hold_id)
    [view] = await _views(engine, found)
    steps = [_step(step) for step in await engine.queries.hold_outcome(hold_id.int)]
    return Answer(msgspec.structs.replace(view, steps=steps))


async def _from_history(engine: Engine, hold: UUID) -> list[HoldState]:
    """A hold that memory has forgotten. Raises NotFound."""
    legs = await engine.queries.legs([hold.int])
    if not legs or not legs[0].flags & LegFlag.PENDING:
        raise NotFound("hold", str(hold))
    [leg] = legs
    known = await engine.queries.find_legs(ids_column([hold.int]))
    of_move = bool(leg.flags & LegFlag.OF_MOVE)
    return [
        HoldState(
            id=leg.id,
            debit=leg.debit,
            credit=leg.credit,
            asset=leg.asset,
            held=int(known.facts["held"][0]),
            created=leg.timestamp,
            expires_at=leg.timestamp + leg.timeout * SECOND_NS if leg.timeout else 0,
            status=STATUS_NAMES[int(known.hold_status[0])],
            code=leg.code,
            closes=closed_by(leg.flags, leg.debit, leg.credit),
            move=leg.user_data_128 if of_move else 0,
            seq=leg.user_data_32 if of_move else 0,
        )
    ]


async def _views(engine: Engine, holds: Sequence[HoldState]) -> list[HoldView]:
    """Holds as clients see them. Keys of accounts come from the query tables."""
    accounts = list({account for hold in holds for account in (hold.debit, hold.credit)})
    if accounts:
        await read_after(engine, None)
    keys = {account.id: account.key for account in await engine.queries.accounts(accounts)}
    return [
        HoldView(
            id=UUID(int=hold.id),
            status=hold.status,  # type: ignore[arg-type]  # a plain str in `HoldState`
            debit=UUID(int=hold.debit),
            debit_key=keys.get(hold.debit, ""),
            credit=UUID(int=hold.credit),
            credit_key=keys.get(hold.credit, ""),
            asset=engine.asset_code(hold.asset),
            held=Amount(hold.held),
            created=Instant(hold.created),
            expires=Instant(hold.expires_at) if hold.expires_at else None,
            closing=bool(hold.closes),
            move=uuid_or_none(hold.move),
            seq=hold.seq if hold.move else None,
            code=hold.code,
        )
        for hold in holds
    ]


def _step(step: HoldStep) -> HoldStepView:
    return HoldStepView(
        leg=uuid_or_none(step.leg),
        how="expired" if not step.leg else "voided" if step.flags & LegFlag.VOID_PENDING else "posted",
        amount=Amount(step.amount),
        held_before=Amount(step.held),
        timestamp=Instant(step.timestamp),
    )


handlers: Final = (list_holds, read_hold)
