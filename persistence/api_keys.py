"""API keys in PostgreSQL: what each may do, and a digest by which it is recognised.

Every change raises a version, so that a gateway gets the keys that have changed since it last asked by one
small query. A change and its entry in the audit log are one transaction.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import msgspec

from persistence import audit
from persistence.audit import AuditEntry
from persistence.database import Database, Session, translated
from persistence.errors import KeyNotFound
from persistence.session_pool import SessionPool
from persistence.statements import statements

_SQL: Final = statements("api_keys")


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as it is stored. Times in nanoseconds since 1970."""

    id: str
    digest: bytes  # SHA-256 of the secret
    tenant: str
    name: str
    scopes: list[str]
    created: int
    party: int = 0  # 0 = any
    rate: int | None = None  # requests a second, None = as the gateway says
    burst: int | None = None
    expires: int | None = None
    revoked: int | None = None
    replaces: str | None = None
    version: int = 0  # of the newest change; not given for a new key


class ApiKeys:
    """The keys in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._application = f"tessera {database.schema} keys"
        self._pool = SessionPool(database, self._application, size=1)

    async def close(self) -> None:
        """Ends the session."""
        await self._pool.close()

    async def changed_since(self, version: int) -> list[StoredKey]:
        """The keys that were made or changed after a version, in that order."""
        return [_key(row) for row in await self._pool.fetch(_SQL["since"], (version,), binary=False)]

    async def add(self, key: StoredKey, entry: AuditEntry) -> None:
        """Store a new key."""
        async with self._change(entry) as session:
            await _add(session, key)

    async def rotate(self, key: StoredKey, old_expires: int, entry: AuditEntry) -> None:
        """Store a key that replaces an older one, which ends at a time. Raises KeyNotFound."""
        async with self._change(entry) as session:
            cursor = await session.execute(_SQL["expire"], {"id": key.replaces, "expires": old_expires})
            if not cursor.rowcount:
                raise KeyNotFound(f"there is no key {key.replaces}", key.replaces or "")
            await _add(session, key)

    async def revoke(self, id: str, now: int, entry: AuditEntry) -> bool:
        """End a key; whether it was still good. Raises KeyNotFound."""
        if (await self.get(id)).revoked is not None:
            return False
        async with self._change(entry) as session:
            cursor = await session.execute(_SQL["revoke"], {"id": id, "revoked": now})
            return bool(cursor.rowcount)

    async def get(self, id: str) -> StoredKey:
        """A key. Raises KeyNotFound."""
        rows = await self._pool.fetch(_SQL["one"], (id,), binary=False)
        if not rows:
            raise KeyNotFound(f"there is no key {id}", id)
        return _key(rows[0])

    @asynccontextmanager
    async def _change(self, entry: AuditEntry) -> AsyncIterator[Session]:
        async with self._database.session(self._application) as session:
            with translated():
                async with session.transaction():
                    await session.execute(_SQL["lock"])
                    yield session
                    await audit.append(session, [entry])


async def _add(session: Session, key: StoredKey) -> None:
    values = {name: getattr(key, name) for name in ("id", "digest", "tenant", "name", "scopes", "created")}
    values |= {name: getattr(key, name) for name in ("rate", "burst", "expires", "replaces")}
    await session.execute(_SQL["add"], values | {"party": UUID(int=key.party) if key.party else None})


def _key(row: tuple[Any, ...]) -> StoredKey:
    version, created, expires, revoked, rate, burst, party, id, tenant, name, replaces, scopes, digest = row
    return StoredKey(
        id=id,
        digest=bytes(digest),
        tenant=tenant,
        name=name,
        scopes=scopes,
        created=created,
        party=party.int if party is not None else 0,
        rate=rate,
        burst=burst,
        expires=expires,
        revoked=revoked,
        replaces=replaces,
        version=version,
    )
