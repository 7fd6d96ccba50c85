"""What goes into the ledger and what comes out: blocks of batches, what PostgreSQL remembered, answers."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.layout import LEG_FLAGS_OF_CLIENTS, LegColumns, OpenColumns

_Array = npt.NDArray[Any]


class LoadedLegs(NamedTuple):
    """Legs that PostgreSQL remembers, sorted by id (upper half, then lower): the answer to `unknown_ids`.

    `held` of a pending leg is what was held just before it was resolved, and `hold_status` what became of it
    (0 for other legs). A burnt id has the flag BURNT.
    """

    facts: _Array  # LEG_FACT
    hold_status: npt.NDArray[np.uint8]


class LegBlock(NamedTuple):
    """Batches of legs, `offsets[k]` to `offsets[k + 1]` each, in the order of their arrival.

    `allowed_flags` is `LEG_FLAGS_OF_CLIENTS`, with OF_MOVE if the block holds legs that Moves made.
    """

    columns: LegColumns
    offsets: npt.NDArray[np.int64]
    opens: OpenColumns | None = None
    loaded: LoadedLegs | None = None
    allowed_flags: int = LEG_FLAGS_OF_CLIENTS


class LegOutcome(NamedTuple):
    """The answers to a block, one per leg, and what it adds to the log.

    `timestamp` and `amount` are those of the leg that is there now (0 for none: the stamp, and amount 0).
    """

    status: npt.NDArray[np.uint8]
    timestamp: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    facts: _Array  # LEG_FACT: accepted legs and burnt ids, in order
    opened: _Array  # ACCOUNT_FACT
    opened_index: npt.NDArray[np.int64]  # which of the block's opens each was


class Reserved(NamedTuple):
    """The answers to chains that were judged to happen later, and what was set aside for them.

    `facts[i]` is leg i as it would be, if its status is `CREATED`; its stamp is not its own yet. The
    reservations of chain k are `reserved[ends[k − 1]:ends[k]]`.
    """

    status: npt.NDArray[np.uint8]
    timestamp: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    facts: _Array  # LEG_FACT
    opened: _Array  # ACCOUNT_FACT
    opened_index: npt.NDArray[np.int64]
    reserved: _Array  # RESERVED
    ends: npt.NDArray[np.int64]


class AccountOutcome(NamedTuple):
    """The answers to a block of accounts, one each, and what it adds to the log."""

    status: npt.NDArray[np.uint8]
    timestamp: npt.NDArray[np.int64]
    facts: _Array  # ACCOUNT_FACT of those created
    indices: npt.NDArray[np.int64]  # which of the block's accounts each was
