"""Money that comes back is found, other money is not, and what amounts cannot tell the graph does."""

import json
import lzma
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from simulations.fraud.commands import fraud
from simulations.fraud.cycles import HOPS_MAX, return_flow
from simulations.fraud.transfers import Transfers


def transfers(*rows: tuple[int, int, int, int]) -> Transfers:
    """Transfers from source, target, amount and step, in order of time."""
    source, target, amount, step = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Transfers(
        source, target, amount, step, np.zeros(int(max(source.max(), target.max())) + 1, np.uint8)
    )


def test_money_that_comes_back_in_time_and_amount_returns() -> None:
    made = transfers(
        (0, 1, 1000, 1), (3, 0, 995, 2), (1, 2, 990, 3), (2, 3, 1005, 9),  # a ring, not in order of time
        (4, 5, 1000, 1), (5, 4, 500, 2),  # half of it
        (6, 7, 1000, 1), (7, 6, 1000, 99),  # too late
        (8, 9, 1000, 1), (9, 10, 1000, 2),  # never
    )  # fmt: skip
    assert return_flow(made, window_steps=10).tolist() == [True] * 4 + [False] * 6
    assert return_flow(made, window_steps=5).tolist()[:4] == [False] * 4
    assert return_flow(made, window_steps=100).tolist()[6:8] == [True, True]


def test_rings_are_followed_as_far_as_promised() -> None:
    for length, found in ((2, True), (HOPS_MAX, True), (HOPS_MAX + 1, False)):
        ring = transfers(*((n, (n + 1) % length, 100, 1) for n in range(length)))
        assert return_flow(ring, window_steps=1).all() == found, length


def write_market(folder: Path, random: np.random.Generator, rings: int) -> None:
    """A market of transfers in which money goes round in some rings, at everyday amounts."""
    accounts = 800
    source = random.integers(0, accounts, 3000)
    target = (source + random.integers(1, accounts, 3000)) % accounts
    rows = [
        f"{s},{t},{amount / 100:.2f},{step}"
        for s, t, amount, step in zip(
            source, target, random.integers(10_000, 60_000, 3000), random.integers(1, 150, 3000), strict=True
        )
    ]
    members = random.permutation(accounts)[: 5 * rings].reshape(rings, 5)
    for ring in members:
        amount = int(random.integers(10_000, 60_000))
        start = int(random.integers(1, 100))
        rows += [f"{ring[n]},{ring[(n + 1) % 5]},{amount / 100:.2f},{start + 3 * n}" for n in range(5)]
    launders = np.isin(np.arange(accounts), members)
    nodes = [f"{account},{int(bad)}" for account, bad in enumerate(launders)]
    (folder / "nodes.csv").write_text("\n".join(["nodeid,isFraud", *nodes]) + "\n")
    moved = "\n".join(["sourceNodeId,targetNodeId,value,time", *rows]) + "\n"
    (folder / "transactions.csv.xz").write_bytes(lzma.compress(moved.encode()))


def test_the_graph_tells_what_amounts_do_not(tmp_path: Path) -> None:
    write_market(tmp_path, np.random.default_rng(1), rings=30)
    done = CliRunner().invoke(fraud, ["cycles", str(tmp_path), "--window", "20", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["accounts"], report["launderers"], report["transfers"]) == (800, 150, 3150)
    assert report["return_flow_recall"] == 1.0
    amounts, graph, both = report["found"]
    assert [found["features"] for found in report["found"]] == ["amounts", "graph", "amounts and graph"]
    assert graph["precision"] > 0.9
    assert graph["recall"] > 0.9
    assert amounts["average_precision"] < 0.5 < both["average_precision"]
    assert CliRunner().invoke(fraud, ["cycles", str(tmp_path)]).exit_code == 0


def test_folders_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    def refusal() -> str:
        done = CliRunner().invoke(fraud, ["cycles", str(tmp_path), "--json"])
        assert done.exit_code == 10
        return str(json.loads(done.stdout)["error"])

    assert "there is no nodes.csv in it" in refusal()
    (tmp_path / "nodes.csv").write_text("nodeid,isFraud\n1,0\n1,0\n")
    (tmp_path / "transactions.csv").write_text("sourceNodeId,targetNodeId,value,time\n1,2,3.50,1\n")
    assert "an account is there twice" in refusal()
    (tmp_path / "nodes.csv").write_text("nodeid,isFraud\n1,0\n3,0\n")
    assert "column targetNodeId: an account is not among the nodes" in refusal()
    (tmp_path / "nodes.csv").write_text("node\n1\n")
    assert "nodes.csv" in refusal()
