"""On whose word the facts of a turn came.

Facts are noted in the order in which they get into the record, a run at a time. Most turns have one run: a
turn's messages came on the word of one principal, or nobody asked. Then one envelope says it for the whole
record; otherwise there is one for each run, of legs and of events.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.facts import Envelope


class Attribution:
    """Runs of facts, by principal; "" is the engine itself, or whoever it was."""

    def __init__(self) -> None:
        self._legs: list[tuple[str, int]] = []
        self._events: list[tuple[str, int]] = []

    def legs(self, principal: str, count: int) -> None:
        """The next facts about legs came on somebody's word."""
        _extend(self._legs, principal, count)

    def batches(
        self, principals: Sequence[str], offsets: npt.NDArray[np.int64], made: npt.NDArray[np.bool_]
    ) -> None:
        """The next facts about legs came from batches, each on somebody's word. `made` says of each leg, from
        `offsets[k]` to `offsets[k + 1]` for batch k, whether it made a fact."""
        counts = np.add.reduceat(made, offsets[:-1], dtype=np.int64).tolist()
        for principal, count in zip(principals, counts, strict=True):
            _extend(self._legs, principal, count)

    def events(self, principal: str, count: int) -> None:
        """The next events came on somebody's word."""
        _extend(self._events, principal, count)

    def envelopes(self, tenant: str) -> list[Envelope]:
        """What says so in the record, before its events."""
        principals = {principal for principal, _ in (*self._legs, *self._events)}
        if len(principals) <= 1:
            return [
                Envelope(
                    tenant=tenant,
                    principal=next(iter(principals), ""),
                    leg_count=sum(count for _, count in self._legs),
                    event_first=1,
                    event_count=sum(count for _, count in self._events),
                )
            ]
        made: list[Envelope] = []
        first = 0
        for principal, count in self._legs:
            made.append(Envelope(tenant=tenant, principal=principal, leg_first=first, leg_count=count))
            first += count
        first = len(self._legs) + len(self._events)
        for principal, count in self._events:
            made.append(Envelope(tenant=tenant, principal=principal, event_first=first, event_count=count))
            first += count
        return made


def _extend(runs: list[tuple[str, int]], principal: str, count: int) -> None:
    if not count:
        return
    if runs and runs[-1][0] == principal:
        runs[-1] = (principal, runs[-1][1] + count)
    else:
        runs.append((principal, count))
