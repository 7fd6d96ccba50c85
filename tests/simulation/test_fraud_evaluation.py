"""The protocol counts as it says, and `tessera fraud` runs it on a file of payments."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from engine.features.definition import DAY_NS
from simulations.fraud.commands import fraud
from simulations.fraud.payments import Payments
from simulations.fraud.protocol import Periods, ProtocolError, card_precision, default_start, split


def payments(*rows: tuple[int, int, int]) -> Payments:
    """Payments from day, customer and fraud."""
    day, customer, is_fraud = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    ones = np.ones(len(day), np.int64)
    labels, pattern = is_fraud.astype(np.uint8), ones.astype(np.uint8)
    return Payments(day * DAY_NS, customer, ones, ones, labels, pattern, np.arange(len(day)))


def test_cards_known_by_then_are_out_of_the_test() -> None:
    made = payments(
        (0, 9, 1),  # before training: its fraud is not held against card 9
        (1, 1, 1),
        (2, 2, 0),
        (3, 3, 1),  # in the delay: known on the second day of the test
        (5, 1, 0),
        (5, 2, 1),
        (5, 3, 0),
        (5, 9, 0),
        (6, 3, 0),
        (6, 2, 0),
        (7, 2, 0),  # after the test
    )
    train, test = split(made, Periods(start=1, train=2, delay=2, test=2))
    assert np.flatnonzero(train).tolist() == [1, 2]
    assert [(int(made.day[i]), int(made.customer[i])) for i in np.flatnonzero(test)] == [
        (5, 2),
        (5, 3),
        (5, 9),
        (6, 2),
    ]


def test_empty_periods_are_said() -> None:
    made = payments((0, 1, 0), (0, 2, 1), (40, 1, 0))
    with pytest.raises(
        ProtocolError, match=r"no payments in the training days: .*from 1970-01-01 to 1970-02-10"
    ):
        split(made, Periods(start=10))
    with pytest.raises(ProtocolError, match="no payments in the test days"):
        split(made, Periods(start=0))
    with pytest.raises(ProtocolError, match="all frauds or all none"):
        split(payments((0, 1, 0), (14, 1, 0)), Periods(start=0))


def test_training_starts_when_windows_are_full_if_the_file_is_long_enough() -> None:
    days = range(10, 10 + 183)
    assert default_start(payments(*((day, 1, 0) for day in days))) == 10 + 115
    assert default_start(payments(*((day, 1, 0) for day in days[:60]))) == 10 + 39
    assert default_start(payments(*((day, 1, 0) for day in days[:5]))) == 10


def test_card_precision_counts_cards_once_and_not_again_when_found() -> None:
    made = payments((1, 1, 1), (1, 1, 0), (1, 2, 0), (1, 3, 1), (2, 1, 1), (2, 2, 1), (2, 4, 0))
    score = np.array([0.1, 0.9, 0.8, 0.2, 0.99, 0.5, 0.6])
    # Day 1: cards 1 and 2, of which 1 is right. Day 2: 1 is out; cards 4 and 2, of which 2 is right.
    assert card_precision(made, score, top=2) == 0.5
    assert card_precision(made, score, top=1) == 0.5


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(fraud, [str(argument) for argument in arguments])


def test_a_made_world_is_evaluated(tmp_path: Path) -> None:
    file = tmp_path / "world.parquet"
    size = ("--customers", "300", "--terminals", "1000", "--days", "70", "--radius", "8", "--seed", "3")
    made = run("world", "--output", file, *size, "--json")
    assert made.exit_code == 0, made.output
    report = json.loads(made.stdout)
    assert report["payments"] > 30_000
    assert sum(report["by_pattern"].values()) == report["frauds"]
    done = run("evaluate", file, "--output", tmp_path / "curves", "--json")
    assert done.exit_code == 0, done.output
    judged = json.loads(done.stdout)
    assert judged["payments"] == report["payments"]
    assert len(judged["features"]) == 15
    forest, regression = judged["models"]
    assert (forest["model"], regression["model"]) == ("random forest", "logistic regression")
    for model in judged["models"]:
        assert model["roc_auc"] > 0.75
        assert model["average_precision"] > 3 * judged["test_frauds"] / judged["test_payments"]
        assert 0 < model["card_precision"] <= 1
    assert Path(judged["charts"][0]).read_bytes()[:4] == b"\x89PNG"
    text = run("evaluate", file)
    assert text.exit_code == 0, text.output
    assert f"{forest['roc_auc']:.3f}" in text.output, "the same file gives the same figures"


def test_bad_input_ends_with_its_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "world.csv"
    assert run("world", "--output", file, "--customers", "20", "--days", "10", "--seed", "1").exit_code == 0
    short = run("evaluate", file, "--json")
    assert short.exit_code == 10
    assert "no payments in the test days" in json.loads(short.stdout)["error"]
    early = run("evaluate", file, "--start", "2010-01-01")
    assert early.exit_code == 10
    file.write_text(file.read_text().replace('"TX_FRAUD"', '"LABEL"', 1))
    missing = run("evaluate", file, "--json")
    assert missing.exit_code == 10
    assert "it has no column TX_FRAUD" in json.loads(missing.stdout)["error"]
    assert run("world", "--output", tmp_path / "world.xls", "--customers", "1").exit_code == 10


RULES: dict[str, Any] = {
    "name": "cards",
    "version": 1,
    "review_at": 50,
    "deny_at": 100,
    "rules": [
        {
            "name": "large",
            "when": [{"column": "amount", "is": ">", "value": 22_000}],
            "score": 100,
            "reason": "above 220.00",
        },
        {
            "name": "risky terminal",
            "when": [
                {"column": "terminal_risk_7d", "is": ">=", "value": 0.5},
                {"column": "terminal_count_7d", "is": ">=", "value": 3},
            ],
            "score": 60,
            "reason": "half of this terminal's payments were frauds",
        },
    ],
}


def test_rules_are_judged_on_the_past(tmp_path: Path) -> None:
    file, rules, worse = tmp_path / "world.csv", tmp_path / "rules.json", tmp_path / "worse.json"
    size = ("--customers", "150", "--terminals", "120", "--days", "60", "--radius", "15", "--seed", "1")
    assert run("world", "--output", file, *size).exit_code == 0
    rules.write_text(json.dumps(RULES))
    worse.write_text(json.dumps(RULES | {"version": 2, "rules": RULES["rules"][1:]}))
    done = run("backtest", file, "--rules", rules, "--rules", worse, "--since", "2018-05-10", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["first_day"] == "2018-05-10"
    both, alone = report["rule_sets"]
    assert (both["version"], alone["version"]) == (1, 2)
    assert sum(outcome["payments"] for outcome in both["outcomes"].values()) == report["payments"]
    assert sum(outcome["frauds"] for outcome in both["outcomes"].values()) == report["frauds"]
    large, terminal = both["rules"]
    assert (large["precision"], large["held"]) == (1.0, both["outcomes"]["deny"]["payments"])
    assert terminal["precision"] > 0.5
    assert both["recall"] > alone["recall"] > 0
    text = run("backtest", file, "--rules", rules)
    assert text.exit_code == 0, text.output
    assert "above 220.00" in text.output
    rules.write_text(json.dumps(RULES).replace("terminal_count_7d", "terminal_count_9d"))
    unknown = run("backtest", file, "--rules", rules, "--json")
    assert unknown.exit_code == 10
    assert "there is no column terminal_count_9d" in json.loads(unknown.stdout)["error"]
    assert run("backtest", file, "--rules", tmp_path / "none.json").exit_code == 10
    assert run("backtest", file, "--rules", worse, "--since", "2030-01-01").exit_code == 10


def test_commands_are_plugged_in() -> None:
    command = [sys.executable, "-m", "gateway.cli", "fraud", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "evaluate" in done.stdout
