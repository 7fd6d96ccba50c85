"""A few sessions that readers share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from persistence.database import Database, Session, translated
from persistence.errors import ConnectionLost

SESSIONS_MAX: Final = 4

Parameters = dict[str, Any] | tuple[Any, ...]


class SessionPool:
    """At most `size` sessions, opened as they are needed. For statements that only read: they are tried again
    once if their session breaks."""

    def __init__(self, database: Database, application: str, size: int = SESSIONS_MAX) -> None:
        self._database = database
        self._application = application
        self._free: list[Session] = []
        self._places = asyncio.Semaphore(size)

    async def fetch(
        self, statement: bytes, parameters: Parameters = (), binary: bool = True
    ) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises QueryFailed or DatabaseUnreachable."""
        try:
            return await self._fetch(statement, parameters, binary)
        except ConnectionLost:
            await self._drop_free()
            return await self._fetch(statement, parameters, binary)

    async def close(self) -> None:
        """Ends the sessions that are not in use."""
        await self._drop_free()

    async def _fetch(self, statement: bytes, parameters: Parameters, binary: bool) -> list[tuple[Any, ...]]:
        async with self._session() as session:
            with translated():
                cursor = session.cursor(binary=binary)
                await cursor.execute(statement, parameters)
                return await cursor.fetchall()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        async with self._places:
            session = self._free.pop() if self._free else await self._connect()
            try:
                yield session
            except ConnectionLost:
                await session.close()
                raise
            finally:
                if not session.closed:
                    self._free.append(session)

    async def _connect(self) -> Session:
        session = await self._database.connect(self._application)
        # A plan for these very parameters: most conditions are switched off by a null.
        session.prepare_threshold = None
        return session

    async def _drop_free(self) -> None:
        while self._free:
            await self._free.pop().close()
