"""What was refused and what was administered, on its way to the audit log.

Entries that are alike (who, from where, what, outcome) within `FLUSH_S` become one with a count, and there
are at most `KINDS_MAX` of them, so that nobody can fill the disk by being refused. Requests that write are
counted in the same way. An entry is in the log at the latest a second after the request, if the database can
be reached; until then it waits, and a gateway that is killed loses what waits. Changes of API keys are not
among these: they are one transaction with their entries.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from persistence import audit
from persistence.audit import AuditEntry
from persistence.database import Database, Session
from persistence.errors import ConnectionLost, PersistenceError

FLUSH_S: Final = 1.0
KINDS_MAX: Final = 1_000
OTHERS: Final = "(others)"
"""The action of what is beyond `KINDS_MAX`."""

_logger = structlog.get_logger("tessera.gateway")


class _Kind(NamedTuple):
    """What makes entries alike."""

    principal: str
    remote: str
    action: str
    outcome: str
    detail: bytes


class Auditor:
    """Collects entries of a tenant, and appends them now and then."""

    def __init__(self, database: Database, tenant: str, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._database = database
        self._tenant = tenant
        self._wall_ns = wall_ns
        self._session: Session | None = None
        self._waiting: dict[_Kind, list[int]] = {}  # when it first happened, and how often
        self._counted: Counter[tuple[str, str, str, int]] = Counter()  # bulk writes

    def note(
        self,
        principal: str,
        remote: str,
        action: str,
        outcome: str,
        detail: Mapping[str, Any] | None = None,
        count: int = 1,
    ) -> None:
        """Something happened."""
        kind = _Kind(principal, remote, action, outcome, msgspec.json.encode(detail or {}, order="sorted"))
        waiting = self._waiting.get(kind)
        if waiting is None and len(self._waiting) >= KINDS_MAX:
            kind = _Kind("", "", OTHERS, outcome, b"{}")
            waiting = self._waiting.get(kind)
        if waiting is None:
            self._waiting[kind] = [self._wall_ns(), count]
        else:
            waiting[1] += count

    def count(self, principal: str, remote: str, path: str, status: int) -> None:
        """A request wrote legs or accounts in bulk, or tried to."""
        self._counted[principal, remote, path, status] += 1

    async def flush(self) -> None:
        """Append what waits. Raises PersistenceError; then it goes on waiting."""
        counted, self._counted = self._counted, Counter()
        for (principal, remote, path, status), count in counted.items():
            self.note(principal, remote, f"POST {path}", str(status), count=count)
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        entries = [
            AuditEntry(
                time=first,
                tenant=self._tenant,
                principal=kind.principal,
                remote=kind.remote,
                action=kind.action,
                outcome=kind.outcome,
                count=count,
                detail=msgspec.json.decode(kind.detail),
            )
            for kind, (first, count) in waiting.items()
        ]
        try:
            await self._append(entries)
        except PersistenceError:
            newer, self._waiting = self._waiting, waiting
            for kind, (_, count) in newer.items():
                self.note(*kind[:4], detail=msgspec.json.decode(kind.detail), count=count)
            raise

    async def keep_flushing(self) -> None:
        """Flush for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except PersistenceError as exc:
                _logger.warning("the audit log can't be written", error=str(exc), waiting=len(self._waiting))

    async def close(self) -> None:
        """Append what waits, if that can be done, and end the session."""
        try:
            await self.flush()
        except PersistenceError as exc:
            _logger.error("entries of the audit log are lost", error=str(exc), lost=len(self._waiting))
        if self._session is not None:
            await self._session.close()

    async def _append(self, entries: list[AuditEntry]) -> None:
        if self._session is None or self._session.closed:
            self._session = await self._database.connect(f"tessera {self._database.schema} audit")
        try:
            await audit.append(self._session, entries)
        except ConnectionLost:
            await self._session.close()
            raise
