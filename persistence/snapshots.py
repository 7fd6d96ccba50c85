"""Snapshots of a shard's state in PostgreSQL, published as a whole or not at all.

A snapshot is the state right after a record: `lsn` and the record's hash say which. Its chunks and its
manifest are written in one transaction, after the record is durable. It is valid if every checksum is right
and the log has that very record; whoever loads one gets the newest that is valid, and is told, loudly, of
those that were not.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import structlog

from engine.record import chain_hash
from persistence.copy_binary import BLOCK_BYTES, HEADER, TRAILER
from persistence.database import Database, SyncSession, translated
from persistence.errors import SnapshotTooEarly
from persistence.log import Head
from persistence.snapshot_codec import (
    FORMAT,
    Chunk,
    CorruptSnapshot,
    State,
    StateDecoder,
    encode_state,
    manifest,
)
from persistence.statements import statements

KEPT: Final = 3
"""How many snapshots of a shard are kept."""

_SQL: Final = statements("snapshots")
_ROW: Final = struct.Struct(
    "!hihiqiii"
)  # fields, then each with its size: shard, lsn, chunk; the content's size

_log = structlog.get_logger(__name__)


class Snapshot(NamedTuple):
    """A valid snapshot: where in the log it stands, and the state there."""

    head: Head
    state: State


class Manifest(NamedTuple):
    """What is known of a snapshot without its chunks."""

    lsn: int
    chain: bytes
    format: int
    chunks: int
    checksum: bytes
    complete: bool


def save(database: Database, shard: int, lsn: int, chain: bytes, state: State) -> int:
    """Stores the state after record `lsn`, whose hash is `chain`; returns the bytes. Keeps the newest KEPT.

    The state must not change meanwhile. Raises SnapshotTooEarly if the log does not have that record yet.
    """
    with database.session_sync(f"tessera {database.schema}/{shard} snapshot") as session, translated():
        _check_record(session, shard, lsn, chain)
        with session.transaction():
            session.execute(_SQL["forget_one"], (shard, lsn))
            session.execute(_SQL["add"], (shard, lsn, chain, FORMAT, b""))
            checksums: list[bytes] = []
            size = 0
            with session.cursor().copy(_SQL["chunk"]) as copy:
                copy.write(HEADER)
                for number, chunk in enumerate(encode_state(state)):
                    checksums.append(chunk.checksum)
                    size += chunk.size
                    for block in _chunk_blocks(shard, lsn, number, chunk):
                        copy.write(block)
                copy.write(TRAILER)
            checksum = manifest(shard, lsn, chain, checksums)
            given = {"shard": shard, "lsn": lsn, "chunks": len(checksums), "checksum": checksum}
            session.execute(_SQL["publish"], given)
            session.execute(_SQL["forget"], {"shard": shard, "kept": KEPT})
    return size


def load_newest_valid(
    database: Database, shard: int, rejected: list[str] | None = None, last: int | None = None
) -> Snapshot | None:
    """The newest snapshot that is valid (and not after record `last`), None if there is none.

    Why newer ones were not valid is added to `rejected`.
    """
    with database.session_sync(f"tessera {database.schema}/{shard} snapshot") as session, translated():
        for found in manifests(session, shard):
            try:
                if last is None or found.lsn <= last:
                    return load(session, shard, found)
                _record(session, shard, found)
            except CorruptSnapshot as corrupt:
                why = f"snapshot at record {found.lsn} of shard {shard} is not valid: {corrupt}"
                _log.warning("a snapshot is passed over", shard=shard, lsn=found.lsn, reason=str(corrupt))
                if rejected is not None:
                    rejected.append(why)
    return None


def manifests(session: SyncSession, shard: int) -> list[Manifest]:
    """The snapshots of a shard, newest first, whether they are valid or not."""
    rows = (session.execute(_SQL["all"], (shard,))).fetchall()
    return [Manifest(*row) for row in rows]


def _record(session: SyncSession, shard: int, found: Manifest) -> tuple[int, bytes]:
    """Epoch and content of the record that a snapshot comes after. Raises CorruptSnapshot without one."""
    row: tuple[int, bytes] | None = session.execute(_SQL["record"], (shard, found.lsn)).fetchone()
    if row is None:
        raise CorruptSnapshot("the log does not have the record that it comes after")
    return row


def load(session: SyncSession, shard: int, found: Manifest) -> Snapshot:
    """The snapshot. Raises CorruptSnapshot if it is not valid."""
    if not found.complete or found.format != FORMAT:
        raise CorruptSnapshot(
            f"it is of format {found.format} and {'' if found.complete else 'not '}complete"
        )
    epoch, payload = _record(session, shard, found)
    if chain_hash(payload) != found.chain:
        raise CorruptSnapshot("the log has another record where it stands")
    count = (session.execute(_SQL["chunk_count"], (shard, found.lsn))).fetchone()
    if count != (found.chunks,):
        raise CorruptSnapshot(f"it does not have {found.chunks} chunks")
    decoder = StateDecoder()
    for number in range(found.chunks):
        cursor = session.cursor(binary=True)
        cursor.execute(_SQL["content"], (shard, found.lsn, number))
        chunk = cursor.fetchone()
        if chunk is None:
            raise CorruptSnapshot(f"chunk {number} is missing")
        decoder.add(chunk[0])
    if manifest(shard, found.lsn, found.chain, decoder.checksums) != found.checksum:
        raise CorruptSnapshot("its chunks are not those that were published")
    return Snapshot(Head(found.lsn, epoch, found.chain), decoder.finish())


def _check_record(session: SyncSession, shard: int, lsn: int, chain: bytes) -> None:
    row = (session.execute(_SQL["record"], (shard, lsn))).fetchone()
    if row is None or chain_hash(row[1]) != chain:
        raise SnapshotTooEarly(f"record {lsn} of shard {shard} is not in the log", shard, lsn)


def _chunk_blocks(shard: int, lsn: int, number: int, chunk: Chunk) -> Iterator[bytes | memoryview]:
    """One row: the content is the chunk with its checksum behind it."""
    yield _ROW.pack(4, 2, shard, 8, lsn, 4, number, chunk.size + len(chunk.checksum))
    for piece in chunk.pieces:
        for at in range(0, len(piece), BLOCK_BYTES):
            yield piece[at : at + BLOCK_BYTES]
    yield chunk.checksum
