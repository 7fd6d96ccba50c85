"""Backups of the embedded PostgreSQL: the whole cluster, and its own log from then on.

    backup.json   what was backed up, and where Tessera's log ended when it began
    base/         the cluster, as `pg_basebackup` writes it, with the SHA-256 of every file in backup_manifest
    wal/          with `follow`: PostgreSQL's log, received while it is written

A base backup brings back what was committed before it. With the log that came after it, nothing is lost: that
is `wal/`, or what is left of the lost cluster's `pg_wal`. A follower that is *synchronous* makes every commit
wait until it has the log on its disk too; then what was acknowledged is there, though the machine is gone.

While it is followed, a replication slot keeps the log for the receiver, up to `max_slot_wal_keep_size`. The
slot goes with the follower; one that a killed follower left is dropped by the next backup.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo

from engine.record import chain_hash
from persistence.database import Database, DatabaseSettings, SyncSession, translated
from persistence.embedded import EmbeddedServer
from persistence.errors import BackupRefused, DatabaseUnreachable, QueryFailed
from persistence.installation import CLIENT_ENVIRONMENT
from persistence.statements import statements

BACKUP: Final = "backup.json"
BASE: Final = "base"
WAL: Final = "wal"
FORMAT: Final = 1
SLOT_PREFIX: Final = "tessera_backup_"
RECEIVER_LIMIT_S: Final = 60.0
"""How long a receiver may take to be streaming, or to end."""
GOODBYE_LIMIT_S: Final = 5.0
"""How long a server that may be gone is tried to be reached at the end."""
POLL_S: Final = 0.05
SEGMENT_NAME: Final = r"^[0-9A-F]{24}$"

_SQL: Final = statements("backups")
_LOG_SQL: Final = statements("log")
_HEADS: Final = statements("exports")["heads"]
_APPLICATION: Final = "tessera backup"

_log = structlog.get_logger(__name__)


class LogEnd(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last record of a shard, by its position and its hash."""

    shard: int
    lsn: int
    chain: str


class Segment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of PostgreSQL's log in the base backup."""

    name: Annotated[str, msgspec.Meta(pattern=SEGMENT_NAME)]
    bytes: int
    sha256: str


class Backup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a folder holds. `ends` were committed when the backup began, so it has at least those."""

    format: int
    tessera: str
    created: str  # RFC 3339
    postgresql: int  # major version
    system: str  # the cluster's identifier
    ends: list[LogEnd]
    segments: list[Segment]
    manifest_sha256: str  # of base/backup_manifest, which has those of the other files


class Follower:
    """A receiver of PostgreSQL's log at work. `synchronous`: commits wait for it."""

    def __init__(self, process: asyncio.subprocess.Process, synchronous: bool) -> None:
        self.synchronous = synchronous
        self._process = process

    async def ended(self) -> str:
        """Wait until it ends by itself; returns what it said."""
        _, said = await self._process.communicate()
        return said.decode(errors="replace").strip() or f"it ended with {self._process.returncode}"


async def take(database: Database, folder: Path) -> Backup:
    """Writes a backup of the embedded server to `folder`, which must not exist or be empty.

    The server and its engine go on working. Raises BackupRefused, QueryFailed or DatabaseUnreachable.
    """
    server = _server(database)
    _make_folder(folder)
    return await asyncio.to_thread(_take, database, server, folder)


@asynccontextmanager
async def following(
    database: Database, folder: Path, *, synchronous: bool
) -> AsyncIterator[tuple[Backup, Follower]]:
    """A backup, and PostgreSQL's log from then on, received for the length of the block."""
    server = _server(database)
    _make_folder(folder)
    (folder / WAL).mkdir(mode=0o700)
    slot = SLOT_PREFIX + secrets.token_hex(4)
    with database.session_sync(_APPLICATION) as session:
        await asyncio.to_thread(forget_killed_followers, session)
        with translated():
            session.execute(_SQL["make_slot"], (slot,))
        receiver = await _receive(server, folder / WAL, slot)
        try:
            backup = await asyncio.to_thread(_take, database, server, folder)
            await _until_streaming(session, receiver, slot, ("streaming",))
            if synchronous:
                await asyncio.to_thread(_wait_for, session, slot)
                await _until_streaming(session, receiver, slot, ("streaming",), ("sync", "quorum"))
            yield backup, Follower(receiver, synchronous)
        finally:
            await _end(database, receiver, slot, synchronous)


def read_backup(folder: Path) -> Backup:
    """What a folder says that it holds. Raises BackupRefused."""
    path = folder / BACKUP
    try:
        backup = msgspec.json.decode(path.read_bytes(), type=Backup)
    except OSError as error:
        raise BackupRefused(f"there is no backup in {folder}: {error.strerror}: {path}", str(path)) from error
    except msgspec.DecodeError as error:
        raise BackupRefused(f"{path} does not describe a backup: {error}", str(path)) from error
    if backup.format != FORMAT:
        raise BackupRefused(
            f"{path} is of format {backup.format}; this release reads format {FORMAT}", str(path)
        )
    return backup


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _server(database: Database) -> EmbeddedServer:
    if database.server is None:
        raise BackupRefused(
            "this is for the embedded PostgreSQL; back up a server of your own with its own tools, such as "
            "pg_basebackup and an archive of its WAL, and prove what was restored with `tessera verify`",
            "",
        )
    return database.server


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BackupRefused(f"{folder} is there already, and not empty", str(folder))
    except OSError as error:
        raise BackupRefused(f"{folder} can't be made: {error.strerror}", str(folder)) from error


def _take(database: Database, server: EmbeddedServer, folder: Path) -> Backup:
    with database.session_sync(_APPLICATION) as session, translated():
        identity = session.execute(_SQL["identity"]).fetchone()
        assert identity is not None
        ends = _ends(session)
    base = folder / BASE
    done = server.programs.run_as_ourselves(
        "pg_basebackup", "-d", _replication_dsn(server, _APPLICATION), "-D", str(base), "-X", "stream",
        "-c", "fast", "--manifest-checksums=SHA256", "--no-password",
    )  # fmt: skip
    if done.code != 0:
        raise BackupRefused(f"pg_basebackup failed: {done.said}", str(base))
    backup = Backup(
        format=FORMAT,
        tessera=version("tessera"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        postgresql=identity[1],
        system=identity[0],
        ends=ends,
        segments=[
            Segment(name=path.name, bytes=path.stat().st_size, sha256=sha256_of(path))
            for path in sorted((base / "pg_wal").iterdir())
            if path.is_file()
        ],
        manifest_sha256=sha256_of(base / "backup_manifest"),
    )
    content = msgspec.json.format(msgspec.json.encode(backup), indent=2)
    with (folder / BACKUP).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return backup


def _ends(session: SyncSession) -> list[LogEnd]:
    ends = []
    for shard, _ in session.execute(_HEADS).fetchall():
        found = session.execute(_LOG_SQL["head"], (shard,)).fetchone()
        assert found is not None
        ends.append(LogEnd(shard=shard, lsn=found[0], chain=chain_hash(found[2]).hex()))
    return ends


def _replication_dsn(server: EmbeddedServer, application: str) -> str:
    return make_conninfo(server.dsn, application_name=application)


async def _receive(server: EmbeddedServer, folder: Path, slot: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *server.programs.command(
            "pg_receivewal", "-d", _replication_dsn(server, slot), "-D", str(folder), "-S", slot,
            "--synchronous", "--no-password",
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=CLIENT_ENVIRONMENT,
        start_new_session=True,  # a Ctrl-C at the terminal is ours to hand on
    )  # fmt: skip


async def _until_streaming(
    session: SyncSession,
    receiver: asyncio.subprocess.Process,
    name: str,
    *wanted: tuple[str, ...],
) -> None:
    """Wait until the server says that of its receiver: its state and, if given, its synchronous state."""
    async with asyncio.timeout(RECEIVER_LIMIT_S):
        while True:
            if receiver.returncode is not None:
                raise BackupRefused(f"pg_receivewal ended: {await Follower(receiver, False).ended()}", name)
            with translated():
                found = session.execute(_SQL["receiver"], (name,)).fetchone()
            if found is not None and all(
                value in values for value, values in zip(found, wanted, strict=False)
            ):
                return
            await asyncio.sleep(POLL_S)


def _wait_for(session: SyncSession, name: str) -> None:
    statement = sql.SQL(_SQL["wait_for_receiver"].decode()).format(name=sql.Literal(name))
    with translated():
        session.execute(statement)
        session.execute(_SQL["read_configuration"])


async def _end(
    database: Database, receiver: asyncio.subprocess.Process, slot: str, synchronous: bool
) -> None:
    """Let commits wait no more, then end the receiver and drop its slot. A server that is gone is not started
    again for that: the next backup does it."""
    beside = Database(
        DatabaseSettings(url=database.dsn, schema=database.schema, connect_limit_s=GOODBYE_LIMIT_S)
    )
    try:
        with beside.session_sync(_APPLICATION) as session:
            if synchronous:
                with translated():
                    session.execute(_SQL["wait_for_nobody"])
                    session.execute(_SQL["read_configuration"])
            await _stop(receiver)
            await _until_dropped(session, slot)
    except (DatabaseUnreachable, QueryFailed) as error:
        _log.warning("the server is gone; the next backup drops the slot", slot=slot, error=str(error))
    finally:
        await _stop(receiver)


async def _stop(receiver: asyncio.subprocess.Process) -> None:
    if receiver.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        receiver.send_signal(signal.SIGINT)
    try:
        await asyncio.wait_for(receiver.wait(), RECEIVER_LIMIT_S)
    except TimeoutError:
        receiver.kill()
        await receiver.wait()


async def _until_dropped(session: SyncSession, slot: str) -> None:
    """Drop the slot once the server has noticed that its receiver is gone."""
    async with asyncio.timeout(RECEIVER_LIMIT_S):
        while slot not in await asyncio.to_thread(forget_killed_followers, session):  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(POLL_S)


def forget_killed_followers(session: SyncSession) -> list[str]:
    """Drops the slots of receivers that are gone, and lets no commit wait for one; returns the slots."""
    with translated():
        stale: list[str] = [name for (name,) in session.execute(_SQL["stale_slots"]).fetchall()]
        if session.execute(_SQL["waits_in_vain"]).fetchone() == (True,):
            session.execute(_SQL["wait_for_nobody"])
            session.execute(_SQL["read_configuration"])
        for name in stale:
            session.execute(_SQL["drop_slot"], (name,))
    return stale
