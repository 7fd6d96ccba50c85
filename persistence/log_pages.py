"""Reads the committed log in pieces of bounded size, for those who follow it at their own pace.

Unlike `log_reader`, which streams a whole range, nothing stays open between two pieces: a follower that takes
its time holds neither a session nor a snapshot of the database.
"""

import asyncio
from typing import Final

from engine.record import Record
from persistence.database import Database
from persistence.errors import LogDamaged
from persistence.log import Head
from persistence.log_reader import linked
from persistence.session_pool import SessionPool
from persistence.statements import statements

PAGE_BYTES_MAX: Final = 1 << 20
"""Payload that one piece has, unless its first record is larger."""
PAGE_RECORDS_MAX: Final = 512
INLINE_BYTES_MAX: Final = 1 << 16
"""Up to here a piece is decoded on the event loop, else in a thread."""
SESSIONS: Final = 2

_SQL: Final = statements("log_pages")


class LogPages:
    """Pieces of one shard's log, for any number of readers."""

    def __init__(self, database: Database, shard: int) -> None:
        self._shard = shard
        self._pool = SessionPool(database, f"tessera {database.schema}/{shard} pages", SESSIONS)

    async def read(self, after: int, last: int) -> list[Record]:
        """The first records after a position, none beyond `last`, which must be in the log.

        Raises LogDamaged where the log is wrong, QueryFailed or DatabaseUnreachable.
        """
        bounds = {
            "shard": self._shard,
            "after": after,
            "last": last,
            "records": PAGE_RECORDS_MAX,
            "bytes": PAGE_BYTES_MAX,
        }
        rows = await self._pool.fetch(_SQL["page"], bounds)
        if not rows and after < last:
            raise LogDamaged(f"record {after + 1} is missing", self._shard, after + 1)
        if sum(len(payload) for _, _, payload in rows) <= INLINE_BYTES_MAX:
            return self._decoded(after, rows)
        return await asyncio.to_thread(self._decoded, after, rows)

    async def close(self) -> None:
        """Ends the sessions."""
        await self._pool.close()

    def _decoded(self, after: int, rows: list[tuple[int, int, bytes]]) -> list[Record]:
        at = Head(after, 0, b"")
        records = []
        for row in rows:
            logged = linked(self._shard, at, row)
            at = logged.head
            records.append(logged.record)
        return records
