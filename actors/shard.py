"""A shard: the unit of state, of log and of serial execution.

    mailbox ─▶ turn (decide) ─▶ record ─▶ commit pipeline ─▶ replies
                                                    └─▶ projection feed

A turn takes what waits in the mailbox, lets the state decide on it in order of arrival, writes what was
decided as one record, and hands the answers to the commit pipeline, which gives them once the record is
durable. The next turn runs meanwhile. Whatever goes wrong that is not an expected refusal stops the shard: it
answers nothing any more, and what it had not answered is settled by sending it again, with the same ids, to
the shard that comes after it.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import structlog

from actors.commit import CommitPipeline, Reply
from actors.committed_tail import CommittedTail
from actors.doors import Catalogue, Health
from actors.errors import ActorError, InvalidRequest, Overloaded, ShardStopped
from actors.kind_files import kinds_of
from actors.log_follower import LogFollower
from actors.lookups import PatientLookups
from actors.mailbox import RETRY_AFTER_S, Letter, Mailbox
from actors.messages import Capture, Message, SubmitMoves
from actors.metrics import ShardMetrics
from actors.peers import NoPeers, Peers
from actors.projection_feed import ProjectionFeed
from actors.projector_thread import ProjectorThread
from actors.settings import Settings
from actors.sharded_turn import ShardedTurn
from actors.tracing import Tracer
from actors.turn import Turn
from actors.unfinished import Unfinished
from engine.crossing.messages import Frame
from engine.ledger import LedgerConfig, WindowFull
from engine.placement import ONE_SHARD, Placement
from engine.record import Record, chain_hash, encode
from engine.shard_state import ShardState
from persistence import recovery, snapshots
from persistence.database import Database
from persistence.errors import LogDamaged, PersistenceError
from persistence.log import Log
from persistence.log_pages import LogPages
from persistence.projection import Projector
from persistence.queries import Queries
from persistence.verify import Report, verify

IDLE_S: Final = 1.0
"""How often an idle shard looks whether holds have expired."""
REST_LIMIT_S: Final = 10.0
"""How long a shard that is to end waits for others that have a part in what it does."""

_log = structlog.get_logger(__name__)


class Shard:
    """One shard, open for work. Use `Shard.open`; only `send` and `close` are for callers."""

    def __init__(
        self,
        index: int,
        settings: Settings,
        database: Database,
        log: Log,
        state: ShardState,
        projector: ProjectorThread,
        recovered: recovery.Recovered,
        clock: Callable[[], int],
        metrics: ShardMetrics,
        peers: Peers,
    ) -> None:
        self.index = index
        self.recovered = recovered
        self.stopped: str | None = None  # why the shard serves no more
        self.ended = asyncio.Event()  # set once it has stopped or closed
        self.tracer: Tracer | None = None
        self._settings = settings
        self._database = database
        self._log = log
        self._state = state
        self._clock = clock
        self._metrics = metrics
        self._peers = peers
        self._unfinished = Unfinished()
        self._turned = asyncio.Event()  # set, and replaced, after every turn
        self._queries = Queries(database, index)
        self._lookups = PatientLookups(self._queries)
        self._mailbox = Mailbox(index, settings.mailbox_messages_max, settings.mailbox_weight_max)
        self._pipeline = CommitPipeline(
            log,
            recovered.lsn,
            settings.turns_in_flight_max,
            self._committed,
            self._mailbox.wake,
            self._fail,
        )
        self._feed = ProjectionFeed(projector, recovered.lsn, settings.projection_lag_legs_max // 4)
        self._tail = CommittedTail(index, recovered.lsn)
        self._pages = LogPages(database, index)
        self._swept_at = 0  # when expired holds were last looked for
        self._legs_since_snapshot = recovered.legs
        self._follower: asyncio.Task[None] | None = None  # builds a snapshot
        self._turns: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        index: int,
        settings: Settings,
        database: Database,
        metrics: ShardMetrics,
        clock: Callable[[], int] = time.time_ns,
        placement: Placement = ONE_SHARD,
        peers: Peers | None = None,
    ) -> "Shard":
        """Become the shard's only writer, recover its state, and serve. Raises PersistenceError.

        `peers` leads to the other shards of the `placement`; they speak to this one by `hear`.
        """
        log = await Log.open(database, index, takeover=settings.takeover, clock=clock)
        projector = ProjectorThread(Projector(database, index))
        try:
            state = empty_state(settings, placement, index)
            recovered = await asyncio.to_thread(recovery.recover, database, index, state, log.head.lsn)
            state.chain = recovered.chain
            await projector.start()
            if projector.lsn > recovered.lsn:
                raise LogDamaged(
                    f"the projection is at record {projector.lsn}, and the log ends at {recovered.lsn}",
                    index,
                    recovered.lsn + 1,
                )
            to_others = NoPeers() if peers is None else peers
            shard = cls(
                index, settings, database, log, state, projector, recovered, clock, metrics, to_others
            )
        except BaseException:
            await projector.close()
            await log.close()
            raise
        try:
            await shard._begin()
        except BaseException as failure:
            shard._fail(failure)
            await shard.close()
            raise
        return shard

    # For callers

    def send(self, message: Message) -> asyncio.Future[Any]:
        """Leave a message; the future is its durable answer. Raises Overloaded or ShardStopped."""
        return self.send_all([message])[0]

    def send_all(self, messages: Sequence[Message]) -> list[asyncio.Future[Any]]:
        """Leave several messages, one after the other: all of them or, when they are refused, none."""
        if self.stopped is not None:
            raise ShardStopped(self.index, self.stopped)
        if self._feed.lag_legs > self._settings.projection_lag_legs_max:
            self._metrics.overloaded("projection")
            raise Overloaded(f"the projection is {self._feed.lag_legs} legs behind", RETRY_AFTER_S)
        if self._pipeline.blocked is not None:
            self._metrics.overloaded("log")
            raise Overloaded(f"nothing can be written now: {self._pipeline.blocked}", RETRY_AFTER_S)
        try:
            trace = None if self.tracer is None else self.tracer.current()
            return self._mailbox.put([(message, message.weight) for message in messages], trace)
        except Overloaded:
            self._metrics.overloaded("mailbox")
            raise

    def hear(self, frame: Frame) -> None:
        """Take what another shard says."""
        if self.stopped is None:
            self._mailbox.hear(frame)

    @property
    def state(self) -> ShardState:
        """The shard's state, for reading between turns."""
        return self._state

    @property
    def feed(self) -> ProjectionFeed:
        """The shard's projection."""
        return self._feed

    @property
    def catalogue(self) -> Catalogue:
        """The Things that there are."""
        return self._state.directory

    @property
    def durable_lsn(self) -> int:
        """Everything up to it is committed."""
        return self._pipeline.durable_lsn

    @property
    def waiting(self) -> int:
        """Weight of what waits in the mailbox."""
        return self._mailbox.weight

    @property
    def blocked(self) -> str | None:
        """Why new work is refused just now."""
        if self._pipeline.blocked is not None:
            return str(self._pipeline.blocked)
        if self._feed.lag_legs > self._settings.projection_lag_legs_max:
            return f"the projection is {self._feed.lag_legs} legs behind"
        return None

    @property
    def _stale(self) -> str:
        """Why SQL shows nothing new, although the shard may serve."""
        return "" if self._feed.failure is None else f"the projection has stopped: {self._feed.failure}"

    async def catch_up(self) -> None:
        """The catalogue is this shard's own: nothing is missing."""

    async def wait_projected(self, lsn: int | None) -> int:
        """Wait until SQL shows everything up to `lsn`, or everything answered so far; returns up to where.
        Raises InvalidRequest for a position that is not in the log."""
        target = self.durable_lsn if lsn is None else lsn
        if target > self.durable_lsn:
            raise InvalidRequest("lsn", f"{target} is not in the log", f"at most {self.durable_lsn}")
        await self._feed.wait_for(target)
        return target

    def follow(self, after: int) -> LogFollower:
        """Follow the committed log from a position on. Raises InvalidRequest for one that is not in it."""
        if not 0 <= after <= self.durable_lsn:
            raise InvalidRequest("lsn", f"{after} is not in the log", f"at most {self.durable_lsn}")
        return LogFollower(self.index, self._tail, self._pages, after)

    async def verify(self, progress: Callable[[int], None] | None = None) -> Report:
        """Replay the whole log and compare with memory, projection and snapshots."""
        live: tuple[int, dict[str, Any]] = await self.send(Capture())
        await self.wait_projected(live[0])
        return await verify(self._database, self.index, self._empty_state, live, progress)

    def health(self) -> Health:
        """How it is."""
        status = (
            "stopped" if self.stopped is not None else "blocked" if self.blocked is not None else "serving"
        )
        return Health(
            status=status,
            reason=self.stopped or self.blocked or self._stale,
            shard=self.index,
            epoch=self._state.epoch,
            lsn=self.durable_lsn,
            projected_lsn=self._feed.projected_lsn,
            projection_lag_legs=self._feed.lag_legs,
            mailbox_weight=self.waiting,
            accounts=self._state.ledger.account_count,
            open_moves=len(self._state.moves.open),
        )

    async def end(self) -> str:
        """Wait until it serves no more; returns why."""
        await self.ended.wait()
        return self.stopped or ""

    async def rest(self, limit_s: float = REST_LIMIT_S) -> None:
        """Take no more letters, and return once nothing is left that needs other shards; or after a while."""
        self._mailbox.refuse("it is closing")
        try:
            async with asyncio.timeout(limit_s):
                while self.stopped is None and not self._is_resting():
                    await self._turned.wait()
        except TimeoutError:
            _log.warning("others have not answered", shard=self.index, waiting=len(self._unfinished.answers))

    def _is_resting(self) -> bool:
        crossings = self._state.crossings
        busy = self._mailbox.weight or self._pipeline.unanswered or self._unfinished.answers
        return not busy and (crossings is None or crossings.idle)

    async def close(self) -> None:
        """Answer what waits, let the projection catch up, leave a snapshot, and give up the log. A shard that
        has stopped only lets go of what it holds."""
        self._mailbox.close("it is closing")
        if self._turns is not None:
            await asyncio.wait([self._turns])
        if self.stopped is None:
            await self._pipeline.close()
        await self._pipeline.abort()
        if self._follower is not None:
            await asyncio.wait([self._follower])
        graceful, self.stopped = self.stopped is None, self.stopped or "it was closed"
        self._unfinished.fail(ShardStopped(self.index, self.stopped))
        await self._feed.close(ShardStopped(self.index, self.stopped), drain=graceful)
        if graceful:
            await self._leave_snapshot()
        self._tail.end(self.stopped)
        await self._log.close()
        await self._queries.close()
        await self._pages.close()
        self.ended.set()

    # The turn loop

    async def _begin(self) -> None:
        """Write the opening record; serve once it is durable."""
        time = max(self._clock(), self._state.time)
        opening = self._state.opening_record(self.index, self._log.epoch, time)
        payload = encode(opening)
        await self._log.append([(opening.lsn, opening.epoch, payload)])
        self._state.advance(opening, chain_hash(payload))
        self._pipeline.durable_lsn = opening.lsn
        self._feed.add([opening])
        self._tail.add([opening])
        self._turns = asyncio.create_task(self._run(), name=f"shard-{self.index}")

    async def _run(self) -> None:
        letters: list[Letter] = []
        try:
            while self.stopped is None:
                began = time.perf_counter()
                await self._pipeline.room()
                had_room = time.perf_counter()
                await self._mailbox.wait(IDLE_S)
                had_mail = time.perf_counter()
                await self._mailbox.wait_for_more(self._settings.turn_weight_min, self._is_committing)
                frames = self._mailbox.take_frames(self._settings.turn_weight_max)
                letters = self._mailbox.take(self._settings.turn_weight_max)
                if not letters and not frames and self._mailbox.ended:
                    return
                gathered = time.perf_counter()
                await self._run_turn(letters, frames)
                letters = []
                turned, self._turned = self._turned, asyncio.Event()
                turned.set()
                self._metrics.spent("committing", had_room - began)
                self._metrics.spent("idle", had_mail - had_room)
                self._metrics.spent("gathering", gathered - had_mail)
                self._metrics.spent("deciding", time.perf_counter() - gathered)
        except Exception as failure:
            _log.error("a turn has failed", shard=self.index, error=repr(failure), exc_info=True)
            self._fail(failure)
        finally:
            self._refuse(letters, ShardStopped(self.index, self.stopped or "its turn was interrupted"))

    def _is_committing(self) -> bool:
        """Whether a turn would wait for the one before it anyway, and may as well take more then."""
        return self._pipeline.unanswered > 0

    async def _run_turn(self, letters: list[Letter], frames: list[Frame]) -> None:
        started = time.perf_counter()
        if letters:
            self._metrics.waited(started - letters[0].left_at)
        try:
            await self._make_room_for_ids()
        except Overloaded as refusal:
            self._refuse(letters, refusal)
            return
        now = max(self._clock(), self._state.time)
        sweeps = now - self._swept_at >= self._settings.sweep_interval_ns
        turn = self._turn(now, [*self._due(now), *letters] if sweeps else letters, frames)
        if sweeps:
            self._swept_at = now
            turn.sweep()
        await turn.run()
        record = turn.record(self.index, self._log.epoch)
        payload = b""
        if record is not None:
            payload = encode(record)
            self._state.advance(record, chain_hash(payload))
            self._legs_since_snapshot += len(record.legs)
        replies = turn.replies(self._state.lsn)
        if isinstance(turn, ShardedTurn):
            self._mailbox.put_back(turn.unheard)
            replies += self._told_once_durable(turn)
        if record is not None or replies:
            self._pipeline.submit(record, payload, replies)
        self._metrics.turn(
            time.perf_counter() - started, sum(letter.weight for letter in letters), len(payload)
        )
        self._metrics.results(turn.results)
        if self.tracer is not None:
            self.tracer.decided(self.index, letters, started, time.perf_counter())

    def _due(self, now: int) -> list[Letter]:
        """What Moves ask for whose time is up, as a letter to ourselves whose answer nobody waits for."""
        commands = self._state.moves.due(now)
        if not commands:
            return []
        answer = asyncio.get_running_loop().create_future()
        return [Letter(SubmitMoves(commands), answer, len(commands))]

    def _turn(self, now: int, letters: list[Letter], frames: list[Frame]) -> Turn:
        if self._state.placement.shards == 1:
            return Turn(self._state, self._lookups, now, letters)
        return ShardedTurn(
            self._state, self._lookups, now, letters, frames, self._unfinished, self._log.epoch
        )

    def _told_once_durable(self, turn: ShardedTurn) -> list[Reply]:
        """Tell other shards what they may know now; what they may not yet, as replies that are theirs."""
        for shard, frame in turn.at_once.items():
            self._tell(shard, frame)
        replies = []
        for shard, frame in turn.once_durable.items():
            told = asyncio.get_running_loop().create_future()
            told.add_done_callback(partial(self._tell_if_durable, shard))
            replies.append(Reply(told, frame))
        return replies

    def _tell_if_durable(self, shard: int, told: "asyncio.Future[Frame]") -> None:
        if not told.cancelled() and told.exception() is None:
            self._tell(shard, told.result())

    def _tell(self, shard: int, frame: Frame) -> None:
        self._metrics.told()
        self._peers.tell(shard, frame)

    async def _make_room_for_ids(self) -> None:
        """Start a new generation of remembered ids when it is time, and forget one that SQL knows by now.
        Raises Overloaded if there is no room and the projection will make none."""
        while True:
            self._state.forget(self._feed.projected_lsn)
            try:
                self._state.begin_turn()
                return
            except WindowFull as full:
                if self._feed.failure is not None:
                    self._metrics.overloaded("projection")
                    raise Overloaded(
                        f"the projection has stopped: {self._feed.failure}", RETRY_AFTER_S
                    ) from full
                await self._feed.wait_for_progress()

    # What the pipeline says

    def _committed(self, records: list[Record]) -> None:
        self._feed.add(records)
        self._tail.add(records)
        self._metrics.committed(len(records), self._pipeline.commit_s)
        if self._legs_since_snapshot >= self._settings.snapshot_legs and self._follower is None:
            self._legs_since_snapshot = 0
            self._follower = asyncio.create_task(self._follow(), name=f"snapshot-{self.index}")

    def _fail(self, failure: BaseException) -> None:
        """Stop for good: nothing is answered from now on."""
        if self.stopped is not None:
            return
        self.stopped = str(failure) or repr(failure)
        error = ShardStopped(self.index, self.stopped)
        self._mailbox.close(self.stopped)
        self._tail.end(self.stopped)
        while letters := self._mailbox.take(self._settings.turn_weight_max):
            self._refuse(letters, error)
        for reply in self._pipeline.take_unanswered():
            reply._replace(answer=error).give()
        self._unfinished.fail(error)
        if self._turns is not None and self._turns is not asyncio.current_task():
            self._turns.cancel()  # it may wait for what will never come
        _log.error("the shard has stopped", shard=self.index, reason=self.stopped)
        self.ended.set()

    @staticmethod
    def _refuse(letters: list[Letter], error: ActorError) -> None:
        for letter in letters:
            if not letter.answer.done():
                letter.answer.set_exception(error)

    # Snapshots

    def _empty_state(self) -> ShardState:
        return empty_state(self._settings, self._state.placement, self.index)

    async def _follow(self) -> None:
        """Build a snapshot from the committed log, beside the running shard."""
        try:
            await asyncio.to_thread(recovery.build_snapshot, self._database, self.index, self._empty_state())
        except LogDamaged as failure:
            self._fail(failure)
        except PersistenceError as exc:
            _log.warning("no snapshot this time", shard=self.index, error=str(exc))
        except Exception as failure:  # the log can't be replayed, so what is live can't be right either
            self._fail(failure)
        finally:
            self._follower = None

    async def _leave_snapshot(self) -> None:
        """Store the live state, all of it durable by now, so that the next start is quick."""
        lsn, state = self._state.lsn, self._state.state()
        try:
            await asyncio.to_thread(snapshots.save, self._database, self.index, lsn, self._state.chain, state)
        except PersistenceError as exc:
            _log.warning("no snapshot: the next start replays the log", shard=self.index, error=str(exc))


def empty_state(settings: Settings, placement: Placement = ONE_SHARD, shard: int = 0) -> ShardState:
    """The state of a shard that has seen nothing, with room as the settings say."""
    config = LedgerConfig(
        ids_per_generation=settings.ids_per_generation,
        generations_max=settings.generations_max,
        hash_seed=secrets.randbits(64),
    )
    return ShardState(settings.tenant, config, placement, shard, kinds_of(settings))
