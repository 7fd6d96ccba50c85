"""Standard Webhooks signatures (https://www.standardwebhooks.com), version 1: HMAC-SHA256 over the message's
id, the attempt's time in seconds and the body, joined by dots.

A secret is `whsec_` and Base64. While it is being rotated there are two, and a signature by each.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
SECRET_BYTES_RANGE: Final = range(24, 65)
"""What the standard allows."""
TOLERANCE_S: Final = 300
"""How far the time of a message that comes in may be from ours."""
SIGNATURES_MAX: Final = 16
"""So many of a message's signatures are looked at."""
ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
_VERSION: Final = "v1"
_SECONDS_DIGITS_MAX: Final = 12


class SignatureRefused(Exception):  # noqa: N818  # says what happened
    """A message is not signed as it must be; the reason is for our own log."""


def make_secret() -> bytes:
    """A new secret."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """A secret as people pass it on."""
    return PREFIX + base64.b64encode(secret).decode()


def secret_of(text: str) -> bytes:
    """The secret that somebody passed on. Raises ValueError."""
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as exc:
        raise ValueError("a secret is whsec_ and Base64") from exc
    if len(secret) not in SECRET_BYTES_RANGE:
        raise ValueError(f"a secret has {SECRET_BYTES_RANGE[0]} to {SECRET_BYTES_RANGE[-1]} bytes")
    return secret


def signed(id: str, time_s: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of a message, signed by each of some secrets."""
    content = _content(id, str(time_s), body)
    signatures = (f"{_VERSION},{_signature(key, content)}" for key in keys)
    return {ID: id, TIMESTAMP: str(time_s), SIGNATURE: " ".join(signatures)}


def verify(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now_s: int) -> str:
    """The id of a message that one of some secrets has signed just now. Raises SignatureRefused."""
    id, time, given = (headers.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not id or not given:
        raise SignatureRefused("it is not signed")
    if not (time.isascii() and time.isdigit()) or len(time) > _SECONDS_DIGITS_MAX:
        raise SignatureRefused("it has no time")
    if abs(int(time) - now_s) > TOLERANCE_S:
        raise SignatureRefused("it is too old, or from the future")
    content = _content(id, time, body)
    expected = [_signature(key, content).encode() for key in keys]
    found = False
    for signature in given.split(" ", SIGNATURES_MAX)[:SIGNATURES_MAX]:
        version, _, text = signature.partition(",")
        for own in expected:
            same = hmac.compare_digest(own, text.encode())
            found = found or (same and version == _VERSION)
    if not found:
        raise SignatureRefused("the signature is wrong")
    return id


def _content(id: str, time: str, body: bytes) -> bytes:
    return b"%s.%s.%s" % (id.encode(), time.encode(), body)


def _signature(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
