"""How the ledger's state lies in arrays, and the types of the kernel's arguments.

All state of a ledger is in one `Books`: arrays, and `scalars`, an array of counters whose places are named
here. The window's generations form a ring: generation g uses ring place g % generations_max, that is rows
`place * row_capacity` onwards, index slots `place * slot_count` onwards, and a block of scalars of its own.
"""

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from engine.layout import (
    ACCOUNT,
    ACCOUNT_FACT,
    GUARD_FACT,
    LEG_FACT,
    RESERVED,
)

LEG_ROW = np.dtype(
    [
        ("id_hi", "u8"),
        ("id_lo", "u8"),
        ("amount", "i8"),
        (
            "timestamp",
            "i8",
        ),  # of a burnt id: that of the leg or expiry before, so that rows are in order of time
        ("debit", "i4"),
        ("credit", "i4"),
        ("side", "i4"),  # 1 + its row among the side rows, 0 = none
        ("code", "u2"),
        ("flags", "u2"),
    ]
)
"""A leg, an expiry (no id) or a burnt id in the window, 48 bytes."""

SIDE_ROW = np.dtype(
    [
        ("pending_hi", "u8"),
        ("pending_lo", "u8"),
        ("user_data_128_hi", "u8"),
        ("user_data_128_lo", "u8"),
        ("user_data_64", "u8"),
        ("held", "i8"),
        ("user_data_32", "u4"),
        ("timeout", "u4"),
    ]
)
"""What few legs have, or many neighbours have alike: a row may be shared by legs that follow each other."""

HOLD = np.dtype(
    [
        ("id_hi", "u8"),
        ("id_lo", "u8"),
        ("user_data_128_hi", "u8"),
        ("user_data_128_lo", "u8"),
        ("user_data_64", "u8"),
        ("held", "i8"),  # once resolved: what was held just before
        ("timestamp", "i8"),  # of its creation
        ("generation", "i8"),  # in which it was resolved, -1 = open
        ("debit", "i4"),
        ("credit", "i4"),
        ("user_data_32", "u4"),
        ("timeout", "u4"),  # seconds, 0 = never
        ("code", "u2"),
        ("flags", "u2"),  # of the pending leg
        ("status", "u4"),  # HoldStatus
    ]
)
"""A hold that is open, or was resolved in a generation that is still there. 88 bytes."""

# Places in `scalars`.
ACCOUNT_COUNT: Final = 0
HOLD_COUNT: Final = 1
GENERATION: Final = 2  # number of the generation that takes new rows
DROPPED: Final = 3  # generations below this number are gone
LAST_TIMESTAMP: Final = 4  # greatest stamp of any fact
LAST_LEG: Final = 5  # stamp of the last accepted leg or expiry
LAST_ROW: Final = 6  # greatest stamp of a row of the window: judges whether an id is from the future
WATERMARK: Final = 7  # unix ms: UUIDv7 ids that are younger, and not among the strays, were never dropped
DROPPED_LEG: Final = 8  # LAST_LEG when the newest dropped generation ended
NEXT_EXPIRY: Final = 9  # first expiry of an open hold, exact unless EXPIRY_STALE
EXPIRY_STALE: Final = 10  # 1 = the hold with the first expiry is gone: look again
SEED: Final = 11  # of the hashes
RING: Final = 12  # generations_max
ROW_CAPACITY: Final = 13  # rows of a generation
SLOT_COUNT: Final = 14  # index slots of a generation, a power of two
STRAY_CAPACITY: Final = 15  # stray ids of a generation
GENERATIONS: Final = 16  # where the blocks of the generations begin
# Places in a generation's block.
ROWS: Final = 0
SIDES: Final = 1
LOW: Final = 2  # smallest and greatest upper 48 bits of an id (a UUIDv7's unix ms)
HIGH: Final = 3
NEWEST: Final = 4  # greatest unix ms of its UUIDv7 ids, strays left out
STRAYS: Final = 5  # ids that were far in the future when they were seen
LAST: Final = 6  # LAST_TIMESTAMP when the generation ended
BLOCK: Final = 8

STATE_SCALARS: Final = (
    "account_count",
    "hold_count",
    "generation",
    "dropped",
    "last_timestamp",
    "last_leg",
    "last_row",
    "watermark",
    "dropped_leg",
)
"""Names of the first scalars, which a ledger's state holds; the others follow from it or the settings."""

LOOKAHEAD: Final = 16
"""How many legs ahead memory is asked for."""
LOOKAHEAD_RING: Final = 64
"""For how many legs what was found out on the way is kept: a power of two above twice `LOOKAHEAD`."""


class Books(NamedTuple):
    """All state of a ledger, and the scratch space of a call."""

    scalars: npt.NDArray[np.int64]
    accounts: npt.NDArray[np.void]
    account_slots: npt.NDArray[np.uint64]
    holds: npt.NDArray[np.void]
    expiries: npt.NDArray[np.int64]  # of each hold; AMOUNT_MAX once it is resolved, or if it never expires
    hold_slots: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.void]
    sides: npt.NDArray[np.void]
    row_slots: npt.NDArray[np.uint64]
    strays: npt.NDArray[np.uint64]  # (n, 2): ids, per generation
    saved: npt.NDArray[np.int64]  # scratch: `scalars` as they were when the present chain began
    digests: npt.NDArray[np.uint64]  # scratch: hashes of the ids of the legs that were looked ahead for
    hints: npt.NDArray[np.int64]  # scratch: the likely rows of their accounts
    seen: npt.NDArray[np.void]  # scratch: one HOLD, the one being posted or voided


class Loaded(NamedTuple):
    """Legs from PostgreSQL that the window no longer holds, sorted by id."""

    facts: npt.NDArray[np.void]
    status: npt.NDArray[np.uint8]  # HoldStatus of pending legs


class Answers(NamedTuple):
    """What a call fills in: one row per leg, then the facts and the accounts that were opened."""

    status: npt.NDArray[np.uint8]
    timestamp: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    facts: npt.NDArray[np.void]
    opened: npt.NDArray[np.void]
    opened_index: npt.NDArray[np.int64]


def rows_of(dtype: np.dtype[np.void], writable: bool = True) -> types.Array:
    """The Numba type of a C-contiguous array of structures."""
    return types.Array(numba.from_dtype(dtype), 1, "C", readonly=not writable)


def column_of(item: types.Type, width: int = 1, writable: bool = True) -> types.Array:
    """The Numba type of a C-contiguous column; ids are two wide."""
    return types.Array(item, width, "C", readonly=not writable)


_INT64S = column_of(types.int64)
_UINT64S = column_of(types.uint64)
_INPUT = {
    np.uint64: column_of(types.uint64, writable=False),
    np.int64: column_of(types.int64, writable=False),
    np.uint32: column_of(types.uint32, writable=False),
    np.uint16: column_of(types.uint16, writable=False),
}
COUNTS: Final = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]
INT64_INPUT: Final = column_of(types.int64, writable=False)
IDS_INPUT: Final = column_of(types.uint64, 2, writable=False)

_named_tuple: Any = types.NamedTuple  # untyped
_BOOKS = {
    "scalars": _INT64S,
    "accounts": rows_of(ACCOUNT),
    "account_slots": _UINT64S,
    "holds": rows_of(HOLD),
    "expiries": _INT64S,
    "hold_slots": _UINT64S,
    "rows": rows_of(LEG_ROW),
    "sides": rows_of(SIDE_ROW),
    "row_slots": _UINT64S,
    "strays": column_of(types.uint64, 2),
    "saved": _INT64S,
    "digests": _UINT64S,
    "hints": _INT64S,
    "seen": rows_of(HOLD),
}
BOOKS_TYPE: Final = _named_tuple([_BOOKS[name] for name in Books._fields], Books)
LOADED_TYPE: Final = _named_tuple([rows_of(LEG_FACT, False), column_of(types.uint8, 1, False)], Loaded)
ANSWERS_TYPE: Final = _named_tuple(
    [column_of(types.uint8), _INT64S, _INT64S, rows_of(LEG_FACT), rows_of(ACCOUNT_FACT), _INT64S], Answers
)


def columns_type(columns: Any, spec: dict[str, tuple[int, type[np.generic]]]) -> types.Type:
    """The Numba type of read-only columns, a named tuple, after their spec in `engine.layout`."""
    return _named_tuple(  # type: ignore[no-any-return]
        [IDS_INPUT if spec[name][0] == 2 else _INPUT[spec[name][1]] for name in columns._fields], columns
    )


LEG_FACTS: Final = rows_of(LEG_FACT)
LEG_FACTS_INPUT: Final = rows_of(LEG_FACT, False)
ACCOUNT_FACTS: Final = rows_of(ACCOUNT_FACT)
ACCOUNT_FACTS_INPUT: Final = rows_of(ACCOUNT_FACT, False)
GUARD_FACTS_INPUT: Final = rows_of(GUARD_FACT, False)
RESERVED_ROWS: Final = rows_of(RESERVED)
RESERVED_INPUT: Final = rows_of(RESERVED, False)
