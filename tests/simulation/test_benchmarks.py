"""The benchmarks run, small, and the same inputs give the same books every time."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import pytest

from gateway.client import Client
from gateway.options import CommandFailed
from persistence.database import Database, DatabaseSettings
from simulations.benchmarks.command import BENCHMARKS, measure
from simulations.benchmarks.kernel import kernel
from simulations.benchmarks.measurement import SMALL, Measurement, Options, PeerFigure, beside, measured
from simulations.benchmarks.mixes import MIXES, Accounts, Mix
from simulations.benchmarks.served import fresh_folder, prove, serving

SCALE = msgspec.structs.replace(
    SMALL,
    runs=2,
    accounts=500,
    legs=20_000,
    bulk_legs=(10_000, 20_000),
    idle_accounts=5_000,
    batches=20,
    requests=500,
    events=500,
    crossing_legs=10_000,
    crossing_moves=10,
    overload_s=1.0,
)
TINY = Options(scale=SCALE, tell=lambda _: None)
FRESH = msgspec.structs.replace(TINY, scale=msgspec.structs.replace(SCALE, fresh=True))
OPTIONS = {"latency": FRESH}
"""One benchmark makes the same books twice, each time in an engine of its own; it fails if they differ."""
SAME_BOOKS = {"kernel", "bulk", "latency", "one-by-one", "projection", "recovery", "memory"}


OF_ITS_OWN = {"overload"}
"""Run by `make bench`: it is about a busy machine, and takes longer than tests may."""


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in OF_ITS_OWN])
def test_every_benchmark_runs_and_proves_its_books(name: str) -> None:
    report = json.loads(msgspec.json.encode(measure(OPTIONS.get(name, TINY), [name])))
    assert report.keys() >= {"machine", "versions", "results", "scale", "date", "load"}
    assert "gateway.client" in report["load"]
    results = msgspec.convert(report["results"], list[Measurement])
    assert len({(item.name, item.metric) for item in results}) == len(results) > 0
    for item in results:
        assert item.name.startswith(f"{name}/")
        assert item.value == median(item.runs)
        assert min(item.runs) >= 0
        assert bool(item.result_hash) or name not in SAME_BOOKS


def test_runs_share_an_engine_unless_each_has_its_own() -> None:
    assert TINY.scale.lives == [range(2)]
    assert FRESH.scale.lives == [range(1), range(1, 2)]


def test_every_run_of_the_kernel_makes_the_same_books() -> None:
    first, again = list(kernel(TINY)), list(kernel(TINY))
    assert [item.name for item in first] == ["kernel/simple", "kernel/mixed"]
    assert [item.result_hash for item in first] == [item.result_hash for item in again]
    assert len({item.result_hash for item in first}) == 2
    assert all(len(item.runs) == SCALE.runs and min(item.runs) > 0 for item in first)


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.name)
def test_a_mix_is_the_same_every_time_and_never_pays_an_account_from_itself(mix: Mix) -> None:
    accounts = Accounts(1, np.zeros((500, 2), np.uint64), np.zeros((100, 2), np.uint64))
    first, again = (mix.drawn(accounts, 1_000, 300, np.random.default_rng(3)) for _ in range(2))
    assert sum(map(len, first)) * mix.requests == 1_000
    for one, other in zip(first, again, strict=True):
        assert (one.debit == other.debit).all()
        assert (one.credit == other.credit).all()
        assert (one.amount == other.amount).all()
        assert (one.debit != one.credit).all()


def test_books_that_are_not_in_order_end_the_command() -> None:
    with fresh_folder() as folder:
        with serving(folder) as engine, Client(engine.url) as client:
            Accounts.created(client, 10)
        with (
            Database(DatabaseSettings(data_dir=str(folder))) as database,
            database.session_sync("tampering") as session,
        ):
            session.execute("update account set code = 2 where ordinal = 3")
        with pytest.raises(CommandFailed, match="not in order"):
            prove(folder)


def test_peers_stand_beside_every_metric_that_they_name() -> None:
    ours = [
        measured("bulk/uniform", "acknowledged", "legs/s", [9.0, 30.0, 12.0]),
        measured("bulk/uniform", "drained", "legs/s", [6.0]),
        measured("bulk/holds", "drained", "legs/s", [6.0]),
    ]
    figure = PeerFigure(
        peer="another", name="bulk/uniform", metrics=("acknowledged", "drained"), runs=[4.0, 5.0, 2.0]
    )
    first, second, third = beside(ours, [figure])
    assert first.peers["another"].value == 4.0
    assert first.peers["another"].ratio == 3.0
    assert second.peers["another"].ratio == 1.5
    assert not third.peers


def test_the_command_prints_one_object_and_writes_table_chart_and_json(tmp_path: Path) -> None:
    command = [*TESSERA, "bench", "--only", "kernel/simple", "--json", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert [item["name"] for item in answer["results"]] == ["kernel/simple"]
    assert answer["results"][0].keys() >= {"name", "metric", "value", "unit", "runs", "peers"}
    assert json.loads((tmp_path / "bench.json").read_text()) == answer
    assert "kernel/simple" in (tmp_path / "bench.txt").read_text()
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "kernel" in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [(("--only", "nothing"), 2, "nothing"), (("--tigerbeetle", "/not/there"), 10, "/not/there")],
)
def test_the_command_says_what_it_does_not_have(options: tuple[str, ...], code: int, said: str) -> None:
    done = subprocess.run(
        [*TESSERA, "bench", *options, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert said in json.loads(done.stdout)["error"]


TESSERA = (sys.executable, "-m", "gateway.cli")
