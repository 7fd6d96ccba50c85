"""What a Ray cluster must be like to host shards; any other is refused, saying what to do."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from actors.cluster.ray_node import RayNodeOptions
from gateway.options import ExitCode
from persistence.database import Database
from simulations.failover.programs import Program
from tests.integration.test_cli import tessera

START_S: Final = 60
OTHER_VERSION: Final = "9.9.9"


@contextmanager
def node(folder: Path, name: str, options: RayNodeOptions, **variables: str) -> Iterator[None]:
    """A node, for the length of a block."""
    encoded = msgspec.json.encode(options).decode()
    program = Program(folder / f"{name}.log", "actors.cluster.ray_node", encoded, **variables)
    try:
        program.until(lambda: program.logged("Ray runtime started") > 0, START_S)
        yield
    finally:
        program.end()


def pretending(folder: Path) -> str:
    """A folder that makes whoever imports from it believe that another version of Tessera is installed."""
    about = folder / "versions" / f"tessera-{OTHER_VERSION}.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text(f"Metadata-Version: 2.1\nName: tessera\nVersion: {OTHER_VERSION}\n")
    return str(about.parent.parent)


async def test_nodes_that_can_not_host_shards_are_refused(database: Database, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"

    async def refusal() -> str:
        serve = ("serve", "--port", "0", "--runtime", "ray", "--address", address)
        told = await asyncio.to_thread(tessera, *serve, "--database-url", database.dsn)
        assert told.returncode == ExitCode.CLUSTER, told.stderr
        return told.stderr

    with node(tmp_path, "head", RayNodeOptions(head=True, port=port, shards_max=0, cpus=0)):
        said = await refusal()
        assert "have room for 0 shards, not for 1" in said
        assert "Start nodes with `tessera cluster node`" in said
        other = RayNodeOptions(address=address, shards_max=1, cpus=1)
        with node(tmp_path, "other", other, PYTHONPATH=pretending(tmp_path)):
            said = await refusal()
            assert f"has Tessera {OTHER_VERSION}, and this machine" in said
            assert "Install the same version on every machine." in said
