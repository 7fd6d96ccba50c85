"""What makes a block of batches one: checked before anything is done, so that no index can go astray."""

from typing import Any

import numpy as np

from engine.kernel.compiled import seldom


@seldom
def are_offsets(offsets: Any, count: Any) -> Any:
    """Whether batches follow each other and cover all events."""
    if offsets.size == 0 or offsets[0] != 0 or offsets[offsets.size - 1] != count:
        return False
    falling = 0
    for batch in range(offsets.size - 1):
        falling += offsets[batch] > offsets[batch + 1]
    return falling == 0


@seldom
def are_opens(before: Any, count: Any) -> Any:
    """Whether opens stand before legs, in ascending order."""
    last = np.int64(0)
    for number in range(before.size):
        if not last <= before[number] < count:
            return False
        last = before[number]
    return True
