"""Other people's webhooks that we take in, in PostgreSQL: their secrets, and what they do."""

from typing import Any, Final

from persistence.database import Database, translated
from persistence.session_pool import SessionPool
from persistence.statements import statements
from persistence.webhook_secrets import OLD_SECRETS_MAX, Secrets

_SQL: Final = statements("webhook_sources")


class StoredSource(Secrets, frozen=True, kw_only=True):
    """A source as it is stored. Times in nanoseconds since 1970."""

    name: str
    created: int
    rules: bytes  # JSON
    principal: str = ""


class WebhookSources:
    """The sources of a tenant."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._application = f"tessera {database.schema} sources"
        self._pool = SessionPool(database, self._application, size=2)

    async def close(self) -> None:
        """Ends the sessions."""
        await self._pool.close()

    async def add(self, source: StoredSource) -> bool:
        """Store a new source; false if there is one of that name."""
        row = {name: getattr(source, name) for name in ("name", "created", "principal", "secret")}
        return await self._changed("add", row | {"rules": source.rules.decode()})

    async def get(self, name: str) -> StoredSource | None:
        """A source."""
        found = await self._find(name=name, limit=1)
        return found[0] if found else None

    async def page(
        self, after: tuple[int, str] | None, limit: int, *, newest_first: bool = False
    ) -> list[StoredSource]:
        """Sources in order of creation, or the other way round, after one given by its time and name."""
        created, name = after or (None, None)
        return await self._find(created=created, after=name, limit=limit, newest_first=newest_first)

    async def change(self, name: str, rules: bytes) -> bool:
        """Give a source other rules; whether there is one."""
        return await self._changed("change", {"name": name, "rules": rules.decode()})

    async def rotate(self, name: str, secret: bytes, until: int) -> bool:
        """Give a source a new secret; those before are good until a time at most. Whether there is one."""
        row = {"name": name, "secret": secret, "until": until, "kept": OLD_SECRETS_MAX}
        return await self._changed("rotate", row)

    async def remove(self, name: str) -> bool:
        """End a source; whether there was one."""
        return await self._changed("remove", {"name": name})

    async def _find(self, **given: Any) -> list[StoredSource]:
        beginning = {"name": None, "created": None, "after": None, "newest_first": False}
        row = {"tenant": self._tenant, **beginning, **given}
        return [_source(found) for found in await self._pool.fetch(_SQL["find"], row, binary=False)]

    async def _changed(self, statement: str, row: dict[str, Any]) -> bool:
        async with self._database.session(self._application) as session:
            with translated():
                cursor = await session.execute(_SQL[statement], {**row, "tenant": self._tenant})
                return cursor.rowcount > 0


def _source(row: tuple[Any, ...]) -> StoredSource:
    name, created, principal, rules, secret, old_secrets, old_until = row
    return StoredSource(
        name=name,
        created=created,
        principal=principal,
        rules=rules.encode(),
        secret=bytes(secret),
        old_secrets=[bytes(old) for old in old_secrets],
        old_until=old_until,
    )
