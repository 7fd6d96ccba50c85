"""What every command of `tessera` shares: options, settings, progress, results and the meaning of exit
codes.

A command writes its result to stdout, as text or with `--json` as one object, and everything else to
stderr. It ends with one of `ExitCode`; what an expected failure means, and what to do about it, is said in
one place here. Commands are made of four calls: `engine_settings` (options and environment → settings),
`run` (a coroutine in a uvloop, failures reported), `progress` (a bar, only on a terminal), `print_result`.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, Protocol, TypeVar

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from actors.errors import ActorError, ClusterRefused, ShardStopped
from actors.settings import DEFAULT_DATA_DIR, Settings
from engine.kinds import KindError
from persistence.errors import (
    DatabaseUnreachable,
    EmbeddedServerFailed,
    LockHeld,
    PersistenceError,
    SchemaNewer,
)

T = TypeVar("T")


class ExitCode(IntEnum):
    """What a command's exit code says. Numbers are part of the interface and are never reused."""

    OK = 0
    FAILED = 1  # the command ran and found something wrong, or an error nobody foresaw
    USAGE = 2  # options that make no sense, alone or together
    PORT_IN_USE = 3
    DATABASE_UNREACHABLE = 4
    SCHEMA_NEWER = 5
    LOCK_HELD = 6  # another engine has this database
    DATA_DIR = 7  # it can't be written, or the embedded PostgreSQL in it can't run
    STOPPED = 8  # the engine stopped itself while serving
    DATABASE = 9  # PostgreSQL refused, or the database must not be used
    BAD_INPUT = 10  # a file or its content
    CLUSTER = 11  # Ray can't be reached, or the cluster can't be run as asked
    INTERRUPTED = 130


class CommandFailed(Exception):  # noqa: N818  # an ending, told to the user
    """Ends a command with a message and an exit code, without a traceback."""

    def __init__(self, code: ExitCode, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help=f"Folder of the embedded PostgreSQL.  [default: {DEFAULT_DATA_DIR}; env: TESSERA_DATA_DIR]",
        show_default=False,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="A PostgreSQL of your own, 15 or newer, instead.  [env: TESSERA_DATABASE_URL]",
        show_default=False,
    ),
]
Takeover = Annotated[
    bool,
    typer.Option("--takeover", help="End the session of an engine that holds the database, and replace it."),
]
Shards = Annotated[
    int | None,
    typer.Option(
        "--shards",
        min=1,
        metavar="N",
        help="How many shards a new database gets, for ever.  [default: 1; env: TESSERA_SHARDS]",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def engine_settings(
    data_dir: Path | None,
    database_url: str | None,
    *,
    takeover: bool = False,
    existing: bool = False,
    **given: Any,
) -> Settings:
    """The engine's settings from options and environment. Raises CommandFailed if they make no sense.

    With `existing`, a data directory that holds no database is refused instead of being made.
    """
    if data_dir is not None and database_url is not None:
        raise CommandFailed(
            ExitCode.USAGE,
            "Both --data-dir and --database-url are given.",
            "Use --data-dir for the embedded PostgreSQL or --database-url for one of your own.",
        )
    try:
        settings = Settings.from_environment(
            data_dir=data_dir, database_url=database_url, takeover=takeover or None, **given
        )
    except ValueError as exc:
        raise CommandFailed(ExitCode.USAGE, f"{exc}.") from exc
    if settings.database_url is None:
        folder = settings.data_dir or DEFAULT_DATA_DIR
        settings = msgspec.structs.replace(settings, data_dir=folder)
        if existing and not any(folder.glob("postgres*")):
            raise CommandFailed(
                ExitCode.DATA_DIR,
                f"There is no database in {folder}.",
                "Name another folder with --data-dir.",
            )
        _check_writable(folder)
    return settings


def _check_writable(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as exc:
        raise CommandFailed(
            ExitCode.DATA_DIR,
            f"The data directory {data_dir} can't be written: {os.strerror(exc.errno or 0)}.",
            "Choose another with --data-dir, or give --database-url.",
        ) from exc


def failure_of(exc: CommandFailed | ActorError | PersistenceError | KindError) -> CommandFailed:
    """An expected failure as its message, what to do about it, and an exit code."""
    match exc:
        case CommandFailed():
            return exc
        case DatabaseUnreachable():
            return CommandFailed(ExitCode.DATABASE_UNREACHABLE, str(exc))
        case SchemaNewer():
            return CommandFailed(
                ExitCode.SCHEMA_NEWER, str(exc), "Use that version of Tessera or a newer one."
            )
        case LockHeld():
            hint = "Stop that engine, or take its place with `tessera serve --takeover`."
            return CommandFailed(ExitCode.LOCK_HELD, str(exc), hint)
        case EmbeddedServerFailed():
            return CommandFailed(ExitCode.DATA_DIR, str(exc))
        case PersistenceError():
            return CommandFailed(ExitCode.DATABASE, str(exc))
        case KindError():
            return CommandFailed(ExitCode.USAGE, f"{exc}.", "TESSERA_KINDS names the folder.")
        case ShardStopped():
            return CommandFailed(ExitCode.STOPPED, str(exc))
        case ClusterRefused():
            return CommandFailed(ExitCode.CLUSTER, f"{exc.reason.rstrip('.')}.", exc.hint)
        case _:
            return CommandFailed(ExitCode.FAILED, str(exc))


@contextmanager
def reporting_failures(*, as_json: bool = False) -> Iterator[None]:
    """Print an expected failure inside the block and end the command with its exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    except (CommandFailed, ActorError, PersistenceError, KindError) as exc:
        fail(failure_of(exc), as_json=as_json)


@contextmanager
def refusing(kind: type[Exception]) -> Iterator[None]:
    """Inside the block, an error of this kind ends the command as bad input."""
    try:
        yield
    except kind as error:
        raise CommandFailed(ExitCode.BAD_INPUT, f"{error}.") from error


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end, in a uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def fail(failure: CommandFailed, *, as_json: bool = False) -> NoReturn:
    """Say what went wrong, and end with its exit code."""
    if as_json:
        print_json({"ok": False, "error": str(failure), "exit_code": int(failure.code)})
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[bold red]tessera:[/] {_escaped(failure.message)} {_escaped(failure.hint)}".rstrip()
    )
    raise typer.Exit(int(failure.code))


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def print_json(content: object) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n")
    sys.stdout.flush()


def print_result(content: T, as_text: Callable[[T, Console], None], *, as_json: bool) -> None:
    """A command's result: one JSON object, or whatever `as_text` prints."""
    if as_json:
        print_json(content)
    else:
        as_text(content, Console(highlight=False, soft_wrap=True))


class Report(Protocol):
    """How a long task tells how far it is: `done` of `total` (0 = not known yet), and in which phase."""

    def __call__(self, done: int, total: int = 0, phase: str = "") -> None: ...


@contextmanager
def progress(description: str) -> Iterator[Report]:
    """A progress bar on stderr while the block runs; nothing at all where stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task: Final[TaskID] = bars.add_task(description, total=None)

        def report(done: int, total: int = 0, phase: str = "") -> None:
            bars.update(task, completed=done, total=total or None, description=phase or description)

        yield report
