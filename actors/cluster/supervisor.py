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
from collections.abc import Callable
from typing import Any, Final

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster.ray_checks import NAMESPACE, Refused, cluster_of, connect, first_line, nodes, on
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
from persistence.cluster import Cluster
from persistence.database import Database
from persistence.errors import PersistenceError

LOOK_S: Final = 1.0
NODES_S: Final = 5.0
ANSWER_S: Final = 10.0
ABANDONED_S: Final = 30.0
"""After so long a shard that somebody has stopped is started again."""


def actor_name(found: Cluster, shard: int) -> str:
    """The name of a shard's actor: that of no other database's."""
    return f"shard-{shard}-{found.token[:6].hex()}"


class Supervisor:
    """Keeps the shards of a request running. This process is a driver of the Ray cluster already."""

    def __init__(self, request: Request, found: Cluster, say: Callable[[Said], None]) -> None:
        self._request = request
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
        """Stop a shard in order and start it on the node that is wanted (an id, a host name or an
        address)."""
        shard, node = self._request.shard, self._request.node
        wanted = [
            found["NodeID"]
            for found in nodes()
            if node in (found["NodeID"], found["NodeManagerHostname"], found["NodeManagerAddress"])
        ]
        if not wanted:
            names = ", ".join(sorted({found["NodeManagerAddress"] for found in nodes()}))
            raise Refused(f"no node that may host shards is called {node!r}", f"There are: {names}.")
        actor = self._find(shard)
        if actor is not None:
            ray.wait([actor.stop.remote()], timeout=STOP_LIMIT_S)
            ray.kill(actor, no_restart=True)
        self._create(shard, NodeAffinitySchedulingStrategy(wanted[0], soft=True))
        self._say(Said(event="ready"))

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


_ACTIONS: Final = {"run": Supervisor.run, "stop": Supervisor.stop_shards, "move": Supervisor.move}
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
            _ACTIONS[request.action](Supervisor(request, found, say))
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
