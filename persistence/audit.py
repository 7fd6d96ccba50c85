"""The audit log: what was refused and what was administered, in a table that shows if it was tampered with.

An entry's hash is SHA-256 over the hash before it and the entry's own content, `seq` included, so whoever
changes, removes or inserts one would have to make all later hashes anew. That can be done by somebody who may
write to the table; therefore keep heads (`seq` and hash) elsewhere and have `check` compare them: an entry
that a kept head covers can't be changed unnoticed, and neither can the end be cut off before it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from persistence.database import Database, Session, translated
from persistence.statements import statements

FIRST_HASH: Final = bytes(32)
"""What stands for the hash before the first entry."""
PAGE_ENTRIES: Final = 1_000

_SQL: Final = statements("audit")


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done, or tried: who, from where, what, and what became of it. `time` in
    nanoseconds."""

    time: int
    tenant: str
    principal: str  # empty = nobody we know
    action: str
    outcome: str
    remote: str = ""  # empty = from this machine's command line
    count: int = 1
    detail: dict[str, Any] = {}


class AuditHead(msgspec.Struct, frozen=True):
    """Where the log ends; `seq` 0 is a log without entries."""

    seq: int = 0
    hash: bytes = FIRST_HASH


class StoredEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry as it is in the table."""

    seq: int
    entry: AuditEntry
    text: str  # the detail as it was hashed
    hash: bytes


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `check` found: the head it got to, and what is wrong, in order."""

    head: AuditHead
    problems: list[str]


def entry_hash(previous: bytes, seq: int, entry: AuditEntry, detail: str) -> bytes:
    """The hash of an entry that comes after one with hash `previous`; `detail` is its detail as text."""
    content = (seq, entry.time, entry.count, entry.tenant, entry.principal, entry.remote)
    return hashlib.sha256(
        previous + msgspec.json.encode([*content, entry.action, entry.outcome, detail])
    ).digest()


async def append(session: Session, entries: Sequence[AuditEntry]) -> AuditHead:
    """Adds entries in a transaction of the session, its own or one that is open; returns the new head."""
    with translated():
        async with session.transaction():
            await session.execute(_SQL["lock"])
            cursor = await session.execute(_SQL["head"])
            found = await cursor.fetchone()
            seq, hash = found if found is not None else (0, FIRST_HASH)
            rows = []
            for entry in entries:
                seq += 1
                text = msgspec.json.encode(entry.detail, order="sorted").decode()
                hash = entry_hash(hash, seq, entry, text)
                who = (entry.time, entry.count, entry.tenant, entry.principal, entry.remote)
                rows.append((seq, *who, entry.action, entry.outcome, text, hash))
            await session.cursor().executemany(_SQL["add"], rows)
    return AuditHead(seq, hash)


async def check(database: Database, kept: Sequence[AuditHead] = ()) -> AuditReport:
    """Recomputes every hash, and compares the heads that were kept elsewhere."""
    expected = {head.seq: head.hash for head in kept}
    problems: list[str] = []
    head = AuditHead()
    async with database.session(f"tessera {database.schema} audit") as session:
        while page := await _page(session, head.seq):
            for stored in page:
                if stored.seq != head.seq + 1:
                    problems.append(f"entries {head.seq + 1} to {stored.seq - 1} are missing")
                if stored.hash != entry_hash(head.hash, stored.seq, stored.entry, stored.text):
                    problems.append(
                        f"entry {stored.seq} is not what was written, or not after entry {head.seq}"
                    )
                if expected.get(stored.seq, stored.hash) != stored.hash:
                    problems.append(f"entry {stored.seq} has another hash than the one that was kept")
                head = AuditHead(stored.seq, stored.hash)
    problems += [
        f"entry {seq} is not there; the log ends at {head.seq}" for seq in expected if seq > head.seq
    ]
    return AuditReport(head=head, problems=problems)


async def newest(database: Database, limit: int) -> list[StoredEntry]:
    """The newest entries, newest first."""
    async with database.session(f"tessera {database.schema} audit") as session:
        with translated():
            cursor = await session.execute(_SQL["newest"], (limit,))
            return [_stored(row) for row in await cursor.fetchall()]


async def _page(session: Session, after: int) -> list[StoredEntry]:
    with translated():
        cursor = await session.execute(_SQL["after"], (after, PAGE_ENTRIES))
        return [_stored(row) for row in await cursor.fetchall()]


def _stored(row: tuple[Any, ...]) -> StoredEntry:
    seq, time, count, tenant, principal, remote, action, outcome, text, hash = row
    entry = AuditEntry(
        time=time,
        count=count,
        tenant=tenant,
        principal=principal,
        remote=remote,
        action=action,
        outcome=outcome,
        detail=msgspec.json.decode(text),
    )
    return StoredEntry(seq=seq, entry=entry, text=text, hash=hash)
