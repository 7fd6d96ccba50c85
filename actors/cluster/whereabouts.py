"""Where the shards are, as PostgreSQL says, kept up to date for everybody in this process who speaks to one.

It is asked now and then, and often while somebody looks for a shard. A higher epoch means that the shard has
a new owner: who still speaks to the one before is told, since an owner that stands still doesn't hang up.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from persistence.cluster import Endpoint, Endpoints
from persistence.database import Database
from persistence.errors import PersistenceError

PAUSE_S: Final = 0.5
SEARCHING_PAUSE_S: Final = 0.05

_log = structlog.get_logger(__name__)


class Whereabouts:
    """The newest endpoint of each shard."""

    def __init__(self, database: Database) -> None:
        self._endpoints = Endpoints(database)
        self._known: dict[int, Endpoint] = {}
        self._listeners: dict[int, Callable[[Endpoint], None]] = {}
        self._searching: set[int] = set()  # shards that somebody looks for
        self._hurry = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="whereabouts")

    def of(self, shard: int) -> Endpoint | None:
        """Where a shard is, None if it has never been anywhere."""
        return self._known.get(shard)

    def listen(self, shard: int, listener: Callable[[Endpoint], None]) -> None:
        """Call `listener` whenever the shard has a new owner."""
        self._listeners[shard] = listener

    def search(self, shard: int) -> None:
        """Look often until `found`."""
        self._searching.add(shard)
        self._hurry.set()

    def found(self, shard: int) -> None:
        """It is where we thought."""
        self._searching.discard(shard)

    async def close(self) -> None:
        """Look no more."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._endpoints.close()

    async def _run(self) -> None:
        while True:
            try:
                for endpoint in await self._endpoints.read():
                    self._learn(endpoint)
            except PersistenceError as error:
                _log.warning("where the shards are can't be asked", error=str(error))
            self._hurry.clear()
            try:
                async with asyncio.timeout(SEARCHING_PAUSE_S if self._searching else PAUSE_S):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    def _learn(self, endpoint: Endpoint) -> None:
        known = self._known.get(endpoint.shard)
        if known is not None and known.epoch >= endpoint.epoch:
            return
        self._known[endpoint.shard] = endpoint
        if endpoint.shard in self._listeners:
            self._listeners[endpoint.shard](endpoint)
