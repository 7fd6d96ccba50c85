"""A gate over an engine's database, for as long as a gateway serves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.security.auditing import Auditor
from gateway.security.gate import Gate
from gateway.security.keyring import KeyRing
from gateway.security.settings import SecuritySettings
from gateway.security.tokens import Tokens
from persistence.api_keys import ApiKeys
from persistence.database import Database


@asynccontextmanager
async def guarding(
    database: Database, tenant: str, settings: SecuritySettings, *, local: bool
) -> AsyncIterator[Gate]:
    """A gate for a tenant that keeps itself up to date. `local`: only this machine can reach it. Raises
    PersistenceError."""
    keys = ApiKeys(database)
    auditor = Auditor(database, tenant)
    ring = KeyRing(keys, tenant, settings.rate, settings.burst)
    tokens = Tokens(settings, tenant) if settings.oidc_issuer is not None else None
    gate = Gate(tenant, settings, ring, tokens, auditor, local=local)
    tasks: list[asyncio.Task[None]] = []
    try:
        await gate.refresh()
        tasks += [
            asyncio.create_task(gate.keep_fresh(), name="api-keys"),
            asyncio.create_task(auditor.keep_flushing(), name="audit"),
        ]
        yield gate
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await auditor.close()
        if tokens is not None:
            await tokens.close()
        await keys.close()
