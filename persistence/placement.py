"""Where buckets are, as the database has it: written once, when the database is made."""

from typing import Final

from engine.placement import ONE_SHARD, Placement
from persistence.database import Database, Session, translated
from persistence.errors import DatabaseRefused
from persistence.statements import statements

_SQL: Final = statements("placement")


async def agreed(database: Database, shards: int | None = None) -> Placement:
    """The placement of this database. A new one is made for so many `shards`, None being 1.

    Raises DatabaseRefused if it was made for another number.
    """
    async with database.session(f"tessera {database.schema} placement") as session:
        with translated():
            found = await _read(session)
            if found is None:
                written = await (await session.execute(_SQL["has_log"])).fetchone()
                made = Placement.even(shards or 1) if written == (False,) else ONE_SHARD
                await session.execute(_SQL["write"], (made.shard_of_bucket.tolist(),))
                found = await _read(session)
    assert found is not None
    if shards not in {None, found.shards}:
        raise DatabaseRefused(
            f"this database was made for {found.shards} shards, not {shards}, and that can't be changed: "
            f"say --shards {found.shards} or nothing, or take another database",
            reason="settings",
            shards=found.shards,
        )
    return found


async def known(database: Database) -> Placement:
    """The placement of a database that may be in use; nothing is written."""
    async with database.session(f"tessera {database.schema} placement") as session:
        with translated():
            found = await _read(session)
    return ONE_SHARD if found is None else found


async def _read(session: Session) -> Placement | None:
    row = await (await session.execute(_SQL["read"])).fetchone()
    return None if row is None else Placement(row[0])
