"""HTTP/1.1 as uvicorn speaks it, with a short cut for what comes most: one small JSON post of legs.

Such a request is read here and handed to the gatherer, without a task, a scope or a coroutine of its own, and
its answer is one write. What the short cut does not take (other paths, unusual bodies, requests sent before
the last one was answered) goes the way of every other request: uvicorn sees the same calls of its parser as
if this class were not there.

    on_headers_complete   a short cut? then keep the body, else uvicorn
    on_message_complete   decodable? then gather, else replay head and body to uvicorn
    answered, failed      write the answer, then uvicorn's own end of a request
"""

import asyncio
import time
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway import hot_legs
from gateway.fast_lane import JSON, LEGS, Reply, problem_reply
from gateway.gatherer import Gatherer, Outcome
from gateway.hot_legs import HotLegs
from gateway.metrics import HttpMetrics

BODY_BYTES_MAX: Final = 32_768
"""A longer body goes the usual way."""
_URL: Final = LEGS.encode()
_STATUS_LINES: Final = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class _InProgress:
    """Stands where uvicorn keeps the request it is answering, so that it queues others and ends in
    peace."""

    def __init__(self) -> None:
        self.response_complete = False
        self.keep_alive = True  # uvicorn clears it when it shuts down
        self.disconnected = False  # uvicorn sets it when the connection is lost
        self.message_event = asyncio.Event()


class ShortCut(HttpToolsProtocol):
    """A connection. Subclasses made by `protocol_for` know the gatherer and the metrics."""

    gatherer: Gatherer
    metrics: HttpMetrics

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._body: list[bytes] | None = None  # of a request that may take the short cut
        self._batch: HotLegs
        self._started = 0.0
        self._request = _InProgress()

    # From the parser

    def on_headers_complete(self) -> None:
        """The head of a request is there."""
        if self._may_be_short():
            self._body = []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body is there."""
        if self._body is not None:
            self._body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        if self._body is None:
            super().on_message_complete()
            return
        body, self._body = b"".join(self._body), None
        batch = hot_legs.decode(body)
        if batch is None or not self.gatherer.knows_assets(batch):
            super().on_headers_complete()
            super().on_body(body)
            super().on_message_complete()
            return
        self._started = time.perf_counter()
        self._batch = batch
        self._request = _InProgress()
        self.cycle = self._request  # type: ignore[assignment]  # all that uvicorn uses of it is there
        self.gatherer.post(batch, self)

    def _may_be_short(self) -> bool:
        if (
            self.url != _URL
            or self.parser.get_method() != b"POST"
            or self.expect_100_continue
            or self.flow.write_paused
            or (self.cycle is not None and not self.cycle.response_complete)  # type: ignore[redundant-expr]  # None at first
            or not self.parser.should_keep_alive()
            or self.parser.get_http_version() != "1.1"
            or self.parser.should_upgrade()
        ):
            return False
        length = -1
        media_type = b""
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"content-type":
                media_type = value
        return 0 < length <= BODY_BYTES_MAX and (
            media_type == JSON or media_type.partition(b";")[0].strip().lower() == JSON
        )

    # From the gatherer

    def answered(self, outcome: Outcome) -> None:
        """The legs of the request in progress were judged."""
        try:
            status, body, headers = hot_legs.answer(self._batch, *outcome)
            reply = Reply(status, JSON, body, headers)
        except Exception as exc:  # a refusal; whatever it is, the client gets a problem
            reply = problem_reply(exc, "POST", LEGS)
        self._reply(reply)

    def failed(self, error: BaseException) -> None:
        """They were not."""
        if not isinstance(error, Exception):
            self.transport.close()  # nobody can say what became of them
            return
        self._reply(problem_reply(error, "POST", LEGS))

    def _reply(self, reply: Reply) -> None:
        request = self._request
        request.response_complete = True
        self.metrics.answered("POST", LEGS, reply.status, time.perf_counter() - self._started)
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
        self.on_response_complete()


def protocol_for(gatherer: Gatherer, metrics: HttpMetrics) -> type[ShortCut]:
    """The protocol of connections whose legs go to `gatherer`."""
    return type("GatewayProtocol", (ShortCut,), {"gatherer": gatherer, "metrics": metrics})
