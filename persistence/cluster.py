"""What the processes of a cluster learn of each other through PostgreSQL: the token, and where each shard is.

An endpoint is a hint: who speaks to an owner that has been replaced gets no answer from it, since only the
owner of the log can give one.
"""

import secrets
from typing import Final

import msgspec

from persistence.database import Database, translated
from persistence.errors import DatabaseRefused
from persistence.session_pool import SessionPool
from persistence.statements import statements

TOKEN_BYTES: Final = 32

_SQL: Final = statements("cluster")


class Cluster(msgspec.Struct, frozen=True):
    """A cluster's token, its number of shards, and who may start them."""

    token: bytes
    shards: int
    holder: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where a shard can be spoken to since it was opened with that epoch."""

    shard: int
    epoch: int
    host: str
    port: int
    node: str
    pid: int
    version: str
    since: str = ""  # filled in by PostgreSQL


class Endpoints:
    """Reads where the shards are, again and again, on a session of its own."""

    def __init__(self, database: Database) -> None:
        self._pool = SessionPool(database, f"tessera {database.schema} endpoints", size=1)

    async def read(self) -> list[Endpoint]:
        """Where they are. Raises QueryFailed, DatabaseUnreachable."""
        names = Endpoint.__struct_fields__
        rows = await self._pool.fetch(_SQL["endpoints"])
        return [Endpoint(**dict(zip(names, row, strict=True))) for row in rows]

    async def close(self) -> None:
        """End the session."""
        await self._pool.close()


async def join(database: Database, shards: int) -> Cluster:
    """The cluster of this database, made if there is none. Raises DatabaseRefused if it has another number of
    shards."""
    async with database.session(f"tessera {database.schema} cluster") as session:
        with translated():
            await session.execute(_SQL["join"], (secrets.token_bytes(TOKEN_BYTES), shards))
    found = await read(database)
    assert found is not None
    if found.shards != shards:
        raise DatabaseRefused(
            f"this database was made for {found.shards} shards, not {shards}: say --shards {found.shards}",
            reason="settings",
            shards=found.shards,
        )
    return found


async def read(database: Database) -> Cluster | None:
    """The cluster of this database, None if it has never had one."""
    async with database.session(f"tessera {database.schema} cluster") as session:
        with translated():
            found = await (await session.execute(_SQL["cluster"])).fetchone()
    return None if found is None else Cluster(*found)


async def endpoints(database: Database) -> dict[int, Endpoint]:
    """Where the shards are now, or were last."""
    reader = Endpoints(database)
    try:
        return {endpoint.shard: endpoint for endpoint in await reader.read()}
    finally:
        await reader.close()


async def hold(database: Database, holder: str) -> None:
    """Let `holder` start the shards from now on, and nobody else."""
    async with database.session(f"tessera {database.schema} cluster") as session:
        with translated():
            await session.execute(_SQL["hold"], (holder,))


async def publish(database: Database, endpoint: Endpoint) -> bool:
    """Say where a shard is; false if somebody has its log with a higher epoch."""
    place = (endpoint.host, endpoint.port, endpoint.node, endpoint.pid, endpoint.version)
    async with database.session(f"tessera {database.schema} cluster") as session:
        with translated():
            cursor = await session.execute(_SQL["publish"], (endpoint.shard, endpoint.epoch, *place))
            return cursor.rowcount == 1
