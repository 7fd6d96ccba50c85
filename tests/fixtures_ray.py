"""A Ray cluster of a head and two nodes on this machine, for engines whose shards are on it.

It is started once, by the first test that needs it, in about ten seconds. Each engine has a database and
shards of its own, which end with it.
"""

import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest

from actors.cluster.ray_node import RayNodeOptions
from actors.cluster.ray_runtime import RayRuntime, carry_out
from actors.cluster.supervision import RayOptions
from actors.runtime import Engine
from actors.settings import Settings
from simulations.failover.programs import Program

START_S: Final = 60
NODES: Final = ("127.0.0.2", "127.0.0.3")
ROOMS: Final = 2
"""Shards that a node may host: an engine's four are on both."""


def free_address() -> str:
    """Where nobody listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextmanager
def node(folder: Path, name: str, options: RayNodeOptions, **variables: str) -> Iterator[Program]:
    """A node, for the length of a block."""
    encoded = msgspec.json.encode(options).decode()
    program = Program(folder / f"{name}.log", "actors.cluster.ray_node", encoded, **variables)
    try:
        program.until(lambda: program.logged("Ray runtime started") > 0, START_S)
        yield program
    finally:
        program.end()


@contextmanager
def head(folder: Path, address: str, **variables: str) -> Iterator[Program]:
    """A head that hosts no shards, for the length of a block."""
    port = int(address.rpartition(":")[2])
    options = RayNodeOptions(head=True, port=port, node_ip="127.0.0.1", shards_max=0, cpus=0)
    with node(folder, "head", options, **variables) as program:
        yield program


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Where the head of a cluster with two nodes is."""
    address = free_address()
    with tempfile.TemporaryDirectory(prefix="tessera-ray-") as folder, ExitStack() as stack:
        stack.enter_context(head(Path(folder), address))
        for ip in NODES:
            options = RayNodeOptions(address=address, node_ip=ip, shards_max=ROOMS, cpus=1)
            stack.enter_context(node(Path(folder), ip, options))
        yield address


@asynccontextmanager
async def on_ray(settings: Settings, address: str) -> AsyncIterator[Engine]:
    """An engine whose shards Ray runs; they are stopped in order at the end."""
    async with RayRuntime.running_runtime(settings, RayOptions(address=address)) as engine:
        yield engine
    await carry_out(settings, "stop", address)
