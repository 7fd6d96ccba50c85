"""128-bit ids: how they are made, what they carry, how they are written.

Ids are Python integers, or two native `uint64` in arrays (see `engine.layout`). Two shapes:

- Legs, Moves, requests, Parties and Things have UUIDv7: 48 bits of unix milliseconds, the version 7, 12 bits
  of the home *bucket* (`rand_a`), the variant `10`, 62 free bits. Whoever makes one passes the milliseconds
  and the free bits in.
- Accounts have 12 bits of bucket and 116 bits of hash. With `keyhash = xxh3_128(tenant ‖ 00 ‖ key)` as two
  halves `hi, lo` and `k = asset × 9E3779B97F4A7C15 mod 2⁶⁴`, three Feistel rounds mix the asset in: `hi ⊕=
  f(lo + k)`, `lo ⊕= f(hi + k)`, `hi ⊕= f(lo ⊕ k)`, where `f` is the finalizer of SplitMix64. The top 12 bits
  of `hi` then give way to the bucket. For one asset this is a permutation, so it adds no collisions of its
  own.

Legs of a Move take the high half of their request's id and a low half that depends on the request and on the
leg's number, one to one for each request. No id made here is 0 or 2¹²⁸ − 1.
"""

import re
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

BUCKETS: Final = 4096
"""How many buckets the parties are spread over; bucket = where state lives, whatever the number of shards."""
ID_MAX: Final = 2**128 - 1
REVERSALS: Final = 1 << 41
"""The number that a Move's reversal has among the ids that follow from the Move's; legs have lower ones."""
UUID_PATTERN: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_MASK_12: Final = (1 << 12) - 1
_MASK_48: Final = (1 << 48) - 1
_MASK_52: Final = (1 << 52) - 1
_MASK_62: Final = (1 << 62) - 1
_MASK_64: Final = (1 << 64) - 1
_VARIANT: Final = 0b10 << 62
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB

Uint64s = npt.NDArray[np.uint64]


def uuid7(unix_ms: int, bucket: int, rand62: int) -> int:
    """A UUIDv7 of that millisecond and home bucket. Raises ValueError if a part does not fit its bits."""
    if not (0 <= unix_ms <= _MASK_48 and 0 <= bucket < BUCKETS and 0 <= rand62 <= _MASK_62):
        raise ValueError(f"no UUIDv7 holds unix_ms={unix_ms}, bucket={bucket}, rand62={rand62}")
    return unix_ms << 80 | 7 << 76 | bucket << 64 | _VARIANT | rand62


def is_uuid7(id: int) -> bool:
    """Whether version and variant say UUIDv7."""
    return (id >> 76) & 15 == 7 and (id >> 62) & 3 == 2


def unix_ms_of(id: int) -> int:
    """The milliseconds in a UUIDv7; meaningless for other ids."""
    return id >> 80


def bucket_of_id(id: int) -> int:
    """The home bucket in `rand_a` of a UUIDv7; of another id, whatever stands there."""
    return (id >> 64) & _MASK_12


def bucket_of_account(account: int) -> int:
    """The bucket of an account's id."""
    return account >> 116


def bucket_of_party(tenant: str, party: int) -> int:
    """Where a Party and its accounts live."""
    return xxhash.xxh3_64_intdigest(tenant.encode() + party.to_bytes(16, "big")) % BUCKETS


def key_hash(tenant: str, key: str) -> bytes:
    """The 16 bytes of an account key that its id derives from, the same for every asset."""
    return xxhash.xxh3_128_digest(tenant.encode() + b"\0" + key.encode())


def key_hashes_of(tenant: str, keys: list[str]) -> list[bytes]:
    """`key_hash` of many keys."""
    prefix = tenant.encode() + b"\0"
    digest = xxhash.xxh3_128_digest
    return [digest(prefix + key.encode()) for key in keys]


def account_id(bucket: int, tenant: str, key: str, asset: int) -> int:
    """The id of the account that a key and an asset name, in its owner's bucket."""
    id = account_ids(
        np.array([bucket], np.uint64), key_hashes([key_hash(tenant, key)]), np.array([asset], np.uint32)
    )
    return int(id[0, 0]) << 64 | int(id[0, 1])


def key_hashes(hashes: list[bytes]) -> Uint64s:
    """Key hashes as a column of shape (n, 2)."""
    return np.frombuffer(b"".join(hashes), ">u8").astype(np.uint64).reshape(-1, 2)


def account_ids(
    buckets: npt.NDArray[np.unsignedinteger], hashes: Uint64s, assets: npt.NDArray[np.unsignedinteger]
) -> Uint64s:
    """Account ids of shape (n, 2) from n buckets, n key hashes (n, 2) and n assets."""
    asset_key = assets.astype(np.uint64) * np.uint64(_GOLDEN)
    hi, lo = hashes[:, 0], hashes[:, 1]
    hi = hi ^ _finalize(lo + asset_key)
    lo = lo ^ _finalize(hi + asset_key)
    hi = hi ^ _finalize(lo ^ asset_key)
    ids = np.empty((len(hi), 2), np.uint64)
    ids[:, 0] = buckets.astype(np.uint64) << np.uint64(52) | hi & np.uint64(_MASK_52)
    ids[:, 1] = np.clip(lo, np.uint64(1), np.uint64(_MASK_64 - 1))
    return ids


def leg_ids(request: int, start: int, count: int) -> Uint64s:
    """The ids, shape (count, 2), of the legs `start` … `start + count − 1` that a request causes."""
    numbers = np.arange(start, start + count, dtype=np.uint64)
    ids = np.empty((count, 2), np.uint64)
    ids[:, 0] = request >> 64
    ids[:, 1] = _scatter(np.uint64(_leg_base(request)), numbers)
    return ids


def leg_ids_of_many(requests: list[int], counts: npt.NDArray[np.int64]) -> Uint64s:
    """`leg_ids(request, 0, count)` for many requests, one after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    numbers = np.arange(total, dtype=np.uint64) - np.repeat((ends - counts).astype(np.uint64), counts)
    ids = np.empty((total, 2), np.uint64)
    ids[:, 0] = np.repeat(np.array([request >> 64 for request in requests], np.uint64), counts)
    bases = np.array([_leg_base(request) for request in requests], np.uint64)
    ids[:, 1] = _scatter(np.repeat(bases, counts), numbers)
    return ids


def leg_id(request: int, number: int) -> int:
    """One leg's id; the same as `leg_ids` gives."""
    x = (_leg_base(request) + number) & _MASK_62
    x = (x ^ (x >> 31)) * _MIX_1 & _MASK_62
    x = (x ^ (x >> 29)) * _MIX_2 & _MASK_62
    return (request >> 64) << 64 | (x ^ (x >> 32)) | _VARIANT


def reversal_id(move: int) -> int:
    """The id of the Move that takes another one back: it follows from that one's, so there is one at most."""
    return leg_id(move, REVERSALS)


def id_of_text(tenant: str, text: str) -> int:
    """The id that stands for a client's own string (an Idempotency-Key): a UUIDv8 of its hash."""
    digest = xxhash.xxh3_128_intdigest(b"key\0" + tenant.encode() + b"\0" + text.encode())
    return digest & ~(15 << 76 | 3 << 62) | 8 << 76 | _VARIANT


def format_id(id: int) -> str:
    """An id as UUID text, lower case."""
    digits = f"{id:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse_id(text: str) -> int:
    """The inverse of `format_id`; capitals are welcome. Raises ValueError for anything but UUID text."""
    lowered = text.lower()
    if UUID_PATTERN.fullmatch(lowered) is None:
        raise ValueError(
            f"{text!r} is not an id; expected a UUID such as 01902b3c-7d00-7abc-8def-0123456789ab"
        )
    return int(lowered.replace("-", ""), 16)


def id_bytes(id: int) -> bytes:
    """An id as it stands in facts and in PostgreSQL: 16 bytes, big-endian."""
    return id.to_bytes(16, "big")


def id_from_bytes(raw: bytes) -> int:
    """The inverse of `id_bytes`."""
    return int.from_bytes(raw, "big")


def _finalize(x: Uint64s) -> Uint64s:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    return x ^ (x >> np.uint64(31))


def _finalize_one(x: int) -> int:
    x = (x ^ (x >> 30)) * _MIX_1 & _MASK_64
    x = (x ^ (x >> 27)) * _MIX_2 & _MASK_64
    return x ^ (x >> 31)


def _leg_base(request: int) -> int:
    """Where a request's leg numbers start on the circle of 2⁶² before they are scattered."""
    return _finalize_one((request & _MASK_64) ^ _finalize_one(request >> 64)) & _MASK_62


def _scatter(bases: Uint64s | np.uint64, numbers: Uint64s) -> Uint64s:
    """Low halves of leg ids: a permutation of the 62 free bits, so that equal bases never collide."""
    mask = np.uint64(_MASK_62)
    x = (bases + numbers) & mask
    x = ((x ^ (x >> np.uint64(31))) * np.uint64(_MIX_1)) & mask
    x = ((x ^ (x >> np.uint64(29))) * np.uint64(_MIX_2)) & mask
    return (x ^ (x >> np.uint64(32))) | np.uint64(_VARIANT)
