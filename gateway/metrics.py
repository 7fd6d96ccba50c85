"""What the gateway measures about itself, beside what the engine measures; both are served at /metrics.

Requests are counted by method, route template and status, never by the path itself, so the number of series
is that of the routes.
"""

import time
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
UNROUTED: Final = "(none)"


class HttpMetrics:
    """Counters of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "tessera_http_requests",
            "Requests answered, by method, route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tessera_http_request_seconds",
            "Time from a request's head to the last byte of its answer.",
            ["method", "route"],
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._hot: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # series of hot routes
        self._in_progress = Gauge(
            "tessera_http_requests_in_progress", "Requests not answered yet.", registry=self.registry
        )

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Measure every request that passes through `app`."""

        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == ScopeType.HTTP, "the gateway has no other routes"
            status = 500

            async def noting_status(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            start = time.perf_counter()
            self._in_progress.inc()
            try:
                await app(scope, receive, noting_status)
            finally:
                self._in_progress.dec()
                route = scope.get("path_template") or UNROUTED
                self._requests.labels(scope["method"], route, status).inc()
                self._seconds.labels(scope["method"], route).observe(time.perf_counter() - start)

        return measured

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered without passing through `middleware`."""
        key = (method, route, status)
        found = self._hot.get(key)
        if found is None:
            found = self._requests.labels(*key), self._seconds.labels(method, route)
            self._hot[key] = found
        found[0].inc()
        found[1].observe(seconds)

    def exposition(self, engine: CollectorRegistry) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(engine) + generate_latest(self.registry)
