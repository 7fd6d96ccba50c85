"""Brings a backup of the embedded PostgreSQL back, into a data directory that has none.

Everything is checked before anything is made: each file of the base backup against its SHA-256, and that
PostgreSQL's log goes on without a gap from the base backup to the end of what was kept. The cluster appears
as a whole; then PostgreSQL replays its log, as after a crash, and Tessera's log must have at least what it
had when the backup began.
"""

import asyncio
import hashlib
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from engine.record import chain_hash
from persistence.backup import (
    BASE,
    WAL,
    Backup,
    LogEnd,
    forget_killed_followers,
    read_backup,
    sha256_of,
)
from persistence.database import Database, translated
from persistence.errors import BackupRefused
from persistence.statements import statements

SEGMENT_BYTES: Final = 16 << 20
"""Of a file of PostgreSQL's log, as the embedded server makes them."""
LEFT_OUT: Final = ("postmaster.pid", "postmaster.opts", "socket.location", "server.log", "server.log.1")
"""What belongs to the server that was backed up, and not to its data."""
UNLISTED: Final = ("backup_manifest",)

_SEGMENT: Final = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
_LOG_SQL: Final = statements("log")
_HEADS: Final = statements("exports")["heads"]

Progress = Callable[[int, int, str], None]


class _ListedFile(msgspec.Struct, frozen=True, rename="pascal"):
    """A file in PostgreSQL's own manifest."""

    size: int
    checksum: str
    path: str = ""
    encoded_path: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")] | None = msgspec.field(
        name="Encoded-Path", default=None
    )
    algorithm: str = msgspec.field(name="Checksum-Algorithm", default="")


class _WalRange(msgspec.Struct, frozen=True, rename="pascal"):
    """Which part of the log the base backup needs."""

    timeline: int
    start: str = msgspec.field(name="Start-LSN")


class _BaseManifest(msgspec.Struct, frozen=True):
    """PostgreSQL's own manifest of a base backup."""

    files: list[_ListedFile] = msgspec.field(name="Files")
    ranges: list[_WalRange] = msgspec.field(name="WAL-Ranges")


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: where each shard's log ended when the backup began, and where it ends now."""

    cluster: str
    backed_up: list[LogEnd]
    restored: list[LogEnd]
    segments: int  # of PostgreSQL's log that were there to be replayed
    seconds: float


async def restore(database: Database, folder: Path, kept: Path | None, progress: Progress) -> Restored:
    """Makes the database of the backup in `folder`, with the log in it and in the folder `kept`, and starts
    it; whoever calls stops it.

    Raises BackupRefused, and EmbeddedServerFailed if there is a database already; then nothing is left.
    """
    return await asyncio.to_thread(_restore, database, folder, kept, progress)


def _restore(database: Database, folder: Path, kept: Path | None, progress: Progress) -> Restored:
    started = time.perf_counter()
    server = database.server
    if server is None:
        raise BackupRefused("only the embedded PostgreSQL is restored; give a data directory", str(folder))
    backup = read_backup(folder)
    files, first = _checked_base(folder, backup, progress)
    segments = _segments(folder, kept, first)
    _check_unbroken(segments, first)

    def fill(cluster: Path) -> None:
        for count, (path, target) in enumerate(files, 1):
            _copy(path, cluster / target)
            progress(count, len(files), "copying")
        for made in sorted((folder / BASE).rglob("*")):
            if made.is_dir():
                (cluster / made.relative_to(folder / BASE)).mkdir(mode=0o700, parents=True, exist_ok=True)
        for number, path in segments.items():
            _copy(path, cluster / "pg_wal" / _segment_name(first[0], number))

    server.adopt(fill)
    try:
        database.start()
        restored = _ends(database, backup.ends, folder)
    except BaseException:
        server.destroy()
        raise
    return Restored(
        cluster=str(server.cluster),
        backed_up=backup.ends,
        restored=restored,
        segments=len(segments),
        seconds=time.perf_counter() - started,
    )


def _checked_base(
    folder: Path, backup: Backup, progress: Progress
) -> tuple[list[tuple[Path, str]], tuple[int, int]]:
    """The files to copy, each with its place in the cluster, and the timeline and number of the first segment
    of PostgreSQL's log that is needed."""
    base = folder / BASE
    manifest = _base_manifest(base / "backup_manifest", backup)
    listed: dict[str, _ListedFile] = {}
    for file in manifest.files:
        name = file.path if file.encoded_path is None else bytes.fromhex(file.encoded_path).decode()
        if name.startswith("/") or ".." in Path(name).parts or file.algorithm != "SHA256":
            raise BackupRefused(f"{base / 'backup_manifest'} lists {name!r}, which can't be", str(base))
        listed[name] = file
    for count, (name, file) in enumerate(listed.items(), 1):
        _check(base / name, file.size, file.checksum)
        progress(count, len(listed), "checking")
    for segment in backup.segments:
        _check(base / "pg_wal" / segment.name, segment.bytes, segment.sha256)
    for path in base.rglob("*"):
        name = str(path.relative_to(base))
        if path.is_symlink() or (
            path.is_file() and name not in listed and name not in UNLISTED and not name.startswith("pg_wal/")
        ):
            raise BackupRefused(f"{path} is not part of the backup", str(path))
    if len(manifest.ranges) != 1:
        raise BackupRefused(f"{base} spans {len(manifest.ranges)} timelines, not one", str(base))
    high, _, low = manifest.ranges[0].start.partition("/")
    start = (int(high, 16) << 32) + int(low, 16)
    wanted = [(base / name, name) for name in listed if name not in LEFT_OUT]
    return wanted, (manifest.ranges[0].timeline, start // SEGMENT_BYTES)


def _base_manifest(path: Path, backup: Backup) -> _BaseManifest:
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != backup.manifest_sha256:
            raise BackupRefused(f"{path} is not the file that was written", str(path))
        return msgspec.json.decode(content, type=_BaseManifest)
    except OSError as error:
        raise BackupRefused(f"{path} can't be read: {error.strerror}", str(path)) from error
    except msgspec.DecodeError as error:
        raise BackupRefused(f"{path} is no manifest of a base backup: {error}", str(path)) from error


def _check(path: Path, size: int, checksum: str) -> None:
    try:
        found = (path.stat().st_size, sha256_of(path))
    except OSError as error:
        raise BackupRefused(f"{path} can't be read: {error.strerror}", str(path)) from error
    if found != (size, checksum):
        raise BackupRefused(f"{path} is not the file that was backed up", str(path))


def _segments(folder: Path, kept: Path | None, first: tuple[int, int]) -> dict[int, Path]:
    """The files of PostgreSQL's log by number, from the first that is needed on. What was kept of the cluster
    itself comes before what was received, and that before what is in the base backup."""
    if kept is not None and not kept.is_dir():
        raise BackupRefused(f"{kept} is not a folder", str(kept))
    timeline, start = first
    found: dict[int, Path] = {}
    for source in (folder / BASE / "pg_wal", folder / WAL, kept):
        if source is None or not source.is_dir():
            continue
        for path in sorted(source.iterdir(), reverse=True):  # so that a whole segment wins over a partial one
            match = _SEGMENT.fullmatch(path.name)
            if match is None or not path.is_file():
                continue
            if int(match[1], 16) != timeline:
                raise BackupRefused(
                    f"{path} is of timeline {int(match[1], 16)}, the backup of {timeline}", str(path)
                )
            if path.stat().st_size != SEGMENT_BYTES:
                raise BackupRefused(f"{path} has not {SEGMENT_BYTES} bytes", str(path))
            number = int(match[2], 16) * 256 + int(match[3], 16)
            if number >= start:
                found[number] = path
    return dict(sorted(found.items()))


def _check_unbroken(segments: dict[int, Path], first: tuple[int, int]) -> None:
    timeline, start = first
    for expected, (number, path) in enumerate(segments.items(), start):
        if number != expected:
            raise BackupRefused(
                f"{_segment_name(timeline, expected)} of PostgreSQL's log is missing: {path} comes next",
                str(path),
            )
    if not segments:
        raise BackupRefused(f"{_segment_name(timeline, start)} of PostgreSQL's log is missing", "")


def _segment_name(timeline: int, number: int) -> str:
    return f"{timeline:08X}{number // 256:08X}{number % 256:08X}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o600)


def _ends(database: Database, backed_up: list[LogEnd], folder: Path) -> list[LogEnd]:
    """Where the logs end now. Raises BackupRefused if one does not have what was backed up."""
    ends: list[LogEnd] = []
    with database.session_sync("tessera restore") as session, translated():
        forget_killed_followers(session)

        def record(statement: bytes, *values: int) -> Any:
            return session.execute(statement, values).fetchone()

        for end in backed_up:
            found = record(_LOG_SQL["tail"], end.shard, end.lsn, 1)
            if found is None or (found[0], chain_hash(found[2]).hex()) != (end.lsn, end.chain):
                raise BackupRefused(
                    f"the log of shard {end.shard} that came back does not have record {end.lsn}, which was "
                    "backed up",
                    str(folder),
                )
            last = record(_LOG_SQL["head"], end.shard)
            ends.append(LogEnd(shard=end.shard, lsn=last[0], chain=chain_hash(last[2]).hex()))
    return ends
