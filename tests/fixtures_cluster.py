"""Engines on every runtime; and shards behind sockets, as gateways of a cluster meet them, without Ray:
each in a thread of its own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from actors.cluster.engine import ClusterEngine
from actors.cluster.shard_host import ShardHost
from actors.cluster.supervision import VERSION, HostStatus, Place, ShardPlan
from actors.runtime import Engine
from actors.settings import Settings
from persistence import cluster, placement
from persistence.database import Database
from tests.fixtures_engine import BOUND_S
from tests.fixtures_ray import on_ray

LOCAL = ["local"]
LOCAL_AND_CLUSTER = [*LOCAL, "cluster"]
EVERYWHERE = [*LOCAL_AND_CLUSTER, "4 shards"]
ON_RAY_TOO = [*EVERYWHERE, "ray"]
"""Runtimes: one shard in this process, or reached over a socket; four in this process, or on two nodes of a
Ray cluster."""
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
async def engine_on(runtime: str, settings: Settings, ray_address: str = "") -> AsyncIterator[Engine]:
    """An engine on one of the runtimes; `ray_address` is where the head of a cluster is, for those on Ray."""
    if runtime in {"4 shards", "ray"}:
        settings = msgspec.structs.replace(settings, shards=4)
    async with AsyncExitStack() as stack:
        match runtime:
            case "cluster":
                await stack.enter_async_context(hosted(settings))
                yield await stack.enter_async_context(ClusterEngine.connected(settings))
            case "ray":
                yield await stack.enter_async_context(on_ray(settings, ray_address))
            case _:
                yield await stack.enter_async_context(Engine.running(settings))
