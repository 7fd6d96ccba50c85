"""The money flows as data, and a small, obvious book that says what their steps must post.

`flows.toml` is the project's own statement. The specification that the flows come from can be read as well,
where it is at hand, to see that both say the same.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine.chart import CLASSES
from engine.templates import parse_amount

OWN: Final = Path(__file__).with_name("flows.toml")
MONEY: Final = "EUR"

_BALANCE: Final = re.compile(r"balance of ([A-Z]:\S+)")
_NAME: Final = re.compile(r"\{(\w+)\}")
_BLOCK: Final = re.compile(r"^```flow (F\d+)([^\n]*)\n(.*?)^```", re.S | re.M)
_OPEN: Final = re.compile(r".*\.contra|I:world|I:issued/.*|I:backlog/.*")


class Leg(NamedTuple):
    """A leg with its amount known."""

    debit: str
    credit: str
    amount: int
    asset: str


class LegRule(NamedTuple):
    """A leg as a flow states it."""

    debit: str
    credit: str
    amount: str
    asset: str


class Way(NamedTuple):
    """Steps in order, and what they end with; a refusal ends with nothing."""

    flow: str
    steps: tuple[str, ...]
    ends: Mapping[str, int]


class Flow(NamedTuple):
    """One flow."""

    name: str
    figures: Mapping[str, int]
    fixed: frozenset[str]  # figures that are no amounts of money
    letters: Mapping[str, str]
    limits: Mapping[str, Mapping[str, int]]
    steps: Mapping[str, tuple[LegRule, ...]]
    paths: tuple[Way, ...]
    refusals: tuple[Way, ...]


class Refused(Exception):  # noqa: N818  # what a guard says, not an error
    """A guard does not allow it."""


def own_flows() -> dict[str, Flow]:
    """The flows of `flows.toml`."""
    found = tomllib.loads(OWN.read_text())
    return {name: _flow(name, data) for name, data in found.items()}


def _flow(name: str, data: dict[str, Any]) -> Flow:
    return Flow(
        name=name,
        figures=data["figures"],
        fixed=frozenset(data.get("fixed", ())),
        letters=data["letters"],
        limits=data.get("limits", {}),
        steps={step: tuple(map(_rule, legs)) for step, legs in data["steps"].items()},
        paths=tuple(Way(name, tuple(path["steps"]), path["ends"]) for path in data["paths"]),
        refusals=tuple(Way(name, tuple(steps), {}) for steps in data.get("refusals", ())),
    )


def _rule(text: str) -> LegRule:
    accounts, amount = text.split(": ", 1)
    debit, credit = accounts.split(" > ")
    amount, _, asset = amount.partition(" @")
    return LegRule(debit, credit, amount, asset or MONEY)


def specified_flows(path: Path) -> dict[str, Flow]:
    """The flows of the specification, in its own letters."""
    flows = {}
    for name, head, body in _BLOCK.findall(path.read_text()):
        figures = {letter: int(number) for letter, number in re.findall(r"(\w+)=(-?\d+)", head)}
        steps: dict[str, tuple[LegRule, ...]] = {}
        paths, refusals = [], []
        limits: dict[str, dict[str, int]] = {}
        for item in re.split(r"\n| \|\| ", body.strip()):
            word, _, rest = item.strip().partition(":")
            if word == "path":
                walked, _, ends = rest.partition("=>")
                balances = dict(end.rsplit("=", 1) for end in ends.split())
                numbers = {key: int(number) for key, number in balances.items()}
                paths.append(Way(name, tuple(walked.split()), numbers))
            elif word == "fail":
                refusals.append(Way(name, tuple(rest.split()), {}))
            elif word == "neg_ok":
                limits |= {key: {"floor": -1_000_000_000} for key in rest.split()}
            elif word == "ceil":
                limits |= {key: {"ceiling": int(number)} for key, number in re.findall(r"(\S+)=(\d+)", rest)}
            else:
                step, _, legs = item.partition(" | ")
                steps[step.strip()] = tuple(map(_specified_rule, legs.split(" ; ")))
        flows[name] = Flow(name, figures, frozenset(), {}, limits, steps, tuple(paths), tuple(refusals))
    return flows


def _specified_rule(text: str) -> LegRule:
    debit, _, rest = text.strip().partition(" > ")
    credit, _, amount = rest.partition(" = ")
    amount, _, asset = amount.strip().partition(" @")
    return LegRule(debit, credit, re.sub(r"bal\((\S+?)\)", r"balance of \1", amount), asset or MONEY)


class Book:
    """Balances of accounts by key and asset, debits counting up. State changes only in `post`."""

    def __init__(
        self, flows: Mapping[str, Flow], flow: str, spell: Callable[[str, str], str], factor: int = 1
    ) -> None:
        self._flows = flows
        self._flow = flow
        self._spell = spell  # from a flow and a key as it says it to the key
        self.factor = factor
        self._debits: dict[tuple[str, str], int] = {}
        limits = flows[flow].limits
        self.limits = {spell(flow, key): bounds for key, bounds in limits.items()}

    def figures(self, flow: str) -> dict[str, int]:
        """A flow's figures, its money times the factor."""
        fixed = self._flows[flow].fixed
        return {
            name: number if name in fixed else number * self.factor
            for name, number in self._flows[flow].figures.items()
        }

    def balance(self, key: str) -> int:
        """What is on an account's normal side; the key may name an asset after @."""
        account, _, asset = key.partition("@")
        debits = self._debits.get((account, asset or MONEY), 0)
        return -debits if CLASSES[account[0]].credit_normal else debits

    def post(self, step: str) -> list[Leg]:
        """The legs of a step, which are then in the book. Raises Refused."""
        flow, step = self._which(step)
        legs, before = [], dict(self._debits)
        for rule in self._flows[flow].steps[step]:
            debit, credit = self._spell(flow, rule.debit), self._spell(flow, rule.credit)
            leg = Leg(debit, credit, self._amount(flow, rule, debit, credit), rule.asset)
            assert leg.amount >= 0, leg
            self._debits[debit, leg.asset] = self._debits.get((debit, leg.asset), 0) + leg.amount
            self._debits[credit, leg.asset] = self._debits.get((credit, leg.asset), 0) - leg.amount
            legs.append(leg)
        touched = {(key, leg.asset) for leg in legs for key in leg[:2]}
        try:
            for key, asset in sorted(touched):
                self._check(key, asset)
        except Refused:
            self._debits = before
            raise
        return legs

    def _which(self, step: str) -> tuple[str, str]:
        flow, _, name = step.rpartition(".")
        return flow or self._flow, name

    def _amount(self, flow: str, rule: LegRule, debit: str, credit: str) -> int:
        if rule.amount in {"rest of debit", "rest of credit"}:
            left = debit if rule.amount == "rest of debit" else credit
            return self.balance(f"{left}@{rule.asset}")
        numbers: dict[str, int] = {}

        def named(found: re.Match[str]) -> str:
            name = f"balance_{len(numbers)}"
            numbers[name] = self.balance(self._spell(flow, found[1]))
            return name

        text = _BALANCE.sub(named, rule.amount)
        values: dict[str, int | list[int]] = {**self.figures(flow), **numbers}
        amount = parse_amount(text, frozenset(values), frozenset()).evaluate(values)
        assert isinstance(amount, int)
        return amount

    def _check(self, key: str, asset: str) -> None:
        balance = self.balance(f"{key}@{asset}")
        bounds = self.limits.get(key, {})
        open_below = key[0] not in "LMI" or _OPEN.fullmatch(key) is not None
        floor = bounds.get("floor", None if open_below else 0)
        ceiling = bounds.get("ceiling")
        if floor is not None and balance < floor:
            raise Refused(f"{key} would have {balance}, less than {floor}")
        if ceiling is not None and balance > ceiling * self.factor:
            raise Refused(f"{key} would have {balance}, more than {ceiling * self.factor}")


def lettered(flows: Mapping[str, Flow]) -> Callable[[str, str], str]:
    """Spells keys in the specification's letters."""
    return lambda flow, key: _NAME.sub(lambda found: flows[flow].letters[found[1]], key)


def named(names: Mapping[str, str]) -> Callable[[str, str], str]:
    """Spells keys with the ids and texts of a run."""
    return lambda _, key: _NAME.sub(lambda found: names[found[1]], key)


def plain(_: str, key: str) -> str:
    """Spells keys as they are."""
    return key


def all_paths(flows: Mapping[str, Flow]) -> list[Way]:
    """Every path of every flow."""
    return [way for flow in flows.values() for way in flow.paths]


def all_refusals(flows: Mapping[str, Flow]) -> list[Way]:
    """Every path whose last step is refused."""
    return [way for flow in flows.values() for way in flow.refusals]


def ends_of(flows: Mapping[str, Flow], path: Way, spell: Callable[[str, str], str]) -> dict[str, int]:
    """The balances that a path states, by key."""
    assert path.flow in flows
    return {spell(path.flow, key): number for key, number in path.ends.items()}
