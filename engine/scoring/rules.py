"""Rule sets as data: conditions over columns, modifiers of a score, thresholds and lists, under a version.

A rule holds if all its conditions do; then its score is added. The sum decides: from `review_at` on an event
is reviewed, from `deny_at` on it is denied, and otherwise it is allowed. Columns are features, or whatever
else is known as a number. A condition on a value that is missing (NaN) does not hold, whatever it compares.
"""

from enum import IntEnum
from typing import Final, Literal

import msgspec

RULES_MAX: Final = 1024
CONDITIONS_MAX: Final = 64
SCORE_MAX: Final = 1_000_000
LIST_VALUES_MAX: Final = 1_000_000

Comparison = Literal["<", "<=", "=", "!=", ">=", ">", "in", "not in"]
COMPARISONS: Final[tuple[Comparison, ...]] = ("<", "<=", "=", "!=", ">=", ">", "in", "not in")
OF_LISTS: Final = ("in", "not in")


class RuleError(ValueError):
    """A rule set that cannot be judged: what is wrong, and where."""


class Outcome(IntEnum):
    """What becomes of an event; never reused."""

    ALLOW = 0
    REVIEW = 1
    DENY = 2


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A column compared with a value, with a multiple of another column (`times`), or with a list."""

    column: str
    compares: Comparison = msgspec.field(name="is")
    value: float = 0.0
    times: str = ""  # the value is multiplied by this column
    listed: str = msgspec.field(name="list", default="")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What it takes, what it adds to the score, and what is said when it held."""

    name: str
    when: tuple[Condition, ...]
    score: int
    reason: str


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All rules that are judged together."""

    name: str
    version: int
    rules: tuple[Rule, ...]
    review_at: int
    deny_at: int
    lists: dict[str, tuple[float, ...]] = {}

    def __post_init__(self) -> None:
        if not 1 <= len(self.rules) <= RULES_MAX:
            raise RuleError(f"a rule set has 1 to {RULES_MAX} rules, not {len(self.rules)}")
        if len({rule.name for rule in self.rules}) < len(self.rules):
            raise RuleError("two rules have one name")
        if not -SCORE_MAX <= self.review_at <= self.deny_at <= SCORE_MAX:
            raise RuleError(f"review_at is at most deny_at, and both are within ±{SCORE_MAX}")
        for name, values in self.lists.items():
            if len(values) > LIST_VALUES_MAX:
                raise RuleError(f"list {name} has more than {LIST_VALUES_MAX} values")
        for rule in self.rules:
            self._check(rule)

    def _check(self, rule: Rule) -> None:
        if not 1 <= len(rule.when) <= CONDITIONS_MAX:
            raise RuleError(f"rule {rule.name}: 1 to {CONDITIONS_MAX} conditions are needed")
        if abs(rule.score) > SCORE_MAX:
            raise RuleError(f"rule {rule.name}: the score is within ±{SCORE_MAX}")
        for condition in rule.when:
            if (condition.compares in OF_LISTS) != bool(condition.listed):
                raise RuleError(f"rule {rule.name}: `in` and `not in` name a list, and nothing else does")
            if condition.listed and condition.listed not in self.lists:
                raise RuleError(f"rule {rule.name}: there is no list {condition.listed}")


def decode_rules(content: bytes) -> RuleSet:
    """A rule set from JSON. Raises RuleError, which says where it is wrong."""
    try:
        return msgspec.json.decode(content, type=RuleSet)
    except msgspec.DecodeError as exc:
        raise RuleError(str(exc)) from exc
