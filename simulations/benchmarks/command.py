"""The command `tessera bench`."""

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from gateway.options import AsJson, CommandFailed, ExitCode, print_result, reporting_failures
from simulations.benchmarks.auth import auth
from simulations.benchmarks.bulk import bulk
from simulations.benchmarks.crossing import check_runtimes, crossing
from simulations.benchmarks.kernel import kernel
from simulations.benchmarks.latency import latency
from simulations.benchmarks.measurement import (
    FULL,
    SMALL,
    Benchmark,
    Measurement,
    Options,
    PeerBenchmark,
    beside,
    this_machine,
    versions,
)
from simulations.benchmarks.memory import memory
from simulations.benchmarks.one_by_one import one_by_one
from simulations.benchmarks.overload import overload
from simulations.benchmarks.peers import pgledger as pgledger_peer
from simulations.benchmarks.peers import plain_postgres as plain_postgres_peer
from simulations.benchmarks.peers import tigerbeetle as tigerbeetle_peer
from simulations.benchmarks.projection import projection
from simulations.benchmarks.recovery import recovery
from simulations.benchmarks.report import Report, print_report, write_files
from simulations.benchmarks.webhooks import webhooks

BENCHMARKS: Final[dict[str, Benchmark]] = {
    "kernel": kernel,
    "bulk": bulk,
    "latency": latency,
    "one-by-one": one_by_one,
    "projection": projection,
    "recovery": recovery,
    "memory": memory,
    "webhooks": webhooks,
    "auth": auth,
    "crossing": crossing,
    "overload": overload,
}
PEERS: Final[dict[str, tuple[PeerBenchmark, ...]]] = {
    "bulk": (tigerbeetle_peer.benchmark, tigerbeetle_peer.client, plain_postgres_peer.bulk),
    "one-by-one": (plain_postgres_peer.one_by_one, pgledger_peer.one_by_one),
}
"""What runs beside a benchmark, in the same run of the command; each looks itself whether it can."""


def bench(
    full: Annotated[bool, typer.Option("--full", help="The figures to quote; takes an hour.")] = False,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Only this one: {', '.join(BENCHMARKS)}; or a part of one, such as bulk/uniform.",
            show_default=False,
        ),
    ] = None,
    tigerbeetle: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="TigerBeetle's binary, to run beside.", show_default=False),
    ] = None,
    tigerbeetle_python: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="A Python that has TigerBeetle's client, to run too.", show_default=False
        ),
    ] = None,
    pgledger: Annotated[
        Path | None, typer.Option(metavar="PATH", help="pgledger's SQL, to run beside.", show_default=False)
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Where the shards of `crossing` are: local, ray, or local,ray. "
            "Ray needs the extra `cluster`; it runs two nodes on this machine.",
        ),
    ] = "local",
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also write table, chart and JSON into this folder.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the engine on this machine, and others beside it.

    Each figure is a median, and everything that was acknowledged is on disk. Load on the served engine comes
    from the Python client, and one by one from a load generator. Every run ends with a check of the books;
    one that fails fails the command. Plain PostgreSQL always runs beside, others where they are named.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left behind
    with reporting_failures(as_json=as_json):
        name = (only or "").partition("/")[0]
        if name and name not in BENCHMARKS:
            raise CommandFailed(
                ExitCode.USAGE, f"There is no benchmark {only!r}.", f"There are {', '.join(BENCHMARKS)}."
            )
        for path in (tigerbeetle, tigerbeetle_python, pgledger):
            if path is not None and not path.is_file():
                raise CommandFailed(ExitCode.BAD_INPUT, f"There is no file {path}.")
        if output is not None and find_spec("matplotlib") is None:
            raise CommandFailed(
                ExitCode.USAGE,
                "--output draws a chart, and matplotlib is not installed.",
                "It comes with `make setup`.",
            )
        options = Options(
            scale=FULL if full else SMALL,
            tell=_teller(Console(stderr=True, highlight=False, soft_wrap=True)),
            tigerbeetle=tigerbeetle,
            tigerbeetle_python=tigerbeetle_python,
            pgledger=pgledger,
            runtimes=tuple(runtime.split(",")),
            only=only or "",
        )
        check_runtimes(options)
        for peer in (tigerbeetle_peer, pgledger_peer):
            peer.check(options)
        report = measure(options, [name] if name else [*BENCHMARKS])
        if output is not None:
            write_files(report, output)
    print_result(report, print_report, as_json=as_json)


def measure(options: Options, names: list[str]) -> Report:
    """Run these benchmarks, each with its peers. Raises CommandFailed if books are not in order."""
    results: list[Measurement] = []
    for name in names:
        options.tell(f"{name} …")
        ours = [item for item in BENCHMARKS[name](options) if options.wants(item.name)]
        figures = [figure for peer in PEERS.get(name, ()) for figure in peer(options)]
        results += beside(ours, figures)
    return Report(
        machine=this_machine(),
        versions=versions() | tigerbeetle_peer.versions(options),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        scale=options.scale,
        results=results,
    )


def _teller(console: Console) -> Callable[[str], None]:
    def tell(text: str) -> None:
        console.print(f"{datetime.now(UTC):%H:%M:%S} {text}", style="dim", markup=False)

    return tell
