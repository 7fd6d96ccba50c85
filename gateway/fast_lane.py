"""What every request meets first that was not taken off the connection: the gate, and then bulk requests as
an ASGI application in front of the framework, which gets everything else unchanged.

Most of what is hot does not get as far as this: `gateway.protocol` takes it off the connection. Here arrive
bodies that came in chunks, or after `Expect: 100-continue`, or before the last answer was out.
"""

import time
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from actors.runtime import Engine
from gateway.arrow import BODY_BYTES_MAX
from gateway.bulk import ARROW, PATHS, reply_to
from gateway.events.streams import EventStreams
from gateway.metrics import UNROUTED, HttpMetrics
from gateway.problems import ClientGone, Problem, client_gone, gateway_problem, log_failure
from gateway.replies import Reply, problem_reply
from gateway.schedules.scheduler import Scheduler
from gateway.security.authorization import caller_of, may_write_in_bulk
from gateway.security.gate import Gate
from gateway.webhooks.dispatcher import Dispatcher

_NO_LENGTH: Final = -1
_WITH_BODY: Final = frozenset({"POST", "PATCH", "PUT"})


class FastLane:
    """An ASGI application around another one, which gets what this one does not take."""

    def __init__(
        self,
        app: ASGIApp,
        engine: Engine,
        metrics: HttpMetrics,
        event_streams: EventStreams,
        dispatcher: Dispatcher,
        scheduler: Scheduler,
        gate: Gate,
    ) -> None:
        self._app = app
        self.event_streams = event_streams
        self.dispatcher = dispatcher
        self.scheduler = scheduler
        self.engine = engine
        self.metrics = metrics
        self.gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        is_bulk = scope["method"] == "POST" and scope["path"] in PATHS and _media_type(scope) == ARROW
        try:
            caller = await self.gate.enter(scope)
        except Problem as problem:
            await self._refuse(scope, send, problem, started)
            return
        if scope["method"] in _WITH_BODY:
            receive = _all_or_gone(receive)
        if is_bulk and may_write_in_bulk(caller.principal, scope["path"]):
            await self._bulk(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _refuse(self, scope: HTTPScope, send: Send, problem: Problem, started: float) -> None:
        method = scope["method"]
        await _send(send, problem_reply(problem, method, UNROUTED))
        self.metrics.answered(method, UNROUTED, problem.status, time.perf_counter() - started)

    async def _bulk(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        path = scope["path"]
        try:
            body = await _whole_body(receive, _length(scope))
        except ClientGone as gone:
            log_failure(gone, gone, "POST", path)
            return
        if body is None:
            problem = gateway_problem(
                "body_too_large", "The body is too large.", accepted=f"up to {BODY_BYTES_MAX} bytes"
            )
            reply = problem_reply(problem, "POST", path)
        else:
            engine = self.engine.on_word_of(caller_of(scope).principal.name)
            reply = await reply_to(engine, path, scope["query_string"], body)
        await _send(send, reply)
        self.metrics.answered("POST", path, reply.status, time.perf_counter() - started)
        self.gate.count_write(caller_of(scope), scope["client"], path, reply.status)


def _all_or_gone(receive: Receive) -> Receive:
    """A request's messages; raises ClientGone if the client goes before its body has come as a whole."""
    whole = False

    async def received() -> Any:
        nonlocal whole
        message = await receive()
        if message["type"] == "http.disconnect" and not whole:
            raise client_gone()
        whole = whole or not message.get("more_body", False)
        return message

    return received


def _media_type(scope: HTTPScope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower()
    return b""


def _length(scope: HTTPScope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return _NO_LENGTH


async def _whole_body(receive: Receive, length: int) -> bytes | None:
    """The body once all of it has come, None if it is too long. Raises what `receive` does."""
    parts: list[bytes] = []
    size = 0
    if length > BODY_BYTES_MAX:
        return None
    while True:
        message = await receive()
        assert message["type"] == "http.request", "what else there is raises"
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_BYTES_MAX:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", reply.media_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})
