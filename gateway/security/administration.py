"""API keys made, listed, rotated and revoked: beside a running engine, or where none runs.

A key's text exists once, in the answer to whoever made it. What was done stands in the audit log, in the same
transaction.
"""

import asyncio
import getpass
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from actors.settings import Settings
from gateway.security.credentials import NewKey, make_key
from gateway.security.scopes import parse_scopes
from persistence import audit, schema, tenancy
from persistence.api_keys import ApiKeys, StoredKey
from persistence.audit import AuditEntry, AuditHead, AuditReport, StoredEntry
from persistence.database import Database

NANOSECONDS: Final = 1_000_000_000


class KeyDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A key to be made. Raises ScopeError for scopes that can't be."""

    name: str
    scopes: list[str]
    party: UUID | None = None
    expires_in_s: int | None = None  # None = never
    rate: int | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        parse_scopes(self.scopes)


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to know about a key; `key`, its text, only when it was made just now."""

    id: str
    name: str
    tenant: str
    scopes: list[str]
    party: UUID | None
    state: str  # good, expired or revoked
    created: str
    expires: str | None
    replaces: str | None
    rate: int | None
    burst: int | None
    key: str | None = None


class Administration:
    """The keys and the audit log of a tenant. Use `administering`."""

    def __init__(self, database: Database, tenant: str, who: str) -> None:
        self._database = database
        self._tenant = tenant
        self._who = who
        self._keys = ApiKeys(database)

    async def create(self, draft: KeyDraft) -> KeyView:
        """Make a key."""
        made, now = make_key(), time.time_ns()
        expires = None if draft.expires_in_s is None else now + draft.expires_in_s * NANOSECONDS
        stored = StoredKey(
            id=made.id,
            digest=made.digest,
            tenant=self._tenant,
            name=draft.name,
            scopes=sorted(set(draft.scopes)),
            created=now,
            party=draft.party.int if draft.party else 0,
            rate=draft.rate,
            burst=draft.burst,
            expires=expires,
        )
        await self._keys.add(stored, self._entry("keys create", stored))
        return _view(stored, made)

    async def rotate(self, id: str, overlap_s: int) -> KeyView:
        """Make a key that may do what another one may, which ends after `overlap_s`. Raises KeyNotFound."""
        made, now = make_key(), time.time_ns()
        old = await self._keys.get(id)
        lasts = None if old.expires is None else now + old.expires - old.created
        stored = msgspec.structs.replace(
            old, id=made.id, digest=made.digest, created=now, expires=lasts, revoked=None, replaces=old.id
        )
        entry = self._entry("keys rotate", stored, overlap_s=overlap_s)
        await self._keys.rotate(stored, now + overlap_s * NANOSECONDS, entry)
        return _view(stored, made)

    async def revoke(self, id: str) -> bool:
        """End a key now; whether it was still good. Raises KeyNotFound."""
        return await self._keys.revoke(
            id, time.time_ns(), self._entry("keys revoke", await self._keys.get(id))
        )

    async def all(self) -> list[KeyView]:
        """The keys, in order of creation."""
        found = [stored for stored in await self._keys.changed_since(0) if stored.tenant == self._tenant]
        return [_view(stored) for stored in sorted(found, key=lambda stored: stored.created)]

    async def check_audit(self, kept: list[AuditHead]) -> AuditReport:
        """Verify the audit log, and that it holds the heads that were kept."""
        return await audit.check(self._database, kept)

    async def newest_entries(self, limit: int) -> list[StoredEntry]:
        """The newest entries of the audit log, newest first."""
        return await audit.newest(self._database, limit)

    async def close(self) -> None:
        """End the session."""
        await self._keys.close()

    def _entry(self, action: str, stored: StoredKey, **more: Any) -> AuditEntry:
        about = {"id": stored.id, "name": stored.name, "scopes": stored.scopes, "replaces": stored.replaces}
        party = str(UUID(int=stored.party)) if stored.party else None
        return AuditEntry(
            time=time.time_ns(),
            tenant=self._tenant,
            principal=self._who,
            action=action,
            outcome="done",
            detail={**about, "party": party, **more},
        )


@asynccontextmanager
async def administering(settings: Settings) -> AsyncIterator[Administration]:
    """The keys and the audit log of a database, migrated first. Raises PersistenceError."""
    database = Database(settings.database)
    await asyncio.to_thread(database.start)
    try:
        await schema.migrate(database)
        await tenancy.claim(database, settings.tenant)
        administration = Administration(database, settings.tenant, f"os:{getpass.getuser()}")
        try:
            yield administration
        finally:
            await administration.close()
    finally:
        await asyncio.to_thread(database.stop)


def rfc_3339(time: int) -> str:
    """A time in nanoseconds as text, to the second."""
    return f"{datetime.fromtimestamp(time // NANOSECONDS, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _view(stored: StoredKey, made: NewKey | None = None) -> KeyView:
    expired = stored.expires is not None and stored.expires <= time.time_ns()
    return KeyView(
        id=stored.id,
        name=stored.name,
        tenant=stored.tenant,
        scopes=stored.scopes,
        party=UUID(int=stored.party) if stored.party else None,
        state="revoked" if stored.revoked is not None else "expired" if expired else "good",
        created=rfc_3339(stored.created),
        expires=None if stored.expires is None else rfc_3339(stored.expires),
        replaces=stored.replaces,
        rate=stored.rate,
        burst=stored.burst,
        key=None if made is None else made.text,
    )
