"""Shards behind sockets, as gateways of a cluster meet them, without Ray: each in a thread of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from actors.cluster.engine import ClusterEngine
from actors.cluster.shard_host import ShardHost
from actors.cluster.supervision import VERSION, HostStatus, Place, ShardPlan
from actors.runtime import Engine
from actors.settings import Settings
from persistence import cluster, placement
from persistence.database import Database
from tests.fixtures_engine import BOUND_S

LOCAL_AND_CLUSTER = ["local", "cluster"]
EVERYWHERE = [*LOCAL_AND_CLUSTER, "4 shards"]
"""Runtimes: shards in this process, reached over sockets, or four of them in this process."""
PLACE = Place(host="127.0.0.1", node="here")


@asynccontextmanager
async def hosted(settings: Settings) -> AsyncIterator[list[HostStatus]]:
    """The shards of a cluster on this database, each hosted by a thread; what they say of themselves."""
    database = Database(settings.database)
    where = await placement.agreed(database, settings.shards)
    found = await cluster.join(database, where.shards)
    said: list[HostStatus] = []
    hosts = []
    for shard in range(where.shards):
        plan = ShardPlan(version=VERSION, shard=shard, settings=settings, holder=found.holder, place=PLACE)
        hosts.append(ShardHost(plan, said.append))
        hosts[-1].start()
    try:
        yield said
    finally:
        stopped = await asyncio.gather(*[asyncio.to_thread(host.stop, BOUND_S) for host in hosts])
        assert all(stopped), said


@asynccontextmanager
async def engine_on(runtime: str, settings: Settings) -> AsyncIterator[Engine]:
    """An engine on one of the runtimes."""
    if runtime == "4 shards":
        settings = msgspec.structs.replace(settings, shards=4)
    if runtime != "cluster":
        async with Engine.running(settings) as engine:
            yield engine
    else:
        async with hosted(settings), ClusterEngine.connected(settings) as engine:
            yield engine
