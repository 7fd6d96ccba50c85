"""How replays and the demo look in a terminal."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from simulations.replay import AssetBalance, ReplayReport

NAME_WIDTH: Final = 42


def money(mills: int) -> str:
    """An amount in mills as a decimal number, without a float."""
    whole, rest = divmod(abs(mills), 1000)
    return f"{'−' if mills < 0 else ''}{whole:,}.{rest:03}"


def facts(console: Console, title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Names and values under a title, a line each."""
    console.print(f"[bold]{title}[/]")
    for name, value in rows:
        console.print(f"  {name:<{NAME_WIDTH}}  {value}")
    console.print()


def print_replay(report: ReplayReport, console: Console) -> None:
    """A replay's report."""
    facts(
        console,
        f"Replay of {report.dataset}",
        [
            ("lines", f"{report.lines:,}"),
            ("Moves posted", f"{report.moves:,}"),
            ("repeats of Moves posted before", f"{report.repeats:,}"),
            ("refused", f"{report.refused:,}"),
            ("Entries written", f"{report.entries:,}"),
            ("time until durable and projected", f"{report.seconds:.2f} s"),
            ("throughput", throughput(report)),
            ("latency of a Move under this load", latency(report)),
        ],
    )
    print_books(report, console)
    for refusal in report.refusals:
        console.print(f"[red]refused[/] {refusal.reference}: {refusal.code}: {refusal.message}")


def print_books(report: ReplayReport, console: Console) -> None:
    """What the books say after a replay."""
    books = report.books
    facts(
        console,
        "The books, by SQL",
        [
            ("Moves", f"{books.moves:,}"),
            ("Entries", f"{books.entries:,}"),
            ("net", money(books.net_mills)),
            ("of which cancelled", money(books.cancelled_mills)),
            ("months, countries, customers", ", ".join(f"{len(by):,}" for by in _groups(report))),
            (
                "refunds that reverse nothing known",
                f"{report.unmatched_lines:,} lines, {books.unmatched_units:,} units, "
                f"{money(books.unmatched_mills)}",
            ),
        ],
    )
    print_trial_balance(report.trial_balance, console)
    for key, amount in books.undrained.items():
        console.print(f"[red]not drained[/] {key}: {money(amount)}")


def print_trial_balance(balances: dict[str, AssetBalance], console: Console) -> None:
    """Debits, credits and their difference, which is 0."""
    table = Table(title="Trial balance", title_style="bold", title_justify="left", box=None, padding=(0, 2))
    table.add_column("asset")
    for name in ("debits", "credits", "difference"):
        table.add_column(name, justify="right")
    for asset, balance in balances.items():
        colour = "green" if balance.difference == 0 else "bold red"
        table.add_row(
            asset,
            f"{balance.debits:,}",
            f"{balance.credits:,}",
            f"[{colour}]{balance.difference:,}[/]",
        )
    console.print(table)
    console.print()


def throughput(report: ReplayReport) -> str:
    """Moves and Entries a second."""
    return f"{report.moves_per_s:,.0f} Moves/s, {report.entries_per_s:,.0f} Entries/s"


def latency(report: ReplayReport) -> str:
    """The middle and the slowest hundredth."""
    return f"p50 {report.latency.p50_ms:.1f} ms, p99 {report.latency.p99_ms:.1f} ms"


def _groups(report: ReplayReport) -> tuple[dict[str, int], ...]:
    return report.books.by_month, report.books.by_country, report.books.by_customer
