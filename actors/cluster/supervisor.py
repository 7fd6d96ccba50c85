"""The supervisor: the one Ray driver of a cluster of shards, in a process of its own.

It creates the shards as named, detached actors, so that Ray restarts them without it; creates again those
that Ray has given up; and moves those that find themselves on a node with another version. It may die at any
time: shards and gateways go on, and whoever started it starts another.

    python -m actors.cluster.supervisor < request

The request is a line of JSON; its standard input then stays open for as long as it is wanted. It says what
becomes of it in lines of JSON: `refused` with a reason and what to do, or `ready`, and then what it noticed.
"""

import asyncio
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.ray_checks import (
    NAMESPACE,
    Refused,
    called,
    cluster_of,
    connect,
    first_line,
    nodes,
    on,
    rooms,
)
from actors.cluster.ray_node import RESOURCE, stop_with_parent
from actors.cluster.shard_actor import STOP_LIMIT_S, ShardActor, installed
from actors.cluster.supervision import (
    REFUSED,
    VERSION,
    HostStatus,
    Place,
    Request,
    Said,
    ShardPlan,
    encode,
    take_stdout,
    to_path,
)
from persistence import cluster
from persistence.cluster import Cluster, Endpoint
from persistence.database import Database
from persistence.errors import PersistenceError

LOOK_S: Final = 1.0
NODES_S: Final = 5.0
ANSWER_S: Final = 10.0
ABANDONED_S: Final = 30.0
"""After so long a shard that somebody has stopped is started again."""
SERVING_S: Final = 120.0
"""How long a shard may take until it serves elsewhere."""
RELOCATIONS_MAX: Final = 3
"""How often a move is tried: a supervisor that finds no actor meanwhile creates one where there is room."""
POLL_S: Final = 0.05


def actor_name(found: Cluster, shard: int) -> str:
    """The name of a shard's actor: that of no other database's."""
    return f"shard-{shard}-{found.token[:6].hex()}"


class Supervisor:
    """Keeps the shards of a request running. This process is a driver of the Ray cluster already."""

    def __init__(
        self, request: Request, database: Database, found: Cluster, say: Callable[[Said], None]
    ) -> None:
        self._request = request
        self._database = database
        self._say = say
        self._stopping = threading.Event()
        self._cluster = found
        self._holder = ray.get_runtime_context().gcs_address
        self._states: dict[int, str] = {}  # what was last said of each shard
        self._pending: dict[int, tuple[float, ray.ObjectRef[bytes]]] = {}  # questions for their states
        self._ended_at: dict[int, float] = {}  # since when a shard that was stopped has not come back
        self._good_nodes: list[str] = []  # that have our version

    def stop(self) -> None:
        """Let `run` return. May be called from a signal handler or another thread."""
        self._stopping.set()

    def run(self) -> None:
        """Create the shards that are not there, and look after them all until `stop`."""
        stop_with_parent(self.stop)
        for shard in range(self._request.shards):
            self._create(shard)
        self._look_at_nodes()
        self._say(Said(event="ready"))
        seen_at = time.monotonic()
        while not self._stopping.wait(LOOK_S):
            for shard in range(self._request.shards):
                self._look(shard)
            if time.monotonic() - seen_at >= NODES_S:
                self._look_at_nodes()
                seen_at = time.monotonic()

        if self._request.stop_shards:
            self.stop_shards()

    def stop_shards(self) -> None:
        """Let every shard answer what waits and leave a snapshot, then end its process."""
        actors = [actor for shard in range(self._request.shards) if (actor := self._find(shard)) is not None]
        asked = [actor.stop.remote() for actor in actors]
        if asked:
            ray.wait(asked, num_returns=len(asked), timeout=STOP_LIMIT_S)
        for actor in actors:
            ray.kill(actor, no_restart=True)
        self._say(Said(event="ready"))

    def move(self) -> None:
        """Stop a shard in order and start it on the node that is wanted."""
        shard, owners = self._request.shard, self._owners()
        free = rooms(owner for owner in owners.values() if owner.shard != shard)
        wanted = [node for node in called(self._request.node) if free[node["NodeManagerAddress"]] > 0]
        if not wanted:
            raise Refused(
                f"the node {self._request.node} has no room for another shard",
                "Move another shard away from it first, or start it with a higher --shards-max.",
            )
        self._relocate(shard, wanted[0], owners.get(shard))
        self._say(Said(event="ready"))

    def drain(self) -> None:
        """Move all shards off a node, one after the other, to those with the most room: then it may end."""
        leaving = {node["NodeManagerAddress"] for node in called(self._request.node)}
        owners = self._owners()
        going = [owner for owner in owners.values() if owner.host in leaving]
        free = Counter(
            {address: room for address, room in rooms(owners.values()).items() if address not in leaving}
        )
        room = sum(count for count in free.values() if count > 0)
        if room < len(going):
            raise Refused(
                f"{len(going)} shards would have to leave {self._request.node}, and the other nodes have "
                f"room for {room}",
                "Start another node first, with `tessera cluster node --address HOST:PORT`.",
            )
        by_address = {node["NodeManagerAddress"]: node for node in nodes()}
        for owner in going:
            address, _ = free.most_common(1)[0]
            free[address] -= 1
            self._relocate(owner.shard, by_address[address], owner)
        self._say(Said(event="ready"))

    def _relocate(self, shard: int, node: dict[str, Any], owner: Endpoint | None) -> None:
        """Stop a shard in order, start it on a node, and wait until it serves there."""
        address = node["NodeManagerAddress"]
        for _ in range(RELOCATIONS_MAX):
            actor = self._find(shard)
            if actor is not None:
                ray.wait([actor.stop.remote()], timeout=STOP_LIMIT_S)
                ray.kill(actor, no_restart=True)
            self._create(shard, NodeAffinitySchedulingStrategy(node["NodeID"], soft=True))
            owner = self._next_owner(shard, owner)
            if owner.host == address:
                self._note(shard, f"it serves on {address}")
                return
        raise Refused(
            f"shard {shard} was started on {owner.host if owner else 'no node'} instead of {address} "
            f"{RELOCATIONS_MAX} times",
            "See `tessera cluster status`, and try again when every shard serves.",
        )

    def _next_owner(self, shard: int, before: Endpoint | None) -> Endpoint:
        deadline = time.monotonic() + SERVING_S
        while (owner := self._owners().get(shard)) is None or (before and owner.epoch <= before.epoch):
            if time.monotonic() > deadline:
                raise Refused(
                    f"shard {shard} does not serve {SERVING_S:.0f} s after it was stopped",
                    "`tessera cluster status` says why; its requests wait.",
                )
            time.sleep(POLL_S)
        return owner

    def _owners(self) -> dict[int, Endpoint]:
        return asyncio.run(cluster.endpoints(self._database))

    # Shards

    def _find(self, shard: int) -> Any:
        try:
            return ray.get_actor(actor_name(self._cluster, shard), NAMESPACE)
        except ValueError:
            return None

    def _create(self, shard: int, strategy: Any = "SPREAD") -> None:
        port = self._request.first_port + shard if self._request.first_port else 0
        plan = ShardPlan(
            version=VERSION,
            shard=shard,
            settings=self._request.settings,
            holder=self._holder,
            place=Place(host="", node="", port=port),
        )
        _actor_class.options(
            name=actor_name(self._cluster, shard),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
            num_cpus=0,
            resources={RESOURCE: 1},
            scheduling_strategy=strategy,
        ).remote(encode(plan))

    def _look(self, shard: int) -> None:
        """Ask a shard how it is, and create it again if there is no such actor any more."""
        if shard not in self._pending:
            actor = self._find(shard)
            if actor is None:
                self._note(shard, "it is created again: Ray has given it up")
                self._create(shard)
                return
            self._pending[shard] = (time.monotonic(), actor.status.remote())
        asked_at, answer = self._pending[shard]
        done, _ = ray.wait([answer], timeout=0)
        if not done:
            if time.monotonic() - asked_at > ANSWER_S:
                self._note(shard, "its process does not answer")
            return
        del self._pending[shard]
        try:
            self._judge(shard, msgspec.json.decode(ray.get(answer), type=HostStatus))
        except RayError as exc:
            self._note(shard, f"its process is gone: {first_line(exc)}")
        except msgspec.DecodeError:
            self._note(shard, "it is run by another version of Tessera")

    def _judge(self, shard: int, status: HostStatus) -> None:
        reason = f": {status.reason}" if status.reason else ""
        self._note(shard, f"{status.state} on {status.node}, process {status.pid}{reason}")
        if status.state != "ended":
            self._ended_at.pop(shard, None)
        elif time.monotonic() - self._ended_at.setdefault(shard, time.monotonic()) > ABANDONED_S:
            del self._ended_at[shard]
            self._replace(shard, "SPREAD")
        if status.state == "refused" and self._good_nodes:
            strategy = NodeAffinitySchedulingStrategy(random.choice(self._good_nodes), soft=True)  # noqa: S311
            self._replace(shard, strategy)

    def _replace(self, shard: int, strategy: Any) -> None:
        actor = self._find(shard)
        if actor is not None:
            ray.kill(actor, no_restart=True)
        self._create(shard, strategy)

    def _note(self, shard: int, text: str) -> None:
        if self._states.get(shard) != text:
            self._states[shard] = text
            self._say(Said(event="note", text=f"shard {shard}: {text}"))

    def _look_at_nodes(self) -> None:
        """Learn which nodes can host shards of our version."""
        asked = {found["NodeID"]: on(found["NodeID"], _installed).remote() for found in nodes()}
        if not asked:
            return
        done, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=LOOK_S)
        self._good_nodes = [node for node, answer in asked.items() if answer in done and _is_ours(answer)]


_ACTIONS: Final = {
    "run": Supervisor.run,
    "stop": Supervisor.stop_shards,
    "move": Supervisor.move,
    "drain": Supervisor.drain,
}
_actor_class = ray.remote(ShardActor)
_installed = ray.remote(num_cpus=0, max_retries=0)(installed)


def _is_ours(answer: Any) -> bool:
    try:
        return bool(ray.get(answer) == VERSION)
    except RayError:
        return False


def main() -> None:
    """Do what the request on standard input says."""
    output = take_stdout()

    def say(said: Said) -> None:
        output.write(encode(said) + b"\n")

    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request, dec_hook=to_path)
    try:
        with Database(request.settings.database) as database:
            connect(request, database, say)
            found = asyncio.run(cluster_of(database))
            _ACTIONS[request.action](Supervisor(request, database, found, say))
    except Refused as refusal:
        say(Said(event="refused", text=refusal.text, hint=refusal.hint))
        sys.exit(REFUSED)
    except PersistenceError as trouble:
        say(Said(event="refused", text=str(trouble)))
        sys.exit(REFUSED)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
