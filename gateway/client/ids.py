"""Ids by the thousand: arrays of shape (n, 2), the upper and the lower 64 bits of each."""

import threading
import time
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from engine.ids import parse_id
from engine.layout import ids_column, ids_list
from gateway.client.errors import InvalidColumns

Ids = npt.NDArray[np.uint64]

_VERSION: Final = np.uint64(7 << 12)
_VARIANT: Final = np.uint64(1 << 63)
_NUMBERS: Final = 1 << 62
_FREE_BITS: Final = np.uint64(_NUMBERS - 1)
_BUCKET: Final = np.uint64(0xFFF)
_BUCKET_SHIFT: Final = np.uint64(52)
_ID_BYTES: Final = 16
_NANOSECONDS_PER_MILLISECOND: Final = 1_000_000


class Sequence:
    """The lower halves of a client's ids: they count up from a random start. So ids of one home sort as they
    were made, which is what indexes like, and those of a batch are near each other, which the log takes less
    room for. Safe for threads."""

    def __init__(self, start: int) -> None:
        self._next = start
        self._lock = threading.Lock()

    @classmethod
    def drawn(cls, random: np.random.Generator) -> "Sequence":
        """One that starts anywhere."""
        return cls(int(random.integers(0, _NUMBERS)))

    def take(self, count: int) -> npt.NDArray[np.uint64]:
        """The next ones."""
        with self._lock:
            start = self._next
            self._next = (start + count) % _NUMBERS
        numbers: npt.NDArray[np.uint64] = np.arange(start, start + count, dtype=np.uint64)
        return numbers & _FREE_BITS | _VARIANT


def new_ids(
    count: int,
    debit: Ids | None = None,
    pending_id: Ids | None = None,
    unix_ms: int | None = None,
    random: np.random.Generator | None = None,
    sequence: Sequence | None = None,
) -> Ids:
    """Fresh UUIDv7s for legs: of now, at home where each leg's debit account is, or its hold where that is
    left to be inherited. With several shards, a leg has to carry its home in its id.

    Within one call they count up from a random start, or go on in `sequence`."""
    if unix_ms is None:
        unix_ms = time.time_ns() // _NANOSECONDS_PER_MILLISECOND
    if sequence is None:
        sequence = Sequence.drawn(np.random.default_rng() if random is None else random)
    ids = np.empty((count, 2), np.uint64)
    ids[:, 0] = np.uint64(unix_ms << 16) | _VERSION
    if debit is None:
        if pending_id is not None:
            ids[:, 0] |= pending_id[:, 0] & _BUCKET
    else:
        home = debit[:, 0] >> _BUCKET_SHIFT
        if pending_id is not None:
            home = np.where(debit[:, 0] | debit[:, 1], home, pending_id[:, 0] & _BUCKET)
        ids[:, 0] |= home
    ids[:, 1] = sequence.take(count)
    return ids


def new_account_ids(count: int, random: np.random.Generator | None = None) -> Ids:
    """Random ids for accounts that have no key, spread over all buckets."""
    random = np.random.default_rng() if random is None else random
    return random.integers(1, (1 << 64) - 1, (count, 2), np.uint64)


def to_ids(values: Any, column: str = "id") -> Ids:
    """Ids from what people have: an array of shape (n, 2), or UUIDs, UUID texts, integers or 16 bytes each;
    or one of these, which is also what a row of such an array is.

    Raises InvalidColumns.
    """
    if isinstance(values, np.ndarray) and values.dtype != object:
        if _is_row(values):
            return values.reshape(1, 2)
        if values.ndim == 2 and values.shape[1] == 2 and values.dtype.kind in "ui":
            return values.astype(np.uint64, copy=False)
        if values.dtype == np.dtype("V16"):
            return np.frombuffer(values.tobytes(), ">u8").astype(np.uint64).reshape(-1, 2)
        raise InvalidColumns(
            column,
            f"an array of {values.dtype} of shape {values.shape} holds no ids",
            ["(n, 2) uint64", "V16"],
        )
    if is_one_id(values):
        values = [values]
    return ids_column([_integer(value, column) for value in values])


def to_uuids(ids: Ids) -> list[UUID]:
    """Ids as UUIDs."""
    return [UUID(int=id) for id in ids_list(ids)]


def _integer(value: object, column: str) -> int:
    match value:
        case None:
            return 0
        case UUID():
            return value.int
        case int() if not isinstance(value, bool) and 0 <= value < 1 << 128:
            return value
        case np.ndarray() if _is_row(value):
            return int(value[0]) << 64 | int(value[1])
        case bytes() if len(value) == _ID_BYTES:
            return int.from_bytes(value, "big")
        case str():
            try:
                return parse_id(value)
            except ValueError as exc:
                raise InvalidColumns(column, str(exc)) from exc
    raise InvalidColumns(column, f"{value!r} is no id", ["UUID", "UUID text", "integer", "16 bytes"])


def is_one_id(value: object) -> bool:
    """Whether a value is a single id rather than a column of them."""
    if isinstance(value, np.ndarray):
        return _is_row(value)
    return isinstance(value, (UUID, str, int, bytes)) or not isinstance(value, Iterable)


def _is_row(values: npt.NDArray[Any]) -> bool:
    """Whether an array is one id, its upper and its lower half."""
    return values.shape == (2,) and values.dtype == np.uint64
