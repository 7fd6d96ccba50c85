"""What the form of an event must be, for legs and accounts alike: the first phase of judging."""

from typing import Any, Final

import numpy as np

from engine.kernel.compiled import part
from engine.results import Result

_ZERO: Final = np.uint64(0)
_ONES: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


@part
def is_zero(column: Any, i: Any) -> Any:
    """Whether an id is 0."""
    return (column[i, 0] | column[i, 1]) == _ZERO


@part
def is_int_max(column: Any, i: Any) -> Any:
    """Whether an id is 2¹²⁸ − 1."""
    return (column[i, 0] & column[i, 1]) == _ONES


@part
def judge_message(imported: Any, batch_imported: Any, timestamp: Any, batch_time: Any) -> Any:
    """What the batch asks of its members, of legs and accounts alike."""
    if imported != batch_imported:
        if imported:
            return Result.IMPORTED_EVENT_NOT_EXPECTED.value
        return Result.IMPORTED_EVENT_EXPECTED.value
    if not imported:
        return Result.CREATED.value if timestamp == 0 else Result.TIMESTAMP_MUST_BE_ZERO.value
    if timestamp < 1:
        return Result.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE.value
    if timestamp >= batch_time:
        return Result.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE.value
    return Result.CREATED.value


@part
def judge_id(column: Any, i: Any) -> Any:
    """Whether an id can be one."""
    if is_zero(column, i):
        return Result.ID_MUST_NOT_BE_ZERO.value
    if is_int_max(column, i):
        return Result.ID_MUST_NOT_BE_INT_MAX.value
    return Result.CREATED.value
