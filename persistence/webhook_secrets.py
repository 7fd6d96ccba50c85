"""The secrets of a webhook, whichever way it goes: the one that signs, and those before it for a while."""

from typing import Final

import msgspec

OLD_SECRETS_MAX: Final = 4
"""Secrets that are good too after they were rotated."""


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """What a stored webhook or source signs with. Times in nanoseconds since 1970."""

    secret: bytes
    old_secrets: list[bytes] = []
    old_until: list[int] = []  # so long each of them is good too

    def keys(self, now: int) -> list[bytes]:
        """The secrets that are good at a time, the newest first."""
        old = zip(self.old_secrets, self.old_until, strict=True)
        return [self.secret, *(secret for secret, until in old if now < until)]

    def overlap_until(self, now: int) -> int | None:
        """So long a secret before the newest is good; None if none is any more."""
        until = max(self.old_until, default=0)
        return until if until > now else None
