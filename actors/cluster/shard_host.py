"""Hosts a shard: opens it, serves it, and says how it is.

It becomes the shard's owner by taking over from whoever is, and tries until it succeeds: nothing that happens
to PostgreSQL makes it give up. It does not try while the cluster's row names another holder, so two clusters
never take a shard from each other in turn. Once it has owned the shard and lost it, it is at its end: who
comes next begins with a clean memory.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
import uvloop

from actors.cluster.data_server import DataServer
from actors.cluster.remote_peers import RemotePeers
from actors.cluster.supervision import LOST, STOPPED, VERSION, HostStatus, ShardPlan
from actors.metrics import EngineMetrics
from actors.shard import Shard
from persistence import cluster, placement, schema, tenancy
from persistence.cluster import Endpoint
from persistence.database import Database
from persistence.errors import DatabaseRefused, PersistenceError

PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0
ANY_HOST: Final = "0.0.0.0"  # noqa: S104  # strangers prove themselves first
_log = structlog.get_logger(__name__)


class ShardHost:
    """Hosts the shard of a plan, in this thread by `run` or in another by `start`. `tell` is told of every
    change."""

    def __init__(self, plan: ShardPlan, tell: Callable[[HostStatus], None]) -> None:
        self.ended = threading.Event()
        self._plan = plan
        self._settings = msgspec.structs.replace(plan.settings, takeover=True)
        self._tell = tell
        self._endpoint: Endpoint | None = None
        self._peers: RemotePeers | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Host it in a thread of its own, until `stop`."""
        threading.Thread(target=self._run, name=f"shard-{self._plan.shard}", daemon=True).start()

    def run(self) -> int:
        """Host it until SIGTERM says stop or the shard ends; the exit code of a process that did so."""
        return self._run(signal.SIGTERM, signal.SIGINT)

    def stop(self, limit_s: float | None = None) -> bool:
        """Answer what waits, leave a snapshot, and end. Whether that was done within the limit. For other
        threads."""
        if self._loop is not None and not self.ended.is_set():
            self._loop.call_soon_threadsafe(self._stop.set)
        return self.ended.wait(limit_s)

    # Inside

    def _run(self, *stop_signals: signal.Signals) -> int:
        reason = "its event loop failed"
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                self._loop = runner.get_loop()
                for number in stop_signals:
                    self._loop.add_signal_handler(number, self._stop.set)
                self._say("opening", "it has just been started")
                reason = runner.run(self._serve())
                return STOPPED if self._stop.is_set() else LOST
        finally:
            self._say("ended", reason)
            self.ended.set()

    def _say(self, state: str, reason: str = "") -> None:
        endpoint, place = self._endpoint, self._plan.place
        self._tell(
            HostStatus(
                shard=self._plan.shard,
                state=state,
                reason=reason,
                pid=os.getpid(),
                node=place.node,
                version=VERSION,
                address=f"{endpoint.host}:{endpoint.port}" if endpoint is not None else "",
                epoch=endpoint.epoch if endpoint is not None else 0,
            )
        )

    async def _serve(self) -> str:
        database = Database(self._settings.database)
        pause_s = PAUSE_MIN_S
        try:
            while not self._stop.is_set():
                try:
                    await asyncio.to_thread(database.start)
                    shard, token = await self._open(database)
                except PersistenceError as trouble:
                    _log.warning("a shard can't be opened yet", shard=self._plan.shard, reason=str(trouble))
                    self._say("opening", str(trouble))
                    await self._pause(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_MAX_S)
                else:
                    return await self._serve_shard(database, shard, token)
            return "it was stopped"
        finally:
            if self._peers is not None:
                await self._peers.close()
            await asyncio.to_thread(database.stop)

    async def _open(self, database: Database) -> tuple[Shard, bytes]:
        await schema.migrate(database)
        found = await cluster.read(database)
        if found is None or self._plan.shard >= found.shards:
            raise DatabaseRefused(
                f"no cluster with a shard {self._plan.shard} uses this database", "settings"
            )
        if found.holder != self._plan.holder:
            raise DatabaseRefused(f"the shards are those of {found.holder!r} now", "settings")
        await tenancy.claim(database, self._settings.tenant)
        where = await placement.agreed(database, found.shards)
        metrics = EngineMetrics().shard(self._plan.shard)
        if where.shards > 1 and self._peers is None:
            self._peers = RemotePeers(found.token, database)
        shard = await Shard.open(
            self._plan.shard, self._settings, database, metrics, placement=where, peers=self._peers
        )
        return shard, found.token

    async def _serve_shard(self, database: Database, shard: Shard, token: bytes) -> str:
        server = DataServer(shard, token)
        try:
            port = await server.listen(ANY_HOST, self._plan.place.port)
            self._endpoint = Endpoint(
                shard=self._plan.shard,
                epoch=shard.state.epoch,
                host=self._plan.place.host,
                port=port,
                node=self._plan.place.node,
                pid=os.getpid(),
                version=VERSION,
            )
            if not await cluster.publish(database, self._endpoint):
                return "it was replaced before it could serve"
            self._say("serving")
            _log.info("a shard serves", shard=self._plan.shard, epoch=shard.state.epoch, port=port)
            ending = asyncio.create_task(shard.end(), name="shard-end")
            stopping = asyncio.create_task(self._stop.wait(), name="shard-stop")
            await asyncio.wait((ending, stopping), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            ending.cancel()
            return shard.stopped or "it was stopped"
        finally:
            server.stop_listening()
            await shard.close()
            server.close()

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._stop.wait()
        except TimeoutError:
            return
