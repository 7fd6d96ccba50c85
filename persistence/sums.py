"""Sums that may be too large for 64 bits."""

import numpy as np
import numpy.typing as npt


def run_sums(values: npt.NDArray[np.int64], starts: npt.NDArray[np.intp]) -> list[int]:
    """Exact sums of runs of values; each run begins at one of `starts` and ends before the next."""
    if len(values) == 0:
        return []
    low = np.add.reduceat(values & 0xFFFFFFFF, starts).tolist()
    high = np.add.reduceat(values >> 32, starts).tolist()
    return [(h << 32) + n for h, n in zip(high, low, strict=True)]
