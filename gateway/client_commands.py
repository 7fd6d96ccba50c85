"""`tessera accounts`, `moves` and `events`: what a running gateway has, for people and for scripts.

They speak HTTP, as any client does, so they work from any machine and may do what their key may do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.listener import DEFAULT_HOST, DEFAULT_PORT
from gateway.options import AsJson, CommandFailed, ExitCode, print_json, reporting_failures

T = TypeVar("T")

DEFAULT_SERVER: Final = f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"

accounts = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
moves = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
events = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Server = Annotated[
    str, typer.Option("--server", metavar="URL", envvar="TESSERA_URL", help="The server to ask.")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="KEY", envvar="TESSERA_KEY", show_envvar=True, help="An API key or a token."
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at most.")]
Party = Annotated[str | None, typer.Option("--party", metavar="UUID", help="Of this Party.")]
Asset = Annotated[str | None, typer.Option("--asset", metavar="CODE", help="In this asset.")]


class Found(msgspec.Struct, frozen=True):
    """What a list says."""

    items: list[Any]


class AccountShown(msgspec.Struct, frozen=True):
    """What `accounts show` says."""

    account: Any
    balance: Any
    entries: list[Any]


class MoveShown(msgspec.Struct, frozen=True):
    """What `moves show` says."""

    move: Any
    next: Any


@contextmanager
def _asking(server: str, key: str | None, *, as_json: bool) -> Iterator[Any]:
    """A client; what goes wrong ends the command."""
    from gateway.client import Client, ClientError, RequestRefused, Retry, Unavailable  # noqa: PLC0415  # slow to import

    with reporting_failures(as_json=as_json):
        try:
            with Client(server, token=key, retry=Retry(give_up_s=5.0)) as client:
                yield client
        except RequestRefused as exc:
            raise CommandFailed(ExitCode.FAILED, f"The gateway refuses: {exc}.") from exc
        except Unavailable as exc:
            raise CommandFailed(
                ExitCode.FAILED, f"No gateway answers at {server}: {exc}.", "Name another with --server."
            ) from exc
        except (ClientError, ValueError) as exc:
            raise CommandFailed(ExitCode.USAGE, f"{exc}.") from exc


@accounts.command("list")
def list_accounts(
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="Keys that start with this, such as L:wallet/.")
    ] = None,
    party: Party = None,
    asset: Asset = None,
    limit: Limit = 50,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show accounts with what they have, in minor units."""
    with _asking(server, key, as_json=as_json) as client:
        from gateway.client import api  # noqa: PLC0415  # as above

        found = islice(client.items(api.accounts(prefix=prefix, party=party, asset=asset)), limit)
        _print(Found(list(found)), _show_accounts, as_json=as_json)


@accounts.command("show")
def show_account(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="An id, or a key with --asset.")],
    asset: Asset = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="As of this time of recording.")
    ] = None,
    limit: Limit = 10,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show an account, what it has, and its newest Entries."""
    with _asking(server, key, as_json=as_json) as client:
        from gateway.client import api  # noqa: PLC0415  # as above

        id = account if _is_uuid(account) else _id_of(client, account, asset)
        shown = AccountShown(
            account=client.call(api.account(id)),
            balance=client.call(api.balance(id, at=at)),
            entries=list(islice(client.items(api.account_entries(id, end=at)), limit)),
        )
        _print(shown, _show_account, as_json=as_json)


@moves.command("list")
def list_moves(
    party: Party = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Of this kind, such as transfer.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="In this state, such as posted.")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Your own name for it.")] = None,
    asset: Asset = None,
    limit: Limit = 50,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show Moves, the newest first."""
    with _asking(server, key, as_json=as_json) as client:
        from gateway.client import api  # noqa: PLC0415  # as above

        wanted = api.moves(party=party, kind=kind, state=state, reference=reference, asset=asset)
        _print(Found(list(islice(client.items(wanted), limit))), _show_moves, as_json=as_json)


@moves.command("show")
def show_move(
    move: Annotated[str, typer.Argument(metavar="ID", help="The id of a Move.")],
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show a Move: its steps, its Entries, and where it can go from here."""
    _check_id(move, as_json=as_json)
    with _asking(server, key, as_json=as_json) as client:
        from gateway.client import api  # noqa: PLC0415  # as above

        shown = MoveShown(client.call(api.move(move)), client.call(api.next_steps(move)))
        _print(shown, _show_move, as_json=as_json)


@moves.command("explain")
def explain_move(
    move: Annotated[str, typer.Argument(metavar="ID", help="The id of a Move.")],
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say why a Move's amounts are what they are: its lines, every leg, and who took what back."""
    _check_id(move, as_json=as_json)
    with _asking(server, key, as_json=as_json) as client:
        from gateway.client import api  # noqa: PLC0415  # as above

        _print(client.call(api.explanation(move)), _show_explanation, as_json=as_json)


@moves.command("quote")
def show_quote(
    move: Annotated[str, typer.Argument(metavar="ID", help="The id of a Move that policies priced.")],
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show why a Move costs what it does: its lines, and a sentence for each step."""
    _check_id(move, as_json=as_json)
    with _asking(server, key, as_json=as_json) as client:
        from gateway.client import api  # noqa: PLC0415  # as above

        _print(client.call(api.move_quote(move)), _show_quote, as_json=as_json)


@events.command("tail")
def tail(
    after: Annotated[
        str, typer.Option("--after", metavar="ID", help="The id of an event, `start` or `now`.")
    ] = "now",
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Such as move or leg.posted. Repeatable.")
    ] = None,
    parties: Annotated[
        list[str] | None, typer.Option("--party", metavar="UUID", help="About this Party. Repeatable.")
    ] = None,
    accounts: Annotated[
        list[str] | None, typer.Option("--account", metavar="UUID", help="On this account. Repeatable.")
    ] = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", help="Of Moves of this kind. Repeatable.")
    ] = None,
    assets: Annotated[
        list[str] | None, typer.Option("--asset", metavar="CODE", help="In this asset. Repeatable.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many.")] = None,
    server: Server = DEFAULT_SERVER,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show what is committed as it is, each event once, in order, until Ctrl-C; across restarts."""
    console = Console(highlight=False, soft_wrap=True)
    filters = {"type": types, "party": parties, "account": accounts, "kind": kinds, "asset": assets}
    with (
        _asking(server, key, as_json=as_json) as client,
        client.events(after=after, **{name: value for name, value in filters.items() if value}) as stream,
    ):
        for event in islice(stream, count):
            if as_json:
                typer.echo(msgspec.json.encode(event).decode())
            else:
                console.print(_event_line(event))


def _print(content: T, as_text: Callable[[T, Console], None], *, as_json: bool) -> None:
    """What was found: as the gateway itself would write it, or as text."""
    if as_json:
        from gateway.wire import encode  # noqa: PLC0415  # as above

        print_json(msgspec.json.decode(encode(content)))
    else:
        as_text(content, Console(highlight=False, soft_wrap=True))


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _check_id(move: str, *, as_json: bool) -> None:
    """Raises CommandFailed, which ends the command, for what is no id."""
    if not _is_uuid(move):
        with reporting_failures(as_json=as_json):
            raise CommandFailed(ExitCode.USAGE, f"{move!r} is no id.", "`tessera moves list`")


def _id_of(client: Any, key: str, asset: str | None) -> str:
    """The id of the account of a key. Raises CommandFailed."""
    from gateway.client import api  # noqa: PLC0415  # as above

    if asset is None:
        raise CommandFailed(ExitCode.USAGE, "A key is an account only with an asset.", "Add --asset CODE.")
    found = client.call(api.accounts(key=key, asset=asset).page()).items
    if not found:
        raise CommandFailed(ExitCode.FAILED, f"There is no account {key} in {asset}.")
    return str(found[0].id)


def _event_line(event: dict[str, Any]) -> str:
    """An event on one line."""
    data = event["data"]
    told = {
        name: data.get(name)
        for name in ("kind", "state", "key", "name", "debit_key", "credit_key", "amount", "asset", "id")
    }
    about = " ".join(f"{name}={value}" for name, value in told.items() if value not in {None, ""})
    return f"{event['timestamp']} [bold]{event['type']}[/] {escape(about)} [dim]{event['id']}[/]"


def _show_accounts(found: Found, console: Console) -> None:
    table = Table("id", "key", "asset", "debits", "credits", "pending", "state", box=None)
    for item in found.items:
        counters = item.counters
        pending = f"{counters.debits_pending}/{counters.credits_pending}"
        sums = (str(counters.debits_posted), str(counters.credits_posted), pending)
        state = "closed" if item.closed else "roll-up" if item.rollup else ""
        table.add_row(str(item.id), escape(item.key), escape(item.asset), *sums, state)
    console.print(table)


def _show_account(shown: AccountShown, console: Console) -> None:
    account, balance = shown.account, shown.balance
    limits = f"floor {_or_none(account.floor)}, ceiling {_or_none(account.ceiling)}"
    console.print(f"[bold]{escape(account.key)}[/] {escape(account.asset)}, {account.id}")
    console.print(f"{balance.posted} posted, {_or_none(balance.available)} available; {limits}")
    table = Table("time", "side", "amount", "with", "Move", box=None)
    for entry in shown.entries:
        other = escape(entry.counter_key or str(entry.counter_account))
        table.add_row(
            _time(entry.timestamp), entry.side.value, str(int(entry.amount)), other, str(entry.move or "")
        )
    console.print(table)


def _show_moves(found: Found, console: Console) -> None:
    table = Table("id", "kind", "state", "amount", "asset", "reference", "changed", box=None)
    for item in found.items:
        table.add_row(
            str(item.id),
            *(escape(str(value or "")) for value in (item.kind, item.state)),
            str(item.amount or ""),
            *(escape(str(value or "")) for value in (item.asset, item.reference)),
            _time(item.changed),
        )
    console.print(table)


def _show_move(shown: MoveShown, console: Console) -> None:
    move = shown.move
    console.print(
        f"[bold]{escape(move.kind)}[/] {move.id}: {escape(move.state)}, version {move.version}"
        + (f", reference {escape(move.reference)}" if move.reference else "")
    )
    for one in move.steps:
        console.print(f"{one.seq} {_time(one.timestamp)} {escape(one.transition)} → {escape(one.state)}")
    table = Table("step", "key", "side", "amount", "asset", "effect", box=None)
    for entry in move.entries:
        cells = (entry.key, entry.side.value, str(int(entry.amount)), entry.asset, entry.effect.value)
        table.add_row(str(entry.seq), *map(escape, cells))
    console.print(table)
    for step in shown.next.transitions:
        said = f"can go to {step.target}" if step.allowed else step.reason or "not from here"
        console.print(f"{escape(step.transition)}: {escape(said)}")


def _show_explanation(shown: Any, console: Console) -> None:
    for sentence in shown.sentences:
        console.print(escape(sentence))


def _show_quote(quote: Any, console: Console) -> None:
    table = Table("line", "kind", "thing", "quantity", "amount", box=None)
    for line in quote.lines:
        table.add_row(
            str(line.line), line.kind, escape(line.thing), str(line.quantity), str(int(line.amount))
        )
    console.print(table)
    policies = ", ".join(quote.policies.values())
    console.print(f"{int(quote.total)} {escape(quote.asset)} in all, by {escape(policies)}")
    for step in quote.trace:
        console.print(escape(step.sentence))


def _or_none(value: int | None) -> str:
    return "none" if value is None else str(int(value))


def _time(stamp: Any) -> str:
    return str(stamp.text)
