"""Rows that the engine asks for before it decides: ids that it may have seen and has forgotten."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.layout import LEG_FACT
from engine.ledger import LoadedLegs

PACKED_LEG: Final = np.dtype(
    [
        ("id_hi", ">u8"),
        ("id_lo", ">u8"),
        ("pending_hi", ">u8"),
        ("pending_lo", ">u8"),
        ("user_data_128_hi", ">u8"),
        ("user_data_128_lo", ">u8"),
        ("user_data_64", ">u8"),
        ("amount", ">i8"),
        ("held", ">i8"),
        ("timestamp", ">i8"),
        ("debit", ">i4"),
        ("credit", ">i4"),
        ("user_data_32", ">i8"),
        ("timeout", ">i8"),
        ("code", ">i4"),
        ("flags", ">i4"),
        ("hold_status", ">i4"),
    ]
)
"""What the statement `legs_by_id` packs into one value, so that many legs are read without Python work for
each."""


def loaded_legs(rows: list[tuple[Any, ...]]) -> LoadedLegs:
    """Packed rows, in order of id, as the ledger takes them."""
    packed = np.frombuffer(b"".join([bytes(row[0]) for row in rows]), PACKED_LEG)
    facts = np.zeros(len(packed), LEG_FACT)
    for name in PACKED_LEG.names or ():
        if name != "hold_status":
            facts[name] = packed[name]
    status: npt.NDArray[np.uint8] = packed["hold_status"].astype(np.uint8)
    return LoadedLegs(facts, status)
