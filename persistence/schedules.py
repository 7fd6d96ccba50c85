"""Schedules in PostgreSQL: what happens when, and how far each has got."""

from typing import Any, Final
from uuid import UUID

import msgspec

from persistence.database import Database, translated
from persistence.session_pool import SessionPool
from persistence.statements import statements

_SQL: Final = statements("schedules")


class StoredSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is stored. Times in nanoseconds since 1970."""

    name: str
    id: UUID
    created: int
    principal: str
    spec: bytes  # JSON
    state: str = "active"
    tick: int = 0  # the number of the next one
    due: int  # when that is
    fired: int | None = None
    refused: int = 0
    code: str = ""
    message: str = ""


class Schedules:
    """The schedules of a tenant."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._application = f"tessera {database.schema} schedules"
        self._pool = SessionPool(database, self._application, size=2)

    async def close(self) -> None:
        """Ends the sessions."""
        await self._pool.close()

    async def add(self, schedule: StoredSchedule) -> bool:
        """Store a new schedule; false if there is one of that name."""
        row = {name: getattr(schedule, name) for name in ("name", "id", "created", "principal", "due")}
        return await self._changed("add", row | {"spec": schedule.spec.decode()})

    async def get(self, name: str) -> StoredSchedule | None:
        """A schedule."""
        found = await self._find(name=name, created=None, after=None, limit=1, newest_first=False)
        return found[0] if found else None

    async def page(
        self, after: tuple[int, str] | None, limit: int, *, newest_first: bool = False
    ) -> list[StoredSchedule]:
        """Schedules in order of creation, or the other way round, after one given by its time and name."""
        created, name = after or (None, None)
        return await self._find(
            name=None, created=created, after=name, limit=limit, newest_first=newest_first
        )

    async def due(self, now: int, limit: int) -> list[StoredSchedule]:
        """Those whose next tick is due, the longest first."""
        row = {"tenant": self._tenant, "now": now, "limit": limit}
        return [_schedule(found) for found in await self._pool.fetch(_SQL["due"], row, binary=False)]

    async def next_due(self) -> int | None:
        """When the next tick of any is due."""
        [(due,)] = await self._pool.fetch(_SQL["next_due"], {"tenant": self._tenant}, binary=False)
        return None if due is None else int(due)

    async def advance(
        self, done: StoredSchedule, due: int | None, fired: int, code: str, message: str
    ) -> bool:
        """A schedule's tick is done, and the next one is due then, or there is none. False if that was known
        already."""
        row = {"name": done.name, "id": done.id, "tick": done.tick, "fired": fired}
        after = {"due": done.due if due is None else due, "ended": due is None}
        return await self._changed("advance", row | after | {"code": code, "message": message})

    async def set_state(self, name: str, state: str) -> bool:
        """Pause a schedule, or let it go on; false if there is none, or it has ended."""
        return await self._changed("set_state", {"name": name, "state": state})

    async def remove(self, name: str) -> bool:
        """End a schedule for good; whether there was one."""
        return await self._changed("remove", {"name": name})

    async def _find(self, **given: Any) -> list[StoredSchedule]:
        row = {"tenant": self._tenant, **given}
        return [_schedule(found) for found in await self._pool.fetch(_SQL["find"], row, binary=False)]

    async def _changed(self, statement: str, row: dict[str, Any]) -> bool:
        async with self._database.session(self._application) as session:
            with translated():
                cursor = await session.execute(_SQL[statement], {**row, "tenant": self._tenant})
                return cursor.rowcount > 0


def _schedule(row: tuple[Any, ...]) -> StoredSchedule:
    name, id, created, principal, spec, state, tick, due, fired, refused, code, message = row
    return StoredSchedule(
        name=name,
        id=id,
        created=created,
        principal=principal,
        spec=spec.encode(),
        state=state,
        tick=tick,
        due=due,
        fired=fired,
        refused=refused,
        code=code,
        message=message,
    )
