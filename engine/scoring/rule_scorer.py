"""A rule set made ready for a matrix with certain columns."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.scoring import judging
from engine.scoring.rules import COMPARISONS, Condition, RuleError, RuleSet


class Verdicts(NamedTuple):
    """What a rule set says of each event: arrays of one length."""

    score: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.uint8]  # Outcome
    held: npt.NDArray[np.uint64]  # (n, words): bit r % 64 of word r // 64 = rule r held

    def holds(self, rule: int) -> npt.NDArray[np.bool_]:
        """For which events a rule held, by its place in the set."""
        bits = self.held[:, rule >> 6] >> np.uint64(rule & 63)
        held: npt.NDArray[np.bool_] = (bits & np.uint64(1)).astype(np.bool_)
        return held


class RuleScorer:
    """Judges rows of the columns it was made for. RuleError if the rules name a column that is not there."""

    def __init__(self, rule_set: RuleSet, columns: tuple[str, ...]) -> None:
        self.rule_set = rule_set
        self.columns = columns
        starts: dict[str, int] = {}
        values: list[float] = []
        for name, listed in rule_set.lists.items():
            starts[name] = len(values)
            values += sorted(listed)
        rows: list[tuple[int, ...]] = []
        bounds = [0]
        conditions = [condition for rule in rule_set.rules for condition in rule.when]
        for condition in conditions:
            start = starts.get(condition.listed, 0)
            end = start + len(rule_set.lists.get(condition.listed, ()))
            times = self._place(condition.times) if condition.times else -1
            rows.append((self._place(condition.column), _code(condition), times, start, end))
        for rule in rule_set.rules:
            bounds.append(bounds[-1] + len(rule.when))
        self._conditions = _read_only(np.array(rows, np.int64).reshape(-1, judging.CONDITION_WIDTH))
        self._values = _read_only(np.array([condition.value for condition in conditions], np.float64))
        self._lists = _read_only(np.array(values, np.float64))
        self._bounds = _read_only(np.array(bounds, np.int64))
        self._modifiers = _read_only(np.array([rule.score for rule in rule_set.rules], np.int64))

    def judge(self, matrix: npt.NDArray[np.float64]) -> Verdicts:
        """Judges each row of a matrix; ValueError if it has other columns than promised."""
        if matrix.ndim != 2 or matrix.shape[1] != len(self.columns):
            raise ValueError(f"a matrix of shape {matrix.shape} has not the {len(self.columns)} columns")
        count, words = len(matrix), (len(self._modifiers) + 63) // 64
        verdicts = Verdicts(
            score=np.empty(count, np.int64),
            outcome=np.empty(count, np.uint8),
            held=np.zeros((count, words), np.uint64),
        )
        judging.judge(
            self._conditions,
            self._values,
            self._lists,
            self._bounds,
            self._modifiers,
            self.rule_set.review_at,
            self.rule_set.deny_at,
            _read_only(matrix.astype(np.float64, copy=False)),
            *verdicts,
        )
        return verdicts

    def reasons(self, verdicts: Verdicts, event: int) -> list[str]:
        """Why an event has its score: what the rules that held say, in their order."""
        return [
            rule.reason
            for place, rule in enumerate(self.rule_set.rules)
            if int(verdicts.held[event, place >> 6]) >> (place & 63) & 1
        ]

    def _place(self, column: str) -> int:
        if column not in self.columns:
            raise RuleError(f"there is no column {column} (there are: {', '.join(self.columns)})")
        return self.columns.index(column)


def _code(condition: Condition) -> int:
    return COMPARISONS.index(condition.compares)


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = np.ascontiguousarray(array)[:]
    view.flags.writeable = False
    return view
