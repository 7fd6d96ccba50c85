"""The way that one command takes through its kind: which transitions, what they need, what their names stand
for.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from engine import ids
from engine.chart import Chart
from engine.commands import Refusal
from engine.directory import Directory
from engine.intake import Wanted, entry_rows, leg_rows, paired_rows
from engine.kinds import EXPIRE, PATH_SEPARATOR, SUM_PREFIX, CompiledKind, CompiledTransition, Each
from engine.layout import AMOUNT_MAX
from engine.outcomes import Prepared
from engine.posting import LineRows, Refused, Scope

PATH_LENGTH_MAX: Final = 8
"""Transitions that one command may take."""


class Plan(NamedTuple):
    """The transitions that a command takes from a state, and what it needs for them."""

    steps: tuple[CompiledTransition, ...]
    transition: str
    target: str
    ended: bool
    wanted: Wanted
    rows: frozenset[Each]  # what its postings repeat for
    checks: frozenset[str]
    reads: bool  # balances
    of_lines: frozenset[str]  # sums of lines that its postings name


def new_plan(kind: CompiledKind, state: str, transition: str, creating: bool, due: bool = False) -> Plan:
    """The way from a state along some transitions; only what is `due` may be the engine's own. Raises
    Refused."""
    names = transition.split(PATH_SEPARATOR) if transition else []
    if not creating and not names:
        raise Refused(Refusal.TRANSITION_UNKNOWN, f"transition: missing; {_ways_on(kind, state)}")
    if len(names) > PATH_LENGTH_MAX:
        raise Refused(Refusal.TRANSITION_UNKNOWN, f"transition: more than {PATH_LENGTH_MAX} at once")
    steps = []
    for name in names:
        if name not in kind.names:
            known = ", ".join(sorted(kind.names - {EXPIRE}))
            raise Refused(
                Refusal.TRANSITION_UNKNOWN, f"transition: {kind.kind.name} has no {name!r}; it has {known}"
            )
        step = kind.steps.get((state, name))
        if step is None or step.transition.by_engine is not due:
            raise Refused(
                Refusal.MOVE_STATE_DIFFERS,
                f"transition: {name!r} does not lead on from {state}; {_ways_on(kind, state)}",
            )
        steps.append(step)
        state = step.transition.target
    needed = [*(kind.kind.needs if creating else ())]
    accepted = [*needed, *(kind.kind.takes if creating else ())]
    for step in steps:
        needed += step.transition.needs
        accepted += [*step.transition.needs, *step.transition.takes]
    return Plan(
        steps=tuple(steps),
        transition=transition,
        target=state,
        ended=kind.ended(state),
        wanted=Wanted(
            tuple(needed),
            frozenset(field for need in accepted for field in need.split("|")),
            kind.kind.inputs
            | {name: value for step in steps for name, value in step.transition.inputs.items()},
            kind.kind.roles if creating else {},
        ),
        rows=frozenset(posting.posting.each for step in steps for posting in step.postings),
        checks=frozenset(check for step in steps for check in step.transition.checks),
        reads=any(step.readings for step in steps),
        of_lines=frozenset(
            name.removeprefix(SUM_PREFIX)
            for step in steps
            for amount in step.amounts
            for name in amount.names
            if name.startswith(SUM_PREFIX)
        ),
    )


def _ways_on(kind: CompiledKind, state: str) -> str:
    ways = kind.next_of(state)
    return f"from {state} lead {', '.join(ways)}" if ways else f"nothing leads on from {state}"


def scope_of(prepared: Prepared, plan: Plan, id: int, chart: Chart, directory: Directory) -> Scope:
    """What the names in the kind's templates stand for."""
    command, move, kind = prepared.command, prepared.move, prepared.kind
    scope = Scope(chart, directory, kind, move.asset)
    scope.ids = {
        "move": id,
        "payer": ids.id_from_bytes(move.payer),
        "payee": ids.id_from_bytes(move.payee),
        "reverses": ids.id_from_bytes(move.reverses),
    }
    scope.names = {name: ids.format_id(value) for name, value in scope.ids.items() if value}
    if move.tender:
        scope.names["tender"] = move.tender
    if move.reason:
        scope.names["reason"] = move.reason
    names = _own_names(prepared, plan)
    scope.given_keys = frozenset(names.given)
    scope.ids |= names.roles
    for name, value in names.values.items():
        scope.names[name] = str(value)
        if isinstance(value, int):
            scope.values[name] = value
    lines = prepared.lines if prepared.lines is not None else move.lines
    scope.values |= {
        "amount": move.amount,
        "given": command.amount,
        "given_or_all": command.amount or AMOUNT_MAX,
        "total": sum(lines.amounts) if lines is not None else 0,
    }
    if lines is not None and kind.kind.lines is not None:
        scope.rows["line"] = LineRows(lines, directory, kind.kind.lines)
    for name in plan.of_lines:
        column = lines.columns.get(name, []) if lines is not None else []
        scope.values[SUM_PREFIX + name] = sum(value for value in column if isinstance(value, int))
    if command.legs is not None:
        scope.rows["leg"] = leg_rows(command.legs, directory)
    elif command.entries is not None:
        if "entry" in plan.rows:
            scope.rows["entry"] = entry_rows(command.entries, directory)
        if "leg" in plan.rows:
            scope.rows["leg"] = paired_rows(command.entries, directory)
    return scope


class _OwnNames(NamedTuple):
    """Names of a kind's own, as they stand for one command."""

    given: Mapping[str, int | str]  # what the Move's requests have given
    values: Mapping[str, int | str]  # all of them, with defaults
    roles: Mapping[str, int]


def _own_names(prepared: Prepared, plan: Plan) -> _OwnNames:
    command, move, kind = prepared.command, prepared.move, prepared.kind.kind
    if not move.inputs and not command.inputs and not kind.counters:
        return _OwnNames({}, plan.wanted.inputs, {})
    kept = {name: value for name, value in move.inputs.items() if name in kind.inputs or name in kind.roles}
    counters = {name: move.inputs.get(name, first) for name, first in kind.counters.items()}
    given = kept | command.inputs
    roles = {name: ids.parse_id(str(given[name])) for name in kind.roles if name in given}
    return _OwnNames(given, {**plan.wanted.inputs, **counters, **given}, roles)
