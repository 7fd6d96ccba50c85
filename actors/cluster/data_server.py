"""The data server of a shard: its door, for callers in other processes.

It lives in the shard's own event loop. Frames of requests become messages in the mailbox, in the order in
which they came; answers of one pass of the loop go back in one frame. A client that does not read its answers
is not read from either. Whether messages find room is the mailbox's to say; its refusals are answers too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast

import structlog

from actors.cluster.frames import FRAME_BYTES_MAX, Buffers, FrameProtocol, FrameRefused, frame
from actors.cluster.handshake import challenge, is_proof, mismatch, proof_of
from actors.cluster.supervision import VERSION
from actors.cluster.wire import (
    PROTOCOL,
    Answers,
    AskHealth,
    Encoded,
    Garbled,
    Hello,
    Left,
    Proof,
    Question,
    Refused,
    Sendable,
    Tell,
    Verify,
    WaitDurable,
    WaitProjected,
    Welcome,
    decode_from_client,
    encode_answer,
    encode_head,
)
from actors.errors import ActorError, InvalidRequest, Overloaded, ShardStopped
from actors.mailbox import RETRY_AFTER_S
from actors.messages import Fence, SubmitThings
from actors.shard import Shard
from persistence.errors import PersistenceError

BACKLOG: Final = 128
HANDSHAKE_S: Final = 5.0
STRANGERS_MAX: Final = 256
"""Connections that have not proved anything yet; more are refused."""
QUESTIONS_MAX: Final = 1_000
"""Questions of one connection that may wait for their answers."""
DURABLE_WAIT_S: Final = 10.0
UNSENT_BYTES_MAX: Final = 16 << 20
"""With more answers than this on their way, a client's requests wait."""

_log = structlog.get_logger(__name__)


class DataServer:
    """Serves `shard` to whoever knows `token`. Use `listen`, then `close`."""

    def __init__(self, shard: Shard, token: bytes) -> None:
        self.shard = shard
        self.token = token
        self.things = _CatalogueMark(shard)
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, host: str, port: int = 0) -> int:
        """Take connections at an address; returns the port, which is a free one if 0 was given."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self), host, port, backlog=BACKLOG
        )
        return int(self._server.sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    def close(self) -> None:
        """Take no more connections, send what is answered, and end the others."""
        self.stop_listening()
        for connection in list(self.connections):
            connection.end()

    def refresh(self) -> None:
        """Tell everybody of Things that are new."""
        for connection in self.connections:
            connection.wake()

    async def answer(self, question: Question) -> Any:
        """The answer to a question."""
        return await _QUESTIONS[type(question)](self.shard, question)


async def _health(shard: Shard, _question: Question) -> Any:
    return shard.health()


async def _wait_projected(shard: Shard, question: Question) -> int:
    return await shard.wait_projected(cast(WaitProjected, question).lsn)


async def _wait_durable(shard: Shard, question: Question) -> int:
    lsn = cast(WaitDurable, question).lsn
    if lsn >= shard.durable_lsn:
        with shard.follow(shard.durable_lsn) as follower:
            await follower.wait(DURABLE_WAIT_S)
    return shard.durable_lsn


async def _verify(shard: Shard, _question: Question) -> Any:
    return await shard.verify()


async def _tell(shard: Shard, question: Question) -> None:
    shard.hear(cast(Tell, question).frame)


_QUESTIONS: Final[dict[type, Callable[[Shard, Question], Awaitable[Any]]]] = {
    AskHealth: _health,
    WaitProjected: _wait_projected,
    WaitDurable: _wait_durable,
    Verify: _verify,
    Tell: _tell,
}


class _CatalogueMark:
    """How much of the shard's catalogue is durable: only that may be told. Asset numbers are given in order,
    so once one is answered for, all before it are durable as well."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self.count = shard.state.directory.thing_count  # all of them, when the shard has just been opened

    def answered(self, answers: list[Any]) -> bool:
        """Take note of answers about Things; whether there are more now."""
        before = self.count
        self.count = max([before, *(answer.asset for answer in answers)])
        return self.count > before

    def after(self, count: int) -> list[str]:
        """The codes of the Things after the first `count`."""
        directory = self._shard.state.directory
        return [directory.thing(asset).code for asset in range(count + 1, self.count + 1)]


class _Connection(FrameProtocol):
    """One client's connection."""

    def __init__(self, server: DataServer) -> None:
        super().__init__()
        self._server = server
        self._hello = Hello(
            protocol=PROTOCOL,
            version=VERSION,
            shard=server.shard.index,
            epoch=server.shard.state.epoch,
            challenge=challenge(),
        )
        self._admitted = False
        self._things = 0  # of the catalogue, that the client has been told
        self._answers: list[Encoded] = []  # not sent yet
        self._waking = False  # whether `_flush` is on its way
        self._reading = True
        self._questions: set[asyncio.Task[None]] = set()
        self._deadline: asyncio.TimerHandle | None = None

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        super().connection_made(transport)
        strangers = sum(not other._admitted for other in self._server.connections)
        if strangers >= STRANGERS_MAX:
            self.transport.abort()
            return
        self._server.connections.add(self)
        self.transport.set_write_buffer_limits(UNSENT_BYTES_MAX)
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_S, self.transport.abort)
        self.send(frame(encode_head(self._hello)))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # whatever it was
        """The client is gone; what it asked for happens nevertheless."""
        self._server.connections.discard(self)
        self._admitted = False
        self._answers.clear()
        if self._deadline is not None:
            self._deadline.cancel()
        for task in self._questions:
            task.cancel()

    def pause_writing(self) -> None:
        """The client does not read; so we don't either."""
        self._reading = False
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._reading = True
        self.transport.resume_reading()

    def frame_received(self, head: memoryview, buffers: Buffers) -> None:
        """A frame is there."""
        said = decode_from_client(head, buffers)
        if isinstance(said, Proof):
            self._admit(said)
        elif self._admitted:
            for parcel in said:
                if isinstance(parcel, Garbled):
                    self._refuse(parcel)
                else:
                    self._take(parcel)
        else:
            raise FrameRefused("requests without a proof")

    def refused(self, refusal: FrameRefused) -> None:
        """What came is no frame."""
        _log.warning("a connection was dropped", peer=self._peer, reason=str(refusal))

    # Handshake

    @property
    def _peer(self) -> str:
        return str(self.transport.get_extra_info("peername"))

    def _admit(self, said: Proof) -> None:
        if self._admitted:
            raise FrameRefused("a second proof")
        token = self._server.token
        reason = mismatch(said)
        if not reason and not is_proof(said.proof, token, "client", self._hello, said.challenge):
            reason = "it does not know the token of this cluster"
        if reason:
            _log.warning("a client was refused", peer=self._peer, reason=reason)
            self.send(frame(encode_head(Refused(reason=reason))))
            self.transport.close()
            return
        assert self._deadline is not None
        self._deadline.cancel()
        self._admitted = True
        self.frame_bytes_max = FRAME_BYTES_MAX
        shard, marks = self._server.shard, self._server.things
        self._things = marks.count
        welcome = Welcome(
            proof=proof_of(token, "server", self._hello, said.challenge),
            health=shard.health(),
            recovered=shard.recovered,
            things=marks.after(max(0, said.things)),
        )
        self.send(frame(encode_head(welcome)))

    # Requests

    def _take(self, parcel: Left) -> None:
        """Leave a parcel's messages in the mailbox; they are answered one by one."""
        numbered = list(enumerate(parcel.messages, parcel.first))
        if any(isinstance(message, Question) for message in parcel.messages):
            for number, question in numbered:
                self._ask(number, cast(Question, question))
            return
        try:
            sent = self._server.shard.send_all(cast(list[Any], parcel.messages))
        except ActorError as refusal:
            for number, message in numbered:
                self._answer(number, message, refusal)
            return
        for (number, message), future in zip(numbered, sent, strict=True):
            future.add_done_callback(partial(self._answered, number, message))

    def _refuse(self, parcel: Garbled) -> None:
        refusal = InvalidRequest("request", parcel.problem, "values of the types that are declared")
        for number in range(parcel.first, parcel.first + parcel.message_count):
            self._answer(number, Fence(), refusal)

    def _ask(self, number: int, question: Question) -> None:
        if len(self._questions) >= QUESTIONS_MAX:
            self._answer(number, question, Overloaded("too many questions wait", RETRY_AFTER_S))
            return
        task = asyncio.create_task(self._find_out(number, question), name=f"question-{number}")
        self._questions.add(task)
        task.add_done_callback(self._questions.discard)

    async def _find_out(self, number: int, question: Question) -> None:
        try:
            answer = await self._server.answer(question)
        except ActorError as refusal:
            answer = refusal
        except PersistenceError as trouble:
            answer = Overloaded(f"the database is in trouble: {trouble}", RETRY_AFTER_S)
        self._answer(number, question, answer)

    # Answers

    def _answered(self, number: int, message: Sendable, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            answer: Any = ShardStopped(self._server.shard.index, "it was interrupted")
        else:
            answer = future.exception() or future.result()
        made_things = isinstance(message, SubmitThings) and isinstance(answer, list)
        if made_things and self._server.things.answered(answer):
            self._server.refresh()
        self._answer(number, message, answer)

    def _answer(self, number: int, message: Sendable, answer: Any) -> None:
        if not self._admitted:
            return
        self._answers.append(encode_answer(number, message, answer))
        self.wake()

    def wake(self) -> None:
        """Send, at the end of this pass of the loop, what there is to tell."""
        if self._admitted and not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._waking = False
        if not self._admitted:
            return
        answers, self._answers = self._answers, []
        things, self._things = self._server.things.after(self._things), self._server.things.count
        if not answers and not things:
            return
        head = Answers([answer.json for answer in answers], things, self._server.shard.durable_lsn)
        self.send(frame(encode_head(head), [buffer for answer in answers for buffer in answer.buffers]))

    def end(self) -> None:
        """Send what is answered, then close."""
        self._flush()
        self.transport.close()
