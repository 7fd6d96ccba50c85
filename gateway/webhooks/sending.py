"""One attempt to deliver: a request with limits, and what became of it.

Any 2xx says that the event was taken. No redirect is followed, no more of an answer is read than a
connection needs to be used again, and an attempt that takes too long has failed.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from functools import cache
from types import TracebackType
from typing import Final, NamedTuple, Self

import httpcore

from gateway.webhooks.targets import PublicNetwork, TargetRefused

ANSWER_BYTES_MAX: Final = 16_384
"""A connection whose answer has more is closed."""
KEPT_OPEN_S: Final = 30.0
GONE: Final = 410
_TAKEN: Final = range(200, 300)
_HEADERS: Final = (("content-type", "application/json"), ("user-agent", "Tessera-Webhooks"))


class Outcome(NamedTuple):
    """What became of an attempt; no `error`: the event was taken. `wait_s` is what Retry-After says."""

    status: int | None
    error: str
    took_us: int
    wait_s: float = 0.0

    @property
    def taken(self) -> bool:
        """Whether the receiver has the event."""
        return not self.error


class Sender:
    """Sends to one receiver. A context manager."""

    def __init__(self, *, connections: int, timeout_s: float, private: bool) -> None:
        self._timeout_s = timeout_s
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_authorities(),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=KEPT_OPEN_S,
            network_backend=PublicNetwork(private=private),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send one message."""
        started = time.perf_counter_ns()
        status: int | None = None
        wait_s = 0.0
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._pool.stream("POST", url, headers=[*_HEADERS, *headers.items()], content=body) as answer,
            ):
                status = answer.status
                wait_s = _retry_after(answer.headers)
                await _drain(answer)
            error = f"answered {status}"
        except TimeoutError:
            error = f"took longer than {self._timeout_s:g} s"
        except TargetRefused as exc:
            error = f"not sent: {exc}"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as exc:
            error = _said(exc)
        if status in _TAKEN:
            error = ""  # whatever happened to the rest of the answer
        return Outcome(status, error, (time.perf_counter_ns() - started) // 1_000, wait_s)


@cache
def _authorities() -> ssl.SSLContext:
    """Whom we trust to say who a server is; reading that takes a while."""
    return ssl.create_default_context()


async def _drain(answer: httpcore.Response) -> None:
    """Read an answer that nobody needs, up to a bound."""
    size = 0
    async for part in answer.aiter_stream():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            return


def _retry_after(headers: list[tuple[bytes, bytes]]) -> float:
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 9:
            return float(value)
    return 0.0


def _said(exc: Exception) -> str:
    kind = type(exc).__name__
    return f"{kind}: {exc}"[:200] if str(exc) else kind
