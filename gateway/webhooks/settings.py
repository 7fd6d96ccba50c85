"""How webhooks are delivered, in one immutable object. The environment is read here and nowhere else:
`TESSERA_WEBHOOK_<NAME>` for each field."""

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.environment import from_environment

NANOSECONDS: Final = 1_000_000_000
ENVIRONMENT_PREFIX: Final = "TESSERA_WEBHOOK_"


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pauses grow by `pause_factor` from `first_pause_s`, and each is drawn from half to one and a half of
    itself, so that attempts spread out. Raises ValueError."""

    private: bool = False  # send to every network, and without TLS too
    connections: int = 8  # to one receiver
    timeout_s: float = 15.0  # of an attempt
    first_pause_s: float = 5.0
    pause_factor: float = 3.0
    longest_pause_s: float = 43_200.0
    attempts_max: int = 14  # then an event is dead; with these pauses after two to three days
    failing_after: int = 8  # attempts in a row that failed; then they are made one at a time
    probe_pause_s: float = 1.0  # between those, doubling
    longest_probe_pause_s: float = 60.0
    disabled_after_s: float = 432_000.0  # without a single event taken, while it was tried
    held_max: int = 512  # events in memory with their content
    held_bytes_max: int = 4 << 20
    unfinished_max: int = 10_000  # events in memory in all; the log is read no further
    write_s: float = 1.0  # how often it is written down what has become of events
    poll_s: float = 1.0  # how often changed endpoints are looked for
    lease_s: float = 5.0  # how long a gateway that is not heard of keeps the right to deliver
    restart_s: float = 5.0  # after something went wrong with the database

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            if getattr(self, field.name) <= 0 and field.type is not bool:
                raise ValueError(f"{field.name} must be above 0, not {getattr(self, field.name)}")

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **given: Any
    ) -> "WebhookSettings":
        """The given settings, and the environment's for those that are None. Raises ValueError."""
        return from_environment(cls, ENVIRONMENT_PREFIX, environment, given)

    def pause_ns(self, attempts: int, wait_s: float, chance: Callable[[], float] = random.random) -> int:
        """How long an event waits after so many attempts, and not shorter than the receiver asks for."""
        usual = min(self.longest_pause_s, self.first_pause_s * self.pause_factor ** min(attempts - 1, 60))
        asked = min(wait_s, self.longest_pause_s)
        return int(max(usual * (0.5 + chance()), asked) * NANOSECONDS)

    def probe_pause_ns(self, streak: int, wait_s: float) -> int:
        """How long a receiver is left alone after so many failures in a row; 0 = not at all."""
        over = streak - self.failing_after
        usual = (
            0.0 if over < 0 else min(self.longest_probe_pause_s, self.probe_pause_s * 2.0 ** min(over, 60))
        )
        asked = min(wait_s, self.longest_probe_pause_s)
        return int(max(usual, asked) * NANOSECONDS)
