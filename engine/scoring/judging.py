"""The compiled loop over events, rules and conditions."""

from typing import Any, Final

import numpy as np
from numba import types

from engine.kernel.compiled import entry, part
from engine.kernel.shapes import column_of
from engine.scoring.rules import COMPARISONS, Outcome

# Places in a condition's row.
COLUMN: Final = 0
COMPARES: Final = 1  # place in COMPARISONS
TIMES: Final = 2  # a column, -1 = none
LIST_START: Final = 3
LIST_END: Final = 4
CONDITION_WIDTH: Final = 5

_LESS: Final = COMPARISONS.index("<")
_AT_MOST: Final = COMPARISONS.index("<=")
_EQUAL: Final = COMPARISONS.index("=")
_DIFFERENT: Final = COMPARISONS.index("!=")
_AT_LEAST: Final = COMPARISONS.index(">=")
_GREATER: Final = COMPARISONS.index(">")
_IN: Final = COMPARISONS.index("in")
_ALLOW: Final = int(Outcome.ALLOW)
_REVIEW: Final = int(Outcome.REVIEW)
_DENY: Final = int(Outcome.DENY)
_ONE: Final = np.uint64(1)


@part
def _is_listed(lists: Any, start: Any, end: Any, value: Any) -> Any:
    """Whether a sorted part of `lists` has a value."""
    low, high = start, end
    while low < high:
        middle = (low + high) // 2
        if lists[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < end and lists[low] == value


@part
def _holds(conditions: Any, values: Any, lists: Any, condition: Any, matrix: Any, i: Any) -> Any:
    """Whether a condition holds for an event."""
    value = matrix[i, conditions[condition, COLUMN]]
    bound = values[condition]
    if conditions[condition, TIMES] >= 0:
        bound = bound * matrix[i, conditions[condition, TIMES]]
    if np.isnan(value) or np.isnan(bound):
        return False
    compares = conditions[condition, COMPARES]
    if compares == _GREATER:
        return value > bound
    if compares == _AT_LEAST:
        return value >= bound
    if compares == _LESS:
        return value < bound
    if compares == _AT_MOST:
        return value <= bound
    if compares == _EQUAL:
        return value == bound
    if compares == _DIFFERENT:
        return value != bound
    listed = _is_listed(lists, conditions[condition, LIST_START], conditions[condition, LIST_END], value)
    return listed == (compares == _IN)


@entry(
    column_of(types.int64, 2, False),
    column_of(types.float64, 1, False),
    column_of(types.float64, 1, False),
    column_of(types.int64, 1, False),
    column_of(types.int64, 1, False),
    types.int64,
    types.int64,
    column_of(types.float64, 2, False),
    column_of(types.int64),
    column_of(types.uint8),
    column_of(types.uint64, 2),
)
def judge(
    conditions: Any,
    values: Any,
    lists: Any,
    bounds: Any,
    modifiers: Any,
    review_at: Any,
    deny_at: Any,
    matrix: Any,
    scores: Any,
    outcomes: Any,
    held: Any,
) -> None:
    """Judges each event: its score, its outcome, and a bit for every rule that held (all 0 before).

    The conditions of rule r are those from `bounds[r]` up to `bounds[r + 1]`.
    """
    for i in range(matrix.shape[0]):
        score = np.int64(0)
        for rule in range(modifiers.size):
            condition, end = bounds[rule], bounds[rule + 1]
            while condition < end and _holds(conditions, values, lists, condition, matrix, i):
                condition += 1
            if condition == end:
                score += modifiers[rule]
                held[i, rule >> 6] |= _ONE << np.uint64(rule & 63)
        scores[i] = score
        outcomes[i] = _DENY if score >= deny_at else (_REVIEW if score >= review_at else _ALLOW)
