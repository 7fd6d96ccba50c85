"""The fifteen features of card payments in pandas: rolling sums over the whole history of each subject.

Run as a program it holds the store to them for every payment of a whole world.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.features.store import FeatureStore
from simulations.fraud.card_features import card_features, features_of
from simulations.fraud.payments import Payments
from simulations.fraud.world import card_world

DAYS = (1, 7, 30)
DELAY = 7


def slow_card_features(payments: Payments) -> npt.NDArray[np.float64]:
    """A row for each payment, the columns in the order of `card_features`."""
    frame = pd.DataFrame(
        {
            "time": pd.to_datetime(payments.time_ns),
            "customer": payments.customer,
            "terminal": payments.terminal,
            "amount": payments.amount_minor.astype(float),
            "fraud": payments.fraud.astype(float),
        }
    )
    columns: list[Any] = [frame["amount"], frame["time"].dt.day_of_week >= 5, frame["time"].dt.hour <= 6]
    for days in DAYS:
        columns += [_rolling(frame, "customer", "amount", days, what) for what in ("count", "mean")]
    for days in DAYS:
        long, recent = DELAY + days, DELAY
        count = _rolling(frame, "terminal", "fraud", long, "count")
        count -= _rolling(frame, "terminal", "fraud", recent, "count")
        frauds = _rolling(frame, "terminal", "fraud", long, "sum")
        frauds -= _rolling(frame, "terminal", "fraud", recent, "sum")
        columns += [count, np.divide(frauds, count, out=np.zeros(len(count)), where=count > 0)]
    return np.column_stack([np.asarray(column, float) for column in columns])


def _rolling(frame: Any, subject: str, column: str, days: int, what: str) -> npt.NDArray[np.float64]:
    """A sum, mean or count over the last days of each subject, by payment; (t − days, t] in pandas' terms."""
    values = np.empty(len(frame))
    for _, group in frame.groupby(subject, sort=False):
        rolled = group.set_index("time")[column].rolling(f"{days}D")
        values[group.index] = getattr(rolled, what)().to_numpy()
    return values


def assert_same_features(payments: Payments) -> npt.NDArray[np.float64]:
    """Counts and flags are equal, means and shares within 1e-6 of their size; the features."""
    store = FeatureStore(card_features())
    fast, slow = features_of(payments, store), slow_card_features(payments)
    assert fast.shape == slow.shape == (len(payments.time_ns), len(store.names))
    for column, name in enumerate(store.names):
        if "mean" in name or "risk" in name:
            np.testing.assert_allclose(fast[:, column], slow[:, column], 1e-6, 1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(fast[:, column], slow[:, column], err_msg=name)
    return slow


if __name__ == "__main__":
    world = card_world(1)
    assert_same_features(world)
    print(f"The features of {len(world.time_ns):,} payments are those of pandas.")
