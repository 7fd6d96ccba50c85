"""`tessera export` and `tessera import`."""

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    progress,
    refusing,
    reporting_failures,
    run,
)
from persistence.errors import ExportRefused

if TYPE_CHECKING:
    from gateway.verification import Verdict
    from persistence.exports.manifest import AssetTotals, Manifest, ShardEntry

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the export.")]


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an export has; `proof` is to be kept elsewhere. `verified`: the books were proven after an
    import."""

    folder: str
    proof: str
    tenants: list[str]
    legs: int
    bytes: int
    shards: list["ShardEntry"]
    totals: list["AssetTotals"]
    verified: bool | None = None
    problems: list[str] = []


def export(
    folder: Folder,
    tenant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Refuse to export anything that is not of this tenant."),
    ] = None,
    log_only: Annotated[
        bool,
        typer.Option("--log-only", help="Leave out the tables; an import reads the log and nothing else."),
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Write the books to Parquet files, with control totals and a proof.

    Everything that is committed is exported, beside a running engine or without one: the log to the bit, and
    legs, accounts, Parties, Things and Moves as tables. Keep the proof that is printed elsewhere: `tessera
    import --proof` takes nothing but this very export.
    """
    with reporting_failures(as_json=as_json):
        settings = engine_settings(data_dir, database_url, existing=True)
        with refusing(ExportRefused):
            made = run(_export(settings, folder, tenant, not log_only))
        print_result(made, _show_exported, as_json=as_json)


def import_(
    folder: Folder,
    proof: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="What `tessera export` printed; any other export is refused."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only prove the files; no database is touched.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Load an export into an empty database, and prove the books there.

    Files that are not what was exported, and databases that are not empty, are refused; then nothing has
    changed. Exit code 0 only if all is well.
    """
    with reporting_failures(as_json=as_json):
        settings = engine_settings(data_dir, database_url)
        with refusing(ExportRefused):
            done = run(_import(settings, folder, proof, check))
        print_result(done, _show_imported, as_json=as_json)
        if done.problems:
            raise typer.Exit(int(ExitCode.FAILED))


async def _export(settings: Settings, folder: Path, tenant: str | None, tables: bool) -> Exported:
    from actors.shard import empty_state  # noqa: PLC0415  # imports the kernel: slow
    from persistence import schema  # noqa: PLC0415
    from persistence.database import Database  # noqa: PLC0415
    from persistence.exports.writing import export as write  # noqa: PLC0415

    with progress("exporting") as report:
        database = Database(settings.database)
        await asyncio.to_thread(database.start)
        try:
            if not await schema.is_current(database):
                raise CommandFailed(
                    ExitCode.DATABASE,
                    "This database is of an older version of Tessera, or has none.",
                    "Start an engine once: `tessera serve` migrates it.",
                )
            manifest, proof = await write(
                database,
                folder,
                partial(empty_state, settings),
                tenant=tenant,
                tables=tables,
                progress=report,
            )
        finally:
            await asyncio.to_thread(database.stop)
    return _exported(folder, manifest, proof)


async def _import(settings: Settings, folder: Path, proof: str | None, check: bool) -> Exported:
    from actors.shard import empty_state  # noqa: PLC0415  # imports the kernel: slow
    from gateway.verification import verify_books  # noqa: PLC0415
    from persistence import schema  # noqa: PLC0415
    from persistence.database import Database  # noqa: PLC0415
    from persistence.exports.reading import check_export, import_log  # noqa: PLC0415

    with progress("importing") as report:
        manifest, found = await check_export(
            folder, partial(empty_state, settings), proof=proof, progress=report
        )
        if not set(manifest.tenants) <= {settings.tenant}:
            raise CommandFailed(
                ExitCode.USAGE,
                f"This export is of tenant {', '.join(manifest.tenants)}, and the settings are for "
                f"{settings.tenant}.",
                "Set TESSERA_TENANT.",
            )
        if check:
            return _exported(folder, manifest, found)
        database = Database(settings.database)
        await asyncio.to_thread(database.start)
        try:
            await schema.migrate(database)
            await import_log(database, folder, manifest, progress=report)
        finally:
            await asyncio.to_thread(database.stop)
        verdict: Verdict = await verify_books(settings, report)
    return msgspec.structs.replace(
        _exported(folder, manifest, found), verified=verdict.ok, problems=verdict.problems
    )


def _exported(folder: Path, manifest: "Manifest", proof: str) -> Exported:
    return Exported(
        folder=str(folder),
        proof=proof,
        tenants=manifest.tenants,
        legs=manifest.legs,
        bytes=sum(file.bytes for file in manifest.files),
        shards=manifest.shards,
        totals=manifest.totals,
    )


def _show_exported(made: Exported, console: Console) -> None:
    _show(made, console)
    console.print(f"{made.folder}: {made.bytes:,} bytes, proof {made.proof}")


def _show_imported(done: Exported, console: Console) -> None:
    _show(done, console)
    for problem in done.problems:
        console.print(f"[bold red]wrong:[/] {escape(problem)}")
    if done.verified is None:
        console.print(f"[bold green]The export is whole.[/] Proof {done.proof}")
    else:
        console.print(
            "[bold green]Imported; all is well.[/]" if done.verified else "[bold red]Not in order.[/]"
        )


def _show(made: Exported, console: Console) -> None:
    table = Table("asset", "accounts", "debits", "credits", "debits pending", "credits pending", box=None)
    for total in made.totals:
        amounts = (total.debits_posted, total.credits_posted, total.debits_pending, total.credits_pending)
        table.add_row(str(total.asset), f"{total.accounts:,}", *(f"{int(amount):,}" for amount in amounts))
    console.print(table)
    for shard in made.shards:
        console.print(
            f"shard {shard.shard}: {shard.records:,} records, chain {shard.chain}, books {shard.books_sha256}"
        )
    console.print(f"{made.legs:,} legs of tenant {', '.join(made.tenants)}")
