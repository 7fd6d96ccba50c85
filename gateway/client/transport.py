"""HTTP for the client: a few kept connections, and attempts until there is an answer.

The standard library's `http.client` sends a body of half a megabyte in a quarter of the processor time that
httpx takes (0.5 ms, not 2), and a client on the engine's own machine should take as little as it can.

Every request is safe to repeat: reads change nothing, and writes carry ids of the client's making. So a lost
connection, a timeout, or a 503 is answered by sending the same bytes again, after a pause that doubles with
each attempt, is drawn at random so that clients spread out, and is never shorter than `Retry-After` says.
"""

import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway.client.errors import ClientError, RequestRefused, Unavailable

RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may do better."""
JOINED_BYTES_MAX: Final = 1 << 16
"""A body of up to so many bytes is sent with its head: the server wakes up once, not twice."""
_SUCCESS: Final = range(200, 300)

T = TypeVar("T")


class Retry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a client keeps trying: pauses from `first_s`, doubling up to `longest_s`; `give_up_s` in
    all."""

    first_s: float = 0.05
    longest_s: float = 5.0
    give_up_s: float = 60.0

    def pause(self, attempt: int, retry_after_s: float, chance: Callable[[], float]) -> float:
        """How long to wait after the given attempt, the first being 1; `chance` draws from 0 to 1."""
        drawn = min(self.longest_s, self.first_s * 2.0 ** min(attempt - 1, 30)) * chance()
        return retry_after_s + drawn


class Response(NamedTuple):
    """An answer of the server; `attempts` says how often the request was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int

    @property
    def lsn(self) -> int:
        """The position in the log that a write has; 0 for reads."""
        return int(self.headers.get("tessera-lsn", 0))


class _Connection(http.client.HTTPConnection):
    """Sends the head of a request together with a small body."""

    _joins = False  # whether the body of the request that is being sent is small
    _head = b""

    def request(  # type: ignore[override]  # all that a transport sends is bytes
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> None:
        self._joins = body is not None and 0 < len(body) <= JOINED_BYTES_MAX
        super().request(method, url, body, headers)

    def send(self, data: bytes) -> None:  # type: ignore[override]
        if self._joins and not self._head:
            self._head = data
            return
        head, self._head = self._head, b""
        super().send(head + data if head else data)


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same over TLS."""


class Transport:
    """Sends requests to one server, each on a connection of its own while it lasts. Safe for threads."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        tls: ssl.SSLContext | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is not the address of a server, such as http://127.0.0.1:8330")
        self._host, self._port = parts.hostname, parts.port
        self._prefix = parts.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        self._retry = retry or Retry()
        self._sleep, self._clock, self._chance = sleep, clock, chance
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """End the connections that are idle; the others end with their requests."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """The answer to a request, sent as often as it takes. Raises RequestRefused or Unavailable."""
        given = {**self._headers, **(headers or {})}
        (status, found, content), attempts = self._persist(
            lambda: self._attempt(method, self._prefix + path, body, given)
        )
        return Response(status, found, content, attempts)

    def stream(self, path: str, headers: Mapping[str, str], wanted: Callable[[], bool]) -> "Stream":
        """An answer that goes on, on a connection of its own, asked for as often as it takes while it is
        wanted. Raises RequestRefused or Unavailable."""
        given = {**self._headers, **headers}
        stream, _ = self._persist(lambda: self._begin(self._prefix + path, given), wanted)
        return stream

    def pause(self, attempt: int) -> None:
        """Wait as long as after a failed attempt, the first being 1."""
        self._sleep(self._retry.pause(attempt, 0.0, self._chance))

    def _persist(self, call: Callable[[], T], wanted: Callable[[], bool] = lambda: True) -> tuple[T, int]:
        """What a call gives, made until there is an answer, and how often it was made. Raises RequestRefused
        or Unavailable."""
        started = self._clock()
        attempt = 0
        while True:
            attempt += 1
            try:
                return call(), attempt
            except (OSError, http.client.HTTPException) as exc:
                reason, retry_after_s = f"{type(exc).__name__}: {exc}", 0.0
            except _Refused as refused:
                if refused.problem.status not in RETRIED:
                    raise refused.problem from None
                reason, retry_after_s = str(refused.problem), refused.retry_after_s
            pause_s = self._retry.pause(attempt, retry_after_s, self._chance)
            if self._clock() + pause_s - started > self._retry.give_up_s or not wanted():
                raise Unavailable(reason, attempt)
            self._sleep(pause_s)

    def _begin(self, path: str, headers: Mapping[str, str]) -> "Stream":
        connection = self._new_connection()
        try:
            connection.request("GET", path, None, headers)
            response = connection.getresponse()
            if response.status not in _SUCCESS:
                raise _Refused(response, response.read())
        except BaseException:
            connection.close()
            raise
        return Stream(connection, response)

    def _attempt(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self._connection()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except BaseException:
            connection.close()
            raise
        found = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            connection.close()
        else:
            self._keep(connection)
        if response.status not in _SUCCESS:
            raise _Refused(response, content)
        return response.status, found, content

    def _connection(self) -> http.client.HTTPConnection:
        with self._lock:
            if self._closed:
                raise ClientError("the client has been closed")
            if self._idle:
                return self._idle.pop()
        return self._new_connection()

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return _SecureConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)
        return _Connection(self._host, self._port, timeout=self._timeout_s)

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


class Stream:
    """An answer that comes bit by bit."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self._socket = connection.sock

    def read(self, bytes_max: int) -> bytes:
        """What has come, at least a byte; waits for it. Nothing at the end. Raises OSError or
        HTTPException."""
        return self._response.read1(bytes_max)

    def cut(self) -> None:
        """Let whoever reads come to an end; from any thread."""
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection; for who reads."""
        self._response.close()
        self._connection.close()


class _Refused(Exception):  # noqa: N818  # says what happened
    """An answer that is none: the problem, and how long to wait before another attempt."""

    def __init__(self, response: http.client.HTTPResponse, body: bytes) -> None:
        super().__init__(response.status)
        self.problem = refusal(response.status, body)
        self.retry_after_s = _seconds(response.headers.get("Retry-After", ""))


def refusal(status: int, body: bytes) -> RequestRefused:
    """The problem that a body describes, or whatever else came with an error's status."""
    try:
        problem: Any = msgspec.json.decode(body)
        return RequestRefused(
            status,
            str(problem["code"]),
            str(problem.get("detail", "")),
            str(problem.get("where", "")),
            str(problem.get("accepted", "")),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError):
        return RequestRefused(status, f"http_{status}", body[:200].decode("utf-8", "replace"))


def _seconds(text: str) -> float:
    return float(text) if text.isdigit() else 0.0
