"""Bytes that are nearly right: bits turned, pieces cut out, doubled, or taken from something else."""

from collections.abc import Sequence
from random import Random
from typing import Final

NASTY: Final = (
    *(b"\0", b"\r\n\r\n", b"\xff\xfe", b"\xed\xa0\x80", b"%00", b'"', b"{", b"[" * 600, b"\\u0000"),
    *(b"1e999", b"-0", b"9" * 40, b"NaN", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"),
)
CHANGES_MAX: Final = 4


def mutated(random: Random, samples: Sequence[bytes]) -> bytes:
    """One of the samples, changed at a few places."""
    data = bytearray(random.choice(samples))
    for _ in range(random.randint(1, CHANGES_MAX)):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.randint(1, 16))
        match random.randrange(6):
            case 0 if at < len(data):
                data[at] ^= 1 << random.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end]
            case 3:
                data[at:at] = random.choice(NASTY)
            case 4:
                other = random.choice(samples)
                data[at:] = other[random.randrange(len(other) + 1) :]
            case _:
                data[at:end] = random.randbytes(end - at)
    return bytes(data)
