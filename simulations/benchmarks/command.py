"""The command `tessera bench`."""

from collections.abc import Callable, Iterator
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from gateway.options import AsJson, CommandFailed, ExitCode, print_result
from simulations.benchmarks.kernel import kernel
from simulations.benchmarks.measurement import (
    FULL,
    SMALL,
    Machine,
    Measurement,
    Scale,
    this_machine,
    versions,
)
from simulations.benchmarks.memory import memory
from simulations.benchmarks.recovery import recovery

BENCHMARKS: Final[dict[str, Callable[[Scale], Iterator[Measurement]]]] = {
    "kernel": kernel,
    "recovery": recovery,
    "memory": memory,
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run of benchmarks."""

    machine: Machine
    versions: dict[str, str]
    scale: Scale
    results: list[Measurement]


def bench(
    full: Annotated[bool, typer.Option("--full", help="The figures to quote; takes minutes.")] = False,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Only this one: {', '.join(BENCHMARKS)}.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the engine on this machine. Each figure is a median, printed with a hash of the books it
    made."""
    if only is not None and only not in BENCHMARKS:
        raise CommandFailed(
            ExitCode.USAGE, f"there is no benchmark {only!r}.", f"There are {', '.join(BENCHMARKS)}."
        )
    scale = FULL if full else SMALL
    screen = Console(stderr=True)
    results: list[Measurement] = []
    for name in BENCHMARKS if only is None else [only]:
        screen.print(f"measuring {name} …", style="dim")
        results += BENCHMARKS[name](scale)
    report = Report(machine=this_machine(), versions=versions(), scale=scale, results=results)
    print_result(report, _print, as_json=as_json)


def _print(report: Report, console: Console) -> None:
    machine = report.machine
    console.print(
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB, Python {machine.python}"
    )
    table = Table("benchmark", "metric", "median", "unit", "runs", "books")
    for item in report.results:
        runs = " ".join(_figure(run) for run in item.runs)
        table.add_row(item.name, item.metric, _figure(item.value), item.unit, runs, item.result_hash[:12])
    console.print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"
