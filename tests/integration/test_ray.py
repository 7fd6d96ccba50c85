"""What a Ray cluster must be like to host shards; any other is refused, saying what to do."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from actors.cluster.ray_node import RayNodeOptions
from gateway.options import ExitCode
from persistence.database import Database
from tests.fixtures_ray import free_address, head, node
from tests.integration.test_cli import tessera

OTHER_VERSION: Final = "9.9.9"
TOKEN: Final = "a" * 64
OTHER_TOKEN: Final = "b" * 64
Refusal: TypeAlias = Callable[..., Awaitable[str]]


@pytest.fixture
def address() -> str:
    """Where the head of a test will be."""
    return free_address()


@pytest.fixture
def refusal(address: str, database: Database) -> Refusal:
    """What `tessera serve` says that does not start there, with these variables in its environment."""

    async def ask(database_url: str = database.dsn, **variables: str) -> str:
        serve = ("serve", "--port", "0", "--runtime", "ray", "--address", address)
        told = await asyncio.to_thread(tessera, *serve, "--database-url", database_url, **variables)
        assert told.returncode == ExitCode.CLUSTER, told.stderr
        return told.stderr

    return ask


def pretending(folder: Path) -> str:
    """A folder that makes whoever imports from it believe that another version of Tessera is installed."""
    about = folder / "versions" / f"tessera-{OTHER_VERSION}.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text(f"Metadata-Version: 2.1\nName: tessera\nVersion: {OTHER_VERSION}\n")
    return str(about.parent.parent)


def pretending_ray(folder: Path) -> str:
    """A folder that makes whoever imports from it another version of Ray."""
    customized = folder / "ray-versions" / "sitecustomize.py"
    customized.parent.mkdir()
    customized.write_text(f"import ray\n\nray.__version__ = {OTHER_VERSION!r}\n")
    return str(customized.parent)


async def test_nodes_that_can_not_host_shards_are_refused(
    address: str, refusal: Refusal, database: Database, tmp_path: Path
) -> None:
    with head(tmp_path, address):
        said = await refusal()
        assert "have room for 0 shards, not for 1" in said
        assert "Start nodes with `tessera cluster node`" in said
        options = RayNodeOptions(address=address, shards_max=1, cpus=1)
        with node(tmp_path, "other", options, PYTHONPATH=pretending(tmp_path)):
            said = await refusal()
            assert f"has Tessera {OTHER_VERSION}, and this machine" in said
            assert "Install the same version on every machine." in said

        parts = conninfo_to_dict(database.dsn)
        here = str(parts.pop("host"))
        with node(tmp_path, "cut off", options, PGHOST=str(tmp_path)):
            said = await refusal(make_conninfo("", **parts), PGHOST=here, TESSERA_CONNECT_LIMIT_S="0.5")
            assert "PostgreSQL can't be used: " in said
            assert "Let that machine reach it" in said


async def test_a_head_with_another_token_is_refused(address: str, refusal: Refusal, tmp_path: Path) -> None:
    with head(tmp_path, address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN):
        said = await refusal(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=OTHER_TOKEN)
        assert f"Ray at {address} refuses us" in said
        assert "give the same RAY_AUTH_TOKEN" in said
        said = await refusal(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
        assert "have room for 0 shards" in said, "with the token it goes on"


async def test_another_version_of_ray_is_refused(address: str, refusal: Refusal, tmp_path: Path) -> None:
    with head(tmp_path, address, PYTHONPATH=pretending_ray(tmp_path)):
        said = await refusal()
        assert OTHER_VERSION in said
        assert "Install the same versions of Python and Ray on every machine." in said
