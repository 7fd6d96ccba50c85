"""Schedules: what happens at given times, paused and ended."""

import time
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.openapi.spec import Example
from litestar.params import Body, PathParameter

from actors.errors import NotFound
from actors.runtime import Engine
from gateway.cursors import seal_place, unseal_place
from gateway.move_commands import creation, step
from gateway.openapi import answers
from gateway.problems import gateway_problem
from gateway.quotes import check_metadata
from gateway.routes.moves import PAYEE, PAYER
from gateway.routes.parameters import LIMIT_DEFAULT, Cursor, EngineOf, Limit
from gateway.routes.sense import Order, listing
from gateway.schedules.scheduler import Scheduler, next_id, spec_of
from gateway.schedules.schemas import ScheduleDraft, SchedulePage, SchedulePatch, ScheduleSpec, ScheduleView
from gateway.schedules.ticks import due_of
from gateway.security.authorization import caller_of
from gateway.security.confined import forbidden
from gateway.wire import Answer, Instant, JsonBody, encode
from persistence.schedules import StoredSchedule

PATH: Final = "/v1/schedules"
PAST_NS: Final = 86_400 * 1_000_000_000
"""How long ago a schedule may start: its ticks since then happen at once."""
RENT: Final = {"kind": "transfer", "payer": PAYER, "payee": PAYEE, "asset": "GBP", "amount": 65000}
DRAFT: Final = {
    "name": "rent-alice",
    "start": "2030-01-31T06:00:00Z",
    "every": {"unit": "month"},
    "ticks_max": 12,
    "move": RENT,
}
VIEW: Final = {
    "name": "rent-alice",
    "state": "active",
    "start": "2030-01-31T06:00:00.000000000Z",
    "every": {"unit": "month", "count": 1},
    "until": None,
    "ticks_max": 12,
    "move": RENT,
    "step": None,
    "created": "2029-12-09T12:50:00.000000001Z",
    "tick": 0,
    "due": "2030-01-31T06:00:00.000000000Z",
    "next_id": "01b8e0c2-7c00-7000-8000-000000000536",
    "fired": None,
    "refused": 0,
    "code": None,
    "message": None,
}
REFUSALS: Final = ("malformed_json", "invalid_field", "missing_field", "unknown_field")

NameInPath = Annotated[str, PathParameter(description="The name of a schedule.")]


def _scheduler(request: Request[Any, Any, Any]) -> Scheduler:
    found: Scheduler = request.app.state.scheduler
    return found


@post(
    PATH,
    dto=JsonBody[ScheduleDraft],
    tags=["Schedules"],
    summary="Let something happen later",
    responses=answers(ScheduleView, VIEW, status=201, refusals=(*REFUSALS, "name_already_used")),
)
async def create_schedule(
    request: Request[Any, Any, Any],
    data: Annotated[ScheduleDraft, Body(examples=[Example(value=DRAFT)])],
    engine: EngineOf,
) -> Answer[ScheduleView]:
    """Each tick creates the `move`, or takes the `step`, once, whatever dies meanwhile; with its time as
    business time. It is judged then, so this needs the scope `moves:write` as well.

    What is refused then counts as `refused`, and the next tick comes all the same.
    """
    _check_caller(request)
    spec = ScheduleSpec(**{name: getattr(data, name) for name in ScheduleSpec.__struct_fields__})
    due = _first_due(spec)
    new = StoredSchedule(
        name=data.name,
        id=uuid4(),
        created=time.time_ns(),
        principal=caller_of(request.scope).principal.name,
        spec=encode(spec),
        due=due,
    )
    _check_drafts(spec)
    scheduler = _scheduler(request)
    if not await scheduler.stored.add(new):
        raise gateway_problem("name_already_used", f"There is a schedule {data.name!r} already.", "name")
    scheduler.changed()
    return Answer(_view(engine, new), 201)


@get(
    PATH,
    tags=["Schedules"],
    summary="What happens later",
    responses=answers(
        SchedulePage, {"items": [VIEW], "next": None}, refusals=("invalid_parameter", "invalid_cursor")
    ),
)
async def list_schedules(
    request: Request[Any, Any, Any],
    engine: EngineOf,
    order: Order = "oldest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
) -> Answer[SchedulePage]:
    """In order of creation."""
    path = listing(PATH, order=order)
    after = unseal_place(path, cursor)
    found = await _scheduler(request).stored.page(after, limit + 1, newest_first=order == "newest")
    items = [_view(engine, stored) for stored in found[:limit]]
    return Answer(SchedulePage(items=items, next=seal_place(path, found, limit)))


@get(
    PATH + "/{schedule:str}",
    tags=["Schedules"],
    summary="One schedule",
    responses=answers(ScheduleView, VIEW, refusals=("not_found",)),
)
async def read_schedule(
    request: Request[Any, Any, Any], schedule: NameInPath, engine: EngineOf
) -> Answer[ScheduleView]:
    """By its name, with how far it has got."""
    return Answer(_view(engine, await _found(request, schedule)))


@patch(
    PATH + "/{schedule:str}",
    dto=JsonBody[SchedulePatch],
    tags=["Schedules"],
    summary="Pause a schedule, or let it go on",
    responses=answers(ScheduleView, VIEW, refusals=(*REFUSALS, "not_found")),
)
async def change_schedule(
    request: Request[Any, Any, Any],
    schedule: NameInPath,
    data: Annotated[SchedulePatch, Body(examples=[Example(value={"paused": True})])],
    engine: EngineOf,
) -> Answer[ScheduleView]:
    """Ticks that fell due meanwhile happen once it goes on. One that has ended stays so."""
    _check_caller(request)
    scheduler = _scheduler(request)
    await scheduler.stored.set_state(schedule, "paused" if data.paused else "active")
    scheduler.changed()
    return Answer(_view(engine, await _found(request, schedule)))


@delete(
    PATH + "/{schedule:str}",
    status_code=200,
    tags=["Schedules"],
    summary="End a schedule",
    responses=answers(ScheduleView, VIEW, refusals=("not_found",)),
)
async def remove_schedule(
    request: Request[Any, Any, Any], schedule: NameInPath, engine: EngineOf
) -> Answer[ScheduleView]:
    """Its next tick does not come any more; one that is just being sent may still happen."""
    _check_caller(request)
    last = await _found(request, schedule)
    if not await _scheduler(request).stored.remove(schedule):
        raise NotFound("schedule", schedule)
    return Answer(_view(engine, last))


def _first_due(spec: ScheduleSpec) -> int:
    """When the first tick is. Raises Problem."""
    if spec.start < time.time_ns() - PAST_NS:
        raise gateway_problem("invalid_field", "start: more than a day ago.", "start", "a later time")
    due = due_of(spec, 0)
    if due is None:
        raise gateway_problem("invalid_field", "until: no tick is before it.", "until", "a later time")
    return due


def _check_drafts(spec: ScheduleSpec) -> None:
    """Raises Problem for what could never be sent."""
    for draft in (spec.move, spec.step):
        if draft is not None:
            check_metadata(draft.metadata)
    if spec.move is not None:
        creation(spec.move, 0)
    elif spec.step is not None:
        step(spec.step, spec.step.move, spec.step.transition, 0)


def _check_caller(request: Request[Any, Any, Any]) -> None:
    """Raises Problem if the caller could not do all that a schedule may do."""
    if not caller_of(request.scope).principal.scopes.allow("moves", "write"):
        raise forbidden("A schedule writes Moves, so this needs the scope moves:write as well.")


async def _found(request: Request[Any, Any, Any], name: str) -> StoredSchedule:
    if (found := await _scheduler(request).stored.get(name)) is None:
        raise NotFound("schedule", name)
    return found


def _view(engine: Engine, stored: StoredSchedule) -> ScheduleView:
    spec = spec_of(stored)
    over = stored.state == "ended"
    return ScheduleView(
        **msgspec.structs.asdict(spec),
        name=stored.name,
        state=stored.state,  # type: ignore[arg-type]  # the table holds no other
        created=Instant(stored.created),
        tick=stored.tick,
        due=None if over else Instant(stored.due),
        next_id=None if over else UUID(int=next_id(engine, stored, spec)),
        fired=None if stored.fired is None else Instant(stored.fired),
        refused=stored.refused,
        code=stored.code or None,
        message=stored.message or None,
    )


handlers: Final = (create_schedule, list_schedules, read_schedule, change_schedule, remove_schedule)
