"""Lets the ticks of schedules happen when they are due.

A tick is sent to the engine, and once that has answered durably, the schedule's row goes on to the next. If
whoever does this dies in between, or another gateway does the same, the tick is sent again: under the same
id, with the same content, so it gets the answer that it had. No lease is needed for that, and none is held.

A tick that the ledger refuses is over, and the refusal is kept with the schedule; one that can't be judged
now is tried again. Ticks of a schedule happen in order, and those that fell due while nobody was there happen
later, each with its own business time.
"""

import asyncio
import time
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from actors.errors import InvalidRequest, NotFound, Overloaded, ShardStopped
from actors.runtime import Engine
from engine.commands import MoveCommand, Refusal
from engine.ids import bucket_of_id, bucket_of_party
from engine.layout import SECOND_NS
from gateway.move_commands import creation, id_or_zero, step
from gateway.problems import Problem
from gateway.quotes import priced
from gateway.schedules.schemas import ScheduleSpec
from gateway.schedules.ticks import due_of, tick_id
from gateway.wire import Instant, decode_value
from persistence.errors import PersistenceError
from persistence.schedules import Schedules, StoredSchedule

POLL_S: Final = 1.0
"""How often other gateways' new schedules are looked for."""
RESTART_S: Final = 1.0
BATCH_MAX: Final = 200
"""Schedules whose ticks are sent together."""
AGAIN: Final = frozenset({Refusal.SHARD_UNAVAILABLE.value, Refusal.TURN_FULL.value})
SERVER_ERRORS: Final = 500

_SPEC: Final = msgspec.json.Decoder(ScheduleSpec, dec_hook=decode_value)
_logger = structlog.get_logger("tessera.gateway")


def spec_of(stored: StoredSchedule) -> ScheduleSpec:
    """When a schedule's ticks are, and what they do."""
    return _SPEC.decode(stored.spec)


def next_id(engine: Engine, stored: StoredSchedule, spec: ScheduleSpec) -> int:
    """The id of a schedule's next tick."""
    if spec.step is not None:
        bucket = bucket_of_id(spec.step.move.int)
    else:
        payer = id_or_zero(spec.move.payer) if spec.move is not None else 0
        bucket = bucket_of_party(engine.settings.tenant, payer)
    return tick_id(stored.id, stored.tick, stored.due, bucket)


class _TickRefused(Exception):  # noqa: N818  # an expected answer
    """A tick that will not happen."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Scheduler:
    """The schedules of a gateway. `run` it in a task, and `close` it before the engine."""

    def __init__(self, engine: Engine) -> None:
        self.stored = Schedules(engine.database, engine.settings.tenant)
        self._engine = engine
        self._changed = asyncio.Event()
        self._closing = False

    def changed(self) -> None:
        """A schedule was changed: look again."""
        self._changed.set()

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True
        self._changed.set()

    async def run(self) -> None:
        """Let ticks happen until told to end."""
        try:
            while not self._closing:
                try:
                    await self._pause(await self._fire())
                except (PersistenceError, ShardStopped, Overloaded) as exc:
                    _logger.warning("schedules wait", error=str(exc))
                    await self._pause(RESTART_S)
        finally:
            await self.stored.close()

    async def _fire(self) -> float:
        """Let everything happen that is due; how long there is nothing to do then."""
        now = time.time_ns()
        due = await self.stored.due(now, BATCH_MAX)
        waiting = await asyncio.gather(*(self._tick(stored, now) for stored in due))
        if any(waiting):
            return RESTART_S
        if due:
            return 0.0
        upcoming = await self.stored.next_due()
        if upcoming is None:
            return POLL_S
        return min(POLL_S, max(upcoming - time.time_ns(), 0) / SECOND_NS)

    async def _tick(self, stored: StoredSchedule, now: int) -> bool:
        """Let a schedule's next tick happen; whether it has to wait."""
        spec = spec_of(stored)
        code = message = ""
        engine = self._engine.on_word_of(stored.principal)
        try:
            command = await self._command(engine, stored, spec)
            [answer] = await engine.submit([command])
            if answer.code in AGAIN:
                return True
            if answer.code != Refusal.EXISTS_WITH_DIFFERENT_CONTENT:  # else it happened: no other has its id
                code, message = answer.code, answer.message
        except _TickRefused as refused:
            code, message = refused.code, refused.message
        if code:
            _logger.warning("a tick was refused", schedule=stored.name, tick=stored.tick, code=code)
        await self.stored.advance(stored, due_of(spec, stored.tick + 1), now, code, message)
        return False

    async def _command(self, engine: Engine, stored: StoredSchedule, spec: ScheduleSpec) -> MoveCommand:
        """What a tick does. Raises _TickRefused."""
        id = next_id(engine, stored, spec)
        when = Instant(stored.due)
        try:
            if spec.step is not None:
                draft = msgspec.structs.replace(spec.step, business_time=when)
                return step(draft, spec.step.move, spec.step.transition, id)
            assert spec.move is not None, "checked when it was made"
            wanted = msgspec.structs.replace(spec.move, business_time=when)
            return creation(await priced(engine, wanted, id), id)
        except Problem as problem:
            if problem.status >= SERVER_ERRORS:
                raise Overloaded("pricing", 1) from problem
            raise _TickRefused(problem.code, problem.detail) from problem
        except (InvalidRequest, NotFound) as exc:
            raise _TickRefused(Refusal.FIELD_INVALID, str(exc)) from exc

    async def _pause(self, seconds: float) -> None:
        """Wait, or until something changes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        if not self._closing:
            self._changed.clear()
