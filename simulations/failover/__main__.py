"""The command line: how many blows of each kind."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.logs import configure_logs
from gateway.options import AsJson, ExitCode, print_result, reporting_failures
from simulations.failover.running import Options, Outcome, run_blows

Count = Annotated[int, typer.Option(min=0, show_default=True)]


def failover(
    shard: Count = 2,
    gateway: Count = 0,
    postgresql: Count = 0,
    moved: Count = 0,
    grown: Count = 0,
    node: Count = 0,
    frozen: Count = 0,
    head: Count = 0,
    shards: Annotated[int, typer.Option(min=1)] = 1,
    accounts: Annotated[int, typer.Option(min=0, help="Idle ones, beside those that are used.")] = 0,
    keep_head: Annotated[bool, typer.Option(help="Let the head's tables survive it.")] = False,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Strike a cluster under load, measure how long clients wait, and prove the books.

    Exit code 0 only if the books are in order and nobody waited longer than they should.
    """
    blows = {
        "shard": shard,
        "gateway": gateway,
        "postgresql": postgresql,
        "moved": moved,
        "grown": grown,
        "node": node,
        "frozen": frozen,
        "head": head,
    }
    options = Options(blows=blows, shards=shards, accounts=accounts, keep_head=keep_head, seed=seed)
    configure_logs()
    with reporting_failures(as_json=as_json):
        outcome = run_blows(options, lambda text: print(text, file=sys.stderr, flush=True))
        print_result(outcome, _show, as_json=as_json)
        if not all(waits.held for waits in outcome.waits):
            raise typer.Exit(int(ExitCode.FAILED))


def _show(outcome: Outcome, console: Console) -> None:
    table = Table(box=None)
    table.add_column("blow")
    for name in ("times", "median wait", "longest wait", "limit"):
        table.add_column(name, justify="right")
    for waits in outcome.waits:
        limit = (
            ""
            if waits.limit_s is None
            else f"{waits.limit_s:.0f} s" + ("" if waits.held else ", [bold red]missed[/]")
        )
        measured = (f"{waits.median_s:.2f} s", f"{waits.longest_s:.2f} s")
        table.add_row(waits.blow, str(len(waits.each_s)), *measured, limit)
    console.print(table)
    console.print(
        f"{outcome.transfers:,} transfers and {outcome.chains:,} legs of chains: each is there once, verified"
    )


if __name__ == "__main__":
    typer.run(failover)
