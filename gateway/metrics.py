"""What the gateway measures about itself, beside what the engine measures; both are served at /metrics.

Requests are counted by method, route template and status, never by the path itself, so the number of series
is that of the routes. There are many, so they are counted in plain numbers, which take Prometheus' form when
they are read.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from itertools import accumulate
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
UNROUTED: Final = "(none)"
_BOUNDS: Final = (*map(str, map(float, SECONDS_BUCKETS)), "+Inf")


class _Times:
    """How long requests took: how many in each bucket, and the sum in seconds."""

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.sum_s = 0.0


class _Requests(Collector):
    """Requests answered so far, by method, route and status, and their times by method and route."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, str, int]] = Counter()
        self._times: dict[tuple[str, str], _Times] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._answered[method, route, status] += 1
        times = self._times.get((method, route))
        if times is None:
            times = self._times[method, route] = _Times()
        times.counts[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        times.sum_s += seconds

    def collect(self) -> Iterator[Metric]:
        """The series, as Prometheus reads them."""
        requests = CounterMetricFamily(
            "tessera_http_requests",
            "Requests answered, by method, route and status.",
            labels=["method", "route", "status"],
        )
        for (method, route, status), count in self._answered.items():
            requests.add_metric([method, route, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "tessera_http_request_seconds",
            "Time from a request's head to the last byte of its answer.",
            labels=["method", "route"],
        )
        for (method, route), times in self._times.items():
            buckets = list(zip(_BOUNDS, accumulate(times.counts), strict=True))
            seconds.add_metric([method, route], buckets, times.sum_s)
        yield seconds


class HttpMetrics:
    """Counters of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Requests()
        self.registry.register(self._requests)
        self.answered = self._requests.add  # for requests that don't pass through `middleware`
        self._in_progress = Gauge(
            "tessera_http_requests_in_progress", "Requests not answered yet.", registry=self.registry
        )
        self.loop_lag = Gauge(
            "tessera_event_loop_lag_seconds",
            "How much later than it should the event loop last came to something.",
            registry=self.registry,
        )
        build = Gauge("tessera_build_info", "1, with what is running.", ["version"], registry=self.registry)
        build.labels(version("tessera")).set(1)
        ProcessCollector(registry=self.registry)

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
                self._requests.add(scope["method"], route, status, time.perf_counter() - start)

        return measured

    def exposition(self, engine: CollectorRegistry) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(engine) + generate_latest(self.registry)
