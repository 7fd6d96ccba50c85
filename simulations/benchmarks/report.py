"""The result of `tessera bench`: as a table, a chart and one JSON object."""

from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from simulations.benchmarks.measurement import Machine, Measurement, Scale, figure

TABLE_COLUMNS: Final = 132
"""At least so wide is the table, also where it goes to no terminal."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run of benchmarks."""

    machine: Machine
    versions: dict[str, str]
    date: str
    load: str = (
        "Load on the served engine is generated on this machine: by the Python client, gateway.client, and "
        "one by one by simulations.benchmarks.load_generator, a process of its own."
    )
    scale: Scale
    results: list[Measurement]


def print_report(report: Report, console: Console) -> None:
    """The table."""
    machine = report.machine
    console.print(
        f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB, "
        f"{machine.system}, Python {machine.python}, {report.date}"
    )
    console.print(", ".join(f"{name} {version}" for name, version in report.versions.items()))
    console.print(report.load)
    table = Table("benchmark", "metric", "median", "unit", "runs", "beside it", "books")
    before = ""
    for item in report.results:
        if item.name != before:
            table.add_section()
        peers = "\n".join(
            f"{name} {figure(peer.value)}: {peer.ratio:.2f} ×" for name, peer in item.peers.items()
        )
        table.add_row(
            *("" if item.name == before else item.name, item.metric, figure(item.value), item.unit),
            *(f"{figure(min(item.runs))} – {figure(max(item.runs))}", peers, item.result_hash[:8]),
        )
        before = item.name
    console.width = max(console.width, TABLE_COLUMNS)
    console.print(table)


def write_files(report: Report, folder: Path) -> None:
    """`bench.txt`, `bench.png` and `bench.json` in a folder, which is made if it is not there."""
    from simulations.benchmarks.chart import draw  # noqa: PLC0415  # imports matplotlib: slow

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "bench.txt").open("w") as file:
        print_report(report, Console(file=file, width=TABLE_COLUMNS, highlight=False))
    (folder / "bench.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    draw(report.results, _title(report), folder / "bench.png")


def _title(report: Report) -> str:
    machine = report.machine
    return f"{machine.processor}, {machine.cores} cores, {report.date[:10]}"
