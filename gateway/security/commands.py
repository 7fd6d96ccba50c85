"""`tessera keys` and `tessera audit`."""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

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
from gateway.security.administration import Administration, KeyDraft, KeyView, administering, rfc_3339
from gateway.security.scopes import ACCEPTED, ScopeError
from persistence.audit import AuditHead, AuditReport, StoredEntry
from persistence.errors import KeyNotFound

T = TypeVar("T")

_DURATION: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_HEAD: Final = re.compile(r"(\d{1,18}):([0-9a-f]{64})")

keys = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
audit = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The id of a key, as `tessera keys list` shows it.")]


def _seconds(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise CommandFailed(ExitCode.USAGE, f"{text!r} is no duration.", "Say it as 90d, 12h, 30m or 45s.")
    return int(match[1]) * _UNITS_S[match[2]]


@keys.command("create")
def create(
    name: Annotated[str, typer.Option("--name", help="What it is for; shown in lists.")],
    scopes: Annotated[
        list[str], typer.Option("--scope", metavar="SCOPE", help=f"What it may do: {ACCEPTED}. Repeatable.")
    ],
    party: Annotated[
        str | None,
        typer.Option(metavar="UUID", help="Bind it to a Party: it moves its money and reads its data only."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Let it end after this long, such as 90d.")
    ] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="Requests a second that it may make.")] = None,
    burst: Annotated[int | None, typer.Option(min=1, help="Requests that it may make at once.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it, once: it is stored nowhere. From the first key on, the gateway asks for
    one."""
    with reporting_failures(as_json=as_json):
        try:
            draft = KeyDraft(
                name=name,
                scopes=scopes,
                party=None if party is None else UUID(party),
                expires_in_s=None if expires is None else _seconds(expires),
                rate=rate,
                burst=burst,
            )
        except ScopeError as exc:
            raise CommandFailed(ExitCode.USAGE, f"{exc}.") from exc
        except ValueError as exc:
            raise CommandFailed(ExitCode.USAGE, f"--party: {party!r} is no UUID.") from exc
        settings = engine_settings(data_dir, database_url)
        made = run(_with(settings, lambda administration: administration.create(draft)))
        print_result(made, _show_made, as_json=as_json)


@keys.command("rotate")
def rotate(
    id: KeyId,
    overlap: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the old key goes on working.")
    ] = "24h",
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a key that may do what another one may, and let that one end."""
    with reporting_failures(as_json=as_json):
        overlap_s = _seconds(overlap)
        settings = engine_settings(data_dir, database_url, existing=True)
        made = run(_with(settings, lambda administration: administration.rotate(id, overlap_s)))
        print_result(made, _show_made, as_json=as_json)


class Revoked(msgspec.Struct, frozen=True):
    """What `revoke` says."""

    id: str
    was_good: bool


@keys.command("revoke")
def revoke(
    id: KeyId, data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """End a key for good; running gateways refuse it within a second."""
    with reporting_failures(as_json=as_json):
        settings = engine_settings(data_dir, database_url, existing=True)
        was_good = run(_with(settings, lambda administration: administration.revoke(id)))
        print_result(Revoked(id, was_good), _show_revoked, as_json=as_json)


class Keys(msgspec.Struct, frozen=True):
    """What `list` says."""

    keys: list[KeyView]


@keys.command("list")
def list_keys(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Show all keys, those that have ended too."""
    with reporting_failures(as_json=as_json):
        settings = engine_settings(data_dir, database_url, existing=True)
        found = run(_with(settings, lambda administration: administration.all()))
        print_result(Keys(found), _show_keys, as_json=as_json)


class AuditVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What `audit verify` says; `head` is what to keep elsewhere."""

    ok: bool
    entries: int
    head: str
    problems: list[str]


@audit.command("verify")
def verify(
    heads: Annotated[
        list[str] | None,
        typer.Option("--head", metavar="SEQ:HASH", help="A head that was kept elsewhere. Repeatable."),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the audit log's chain of hashes, and print its head.

    Keep heads where whoever administers the database can't change them; given back with `--head`, they prove
    that nothing before them was changed or cut off. Exit code 0 only if all is well.
    """
    with reporting_failures(as_json=as_json):
        kept = [_head(text) for text in heads or ()]
        settings = engine_settings(data_dir, database_url, existing=True)
        report = run(_with(settings, lambda administration: administration.check_audit(kept)))
        verdict = _verdict(report)
        print_result(verdict, _show_verdict, as_json=as_json)
        if not verdict.ok:
            raise typer.Exit(int(ExitCode.FAILED))


class Entries(msgspec.Struct, frozen=True):
    """What `audit list` says."""

    entries: list[dict[str, Any]]


@audit.command("list")
def list_entries(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries of the audit log."""
    with reporting_failures(as_json=as_json):
        settings = engine_settings(data_dir, database_url, existing=True)
        found = run(_with(settings, lambda administration: administration.newest_entries(limit)))
        print_result(Entries([_entry(stored) for stored in found]), _show_entries, as_json=as_json)


async def _with(settings: Settings, work: Callable[[Administration], Awaitable[T]]) -> T:
    """Do something in the database. Raises CommandFailed for a key that is not there."""
    try:
        async with administering(settings) as administration:
            return await work(administration)
    except KeyNotFound as exc:
        raise CommandFailed(ExitCode.USAGE, f"There is no key {exc.id}.", "`tessera keys list`") from exc


def _head(text: str) -> AuditHead:
    match = _HEAD.fullmatch(text)
    if match is None:
        raise CommandFailed(
            ExitCode.USAGE, f"--head: {text!r} is no head.", "Give it as `tessera audit verify` printed it."
        )
    return AuditHead(int(match[1]), bytes.fromhex(match[2]))


def _verdict(report: AuditReport) -> AuditVerdict:
    head = f"{report.head.seq}:{report.head.hash.hex()}"
    return AuditVerdict(ok=not report.problems, entries=report.head.seq, head=head, problems=report.problems)


def _entry(stored: StoredEntry) -> dict[str, Any]:
    content = msgspec.to_builtins(stored.entry)
    return {"seq": stored.seq, **content, "time": rfc_3339(stored.entry.time)}


def _show_made(made: KeyView, console: Console) -> None:
    console.print(made.key, soft_wrap=True)
    until = f"until {made.expires}" if made.expires else "until it is revoked"
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"Key {made.id} for {escape(made.name)}, {until}: {escape(' '.join(made.scopes))}. "
        "This is the only time it is shown."
    )


def _show_revoked(revoked: Revoked, console: Console) -> None:
    console.print(
        f"Key {revoked.id} is revoked." if revoked.was_good else f"Key {revoked.id} was revoked already."
    )


def _show_keys(found: Keys, console: Console) -> None:
    table = Table("id", "name", "state", "scopes", "Party", "expires", box=None)
    for key in found.keys:
        cells = (key.name, key.state, " ".join(key.scopes), str(key.party or ""), key.expires or "")
        table.add_row(key.id, *map(escape, cells))
    console.print(table)


def _show_verdict(verdict: AuditVerdict, console: Console) -> None:
    console.print(f"{verdict.entries:,} entries, head {verdict.head}")
    for problem in verdict.problems:
        console.print(f"[bold red]wrong:[/] {escape(problem)}")
    console.print(
        "[bold green]All is well.[/]" if verdict.ok else "[bold red]The audit log was tampered with.[/]"
    )


def _show_entries(found: Entries, console: Console) -> None:
    table = Table("seq", "time", "who", "from", "what", "outcome", "count", box=None)
    for entry in found.entries:
        names = ("seq", "time", "principal", "remote", "action", "outcome", "count")
        table.add_row(*(escape(str(entry[name])) for name in names))
    console.print(table)
