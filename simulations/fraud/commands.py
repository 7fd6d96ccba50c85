"""The commands `tessera fraud …`."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engine.features.definition import FeatureError
from engine.scoring.rules import RuleError
from gateway.options import AsJson, CommandFailed, ExitCode, print_result, refusing, reporting_failures
from simulations.errors import SimulationError
from simulations.fraud.backtest import BacktestReport, backtest, read_rules
from simulations.fraud.payments import read_payments, write_payments
from simulations.fraud.protocol import Periods, default_start
from simulations.fraud.training_set import write_training_set
from simulations.fraud.transfers import read_transfers
from simulations.fraud.world import WorldSize, card_world
from simulations.printing import facts

if TYPE_CHECKING:
    from simulations.fraud.cycles import CycleReport
    from simulations.fraud.evaluation import Evaluation

SEED: Final = 0
WINDOW_STEPS: Final = 90
EXTRA: Final = ("sklearn", "matplotlib")

fraud = typer.Typer(
    no_args_is_help=True, help="Make card payments with frauds in them; judge models of fraud."
)


class WorldReport(msgspec.Struct, frozen=True):
    """What was written."""

    file: str
    payments: int
    frauds: int
    by_pattern: dict[str, int]


class TrainingSetReport(msgspec.Struct, frozen=True):
    """What was written."""

    file: str
    payments: int
    columns: list[str]


@fraud.command()
def world(
    output: Annotated[
        Path,
        typer.Option("--output", metavar="FILE", help="Where to: .csv or .parquet.", show_default=False),
    ],
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same world.")] = SEED,
    customers: Annotated[int, typer.Option(min=1)] = WorldSize().customers,
    terminals: Annotated[int, typer.Option(min=1)] = WorldSize().terminals,
    days: Annotated[int, typer.Option(min=1)] = WorldSize().days,
    radius: Annotated[
        float, typer.Option(min=0.1, help="How far customers go, on a square of 100 by 100.")
    ] = WorldSize().radius,
    as_json: AsJson = False,
) -> None:
    """Make card payments of customers at terminals, with frauds of three patterns, from a seed."""
    with reporting_failures(as_json=as_json), refusing(SimulationError):
        payments = card_world(seed, WorldSize(customers, terminals, days, radius))
        write_payments(payments, output)
    names = ("large amount", "compromised terminal", "compromised customer")
    by_pattern = {name: int((payments.pattern == n).sum()) for n, name in enumerate(names, 1)}
    report = WorldReport(str(output), len(payments.time_ns), int(payments.fraud.sum()), by_pattern)
    print_result(report, _print_world, as_json=as_json)


@fraud.command()
def evaluate(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Payments, CSV or Parquet, with the columns TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, "
            "TX_AMOUNT, TX_FRAUD.",
            show_default=False,
        ),
    ],
    start: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="First day of training.  [default: the 116th day, or the last that leaves 21 days]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Draw the curves there, as PNG.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train models on 7 days of payments, let 7 days pass, and judge them on 7 days more.

    Features are computed by the engine's feature store. A random forest and a logistic regression are judged
    by ROC AUC, average precision and the precision among the 100 cards a day that they point at.
    """
    with reporting_failures(as_json=as_json), refusing(SimulationError), refusing(FeatureError):
        _require_extra()
        payments = read_payments(path)
        from simulations.fraud.evaluation import evaluate as judge  # noqa: PLC0415  # an extra brings its models

        first = default_start(payments) if start is None else _day(start)
        with _explaining_disk(output):
            report = judge(payments, Periods(first), output)
    print_result(report, _print_evaluation, as_json=as_json)


@fraud.command()
def features(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Payments, as for `evaluate`.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option("--output", metavar="FILE", help="Where to: .csv or .parquet.", show_default=False),
    ],
    as_json: AsJson = False,
) -> None:
    """Write a training set: the features of each payment as they were just before it, and its label."""
    with reporting_failures(as_json=as_json), refusing(SimulationError), refusing(FeatureError):
        table = write_training_set(read_payments(path), output)
    report = TrainingSetReport(str(output), table.num_rows, table.column_names)
    print_result(report, _print_training_set, as_json=as_json)


@fraud.command("backtest")
def backtest_rules(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Payments, as for `evaluate`.", show_default=False)
    ],
    rules: Annotated[
        list[Path],
        typer.Option(
            "--rules", metavar="FILE", help="A rule set, JSON; several are compared.", show_default=False
        ),
    ],
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="First day.  [default: that of the file]", show_default=False
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last day.  [default: that of the file]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge payments of the past by rule sets: what they would have allowed, reviewed and denied, and why."""
    with reporting_failures(as_json=as_json), refusing(SimulationError), refusing(RuleError):
        rule_sets = [read_rules(file) for file in rules]
        payments = read_payments(path)
        first = int(payments.day[0]) if since is None else _day(since)
        last = int(payments.day[-1]) if until is None else _day(until)
        report = backtest(payments, rule_sets, first, last)
    print_result(report, _print_backtest, as_json=as_json)


def _day(date: datetime) -> int:
    """A date as days since 1970-01-01."""
    return (date - datetime(1970, 1, 1)).days


@fraud.command()
def cycles(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="AMLSim's nodes.csv and transactions.csv, plain or in xz.",
            show_default=False,
        ),
    ],
    window: Annotated[
        int, typer.Option(min=1, help="Within how many steps money must come back.")
    ] = WINDOW_STEPS,
    as_json: AsJson = False,
) -> None:
    """Find accounts in laundering cycles: by amounts alone, by the graph of transfers, and by both."""
    with reporting_failures(as_json=as_json), refusing(SimulationError):
        _require_extra()
        from simulations.fraud.cycles import find_cycles  # noqa: PLC0415  # an extra brings its models

        report = find_cycles(read_transfers(folder), window)
    print_result(report, _print_cycles, as_json=as_json)


def _require_extra() -> None:
    """Raises CommandFailed unless the extra's libraries are there."""
    if missing := [name for name in EXTRA if importlib.util.find_spec(name) is None]:
        raise CommandFailed(
            ExitCode.FAILED,
            f"{' and '.join(missing)} is not installed.",
            "Install the extra `tessera[fraud]`.",
        )


@contextmanager
def _explaining_disk(output: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise CommandFailed(
            ExitCode.BAD_INPUT, f"The curves can't be written to {output}: {exc.strerror or exc}."
        ) from exc


def _print_world(report: WorldReport, console: Console) -> None:
    facts(
        console,
        f"Payments in {report.file}",
        [
            ("payments", f"{report.payments:,}"),
            ("frauds", f"{report.frauds:,}"),
            *((f"of which by {name}", f"{count:,}") for name, count in report.by_pattern.items()),
        ],
    )


def _print_training_set(report: TrainingSetReport, console: Console) -> None:
    facts(
        console,
        f"Training set in {report.file}",
        [("payments", f"{report.payments:,}"), ("columns", ", ".join(report.columns))],
    )


def _print_backtest(report: BacktestReport, console: Console) -> None:
    facts(
        console,
        f"Payments from {report.first_day} to {report.last_day}",
        [("payments, frauds among them", f"{report.payments:,}, {report.frauds:,}")],
    )
    for result in report.rule_sets:
        facts(
            console,
            f"{result.rule_set}, version {result.version}",
            [
                *(
                    (name, f"{count.payments:,} payments, {count.frauds:,} of them frauds")
                    for name, count in result.outcomes.items()
                ),
                ("of what was not allowed", f"precision {result.precision:.3f}, recall {result.recall:.3f}"),
                ("speed", f"{result.judged_per_s:,.0f} payments/s"),
            ],
        )
        table = Table(box=None, padding=(0, 2))
        for name in ("rule", "held", "frauds", "precision", "reason"):
            table.add_column(name, justify="left" if name in ("rule", "reason") else "right")
        for rule in result.rules:
            counts = (f"{rule.held:,}", f"{rule.frauds:,}", f"{rule.precision:.3f}")
            table.add_row(rule.name, *counts, rule.reason)
        console.print(table)
        console.print()


def _print_cycles(report: "CycleReport", console: Console) -> None:
    facts(
        console,
        "Transfers",
        [
            ("accounts, launderers among them", f"{report.accounts:,}, {report.launderers:,}"),
            ("transfers", f"{report.transfers:,}"),
            (f"whose money came back within {report.window_steps} steps", f"{report.returning:,}"),
            (
                "accounts that sent them",
                f"precision {report.return_flow_precision:.3f}, recall {report.return_flow_recall:.3f}",
            ),
        ],
    )
    table = Table(box=None, padding=(0, 2), title="Found by", title_style="bold", title_justify="left")
    table.add_column("features")
    for name in ("columns", "precision", "recall", "average precision"):
        table.add_column(name, justify="right")
    for found in report.found:
        figures = (found.precision, found.recall, found.average_precision)
        table.add_row(found.features, str(found.columns), *(f"{figure:.3f}" for figure in figures))
    console.print(table)


def _print_evaluation(report: "Evaluation", console: Console) -> None:
    facts(
        console,
        "Payments and features",
        [
            ("payments, frauds among them", f"{report.payments:,}, {report.frauds:,}"),
            (
                f"computing {len(report.features)} features of each",
                f"{report.features_s:.1f} s, {report.features_per_s:,.0f}/s",
            ),
            ("held at the end", f"{report.events_held:,} events, {report.bytes_per_event:.0f} bytes each"),
            ("trained on", f"{report.train_payments:,} payments from {report.train_start} on"),
            (
                "judged on",
                f"{report.test_payments:,} payments from {report.test_start} on, "
                f"{report.test_frauds:,} of them frauds",
            ),
        ],
    )
    table = Table(box=None, padding=(0, 2), title="Models", title_style="bold", title_justify="left")
    table.add_column("model")
    for name in ("ROC AUC", "average precision", "card precision@100", "training", "prediction"):
        table.add_column(name, justify="right")
    for model in report.models:
        figures = (model.roc_auc, model.average_precision, model.card_precision)
        seconds = (f"{model.train_s:.1f} s", f"{model.predict_s:.1f} s")
        table.add_row(model.model, *(f"{figure:.3f}" for figure in figures), *seconds)
    console.print(table)
    for chart in report.charts:
        console.print(f"Curves: {chart}")
