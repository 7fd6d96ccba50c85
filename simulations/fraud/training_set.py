"""Training sets: payments of the past with their features as they were just before each of them."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.features.definition import DAY_NS
from engine.features.store import FeatureStore
from simulations.fraud.card_features import LABEL_DELAY_DAYS, card_features, features_of
from simulations.fraud.payments import Payments, write_table


def write_training_set(payments: Payments, path: Path) -> pa.Table:
    """Writes a row for each payment, in order of time; returns them. Raises PaymentsFileError.

    `row` is the payment's place in the file it came from, `fraud_known_at` when a fraud's label is known:
    from then on a model may be trained on it. No feature of a payment depends on what came after it, or on a
    label that was not known then.
    """
    matrix = features_of(payments, FeatureStore(card_features()))
    known_at = payments.time_ns + LABEL_DELAY_DAYS * DAY_NS
    table = pa.table(
        {
            "row": payments.row,
            "time": pa.array(payments.time_ns).cast(pa.timestamp("ns")),
            **{name: np.ascontiguousarray(matrix[:, n]) for n, name in enumerate(card_features().names)},
            "fraud": payments.fraud,
            "fraud_known_at": pa.array(known_at, mask=payments.fraud == 0).cast(pa.timestamp("ns")),
        }
    )
    write_table(table, path)
    return table
