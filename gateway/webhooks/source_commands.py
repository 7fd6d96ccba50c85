"""`tessera webhooks sources`: whose webhooks a running server takes in, and what they do."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.options import AsJson, CommandFailed, ExitCode, print_result, reporting_failures
from gateway.webhooks.commands import DEFAULT_SERVER, Key, Server, ask

if TYPE_CHECKING:
    from gateway.client import Client
    from gateway.webhooks.source_schemas import SourceRule

sources = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits and hyphens.")]
RulesFile = Annotated[
    Path,
    typer.Option("--rules", metavar="FILE", help="A JSON array of rules; the first that fits counts."),
]
SecretFile = Annotated[
    Path | None,
    typer.Option("--secret-file", metavar="FILE", help="The sender's own secret; without it, one is made."),
]


@sources.command("create")
def create(
    name: Name,
    rules: RulesFile,
    secret: SecretFile = None,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Take somebody's webhooks in, and print the secret that they are to be signed with, this once."""
    with reporting_failures(as_json=as_json):
        from gateway.client import api  # noqa: PLC0415  # imports Arrow: slow
        from gateway.webhooks.source_schemas import SourceDraft  # noqa: PLC0415  # as above

        draft = SourceDraft(name=name, rules=_rules(rules), secret=_secret(secret))
        made = _told(server, key, lambda client: client.call(api.create_source(draft)))
        print_result(made, _show_secret, as_json=as_json)


@sources.command("list")
def list_sources(server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Show whose webhooks are taken in."""
    with reporting_failures(as_json=as_json):
        from gateway.client import api  # noqa: PLC0415  # as above

        found = _told(server, key, lambda client: list(client.items(api.sources())))
        print_result({"sources": found}, _show_sources, as_json=as_json)


@sources.command("show")
def show(name: Name, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Show a source and its rules."""
    with reporting_failures(as_json=as_json):
        from gateway.client import api  # noqa: PLC0415  # as above

        found = _told(server, key, lambda client: client.call(api.source(name)))
        print_result(found, _show_rules, as_json=as_json)


@sources.command("change")
def change(
    name: Name, rules: RulesFile, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False
) -> None:
    """Give a source other rules, from the next message on."""
    with reporting_failures(as_json=as_json):
        from gateway.client import api  # noqa: PLC0415  # as above
        from gateway.webhooks.source_schemas import SourcePatch  # noqa: PLC0415  # as above

        patch = SourcePatch(rules=_rules(rules))
        found = _told(server, key, lambda client: client.call(api.change_source(name, patch)))
        print_result(found, _show_rules, as_json=as_json)


@sources.command("rotate")
def rotate(
    name: Name,
    secret: SecretFile = None,
    overlap_s: Annotated[
        int, typer.Option("--overlap", min=0, metavar="SECONDS", help="How long the old one is good too.")
    ] = 86_400,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Give a source a new secret, and print it, this once."""
    with reporting_failures(as_json=as_json):
        from gateway.client import api  # noqa: PLC0415  # as above
        from gateway.webhooks.source_schemas import SourceRotation  # noqa: PLC0415  # as above

        rotation = SourceRotation(secret=_secret(secret), overlap_s=overlap_s)
        made = _told(server, key, lambda client: client.call(api.rotate_source(name, rotation)))
        print_result(made, _show_secret, as_json=as_json)


@sources.command("remove")
def remove(name: Name, server: Server = DEFAULT_SERVER, key: Key = None, as_json: AsJson = False) -> None:
    """Refuse a source's messages from now on."""
    with reporting_failures(as_json=as_json):
        from gateway.client import api  # noqa: PLC0415  # as above

        found = _told(server, key, lambda client: client.call(api.remove_source(name)))
        print_result(found, _show_removed, as_json=as_json)


def _told(server: str, key: str | None, work: Callable[["Client"], Any]) -> Any:
    """What a server answers, as JSON has it. Raises CommandFailed."""
    from gateway.wire import encode  # noqa: PLC0415  # as above

    return msgspec.json.decode(encode(ask(server, key, work)))


def _rules(path: Path) -> "list[SourceRule]":
    from gateway.webhooks.source_schemas import SourceRule  # noqa: PLC0415  # as above

    try:
        return msgspec.json.decode(path.read_bytes(), type=list[SourceRule])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise CommandFailed(ExitCode.BAD_INPUT, f"The rules in {path} can't be used: {exc}.") from exc


def _secret(path: Path | None) -> str | None:
    try:
        return None if path is None else path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandFailed(ExitCode.BAD_INPUT, f"The secret in {path} can't be used: {exc}.") from exc


def _show_secret(made: Any, console: Console) -> None:
    console.print(made["secret"], soft_wrap=True)
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"Source {made['source']['name']} sends to {made['source']['url']}. "
        "This is the only time its secret is shown."
    )


def _show_sources(found: Any, console: Console) -> None:
    table = Table("name", "url", "rules", "created", box=None)
    for one in found["sources"]:
        table.add_row(*map(escape, (one["name"], one["url"], str(len(one["rules"])), one["created"])))
    console.print(table)


def _show_rules(found: Any, console: Console) -> None:
    table = Table("when", "transition", "Move", "amount", box=None)
    for rule in found["rules"]:
        when = ", ".join(f"{path} = {value}" for path, value in rule["when"].items())
        named = rule["move"] or f"reference {rule['reference']}"
        table.add_row(*map(escape, (when, rule["transition"], named, rule["amount"] or "")))
    console.print(f"Source {found['name']} sends to {escape(found['url'])}.")
    console.print(table)


def _show_removed(found: Any, console: Console) -> None:
    console.print(f"Source {found['name']} is no more.")
