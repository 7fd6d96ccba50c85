"""The JSON objects of schedules."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from gateway.schemas import MoveDraft, Next, TransitionDraft
from gateway.wire import Instant

COUNT_MAX = 10_000

ScheduleName = Annotated[
    str,
    Meta(
        pattern="^[a-z][a-z0-9-]{0,62}$",
        description="Small letters, digits and hyphens.",
        examples=["rent-alice"],
    ),
]
Unit = Literal["second", "minute", "hour", "day", "week", "month", "year"]
TickCount = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Every(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far apart ticks are, in UTC. Months and years count from the start: what begins on the 31st is on
    the last day of a shorter month, and on the 31st again after it."""

    unit: Unit
    count: Annotated[int, Meta(ge=1, le=COUNT_MAX)] = 1


class ScheduledStep(TransitionDraft, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transition of a Move that is there by then."""

    move: UUID
    transition: Annotated[
        str, Meta(min_length=1, max_length=128, description="One, or several joined by `+`.")
    ]


class ScheduleSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When something happens, and what: a `move` to create, or a `step` of one. Without `every` it happens
    once. It ends after `ticks_max` ticks, and before `until`."""

    start: Instant
    every: Every | None = None
    until: Instant | None = None
    ticks_max: TickCount | None = None
    move: MoveDraft | None = None
    step: ScheduledStep | None = None

    def __post_init__(self) -> None:
        if (self.move is None) == (self.step is None):
            raise ValueError("a schedule has either move or step")
        for draft in (self.move, self.step):
            if draft is not None and (draft.id is not None or draft.business_time is not None):
                raise ValueError("id and business_time are each tick's own; leave them out")
        if self.move is not None and self.move.reference is not None:
            raise ValueError("a reference is one Move's own; leave it out")


class ScheduleDraft(ScheduleSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schedule to make."""

    name: ScheduleName


class SchedulePatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether ticks are to happen. Those that fell due in a pause happen after it."""

    paused: bool


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, and how far it has got. `refused` counts ticks that the ledger refused; `code` and
    `message` say why the last one was, if it was."""

    name: str
    state: Literal["active", "paused", "ended"]
    start: Instant
    every: Every | None
    until: Instant | None
    ticks_max: int | None
    move: MoveDraft | None
    step: ScheduledStep | None
    created: Instant
    tick: Annotated[int, Meta(description="How many there were.")]
    due: Annotated[Instant | None, Meta(description="When the next one is.")]
    next_id: Annotated[UUID | None, Meta(description="The id that its request will have.")]
    fired: Instant | None
    refused: int
    code: str | None
    message: str | None


class SchedulePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some schedules."""

    items: list[ScheduleView]
    next: Next = None
