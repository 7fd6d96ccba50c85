"""The commands that the simulations add to `tessera`: `replay` and `demo`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.options import (
    AsJson,
    CommandFailed,
    DatabaseUrl,
    DataDir,
    ExitCode,
    Takeover,
    engine_settings,
    fail,
    print_result,
    progress,
    run,
)
from simulations.errors import SalesFileError
from simulations.online_retail import DATASET, read_plan
from simulations.replay import ReplayReport, replay as replay_plan


def replay(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A CSV, plain or in xz, with the columns InvoiceNo, StockCode, Description, Quantity, "
            "InvoiceDate, UnitPrice, CustomerID, Country.",
            show_default=False,
        ),
    ],
    dataset: Annotated[
        str,
        typer.Option(
            help="What these sales are called in the books. An invoice of a dataset is posted once, however "
            "often its file is replayed."
        ),
    ] = DATASET,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    takeover: Takeover = False,
    as_json: AsJson = False,
) -> None:
    """Post a file of sales as Moves: invoices as orders, cancellations as refunds, the rest as adjustments.

    What was posted before is not posted again, so a replay that was interrupted is simply run once more. Ends with
    0 only if no Move was refused and the books balance.
    """
    from actors.runtime import Engine  # noqa: PLC0415  # slow to import, and not needed to say what is wrong

    started = time.perf_counter()
    try:
        planned = read_plan(path, dataset)
        settings = engine_settings(data_dir, database_url, takeover=takeover)
    except SalesFileError as exc:
        fail(CommandFailed(ExitCode.BAD_INPUT, f"{exc}.", "Nothing was posted."), as_json=as_json)
    except CommandFailed as failure:
        fail(failure, as_json=as_json)
    read_s = time.perf_counter() - started

    async def work() -> ReplayReport:
        async with Engine.running(settings) as engine:
            with progress("replaying") as report:
                return await replay_plan(engine, planned, report, time.perf_counter() - read_s)

    done = run(work, as_json=as_json)
    print_result(done, print_replay, as_json=as_json)
    if not done.ok:
        raise typer.Exit(ExitCode.FAILED)
