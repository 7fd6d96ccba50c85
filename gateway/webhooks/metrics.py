"""What is measured about webhooks."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class WebhookMetrics:
    """Counters of one gateway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "tessera_webhook_attempts", "Attempts to deliver events.", ["outcome"], registry=registry
        )
        self._dead = Counter("tessera_webhook_dead", "Events that were given up.", registry=registry)
        self._waiting = Gauge(
            "tessera_webhook_waiting", "Events that were read and not taken yet.", registry=registry
        )
        self._failing = Gauge(
            "tessera_webhooks_failing", "Endpoints that take nothing at the moment.", registry=registry
        )

    def watch(self, waiting: Callable[[], float], failing: Callable[[], float]) -> None:
        """Where to ask for what changes all the time."""
        self._waiting.set_function(waiting)
        self._failing.set_function(failing)

    def attempted(self, *, taken: bool) -> None:
        """An attempt was made."""
        self._attempts.labels("taken" if taken else "failed").inc()

    def gave_up(self) -> None:
        """An event is dead."""
        self._dead.inc()
