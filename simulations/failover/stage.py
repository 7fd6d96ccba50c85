"""A small cluster on this machine: PostgreSQL, a head, two nodes for shards or three, and two gateways.

The first gateway has a supervisor; the second one only serves. Nodes have addresses of their own on the
loopback network, so that they can be told apart.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

import msgspec

from actors.cluster.ray_node import RayNodeOptions
from actors.cluster.ray_runtime import carry_out
from actors.cluster.status import ClusterReport, cluster_report
from actors.settings import Settings
from gateway.options import CommandFailed, ExitCode, run
from persistence.cluster import Endpoint
from persistence.embedded import EmbeddedServer
from simulations.failover.programs import Program

START_S: Final = 120.0
ADDRESSES: Final = ("127.0.0.2", "127.0.0.3")
"""Of the nodes."""
ADDED: Final = "127.0.0.4"
"""Of a node that joins later, and leaves again."""
ROOMS: Final = 8
"""Shards that a node may host; each can take all of them."""
HEAD: Final = "head"
GATEWAYS: Final = ("gateway-0", "gateway-1")


class Stage:
    """The cluster. Use `opened`. `programs` are its head, its nodes by their addresses, and its gateways."""

    def __init__(self, folder: Path, shards: int, keep_head: bool) -> None:
        self.folder = folder
        self.server = EmbeddedServer(folder)
        self.settings = Settings(data_dir=folder)
        self.programs: dict[str, Program] = {}
        self._shards = shards
        self.keep_head = keep_head
        self._head_port, *self._ports = _free_ports(1 + len(GATEWAYS))
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports]

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, shards: int = 1, keep_head: bool = False) -> Iterator[Self]:
        """A cluster that serves; with `keep_head` its head survives its death. Nothing of it runs at the
        end."""
        stage = cls(folder, shards, keep_head)
        with ExitStack() as stack, stage.server:
            stack.callback(stage._end)
            for name in (HEAD, *ADDRESSES, *GATEWAYS):
                stage.start(name)
            yield stage

    def start(self, name: str) -> None:
        """Start one of its programs, and wait until it does its work."""
        if name in GATEWAYS:
            self.programs[name] = self._gateway(name)
            self.programs[name].announced(START_S)
        else:
            self.programs[name] = self._node(name)
            self.await_joined(name, 1)

    def await_joined(self, name: str, times: int) -> None:
        """Wait until a node has joined so many times: Ray says so when it has."""
        program = self.programs[name]
        program.until(lambda: program.logged("Ray runtime started") >= times, START_S)

    # What is where

    def report(self) -> ClusterReport:
        """How the shards are."""
        return run(cluster_report(self.settings))

    def owner(self, shard: int = 0) -> Endpoint:
        """Where a shard is."""
        endpoint = self.report().shards[shard].endpoint
        assert endpoint is not None
        return endpoint

    def await_owner(self, after: Endpoint, limit_s: float = START_S) -> Endpoint:
        """The next owner of a shard. Raises CommandFailed if there is none in time."""
        deadline = time.monotonic() + limit_s
        while (found := self.owner(after.shard)).epoch <= after.epoch:
            if time.monotonic() > deadline:
                raise CommandFailed(ExitCode.FAILED, f"Shard {after.shard} has no new owner.")
        return found

    def move(self, shard: int, address: str) -> None:
        """Move a shard to a node, on purpose."""
        run(carry_out(self.settings, "move", self._head, shard=shard, node=address))

    def drain(self, address: str) -> None:
        """Move all shards off a node."""
        run(carry_out(self.settings, "drain", self._head, node=address))

    # Programs

    @property
    def _head(self) -> str:
        return f"127.0.0.1:{self._head_port}"

    def _node(self, name: str) -> Program:
        options = RayNodeOptions(address=self._head, node_ip=name, shards_max=ROOMS, cpus=1)
        if name == HEAD:
            storage = str(self.folder / "head") if self.keep_head else None
            options = RayNodeOptions(
                head=True, port=self._head_port, node_ip="127.0.0.1", shards_max=0, cpus=0, storage=storage
            )
        return Program(
            self.folder / f"{name}.log", "actors.cluster.ray_node", msgspec.json.encode(options).decode()
        )

    def _gateway(self, name: str) -> Program:
        number = GATEWAYS.index(name)
        runtime = (
            ("ray", "--address", self._head, "--shards", str(self._shards)) if number == 0 else ("remote",)
        )
        return Program(
            self.folder / f"{name}.log",
            *("gateway.cli", "serve", "--json", "--port", str(self._ports[number])),
            *("--data-dir", str(self.folder), "--runtime", *runtime),
        )

    def _end(self) -> None:
        """End everything, shards with snapshots if nothing has gone wrong."""
        with ExitStack() as stack:
            for name in (HEAD, *ADDRESSES, ADDED, *GATEWAYS):
                if name in self.programs:
                    if name == GATEWAYS[0]:
                        stack.callback(self._stop_shards)
                    stack.callback(self.programs[name].end)

    def _stop_shards(self) -> None:
        run(carry_out(self.settings, "stop", self._head))


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has now, outside of what Ray's workers take."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
