"""The processes that shards run in: opened, killed, stopped and replaced, with the real shard inside."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from actors.errors import ActorError, ShardStopped
from actors.metrics import EngineMetrics
from actors.settings import Settings
from actors.shard import Shard
from engine.crossing.messages import Frame
from engine.ledger import LedgerConfig
from engine.record import chain_hash, decode
from engine.shard_state import ShardState
from persistence.errors import PersistenceError
from persistence.log import Log
from persistence.recovery import Recovered
from simulations.simulator.books import Wrong
from simulations.simulator.loop import Process
from simulations.simulator.orders import Order
from simulations.simulator.projection import SimulatedLookups, SimulatedProjector
from simulations.simulator.server import SimulatedDatabase, SimulatedLog

if TYPE_CHECKING:
    from simulations.simulator.world import World

START_S: Final = 0.05
"""How long a process takes to start, about."""
REST_S: Final = 2.0
_METRICS: Final = EngineMetrics()


class SimulatedShard(Shard):
    """The real shard; what it would ask a database, it asks the simulated one."""

    def __init__(
        self,
        world: "World",
        log: Log,
        state: ShardState,
        recovered: Recovered,
        clock: Callable[[], int],
    ) -> None:
        database = SimulatedDatabase(world.server).given()
        projector = SimulatedProjector(world.server, log.shard)
        super().__init__(
            log.shard, world.settings, database, log, state, projector.given(), recovered, clock,
            _METRICS.shard(log.shard), world.network,
        )  # fmt: skip
        self._lookups = SimulatedLookups(world.server)  # type: ignore[assignment]  # in its place
        self._world = world

    async def begin(self) -> None:
        """Write the opening record, and serve."""
        await self._begin()

    def _fail(self, failure: BaseException) -> None:
        if not isinstance(failure, PersistenceError | asyncio.CancelledError):
            self._world.found(Wrong("no bugs", f"shard {self.index} stopped: {failure!r}"), failure)
        super()._fail(failure)

    async def _leave_snapshot(self) -> None:
        self._world.server.keep_snapshot(self.index, self._state)


class Incarnation:
    """One process of one shard, from its start to its end."""

    def __init__(self, world: "World", shard: int, number: int) -> None:
        self.process = Process(f"shard {shard}, {number}")
        self.index = shard
        self.shard: SimulatedShard | None = None
        self.ended = False
        self._leaving = False
        self._world = world
        self._clock_back_ns = 0

    def start(self) -> None:
        """Begin to live."""
        self._world.loop.spawn(self.process, self._live())

    def hand_over(self) -> None:
        """Come to rest and end, in good order, as far as that goes."""
        if self.shard is not None and not self._leaving:
            self._leaving = True
            self._world.loop.spawn(self.process, self._leave(self.shard))

    async def _leave(self, shard: SimulatedShard) -> None:
        try:
            await shard.rest(REST_S)
            await shard.close()
        except Exception as failure:
            self._world.found(Wrong("no bugs", f"{self.process.name} does not close: {failure!r}"), failure)

    def set_clock_back(self, seconds: float) -> None:
        """Its host's clock is wrong from now on."""
        self._clock_back_ns = int(seconds * 1e9)

    def receive(self, order: Order) -> None:
        """An order has come."""
        if self.shard is None:
            self._reply(order, ShardStopped(self.index, "it is not open"))
            return
        try:
            future = self.shard.send(order.message)
        except ActorError as refusal:
            self._reply(order, refusal)
            return
        future.add_done_callback(partial(self._answered, order))

    def hear(self, frame: Frame) -> None:
        """Another shard has something to say."""
        if self.shard is not None:
            self.shard.hear(frame)

    def _answered(self, order: Order, future: "asyncio.Future[Any]") -> None:
        if future.cancelled():
            return
        error = future.exception()
        self._reply(order, future.result() if error is None else error)

    def _reply(self, order: Order, answer: Any) -> None:
        self._world.answered(order, answer)

    def _clock(self) -> int:
        return self._world.time_ns() - self._clock_back_ns

    async def _live(self) -> None:
        world = self._world
        try:
            await asyncio.sleep(world.faults.delay(START_S))
            shard = await self._open()
            self.shard = shard
            await shard.end()
            if not self._leaving:
                await shard.close()
        except PersistenceError:
            pass  # it ends, and another takes its place
        except Exception as failure:
            world.found(Wrong("no bugs", f"{self.process.name} ended: {failure!r}"), failure)
        self.ended = True
        world.process_ended(self)

    async def _open(self) -> SimulatedShard:
        world = self._world
        database = SimulatedDatabase(world.server).given()
        log = await SimulatedLog.open(database, self.index, takeover=True, clock=self._clock)
        try:
            state, recovered = await self._recover(log)
            shard = SimulatedShard(world, log, state, recovered, self._clock)
        except BaseException:
            await log.close()
            raise
        try:
            await shard.begin()
        except BaseException as failure:
            shard._fail(failure)
            await shard.close()
            raise
        return shard

    async def _recover(self, log: Log) -> tuple[ShardState, Recovered]:
        """What `persistence.recovery` does, on the simulated log."""
        world = self._world
        state = world.empty_state(self.index)
        lsn, chain = world.server.restore_snapshot(self.index, state, log.head.lsn)
        await asyncio.sleep(world.faults.delay(0.01))
        legs = records = 0
        for _, _, payload in world.server.tail(self.index, lsn + 1, log.head.lsn - lsn):
            record = decode(payload)
            state.replay(record)
            chain = chain_hash(payload)
            records, legs = records + 1, legs + len(record.legs)
        if state.lsn != log.head.lsn:
            raise Wrong(
                "one log", f"shard {self.index} recovers to {state.lsn}, its log is at {log.head.lsn}"
            )
        state.chain = chain
        return state, Recovered(
            lsn=state.lsn, epoch=state.epoch, chain=chain, records=records, legs=legs, seconds=0.0
        )


def settings_of(draw: Callable[[tuple[int, ...]], int]) -> Settings:
    """Bounds of a shard, small enough to be met."""
    return Settings(
        data_dir=None,
        mailbox_messages_max=draw((4, 20, 1_000)),
        mailbox_weight_max=draw((20, 1_000)),
        turn_weight_max=draw((4, 16, 256)),
        turn_weight_min=draw((0, 4, 256)),
        turns_in_flight_max=draw((1, 2, 4)),
        ids_per_generation=draw((32, 128, 1_024)),
        generations_max=draw((3, 4)),
        sweep_interval_ns=draw((0, 100_000_000)),
    )


def config_of(settings: Settings) -> LedgerConfig:
    """The sizes of a ledger that fit these settings."""
    return LedgerConfig(
        ids_per_generation=settings.ids_per_generation,
        generations_max=settings.generations_max,
        turn_events_max=2_048,
        accounts_initial=64,
        holds_initial=64,
        hash_seed=7,
    )
