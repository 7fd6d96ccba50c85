"""Gathers what many clients sent into one block for the kernel, remembering whose legs are where."""

from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from engine.drafts import MoveBlock
from engine.layout import LEG_FLAGS_OF_CLIENTS, LegColumns, LegFlag, OpenColumns
from engine.ledger import LegBlock, LoadedLegs

_OF_ENGINE = np.uint16(LegFlag.OF_MOVE | LegFlag.PART | LegFlag.CROSSING)
_Columns = TypeVar("_Columns", LegColumns, OpenColumns)


class BlockBuilder:
    """Batches for one kernel call, in order of arrival. Each batch is stamped and judged by itself."""

    def __init__(self) -> None:
        self._legs: list[LegColumns] = []
        self._opens: list[OpenColumns] = []
        self._offsets = [0]
        self.open_keys: list[str] = []  # account key of each open, in order

    def __len__(self) -> int:
        return self._offsets[-1]

    def add(self, legs: LegColumns) -> slice:
        """Append one client's batch; the slice says where its legs are in the outcome."""
        start = self._offsets[-1]
        stop = start + len(legs.amount)
        self._legs.append(legs)
        self._offsets.append(stop)
        return slice(start, stop)

    def add_batches(self, legs: LegColumns, offsets: npt.NDArray[np.int64]) -> slice:
        """Append several clients' batches, `offsets[k]` to `offsets[k + 1]` each; the slice covers all."""
        start = self._offsets[-1]
        self._legs.append(legs)
        self._offsets += (offsets[1:] + start).tolist()
        return slice(start, self._offsets[-1])

    def add_moves(self, moves: MoveBlock) -> list[slice]:
        """Append the legs of many Moves, a batch and a slice for each."""
        start = self._offsets[-1]
        bounds = (moves.offsets + start).tolist()
        self._legs.append(moves.legs)
        self._offsets += bounds[1:]
        if moves.keys:
            self._opens.append(moves.opens._replace(before=moves.opens.before + start))
            self.open_keys += moves.keys
        return [slice(first, last) for first, last in pairwise(bounds)]

    def build(self, loaded: LoadedLegs | None = None) -> LegBlock:
        """The block. Engine-made legs (OF_MOVE) are accepted only in batches that Moves made:
        `allowed_flags`."""
        legs = self._legs[0] if len(self._legs) == 1 else _joined(LegColumns, self._legs)
        opens = None
        if self._opens:
            opens = self._opens[0] if len(self._opens) == 1 else _joined(OpenColumns, self._opens)
        return LegBlock(
            columns=legs,
            offsets=np.array(self._offsets, np.int64),
            opens=opens,
            loaded=loaded,
            allowed_flags=LEG_FLAGS_OF_CLIENTS | LegFlag.OF_MOVE,
        )


def without_engine_flags(legs: LegColumns) -> LegColumns:
    """The same legs; where a client set a flag that the engine's own legs may have in the same block, another
    reserved flag stands instead, so that the kernel refuses it as reserved."""
    stolen = (legs.flags & _OF_ENGINE) != 0
    if not stolen.any():
        return legs
    flags = legs.flags.copy()
    flags[stolen] = (flags[stolen] & ~_OF_ENGINE) | np.uint16(LegFlag.BURNT)
    return legs._replace(flags=flags)


def _joined(kind: type[_Columns], parts: list[_Columns]) -> _Columns:
    return kind(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
