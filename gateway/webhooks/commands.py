"""`tessera webhooks`: the endpoints of a running server, by way of its interface."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.listener import DEFAULT_HOST, DEFAULT_PORT
from gateway.options import AsJson, CommandFailed, ExitCode, print_result, reporting_failures

if TYPE_CHECKING:
    from gateway.client import Client

T = TypeVar("T")

webhooks = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Server = Annotated[
    str,
    typer.Option("--server", metavar="URL", help="The server to ask.", envvar="TESSERA_URL"),
]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="An API key or token.", envvar="TESSERA_KEY", show_envvar=True),
]
WebhookId = Annotated[str, typer.Argument(metavar="ID", help="As `tessera webhooks list` shows it.")]
DEFAULT_SERVER: Final = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"
GIVE_UP_S: Final = 5.0
"""So long a server is tried."""


def ask(server: str, key: str | None, work: Callable[["Client"], T]) -> T:
    """What a server answers. Raises CommandFailed."""
    from gateway.client import (  # noqa: PLC0415  # imports Arrow: slow
        Client,
        ClientError,
        RequestRefused,
        Retry,
        Unavailable,
    )

    try:
        with Client(server, token=key, retry=Retry(give_up_s=GIVE_UP_S)) as client:
            return work(client)
    except ValueError as exc:
        raise CommandFailed(ExitCode.USAGE, f"{exc}.") from exc
    except RequestRefused as exc:
        raise CommandFailed(
            ExitCode.FAILED, exc.detail, f"Accepted: {exc.accepted}." if exc.accepted else ""
        ) from exc
    except Unavailable as exc:
        raise CommandFailed(ExitCode.FAILED, f"{server} does not answer: {exc.reason}.") from exc
    except ClientError as exc:
        raise CommandFailed(ExitCode.FAILED, str(exc)) from exc


def _filter(**given: list[str] | None) -> dict[str, list[str]]:
    return {name: values for name, values in given.items() if values}


@webhooks.command("create")
def create(
    url: Annotated[str, typer.Argument(help="Where events are sent to, by POST.")],
    name: Annotated[str, typer.Option(help="What it is for; shown in lists.")] = "",
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only these types or groups of events. Repeatable.")
    ] = None,
    parties: Annotated[
        list[str] | None, typer.Option("--party", help="Only what concerns this Party. Repeatable.")
    ] = None,
    accounts: Annotated[
        list[str] | None, typer.Option("--account", help="Only what is on this account. Repeatable.")
    ] = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", help="Only Moves of this kind. Repeatable.")
    ] = None,
    assets: Annotated[list[str] | None, typer.Option("--asset", help="Only this asset. Repeatable.")] = None,
    after: Annotated[str, typer.Option(help="`now`, `start`, or the id of an event.")] = "now",
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Have events sent to a URL, and print the secret that they are signed with: it is shown this once."""
    with reporting_failures(as_json=as_json):
        chosen = _filter(types=types, parties=parties, accounts=accounts, kinds=kinds, assets=assets)
        made = ask(
            server, key, lambda client: client.create_webhook(url, name=name, filter=chosen, after=after)
        )
        print_result(made, _show_secret, as_json=as_json)


@webhooks.command("list")
def list_webhooks(server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Show where events are sent to, and how it goes."""
    with reporting_failures(as_json=as_json):
        found = ask(server, key, lambda client: list(client.webhooks()))
        print_result({"webhooks": found}, _show_webhooks, as_json=as_json)


@webhooks.command("pause")
def pause(id: WebhookId, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Send nothing until it is resumed."""
    with reporting_failures(as_json=as_json):
        found = ask(server, key, lambda client: client.change_webhook(id, state="paused"))
        print_result(found, _show_state, as_json=as_json)


@webhooks.command("resume")
def resume(id: WebhookId, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Go on where it was, after a pause or after it was disabled."""
    with reporting_failures(as_json=as_json):
        found = ask(server, key, lambda client: client.change_webhook(id, state="active"))
        print_result(found, _show_state, as_json=as_json)


@webhooks.command("remove")
def remove(id: WebhookId, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Send nothing more, and forget everything about it."""
    with reporting_failures(as_json=as_json):
        found = ask(server, key, lambda client: client.remove_webhook(id))
        print_result(found, _show_removed, as_json=as_json)


@webhooks.command("rotate")
def rotate(
    id: WebhookId,
    overlap_s: Annotated[
        int, typer.Option("--overlap", min=0, metavar="SECONDS", help="How long the old secret signs too.")
    ] = 86_400,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give it a new secret, and print that, this once."""
    with reporting_failures(as_json=as_json):
        made = ask(server, key, lambda client: client.rotate_webhook_secret(id, overlap_s=overlap_s))
        print_result(made, _show_secret, as_json=as_json)


@webhooks.command("log")
def log(
    id: WebhookId,
    failed: Annotated[bool, typer.Option("--failed", help="Only attempts that failed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most.")] = 50,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest attempts to deliver."""
    with reporting_failures(as_json=as_json):
        query = {"limit": limit, **({"failed": "true"} if failed else {})}
        page = ask(server, key, lambda client: client.get(f"/v1/webhooks/{id}/deliveries", **query))
        print_result({"deliveries": page["items"]}, _show_deliveries, as_json=as_json)


@webhooks.command("dead")
def dead(id: WebhookId, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Show events that are not tried any more."""
    with reporting_failures(as_json=as_json):
        found = ask(server, key, lambda client: list(client.dead_events(id)))
        print_result({"events": found}, _show_dead, as_json=as_json)


@webhooks.command("replay")
def replay(
    id: WebhookId,
    events: Annotated[
        list[str] | None, typer.Argument(metavar="[EVENT]…", help="Their ids; without any, all of them.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Try dead events again."""
    with reporting_failures(as_json=as_json):
        told = ask(server, key, lambda client: client.replay_dead_events(id, events or None))
        print_result(told, _show_replayed, as_json=as_json)


def _show_secret(made: Any, console: Console) -> None:
    console.print(made["secret"] or "", soft_wrap=True)
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"Webhook {made['webhook']['id']} to {escape(made['webhook']['url'])}. "
        "This is the only time its secret is shown."
    )


def _show_webhooks(found: Any, console: Console) -> None:
    table = Table("id", "url", "name", "state", "position", "waiting", "dead", "failing since", box=None)
    for one in found["webhooks"]:
        state = f"{one['state']}: {one['reason']}" if one["reason"] else one["state"]
        cells = (one["id"], one["url"], one["name"], state, one["position"], str(one["waiting"]))
        table.add_row(*map(escape, (*cells, str(one["dead"]), one["failing_since"] or "")))
    console.print(table)


def _show_state(found: Any, console: Console) -> None:
    console.print(f"Webhook {found['id']} is {found['state']}.")


def _show_removed(found: Any, console: Console) -> None:
    console.print(f"Webhook {found['id']} is no more.")


def _show_deliveries(found: Any, console: Console) -> None:
    table = Table("time", "event", "type", "attempt", "status", "took", "error", box=None)
    for one in found["deliveries"]:
        took = f"{one['took_us'] / 1_000:.1f} ms"
        cells = (one["time"], one["event"], one["type"], str(one["attempt"]), str(one["status"] or ""), took)
        table.add_row(*map(escape, (*cells, one["error"])))
    console.print(table)


def _show_dead(found: Any, console: Console) -> None:
    table = Table("event", "type", "attempts", "last attempt", "status", "error", box=None)
    for one in found["events"]:
        cells = (one["event"], one["type"], str(one["attempts"]), one["last_attempt"])
        table.add_row(*map(escape, (*cells, str(one["status"] or ""), one["error"])))
    console.print(table)


def _show_replayed(told: Any, console: Console) -> None:
    console.print(f"{told['events']:,} events will be tried again.")
