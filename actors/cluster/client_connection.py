"""A client's connection to the data server of a shard."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from actors.cluster.frames import FRAME_BYTES_MAX, Buffers, FrameProtocol, FrameRefused, frame
from actors.cluster.handshake import challenge, is_proof, mismatch, proof_of
from actors.cluster.supervision import VERSION
from actors.cluster.wire import (
    PROTOCOL,
    Arrived,
    Encoded,
    Hello,
    Proof,
    Refused,
    Requests,
    Welcome,
    decode_from_server,
    encode_head,
)
from persistence.cluster import Endpoint

UNSENT_BYTES_MAX: Final = 16 << 20
"""With more than this on their way, requests wait to be sent."""
FRAME_BYTES: Final = 16 << 20
"""Parcels are put into one frame up to about this size."""


class ConnectionRefused(ConnectionError):  # noqa: N818  # says what happened
    """The other end is not the shard that we look for, or wants nothing of us."""


class Client(Protocol):
    """Who a connection is for."""

    @property
    def token(self) -> bytes:
        """The cluster's."""

    @property
    def thing_count(self) -> int:
        """How much it has of the catalogue."""

    def welcomed(self, connection: "ClientConnection", welcome: Welcome) -> None:
        """The connection takes requests."""

    def answered(self, connection: "ClientConnection", arrived: Arrived) -> None:
        """Answers are there."""

    def has_room(self) -> None:
        """Requests may be sent again."""


class ClientConnection(FrameProtocol):
    """Speaks to the shard at `endpoint`, for `client`. `welcome` is done when it takes requests, or fails
    with the reason why it does not; `lost` says why it takes none any more."""

    def __init__(self, endpoint: Endpoint, client: Client) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self.endpoint = endpoint
        self.welcome: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()  # why
        self.heard_at = loop.time()  # when anything was heard last
        self.room = True  # whether requests may be sent
        self._client = client
        self._reason = "the connection was lost"
        self._hello: Hello | None = None
        self._challenge = challenge()

    def send_parcels(self, parcels: Sequence[Encoded]) -> None:
        """Send parcels in order, in as few frames as can be."""
        start, size = 0, 0
        for at, parcel in enumerate(parcels):
            more = len(parcel.json) + sum(buffer.nbytes for buffer in parcel.buffers)
            if at > start and size + more > FRAME_BYTES:
                self._send_frame(parcels[start:at])
                start, size = at, 0
            size += more
        self._send_frame(parcels[start:])

    def _send_frame(self, parcels: Sequence[Encoded]) -> None:
        head = encode_head(Requests([parcel.json for parcel in parcels]))
        self.send(frame(head, [buffer for parcel in parcels for buffer in parcel.buffers]))

    def drop(self, reason: str) -> None:
        """Hang up."""
        self._reason = reason
        self.transport.abort()

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is there; the server speaks first."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(UNSENT_BYTES_MAX)

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is gone."""
        reason = self._reason if exc is None else f"{self._reason}: {exc}"
        self.room = False
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionRefused(reason))
        if not self.lost.done():
            self.lost.set_result(reason)

    def pause_writing(self) -> None:
        """The server does not read fast enough."""
        self.room = False

    def resume_writing(self) -> None:
        """It has caught up."""
        self.room = True
        self._client.has_room()

    def frame_received(self, head: memoryview, buffers: Buffers) -> None:
        """A frame is there."""
        self.heard_at = asyncio.get_running_loop().time()
        said = decode_from_server(head, buffers)
        if isinstance(said, Arrived):
            if not self.welcome.done():
                raise FrameRefused("answers before a welcome")
            self._client.answered(self, said)
        elif isinstance(said, Hello):
            self._prove(said)
        elif isinstance(said, Welcome):
            self._accept(said)
        elif isinstance(said, Refused):
            self.drop(said.reason)

    def refused(self, refusal: FrameRefused) -> None:
        """What came is no frame."""
        self._reason = str(refusal)

    # Handshake

    def _prove(self, said: Hello) -> None:
        reason = mismatch(said)
        if (said.shard, said.epoch) != (self.endpoint.shard, self.endpoint.epoch):
            reason = f"shard {said.shard} with epoch {said.epoch} is there now"
        if reason or self._hello is not None:
            self.drop(reason or "a second greeting")
            return
        self._hello = said
        self.frame_bytes_max = FRAME_BYTES_MAX  # what follows may be a catalogue
        answer = Proof(
            protocol=PROTOCOL,
            version=VERSION,
            proof=proof_of(self._client.token, "client", said, self._challenge),
            challenge=self._challenge,
            things=self._client.thing_count,
        )
        self.send(frame(encode_head(answer)))

    def _accept(self, said: Welcome) -> None:
        hello = self._hello
        if hello is None or self.welcome.done():
            raise FrameRefused("a welcome out of turn")
        if not is_proof(said.proof, self._client.token, "server", hello, self._challenge):
            self.drop("it does not know the token of this cluster")
            return
        self._client.welcomed(self, said)
        self.welcome.set_result(None)


async def connect(endpoint: Endpoint, client: Client, limit_s: float) -> ClientConnection:
    """A connection that takes requests. Raises OSError or TimeoutError."""
    connection = ClientConnection(endpoint, client)
    async with asyncio.timeout(limit_s):
        await asyncio.get_running_loop().create_connection(lambda: connection, endpoint.host, endpoint.port)
        try:
            await connection.welcome
        except BaseException:
            connection.transport.abort()
            raise
    return connection
