"""What a turn asks PostgreSQL before it decides, asked again while the database is away.

A turn that has begun can't go on without the answer, and its callers wait for it as they wait for a commit.
If the database stays away, the shard stops: it can't say what is new and what is not.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import structlog

from engine.ledger import LoadedLegs
from engine.moves import LoadedRequests, UnknownRequests
from persistence.errors import ConnectionLost, DatabaseUnreachable
from persistence.queries import Queries

ATTEMPTS_MAX: Final = 20
PAUSE_S: Final = 0.2

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class PatientLookups:
    """The lookups of `queries`, tried up to `ATTEMPTS_MAX` times."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def find_legs(self, ids: npt.NDArray[np.uint64]) -> LoadedLegs:
        """What is known of these leg ids."""
        return await self._patiently(lambda: self._queries.find_legs(ids))

    async def find_requests(self, unknown: UnknownRequests) -> LoadedRequests:
        """What is known of these requests, Moves and references."""
        return await self._patiently(lambda: self._queries.find_requests(unknown))

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        for attempt in range(1, ATTEMPTS_MAX):
            try:
                return await ask()
            except (ConnectionLost, DatabaseUnreachable) as trouble:
                _log.warning("a turn waits for the database", error=str(trouble), attempt=attempt)
                await asyncio.sleep(PAUSE_S)
        return await ask()
