"""Trains models on payments and judges them by the protocol; what comes out is figures and curves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from matplotlib.figure import Figure
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from engine.features.store import FeatureStore, Matrix
from simulations.fraud.card_features import card_features, features_of
from simulations.fraud.payments import Payments
from simulations.fraud.protocol import Floats, Mask, Periods, as_date, card_precision, split

RANDOM_STATE: Final = 0
TREES: Final = 100
TOP_CARDS: Final = 100
MODELS: Final[dict[str, Callable[[], Any]]] = {
    "random forest": lambda: RandomForestClassifier(TREES, random_state=RANDOM_STATE, n_jobs=-1),
    "logistic regression": lambda: make_pipeline(
        StandardScaler(), LogisticRegression(random_state=RANDOM_STATE, max_iter=1000)
    ),
}


class Judged(msgspec.Struct, frozen=True):
    """One model's figures on the test days."""

    model: str
    roc_auc: float
    average_precision: float
    card_precision: float  # among the 100 cards of a day with the highest scores
    train_s: float
    predict_s: float


class Evaluation(msgspec.Struct, frozen=True):
    """Everything that an evaluation says."""

    payments: int
    frauds: int
    features: tuple[str, ...]
    features_s: float
    features_per_s: float
    events_held: int  # by the feature store at the end
    bytes_per_event: float
    train_start: str
    test_start: str
    train_payments: int
    test_payments: int
    test_frauds: int
    models: list[Judged]
    charts: list[str]


def evaluate(payments: Payments, periods: Periods, output: Path | None) -> Evaluation:
    """Runs the whole protocol. With `output`, the curves are drawn there. Raises ProtocolError."""
    train, test = split(payments, periods)
    wanted = card_features(periods.delay)
    store = FeatureStore(wanted)
    started = time.perf_counter()
    matrix = features_of(payments, store)
    features_s = time.perf_counter() - started
    judged: list[Judged] = []
    scores: dict[str, Floats] = {}
    for name, make in MODELS.items():
        result, scores[name] = _judge(name, make(), matrix, payments, train, test)
        judged.append(result)
    charts = [] if output is None else [str(_draw(payments.fraud[test], scores, output))]
    return Evaluation(
        payments=len(payments.time_ns),
        frauds=int(payments.fraud.sum()),
        features=store.names,
        features_s=features_s,
        features_per_s=len(payments.time_ns) / features_s,
        events_held=store.event_count,
        bytes_per_event=store.nbytes / max(1, store.event_count),
        train_start=as_date(periods.start),
        test_start=as_date(periods.test_start),
        train_payments=int(train.sum()),
        test_payments=int(test.sum()),
        test_frauds=int(payments.fraud[test].sum()),
        models=judged,
        charts=charts,
    )


def _judge(
    name: str, model: Any, matrix: Matrix, payments: Payments, train: Mask, test: Mask
) -> tuple[Judged, Floats]:
    started = time.perf_counter()
    model.fit(matrix[train], payments.fraud[train])
    trained = time.perf_counter()
    score: Floats = model.predict_proba(matrix[test])[:, 1]
    predicted = time.perf_counter()
    judged = payments.chosen(test)
    return (
        Judged(
            model=name,
            roc_auc=float(roc_auc_score(judged.fraud, score)),
            average_precision=float(average_precision_score(judged.fraud, score)),
            card_precision=card_precision(judged, score, TOP_CARDS),
            train_s=trained - started,
            predict_s=predicted - trained,
        ),
        score,
    )


def _draw(fraud: np.ndarray[Any, Any], scores: dict[str, Floats], output: Path) -> Path:
    """The curves of all models in one picture."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / "curves.png"
    chart = Figure(figsize=(11, 5), layout="constrained")
    hits, precisions = chart.subplots(1, 2)
    for name, score in scores.items():
        false_positives, true_positives, _ = roc_curve(fraud, score)
        hits.plot(false_positives, true_positives, label=name)
        precision, recall, _ = precision_recall_curve(fraud, score)
        precisions.plot(recall, precision, label=name)
    hits.plot([0, 1], [0, 1], color="#b9b9b4", linestyle="--", label="chance")
    precisions.axhline(float(fraud.mean()), color="#b9b9b4", linestyle="--", label="chance")
    hits.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    precisions.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(0, 1.05))
    for plot in (hits, precisions):
        plot.legend()
        plot.spines[["top", "right"]].set_visible(False)
    chart.savefig(path, dpi=120)
    return path
