"""Webhook endpoints in PostgreSQL: where events are sent to, how far each has got, and what it did not take.

`Webhooks` is for those who administer endpoints. `Progress` is for the one gateway that delivers: it has a
lease, which it prolongs, and every transaction of its own begins with that. So a gateway that froze, and was
replaced meanwhile, writes nothing any more.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import msgspec

from persistence.database import Database, Session, translated
from persistence.errors import LeaseLost, TooManyWebhooks, WebhookGone
from persistence.session_pool import SessionPool
from persistence.statements import statements
from persistence.webhook_secrets import OLD_SECRETS_MAX, Secrets

WEBHOOKS_MAX: Final = 256
"""Endpoints of a tenant."""
SUBJECT_BYTES: Final = 16
ATTEMPTS_KEPT: Final = 10_000
"""Attempts that are kept of each endpoint; up to a tenth more until they are dropped."""

_SQL: Final = statements("webhooks")

Place = tuple[int, int, int]
"""An event's shard, LSN and place in the record."""


class StoredWebhook(Secrets, frozen=True, kw_only=True):
    """An endpoint as it is stored. Times in nanoseconds since 1970."""

    id: UUID
    tenant: str
    created: int
    url: str
    name: str
    filter: bytes  # JSON
    cursor: str
    principal: str = ""
    version: int = 1
    failing: int | None = None
    state: str = "active"
    reason: str = ""
    waiting: int = 0  # events that wait for another attempt, or behind one that does
    dead: int = 0


class WebhookChange(msgspec.Struct, frozen=True, kw_only=True):
    """What changes of an endpoint; None stays as it is."""

    url: str | None = None
    name: str | None = None
    filter: bytes | None = None
    state: str | None = None


class KeptEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was not taken; its content is in the log."""

    place: Place
    type: str
    subjects: tuple[bytes, ...]
    due: int = 0
    failed: int = 0
    attempts: int = 0
    status: int | None = None
    dead: bool = False
    error: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to deliver an event; no `error`: it was taken."""

    time: int
    place: Place
    type: str
    attempt: int
    status: int | None
    error: str
    took_us: int
    seq: int = 0


class Steps(NamedTuple):
    """What has become of events since it was last written down."""

    cursor: str
    failing: int | None
    keep: Sequence[KeptEvent]
    forget: Sequence[Place]
    attempts: Sequence[Attempt]


class Webhooks:
    """The endpoints of a tenant."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._application = f"tessera {database.schema} webhooks"
        self._pool = SessionPool(database, self._application, size=2)

    async def close(self) -> None:
        """Ends the sessions."""
        await self._pool.close()

    async def add(self, webhook: StoredWebhook) -> bool:
        """Store a new endpoint; false if there is one of that id. Raises TooManyWebhooks."""
        row = {
            name: getattr(webhook, name) for name in ("id", "created", "principal", "url", "name", "cursor")
        }
        row |= {"tenant": self._tenant, "filter": webhook.filter.decode(), "secret": webhook.secret}
        async with self._session() as session, session.transaction():
            await session.execute(_SQL["lock"])
            cursor = await session.execute(_SQL["add"], row)
            if not cursor.rowcount:
                return False
            counted = await (await session.execute(_SQL["count"], {"tenant": self._tenant})).fetchone()
            if counted is not None and counted[0] > WEBHOOKS_MAX:
                raise TooManyWebhooks(f"there are {WEBHOOKS_MAX} webhooks, and may not be more", WEBHOOKS_MAX)
        return True

    async def get(self, id: UUID) -> StoredWebhook | None:
        """An endpoint."""
        found = await self._find(id=id, limit=1)
        return found[0] if found else None

    async def page(
        self, after: UUID | None, limit: int, *, newest_first: bool = False
    ) -> list[StoredWebhook]:
        """Endpoints in order of their ids, or the other way round."""
        return await self._find(after=after, limit=limit, newest_first=newest_first)

    async def active(self) -> dict[UUID, int]:
        """Which endpoints want to be sent events, and the version of each."""
        return dict(await self._pool.fetch(_SQL["active"], {"tenant": self._tenant}))

    async def change(self, id: UUID, change: WebhookChange) -> bool:
        """Change an endpoint; whether there is one."""
        content = None if change.filter is None else change.filter.decode()
        row = {"url": change.url, "name": change.name, "filter": content, "state": change.state}
        return await self._changed("change", {"id": id, **row})

    async def rotate(self, id: UUID, secret: bytes, until: int) -> bool:
        """Give an endpoint a new secret; those before sign too until a time at most. Whether there is one."""
        row = {"id": id, "secret": secret, "until": until, "kept": OLD_SECRETS_MAX}
        return await self._changed("rotate", row)

    async def remove(self, id: UUID) -> bool:
        """End an endpoint; whether there was one."""
        return await self._changed("remove", {"id": id})

    async def replay(self, id: UUID, places: Sequence[str] | None) -> int:
        """Let dead events be tried again, those named by `shard.lsn.place`, or all; how many there were."""
        row = {"id": id, "tenant": self._tenant, "places": None if places is None else list(places)}
        async with self._session() as session:
            found = await (await session.execute(_SQL["replay"], row)).fetchone()
        return 0 if found is None else int(found[0])

    async def dead_events(
        self, id: UUID, after: Place | None, limit: int, *, newest_first: bool = False
    ) -> list[KeptEvent]:
        """Events that are not tried any more, in the order of the log, or the other way round."""
        row = {"id": id, "dead": True, "after": None if after is None else list(after), "limit": limit}
        statement = _SQL["events_newest" if newest_first else "events"]
        return [_event(found) for found in await self._pool.fetch(statement, row, binary=False)]

    async def attempts(
        self,
        id: UUID,
        after: int | None,
        limit: int,
        *,
        newest_first: bool = True,
        failed: bool | None = None,
    ) -> list[Attempt]:
        """Attempts after the one of a number, in that direction."""
        row = {"id": id, "after": after, "limit": limit, "failed": failed}
        statement = _SQL["attempts_newest" if newest_first else "attempts"]
        return [_attempt(found) for found in await self._pool.fetch(statement, row, binary=False)]

    async def _find(self, **given: Any) -> list[StoredWebhook]:
        row = {"tenant": self._tenant, "id": None, "after": None, "newest_first": False, **given}
        return [_webhook(found) for found in await self._pool.fetch(_SQL["find"], row, binary=False)]

    async def _changed(self, statement: str, row: dict[str, Any]) -> bool:
        async with self._session() as session:
            cursor = await session.execute(_SQL[statement], {**row, "tenant": self._tenant})
            return cursor.rowcount > 0

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        async with self._database.session(self._application) as session:
            with translated():
                yield session


class Progress:
    """The right to deliver, and what becomes of events."""

    def __init__(self, session: Session, tenant: str, lease_s: float) -> None:
        self._session = session
        self._turn = asyncio.Lock()  # one transaction at a time
        self._lease = {"tenant": tenant, "owner": uuid4(), "seconds": lease_s}

    @classmethod
    async def open(cls, database: Database, tenant: str, lease_s: float) -> "Progress":
        """Without the right, until `take` gets it; it is kept for so long without being heard of."""
        return cls(await database.connect(f"tessera {database.schema} delivery"), tenant, lease_s)

    async def take(self) -> bool:
        """Take the right to deliver, or keep it; false if another gateway has it."""
        with translated():
            async with self._turn:
                return (await self._session.execute(_SQL["take_lease"], self._lease)).rowcount > 0

    async def close(self) -> None:
        """Let another gateway deliver."""
        try:
            with translated():
                async with self._turn:
                    await self._session.execute(_SQL["end_lease"], self._lease)
        finally:
            await self._session.close()

    async def events(self, id: UUID, after: Place | None, limit: int, *, dead: bool) -> list[KeptEvent]:
        """Events that were not taken, in order."""
        row = {"id": id, "dead": dead, "after": None if after is None else list(after), "limit": limit}
        with translated():
            async with self._turn:
                cursor = await self._session.execute(_SQL["events"], row)
                return [_event(found) for found in await cursor.fetchall()]

    async def newest_attempt(self, id: UUID) -> int:
        """The number of the newest attempt."""
        with translated():
            async with self._turn:
                found = await (await self._session.execute(_SQL["newest_attempt"], {"id": id})).fetchone()
        return int(found[0]) if found is not None else 0

    async def write(self, id: UUID, steps: Steps) -> None:
        """Write down what has become of events, all or nothing. Raises WebhookGone, LeaseLost."""
        with translated():
            async with self._turn, self._session.transaction():
                if not (await self._session.execute(_SQL["prolong_lease"], self._lease)).rowcount:
                    raise LeaseLost("another gateway delivers now")
                row = {"id": id, "cursor": steps.cursor, "failing": steps.failing}
                if not (await self._session.execute(_SQL["advance"], row)).rowcount:
                    raise WebhookGone(f"there is no webhook {id}", str(id))
                many = self._session.cursor()
                if steps.keep:
                    await many.executemany(_SQL["keep"], [_kept_row(id, event) for event in steps.keep])
                if steps.forget:
                    rows = [{"id": id, **_place_row(place)} for place in steps.forget]
                    await many.executemany(_SQL["forget"], rows)
                if steps.attempts:
                    await many.executemany(_SQL["note"], [_attempt_row(id, one) for one in steps.attempts])
                    await self._forget_attempts(id, steps.attempts)

    async def disable(self, id: UUID, reason: str) -> None:
        """Stop sending to an endpoint."""
        with translated():
            async with self._turn:
                await self._session.execute(_SQL["disable"], {"id": id, "reason": reason})

    async def _forget_attempts(self, id: UUID, new: Sequence[Attempt]) -> None:
        """Now and then, drop those that are too old."""
        every = ATTEMPTS_KEPT // 10
        if new[0].seq // every != (new[-1].seq + 1) // every:
            last = new[-1].seq - ATTEMPTS_KEPT
            await self._session.execute(_SQL["forget_attempts"], {"id": id, "last": last})


def _place_row(place: Place) -> dict[str, int]:
    return dict(zip(("shard", "lsn", "place"), place, strict=True))


def _kept_row(id: UUID, event: KeptEvent) -> dict[str, Any]:
    names = ("due", "failed", "attempts", "status", "dead", "type", "error")
    return {
        "id": id,
        **_place_row(event.place),
        **{name: getattr(event, name) for name in names},
        "subjects": b"".join(event.subjects),
    }


def _attempt_row(id: UUID, attempt: Attempt) -> dict[str, Any]:
    names = ("seq", "time", "type", "attempt", "status", "error", "took_us")
    return {"id": id, **_place_row(attempt.place), **{name: getattr(attempt, name) for name in names}}


def _event(row: tuple[Any, ...]) -> KeptEvent:
    shard, lsn, place, due, failed, attempts, status, dead, kind, error, subjects = row
    joined = bytes(subjects)
    return KeptEvent(
        place=(shard, lsn, place),
        due=due,
        failed=failed,
        attempts=attempts,
        status=status,
        dead=dead,
        type=kind,
        error=error,
        subjects=tuple(joined[at : at + SUBJECT_BYTES] for at in range(0, len(joined), SUBJECT_BYTES)),
    )


def _attempt(row: tuple[Any, ...]) -> Attempt:
    seq, time, shard, lsn, place, kind, attempt, status, error, took_us = row
    return Attempt(
        seq=seq,
        time=time,
        place=(shard, lsn, place),
        type=kind,
        attempt=attempt,
        status=status,
        error=error,
        took_us=took_us,
    )


def _webhook(row: tuple[Any, ...]) -> StoredWebhook:
    id, version, created, failing, tenant, principal, url, name, filter, *others = row
    state, reason, cursor, secret, old_secrets, old_until, waiting, dead = others
    return StoredWebhook(
        id=id,
        version=version,
        created=created,
        failing=failing,
        tenant=tenant,
        principal=principal,
        url=url,
        name=name,
        filter=filter.encode(),
        state=state,
        reason=reason,
        cursor=cursor,
        secret=bytes(secret),
        old_secrets=[bytes(old) for old in old_secrets],
        old_until=old_until,
        waiting=waiting,
        dead=dead,
    )
