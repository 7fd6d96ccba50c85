"""The guided tour: replay a year of sales, kill the engine half way, recover, prove the books, serve them.

    worker process      an engine that replays, and says what it has acknowledged
    kill -9             when two in five Moves are acknowledged
    this process        opens the database as the next engine, replays the same sales from the start,
                        verifies everything, measures, and serves it over HTTP

What the killed engine acknowledged must come back as repeats, all of it: none missing, none posted twice.
"""

import asyncio
import sys
import tempfile
import time
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from actors.runtime import Engine
from actors.settings import Settings
from gateway.options import CommandFailed, ExitCode
from persistence.database import Database, translated
from persistence.statements import statements
from simulations.errors import SimulationError
from simulations.latency import measure_latency
from simulations.planning import Plan
from simulations.replay import AssetBalance, Latency, ReplayReport, Report, Tally, replay, trial_balance
from simulations.source import Source
from simulations.worker import Progress, WorkOrder, encode_order, read_progress

KILL_AT: Final = 0.4
"""How far the first engine gets, as a share of all Moves."""
APPLICATION: Final = "tessera demo"
LOG_TAIL_LINES: Final = 20


class WorkerFailed(SimulationError):  # noqa: N818  # an end that nobody asked for
    """The first engine ended before it was killed; the end of what it logged says why."""


class Crash(msgspec.Struct, frozen=True):
    """What a kill -9 in the middle cost. Nothing, but time."""

    acknowledged: int  # Moves answered by the engine that was killed
    found: int  # of these, how many the next one answered as repeats
    seconds_before: float  # how long the killed engine had worked
    recovery_s: float  # from the kill to serving again
    records: int  # of the log, replayed for it
    legs: int

    @property
    def ok(self) -> bool:
        """None missing."""
        return self.found == self.acknowledged


class Verdict(msgspec.Struct, frozen=True):
    """What `verify` said."""

    ok: bool
    seconds: float
    checked: dict[str, Any]
    problems: list[str]


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the demo found out."""

    ok: bool
    source: str
    moves: int
    entries: int
    seconds: float  # of both engines, posting
    moves_per_s: float
    entries_per_s: float
    latency: Latency  # of one durable Move, alone
    latency_under_load: Latency
    trial_balance: dict[str, AssetBalance]
    crash: Crash
    verify: Verdict
    replay: ReplayReport


class Steps(Protocol):
    """Whoever watches the demo: each step announces itself, and may tell how far it is."""

    def begin(self, what: str) -> Report:
        """A step begins; the one before it has ended."""


class Killed(NamedTuple):
    """The first engine's end."""

    last: Progress  # what it had acknowledged, and when
    at: float  # time.perf_counter of the kill


async def forget_earlier_demo(database: Database) -> None:
    """Remove what an earlier demo left in the demo's own database. Raises CommandFailed if one is running."""
    sql = statements("demo", "simulations")
    async with database.session(APPLICATION) as session:
        with translated():
            ((others,),) = await (await session.execute(sql["others"])).fetchall()
            if others:
                raise CommandFailed(
                    ExitCode.LOCK_HELD,
                    f"Another demo uses {database.settings.data_dir}.",
                    "Stop it, or give this one a place of its own with --data-dir.",
                )
            await session.execute(sql["forget"])


async def replay_until_killed(settings: Settings, source: Source, moves: int, steps: Steps) -> Killed:
    """Let an engine in a process of its own replay, and kill -9 it on the way. Raises WorkerFailed."""
    report = steps.begin("Replaying, in an engine that will be killed")
    limit = max(1, int(moves * KILL_AT))
    with tempfile.TemporaryFile() as log:
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "simulations.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(encode_order(WorkOrder(settings, source)))
            worker.stdin.close()
            last = Progress(0, 0.0)
            while last.moves < limit:
                line = await worker.stdout.readline()
                if not line:
                    await worker.wait()
                    raise WorkerFailed(f"the first engine ended by itself:\n{_tail(log)}")
                last = read_progress(line.decode())
                report(last.moves, moves)
            worker.kill()  # SIGKILL: no handler, no farewell
            at = time.perf_counter()
            rest = await worker.stdout.read()
            lines = rest.decode().splitlines()
            # What it had printed before it died was acknowledged too; a last line may be cut short.
            last = read_progress(lines[-1 if rest.endswith(b"\n") else -2]) if len(lines) > 1 else last
        finally:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()
    return Killed(last, at)


async def recover(settings: Settings, steps: Steps) -> Engine:
    """The next engine on the same database. It takes over, whatever is left of the one before."""
    steps.begin("Recovering")
    return await Engine.open(msgspec.structs.replace(settings, takeover=True))


async def tour(engine: Engine, killed: Killed, source: Source, planned: Plan, steps: Steps) -> DemoReport:
    """What an engine that was just recovered finds, does and proves. Raises ActorError, PersistenceError."""
    recovery_s = time.perf_counter() - killed.at
    tally = Tally(planned.move_count)
    replayed = await replay(engine, planned, steps.begin("Replaying everything again"), tally=tally)
    crash = Crash(
        acknowledged=killed.last.moves,
        found=int(tally.repeated[: killed.last.moves].sum()),
        seconds_before=round(killed.last.seconds, 3),
        recovery_s=round(recovery_s, 3),
        records=engine.recovery.records,
        legs=engine.recovery.legs,
    )
    steps.begin("Timing durable Moves one by one")
    latency = await measure_latency(engine, planned.sales.currency)
    verdict = await _verify(engine, steps.begin("Verifying: every balance again, from the log"))
    balances = await trial_balance(engine, planned.sales.currency)
    seconds = replayed.seconds + killed.last.seconds
    balanced = all(balance.difference == 0 for balance in balances.values())
    return DemoReport(
        ok=replayed.ok and crash.ok and verdict.ok and balanced,
        source=source.describe(),
        moves=replayed.books.moves,
        entries=replayed.books.entries,
        seconds=round(seconds, 3),
        moves_per_s=round(replayed.books.moves / seconds, 1),
        entries_per_s=round(replayed.books.entries / seconds, 1),
        latency=latency,
        latency_under_load=replayed.latency,
        trial_balance=balances,
        crash=crash,
        verify=verdict,
        replay=replayed,
    )


async def _verify(engine: Engine, report: Report) -> Verdict:
    started = time.perf_counter()
    found = await engine.verify(lambda done: report(done, engine.health().lsn))
    return Verdict(
        ok=found.ok,
        seconds=round(time.perf_counter() - started, 3),
        checked=found.checked,
        problems=[str(problem) for problem in found.problems],
    )


def _tail(log: Any) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:])
