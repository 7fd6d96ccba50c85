"""The way from a shard to others in other processes: a connection to the data server of each.

Nothing is kept for long and nothing is sent twice: whoever needs an answer says it again. What is told while
a shard can't be reached waits for it, up to a bound.
"""

import asyncio
from collections import deque
from typing import Final

import structlog

from actors.cluster.client_connection import ClientConnection, connect
from actors.cluster.whereabouts import Whereabouts
from actors.cluster.wire import Arrived, Tell, Welcome, encode_parcel
from engine.crossing.messages import Frame
from persistence.cluster import Endpoint
from persistence.database import Database

KEPT_MAX: Final = 1_000
"""Frames that wait for a connection; older ones are dropped."""
CONNECT_S: Final = 3.0
PAUSE_S: Final = 0.05
_ALL: Final = 2**53 - 1
"""More Things than there are: no codes are asked for."""

_log = structlog.get_logger(__name__)


class RemotePeers:
    """The other shards of a cluster whose token is `token`."""

    def __init__(self, token: bytes, database: Database) -> None:
        self._token = token
        self._whereabouts = Whereabouts(database)
        self._links: dict[int, _Link] = {}

    def tell(self, shard: int, frame: Frame) -> None:
        """Let a shard have a frame."""
        link = self._links.get(shard)
        if link is None:
            link = self._links[shard] = _Link(shard, self._token, self._whereabouts)
        link.tell(frame)

    async def close(self) -> None:
        """Hang up."""
        for link in self._links.values():
            link.close()
        await self._whereabouts.close()


class _Link:
    """The connection to one shard, whoever owns it at the time."""

    def __init__(self, shard: int, token: bytes, whereabouts: Whereabouts) -> None:
        self.token = token
        self.thing_count = _ALL
        self._shard = shard
        self._whereabouts = whereabouts
        self._waiting: deque[Frame] = deque(maxlen=KEPT_MAX)
        self._connection: ClientConnection | None = None
        self._number = 0  # of the next parcel
        whereabouts.listen(shard, self._moved)
        self._task = asyncio.create_task(self._run(), name=f"peer-{shard}")

    def tell(self, frame: Frame) -> None:
        """Send a frame, or keep it for a while."""
        self._waiting.append(frame)
        self._flush()

    def close(self) -> None:
        """Hang up."""
        self._task.cancel()
        if self._connection is not None:
            self._connection.drop("it is closing")

    # From the connection

    def welcomed(self, connection: ClientConnection, _welcome: Welcome) -> None:
        """What was kept may be sent."""
        self._connection = connection
        self._flush()

    def answered(self, connection: ClientConnection, arrived: Arrived) -> None:
        """What another shard has to say comes by its own connection."""

    def has_room(self) -> None:
        """Some more may be sent."""
        self._flush()

    # Inside

    def _flush(self) -> None:
        connection = self._connection
        if connection is None or not connection.room or not self._waiting:
            return
        parcels = []
        while self._waiting:
            parcels.append(encode_parcel(self._number, [Tell(self._waiting.popleft())]))
            self._number += 1
        connection.send_parcels(parcels)

    def _moved(self, endpoint: Endpoint) -> None:
        if self._connection is not None and self._connection.endpoint.epoch < endpoint.epoch:
            self._connection.drop("the shard has another owner")

    async def _run(self) -> None:
        while True:
            self._whereabouts.search(self._shard)
            endpoint = self._whereabouts.of(self._shard)
            try:
                if endpoint is None:
                    await asyncio.sleep(PAUSE_S)
                    continue
                connection = await connect(endpoint, self, CONNECT_S)
            except OSError as reason:
                _log.info("a shard can't be reached by another", shard=self._shard, reason=str(reason))
                await asyncio.sleep(PAUSE_S)
                continue
            self._whereabouts.found(self._shard)
            await connection.lost
            self._connection = None
