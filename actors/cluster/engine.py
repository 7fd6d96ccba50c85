"""An engine whose shards are in a cluster: the same methods, in any process that reaches PostgreSQL and the
shards. It is no part of Ray, and does not notice whether Ray runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

from actors.cluster.remote_shard import RemoteShard
from actors.cluster.whereabouts import Whereabouts
from actors.metrics import EngineMetrics
from actors.runtime import Engine
from actors.settings import Settings
from persistence import cluster, placement, schema, tenancy
from persistence.database import Database
from persistence.errors import DatabaseRefused

REACH_LIMIT_S: Final = 60.0
"""How long the shards are looked for at first."""


class ClusterEngine(Engine):
    """An engine of a cluster. Use `connect` or `connected`; closing it leaves the cluster as it is."""

    _whereabouts: Whereabouts

    @classmethod
    async def connect(cls, settings: Settings, limit_s: float = REACH_LIMIT_S) -> Self:
        """Find the shards of the cluster that uses this database.

        Raises DatabaseRefused if there is none, ShardStopped if a shard can't be reached in time,
        SchemaNewer or SchemaOlder.
        """
        database = Database(settings.database)
        await asyncio.to_thread(database.start)
        engine = cls(settings, database, EngineMetrics())
        try:
            found = await cluster.read(database) if await schema.is_made(database) else None
            if found is None:
                raise DatabaseRefused(
                    "no cluster uses this database: start one with `tessera serve --runtime ray --shards N`",
                    reason="settings",
                )
            await tenancy.claim(database, settings.tenant)
            engine._live_on(await placement.agreed(database, settings.shards))
        except BaseException:
            await asyncio.to_thread(database.stop)
            raise
        engine._whereabouts = Whereabouts(database)
        shards = [
            RemoteShard(index, found.token, engine._whereabouts, settings, database)
            for index in range(found.shards)
        ]
        engine._shards += shards
        try:
            await asyncio.gather(*[shard.reached(limit_s) for shard in shards])
        except BaseException:
            await engine.close()
            raise
        return engine

    @classmethod
    @asynccontextmanager
    async def connected(cls, settings: Settings, limit_s: float = REACH_LIMIT_S) -> AsyncIterator[Self]:
        """An engine for the length of a block."""
        engine = await cls.connect(settings, limit_s)
        try:
            yield engine
        finally:
            await engine.close()

    async def close(self) -> None:
        """Hang up; the shards go on."""
        await self._whereabouts.close()
        await super().close()
