"""What `tessera verify` does: prove the books from the log.

Where no engine runs, one is opened for it, so that recovery is proved as well; its memory is compared with
the rest. Where one is serving, its log, tables and snapshots are read beside it, without disturbing it."""

import asyncio
from functools import partial

import msgspec

from actors.runtime import Engine
from actors.settings import Settings
from actors.shard import empty_state
from gateway.options import Report
from persistence import placement, verify
from persistence.database import Database
from persistence.errors import LockHeld


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked, and whether all is well. `memory`: the state of an engine was compared too."""

    ok: bool
    lsn: int
    memory: bool
    checked: dict[str, int]
    problems: list[str]


async def verify_books(settings: Settings, progress: Report) -> Verdict:
    """Check everything there is. Raises PersistenceError where nothing can be checked."""
    try:
        async with Engine.running(settings) as engine:
            last = engine.health().lsn
            report = await engine.verify(lambda done: progress(done, last))
            return _verdict(report, memory=True)
    except LockHeld:
        return _verdict(await _beside_a_running_engine(settings, progress), memory=False)


async def _beside_a_running_engine(settings: Settings, progress: Report) -> verify.Report:
    database = Database(settings.database)
    await asyncio.to_thread(database.start)
    try:
        where = await placement.known(database)
        shards = range(where.shards)
        return verify.merged(
            [
                await verify.verify(
                    database, shard, partial(empty_state, settings, where, shard), None, progress
                )
                for shard in shards
            ]
        )
    finally:
        await asyncio.to_thread(database.stop)


def _verdict(report: verify.Report, *, memory: bool) -> Verdict:
    return Verdict(
        ok=report.ok, lsn=report.lsn, memory=memory, checked=report.checked, problems=report.problems
    )
