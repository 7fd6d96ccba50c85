"""Cursors as clients see them: opaque text that fits only the list it came from.

A cursor carries the engine's own cursor and a checksum over it and the list's name, so that one that was cut
short, made up or taken from another list is refused instead of starting somewhere.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Final, Protocol

import xxhash

from gateway.problems import gateway_problem

CHECK_BYTES: Final = 6


def seal(listing: str, cursor: str | None) -> str | None:
    """The engine's cursor as clients get it; None stays None."""
    if cursor is None:
        return None
    raw = cursor.encode()
    return base64.urlsafe_b64encode(_check(listing, raw) + raw).decode().rstrip("=")


def unseal(listing: str, sealed: str | None) -> str | None:
    """The engine's cursor. Raises Problem if it is none of that list."""
    if sealed is None:
        return None
    try:
        whole = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
        check, raw = whole[:CHECK_BYTES], whole[CHECK_BYTES:]
        if check == _check(listing, raw):
            return raw.decode()
    except (binascii.Error, ValueError):
        pass
    raise gateway_problem(
        "invalid_cursor",
        "The cursor is not one that this list has given.",
        "cursor",
        "`next` of the page before",
    )


class Named(Protocol):
    """What has a name, and was created at a time: a place in a list in order of creation."""

    @property
    def created(self) -> int:
        """When, in nanoseconds since 1970."""

    @property
    def name(self) -> str:
        """How it is called; no other is."""


def seal_place(listing: str, found: Sequence[Named], limit: int) -> str | None:
    """The cursor after `limit` of those found, None if there are no more."""
    if len(found) <= limit:
        return None
    last = found[limit - 1]
    return seal(listing, f"{last.created} {last.name}")


def unseal_place(listing: str, sealed: str | None) -> tuple[int, str] | None:
    """The time and the name after which a page begins. Raises as `unseal`."""
    created, _, name = (unseal(listing, sealed) or "").partition(" ")
    return (int(created), name) if created else None


def _check(listing: str, raw: bytes) -> bytes:
    return xxhash.xxh3_64_digest(listing.encode() + b"\0" + raw)[:CHECK_BYTES]
