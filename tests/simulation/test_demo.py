"""The demo, small: it kills, recovers, proves and serves, on a market where there is no data set."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from persistence.database import Database
from simulations.demo_screen import SHOWN_PATHS

ROOT = Path(__file__).parents[2]


def demo(database: Database, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The demo as a process, in a folder without any data set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    command = [sys.executable, "-m", "gateway.cli", "demo", "--orders", "200"]
    return subprocess.Popen(
        [*command, "--database-url", database.dsn, *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_demo_reports_everything_and_ends_well(database: Database, tmp_path: Path) -> None:
    process = demo(database, tmp_path, "--json")
    printed, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    report: dict[str, Any] = json.loads(printed)
    assert report["ok"]
    assert report["source"].startswith("a market of 200 orders")
    assert report["crash"]["acknowledged"] == report["crash"]["found"] > 0
    assert report["crash"]["recovery_s"] > 0
    assert report["verify"]["ok"]
    assert report["moves"] == report["replay"]["moves"] + report["replay"]["repeats"]
    assert all(balance["difference"] == 0 for balance in report["trial_balance"].values())
    assert 0 < report["latency"]["p50_ms"] <= report["latency"]["p99_ms"]


def test_demo_serves_until_it_is_told_to_stop(database: Database, tmp_path: Path) -> None:
    process = demo(database, tmp_path, "--port", "0")
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Serving on" in line:
                break
        url = lines[-1].split()[2]
        for path in SHOWN_PATHS:
            with urllib.request.urlopen(url + path, timeout=30) as answer:  # noqa: S310  # our own server
                assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.communicate()
    shown = "".join(lines)
    for word in ("Moves/s", "p99", "Trial balance", "kill -9", "recovery", "verify"):
        assert word in shown


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--data", "nowhere"], 10, "There is no sales file at nowhere"),
        (["--data-dir", "somewhere"], 2, "Both --data-dir and --database-url are given"),
    ],
)
def test_demo_refuses_what_it_cannot_do(
    database: Database, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    process = demo(database, tmp_path, "--json", *arguments)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert says in json.loads(printed)["error"]
