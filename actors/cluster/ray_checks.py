"""Whether a Ray cluster can host the shards of a database. What can't be is refused, saying what to do.

Whoever calls `connect` is a driver of the Ray cluster afterwards.
"""

import asyncio
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.ray_node import RESOURCE
from actors.cluster.shard_actor import NodeProbe, probe
from actors.cluster.supervision import REFUSED, VERSION, Request, Said, encode
from actors.settings import Settings
from persistence import cluster
from persistence.cluster import Endpoint
from persistence.database import Database
from persistence.errors import LockHeld
from persistence.log_session import LogSession

NAMESPACE: Final = "tessera"
PROBE_S: Final = 60.0
"""How long a node may take to start a worker, import Tessera and reach PostgreSQL."""
REACH_S: Final = 3.0
"""How long the address of a Ray cluster is tried: Ray itself would try for three minutes."""

_probe = ray.remote(num_cpus=0, max_retries=0)(probe)


class Refused(Exception):  # noqa: N818  # an ending, told to whoever asked
    """The cluster can't be run like this: why, and what to do."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text, hint)
        self.text = text
        self.hint = hint


def connect(request: Request, database: Database, say: Callable[[Said], None]) -> None:
    """Become a driver of the Ray cluster, and see whether it can host the shards. Raises Refused."""
    _reach(request.address)
    guard = threading.Timer(PROBE_S, _give_up, (request.address, say))
    guard.start()
    try:
        ray.init(
            address=request.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR
        )
    except RuntimeError as exc:
        raise Refused(
            f"Ray at {request.address} can't be used: {exc}",
            "Install the same versions of Python and Ray on every machine.",
        ) from exc
    except ConnectionError as exc:
        raise Refused(
            f"Ray at {request.address} refuses us: {exc}",
            "If it was started with a token, give the same RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH here.",
        ) from exc
    finally:
        guard.cancel()
    _check_room(request, say)
    _check_nodes(request.settings)
    asyncio.run(_check_holder(request.settings, database, ray.get_runtime_context().gcs_address))


def nodes() -> list[dict[str, Any]]:
    """The nodes that are alive and may host shards."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # as Ray has it
    return [node for node in found if node["Alive"] and node["Resources"].get(RESOURCE)]


def called(name: str) -> list[dict[str, Any]]:
    """The nodes with this id, host name or address, at least one. Raises Refused."""
    found = nodes()
    wanted = [
        node
        for node in found
        if name in (node["NodeID"], node["NodeManagerHostname"], node["NodeManagerAddress"])
    ]
    if not wanted:
        names = ", ".join(sorted({node["NodeManagerAddress"] for node in found}))
        raise Refused(f"no node that may host shards is called {name!r}", f"There are: {names}.")
    return wanted


def rooms(endpoints: Iterable[Endpoint]) -> Counter[str]:
    """How many more shards each node has room for, by its address."""
    free = Counter({node["NodeManagerAddress"]: int(node["Resources"][RESOURCE]) for node in nodes()})
    free.subtract(endpoint.host for endpoint in endpoints if endpoint.host in free)
    return free


def on(node: str, function: Any) -> Any:
    """A remote function, to be run on that node and no other."""
    return function.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


async def cluster_of(database: Database) -> cluster.Cluster:
    """The cluster of a database; whoever starts a supervisor has made it."""
    found = await cluster.read(database)
    assert found is not None
    return found


def first_line(exc: BaseException) -> str:
    """What an error of Ray's is about, without its stack."""
    lines = str(exc).strip().splitlines()
    return lines[-1] if lines else type(exc).__name__


def _reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, ValueError) as exc:
        raise Refused(
            f"Ray can't be reached at {address}: {exc}",
            "Start its head with `tessera cluster node --head`, or correct --address HOST:PORT.",
        ) from exc


def _give_up(address: str, say: Callable[[Said], None]) -> None:
    """What answers there is not the head of a Ray cluster; Ray waits for minutes until it says so."""
    text = f"what answers at {address} is no head of a Ray cluster"
    say(Said(event="refused", text=text, hint="Correct --address HOST:PORT."))
    os._exit(REFUSED)


def _check_room(request: Request, say: Callable[[Said], None]) -> None:
    rooms = [node["Resources"][RESOURCE] for node in nodes()]
    if sum(rooms) < request.shards:
        raise Refused(
            f"the nodes of Ray at {request.address} have room for {sum(rooms):.0f} shards, not for "
            f"{request.shards}",
            "Start nodes with `tessera cluster node`, or with "
            f"`ray start … --resources='{{\"{RESOURCE}\": 8}}'`.",
        )
    if len(rooms) > 1 and sum(rooms) - max(rooms) < request.shards:
        say(Said(event="note", text="if the largest node is lost, the others have no room for all shards"))


def _check_nodes(settings: Settings) -> None:
    """Whether Tessera is there on every node, in this version, and reaches PostgreSQL."""
    for node in nodes():
        if settings.database_url is None and node["NodeManagerHostname"] != socket.gethostname():
            raise Refused(
                f"the embedded PostgreSQL serves this machine only, and {node['NodeManagerHostname']} is "
                "another one",
                "Give a PostgreSQL that all machines reach, with --database-url.",
            )
    encoded = encode(settings)
    asked = {node["NodeManagerAddress"]: on(node["NodeID"], _probe).remote(encoded) for node in nodes()}
    deadline = time.monotonic() + PROBE_S
    for address, answer in asked.items():
        try:
            left_s = max(0.0, deadline - time.monotonic())
            found = msgspec.json.decode(ray.get(answer, timeout=left_s), type=NodeProbe)
        except (RayError, msgspec.DecodeError) as exc:
            raise Refused(
                f"the node {address} can't run Tessera: {first_line(exc)}",
                f"Install Tessera {VERSION} there, with the extra `cluster`.",
            ) from exc
        if found.version != VERSION:
            raise Refused(
                f"the node {address} has Tessera {found.version}, and this machine {VERSION}",
                "Install the same version on every machine.",
            )
        if found.trouble:
            raise Refused(
                f"from the node {address} PostgreSQL can't be used: {found.trouble}",
                "Let that machine reach it under the same --database-url, or stop that node.",
            )


async def _check_holder(settings: Settings, database: Database, holder: str) -> None:
    """Only one Ray cluster may start the shards; and nobody's are taken while they live, unless asked."""
    found = await cluster_of(database)
    if found.holder == holder:
        return
    for shard in range(0 if settings.takeover else found.shards):
        session = await LogSession.connect(database, shard, time.time_ns)
        try:
            await session.lock(takeover=False, wait_s=0)
        except LockHeld as held:
            raise Refused(
                f"this database is in use: {held}",
                f"If it is the cluster at {found.holder}, give --address {found.holder}."
                if found.holder
                else "",
            ) from held
        finally:
            await session.close()
    await cluster.hold(database, holder)
