"""A training set knows nothing that was not known when its payments came."""

from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from typer.testing import CliRunner

from engine.features.definition import DAY_NS
from engine.features.store import FeatureStore
from simulations.fraud.card_features import LABEL_DELAY_DAYS, card_features, features_of
from simulations.fraud.commands import fraud
from simulations.fraud.payments import Payments, write_payments
from simulations.fraud.world import START_DAY, WorldSize, card_world

WORLD = card_world(2, WorldSize(customers=40, terminals=60, days=50, radius=20))
FEATURES = features_of(WORLD, FeatureStore(card_features()))
DELAY_NS = LABEL_DELAY_DAYS * DAY_NS


def cut(day: int) -> int:
    """The number of payments before a day of the world."""
    return int(np.searchsorted(WORLD.time_ns, (START_DAY + day) * DAY_NS))


def test_what_comes_later_changes_nothing() -> None:
    for day in (1, 9, 30, 44):
        count = cut(day)
        earlier = WORLD.chosen(np.arange(count))
        assert (features_of(earlier, FeatureStore(card_features())) == FEATURES[:count]).all()


def test_labels_that_are_not_known_yet_change_nothing_and_known_ones_do() -> None:
    day = 40
    count, now = cut(day), (START_DAY + day) * DAY_NS
    unknown = WORLD.time_ns > now - DELAY_NS
    turned = WORLD._replace(fraud=np.where(unknown, 1 - WORLD.fraud, WORLD.fraud))
    features = features_of(turned, FeatureStore(card_features()))
    assert (features[:count] == FEATURES[:count]).all()
    assert (features[count:] != FEATURES[count:]).any()


def test_a_terminal_is_no_risk_before_its_first_fraud_can_be_known() -> None:
    days = np.arange(20)
    ones = np.ones(20, np.int64)
    labels = ones.astype(np.uint8)
    taken_over = Payments(days * DAY_NS, ones, ones, ones * 500, labels, labels, days)
    features = features_of(taken_over, FeatureStore(card_features()))
    names = card_features().names
    for span in (1, 7, 30):
        risk = features[:, names.index(f"terminal_risk_{span}d")]
        assert risk.tolist() == [0.0] * LABEL_DELAY_DAYS + [1.0] * (20 - LABEL_DELAY_DAYS)


def test_files_hold_features_labels_and_when_these_are_known(tmp_path: Path) -> None:
    write_payments(WORLD, tmp_path / "payments.csv")
    plain = pacsv.read_csv(tmp_path / "payments.csv")
    planted = plain.append_column("REPORTED_LATER", plain.column("TX_FRAUD"))
    backwards = planted.take(np.arange(planted.num_rows)[::-1])
    pq.write_table(backwards, tmp_path / "payments.parquet")
    output = tmp_path / "set.parquet"
    arguments = ["features", str(tmp_path / "payments.parquet"), "--output", str(output)]
    done = CliRunner().invoke(fraud, arguments)
    assert done.exit_code == 0, done.output
    made = pq.read_table(output)
    assert made.column_names == ["row", "time", *card_features().names, "fraud", "fraud_known_at"]
    label = made.column("fraud").to_numpy()
    for name in card_features().names:
        column = made.column(name).to_numpy()
        assert not np.array_equal(column, label), name
    time = made.column("time").to_numpy().astype(np.int64)
    known_at = made.column("fraud_known_at").drop_null().to_numpy().astype(np.int64)
    assert (known_at == time[label == 1] + DELAY_NS).all()
    rows = made.column("row").to_numpy()
    given = backwards.column("TX_DATETIME").to_numpy().astype("datetime64[ns]").astype(np.int64)
    assert (given[rows] == time).all()
    amounts = np.round(backwards.column("TX_AMOUNT").to_numpy() * 100)
    assert (amounts[rows] == made.column("amount").to_numpy()).all()
