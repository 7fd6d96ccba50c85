"""Recovery: the newest valid snapshot, then the log's tail, in order.

It is generic over what is recovered (`Replayable`): it restores and replays, and never judges. Reading,
decoding and replaying overlap. A hole, a falling epoch, a damaged record or a broken chain is refused with
the position of the record; a corrupt snapshot is passed over for the one before it, and the report says so.
All of it may block: give it a thread.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog

from engine.ledger import LedgerError
from engine.record import Record
from persistence import snapshots
from persistence.database import Database
from persistence.errors import DatabaseRefused, LogDamaged
from persistence.log import Head
from persistence.log_reader import LSN_MAX, START, LogReader
from persistence.snapshot_codec import State

_log = structlog.get_logger(__name__)


class Replayable(Protocol):
    """State that a shard's log determines."""

    def state(self) -> State:
        """Everything there is, as plain data; equal states are equal array for array."""

    def restore(self, state: State) -> None:
        """Become what `state()` gave."""

    def replay(self, record: Record) -> None:
        """Apply the next record's facts without judging them."""


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """Where recovery ended, and how it came there."""

    lsn: int
    epoch: int
    chain: bytes
    snapshot_lsn: int = 0  # 0 = no snapshot was used
    records: int  # replayed
    legs: int  # in them
    seconds: float
    rejected: list[str] = []  # why snapshots were passed over


def recovered_together(each: Sequence[Recovered]) -> Recovered:
    """What several shards recovered beside each other. Positions, epoch and hash are those of the first."""
    return msgspec.structs.replace(
        each[0],
        records=sum(one.records for one in each),
        legs=sum(one.legs for one in each),
        seconds=max(one.seconds for one in each),
        rejected=[why for one in each for why in one.rejected],
    )


def recover(
    database: Database,
    shard: int,
    target: Replayable,
    last: int = LSN_MAX,
    progress: Callable[[int], None] | None = None,
) -> Recovered:
    """Brings an empty `target` to the end of the log, or to record `last`.

    `progress` is told the LSN after each batch. Raises LogDamaged, which names the record.
    """
    started = time.perf_counter()
    rejected: list[str] = []
    snapshot = snapshots.load_newest_valid(database, shard, rejected, last)
    head = START
    if snapshot is not None:
        head = snapshot.head
        try:
            target.restore(snapshot.state)
        except ValueError as wrong:
            raise DatabaseRefused(
                f"the snapshot at record {head.lsn} does not fit these settings: {wrong}", reason="settings"
            ) from wrong
    tail = replay_tail(database, shard, target, head, last, progress)
    recovered = msgspec.structs.replace(
        tail, snapshot_lsn=head.lsn, rejected=rejected, seconds=time.perf_counter() - started
    )
    _log.info(
        "recovered",
        shard=shard,
        lsn=recovered.lsn,
        snapshot_lsn=recovered.snapshot_lsn,
        records=recovered.records,
        legs=recovered.legs,
        seconds=round(recovered.seconds, 3),
    )
    return recovered


def replay_tail(
    database: Database,
    shard: int,
    target: Replayable,
    after: Head,
    last: int = LSN_MAX,
    progress: Callable[[int], None] | None = None,
) -> Recovered:
    """Replays what the log has after a position, up to `last` or to its end."""
    started = time.perf_counter()
    head, records, legs = after, 0, 0
    with LogReader(database, shard, after, last) as reader:
        for batch in reader:
            for logged in batch:
                try:
                    target.replay(logged.record)
                except LedgerError as wrong:
                    raise LogDamaged(
                        f"record {logged.head.lsn} can't be applied with these settings: {wrong}",
                        shard,
                        logged.head.lsn,
                    ) from wrong
                legs += len(logged.record.legs)
            records += len(batch)
            head = batch[-1].head
            if progress is not None:
                progress(head.lsn)
    return Recovered(
        lsn=head.lsn,
        epoch=head.epoch,
        chain=head.chain,
        records=records,
        legs=legs,
        seconds=time.perf_counter() - started,
    )


def build_snapshot(database: Database, shard: int, target: Replayable) -> Recovered:
    """Follows the committed log with an empty `target` to its present end, and stores its state as a
    snapshot.

    It reads what is committed and nothing else, so it can run beside the shard, in this process or another.
    """
    recovered = recover(database, shard, target)
    if recovered.lsn > recovered.snapshot_lsn:
        snapshots.save(database, shard, recovered.lsn, recovered.chain, target.state())
    return recovered
