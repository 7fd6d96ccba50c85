"""Secrets of webhooks as they are made and replaced, for those that we send and those that we take in."""

import time
from collections.abc import Awaitable, Callable

from actors.errors import NotFound
from gateway.problems import gateway_problem
from gateway.webhooks.settings import NANOSECONDS
from gateway.webhooks.signatures import make_secret, secret_of
from gateway.wire import Instant
from persistence.webhook_secrets import Secrets


def given_or_made(given: str | None = None) -> bytes:
    """The secret that somebody brings along, or a new one. Raises Problem."""
    if given is None:
        return make_secret()
    try:
        return secret_of(given)
    except ValueError as exc:
        raise gateway_problem("invalid_field", f"secret: {exc}.", "secret") from exc


async def rotate(
    store: Callable[[bytes, int], Awaitable[bool]], secret: bytes, overlap_s: int, what: str, key: str
) -> None:
    """Replace a secret by way of `store`, which is told the new one and until when old ones are good. Raises
    NotFound for `what` of that `key` if there is none."""
    if not await store(secret, time.time_ns() + overlap_s * NANOSECONDS):
        raise NotFound(what, key)


def overlap_of(stored: Secrets) -> Instant | None:
    """So long a secret before the newest is good too."""
    until = stored.overlap_until(time.time_ns())
    return None if until is None else Instant(until)
