"""Accounts in laundering cycles: how well they are found by amounts alone, by the graph, and by both.

Money that launders comes back: over a few accounts, nearly the same amount, within some time. That is the
**return flow** of a transfer; the rest of the graph's features are counts of neighbours.
"""

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from simulations.errors import SimulationError
from simulations.fraud.transfers import Transfers

HOPS_MAX: Final = 8
LIKENESS: Final = 0.02
"""By how much, of the first amount, another may differ to count as the same money."""
FOLDS: Final = 5
RANDOM_STATE: Final = 0
TREES: Final = 100
TRAILS_MAX: Final = 20_000_000
"""How many trails of money may be followed at once."""

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Found(msgspec.Struct, frozen=True):
    """How well accounts are found with some features; each is judged by models that never saw it."""

    features: str
    columns: int
    precision: float
    recall: float
    average_precision: float


class CycleReport(msgspec.Struct, frozen=True):
    """What was found."""

    accounts: int
    transfers: int
    launderers: int
    window_steps: int
    returning: int  # transfers whose money came back
    return_flow_precision: float  # of accounts with return flow, without any model
    return_flow_recall: float
    found: list[Found]


def find_cycles(transfers: Transfers, window_steps: int) -> CycleReport:
    """Judges amounts, the graph, and both."""
    returns = return_flow(transfers, window_steps)
    amounts, graph = amount_features(transfers), graph_features(transfers, returns)
    launders = transfers.launders == 1
    touched = np.zeros(len(launders), np.bool_)
    touched[transfers.source[returns]] = True
    sets = (
        ("amounts", amounts),
        ("graph", graph),
        ("amounts and graph", np.hstack([amounts, graph])),
    )
    return CycleReport(
        accounts=len(launders),
        transfers=len(transfers.step),
        launderers=int(launders.sum()),
        window_steps=window_steps,
        returning=int(returns.sum()),
        return_flow_precision=_share(launders[touched]),
        return_flow_recall=_share(touched[launders]),
        found=[_judge(name, matrix, launders) for name, matrix in sets],
    )


def return_flow(transfers: Transfers, window_steps: int) -> Mask:
    """Which transfers' money comes back to where it came from.

    It may take `HOPS_MAX` transfers, each of nearly the amount and within the window before or after the
    first: in planted cycles they are not in order of time. Every trail is followed to each account once.
    """
    source, target, amount, step, _ = transfers
    by_source = np.argsort(source, kind="stable")
    start = np.searchsorted(source[by_source], np.arange(len(transfers.launders) + 1))
    returned = np.zeros(len(source), np.bool_)
    first, account = np.arange(len(source)), target.copy()
    seen = np.zeros(0, np.int64)
    for _hop in range(HOPS_MAX - 1):
        counts = start[account + 1] - start[account]
        if counts.sum() > TRAILS_MAX:
            raise SimulationError(f"there are more than {TRAILS_MAX:,} trails of money to follow at once")
        trail = np.repeat(first, counts)
        offset = np.arange(len(trail)) - np.repeat(np.cumsum(counts) - counts, counts)
        following = by_source[np.repeat(start[account], counts) + offset]
        alike = np.abs(amount[following] - amount[trail]) <= LIKENESS * amount[trail]
        alike &= np.abs(step[following] - step[trail]) <= window_steps
        trail, reached = trail[alike], target[following[alike]]
        returned[trail[reached == source[trail]]] = True
        places = np.unique(trail * len(transfers.launders) + reached)
        places = places[~np.isin(places, seen, assume_unique=True)]
        seen = np.union1d(seen, places)
        first, account = places // len(transfers.launders), places % len(transfers.launders)
        going_on = ~returned[first]
        first, account = first[going_on], account[going_on]
        if len(first) == 0:
            break
    return returned


def amount_features(transfers: Transfers) -> Floats:
    """Of each account: sum, mean, least, greatest and spread of what it sends, and of what it receives."""
    columns: list[npt.NDArray[Any]] = []
    accounts = len(transfers.launders)
    amount = transfers.amount_minor.astype(np.float64)
    for end in (transfers.source, transfers.target):
        count = np.maximum(np.bincount(end, minlength=accounts), 1)
        total = np.bincount(end, amount, minlength=accounts)
        squares = np.bincount(end, amount**2, minlength=accounts)
        least, greatest = np.full(accounts, np.inf), np.zeros(accounts)
        np.minimum.at(least, end, amount)
        np.maximum.at(greatest, end, amount)
        mean = total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
        columns += [total, mean, np.where(np.isinf(least), 0, least), greatest, spread]
    return np.column_stack(columns)


def graph_features(transfers: Transfers, returns: Mask) -> Floats:
    """Of each account: transfers and neighbours in and out, neighbours per transfer, return flow."""
    accounts = len(transfers.launders)
    columns: list[npt.NDArray[Any]] = []
    for end, other in ((transfers.source, transfers.target), (transfers.target, transfers.source)):
        count = np.bincount(end, minlength=accounts)
        pairs = np.unique(end * accounts + other)
        neighbours = np.bincount(pairs // accounts, minlength=accounts)
        columns += [count, neighbours, neighbours / np.maximum(count, 1)]
        columns.append(np.bincount(end[returns], minlength=accounts).astype(np.float64))
    return np.column_stack(columns)


def _judge(name: str, matrix: Floats, launders: Mask) -> Found:
    model = RandomForestClassifier(TREES, random_state=RANDOM_STATE, n_jobs=-1)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=RANDOM_STATE)
    score = cross_val_predict(model, matrix, launders, cv=folds, method="predict_proba")[:, 1]
    named = score >= 0.5
    return Found(
        features=name,
        columns=matrix.shape[1],
        precision=_share(launders[named]),
        recall=_share(named[launders]),
        average_precision=float(average_precision_score(launders, score)),
    )


def _share(which: Mask) -> float:
    return float(which.mean()) if len(which) else 0.0
