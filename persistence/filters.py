"""What makes sense to ask: limits, ranges of times and cursors, and what a filter becomes in SQL."""

from collections.abc import Callable, Sequence
from typing import Any

from persistence.errors import FilterRefused
from persistence.view_rows import signed, uuid_or_none
from persistence.views import LIMIT_MAX, TIME_MAX, AccountFilter

Row = tuple[Any, ...]


def check_limit(limit: int) -> None:
    """Raises FilterRefused unless it is the size of a page."""
    if not 1 <= limit <= LIMIT_MAX:
        raise FilterRefused(f"a limit of {limit} makes no sense; expected 1 to {LIMIT_MAX}", "limit")


def check_range(
    first: int, last: int, first_name: str = "timestamp_min", last_name: str = "timestamp_max"
) -> None:
    """Raises FilterRefused if the range of times, inclusive, is empty or not of times."""
    check_time(first, first_name)
    check_time(last, last_name)
    if first > last:
        raise FilterRefused(f"the range from {first} to {last} is empty", first_name)


def check_time(time: int, field: str) -> None:
    """Raises FilterRefused unless it is a time."""
    if not 0 <= time <= TIME_MAX:
        raise FilterRefused(f"{time} is not a time in nanoseconds since 1970", field)


def parse_cursor(cursor: str | None, kinds: Sequence[Callable[[str], Any]], start: Row) -> Row:
    """The parts of a cursor; `start` if there is none."""
    if cursor is None:
        return start
    parts = cursor.rsplit("|", len(kinds) - 1)
    try:
        return tuple(kind(part) for kind, part in zip(kinds, parts, strict=True))
    except ValueError as exc:
        raise FilterRefused(f"{cursor!r} is not a cursor of this query", "cursor") from exc


def parse_time(text: str) -> int:
    """A time in a cursor. Raises ValueError."""
    time = int(text)
    if not 0 <= time <= TIME_MAX:
        raise ValueError(text)
    return time


def conditions(wanted: AccountFilter, everything: bool) -> dict[str, Any]:
    """The filter as parameters of a statement; null = no condition."""
    return {
        "all": everything,
        "side": None if wanted.debits and wanted.credits else "debit" if wanted.debits else "credit",
        "code": wanted.code or None,
        "user_data_128": uuid_or_none(wanted.user_data_128),
        "user_data_64": signed(wanted.user_data_64) or None,
        "user_data_32": wanted.user_data_32 or None,
    }
