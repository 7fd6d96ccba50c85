"""What the demo shows: steps with progress bars while it runs, then its findings, then how to reach it."""

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from simulations.demo import DemoReport
from simulations.printing import facts, money, print_trial_balance
from simulations.replay import Latency, Report

SHOWN_PATHS: Final = (
    "/health",
    "/v1/moves?kind=refund&limit=3",
    "/v1/accounts?prefix=R:",
    "/openapi.json",
)


class Screen:
    """Steps on stderr: bars on a terminal, lines elsewhere, nothing at all if `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=self._console, disable=quiet or not self._console.is_terminal)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._bars.stop()

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text)

    def begin(self, what: str) -> Report:
        """A step begins; the one before it has ended."""
        self.end()
        task = self._task = self._bars.add_task(what, total=None)
        if self._bars.disable:
            self.say(f"· {what} …")

        def report(done: int, total: int) -> None:
            self._bars.update(task, completed=done, total=total)

        return report

    def end(self) -> None:
        """The step, if there is one, has ended."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


def print_demo(report: DemoReport, console: Console) -> None:
    """The demo's findings."""
    crash, verdict = report.crash, report.verify
    missing = crash.acknowledged - crash.found
    doubled = report.moves - report.replay.moves - report.replay.repeats
    facts(
        console,
        "What happened",
        [
            ("source", report.source),
            ("lines", f"{report.replay.lines:,}"),
            ("Moves", f"{report.moves:,}"),
            ("Entries", f"{report.entries:,}"),
            ("throughput", f"{report.moves_per_s:,.0f} Moves/s, {report.entries_per_s:,.0f} Entries/s"),
            ("latency of a durable Move, one at a time", _latency(report.latency)),
            ("latency of a durable Move, under this load", _latency(report.latency_under_load)),
            ("net, by SQL over the books", money(report.replay.net_mills)),
            ("of which cancelled", money(report.replay.cancelled_mills)),
        ],
    )
    facts(
        console,
        "kill -9 in the middle",
        [
            ("Moves acknowledged before the kill", f"{crash.acknowledged:,}"),
            ("of them missing after it", _none(missing)),
            ("posted twice", _none(doubled)),
            (
                "recovery, from the kill to serving again",
                f"{crash.recovery_s:.2f} s ({crash.records:,} records, {crash.legs:,} legs)",
            ),
        ],
    )
    print_trial_balance(report.trial_balance, console)
    colour, word = ("green", "everything agrees") if verdict.ok else ("bold red", "something is wrong")
    console.print(f"[bold]verify[/]: [{colour}]{word}[/] ({verdict.seconds:.1f} s)")
    for problem in verdict.problems:
        console.print(f"  [red]{problem}[/]")
    for refusal in report.replay.refusals:
        console.print(f"  [red]refused[/] {refusal.reference}: {refusal.code}: {refusal.message}")


def print_served(url: str, console: Console) -> None:
    """Where the books can be looked at, and how."""
    console.print(f"\n[bold]Serving on {url}[/]  (Ctrl-C stops it)\n")
    for path in SHOWN_PATHS:
        console.print(f"    curl '{url}{path}'", markup=False)


def _none(count: int) -> str:
    """A count that should be 0, in the colour that says whether it is."""
    return f"[green]{count}[/]" if count == 0 else f"[bold red]{count:,}[/]"


def _latency(latency: Latency) -> str:
    return f"p50 {latency.p50_ms:.2f} ms, p99 {latency.p99_ms:.2f} ms"
