"""The commands that the simulations add to `tessera`: `replay` and `demo`."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from actors.runtime import Engine
from actors.settings import Settings
from gateway.listener import DEFAULT_HOST, DEFAULT_PORT, bind
from gateway.options import (
    AsJson,
    CommandFailed,
    DatabaseUrl,
    DataDir,
    ExitCode,
    Takeover,
    engine_settings,
    print_result,
    progress,
    reporting_failures,
    run,
)
from simulations.errors import SalesFileError, SimulationError
from simulations.online_retail import DATASET, find_file, read_plan
from simulations.planning import Plan
from simulations.printing import print_replay
from simulations.replay import ReplayReport
from simulations.replay import replay as replay_plan
from simulations.source import ORDERS, SEED, Source

DEMO_DIR: Final = Path(".tessera/demo")
DATABASE_VARIABLES: Final = frozenset({"TESSERA_DATA_DIR", "TESSERA_DATABASE_URL"})


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

    What was posted before is not posted again, so a replay that was interrupted is simply run once more. Ends
    with 0 only if no Move was refused and the books balance.
    """
    started = time.perf_counter()
    with reporting_failures(as_json=as_json), _explaining_input():
        planned = read_plan(path, dataset)
        settings = engine_settings(data_dir, database_url, takeover=takeover)
        read_s = time.perf_counter() - started
        report = run(_replay(settings, planned, read_s))
    print_result(report, print_replay, as_json=as_json)
    if not report.ok:
        raise typer.Exit(int(ExitCode.FAILED))


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The file to replay, or its folder.  [default: looked for in ./data, ../shared/data and "
            "$TESSERA_DATA; without it a market is made from a seed]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The market's seed.")] = SEED,
    orders: Annotated[int, typer.Option(min=10, help="The market's number of orders.")] = ORDERS,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help=f"Folder of the embedded PostgreSQL; what it holds stays.  [default: {DEMO_DIR}, emptied]",
            show_default=False,
        ),
    ] = None,
    database_url: DatabaseUrl = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = DEFAULT_PORT,
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve", help="Serve over HTTP at the end.  [default: yes, but not with --json]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a year of sales, kill the engine half way, recover, prove the books, and serve them."""
    from simulations.demo_run import run_demo  # noqa: PLC0415  # it imports the whole gateway

    with reporting_failures(as_json=as_json), _explaining_input():
        serves = serve if serve is not None else not as_json
        fresh = data_dir is None and database_url is None and not DATABASE_VARIABLES & os.environ.keys()
        settings = engine_settings(DEMO_DIR if fresh else data_dir, database_url)
        source = _source(data, seed, orders)
        listener = bind(host, port) if serves else None
        try:
            ok = run(run_demo(settings, source, listener, fresh=fresh, as_json=as_json))
        finally:
            if listener is not None:
                listener.close()
    if not ok:
        raise typer.Exit(int(ExitCode.FAILED))


async def _replay(settings: Settings, planned: Plan, read_s: float) -> ReplayReport:
    async with Engine.running(settings) as engine:
        with progress("replaying") as report:
            return await replay_plan(engine, planned, report, time.perf_counter() - read_s)


@contextmanager
def _explaining_input() -> Iterator[None]:
    """Turn what is wrong with the input, or what went wrong on the way, into the command's failure."""
    try:
        yield
    except SalesFileError as exc:
        raise CommandFailed(ExitCode.BAD_INPUT, f"{exc}.", "Nothing was posted.") from exc
    except SimulationError as exc:
        raise CommandFailed(ExitCode.FAILED, f"{exc}.") from exc


def _source(data: Path | None, seed: int, orders: int) -> Source:
    """What to replay. Raises CommandFailed if a file was asked for and is not there."""
    found = find_file(data, os.environ)
    if data is not None and found is None:
        raise CommandFailed(
            ExitCode.BAD_INPUT,
            f"There is no sales file at {data}.",
            "Give the file or its folder, or leave --data out for a market made from a seed.",
        )
    return Source(str(found) if found is not None else None, seed, orders)
