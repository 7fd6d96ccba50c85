"""How the shards of a cluster are, as anybody sees it who can reach PostgreSQL and them."""

import asyncio
from typing import Final

import msgspec

from actors.cluster.remote_shard import RemoteShard
from actors.cluster.whereabouts import Whereabouts
from actors.doors import Health
from actors.errors import ShardStopped
from actors.settings import Settings
from persistence import cluster, schema
from persistence.cluster import Endpoint
from persistence.database import Database

ANSWER_S: Final = 3.0


class ShardReport(msgspec.Struct, frozen=True, kw_only=True):
    """Where a shard is and how it is; `trouble` says why it does not answer."""

    shard: int
    endpoint: Endpoint | None
    health: Health | None
    trouble: str = ""


class ClusterReport(msgspec.Struct, frozen=True, kw_only=True):
    """A database's cluster; without one there are no shards."""

    holder: str  # the Ray cluster that may start the shards
    shards: list[ShardReport]

    @property
    def serving(self) -> bool:
        """Whether every shard serves."""
        return bool(self.shards) and all(
            report.health is not None and report.health.status == "serving" for report in self.shards
        )


async def cluster_report(settings: Settings) -> ClusterReport:
    """Ask every shard how it is. Raises PersistenceError."""
    database = Database(settings.database)
    await asyncio.to_thread(database.start)
    try:
        found = await cluster.read(database) if await schema.is_made(database) else None
        if found is None:
            return ClusterReport(holder="", shards=[])
        whereabouts = Whereabouts(database)
        try:
            reports = await asyncio.gather(
                *[
                    _report(shard, found.token, whereabouts, settings, database)
                    for shard in range(found.shards)
                ]
            )
        finally:
            await whereabouts.close()
        return ClusterReport(holder=found.holder, shards=reports)
    finally:
        await asyncio.to_thread(database.stop)


async def _report(
    shard: int, token: bytes, whereabouts: Whereabouts, settings: Settings, database: Database
) -> ShardReport:
    remote = RemoteShard(shard, token, whereabouts, settings, database)
    health, trouble = None, ""
    try:
        await remote.reached(ANSWER_S)
        health = remote.health()
    except ShardStopped as stopped:
        trouble = stopped.reason
    finally:
        await remote.close()
    return ShardReport(shard=shard, endpoint=whereabouts.of(shard), health=health, trouble=trouble)
