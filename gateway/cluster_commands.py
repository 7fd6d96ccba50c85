"""`tessera cluster`: nodes that host shards and are drained, how the shards are, moving and stopping them."""

import signal
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from actors.cluster.ray_node import PORT, RayNode, RayNodeOptions
from actors.cluster.supervision import Action
from actors.settings import Settings
from gateway.options import (
    AsJson,
    CommandFailed,
    DatabaseUrl,
    DataDir,
    ExitCode,
    engine_settings,
    print_result,
    reporting_failures,
    run,
)

if TYPE_CHECKING:
    from actors.cluster.status import ClusterReport

SHARDS_MAX: Final = 8

cluster = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT", help="Ray's head. [default: the one that runs the shards]"
    ),
]


@cluster.command("status")
def status(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Show where each shard is and how it is. Exit code 0 only if every one serves."""
    with reporting_failures(as_json=as_json):
        report = run(_status(engine_settings(data_dir, database_url, existing=True)))
        print_result(report, _show_status, as_json=as_json)
        if not report.serving:
            raise typer.Exit(int(ExitCode.FAILED))


async def _status(settings: Settings) -> "ClusterReport":
    from actors.cluster.status import cluster_report  # noqa: PLC0415  # imports the kernel: slow

    return await cluster_report(settings)


def _show_status(report: "ClusterReport", console: Console) -> None:
    if not report.shards:
        console.print("No cluster uses this database: `tessera serve --runtime ray --shards N` makes one.")
        return
    table = Table(box=None)
    for name in ("shard", "status", "node", "address", "process", "epoch", "position", "accounts"):
        words = name in ("status", "node", "address")
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for one in report.shards:
        where, health = one.endpoint, one.health
        place = ("",) * 4
        if where is not None:
            place = (escape(where.node), f"{where.host}:{where.port}", str(where.pid), str(where.epoch))
        table.add_row(
            str(one.shard),
            "[green]serving[/]" if health is not None and health.status == "serving" else "[bold red]away[/]",
            *place,
            f"{health.lsn:,}" if health is not None else "",
            f"{health.accounts:,}" if health is not None else "",
        )
    console.print(table)
    for one in report.shards:
        reason = one.trouble or (one.health.reason if one.health is not None else "")
        if reason:
            console.print(f"shard {one.shard}: {escape(reason)}")
    console.print(f"Ray's head: {escape(report.holder) or 'none'}")


@cluster.command("node")
def node(
    head: Annotated[bool, typer.Option("--head", help="Be the head of a new cluster.")] = False,
    address: Annotated[
        str | None, typer.Option("--address", metavar="HOST:PORT", help="Join the cluster of this head.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of a head.")] = PORT,
    node_ip: Annotated[
        str, typer.Option("--node-ip", metavar="IP", help="Where others reach this machine.")
    ] = "",
    shards_max: Annotated[
        int, typer.Option("--shards-max", min=0, help="How many shards this machine may host.")
    ] = SHARDS_MAX,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="DIR", help="Where a head keeps its tables, to survive its death."),
    ] = None,
) -> None:
    """Run a node of a Ray cluster, tuned for shards, until SIGINT or SIGTERM; it is started again when it
    dies."""
    with reporting_failures():
        if head == (address is not None):
            raise CommandFailed(
                ExitCode.USAGE,
                "A node is either the head of a cluster or joins one.",
                "Give --head, or the --address of the head.",
            )
        from actors.cluster.ray_runtime import check_installed  # noqa: PLC0415  # imports the kernel: slow

        check_installed()
        try:
            options = RayNodeOptions(
                head=head,
                address=address or "",
                port=port,
                node_ip=node_ip,
                shards_max=shards_max,
                storage=storage,
            )
        except ValueError as exc:
            raise CommandFailed(ExitCode.USAGE, f"{exc}.") from exc
        kept = RayNode(options)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: kept.stop())
        kept.run()


@cluster.command("move")
def move(
    shard: Annotated[int, typer.Argument(min=0, help="The number of the shard.")],
    to: Annotated[str, typer.Option("--to", metavar="NODE", help="Address, host name or id of a node.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Stop a shard in order and start it on another node. Requests wait meanwhile."""
    _ask("move", data_dir, database_url, address, as_json, shard=shard, node=to)


@cluster.command("drain")
def drain(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Address, host name or id of the node.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Move every shard off a node, one after the other, so that it can be stopped."""
    _ask("drain", data_dir, database_url, address, as_json, node=node)


@cluster.command("stop")
def stop(
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Stop all shards in order, each with a snapshot. Stop what serves them first."""
    _ask("stop", data_dir, database_url, address, as_json)


class Done(msgspec.Struct, frozen=True):
    """What a command did."""

    done: str


def _ask(
    action: Action,
    data_dir: DataDir,
    database_url: DatabaseUrl,
    address: str | None,
    as_json: bool,
    **more: Any,
) -> None:
    with reporting_failures(as_json=as_json):
        settings = engine_settings(data_dir, database_url, existing=True)
        run(_carry_out(settings, action, address, more))
        print_result(Done(action), lambda done, console: console.print(f"{done.done}: done"), as_json=as_json)


async def _carry_out(settings: Settings, action: Action, address: str | None, more: dict[str, Any]) -> None:
    from actors.cluster.ray_runtime import carry_out  # noqa: PLC0415  # imports the kernel: slow

    await carry_out(settings, action, address, **more)
