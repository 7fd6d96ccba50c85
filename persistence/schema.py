"""The database's schema: numbered migrations, each applied once, in order, in a transaction of its own.

`migrations/NNNN_name.sql` are the migrations. What was applied is recorded with a checksum, so a database
that was migrated by other code is recognised: a newer one is refused (SchemaNewer), a differing one too
(SchemaChanged).
"""

import hashlib
from importlib.resources import files
from typing import NamedTuple

from psycopg import sql

from persistence.database import Database, Session, translated
from persistence.errors import SchemaChanged, SchemaNewer, SchemaOlder
from persistence.statements import statements

_APPLICATION = "tessera migrate"


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    name: str
    checksum: str
    content: bytes


def migrations() -> list[Migration]:
    """All that this code knows, in order. Raises ValueError if their numbers are not 1, 2, 3 …"""
    found = []
    for file in files("persistence").joinpath("migrations").iterdir():
        if not file.name.endswith(".sql"):
            continue
        number, _, name = file.name.removesuffix(".sql").partition("_")
        content = file.read_bytes()
        found.append(Migration(int(number), name, hashlib.sha256(content).hexdigest(), content))
    found.sort()
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("the migrations are not numbered 1, 2, 3 …")
    return found


async def migrate(database: Database) -> list[Migration]:
    """Brings the schema up to date and returns what it applied. Safe to run by several processes at once.

    Raises SchemaNewer or SchemaChanged, and then has changed nothing.
    """
    known = migrations()
    async with database.session(_APPLICATION) as session:
        if len(await _applied(session, known)) == len(known):
            return []
        with translated():
            await _prepare(session, database.schema)
        return [migration for migration in known if await _apply(session, known, migration)]


async def is_current(database: Database) -> bool:
    """Whether every migration has been applied. Raises as `migrate`; changes nothing."""
    known = migrations()
    async with database.session(_APPLICATION) as session:
        return len(await _applied(session, known)) == len(known)


async def is_made(database: Database) -> bool:
    """Whether there is a schema at all; one that is there is current. Raises as `migrate`, and SchemaOlder;
    changes nothing."""
    known = migrations()
    async with database.session(_APPLICATION) as session:
        found = len(await _applied(session, known))
    if 0 < found < len(known):
        raise SchemaOlder(
            f"this database has schema version {found}, but this Tessera needs version {len(known)}: end "
            "whatever uses it, and start `tessera serve` of this release, with --runtime local or ray, "
            "which brings it up to date",
            found=found,
            known=len(known),
        )
    return found == len(known)


async def _prepare(session: Session, schema: str) -> None:
    async with session.transaction():
        await session.execute(statements("schema")["lock"])
        await session.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        await session.execute(statements("schema")["prepare"])


async def _apply(session: Session, known: list[Migration], migration: Migration) -> bool:
    """Applies a migration unless somebody else has just done so."""
    with translated():
        async with session.transaction():
            await session.execute(statements("schema")["lock"])
            if len(await _applied(session, known)) >= migration.number:
                return False
            await session.execute(migration.content)
            row = (migration.number, migration.name, migration.checksum)
            await session.execute(statements("schema")["record"], row)
            return True


async def _applied(session: Session, known: list[Migration]) -> list[int]:
    """The numbers of the migrations in this database, which must be the first of ours."""
    with translated():
        cursor = await session.execute(statements("schema")["prepared"])
        if await cursor.fetchone() == (False,):
            return []
        cursor = await session.execute(statements("schema")["applied"])
        rows: list[tuple[int, str, str]] = await cursor.fetchall()
    newest = len(known)
    if rows and rows[-1][0] > newest:
        raise SchemaNewer(
            f"this database has schema version {rows[-1][0]}, but this Tessera knows versions up to "
            f"{newest}: use the release that migrated it, or a newer one",
            found=rows[-1][0],
            known=newest,
        )
    for (number, name, checksum), ours in zip(rows, known, strict=False):
        if (number, name, checksum) != ours[:3]:
            raise SchemaChanged(
                f"migration {number} of this database ({name}) is not the one this Tessera knows",
                number=number,
            )
    return [number for number, _, _ in rows]
