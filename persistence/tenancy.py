"""A tenant is a log, and a log has one tenant.

Everything that belongs to a tenant is in one schema: its log, the tables that are made from it, its API keys
and its audit log. Nothing of it is in another tenant's schema, so no query, stream or key finds it there.
Several schemas may share a PostgreSQL; each has engines and gateways of its own, and with them metrics and
rates. An engine that is told another tenant than the schema has is refused before it reads anything.
"""

from typing import Final

from persistence.database import Database, translated
from persistence.errors import DatabaseRefused
from persistence.statements import statements

_SQL: Final = statements("tenancy")


async def claim(database: Database, tenant: str) -> None:
    """Make sure that this schema is the tenant's; one that is new becomes so. Raises DatabaseRefused."""
    async with database.session(f"tessera {database.schema} tenant") as session:
        with translated():
            found = await (await session.execute(_SQL["read"])).fetchone()
            if found is None:
                await session.execute(_SQL["claim"], (tenant,))
                found = await (await session.execute(_SQL["read"])).fetchone()
    assert found is not None
    if found[0] != tenant:
        raise DatabaseRefused(
            f"the schema {database.schema!r} of this database is another tenant's: set "
            f"TESSERA_DATABASE_SCHEMA to one that is for {tenant!r}, or TESSERA_TENANT to whose this one is",
            reason="settings",
        )
