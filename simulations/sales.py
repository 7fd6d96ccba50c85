"""Sales as columns: what the reader of a file and the seeded market both make, and the planner takes.

A line is one thing on one invoice. Text columns are codes into lists of distinct values, in order of first
appearance, so that nothing downstream touches an object per line. Amounts are integers in mills (exponent 3).
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

MILLS_EXPONENT: Final = 3
GUEST: Final = ""
"""The customer of a line that names none."""

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


class Coded(NamedTuple):
    """A text column: `values[codes[i]]` is the text of line i."""

    codes: Int32s
    values: list[str]


class Sales(NamedTuple):
    """The lines of many invoices, in the order in which they were written; all columns have one length."""

    dataset: str  # names the source; part of every derived id, so two sources never share one
    currency: str  # asset code of the money, with exponent 3
    invoice: Coded
    item: Coded
    item_names: list[str]  # one per item
    customer: Coded  # GUEST = nobody named
    country: Coded
    seller: Coded
    quantity: Int64s  # negative: given back or written off
    price_mills: Int64s  # for one; negative in corrections
    time_ns: Int64s  # business time, since 1970-01-01 UTC

    @property
    def line_count(self) -> int:
        """How many lines there are."""
        return len(self.quantity)


def coded(values: list[str]) -> Coded:
    """A text column from its values, for small or generated input."""
    positions: dict[str, int] = {}
    codes = np.fromiter(
        (positions.setdefault(value, len(positions)) for value in values), np.int32, len(values)
    )
    return Coded(codes, list(positions))


def constant(value: str, n: int) -> Coded:
    """A text column with one value on every line."""
    return Coded(np.zeros(n, np.int32), [value])
