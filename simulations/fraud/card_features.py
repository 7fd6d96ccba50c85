"""The fifteen features of a card payment that models are given here."""

import numpy as np

from engine.features.definition import DAY_NS, Feature, FeatureSet, Measure, Window
from engine.features.store import FeatureStore, Matrix, make_events
from simulations.fraud.payments import Payments

LABEL_DELAY_DAYS = 7
SPANS_DAYS = (1, 7, 30)


def card_features(label_delay_days: int = LABEL_DELAY_DAYS) -> FeatureSet:
    """Amount, weekend, night; of the customer count and mean amount over 1, 7 and 30 days, this payment
    included; of the terminal count and share of frauds over spans as long, which end before the label delay.
    """
    features = [
        Feature("amount", Measure.AMOUNT),
        Feature("weekend", Measure.WEEKEND),
        Feature("night", Measure.NIGHT),
    ]
    for days in SPANS_DAYS:
        span = Window(days * DAY_NS)
        features += [
            Feature(f"customer_count_{days}d", Measure.COUNT, "customer", span, with_this=True),
            Feature(f"customer_mean_{days}d", Measure.MEAN, "customer", span, with_this=True),
        ]
    for days in SPANS_DAYS:
        span = Window(days * DAY_NS, label_delay_days * DAY_NS)
        features += [
            Feature(f"terminal_count_{days}d", Measure.COUNT, "terminal", span),
            Feature(f"terminal_risk_{days}d", Measure.FRAUD_SHARE, "terminal", span),
        ]
    return FeatureSet(
        subjects=("customer", "terminal"),
        features=tuple(features),
        label_delay_ns=label_delay_days * DAY_NS,
    )


def features_of(payments: Payments, store: FeatureStore) -> Matrix:
    """The features of each payment, as the store of `card_features` sees them just before it."""
    return store.observe(
        make_events(
            payments.time_ns,
            payments.amount_minor,
            [payments.customer.astype(np.uint64), payments.terminal.astype(np.uint64)],
            fraud=payments.fraud,
        )
    )
