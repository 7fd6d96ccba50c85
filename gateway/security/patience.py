"""A connection whose client can't have more time and memory than a request needs.

uvicorn bounds neither the head of a request nor the time it may take to arrive, so this does: a head, or the
trailers of a body, of more than `HEAD_BYTES_MAX` ends the connection with 431; a request that has not arrived
after `ARRIVAL_S` with 408; a client that takes nothing of its answer for `UNREAD_S`, or sends nothing after
connecting, is left without one. Bodies are bounded where they are read.

Times are looked at by `sweep`, now and then, so that no request needs a timer of its own.
"""

import asyncio
import time
from collections.abc import Collection
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.problems import gateway_problem
from gateway.protocol import ShortCut
from gateway.replies import problem_reply

HEAD_BYTES_MAX: Final = 32_768
ARRIVAL_S: Final = 60.0
UNREAD_S: Final = 60.0
SWEEP_S: Final = 1.0
_STATUS_LINES: Final = {
    408: b"HTTP/1.1 408 Request Timeout\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
}


class HeadTooLarge(Exception):  # noqa: N818  # says what happened
    """Stops the parser."""


class Patient(HttpToolsProtocol):
    """Stands before `ShortCut`, and knows for how long the connection has been waiting."""

    _between: bool  # whether the parser is between two messages: ShortCut's

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._awaited_since: float | None = time.perf_counter()  # the rest of a request, or the first one
        self._unread_since: float | None = None
        self._head_bytes = 0  # of the head, or the trailers, so far
        self._head_is_complete = False
        self._progressed = False  # whether the parser found anything in the last bytes
        self._unparsed_bytes = 0  # since it did

    # From the connection

    def data_received(self, data: bytes) -> None:
        """Bytes are there."""
        self._progressed = False
        super().data_received(data)
        if self._between:
            self._awaited_since = None
        elif self._progressed:
            self._unparsed_bytes = 0
        else:
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > HEAD_BYTES_MAX:
                self._end(431, "head_too_large", "The head of the request is too large.")

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self._unread_since = time.perf_counter()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread_since = None
        super().resume_writing()

    # From the parser

    def on_message_begin(self) -> None:
        """The first byte of a request is there."""
        self._progressed = True
        self._awaited_since = time.perf_counter()
        self._head_bytes = 0
        self._head_is_complete = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, is there."""
        self._progressed = True
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX:
            raise HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head of a request is there."""
        self._progressed = self._head_is_complete = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body is there."""
        self._progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is there as a whole."""
        self._progressed = True
        self._awaited_since = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser was stopped, by itself or by us."""
        if self._head_bytes > HEAD_BYTES_MAX:
            self._end(431, "head_too_large", "The head of the request is too large.")
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    # From the sweep

    def check_patience(self, now: float) -> None:
        """End the connection if its client has taken too long."""
        if self._unread_since is not None and now - self._unread_since > UNREAD_S:
            self.transport.abort()
        elif self._awaited_since is not None and now - self._awaited_since > ARRIVAL_S:
            self._end(408, "request_timeout", "The request did not arrive in time.")

    def _end(self, status: int, code: str, detail: str) -> None:
        """Answer, unless another answer is due before, and close."""
        if self.transport.is_closing():
            return
        if self._is_free_to_answer():
            reply = problem_reply(gateway_problem(code, detail), "", "")
            self.transport.write(
                b"%bcontent-type: %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
                % (_STATUS_LINES[status], reply.media_type, len(reply.body), reply.body)
            )
        self.transport.close()

    def _is_free_to_answer(self) -> bool:
        """Whether nothing of an answer is due or under way but that to the request which is arriving."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return self._head_is_complete and not self.pipeline and not getattr(cycle, "response_started", True)


def patient(kind: type[ShortCut]) -> type[HttpToolsProtocol]:
    """Such a protocol with bounds."""
    return type("PatientProtocol", (Patient, kind), {})


async def sweep(connections: Collection[Any]) -> None:
    """End the connections whose clients have taken too long, for ever."""
    while True:
        await asyncio.sleep(SWEEP_S)
        now = time.perf_counter()
        for connection in list(connections):
            connection.check_patience(now)
