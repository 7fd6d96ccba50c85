"""HTTP/1.1 as uvicorn speaks it, with short cuts for the two kinds of requests that come most.

    POST /v1/legs, a small JSON body          → the gatherer, with those of other connections
    POST /v1/legs, /v1/accounts, Arrow        → the bulk interface

Such a request is read here and answered with one write: no scope, no queue of body parts, and for the small
ones no task and no coroutine of their own. Whatever is not usual about it (its length is not said, it expects
to be told to continue, it was sent before the last one was answered, its JSON needs a closer look) goes the
way of every other request: uvicorn sees the same calls of its parser as if this class were not there.

    data_received         one whole small request, with a head that the parser has seen? then gather it
    on_headers_complete   too much to do? then 503, and the body is thrown away
                          a short cut, for a caller whom the gate knows? then keep the body, else uvicorn
    on_message_complete   gather it, or start a task; or replay head and body to uvicorn
    answered, failed      write the answer, then uvicorn's own end of a request

Clients send the same head again and again, byte for byte. What the parser made of one holds for the next, as
long as the parser is between two messages, so those heads are remembered and not parsed again. Nothing else
may be decided by a head that is remembered than what is remembered with it: how long the body is, and who
sends it. Whoever can't be let in here and now goes the usual way too, where the gate tells them why.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from actors.runtime import Engine
from gateway import arrow, hot_legs
from gateway.admission import HELD_S, Admission, Lane
from gateway.bulk import ARROW, LEGS, PATHS, reply_to
from gateway.events.streams import CUT
from gateway.gatherer import Gatherer, Outcome
from gateway.hot_legs import HotLegs
from gateway.metrics import UNROUTED, HttpMetrics
from gateway.problems import unavailable
from gateway.replies import JSON, Reply, problem_reply
from gateway.security.authorization import may_write_in_bulk
from gateway.security.callers import Caller
from gateway.security.gate import Gate

TRACED: Final = "tessera.traced"
"""Among a scope's extensions, of a request that was taken off its short cut to be traced."""
SMALL_BODY_BYTES_MAX: Final = 32_768
"""A longer JSON body goes the usual way."""
HEADS_MAX: Final = 256
"""Heads that are remembered; when there are more, all are forgotten."""
HEAD_BYTES_MAX: Final = 1_024
"""A longer one is parsed every time."""
_BYTES_MAX: Final = {JSON: SMALL_BODY_BYTES_MAX, ARROW: arrow.BODY_BYTES_MAX}
_BOUNDED: Final = frozenset({b"GET", b"POST", b"PATCH", b"PUT", b"DELETE"})
_UNBOUNDED: Final = frozenset({b"/health", b"/ready", b"/metrics", b"/v1/events"})
"""Whoever asks how a busy gateway is, is told; and streams of events have bounds of their own."""
_ONLY_PARSED: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""With one of these, what comes after a head is not just its body."""
_LEGS: Final = LEGS.encode()
_END_OF_HEAD: Final = b"\r\n\r\n"
_PATHS: Final = {path.encode(): path for path in PATHS}
_STATUS_LINES: Final = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}


_TOO_MUCH: Final = problem_reply(unavailable("overloaded", "There is too much to do: try again."), "", "")


def _too_much(more: bytes) -> bytes:
    """The answer to a request that is refused by its head, with one more header."""
    parts = [_STATUS_LINES[_TOO_MUCH.status], b"content-type: ", _TOO_MUCH.media_type, b"\r\n"]
    for name, value in _TOO_MUCH.headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (more, b"content-length: %d\r\n\r\n" % len(_TOO_MUCH.body), _TOO_MUCH.body)
    return b"".join(parts)


_TOO_MUCH_STAY: Final = _too_much(b"")
_TOO_MUCH_GO: Final = _too_much(b"connection: close\r\n")


class _InProgress:
    """Stands where uvicorn keeps the request it is answering, so that it queues others and ends in peace. A
    connection has one, for one request after the other."""

    def __init__(self) -> None:
        self.response_complete = True
        self.keep_alive = True  # uvicorn clears it when it shuts down
        self.disconnected = False  # uvicorn sets it when the connection is lost
        self.message_event = asyncio.Event()


class _Head(NamedTuple):
    """What a head says that was parsed before."""

    body_bytes: int
    caller: Caller


class _Refusal(NamedTuple):
    """What is known of a request by its head that was refused."""

    lane: Lane
    weight: int
    body_bytes: int
    method: str
    path: str  # as metrics name it


class ShortCut(HttpToolsProtocol):
    """A connection. Subclasses made by `protocol_for` know the engine, the gatherer, the metrics and the
    gate."""

    engine: Engine
    gatherer: Gatherer
    metrics: HttpMetrics
    gate: Gate
    admission: Admission
    heads: dict[bytes, _Head]  # of small legs in JSON
    refusals: dict[bytes, _Refusal]  # by heads that were refused
    chooses: Callable[[], bool] | None  # whether to trace a request; None = nothing is traced

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._body: list[bytes] | None = None  # of a request that may take a short cut
        self._path = ""
        self._query = b""
        self._media_type = b""
        self._batch: HotLegs
        self._caller: Caller
        self._started = 0.0
        self._answered = 0.0  # when the last short cut ended
        self._request = _InProgress()
        self._chunk = b""  # what the parser was given last …
        self._chunk_begins = True  # … and whether it was between two messages then
        self._between = True  # whether it is now
        self._traced = False  # whether the request that is being read was chosen to be traced
        self._lane: Lane | None = None  # where the request in progress has a place, if it took a short cut …
        self._weight = 0  # … and how much it weighs there
        self._released = 0.0  # when the connection was last taken up again after a refusal
        self.unread_bytes = 0  # of the body of a request that was refused by its head
        self._skipped_bytes = 0  # of such a body, which the parser is not to see

    # From the connection

    def data_received(self, data: bytes) -> None:
        """Bytes are there."""
        if self._skipped_bytes:
            skipped = min(len(data), self._skipped_bytes)
            self._skipped_bytes -= skipped
            if skipped == len(data):
                return
            data = data[skipped:]
        if self._between and self._is_idle() and self._refuse_again(data):
            return
        if self._between and self._is_idle() and (self.chooses is None or not self._choose()):
            body_at = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
            head = self.heads.get(data[:body_at])
            if head is not None and head.body_bytes == len(data) - body_at:
                self._path = LEGS
                self._caller = head.caller
                self._started = time.perf_counter()
                if not self._may_enter(self.admission.legs, 1):
                    self._refuse(_Refusal(self.admission.legs, 1, 0, "POST", LEGS))
                    return
                if self._gather(data[body_at:]):
                    return
        self._chunk, self._chunk_begins = data, self._between
        super().data_received(data)

    def timeout_keep_alive_handler(self) -> None:
        """There was no request for long, unless one took a short cut: those do not wind the clock."""
        self.timeout_keep_alive_task = None
        if not self._is_idle():
            return  # its answer sets the clock again
        left_s = self._answered + self.timeout_keep_alive - time.perf_counter()
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    # From the parser

    def on_message_begin(self) -> None:
        """The first byte of a request is there."""
        self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head of a request is there."""
        self._started = time.perf_counter()
        method = self.parser.get_method()
        raw_path = self.url.partition(b"?")[0]
        lane, weight, length = self._place(method, raw_path, self.headers)
        if lane is not None and self._is_idle() and not self._may_enter(lane, weight):
            refusal = _Refusal(lane, weight, max(length, 0), method.decode(), _PATHS.get(raw_path, UNROUTED))
            self._refuse(refusal)
            self._remember_refusal(refusal, length)
        elif self._is_usual(method) and self._is_hot() and (self._media_type == JSON or self._admit()):
            self._body = []
            if self._media_type == ARROW and lane is not None:
                self._enter(lane, weight)
        else:
            super().on_headers_complete()
            self.scope["extensions"] = {CUT: {"now": self.transport.abort}}
            if self._traced:
                self.scope["extensions"][TRACED] = {}

    def on_body(self, body: bytes) -> None:
        """A part of a body is there."""
        if self._body is not None:
            self._body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        self._between = self.parser.should_keep_alive()
        if self._body is None:
            super().on_message_complete()
            return
        body, self._body = b"".join(self._body), None
        if self._media_type == ARROW:
            self._begin()
            task = self.loop.create_task(self._bulk(body))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            return
        if self._gather(body):
            self._remember_head(body)
        else:
            super().on_headers_complete()
            super().on_body(body)
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is no connection any more."""
        if self._body is not None:
            self._leave()  # what has begun already ends in its own time
        super().connection_lost(exc)

    # Places

    def _place(
        self, method: bytes, path: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[Lane | None, int, int]:
        """In which lane a request has its place, None = in none; what it weighs there; and how long its body
        is, −1 if only the parser can tell."""
        if method not in _BOUNDED or path in _UNBOUNDED:
            return None, 0, 0
        length, only_parsed = 0, False
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name in _ONLY_PARSED:
                only_parsed = True
        known = -1 if only_parsed else length
        if length > SMALL_BODY_BYTES_MAX:
            return self.admission.large, length, known
        lane = self.admission.legs if path == _LEGS and method == b"POST" else self.admission.others
        return lane, 1, known

    def _may_enter(self, lane: Lane, weight: int) -> bool:
        waited = self._started - self._released < HELD_S
        return lane.admits(weight, waited=waited)

    def _enter(self, lane: Lane, weight: int) -> None:
        self._lane, self._weight = lane, weight
        lane.enter(weight)

    def _leave(self) -> None:
        if self._lane is not None:
            self._lane.leave(self._weight)
            self._lane = None

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Let the framework begin with a request."""
        scope = cycle.scope
        lane, weight, _ = self._place(scope["method"].encode(), scope["raw_path"], scope["headers"])
        if lane is not None:
            lane.enter(weight)
            app = partial(_leaving, app, partial(lane.leave, weight))
        super()._start_asgi_task(cycle, app)

    def _refuse_again(self, data: bytes) -> bool:
        """Refuse the request that begins here, if its head is one that was refused before and there is too
        much to do for it still; the parser does not see it."""
        if not self.refusals:
            return False
        body_at = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        refusal = self.refusals.get(data[:body_at])
        if refusal is None or len(data) - body_at > refusal.body_bytes:
            return False
        self._started = time.perf_counter()
        if self._may_enter(refusal.lane, refusal.weight):
            return False
        self._refuse(refusal)
        self._skipped_bytes = refusal.body_bytes - (len(data) - body_at)
        return True

    def _remember_refusal(self, refusal: "_Refusal", length: int) -> None:
        """Remember the head that the parser has just seen, if it came in one piece and nothing comes after
        its body."""
        body_at = self._chunk.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        whole = self._chunk_begins and len(_END_OF_HEAD) <= body_at <= HEAD_BYTES_MAX
        if whole and len(self._chunk) - body_at <= length and not self.transport.is_closing():
            if len(self.refusals) >= HEADS_MAX:
                self.refusals.clear()
            self.refusals[self._chunk[:body_at]] = refusal

    def _refuse(self, refusal: "_Refusal") -> None:
        """Say that there is too much to do, throw away the body, and let the connection wait."""
        self.metrics.answered(refusal.method, refusal.path, _TOO_MUCH.status, 0.0)
        self.cycle = self._request  # type: ignore[assignment]  # complete, so uvicorn passes over the body
        self.unread_bytes = refusal.body_bytes
        if self.transport.is_closing():
            return
        stays = (self._between or self.parser.should_keep_alive()) and not self.expect_100_continue
        self._answered = self._started
        self.transport.write(_TOO_MUCH_STAY if stays and self._request.keep_alive else _TOO_MUCH_GO)
        if not stays or not self._request.keep_alive:
            self.transport.close()
            return
        if self.timeout_keep_alive_task is None:
            self.on_response_complete()
        self.flow.pause_reading()
        self.admission.refused(refusal.lane, self)

    def release(self) -> None:
        """Read from the connection again, which was refused a while ago."""
        self._released = time.perf_counter()
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _gather(self, body: bytes) -> bool:
        """Take a small JSON body with the others, unless it needs a closer look."""
        batch = hot_legs.decode(body)
        if batch is None or not self.gatherer.knows_assets(batch) or not self._admit():
            return False
        self._enter(self.admission.legs, 1)
        self._begin()
        self._batch = batch
        self.gatherer.post(batch, self)
        return True

    def _remember_head(self, body: bytes) -> None:
        """Remember the head of the request that the parser has just seen, if it came in one piece and
        alone."""
        body_at = self._chunk.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        if self._chunk_begins and body_at <= HEAD_BYTES_MAX and self._chunk[body_at:] == body:
            if len(self.heads) >= HEADS_MAX:
                self.heads.clear()
            self.heads[self._chunk[:body_at]] = _Head(len(body), self._caller)

    def _choose(self) -> bool:
        """Whether the request that begins now is to be traced, and therefore goes the usual way."""
        assert self.chooses is not None
        self._traced = self.chooses()
        return self._traced

    def _admit(self) -> bool:
        return self._caller.admit(self._started)

    def _is_idle(self) -> bool:
        """Whether the last request has been answered, and the client reads its answers."""
        answered = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first
        return answered and not self.flow.write_paused

    def _is_usual(self, method: bytes) -> bool:
        return bool(
            method == b"POST"
            and self._is_idle()
            and not self.expect_100_continue
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
            and not self.parser.should_upgrade()
        )

    def _is_hot(self) -> bool:
        """Whether path, media type and length are those of a short cut, and the caller is one who may take
        it; they are kept."""
        raw_path, _, self._query = self.url.partition(b"?")
        path = _PATHS.get(raw_path)
        if path is None or self._traced:
            return False
        length, media_type, authorization, host = 0, b"", b"", b""
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"idempotency-key" or (name == b"traceparent" and self.chooses is not None):
                return False
            elif name == b"content-type":
                media_type = value if value in _BYTES_MAX else value.partition(b";")[0].strip().lower()
            elif name == b"authorization":
                authorization = value
            elif name == b"host":
                host = value
        self._path, self._media_type = path, media_type
        if media_type == JSON and (path != LEGS or self._query):
            return False
        if not 0 < length <= _BYTES_MAX.get(media_type, 0):
            return False
        caller = self.gate.find(authorization, host)
        if caller is None or not may_write_in_bulk(caller.principal, path):
            return False
        self._caller = caller
        return True

    def _begin(self) -> None:
        self._request.response_complete = False
        self.cycle = self._request  # type: ignore[assignment]  # all that uvicorn uses of it is there

    # Answers

    async def _bulk(self, body: bytes) -> None:
        engine = self.engine.on_word_of(self.principal)
        self._reply(await reply_to(engine, self._path, self._query, body))

    @property
    def principal(self) -> str:
        """On whose word the request in progress comes."""
        return self._caller.principal.name

    def answered(self, outcome: Outcome) -> None:
        """The gathered legs of the request in progress were judged."""
        try:
            status, body, headers = hot_legs.answer(self._batch, *outcome)
            reply = Reply(status, JSON, body, headers)
        except Exception as exc:  # a refusal; whatever it is, the client gets a problem
            reply = problem_reply(exc, "POST", LEGS)
        self._reply(reply)

    def failed(self, error: BaseException) -> None:
        """They were not."""
        if not isinstance(error, Exception):
            self._leave()
            self.transport.close()  # nobody can say what became of them
            return
        self._reply(problem_reply(error, "POST", LEGS))

    def _reply(self, reply: Reply) -> None:
        request = self._request
        request.response_complete = True
        self._leave()
        self._answered = time.perf_counter()
        self.metrics.answered("POST", self._path, reply.status, self._answered - self._started)
        self.gate.count_write(self._caller, self.client, self._path, reply.status)
        if request.disconnected or self.transport.is_closing():
            return
        parts = [_STATUS_LINES[reply.status], b"content-type: ", reply.media_type, b"\r\n"]
        for name, value in (*self.server_state.default_headers, *reply.headers):
            parts += (name, b": ", value, b"\r\n")
        if not request.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"content-length: %d\r\n\r\n" % len(reply.body), reply.body)
        self.transport.write(b"".join(parts))
        if not request.keep_alive:
            self.transport.close()
        if self.pipeline or self.timeout_keep_alive_task is None:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1


async def _leaving(app: Any, leave: Callable[[], None], scope: Any, receive: Any, send: Any) -> None:
    """Answer a request, and give its place to another one."""
    try:
        await app(scope, receive, send)
    finally:
        leave()


def protocol_for(
    engine: Engine,
    metrics: HttpMetrics,
    gate: Gate,
    chooses: Callable[[], bool] | None = None,
    admission: Admission | None = None,
) -> type[ShortCut]:
    """The protocol of connections to `engine`. `chooses` says of each request whether it is to be traced, and
    `admission` whether it may begin now."""
    known = {
        "engine": engine,
        "gatherer": Gatherer(engine),
        "metrics": metrics,
        "gate": gate,
        "admission": admission or Admission(),
        "heads": {},
        "refusals": {},
        "chooses": None if chooses is None else staticmethod(chooses),
    }
    return type("GatewayProtocol", (ShortCut,), known)
