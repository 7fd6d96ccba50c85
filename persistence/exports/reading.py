"""Checks an export, and loads it into an empty database: as a whole, or not at all.

First everything is checked without a database: the files against the manifest, then record by record that
each follows the one before and can be applied, then that the log and the books come to what the manifest
says. Only then the log is written, in one transaction, which is committed if its end is the very one that
was checked. Tables for SQL follow from the log, when an engine opens it.
"""

import asyncio
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.ledger import LedgerError
from engine.record import Record
from persistence.copy_binary import HEADER, TRAILER
from persistence.database import Database, Session, translated
from persistence.errors import ExportRefused, LogDamaged
from persistence.exports.manifest import Manifest, ShardEntry, check_files, placement_of, read_manifest
from persistence.exports.tables import LOG
from persistence.exports.totals import Fresh, ShardTotals, asset_totals
from persistence.log import Head, copy_blocks
from persistence.log_reader import START, Logged, linked
from persistence.log_session import CLOCK_SKEW_MAX_NS, LogSession, row
from persistence.statements import statements

GROUP_BYTES_MAX: Final = 256 << 20
"""A row group that claims more was not written by an export."""
LOCK_WAIT_S: Final = 2.0

_LOG_SQL: Final = statements("log")
_PLACEMENT_SQL: Final = statements("placement")
_SQL: Final = statements("exports")

Progress = Callable[[int, int, str], None]
"""Is told how much is done, of how much, and in which phase."""


async def check_export(
    folder: Path,
    fresh: Fresh,
    *,
    proof: str | None = None,
    progress: Progress,
) -> tuple[Manifest, str]:
    """Proves an export, or raises ExportRefused, which says what is wrong where. Needs no database.

    `fresh` makes the empty state of a shard. `proof` is what was printed when the export was made.
    """
    return await asyncio.to_thread(_check, folder, fresh, proof, progress)


async def import_log(
    database: Database,
    folder: Path,
    manifest: Manifest,
    *,
    clock: Callable[[], int] = time.time_ns,
    progress: Progress,
) -> None:
    """Writes the log of an export that was checked to a migrated database without one.

    Raises ExportRefused if there is a log already, or the files are not what was checked; LockHeld if an
    engine is there; QueryFailed or DatabaseUnreachable. Then nothing has changed.
    """
    total, done = sum(entry.records for entry in manifest.shards), 0
    async with AsyncExitStack() as stack:
        sessions: list[LogSession] = []
        for entry in manifest.shards:  # every shard's lock, so that no engine opens meanwhile
            session = await LogSession.connect(database, entry.shard, clock)
            stack.push_async_callback(session.close)
            await session.lock(takeover=False, wait_s=LOCK_WAIT_S)
            sessions.append(session)
        writer = sessions[0].session
        with translated():
            async with writer.transaction():
                if not (await row(writer, _SQL["is_empty"]))[0]:
                    raise ExportRefused(
                        "this database has a log already; import into an empty one", str(folder)
                    )
                buckets = placement_of(manifest, folder).shard_of_bucket.tolist()
                await writer.execute(_PLACEMENT_SQL["write"], (buckets,))
                if (await row(writer, _PLACEMENT_SQL["read"]))[0] != buckets:
                    raise ExportRefused("this database was made for another number of shards", str(folder))
                for entry in manifest.shards:
                    await row(writer, _LOG_SQL["make_room"], (1, entry.records))
                    batches = _batches(folder, manifest, entry)
                    last = await _copy(writer, entry.shard, batches, done, total, progress)
                    if (last.lsn, last.chain.hex()) != (entry.records, entry.chain):
                        raise ExportRefused(f"{folder} has changed since it was checked", str(folder))
                    done += entry.records


async def _copy(
    writer: Session,
    shard: int,
    batches: Iterator[list[Logged]],
    done: int,
    total: int,
    progress: Progress,
) -> Head:
    """Writes a shard's records; returns where they end."""
    last = START
    async with writer.cursor() as cursor, cursor.copy(_LOG_SQL["append"]) as copy:
        await copy.write(HEADER)
        while batch := await asyncio.to_thread(next, batches, None):
            records = [(one.head.lsn, one.head.epoch, one.payload) for one in batch]
            for block in copy_blocks(shard, records, header=b"", trailer=b""):
                await copy.write(block)
            last = batch[-1].head
            progress(done + last.lsn, total, "writing the log")
        await copy.write(TRAILER)
    return last


def _check(folder: Path, fresh: Fresh, proof: str | None, progress: Progress) -> tuple[Manifest, str]:
    manifest, found = read_manifest(folder)
    if proof is not None and proof.lower() != found:
        raise ExportRefused(
            f"{folder} is not the export with the proof {proof}: it has the proof {found}", str(folder)
        )
    where = placement_of(manifest, folder)
    check_files(folder, manifest, lambda done, total: progress(done, total, "checking files"))
    records, done = sum(entry.records for entry in manifest.shards), 0
    shards: list[ShardTotals] = []
    for entry in manifest.shards:
        totals = ShardTotals(entry.shard, fresh(where, entry.shard))
        for batch in _batches(folder, manifest, entry):
            for logged in batch:
                try:
                    _check_parents(logged.record, totals.state.ledger.account_count)
                    totals.add(logged)
                except (LedgerError, ValueError, KeyError, IndexError) as wrong:
                    raise ExportRefused(
                        f"{folder}: record {logged.head.lsn} of shard {entry.shard} can't be applied: "
                        f"{wrong}",
                        str(folder),
                    ) from wrong
            progress(done + batch[-1].head.lsn, records, "replaying")
        _check_shard(folder, entry, totals)
        shards.append(totals)
        done += entry.records
    tenants = sorted(set[str]().union(*(totals.tenants for totals in shards)))
    legs = sum(totals.legs for totals in shards)
    for name, given, there in (
        ("totals", manifest.totals, asset_totals(shards)),
        ("legs", manifest.legs, legs),
        ("tenants", manifest.tenants, tenants),
    ):
        if given != there:
            raise ExportRefused(f"{folder}: the log does not come to the {name} of the manifest", str(folder))
    return manifest, found


def _check_shard(folder: Path, entry: ShardEntry, totals: ShardTotals) -> None:
    if not totals.records:
        raise ExportRefused(f"{folder} has no log of shard {entry.shard}", str(folder))
    try:
        totals.state.ledger.check()
    except LedgerError as broken:
        raise ExportRefused(
            f"{folder}: the books of shard {entry.shard} contradict themselves: {broken}", str(folder)
        ) from broken
    found = totals.entry()
    for name in ShardEntry.__struct_fields__:
        if getattr(found, name) != getattr(entry, name):
            raise ExportRefused(
                f"{folder}: {name} of shard {entry.shard} is {getattr(found, name)}, the manifest says "
                f"{getattr(entry, name)}",
                str(folder),
            )
    if entry.time > time.time_ns() + CLOCK_SKEW_MAX_NS:
        raise ExportRefused(
            f"{folder}: the last record of shard {entry.shard} is from the future: "
            "set this host's clock right",
            str(folder),
        )


def _check_parents(record: Record, accounts: int) -> None:
    """A roll-up is always there before what is below it; replay relies on that."""
    ordinals = np.arange(accounts, accounts + len(record.accounts))
    parents = record.accounts["parent"]
    if np.any((parents < -1) | (parents >= ordinals)):
        raise ValueError("an account is below one that is not there")


def _batches(folder: Path, manifest: Manifest, entry: ShardEntry) -> Iterator[list[Logged]]:
    """A shard's records in order, a row group at a time, each checked to follow the one before."""
    at = START
    for file in manifest.named("log", entry.shard):
        path = folder / file.name
        try:
            with pq.ParquetFile(path) as parquet:
                if parquet.schema_arrow.remove_metadata() != LOG:
                    raise ExportRefused(f"{path} has other columns than a log", str(path))
                for group in range(parquet.num_row_groups):
                    if parquet.metadata.row_group(group).total_byte_size > GROUP_BYTES_MAX:
                        raise ExportRefused(f"{path} has a row group that is too large", str(path))
                    table = parquet.read_row_group(group, use_threads=False)
                    batch = _linked(entry.shard, at, table)
                    at = batch[-1].head
                    yield batch
        except (pa.ArrowException, OSError) as error:
            raise ExportRefused(f"{path} can't be read: {error}", str(path)) from error
        except LogDamaged as damage:
            raise ExportRefused(f"{path}: {damage}", str(path)) from damage


def _linked(shard: int, at: Head, table: pa.Table) -> list[Logged]:
    """The records of a row group, which is not empty. Raises LogDamaged."""
    if not len(table) or any(column.null_count for column in table.columns):
        raise LogDamaged("a row group is empty, or has nulls", shard, at.lsn + 1)
    batch = []
    for values in zip(*(column.to_pylist() for column in table.columns), strict=True):
        try:
            batch.append(linked(shard, at, values))
        except (ValueError, IndexError, OverflowError, struct.error, msgspec.MsgspecError) as wrong:
            raise LogDamaged(f"record {at.lsn + 1} can't be read: {wrong}", shard, at.lsn + 1) from wrong
        at = batch[-1].head
    return batch
