"""The API keys of a database, in memory, and up to date within a second.

A key that nobody here has heard of is looked for in the database before it is refused, so that a new one can
be used at once; how often that happens is bounded. When the database can't be reached, the keys stay good
for `STALE_S`, and then nobody is let in.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from gateway.security.callers import FOREVER, Caller, Limiter
from gateway.security.credentials import GivenKey, matches
from gateway.security.principals import Principal
from gateway.security.scopes import known_scopes
from persistence.api_keys import ApiKeys, StoredKey
from persistence.errors import PersistenceError

STALE_S: Final = 60.0
LOOK_AGAIN_S: Final = 0.1
"""How often a key nobody has heard of makes us ask the database."""
NANOSECONDS: Final = 1_000_000_000


class KeyRing:
    """The keys of a tenant by id. `rate` and `burst` are for keys that have none of their own."""

    def __init__(
        self,
        keys: ApiKeys,
        tenant: str,
        rate: int,
        burst: int,
        clock: Callable[[], float] = time.perf_counter,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._keys = keys
        self._tenant = tenant
        self._rate, self._burst = rate, burst
        self._clock, self._wall_ns = clock, wall_ns
        self._callers: dict[str, Caller] = {}
        self._digests: dict[str, bytes] = {}
        self._version = 0
        self._fresh_at = 0.0
        self._refreshing = asyncio.Lock()

    def __len__(self) -> int:
        """How many keys there are, those that have ended too."""
        return len(self._callers)

    @property
    def is_stale(self) -> bool:
        """Whether the database was out of reach for too long."""
        return self._clock() - self._fresh_at > STALE_S

    def find(self, given: GivenKey) -> Caller | None:
        """Whose key that is. They may have ended: `Caller.admit` knows."""
        return self._callers.get(given.id) if matches(given, self._digests.get(given.id)) else None

    async def look_for(self, given: GivenKey) -> Caller | None:
        """Whose key that is, after asking the database if nobody has heard of it."""
        if given.id not in self._callers and self._clock() - self._fresh_at > LOOK_AGAIN_S:
            try:
                await self.refresh()
            except PersistenceError:
                return None  # the next regular refresh says what is wrong
        return self.find(given)

    async def refresh(self) -> None:
        """Take note of what has changed. Raises PersistenceError."""
        async with self._refreshing:
            asked_at = self._clock()
            for stored in await self._keys.changed_since(self._version):
                if stored.tenant == self._tenant:
                    self._take(stored)
                self._version = stored.version
            self._fresh_at = asked_at

    def _take(self, stored: StoredKey) -> None:
        principal = Principal(
            name=stored.id,
            tenant=stored.tenant,
            scopes=known_scopes(stored.scopes),
            party=stored.party,
        )
        rate = self._rate if stored.rate is None else stored.rate
        burst = self._burst if stored.burst is None else stored.burst
        caller = self._callers.get(stored.id)
        if caller is None:
            caller = self._callers[stored.id] = Caller(principal, Limiter(rate, burst))
        else:
            caller.principal = principal
            caller.limiter.adjust(rate, burst)
        caller.good_until = self._good_until(stored)
        self._digests[stored.id] = stored.digest

    def _good_until(self, stored: StoredKey) -> float:
        if stored.revoked is not None:
            return 0.0
        if stored.expires is None:
            return FOREVER
        return self._clock() + (stored.expires - self._wall_ns()) / NANOSECONDS
