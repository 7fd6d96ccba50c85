"""The command `tessera`.

`serve` and `verify` live here. Commands of other packages (`replay`, `demo`, `bench`) are found by name in
the entry-point group `tessera.commands` and loaded only when they are used, so the gateway imports nothing
above it.
"""

import logging
import os
import socket
from functools import cache
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from actors.process_memory import give_memory_back
from actors.settings import Settings
from gateway.listener import DEFAULT_HOST, DEFAULT_PORT, bind, is_loopback
from gateway.logs import configure_logs
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

if TYPE_CHECKING:
    from actors.runtime import Engine
    from gateway.verification import Verdict

COMMAND_GROUP: Final = "tessera.commands"


@cache
def _plugged_commands() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=COMMAND_GROUP)}


class Commands(TyperGroup):
    """The commands declared here, and those plugged in by entry points."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, ours first."""
        return [*super().list_commands(ctx), *sorted(_plugged_commands())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, loading it if it is plugged in."""
        if (found := super().get_command(ctx, cmd_name)) is not None:
            return found
        if (point := _plugged_commands().get(cmd_name)) is None:
            return None
        alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        alone.command(name=cmd_name)(point.load())
        command = typer.main.get_command(alone)
        self.add_command(command, cmd_name)
        return command


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tessera {version('tessera')}")
        raise typer.Exit


@app.callback()
def root(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more, to stderr.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Tessera: a transaction engine for commerce.

    Exit codes: 0 all well, 1 something is wrong, 2 options that make no sense, 3 port in use, 4 database
    unreachable, 5 database of a newer version, 6 database held by another engine, 7 data directory unusable,
    8 the engine stopped itself, 9 the database refused, 10 bad input file.
    """
    configure_logs(logging.DEBUG if verbose else logging.INFO)


@app.command()
def serve(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = DEFAULT_HOST,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = DEFAULT_PORT,
    takeover: Takeover = False,
    insecure_listen: Annotated[
        bool,
        typer.Option(
            "--insecure-listen", help="Allow an address that other machines can reach, without login."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the engine and serve it over HTTP until SIGINT or SIGTERM."""
    with reporting_failures(as_json=as_json):
        if not insecure_listen and not is_loopback(host):
            raise CommandFailed(
                ExitCode.USAGE,
                f"{host} can be reached from other machines, and there is no login yet: "
                "whoever connects could move money.",
                "Listen on 127.0.0.1 behind a proxy with a login, or accept that with --insecure-listen.",
            )
        give_memory_back()
        settings = engine_settings(data_dir, database_url, takeover=takeover)
        listener = bind(host, port)
        try:
            run(_serve(settings, listener, as_json))
        finally:
            listener.close()


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What `serve` says once it serves."""

    url: str
    documentation: str
    pid: int
    lsn: int
    epoch: int
    accounts: int


async def _serve(settings: Settings, listener: socket.socket, as_json: bool) -> None:
    from gateway.server import serve as serve_engine  # noqa: PLC0415  # imports the kernel: slow

    def announce(engine: "Engine", url: str) -> None:
        health = engine.health()
        served = Served(
            url=url,
            documentation=f"{url}/docs",
            pid=os.getpid(),
            lsn=health.lsn,
            epoch=health.epoch,
            accounts=health.accounts,
        )
        print_result(served, _show_served, as_json=as_json)

    await serve_engine(settings, listener, announce)


def _show_served(served: Served, console: Console) -> None:
    console.print(f"Tessera serves [bold]{served.url}[/], with its documentation at {served.documentation}")
    console.print(f"{served.accounts:,} accounts, position {served.lsn:,} of the log; Ctrl-C stops")


@app.command()
def verify(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Recompute every balance from the log and compare it with everything else that holds one.

    Exit code 0 only if all is well.
    """
    with reporting_failures(as_json=as_json):
        settings = engine_settings(data_dir, database_url, existing=True)
        verdict = run(_verify(settings))
        print_result(verdict, _show_verdict, as_json=as_json)
        if not verdict.ok:
            raise typer.Exit(int(ExitCode.FAILED))


async def _verify(settings: Settings) -> "Verdict":
    from gateway.verification import verify_books  # noqa: PLC0415  # imports the kernel: slow

    with progress("verifying") as report:
        return await verify_books(settings, report)


def _show_verdict(verdict: "Verdict", console: Console) -> None:
    table = Table(show_header=False, box=None)
    for what, count in verdict.checked.items():
        table.add_row(what.replace("_", " "), f"{count:,}")
    console.print(table)
    if not verdict.memory:
        console.print("An engine is serving this database; its memory was not compared.")
    for problem in verdict.problems:
        console.print(f"[bold red]wrong:[/] {escape(problem)}")
    console.print("[bold green]All is well.[/]" if verdict.ok else "[bold red]The books are not in order.[/]")


def main() -> None:
    """The entry point of the `tessera` script."""
    app(prog_name="tessera")


if __name__ == "__main__":
    main()
