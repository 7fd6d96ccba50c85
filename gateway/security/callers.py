"""A principal at the door: until when it is good, and how fast it may knock.

A caller is one object for as long as its key or token is known, and everybody who remembers it (a connection,
the heads of requests that are not parsed again) sees at once when it ends. Times are those of
`time.perf_counter`, in seconds.
"""

from typing import Final

from gateway.security.principals import Principal

FOREVER: Final = float("inf")


class Limiter:
    """So many requests a second, and up to `burst` at once; a rate of 0 is no limit.

    Kept as one number, the time at which all that was let in would be through at the given rate.
    """

    __slots__ = ("_interval_s", "_slack_s", "_through")

    def __init__(self, rate: int, burst: int) -> None:
        self._interval_s = 1 / rate if rate else 0.0
        self._slack_s = (max(burst, 1) - 1) * self._interval_s
        self._through = 0.0

    def wait_s(self, now: float) -> float:
        """How long until another one may come in; 0 = now."""
        return max(0.0, self._through - now - self._slack_s)

    def let_in(self, now: float) -> None:
        """Count one."""
        self._through = max(self._through, now) + self._interval_s

    def adjust(self, rate: int, burst: int) -> None:
        """Go on with other limits."""
        self._interval_s = 1 / rate if rate else 0.0
        self._slack_s = (max(burst, 1) - 1) * self._interval_s


class Caller:
    """A principal, `good_until` a time, within the rate of `limiter`."""

    __slots__ = ("good_until", "limiter", "principal")

    def __init__(self, principal: Principal, limiter: Limiter, good_until: float = FOREVER) -> None:
        self.principal = principal
        self.limiter = limiter
        self.good_until = good_until

    def admit(self, now: float) -> bool:
        """Let a request in, if the caller is still good and not too fast; else nothing is counted."""
        if now >= self.good_until or self.limiter.wait_s(now):
            return False
        self.limiter.let_in(now)
        return True
