"""When ticks are, and that their ids follow from schedule and number."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.ids import bucket_of_id, is_uuid7, unix_ms_of
from gateway.schedules.schemas import ScheduleSpec
from gateway.schedules.ticks import due_of, tick_id
from gateway.wire import Instant, decode_value

STEP = {"move": "019aa0c2-7c00-7000-8000-000000000536", "transition": "void"}


def spec(start: str, **more: Any) -> ScheduleSpec:
    found: ScheduleSpec = msgspec.convert(
        {"start": start, "step": STEP, **more}, ScheduleSpec, dec_hook=decode_value
    )
    return found


def days(made: ScheduleSpec, *ticks: int) -> list[str | None]:
    return [None if (due := due_of(made, tick)) is None else Instant(due).text[:10] for tick in ticks]


def test_without_every_there_is_one_tick() -> None:
    assert days(spec("2030-01-31T06:00:00Z"), 0, 1) == ["2030-01-31", None]


def test_months_count_from_the_start() -> None:
    monthly = spec("2030-01-31T06:00:00.000000007Z", every={"unit": "month"})
    assert days(monthly, 0, 1, 2, 3, 25) == [
        "2030-01-31",
        "2030-02-28",
        "2030-03-31",
        "2030-04-30",
        "2032-02-29",
    ]
    assert due_of(monthly, 0) == int(datetime(2030, 1, 31, 6, tzinfo=UTC).timestamp()) * 10**9 + 7
    leap = spec("2028-02-29T00:00:00Z", every={"unit": "year"})
    assert days(leap, 1, 4) == ["2029-02-28", "2032-02-29"]
    quarterly = spec("2030-11-30T00:00:00Z", every={"unit": "month", "count": 3})
    assert days(quarterly, 1, 2) == ["2031-02-28", "2031-05-30"]


def test_it_ends_after_so_many_ticks_and_before_a_time() -> None:
    weekly = {"every": {"unit": "week"}}
    assert days(spec("2030-01-01T00:00:00Z", ticks_max=2, **weekly), 0, 1, 2) == [
        "2030-01-01",
        "2030-01-08",
        None,
    ]
    assert days(spec("2030-01-01T00:00:00Z", until="2030-01-08T00:00:00Z", **weekly), 0, 1) == [
        "2030-01-01",
        None,
    ]
    assert days(spec("2030-01-01T00:00:00Z", **weekly), 10**9) == [None]
    assert days(spec("2030-01-01T00:00:00Z", every={"unit": "year", "count": 10_000}), 1) == [None]


def test_ids_are_those_of_the_tick() -> None:
    one, other = UUID(int=1), UUID(int=2)
    due = 1_900_000_000 * 10**9
    ids = [tick_id(schedule, tick, due, 77) for schedule in (one, other) for tick in range(100)]
    assert len(set(ids)) == 200
    assert ids[:100] == [tick_id(one, tick, due, 77) for tick in range(100)]
    assert all(is_uuid7(id) and bucket_of_id(id) == 77 and unix_ms_of(id) == due // 10**6 for id in ids)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"move": {"kind": "transfer"}}, "either move or step"),
        ({"step": {**STEP, "id": STEP["move"]}}, "each tick's own"),
        ({"step": {**STEP, "business_time": 5}}, "each tick's own"),
        ({"step": None, "move": {"kind": "transfer", "reference": "x"}}, "one Move's own"),
        ({"every": {"unit": "decade"}}, "Invalid enum value"),
        ({"every": {"unit": "day", "count": 0}}, ">= 1"),
    ],
)
def test_what_is_no_schedule(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=reason):
        spec("2030-01-31T06:00:00Z", **more)
