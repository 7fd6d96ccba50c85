"""A writer stopped in the middle of a COPY, deposed, and woken again."""

import asyncio
import json
import signal
import sys

from persistence.database import Database
from persistence.log import Log
from tests.faults.proxy import PostgresProxy


async def test_a_stopped_writer_that_is_woken_can_neither_append_nor_confirm(database: Database) -> None:
    async with PostgresProxy(database.dsn) as proxy:
        stalled = proxy.stall_at(b"d")
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.writer", proxy.dsn, stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        await stalled.wait()
        writer.send_signal(signal.SIGSTOP)

        async with await Log.open(database, 0, takeover=True) as successor:
            await successor.append([(1, successor.epoch, b"the successor's")])
            writer.send_signal(signal.SIGCONT)
            proxy.release()
            told = [json.loads(line) async for line in writer.stdout]
            assert await writer.wait() == 0
            await successor.confirm()

    assert [(step["step"], step["result"]) for step in told] == [
        ("open", "ok"),
        ("append", "OutcomeUnknown"),
        ("confirm", "OutcomeUnknown"),
        ("resolve", "Deposed"),
        ("append again", "Deposed"),
        ("confirm again", "Deposed"),
    ]
    assert "has another writer now" in told[3]["message"]
    async with database.session("test") as session:
        cursor = await session.execute("select lsn, epoch, payload from wal")
        assert await cursor.fetchall() == [(1, 1, b"the successor's")]
