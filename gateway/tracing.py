"""Traces of requests, from their head to the commit, by OpenTelemetry.

    POST /v1/moves              the request, with its route and status
      ├─ tessera.mailbox        from being left in a shard's mailbox to its turn
      ├─ tessera.turn           the turn, shared with all that it decided
      └─ tessera.commit         from the turn to being durable, and answered

This module, and with it OpenTelemetry, is imported only where requests are traced. A request is, if its
`traceparent` says so, or it has none and the dice say so; a request that takes a short cut past the framework
is taken off it for that. While it is answered, log lines carry `trace_id` and `span_id`. Those of a request
that is not traced carry the `trace_id` that it came with, or one made for it: they belong together too.
"""

import random
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from actors.mailbox import Letter
from gateway.protocol import TRACED
from gateway.security.callers import Limiter

FLUSH_LIMIT_MS: Final = 5_000
CHOSEN_MAX: Final = 50
"""Requests a second, and at once, that the dice may choose: what tracing costs is bounded, however many
come."""

_propagator: Final = TraceContextTextMapPropagator()
_ids: Final = RandomIdGenerator()
_NANOSECONDS: Final = 1_000_000_000


class Tracing:
    """Traces a share of the requests, and sends their spans to an exporter, in a thread of its own."""

    def __init__(self, share: float, exporter: SpanExporter) -> None:
        self._share = share
        self._limiter = Limiter(CHOSEN_MAX, CHOSEN_MAX)
        resource = Resource.create({SERVICE_NAME: "tessera", SERVICE_VERSION: version("tessera")})
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("tessera", version("tessera"))
        self._epoch_ns = time.time_ns() - time.perf_counter_ns()

    def chooses(self) -> bool:
        """Whether a request that nobody else decided about is to be traced."""
        if random.random() >= self._share:  # noqa: S311  # dice, not secrets
            return False
        now = time.perf_counter()
        if self._limiter.wait_s(now):
            return False
        self._limiter.let_in(now)
        return True

    def close(self) -> None:
        """Send what is left. May block."""
        self._provider.force_flush(FLUSH_LIMIT_MS)
        self._provider.shutdown()

    # Requests

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Trace requests on their way through an application."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            parent = _parent(scope)
            if parent is None:
                await app(scope, receive, send)
                return
            if not self._wants(scope, parent):
                with structlog.contextvars.bound_contextvars(trace_id=_trace_id(parent)):
                    await app(scope, receive, send)
                return
            with self._request(scope, parent) as span:
                await app(scope, receive, partial(_sent, send, span))

        return traced

    def _wants(self, scope: Scope, parent: Context) -> bool:
        given = trace.get_current_span(parent).get_span_context()
        if given.is_valid:
            return given.trace_flags.sampled
        return TRACED in (scope.get("extensions") or {}) or self.chooses()

    def _request(self, scope: Any, parent: Context) -> "_Request":
        span = self._tracer.start_span(
            scope["method"],
            parent,
            SpanKind.SERVER,
            {"http.request.method": scope["method"], "url.path": scope["path"]},
        )
        return _Request(span, scope)

    # Shards

    def current(self) -> Context | None:
        """The context of the request that is being answered, if it is traced."""
        span = trace.get_current_span()
        return trace.set_span_in_context(span) if span.get_span_context().is_valid else None

    def decided(self, shard: int, letters: Sequence[Letter], started: float, ended: float) -> None:
        """Add spans for what traced letters waited for, once they are answered."""
        for letter in letters:
            if letter.trace is not None:
                done = partial(self._answered, letter, shard, started, ended)
                letter.answer.add_done_callback(done)

    def _answered(self, letter: Letter, shard: int, started: float, ended: float, answer: Any) -> None:
        attributes: dict[str, str | int] = {
            "tessera.shard": shard,
            "tessera.message": type(letter.message).__name__,
            "tessera.weight": letter.weight,
        }
        phases = (
            ("tessera.mailbox", letter.left_at, started),
            ("tessera.turn", started, ended),
            ("tessera.commit", ended, time.perf_counter()),
        )
        failure = None if answer.cancelled() else answer.exception()
        for name, begin, end in phases:
            span = self._tracer.start_span(
                name, letter.trace, attributes=attributes, start_time=self._ns(begin)
            )
            if failure is not None and name == "tessera.commit":
                span.set_status(Status(StatusCode.ERROR, str(failure)))
            span.end(self._ns(end))

    def _ns(self, seconds: float) -> int:
        return self._epoch_ns + int(seconds * _NANOSECONDS)


class _Request:
    """A request's span, for the length of a block."""

    def __init__(self, span: Span, scope: Any) -> None:
        self._span = span
        self._scope = scope
        self._token: Any = None

    def __enter__(self) -> Span:
        context = self._span.get_span_context()
        self._token = attach(trace.set_span_in_context(self._span))
        structlog.contextvars.bind_contextvars(
            trace_id=f"{context.trace_id:032x}", span_id=f"{context.span_id:016x}"
        )
        return self._span

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        structlog.contextvars.unbind_contextvars("trace_id", "span_id")
        detach(self._token)
        route = self._scope.get("path_template")
        if route:
            self._span.update_name(f"{self._scope['method']} {route}")
            self._span.set_attribute("http.route", route)
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self._span.end()


def otlp(share: float) -> Tracing:
    """Traces that go to a collector, as the variables OTEL_EXPORTER_OTLP_… say. Raises ImportError."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # not for tests
        OTLPSpanExporter,
    )

    return Tracing(share, OTLPSpanExporter())


def _trace_id(parent: Context) -> str:
    """Of the trace that a request belongs to, or a new one."""
    given = trace.get_current_span(parent).get_span_context().trace_id
    return f"{given or _ids.generate_trace_id():032x}"


def _parent(scope: Any) -> Context | None:
    """The context that a request came with, which may be empty; None for what is no request."""
    if scope["type"] != "http":
        return None
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"traceparent", b"tracestate")
    }
    return _propagator.extract(headers, Context())


async def _sent(send: Send, span: Span, message: Message) -> None:
    if message["type"] == "http.response.start":
        span.set_attribute("http.response.status_code", message["status"])
        if message["status"] >= 500:
            span.set_status(Status(StatusCode.ERROR))
    await send(message)
