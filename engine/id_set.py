"""A set of 128-bit ids that takes, drops and looks up whole columns of them."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.kernel import members

SLOTS_MIN: Final = 64

Ids = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.bool_]


class IdSet:
    """Ids, but for 0, in no order. All columns are of shape (n, 2). `seed` keeps anybody from choosing ids
    that collide."""

    def __init__(self, seed: int) -> None:
        self._seed = int(np.uint64(seed & 0xFFFFFFFFFFFFFFFF).astype(np.int64))
        self._slots = np.zeros((SLOTS_MIN, 2), np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, ids: Ids) -> Bits:
        """Add ids; which of them were not there, nor before in the column."""
        self._make_room(self._count + len(ids))
        new = np.empty(len(ids), np.bool_)
        self._count += members.add(self._slots, self._seed, _read_only(ids), new)
        return new

    def discard(self, ids: Ids) -> None:
        """Drop those of these ids that are there."""
        if self._count:
            self._count -= members.discard(self._slots, self._seed, _read_only(ids))

    def which(self, ids: Ids) -> Bits | None:
        """Which of these ids are there; None = none of them."""
        if not self._count:
            return None
        found = np.empty(len(ids), np.bool_)
        there = members.look_up(_read_only(self._slots), self._seed, _read_only(ids), found)
        return found if there else None

    def clear(self) -> None:
        """Drop all."""
        self._slots = np.zeros((SLOTS_MIN, 2), np.uint64)
        self._count = 0

    def _make_room(self, count: int) -> None:
        size = len(self._slots)
        while size < 2 * count:
            size *= 2
        if size > len(self._slots):
            old, self._slots = self._slots, np.zeros((size, 2), np.uint64)
            there = old[old.any(axis=1)]
            members.add(self._slots, self._seed, _read_only(there), np.empty(len(there), np.bool_))


def repeated(ids: Ids, seed: int) -> Bits | None:
    """Which ids of a column, of shape (n, 2), have come before in it; None = none. Zeros do not count."""
    again = ~IdSet(seed).add(ids) & ids.any(axis=1)
    return again if again.any() else None


def _read_only(ids: Ids) -> Ids:
    view = np.ascontiguousarray(ids).view()
    view.flags.writeable = False
    return view
