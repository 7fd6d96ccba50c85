"""API keys as text: `tsk_<id>_<secret>`.

The id is public: it names the key in lists, logs and the audit log. The secret is 32 random bytes, so a plain
SHA-256 of it is as good as a slow hash is for passwords. Only that digest is stored.
"""

import hashlib
import hmac
import re
import secrets
from typing import Final, NamedTuple

PREFIX: Final = "tsk"
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_KEY: Final = re.compile(rf"{PREFIX}_([0-9a-f]{{{2 * _ID_BYTES}}})_([A-Za-z0-9_-]{{43}})".encode())
_NOBODYS: Final = hashlib.sha256(b"").digest()


class NewKey(NamedTuple):
    """A key that was just made; its text is shown once and kept nowhere."""

    id: str
    text: str
    digest: bytes


class GivenKey(NamedTuple):
    """A key as a client presents it."""

    id: str
    secret: bytes


def make_key() -> NewKey:
    """A new key."""
    id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    return NewKey(id, f"{PREFIX}_{id}_{secret}", hashlib.sha256(secret.encode()).digest())


def parse_key(text: bytes) -> GivenKey | None:
    """The parts of what may be a key."""
    match = _KEY.fullmatch(text)
    return GivenKey(match[1].decode(), match[2]) if match else None


def matches(given: GivenKey, digest: bytes | None) -> bool:
    """Whether the secret is the one of that digest; None, for a key that is not there, takes as long to
    say."""
    equal = hmac.compare_digest(hashlib.sha256(given.secret).digest(), digest or _NOBODYS)
    return equal and digest is not None
