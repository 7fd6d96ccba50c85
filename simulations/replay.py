"""Replays sales through a running engine, and reports what its books then say.

Moves are sent in the order of business, a few hundred to a message, several messages at once; the engine
decides them in the order in which they were sent, so a refund always finds the orders that it reverses.
Everything is idempotent: sent again, a Move is answered as the repeat that it is.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from actors.errors import Overloaded
from actors.runtime import Engine
from engine.commands import CreateThing, DirectoryAnswer, MoveAnswer, MoveCommand
from simulations.books import Books, database_running, read_books
from simulations.errors import SimulationError
from simulations.moves import Commands, batches
from simulations.planning import Plan, PlannedKind, unmatched

BATCH_LINES_MIN, BATCH_LINES_MAX = 50, 4_000
BATCHES_PER_REPLAY: Final = 40  # at least, where there are lines enough: a short replay has a middle too
BATCHES_IN_FLIGHT: Final = 6
DIRECTORY_BATCH: Final = 5_000
REFUSALS_SHOWN: Final = 10
RETRIES_MAX: Final = 120

Report = Callable[[int, int], None]
"""Told how many Moves are answered, and of how many."""


class NotPrepared(SimulationError):  # noqa: N818  # named for what is not there
    """The engine would not take the Parties or Things that the replay needs; no Move was posted."""


class Refused(msgspec.Struct, frozen=True):
    """A Move that the engine would not take."""

    reference: str
    code: str
    message: str


class Latency(msgspec.Struct, frozen=True):
    """From sending a Move to its durable answer, in milliseconds: the middle, and the slowest hundredth."""

    p50_ms: float
    p99_ms: float


class AssetBalance(msgspec.Struct, frozen=True):
    """The trial balance of an asset: what was posted on either side of all accounts."""

    debits: int
    credits: int
    difference: int


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay did, and what the books hold after it. Amounts are mills."""

    ok: bool  # nothing refused, every asset balanced, every order and refund drained
    dataset: str
    lines: int
    moves: int  # posted by this run
    repeats: int  # posted by an earlier one
    refused: int
    entries: int  # written by this run
    net_mills: int
    cancelled_mills: int
    seconds: float  # until every Move is durable and the projection has caught up
    durable_seconds: float  # until every Move is durable
    moves_per_s: float
    entries_per_s: float
    latency: Latency
    orders: int
    refunds: int
    adjustments: int
    unmatched_lines: int
    unmatched_units: int
    unmatched_mills: int
    trial_balance: dict[str, AssetBalance]  # the currency, and all items as one
    books: Books
    lsn: int
    refusals: list[Refused]  # the first few


class Tally:
    """Counts answers as they come."""

    def __init__(self, moves: int) -> None:
        self.moves = 0
        self.repeats = 0
        self.refused = 0
        self.legs = 0
        self.lsn = 0
        self.refusals: list[Refused] = []
        self.repeated = np.zeros(moves, bool)  # per Move: it was posted before
        self._latencies_s = np.zeros(moves)

    @property
    def done(self) -> int:
        """How many Moves are answered."""
        return self.moves + self.repeats + self.refused

    def count(self, first: int, answers: list[MoveAnswer], commands: Commands, seconds: float) -> None:
        """Count the answers to the Moves from `first` on, which took so long."""
        self._latencies_s[first : first + len(answers)] = seconds
        for move, answer in enumerate(answers, first):
            self.lsn = max(self.lsn, answer.lsn)
            if not answer.accepted:
                self.refused += 1
                if len(self.refusals) < REFUSALS_SHOWN:
                    self.refusals.append(Refused(commands.reference(move), answer.code, answer.message))
            elif answer.replayed:
                self.repeats += 1
                self.repeated[move] = True
            else:
                self.moves += 1
                self.legs += answer.leg_count

    def latency(self) -> Latency:
        """Of the Moves that were posted now, or of all if none was."""
        latencies_s = self._latencies_s if self.repeated.all() else self._latencies_s[~self.repeated]
        if not len(latencies_s):
            return Latency(0.0, 0.0)
        p50, p99 = np.percentile(latencies_s, [50, 99]).tolist()
        return Latency(round(p50 * 1000, 3), round(p99 * 1000, 3))


async def replay(
    engine: Engine,
    planned: Plan,
    report: Report,
    started: float | None = None,
    tally: Tally | None = None,
) -> ReplayReport:
    """Post every Move of the plan. `started` is the `time.perf_counter` from which to measure; a `tally` for
    as many Moves tells afterwards what became of each.

    Raises NotPrepared, ActorError or PersistenceError; whatever was answered by then stays posted.
    """
    started = time.perf_counter() if started is None else started
    tally = Tally(planned.move_count) if tally is None else tally
    commands = Commands(planned, engine.settings.tenant)
    await _prepare(engine, commands)
    await post(engine, planned, commands, tally, report)
    durable_seconds = time.perf_counter() - started
    await engine.wait_projected()
    seconds = time.perf_counter() - started
    return await _report(engine, planned, tally, seconds, durable_seconds)


async def post(engine: Engine, planned: Plan, commands: Commands, tally: Tally, report: Report) -> None:
    """Send the Moves and count the answers, never more than `BATCHES_IN_FLIGHT` messages at a time."""
    waiting: deque[tuple[int, float, asyncio.Task[list[MoveAnswer]]]] = deque()
    turn = asyncio.Lock()
    lines_max = min(max(planned.sales.line_count // BATCHES_PER_REPLAY, BATCH_LINES_MIN), BATCH_LINES_MAX)

    async def settle() -> None:
        first, sent, answers = waiting.popleft()
        tally.count(first, await answers, commands, time.perf_counter() - sent)
        report(tally.done, planned.move_count)

    try:
        for first, end in batches(planned, lines_max):
            if len(waiting) == BATCHES_IN_FLIGHT:
                await settle()
            message = commands.moves(first, end)
            waiting.append((first, time.perf_counter(), asyncio.create_task(_submit(engine, message, turn))))
        while waiting:
            await settle()
    finally:
        for _, _, answers in waiting:
            answers.cancel()


async def _submit(engine: Engine, message: list[MoveCommand], turn: asyncio.Lock) -> list[MoveAnswer]:
    """Send a message, waiting for room if there is none; whoever comes after waits too, so order is kept."""
    retries_left = RETRIES_MAX
    async with turn:
        while True:
            answers = asyncio.ensure_future(engine.submit(message))
            await asyncio.sleep(0)  # one step: by then it is in the mailbox, or refused for want of room
            if not answers.done() or not retries_left:
                break
            if not isinstance(overloaded := answers.exception(), Overloaded):
                break
            retries_left -= 1
            await asyncio.sleep(overloaded.retry_after_s)
    return await answers


async def _prepare(engine: Engine, commands: Commands) -> None:
    """The Parties and Things that the Moves name. Raises NotPrepared."""
    things, parties = commands.things(), commands.parties()
    for first in range(0, len(things), DIRECTORY_BATCH):
        batch = things[first : first + DIRECTORY_BATCH]
        answers = await engine.create_things(batch)
        refused = [(thing, answer) for thing, answer in zip(batch, answers, strict=True) if answer.code]
        if refused:
            await _settle_for_others(engine, refused)
    for first in range(0, len(parties), DIRECTORY_BATCH):
        for made in await engine.create_parties(parties[first : first + DIRECTORY_BATCH]):
            if not made.accepted:
                raise NotPrepared(f"a Party that the replay needs was refused: {made.code}: {made.message}")


async def _settle_for_others(engine: Engine, refused: list[tuple[CreateThing, DirectoryAnswer]]) -> None:
    """A Thing that is there already will do, whatever its name, if it has the same code and exponent."""
    await engine.wait_projected()
    codes = [thing.code for thing, _ in refused]
    there = {view.code: view for view in await engine.queries.things_by_code(engine.settings.tenant, codes)}
    for thing, answer in refused:
        if thing.code not in there:
            raise NotPrepared(f"Thing {thing.code!r} was refused: {answer.code}: {answer.message}")
        if there[thing.code].exponent != thing.exponent:
            raise NotPrepared(
                f"there is a Thing {thing.code!r} with {there[thing.code].exponent} decimals, "
                f"and these sales need {thing.exponent}"
            )


async def _report(
    engine: Engine, planned: Plan, tally: Tally, seconds: float, durable_seconds: float
) -> ReplayReport:
    sales = planned.sales
    async with database_running(engine.settings) as database:
        books = await read_books(database, sales.dataset, sales.currency)
    kinds = np.bincount(planned.kind, minlength=len(PlannedKind)).tolist()
    answered = tally.moves + tally.repeats
    balances = await trial_balance(engine, sales.currency)
    balanced = all(balance.difference == 0 for balance in balances.values())
    return ReplayReport(
        ok=tally.refused == 0 and balanced and not books.undrained,
        dataset=sales.dataset,
        lines=sales.line_count,
        moves=tally.moves,
        repeats=tally.repeats,
        refused=tally.refused,
        entries=2 * tally.legs,
        net_mills=books.net_mills,
        cancelled_mills=books.cancelled_mills,
        seconds=round(seconds, 3),
        durable_seconds=round(durable_seconds, 3),
        moves_per_s=round(answered / seconds, 1),
        entries_per_s=round(2 * tally.legs / seconds, 1),
        latency=tally.latency(),
        orders=kinds[PlannedKind.ORDER],
        refunds=kinds[PlannedKind.REFUND],
        adjustments=kinds[PlannedKind.WRITE_OFF] + kinds[PlannedKind.BAD_DEBT],
        unmatched_lines=unmatched(planned).lines,
        unmatched_units=books.unmatched_units,
        unmatched_mills=books.unmatched_mills,
        trial_balance=balances,
        books=books,
        lsn=tally.lsn,
        refusals=tally.refusals,
    )


async def trial_balance(engine: Engine, currency: str) -> dict[str, AssetBalance]:
    """The trial balance of the currency, and of all other assets as one that adds up their differences."""
    money = AssetBalance(0, 0, 0)
    others, debits, credits, difference = 0, 0, 0, 0
    for row in await engine.queries.trial_balance():
        if engine.asset_code(row.asset) == currency:
            money = AssetBalance(row.debits, row.credits, row.debits - row.credits)
        else:
            others += 1
            debits, credits = debits + row.debits, credits + row.credits
            difference += abs(row.debits - row.credits)
    return {currency: money, f"units of {others:,} items": AssetBalance(debits, credits, difference)}
