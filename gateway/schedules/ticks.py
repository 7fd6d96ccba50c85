"""When the ticks of a schedule are, and under which ids they happen.

Both follow from the schedule and the tick's number alone, so whoever lets a tick happen, and however often,
sends the same request under the same id: the ledger takes it once.
"""

import calendar
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import xxhash

from engine.ids import uuid7
from engine.layout import SECOND_NS
from gateway.schedules.schemas import Every, ScheduleSpec

_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_MONTHS: Final = {"month": 1, "year": 12}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND_NS: Final = 1_000_000
YEAR_MAX: Final = 9999


def due_of(spec: ScheduleSpec, tick: int) -> int | None:
    """When a tick is, in nanoseconds since 1970; None if the schedule has no such tick."""
    if tick >= (1 if spec.every is None else spec.ticks_max or tick + 1):
        return None
    due = int(spec.start) if spec.every is None else _after(int(spec.start), spec.every, tick)
    if due is None or (spec.until is not None and due >= spec.until):
        return None
    return due


def tick_id(schedule: UUID, tick: int, due: int, bucket: int) -> int:
    """The id of a tick's request, at home in a bucket."""
    digest = xxhash.xxh3_64_intdigest(schedule.bytes + tick.to_bytes(8, "big"))
    return uuid7(due // _MILLISECOND_NS, bucket, digest >> 2)


def _after(start: int, every: Every, tick: int) -> int | None:
    """So many times later. None where there is no such time any more."""
    if every.unit in _SECONDS:
        due = start + tick * every.count * _SECONDS[every.unit] * SECOND_NS
        return due if due < 2**63 else None
    seconds, rest = divmod(start, SECOND_NS)
    first = _EPOCH + timedelta(seconds=seconds)
    months = first.year * 12 + first.month - 1 + tick * every.count * _MONTHS[every.unit]
    year, month = months // 12, months % 12 + 1
    if year > YEAR_MAX:
        return None
    day = min(first.day, calendar.monthrange(year, month)[1])
    since = first.replace(year=year, month=month, day=day) - _EPOCH
    nanoseconds = (since.days * 86_400 + since.seconds) * SECOND_NS + rest
    return nanoseconds if nanoseconds < 2**63 else None
