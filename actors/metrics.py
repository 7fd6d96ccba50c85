"""What a shard measures of itself, for Prometheus."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

DOINGS: Final = ("idle", "gathering", "deciding", "committing")
"""What a shard's turn loop spends its time on: nothing is to be done; a commit is on its way and few messages
are there yet; a turn; too many turns wait for the disk."""

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SIZES = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536)


class _Doings(Collector):
    """How long each shard's turn loop has done what."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = {}  # by shard and doing

    def collect(self) -> Iterator[Metric]:
        """The series, as Prometheus reads them."""
        spent = CounterMetricFamily(
            "tessera_shard_seconds", "What a shard's turn loop spent its time on", labels=["shard", "doing"]
        )
        for shard, seconds in self.seconds.items():
            for doing, value in seconds.items():
                spent.add_metric([shard, doing], value)
        yield spent


class EngineMetrics:
    """The engine's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        shard = ("shard",)
        self._turn_seconds = Histogram(
            "tessera_turn_seconds",
            "Time to decide and encode a turn",
            shard,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._turn_weight = Histogram(
            "tessera_turn_weight",
            "Legs, Moves and reads in a turn",
            shard,
            buckets=_SIZES,
            registry=self.registry,
        )
        self._mailbox_seconds = Histogram(
            "tessera_mailbox_seconds",
            "How long the oldest message of a turn had waited for it",
            shard,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "tessera_commit_seconds",
            "Time for a commit of the log to be durable",
            shard,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._doings = _Doings()
        self.registry.register(self._doings)
        self._log_bytes = Counter("tessera_log_bytes", "Bytes of log records", shard, registry=self.registry)
        self._records = Counter("tessera_log_records", "Log records committed", shard, registry=self.registry)
        self._commits = Counter("tessera_commits", "Commits of the log", shard, registry=self.registry)
        self._results = Counter(
            "tessera_results", "Answers by result code", ("shard", "code"), registry=self.registry
        )
        self._messages = Counter(
            "tessera_shard_messages", "Messages to other shards", shard, registry=self.registry
        )
        self._refused = Counter(
            "tessera_overloaded", "Messages refused because a bound was reached", ("shard", "what"),
            registry=self.registry,
        )  # fmt: skip
        self._gauges = {
            name: Gauge(f"tessera_{name}", text, shard, registry=self.registry)
            for name, text in (
                ("mailbox_weight", "Legs, Moves and reads waiting in the mailbox"),
                ("durable_lsn", "Position in the log up to which everything is committed"),
                ("projected_lsn", "Position in the log up to which SQL shows everything"),
                ("projection_lag_legs", "Legs committed and not yet shown in SQL"),
                ("accounts", "Accounts in memory"),
                ("open_moves", "Moves in memory"),
                ("serving", "1 while the shard serves"),
                ("mailbox_weight_max", "Beyond this weight the mailbox refuses"),
                ("projection_lag_legs_max", "Beyond this lag new work is refused"),
            )
        }

    def shard(self, index: int) -> "ShardMetrics":
        """The metrics of one shard."""
        return ShardMetrics(self, str(index))

    def gauge(self, name: str, shard: int, value: float) -> None:
        """Set a gauge when the metrics are read."""
        self._gauges[name].labels(str(shard)).set(value)


class ShardMetrics:
    """One shard's share of the engine's metrics."""

    def __init__(self, metrics: EngineMetrics, shard: str) -> None:
        self._shard = shard
        self._turn_seconds = metrics._turn_seconds.labels(shard)
        self._turn_weight = metrics._turn_weight.labels(shard)
        self._mailbox_seconds = metrics._mailbox_seconds.labels(shard)
        self._commit_seconds = metrics._commit_seconds.labels(shard)
        self._spent = metrics._doings.seconds.setdefault(shard, dict.fromkeys(DOINGS, 0.0))
        self._log_bytes = metrics._log_bytes.labels(shard)
        self._records = metrics._records.labels(shard)
        self._commits = metrics._commits.labels(shard)
        self._messages = metrics._messages.labels(shard)
        self._results = metrics._results
        self._refused = metrics._refused

    def turn(self, seconds: float, weight: int, payload_bytes: int) -> None:
        """A turn has been decided and encoded."""
        self._turn_seconds.observe(seconds)
        self._turn_weight.observe(weight)
        self._log_bytes.inc(payload_bytes)

    def waited(self, seconds: float) -> None:
        """A turn begins whose oldest message was left so long ago."""
        self._mailbox_seconds.observe(seconds)

    def spent(self, doing: str, seconds: float) -> None:
        """The turn loop did one of DOINGS for so long."""
        self._spent[doing] += seconds

    def committed(self, records: int, seconds: float) -> None:
        """So many records became durable in one commit, which took so long."""
        self._commit_seconds.observe(seconds)
        self._records.inc(records)
        self._commits.inc()

    def told(self) -> None:
        """A message goes to another shard."""
        self._messages.inc()

    def results(self, counts: dict[str, int]) -> None:
        """How often each result code was answered."""
        for code, count in counts.items():
            self._results.labels(self._shard, code).inc(count)

    def overloaded(self, what: str) -> None:
        """A message was refused because a bound was reached."""
        self._refused.labels(self._shard, what).inc()
