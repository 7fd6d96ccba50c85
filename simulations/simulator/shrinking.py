"""Makes a failing run small: fewer steps, fewer incidents, fewer sorts of faults and commands, fewer clients.

Every part of a run draws from a stream of its own, so what is left out changes as little as it can about the
rest. A smaller run is taken if it fails by the same check.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from msgspec.structs import replace

from simulations.simulator.clients import COMMANDS
from simulations.simulator.faults import SORTS, Plan
from simulations.simulator.traders import MOVES, NO_MOVES
from simulations.simulator.world import Outcome, World

ROUNDS_MAX: Final = 4

Change = Callable[[Plan], Plan]


def shrink(outcome: Outcome) -> Outcome:
    """The smallest failing run that was found, itself at worst. The outcome must be one that went wrong."""
    assert outcome.wrong is not None
    best = outcome
    for _ in range(ROUNDS_MAX):
        before = best.plan
        for change in _changes(outcome.incidents):
            plan = change(best.plan)
            if plan != best.plan:
                best = _tried(plan, outcome.wrong.check) or best
        if best.plan == before:
            break
    return best


def _tried(plan: Plan, check: str) -> Outcome | None:
    """How a run ends, if it fails by that check."""
    outcome = World(plan).run()
    if outcome.wrong is None or outcome.wrong.check != check:
        return None
    return outcome._replace(plan=replace(plan, steps=min(outcome.steps, plan.steps)))


def _changes(incidents: int) -> Iterator[Change]:
    """What makes a run smaller, to be tried one after the other."""
    yield lambda plan: replace(plan, only=())
    yield lambda plan: replace(plan, only=tuple(range(incidents))) if plan.only is None else plan
    for number in range(incidents):
        yield partial(_without_incident, number)
    for sort in (NO_MOVES, *SORTS, *COMMANDS[1:], *MOVES[1:]):
        yield partial(_without, sort)
    for clients in (1, 2, 3):
        yield partial(_with_clients, clients)


def _without_incident(number: int, plan: Plan) -> Plan:
    return replace(plan, only=tuple(one for one in plan.only or () if one != number))


def _without(sort: str, plan: Plan) -> Plan:
    return plan if sort in plan.without else replace(plan, without=(*plan.without, sort))


def _with_clients(clients: int, plan: Plan) -> Plan:
    return plan if 0 < plan.clients <= clients else replace(plan, clients=clients)
