"""Reading: features of an event as numbers. Here integers become floats, and nowhere else."""

from typing import Any, Final

import numpy as np

from engine.features.definition import DAY_NS, HOUR_NS, NIGHT_UNTIL_HOUR, Measure
from engine.features.state import (
    EVENT_CAPACITY,
    MEASURE_OF,
    REACH,
    SUBJECT_OF,
    WINDOW_OF,
    WITH_THIS,
)
from engine.kernel.compiled import part
from engine.layout import SECOND_NS

_COUNT: Final = int(Measure.COUNT)
_SUM: Final = int(Measure.SUM)
_MEAN: Final = int(Measure.MEAN)
_MAX: Final = int(Measure.MAX)
_DISTINCT: Final = int(Measure.DISTINCT)
_FRAUDS: Final = int(Measure.FRAUDS)
_FRAUD_SHARE: Final = int(Measure.FRAUD_SHARE)
_DISPUTES: Final = int(Measure.DISPUTES)
_ZSCORE: Final = int(Measure.ZSCORE)
_SINCE: Final = int(Measure.SECONDS_SINCE_LAST)
_AMOUNT: Final = int(Measure.AMOUNT)
_NIGHT: Final = int(Measure.NIGHT)
_WEEKEND: Final = int(Measure.WEEKEND)

_TWO_64: Final = 2.0**64
_ALIKE: Final = 1e-12
"""Below this share of the mean square, a variance is rounding: the amounts are alike."""
_THURSDAY: Final = 3
"""1970-01-01 was one, and Monday is 0."""


@part
def write_features(w: Any, columns: Any, events: Any, i: Any, matrix: Any) -> None:
    """Writes row i of the matrix: the features of an event that was located, at the store's time."""
    for column in range(columns.shape[0]):
        measure = columns[column, MEASURE_OF]
        if measure <= _ZSCORE:
            matrix[i, column] = _of_window(w, columns, column, events.amount[i])
        elif measure == _SINCE:
            matrix[i, column] = _since_last(w, columns[column, SUBJECT_OF], events.time[i])
        else:
            matrix[i, column] = _of_event(measure, events.time[i], events.amount[i], events.opened[i])


@part
def _since_last(w: Any, kind: Any, now: Any) -> Any:
    """Seconds since a subject's last event, at most as long as the longest window reaches."""
    row = w.found[kind]
    since = w.scalars[REACH]
    if row >= 0:
        since = min(since, now - w.subjects[row].last)
    return since / SECOND_NS


@part
def _of_event(measure: Any, time: Any, amount: Any, opened: Any) -> Any:
    if measure == _AMOUNT:
        return np.float64(amount)
    if measure == _NIGHT:
        return 1.0 if time // HOUR_NS % 24 < NIGHT_UNTIL_HOUR else 0.0
    if measure == _WEEKEND:
        return 1.0 if (time // DAY_NS + _THURSDAY) % 7 >= 5 else 0.0
    return (time - opened) / DAY_NS if opened != 0 else 0.0


@part
def _of_window(w: Any, columns: Any, column: Any, amount: Any) -> Any:
    measure, kind, span = columns[column, MEASURE_OF], columns[column, SUBJECT_OF], columns[column, WINDOW_OF]
    row, this = w.found[kind], columns[column, WITH_THIS]
    count, total = this, this * amount
    if row >= 0:
        cell = w.cells[row * w.delay.size + span]
        count += cell.count
        total += cell.sum
    if measure == _COUNT:
        return np.float64(count)
    if measure == _SUM:
        return np.float64(total)
    if measure == _MEAN:
        return total / count if count > 0 else 0.0
    return _of_seldom(w, measure, kind, span, amount, this, count, total)


@part
def _of_seldom(
    w: Any, measure: Any, kind: Any, span: Any, amount: Any, this: Any, count: Any, total: Any
) -> Any:
    row = w.found[kind]
    if measure == _MAX:
        largest = this * amount
        if row >= 0 and w.cells[row * w.delay.size + span].front >= 0:
            front = w.cells[row * w.delay.size + span].front
            largest = max(largest, w.amount[front & (w.scalars[EVENT_CAPACITY] - 1)])
        return np.float64(largest)
    new = this if measure == _DISTINCT and w.met[kind] < w.left[span] else 0
    if row < 0:
        return np.float64(new)
    cell = w.cells[row * w.delay.size + span]
    if measure == _DISTINCT:
        return np.float64(cell.distinct + new)
    if measure == _FRAUDS:
        return np.float64(cell.frauds)
    if measure == _FRAUD_SHARE:
        return cell.frauds / count if count > 0 else 0.0
    if measure == _DISPUTES:
        return np.float64(cell.disputes)
    return _zscore(cell, amount, count, total)


@part
def _zscore(cell: Any, amount: Any, count: Any, total: Any) -> Any:
    """How far an amount is from the mean of earlier ones, in their (population's) standard deviations."""
    if count < 2:
        return 0.0
    mean = total / count
    mean_square = (np.float64(cell.squares_hi) * _TWO_64 + np.float64(cell.squares_lo)) / count
    variance = mean_square - mean * mean
    return (amount - mean) / np.sqrt(variance) if variance > _ALIKE * mean_square else 0.0
