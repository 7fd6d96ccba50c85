"""`tessera backup` and `tessera restore`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

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
from persistence.errors import BackupRefused

if TYPE_CHECKING:
    from persistence.backup import Backup, LogEnd

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the backup.")]


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup has. `following`: PostgreSQL's log is being received; `synchronous`: commits wait for
    it."""

    folder: str
    created: str
    ends: list["LogEnd"]
    following: bool
    synchronous: bool


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was restored, where the logs ended in the backup and end now, and how long each part took."""

    ok: bool
    cluster: str
    backed_up: list["LogEnd"]
    restored: list["LogEnd"]
    segments: int
    restore_s: float
    verify_s: float
    problems: list[str]


def backup(
    folder: Folder,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Go on receiving PostgreSQL's log until SIGINT or SIGTERM, so that it is kept."
        ),
    ] = False,
    synchronous: Annotated[
        bool,
        typer.Option(
            "--synchronous",
            help="Let every commit wait until it is in the backup, too: nothing acknowledged can be lost. "
            "Implies --follow.",
        ),
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Back up the embedded PostgreSQL, beside a running engine or without one.

    Alone, it keeps what is committed when it begins. With --follow it keeps what comes after it too.
    """
    with reporting_failures(as_json=as_json), refusing(BackupRefused):
        settings = engine_settings(data_dir, database_url, existing=True)
        run(_backup(settings, folder, follow or synchronous, synchronous, as_json))


def restore(
    folder: Folder,
    wal: Annotated[
        Path | None,
        typer.Option(
            "--wal",
            metavar="FOLDER",
            help="PostgreSQL's log that was kept elsewhere, such as pg_wal of the cluster that was lost.",
        ),
    ] = None,
    verify: Annotated[bool, typer.Option(help="Prove the books afterwards.")] = True,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a data directory of a backup, and of PostgreSQL's log that was kept, and prove the books.

    Files that are not what was backed up, and data directories that have a database, are refused.
    """
    with reporting_failures(as_json=as_json), refusing(BackupRefused):
        settings = engine_settings(data_dir, database_url)
        done = run(_restore(settings, folder, wal, verify))
        print_result(done, _show_restored, as_json=as_json)
        if not done.ok:
            raise typer.Exit(int(ExitCode.FAILED))


async def _backup(settings: Settings, folder: Path, follow: bool, synchronous: bool, as_json: bool) -> None:
    from gateway.server import first_of, stopping_on_signals  # noqa: PLC0415  # imports the kernel: slow
    from persistence.backup import following, take  # noqa: PLC0415
    from persistence.database import Database  # noqa: PLC0415

    def announce(made: "Backup", synchronous: bool) -> None:
        taken = Taken(
            folder=str(folder),
            created=made.created,
            ends=made.ends,
            following=follow,
            synchronous=synchronous,
        )
        print_result(taken, _show_taken, as_json=as_json)

    database = Database(settings.database)
    await asyncio.to_thread(database.start)
    try:
        if not follow:
            announce(await take(database, folder), False)
            return
        stop = asyncio.Event()
        with stopping_on_signals(stop):
            async with following(database, folder, synchronous=synchronous) as (made, follower):
                announce(made, follower.synchronous)
                ended = asyncio.create_task(follower.ended())
                await first_of(ended, stop.wait())
            if not stop.is_set():
                raise CommandFailed(ExitCode.FAILED, f"The log is received no more: {await ended}.")
    finally:
        await asyncio.to_thread(database.stop)


async def _restore(settings: Settings, folder: Path, wal: Path | None, verify: bool) -> Restored:
    from time import perf_counter  # noqa: PLC0415

    from gateway.verification import verify_books  # noqa: PLC0415  # imports the kernel: slow
    from persistence.database import Database  # noqa: PLC0415
    from persistence.restoring import restore as bring_back  # noqa: PLC0415

    database = Database(settings.database)
    with progress("restoring") as report:
        try:
            done = await bring_back(database, folder, wal, report)
            started = perf_counter()
            verdict = await verify_books(settings, report) if verify else None
            verify_s = perf_counter() - started
        finally:
            await asyncio.to_thread(database.stop)
    return Restored(
        ok=verdict is None or verdict.ok,
        cluster=done.cluster,
        backed_up=done.backed_up,
        restored=done.restored,
        segments=done.segments,
        restore_s=round(done.seconds, 3),
        verify_s=round(verify_s, 3),
        problems=[] if verdict is None else verdict.problems,
    )


def _show_taken(taken: Taken, console: Console) -> None:
    for end in taken.ends:
        console.print(f"shard {end.shard}: everything up to record {end.lsn:,}, chain {end.chain}")
    if taken.following:
        waiting = "; every commit waits for it" if taken.synchronous else ""
        console.print(f"Receiving what is written from now on into {taken.folder}{waiting}. Ctrl-C stops")
    else:
        console.print(f"[bold green]Backed up[/] in {taken.folder}")


def _show_restored(done: Restored, console: Console) -> None:
    for before, after in zip(done.backed_up, done.restored, strict=True):
        console.print(
            f"shard {after.shard}: {before.lsn:,} records were backed up, {after.lsn:,} are back, "
            f"chain {after.chain}"
        )
    console.print(f"{done.cluster}: restored in {done.restore_s:.1f} s, proven in {done.verify_s:.1f} s")
    for problem in done.problems:
        console.print(f"[bold red]wrong:[/] {escape(problem)}")
    console.print("[bold green]All is well.[/]" if done.ok else "[bold red]The books are not in order.[/]")
