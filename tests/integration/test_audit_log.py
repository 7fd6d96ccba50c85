"""The audit log: whatever is done to it, the check says so."""

import asyncio
import time
from typing import Final

import pytest
from psycopg import sql

from persistence import audit
from persistence.audit import FIRST_HASH, AuditEntry, AuditHead
from persistence.database import Database

ENTRIES: Final = 5


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        time=time.time_ns(),
        tenant="default",
        principal=f"key{number}",
        action="POST /v1/moves",
        outcome="forbidden",
        remote="192.0.2.7",
        detail={"scope": "moves:write", "ü": number},
    )


async def written(database: Database, count: int = ENTRIES) -> AuditHead:
    async with database.session("test") as session:
        return await audit.append(session, [entry(number) for number in range(count)])


async def execute(database: Database, statement: str) -> None:
    async with database.session("test") as session:
        await session.execute(sql.SQL(statement))


async def test_an_empty_log_is_in_order(database: Database) -> None:
    report = await audit.check(database)
    assert (report.head, report.problems) == (AuditHead(0, FIRST_HASH), [])


async def test_entries_are_kept_as_they_were_given(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE_ENTRIES", 2)
    head = await written(database)
    assert head.seq == ENTRIES
    report = await audit.check(database, [head])
    assert (report.head, report.problems) == (head, [])
    last, *_ = await audit.newest(database, 2)
    assert (last.seq, last.entry.principal, last.entry.detail["ü"]) == (ENTRIES, "key4", 4)


async def test_many_writers_make_one_chain(database: Database) -> None:
    await asyncio.gather(*(written(database, 3) for _ in range(6)))
    report = await audit.check(database)
    assert (report.head.seq, report.problems) == (18, [])


@pytest.mark.parametrize(
    "column",
    [
        "time = time + 1",
        "count = 2",
        "tenant = 'other'",
        "principal = ''",
        "remote = ''",
        "action = 'GET /v1/moves'",
        "outcome = 'created'",
        "detail = '{}'",
        "detail = (detail::text || ' ')::json",
        "hash = sha256('')",
    ],
)
async def test_a_changed_entry_is_found(database: Database, column: str) -> None:
    await written(database)
    await execute(database, f"update audit set {column} where seq = 3")
    assert any("entry 3 is not what was written" in text for text in (await audit.check(database)).problems)


async def test_a_missing_entry_is_found(database: Database) -> None:
    await written(database)
    await execute(database, "delete from audit where seq = 3")
    assert any("entries 3 to 3 are missing" in text for text in (await audit.check(database)).problems)


async def test_swapped_entries_are_found(database: Database) -> None:
    await written(database)
    await execute(database, "update audit set seq = 5 - seq + 100 where seq in (2, 3)")
    await execute(database, "update audit set seq = seq - 100 where seq > 100")
    assert (await audit.check(database)).problems


async def test_a_cut_end_is_found_by_a_kept_head(database: Database) -> None:
    head = await written(database)
    await execute(database, "delete from audit where seq > 3")
    assert (await audit.check(database)).problems == []
    assert (await audit.check(database, [head])).problems == ["entry 5 is not there; the log ends at 3"]


async def test_a_log_that_was_made_anew_is_found_by_a_kept_head(database: Database) -> None:
    head = await written(database)
    await execute(database, "delete from audit")
    await written(database)
    assert (await audit.check(database)).problems == []
    found = (await audit.check(database, [head])).problems
    assert found == ["entry 5 has another hash than the one that was kept"]
