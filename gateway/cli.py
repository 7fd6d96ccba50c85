"""The command `tessera`.

`serve` and `verify` live here. Commands of other packages (`replay`, `demo`, `bench`) are found by name in
the entry-point group `tessera.commands` and loaded only when they are used, so the gateway imports nothing
above it.
"""

import asyncio
import logging
import os
import socket
import ssl
from enum import StrEnum
from functools import cache, partial
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from actors.cluster.supervision import RayOptions
from actors.process_memory import give_memory_back
from actors.settings import Settings
from gateway.backup_commands import backup, restore
from gateway.client_commands import accounts, events, moves
from gateway.cluster_commands import cluster
from gateway.export_commands import export, import_
from gateway.listener import DEFAULT_HOST, DEFAULT_PORT, bind, is_loopback
from gateway.logs import configure_logs
from gateway.options import (
    AsJson,
    CommandFailed,
    DatabaseUrl,
    DataDir,
    ExitCode,
    Shards,
    Takeover,
    engine_settings,
    print_result,
    progress,
    reporting_failures,
    run,
)
from gateway.security.commands import audit, keys
from gateway.security.settings import SecuritySettings
from gateway.security.tls import TlsFiles, tls_context
from gateway.webhooks.commands import webhooks
from gateway.webhooks.settings import WebhookSettings
from gateway.webhooks.source_commands import sources

if TYPE_CHECKING:
    from actors.runtime import Engine
    from gateway.server import HttpServer, OpenEngine
    from gateway.tracing import Tracing
    from gateway.verification import Verdict


class Runtime(StrEnum):
    """Where shards are hosted."""

    LOCAL = "local"  # in this process
    RAY = "ray"  # on a Ray cluster, started and kept running from here
    REMOTE = "remote"  # in a cluster that somebody else keeps running


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
        loaded = point.load()
        if isinstance(loaded, typer.Typer):
            command = typer.main.get_command(loaded)
        else:
            alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            alone.command(name=cmd_name)(loaded)
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


app.add_typer(keys, name="keys", help="Make, list, rotate and revoke API keys.")
app.add_typer(cluster, name="cluster", help="Run nodes of a cluster; show, move and stop its shards.")
webhooks.add_typer(sources, name="sources", help="Take other people's webhooks in, and say what they do.")
app.add_typer(webhooks, name="webhooks", help="Have events sent to URLs, and see what became of them.")
app.add_typer(accounts, name="accounts", help="Show accounts of a running gateway.")
app.add_typer(moves, name="moves", help="Show Moves of a running gateway.")
app.add_typer(events, name="events", help="Follow what a running gateway commits.")
app.add_typer(audit, name="audit", help="Show and verify the audit log.")
app.command("backup")(backup)
app.command("restore")(restore)
app.command("export")(export)
app.command("import")(import_)


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
    8 the engine stopped itself, 9 the database refused, 10 bad input file, 11 cluster refused.
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
    auth: Annotated[
        bool,
        typer.Option("--auth", help="Ask for an API key even while there is none.  [env: TESSERA_AUTH]"),
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Requests a second of a key that has no rate of its own; 0 = any.  [env: TESSERA_RATE]",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="PEM", help="Serve TLS 1.3 with this certificate.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="PEM", help="The certificate's key.")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-client-ca", metavar="PEM", help="Ask for client certificates of these authorities."
        ),
    ] = None,
    insecure_listen: Annotated[
        bool,
        typer.Option(
            "--insecure-listen",
            help="Allow an address that other machines can reach without asking for keys, or without TLS.",
        ),
    ] = False,
    runtime: Annotated[
        Runtime,
        typer.Option(
            help="Where the shards are: in this process (local), on a Ray cluster that is started and kept "
            "running from here (ray), or in a cluster that somebody else keeps running (remote)."
        ),
    ] = Runtime.LOCAL,
    shards: Shards = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="With ray: where Ray's head is.  [default: a head of our own, on this machine]",
            show_default=False,
        ),
    ] = None,
    first_port: Annotated[
        int | None,
        typer.Option(
            "--first-port",
            min=1024,
            max=65535,
            help="With ray: shard n listens for gateways at this port + n.  [default: any free one]",
            show_default=False,
        ),
    ] = None,
    webhooks_anywhere: Annotated[
        bool,
        typer.Option(
            "--webhooks-anywhere",
            help="Send webhooks to private addresses too, and without TLS; on loopback that is so anyway.",
        ),
    ] = False,
    trace: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            envvar="TESSERA_TRACE",
            help="Share of requests to trace, by OpenTelemetry, to OTEL_EXPORTER_OTLP_ENDPOINT; 0 = none.",
        ),
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Run the engine and serve it over HTTP until SIGINT or SIGTERM.

    API keys are asked for as soon as there is one (`tessera keys create`); until then, everybody on this
    machine may do everything. Bearer tokens of an OpenID Connect provider are set up by TESSERA_OIDC_ISSUER
    and TESSERA_OIDC_AUDIENCE.
    """
    with reporting_failures(as_json=as_json):
        security = _security(auth, rate)
        sending = _webhook_settings(webhooks_anywhere)
        files = _tls_files(tls_cert, tls_key, tls_client_ca)
        if not insecure_listen and not is_loopback(host):
            _check_secured(host, security, files)
        ray = _ray_options(runtime, address, first_port)
        give_memory_back()
        settings = engine_settings(data_dir, database_url, takeover=takeover, shards=shards)
        tls = None if files is None else tls_context(files)
        listener = bind(host, port)
        try:
            run(_serve(settings, runtime, ray, listener, security, tls, sending, trace, as_json))
        finally:
            listener.close()


def _ray_options(runtime: Runtime, address: str | None, first_port: int | None) -> RayOptions:
    """How Ray runs the shards, if it does. Raises CommandFailed for options that don't go together."""
    if runtime is not Runtime.RAY:
        for name, given in (("--address", address), ("--first-port", first_port)):
            if given is not None:
                raise CommandFailed(
                    ExitCode.USAGE,
                    f"{name} says how Ray runs shards, and these are {runtime}.",
                    f"Leave {name} out, or say --runtime ray.",
                )
    return RayOptions(address=address, first_port=first_port or 0)


def _security(auth: bool, rate: int | None) -> SecuritySettings:
    try:
        return SecuritySettings.from_environment(auth=auth or None, rate=rate)
    except ValueError as exc:
        raise CommandFailed(ExitCode.USAGE, f"{exc}.") from exc


def _webhook_settings(anywhere: bool) -> WebhookSettings:
    try:
        return WebhookSettings.from_environment(private=anywhere or None)
    except ValueError as exc:
        raise CommandFailed(ExitCode.USAGE, f"{exc}.") from exc


def _tls_files(certificate: Path | None, key: Path | None, authorities: Path | None) -> TlsFiles | None:
    if certificate is not None and key is not None:
        return TlsFiles(certificate, key, authorities)
    if certificate is not None or key is not None or authorities is not None:
        raise CommandFailed(ExitCode.USAGE, "TLS needs both --tls-cert and --tls-key.")
    return None


def _check_secured(host: str, security: SecuritySettings, tls: TlsFiles | None) -> None:
    """Raises CommandFailed if strangers could use what is served at `host`, or read what is sent to it."""
    if not (security.auth or security.oidc_issuer):
        raise CommandFailed(
            ExitCode.USAGE,
            f"{host} can be reached from other machines, and there is no login: "
            "whoever connects could move money.",
            "Ask for keys with --auth, or accept that with --insecure-listen.",
        )
    if tls is None:
        raise CommandFailed(
            ExitCode.USAGE,
            f"{host} can be reached from other machines, and without TLS keys could be read on the way.",
            "Give --tls-cert and --tls-key, or --insecure-listen where a proxy does it.",
        )


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What `serve` says once it serves."""

    url: str
    documentation: str
    pid: int
    lsn: int
    epoch: int
    accounts: int
    auth: bool  # whether keys or tokens are asked for


async def _serve(
    settings: Settings,
    runtime: Runtime,
    ray: RayOptions,
    listener: socket.socket,
    security: SecuritySettings,
    tls: ssl.SSLContext | None,
    webhook_settings: WebhookSettings,
    trace: float,
    as_json: bool,
) -> None:
    from gateway.server import serve as serve_engine  # noqa: PLC0415  # imports the kernel: slow

    def announce(engine: "Engine", server: "HttpServer") -> None:
        health = engine.health()
        served = Served(
            url=server.url,
            documentation=f"{server.url}/docs",
            pid=os.getpid(),
            lsn=health.lsn,
            epoch=health.epoch,
            accounts=health.accounts,
            auth=not server.gate.is_open,
        )
        print_result(served, _show_served, as_json=as_json)

    tracing = _tracing(trace)
    try:
        await serve_engine(
            settings, _opening(runtime, ray), listener, announce, security, tls, webhook_settings, tracing
        )
    finally:
        if tracing is not None:
            await asyncio.to_thread(tracing.close)


def _tracing(share: float) -> "Tracing | None":
    """What traces that share of the requests, if any. Raises CommandFailed where OpenTelemetry is missing."""
    if share <= 0:
        return None
    try:
        from gateway.tracing import otlp  # noqa: PLC0415  # only where requests are traced

        return otlp(share)
    except ImportError as exc:
        raise CommandFailed(
            ExitCode.USAGE, f"Tracing needs OpenTelemetry: {exc}.", "Install tessera[tracing]."
        ) from exc


def _opening(runtime: Runtime, ray: RayOptions) -> "OpenEngine":
    """How the engine is opened."""
    from actors.cluster.engine import ClusterEngine  # noqa: PLC0415  # imports the kernel: slow
    from actors.cluster.ray_runtime import RayRuntime  # noqa: PLC0415  # as above
    from actors.runtime import Engine  # noqa: PLC0415  # as above

    match runtime:
        case Runtime.LOCAL:
            return Engine.open
        case Runtime.RAY:
            return partial(RayRuntime.open_runtime, options=ray)
        case Runtime.REMOTE:
            return ClusterEngine.connect


def _show_served(served: Served, console: Console) -> None:
    console.print(f"Tessera serves [bold]{served.url}[/], with its documentation at {served.documentation}")
    console.print(f"{served.accounts:,} accounts, position {served.lsn:,} of the log; Ctrl-C stops")
    if not served.auth:
        console.print(
            "There are no API keys yet, so whoever reaches it may do everything: `tessera keys create`"
        )


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
