"""The made world is repeatable and has its three patterns; features of all of it equal those of pandas."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.features.definition import DAY_NS
from simulations.errors import PaymentsFileError
from simulations.fraud.card_features import card_features
from simulations.fraud.payments import Payments, read_payments, write_payments
from simulations.fraud.world import CUSTOMER, LARGE, START_DAY, TERMINAL, WorldSize, card_world
from tests.simulation.slow_card_features import assert_same_features

SMALL = WorldSize(customers=60, terminals=120, days=60, radius=15)
WORLD = card_world(1, SMALL)


def test_same_seed_same_world() -> None:
    again, other = card_world(1, SMALL), card_world(2, SMALL)
    for name in WORLD._fields:
        assert (getattr(WORLD, name) == getattr(again, name)).all()
    assert WORLD.time_ns.tolist() != other.time_ns.tolist()


def test_world_has_its_size_and_order() -> None:
    expected = SMALL.customers * SMALL.days * 2
    assert 0.75 * expected < len(WORLD.time_ns) < 1.25 * expected
    assert (np.diff(WORLD.time_ns) >= 0).all()
    assert set(WORLD.day.tolist()) == set(range(START_DAY, START_DAY + SMALL.days))
    assert WORLD.customer.min() >= 1
    assert WORLD.customer.max() <= SMALL.customers
    assert WORLD.terminal.max() <= SMALL.terminals
    hour = WORLD.time_ns // (DAY_NS // 24) % 24
    assert ((hour >= 6) & (hour < 18)).mean() > 0.6


def test_frauds_follow_the_three_patterns() -> None:
    assert ((WORLD.pattern > 0) == (WORLD.fraud == 1)).all()
    assert WORLD.amount_minor[WORLD.pattern == LARGE].min() > 22_000
    honest = WORLD.amount_minor[WORLD.fraud == 0]
    assert honest.max() <= 22_000
    assert WORLD.amount_minor[WORLD.pattern == CUSTOMER].mean() > 3 * honest.mean()
    for terminal in np.unique(WORLD.terminal[WORLD.pattern == TERMINAL]):
        there = WORLD.terminal == terminal
        first = WORLD.day[there & (WORLD.pattern == TERMINAL)].min()
        soon = there & (WORLD.day >= first) & (WORLD.day < first + 14)
        assert WORLD.fraud[soon].all()


def test_features_of_every_payment_equal_those_of_pandas() -> None:
    features = assert_same_features(WORLD)
    assert features.shape[1] == 15
    assert features[:, card_features().names.index("terminal_risk_30d")].max() > 0.5


@pytest.mark.parametrize("name", ["payments.csv", "payments.parquet"])
def test_files_give_back_what_was_written(tmp_path: Path, name: str) -> None:
    write_payments(WORLD, tmp_path / name)
    back = read_payments(tmp_path / name)
    for column in ("time_ns", "amount_minor", "fraud"):
        assert (getattr(back, column) == getattr(WORLD, column)).all()
    for ours, theirs in ((WORLD.customer, back.customer), (WORLD.terminal, back.terminal)):
        assert len(set(zip(ours.tolist(), theirs.tolist(), strict=True))) == len(np.unique(ours))


def table(**changed: Any) -> pa.Table:
    """Two payments, as a file of others might have them: floats, text as ids, later ones first."""
    columns = {
        "TX_DATETIME": pa.array(["2018-04-01 00:00:31", "2018-04-01 00:00:30"]).cast(pa.timestamp("us")),
        "CUSTOMER_ID": ["b", "a"],
        "TERMINAL_ID": [7, 9],
        "TX_AMOUNT": [57.16, 0.29],
        "TX_FRAUD": [1, 0],
    }
    return pa.table({name: column for name, column in (columns | changed).items() if column is not None})


def test_files_of_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "payments.parquet"
    pq.write_table(table(), path)
    payments: Payments = read_payments(path)
    assert payments.amount_minor.tolist() == [29, 5716]
    assert payments.fraud.tolist() == [0, 1]
    assert payments.customer.tolist() == [2, 1]
    assert np.diff(payments.time_ns).tolist() == [10**9]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"TX_FRAUD": None, "TX_AMOUNT": None}, "no column TX_AMOUNT, TX_FRAUD"),
        ({"TX_FRAUD": [1, 2]}, "TX_FRAUD: a value is neither 0 nor 1"),
        ({"TX_FRAUD": [1, None]}, "TX_FRAUD: 1 values are missing"),
        ({"TX_AMOUNT": [-1.0, 2.0]}, "TX_AMOUNT: an amount is out of bounds"),
        ({"TX_AMOUNT": ["much", "2"]}, "TX_AMOUNT: .*accepted: an amount like"),
        ({"TX_DATETIME": ["soon", "2018-04-01"]}, "TX_DATETIME: .*accepted: a date"),
    ],
)
def test_files_that_make_no_sense_are_refused(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    path = tmp_path / "payments.parquet"
    pq.write_table(table(**changed), path)
    with pytest.raises(PaymentsFileError, match=says):
        read_payments(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD\n")
    (tmp_path / "no.parquet").write_text("not that")
    for name, says in [
        ("nothing.csv", "no such file"),
        ("empty.csv", "no payments"),
        ("no.parquet", "can't be read"),
        ("payments.txt", "suffix"),
    ]:
        with pytest.raises(PaymentsFileError, match=says):
            read_payments(tmp_path / name)
    with pytest.raises(PaymentsFileError, match="can't be written"):
        write_payments(WORLD, tmp_path / "there" / "payments.csv")
