"""The fifteen features of card payments in pandas: rolling sums over the whole history of each subject."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulations.fraud.payments import Payments

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
    columns: list[Any] = [frame["amount"], frame["time"].dt.weekday >= 5, frame["time"].dt.hour <= 6]
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
