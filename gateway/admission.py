"""Who gets in while more comes than can be done: whoever can be answered soon, and nobody else.

    head of a request ─▶ admits(…)? ─▶ enter ─▶ … ─▶ leave
                            └─ no: 503 at once, with Retry-After; the connection is held for a while

A place is asked for by the head of a request, before its body is read, let alone decoded: saying no must cost
next to nothing, or saying no is what the machine is busy with. There are three lanes, so that one kind of
load does not shut out another: small posts of legs, large bodies (in bytes), and everything else.

Each lane always takes so much, and more while that is a passing burst: as long as its requests have lately
found it less than a third full, on average. So nobody waits behind a long queue, and after a burst, or an
overload, everything is soon as before.

Connections that were refused are not read from for a moment, and then taken up again at a bounded rate; what
they send meanwhile waits in the kernel, where it costs nobody's time. A request that came while its
connection was held came before its time, and makes way for others.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from prometheus_client import CollectorRegistry, Counter

from gateway.environment import from_environment

ENVIRONMENT_PREFIX: Final = "TESSERA_ADMISSION_"
CALM_SHARE: Final = 3
"""A lane that is fuller than one part in so many, on average, has no burst but too much to do."""
AVERAGED: Final = 4
"""The average is over so many times the requests that a lane always takes, roughly."""
EMPTY_S: Final = 0.1
"""A lane that was empty for so long has forgotten what was before."""
BURST: Final = 64
"""So many times what is always taken is never exceeded."""
TICK_S: Final = 0.01
RELEASED_MAX: Final = 48
"""So many connections are taken up again in a tick at most, fewer if they have a body to throw away."""
THROWN_AWAY_BYTES: Final = 16_384
"""A body to throw away counts as another connection for so many bytes."""
HELD_S: Final = 0.005
"""What a connection says within so long after it was taken up has been waiting."""


class AdmissionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is always taken, in progress at a time. The environment is read here and nowhere else:
    `TESSERA_ADMISSION_<NAME>`. Raises ValueError."""

    legs: int = 192  # small posts of legs
    large_requests: int = 16  # of more than 32 KiB, however large …
    large_bytes: int = 16 << 20  # … and so many bytes of them
    others: int = 128

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} must be above 0, not {getattr(self, field.name)}")

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **given: Any
    ) -> "AdmissionSettings":
        """The given settings, and the environment's for those that are None. Raises ValueError."""
        return from_environment(cls, ENVIRONMENT_PREFIX, environment, given)


class Lane:
    """What is in progress of one kind of requests."""

    __slots__ = (
        "_clock",
        "_empty_since",
        "_share",
        "_sure",
        "_sure_requests",
        "fullness",
        "requests",
        "weight",
    )

    def __init__(self, sure_requests: int, sure: int, clock: Callable[[], float]) -> None:
        self.requests = 0
        self.weight = 0  # sum over those
        self.fullness = 0.0  # the weight that requests have found lately, on average
        self._sure_requests = sure_requests  # taken in any case, …
        self._sure = sure  # … and up to this weight
        self._share = 1 / (AVERAGED * sure_requests)
        self._clock = clock
        self._empty_since = clock()

    def admits(self, weight: int, *, waited: bool = False) -> bool:
        """Whether a request of that weight may begin now; `waited` if it came while its connection was
        held."""
        if not self.requests and self._clock() - self._empty_since > EMPTY_S:
            self.fullness = 0.0
        after = self.weight + weight
        sure = self.requests < self._sure_requests or after <= self._sure
        self.fullness += (
            (self.weight if sure else max(self.weight, self._sure)) - self.fullness
        ) * self._share
        calm = self.fullness * CALM_SHARE < self._sure
        if sure:
            return calm or not waited
        return calm and after <= self._sure * BURST

    def enter(self, weight: int) -> None:
        """A request begins."""
        self.requests += 1
        self.weight += weight

    def leave(self, weight: int) -> None:
        """A request has ended."""
        self.requests -= 1
        self.weight -= weight
        if not self.requests:
            self._empty_since = self._clock()


class Held(Protocol):
    """A connection that is not read from."""

    @property
    def unread_bytes(self) -> int:
        """What is to come of the body of the request that was refused."""

    def release(self) -> None:
        """Read from it again."""


class Admission:
    """The lanes of a gateway, and the connections that are held; belongs to its event loop."""

    def __init__(
        self,
        settings: AdmissionSettings | None = None,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        settings = settings or AdmissionSettings()
        self.legs = Lane(settings.legs, settings.legs, clock)
        self.others = Lane(settings.others, settings.others, clock)
        self.large = Lane(settings.large_requests, settings.large_bytes, clock)
        self._held: deque[Held] = deque()
        refused = Counter(
            "tessera_overload_refusals",
            "Requests that were refused by their heads, as there was too much to do.",
            ["lane"],
            registry=registry,
        )
        self._refused = {
            self.legs: refused.labels("legs"),
            self.others: refused.labels("others"),
            self.large: refused.labels("large"),
        }

    def refused(self, lane: Lane, connection: Held) -> None:
        """Count a refusal; the connection, which is not read from now, is released in its turn."""
        self._refused[lane].inc()
        if not self._held:
            asyncio.get_running_loop().call_later(TICK_S, self._release)
        self._held.append(connection)

    def _release(self) -> None:
        left = RELEASED_MAX
        while self._held and left > 0:
            connection = self._held.popleft()
            left -= 1 + connection.unread_bytes // THROWN_AWAY_BYTES
            connection.release()
        if self._held:
            asyncio.get_running_loop().call_later(TICK_S, self._release)
