"""The shapes of everything that is stored in arrays or crosses the kernel's border.

128-bit ids stand in arrays as two native `uint64`: in rows as `…_hi`, `…_lo`, in columns as an array of shape
`(n, 2)` with `[:, 0]` the high half. As bytes an id is 16 bytes, big-endian, which is also how UUIDs are
written.
"""

from enum import IntFlag
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

AMOUNT_MAX: Final = 2**63 - 1
"""The largest amount; on a post it means "all that is held"."""
FLOOR_UNSET: Final = -(2**63)
"""An account's floor when it has none."""
CEILING_UNSET: Final = 2**63 - 1
"""An account's ceiling when it has none."""
ROLLUP_LEVELS_MAX: Final = 4
"""How many ancestors an account may have."""
PAIR_CODE: Final = 9000
"""The code of accounts that stand for another shard."""
SECOND_NS: Final = 1_000_000_000


class LegFlag(IntFlag):
    """Flags of a leg. The highest are the engine's own: a client that sends one gets `reserved_flag`."""

    LINKED = 1
    PENDING = 2
    POST_PENDING = 4
    VOID_PENDING = 8
    BALANCING_DEBIT = 16
    BALANCING_CREDIT = 32
    CLOSING_DEBIT = 64
    CLOSING_CREDIT = 128
    IMPORTED = 256
    KEEP_OPEN = 512
    PART = 1 << 11  # of a leg that is at home on another shard: no client can name it
    CROSSING = (
        1 << 12
    )  # one of its accounts is on another shard: pending_id says which, a pair account stands for it
    EXPIRY = 1 << 13  # a fact only: the hold named by pending_id ran out
    BURNT = 1 << 14  # a fact only: the id was refused for a transient reason and stays refused
    OF_MOVE = 1 << 15  # a Move's leg: user data is the Move's id, business time and sequence number


LEG_FLAGS_OF_CLIENTS: Final = 1023


class AccountFlag(IntFlag):
    """Flags of an account."""

    LINKED = 1
    CLOSED = 2
    IMPORTED = 4
    ROLLUP = 8
    PAIR = 16  # stands for another shard; only the engine's own legs may name it


ACCOUNT_FLAGS_OF_CLIENTS: Final = 15


class HoldStatus:
    """What became of a hold; plain integers because the kernel compares them."""

    OPEN = 0
    POSTED = 1
    VOIDED = 2
    EXPIRED = 3
    LOCKED = 4  # open, but what becomes of it is decided by several shards just now


ACCOUNT = np.dtype(
    [
        ("id_hi", "u8"),
        ("id_lo", "u8"),
        ("debits_pending", "i8"),
        ("debits_posted", "i8"),
        ("credits_pending", "i8"),
        ("credits_posted", "i8"),
        ("floor", "i8"),  # FLOOR_UNSET = none
        ("ceiling", "i8"),  # CEILING_UNSET = none
        ("version", "i8"),  # 1 at creation
        ("timestamp", "i8"),  # creation, ns
        ("party_hi", "u8"),
        ("party_lo", "u8"),
        ("user_data_128_hi", "u8"),
        ("user_data_128_lo", "u8"),
        ("user_data_64", "u8"),
        ("user_data_32", "u4"),
        ("asset", "u4"),
        ("parent", "i4"),  # row of the roll-up above, -1 = none; always smaller than this row
        ("code", "u2"),
        ("flags", "u2"),
    ]
)
"""One account, 136 bytes. Its row number is its ordinal: given in order of creation, never reused."""

LEG_FACT = np.dtype(
    [
        ("id_hi", "u8"),
        ("id_lo", "u8"),
        (
            "pending_hi",
            "u8",
        ),  # the hold that a post, void or expiry names, or with CROSSING the account elsewhere
        ("pending_lo", "u8"),
        ("user_data_128_hi", "u8"),
        ("user_data_128_lo", "u8"),
        ("user_data_64", "u8"),
        ("amount", "i8"),  # what was really moved; 0 for a void, an expiry and a burnt id
        ("held", "i8"),  # post, void, expiry: what was held just before; else 0
        ("timestamp", "i8"),
        ("debit", "i4"),  # account ordinal; -1 for a burnt id
        ("credit", "i4"),
        ("user_data_32", "u4"),
        ("timeout", "u4"),  # seconds
        ("code", "u2"),
        ("flags", "u2"),  # LegFlag, the engine's own included
        ("_pad", "u4"),
    ]
)
"""What happened, with everything resolved (inherited fields filled in, amounts actual): the log's and the
projection's view of a leg, of an expiry (flag EXPIRY, id 0) and of a burnt id (flag BURNT, only id and
timestamp)."""

ACCOUNT_FACT = np.dtype(
    [
        name
        for name in ACCOUNT.descr
        if name[0] not in {"debits_pending", "debits_posted", "credits_pending", "credits_posted", "version"}
    ]
)
"""An account as it was created."""

GUARD_FACT = np.dtype(
    [("floor", "i8"), ("ceiling", "i8"), ("timestamp", "i8"), ("account", "i4"), ("_pad", "u4")]
)
"""New guards of an account (by ordinal); adds one to its version."""


RESERVED = np.dtype([("account", "i4"), ("step", "u4"), ("debits", "i8"), ("credits", "i8")])
"""What a chain over several shards may still take from an account, or bring to it: both stand in the
account's pending counters until it is decided. `step` is what its version grew by."""


class LegColumns(NamedTuple):
    """Legs as clients send them: C-contiguous arrays of one length n, ids of shape (n, 2)."""

    id: npt.NDArray[np.uint64]
    debit: npt.NDArray[np.uint64]
    credit: npt.NDArray[np.uint64]
    amount: npt.NDArray[np.int64]
    asset: npt.NDArray[np.uint32]
    code: npt.NDArray[np.uint16]
    flags: npt.NDArray[np.uint16]
    pending_id: npt.NDArray[np.uint64]
    timeout: npt.NDArray[np.uint32]
    user_data_128: npt.NDArray[np.uint64]
    user_data_64: npt.NDArray[np.uint64]
    user_data_32: npt.NDArray[np.uint32]
    timestamp: npt.NDArray[np.int64]
    if_debit_version: npt.NDArray[np.int64]
    if_credit_version: npt.NDArray[np.int64]


class AccountColumns(NamedTuple):
    """Accounts as clients send them; `parent` is the parent's id (0 = none)."""

    id: npt.NDArray[np.uint64]
    party: npt.NDArray[np.uint64]
    parent: npt.NDArray[np.uint64]
    asset: npt.NDArray[np.uint32]
    code: npt.NDArray[np.uint16]
    flags: npt.NDArray[np.uint16]
    floor: npt.NDArray[np.int64]
    ceiling: npt.NDArray[np.int64]
    user_data_128: npt.NDArray[np.uint64]
    user_data_64: npt.NDArray[np.uint64]
    user_data_32: npt.NDArray[np.uint32]
    timestamp: npt.NDArray[np.int64]


class OpenColumns(NamedTuple):
    """Accounts a Move needs, opened on the way if they are not there yet ("ensure": never refused by itself).

    `before[k]` is the index of the leg in the block before which the account is opened, ascending; it must be
    the first leg of its chain. If that chain fails, accounts it opened are gone again.
    """

    before: npt.NDArray[np.int64]
    id: npt.NDArray[np.uint64]
    party: npt.NDArray[np.uint64]
    asset: npt.NDArray[np.uint32]
    code: npt.NDArray[np.uint16]
    floor: npt.NDArray[np.int64]
    ceiling: npt.NDArray[np.int64]


def _column_spec(
    columns: type[NamedTuple], wide: frozenset[str], kinds: dict[str, type]
) -> dict[str, tuple[int, type]]:
    return {name: (2 if name in wide else 1, kinds[name]) for name in columns._fields}


_WIDE = frozenset({"id", "debit", "credit", "pending_id", "user_data_128", "party", "parent"})
_KINDS: dict[str, type] = {
    **dict.fromkeys(_WIDE | {"user_data_64"}, np.uint64),
    **dict.fromkeys(("asset", "timeout", "user_data_32"), np.uint32),
    **dict.fromkeys(("code", "flags"), np.uint16),
    **dict.fromkeys(("amount", "timestamp", "floor", "ceiling", "before"), np.int64),
    **dict.fromkeys(("if_debit_version", "if_credit_version"), np.int64),
}

LEG_COLUMN_SPEC = _column_spec(LegColumns, _WIDE, _KINDS)
"""Column name → (width, dtype) for `LegColumns`."""
ACCOUNT_COLUMN_SPEC = _column_spec(AccountColumns, _WIDE, _KINDS)
"""Column name → (width, dtype) for `AccountColumns`."""
OPEN_COLUMN_SPEC = _column_spec(OpenColumns, _WIDE, _KINDS)
"""Column name → (width, dtype) for `OpenColumns`."""


def _fill(
    spec: dict[str, tuple[int, type]], n: int, given: dict[str, npt.ArrayLike]
) -> list[npt.NDArray[np.generic]]:
    unknown = given.keys() - spec.keys()
    if unknown:
        raise KeyError(f"unknown columns: {', '.join(sorted(unknown))}")
    filled: list[npt.NDArray[np.generic]] = []
    for name, (width, dtype) in spec.items():
        shape = (n, 2) if width == 2 else (n,)
        column: npt.NDArray[np.generic]
        if name in given:
            column = np.ascontiguousarray(given[name], dtype=dtype)
            if column.shape != shape:
                raise ValueError(f"column {name} has shape {column.shape}, expected {shape}")
        else:
            default = {"floor": FLOOR_UNSET, "ceiling": CEILING_UNSET}.get(name, 0)
            column = np.full(shape, default, dtype)
        filled.append(column)
    return filled


def leg_columns(n: int, **given: npt.ArrayLike) -> LegColumns:
    """`n` legs from the given columns; the others are zero. Raises KeyError or ValueError for wrong ones."""
    return LegColumns(*_fill(LEG_COLUMN_SPEC, n, given))  # type: ignore[arg-type]  # built by name from the spec


def account_columns(n: int, **given: npt.ArrayLike) -> AccountColumns:
    """`n` accounts from the given columns; the others are zero, guards unset."""
    return AccountColumns(*_fill(ACCOUNT_COLUMN_SPEC, n, given))  # type: ignore[arg-type]  # as above


def open_columns(n: int, **given: npt.ArrayLike) -> OpenColumns:
    """`n` accounts to open from the given columns; the others are zero, guards unset."""
    return OpenColumns(*_fill(OPEN_COLUMN_SPEC, n, given))  # type: ignore[arg-type]  # as above


def ids_column(ids: list[int]) -> npt.NDArray[np.uint64]:
    """128-bit integers as a column of shape (n, 2)."""
    packed = b"".join([i.to_bytes(16, "big") for i in ids])
    return np.frombuffer(packed, ">u8").astype(np.uint64).reshape(-1, 2)


def ids_list(column: npt.NDArray[np.uint64]) -> list[int]:
    """The inverse of `ids_column`."""
    hi, lo = column[:, 0].tolist(), column[:, 1].tolist()
    return [h << 64 | low for h, low in zip(hi, lo, strict=True)]
