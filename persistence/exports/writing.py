"""Makes an export of the committed log, beside a running engine or without one."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from engine.ledger import LedgerError
from engine.placement import Placement
from persistence import placement
from persistence.database import Database, translated
from persistence.errors import ExportRefused, LogDamaged
from persistence.exports.manifest import (
    FORMAT,
    MANIFEST,
    FileEntry,
    Manifest,
    encode_manifest,
    proof_of,
    runs_of,
)
from persistence.exports.tables import FactTables, LogTable
from persistence.exports.totals import Fresh, ShardTotals, asset_totals
from persistence.log_reader import LogReader
from persistence.statements import statements

_SQL: Final = statements("exports")


async def export(
    database: Database,
    folder: Path,
    fresh: Fresh,
    *,
    tenant: str | None = None,
    tables: bool = True,
    progress: Callable[[int, int], None],
) -> tuple[Manifest, str]:
    """Writes everything that is committed now to `folder`, which must not exist or be empty; returns the
    manifest and the proof of it.

    `fresh` makes the empty state of a shard. With `tenant`, an export that would hold anything of another one
    is refused. Without `tables` only the log is written. The folder appears when it is complete. Raises
    ExportRefused, LogDamaged, QueryFailed or DatabaseUnreachable.
    """
    where = await placement.known(database)
    return await asyncio.to_thread(_export, database, where, folder, fresh, tenant, tables, progress)


def _export(
    database: Database,
    where: Placement,
    folder: Path,
    fresh: Fresh,
    tenant: str | None,
    tables: bool,
    progress: Callable[[int, int], None],
) -> tuple[Manifest, str]:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportRefused(f"{folder} is there already, and not empty", str(folder))
    with database.session_sync(f"tessera {database.schema} export") as session, translated():
        heads: list[tuple[int, int]] = session.execute(_SQL["heads"]).fetchall()
    if not heads:
        raise ExportRefused("there is nothing to export: the log is empty", str(folder))
    making = _making(folder)
    try:
        manifest = _write(database, where, heads, making, fresh, tenant, tables, progress)
        content = encode_manifest(manifest)
        (making / MANIFEST).write_bytes(content)
        _sync(making)
        making.rename(folder)
    except OSError as error:
        raise ExportRefused(f"{folder} can't be written: {error.strerror}", str(folder)) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return manifest, proof_of(content)


def _making(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ExportRefused(f"{folder} can't be written: {error.strerror}", str(folder)) from error


def _write(
    database: Database,
    where: Placement,
    heads: list[tuple[int, int]],
    folder: Path,
    fresh: Fresh,
    tenant: str | None,
    tables: bool,
    progress: Callable[[int, int], None],
) -> Manifest:
    total, done = sum(last for _, last in heads), 0
    shards: list[ShardTotals] = []
    files: list[FileEntry] = []
    for shard, last in heads:
        totals = ShardTotals(shard, fresh(where, shard))
        log, facts = LogTable(folder, shard), FactTables(folder, shard)
        every = [log.files, *facts.files.values()]
        try:
            with LogReader(database, shard, last=last) as reader:
                for batch in reader:
                    for logged in batch:
                        try:
                            totals.add(logged)
                        except (LedgerError, ValueError, KeyError) as wrong:
                            raise LogDamaged(
                                f"record {logged.head.lsn} can't be applied: {wrong}", shard, logged.head.lsn
                            ) from wrong
                        log.add(logged)
                        if tables:
                            facts.add(logged.record)
                    _check_tenant(totals.tenants, tenant, folder)
                    progress(done + batch[-1].head.lsn, total)
            log.flush()
            if tables:
                facts.finish(totals.state.ledger.accounts)
            for table in every:
                table.finish()
                files += table.finished
        finally:
            for table in every:
                table.abandon()
        shards.append(totals)
        done += last
    return Manifest(
        format=FORMAT,
        tessera=version("tessera"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tenants=sorted(set[str]().union(*(totals.tenants for totals in shards))),
        placement=runs_of(where),
        shards=[totals.entry() for totals in shards],
        legs=sum(totals.legs for totals in shards),
        totals=asset_totals(shards),
        files=files,
    )


def _check_tenant(found: set[str], wanted: str | None, folder: Path) -> None:
    if wanted is not None and not found <= {wanted}:
        others = ", ".join(map(repr, sorted(found - {wanted})))
        raise ExportRefused(
            f"this log is not of tenant {wanted!r} alone, it has records of {others}: "
            "a tenant has a log, and a database schema, of its own",
            str(folder),
        )


def _sync(folder: Path) -> None:
    """Makes a folder and what is in it durable."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
