"""Runs a shard and its data server in a thread with an event loop of its own.

It is what a Ray actor starts, and works as well without Ray. It becomes the shard's owner by taking over from
whoever is, and tries until it succeeds: nothing that happens to PostgreSQL makes it raise. Once it has owned
the shard and lost it, it is at its end, and `on_end` is called: a new process begins with a clean memory.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
import uvloop

from actors.cluster.data_server import DataServer
from actors.cluster.handshake import VERSION
from actors.doors import Health
from actors.metrics import EngineMetrics
from actors.settings import Settings
from actors.shard import Shard
from persistence import cluster, schema
from persistence.cluster import Endpoint
from persistence.database import Database
from persistence.errors import DatabaseRefused, PersistenceError

PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0
ANY_HOST: Final = "0.0.0.0"  # noqa: S104  # strangers prove themselves first

_log = structlog.get_logger(__name__)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a shard serves: the address that others reach it at, and the node's name for people."""

    host: str
    node: str
    port: int = 0  # 0 = a free one
    listen: str = ANY_HOST


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a host is: `opening` (and why it takes so long), `serving` or `ended` (and why)."""

    shard: int
    state: str
    reason: str
    pid: int
    node: str
    version: str
    endpoint: Endpoint | None = None
    health: Health | None = None


class ShardHost:
    """Hosts shard `index`. `start` returns at once; `status` and `stop` may be called from other threads."""

    def __init__(
        self,
        index: int,
        settings: Settings,
        place: Place,
        on_end: Callable[[str], None] | None = None,
    ) -> None:
        self.ended = threading.Event()
        self._index = index
        self._settings = msgspec.structs.replace(settings, takeover=True)
        self._place = place
        self._on_end = on_end
        self._state = "opening"
        self._reason = "it has just been started"
        self._endpoint: Endpoint | None = None
        self._shard: Shard | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"shard-{index}", daemon=True)

    def start(self) -> None:
        """Begin to open the shard."""
        self._thread.start()

    def stop(self, limit_s: float | None = None) -> bool:
        """Answer what waits, leave a snapshot, and end. Whether that was done within the limit."""
        if self._loop is not None and not self.ended.is_set():
            self._loop.call_soon_threadsafe(self._stop.set)
        return self.ended.wait(limit_s)

    def status(self) -> HostStatus:
        """How it is."""
        shard = self._shard
        return HostStatus(
            shard=self._index,
            state=self._state,
            reason=self._reason,
            pid=os.getpid(),
            node=self._place.node,
            version=VERSION,
            endpoint=self._endpoint,
            health=shard.health() if shard is not None else None,
        )

    # In the thread

    def _run(self) -> None:
        reason = "its thread failed"
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                self._loop = runner.get_loop()
                reason = runner.run(self._serve())
        finally:
            self._state, self._reason = "ended", reason
            self.ended.set()
            if self._on_end is not None:
                self._on_end(reason)

    async def _serve(self) -> str:
        database = Database(self._settings.database)
        pause_s = PAUSE_MIN_S
        try:
            while not self._stop.is_set():
                try:
                    await asyncio.to_thread(database.start)
                    shard, token = await self._open(database)
                except PersistenceError as trouble:
                    self._reason = str(trouble)
                    _log.warning("a shard can't be opened yet", shard=self._index, reason=self._reason)
                    await self._pause(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_MAX_S)
                else:
                    return await self._serve_shard(database, shard, token)
            return "it was stopped"
        finally:
            await asyncio.to_thread(database.stop)

    async def _open(self, database: Database) -> tuple[Shard, bytes]:
        await schema.migrate(database)
        found = await cluster.read(database)
        if found is None or self._index >= found.shards:
            raise DatabaseRefused(f"no cluster with a shard {self._index} uses this database", "settings")
        metrics = EngineMetrics().shard(self._index)
        return await Shard.open(self._index, self._settings, database, metrics), found.token

    async def _serve_shard(self, database: Database, shard: Shard, token: bytes) -> str:
        server = DataServer(shard, token)
        try:
            if not await self._publish(
                database, shard, await server.listen(self._place.listen, self._place.port)
            ):
                return "it was replaced before it could serve"
            self._shard, self._state, self._reason = shard, "serving", ""
            _log.info("a shard serves", shard=self._index, endpoint=self._endpoint)
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

    async def _publish(self, database: Database, shard: Shard, port: int) -> bool:
        self._endpoint = Endpoint(
            shard=self._index,
            epoch=shard.state.epoch,
            host=self._place.host,
            port=port,
            node=self._place.node,
            pid=os.getpid(),
            version=VERSION,
        )
        return await cluster.publish(database, self._endpoint)

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._stop.wait()
        except TimeoutError:
            return
