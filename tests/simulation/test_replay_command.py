"""The command `tessera replay`: one JSON object, exit codes, and nothing posted from a bad file."""

import json
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from persistence.database import Database

TINY = Path(__file__).with_name("tiny_sales.csv")


def tessera(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def records(database: Database) -> int:
    with database.session_sync("test") as session:
        row = session.execute("select count(*) from wal").fetchone()
    assert row is not None
    return int(row[0])


def test_replay_prints_one_json_object(database: Database) -> None:
    first = tessera("replay", str(TINY), "--database-url", database.dsn, "--json")
    assert first.returncode == 0, first.stderr
    report: dict[str, Any] = json.loads(first.stdout)
    promised = "lines moves repeats refused entries net_mills cancelled_mills seconds moves_per_s"
    assert set(promised.split()) <= report.keys()
    assert (report["lines"], report["moves"], report["repeats"], report["refused"]) == (38, 24, 0, 0)
    assert report["latency"].keys() == {"p50_ms", "p99_ms"}
    assert all(balance["difference"] == 0 for balance in report["trial_balance"].values())
    again = tessera("replay", str(TINY), "--database-url", database.dsn)
    assert again.returncode == 0, again.stderr
    assert "repeats" in again.stdout


def test_changed_invoice_is_refused_and_the_rest_repeated(database: Database, tmp_path: Path) -> None:
    changed = tmp_path / "changed.csv"
    changed.write_bytes(
        TINY.read_bytes().replace(b",4,2020-01-05 11:00:00,3.95,", b",4,2020-01-05 11:00:00,3.94,")
    )
    url = ["--database-url", database.dsn, "--json"]
    first = json.loads(tessera("replay", str(TINY), *url).stdout)
    second = tessera("replay", str(changed), *url)
    assert second.returncode == 1
    report = json.loads(second.stdout)
    assert not report["ok"]
    assert report["net_mills"] == first["net_mills"]
    assert report["moves"] == 0
    refused = {refusal["reference"]: refusal["code"] for refusal in report["refusals"]}
    assert refused == dict.fromkeys(["900002", "C900006"], "exists_with_different_content")
    assert report["repeats"] == 22
    otherwise = json.loads(tessera("replay", str(changed), "--dataset", "otherwise", *url).stdout)
    assert (otherwise["ok"], otherwise["moves"]) == (True, 24)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("columns.csv", b"InvoiceNo,StockCode\n1,2\n", "line 1: missing columns: Description"),
        (
            "number.csv",
            TINY.read_bytes().replace(b",4.25,", b",four,", 1),
            "line 2, column UnitPrice: 'four'",
        ),
        ("encoding.csv", TINY.read_bytes().replace(b"BELL", b"B\xc9LL", 1), "line 4, column Description"),
        ("truncated.csv.xz", lzma.compress(TINY.read_bytes())[:200], "the .xz file is truncated"),
    ],
)
def test_bad_file_is_explained_and_changes_nothing(
    database: Database, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    ended = tessera("replay", str(tmp_path / name), "--database-url", database.dsn, "--json")
    assert ended.returncode == 10
    assert str(tmp_path / name) in ended.stderr
    assert says in ended.stderr
    assert json.loads(ended.stdout)["ok"] is False
    assert records(database) == 0
