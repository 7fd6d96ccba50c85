"""Checks account history against the legs, in one pass over both.

The legs are walked in order and added to counters of their own. Segments come in order of their last
timestamp; when the walk has come to it, the segment must hold exactly the positions that its account has
gone through since its last segment, and the counters that it has now."""

from typing import Final

import numpy as np

from persistence import segments
from persistence.segments import FAULTS, LAST, SEGMENT_WIDTH, TOUCHED_MAX, Counters, Int64s, Rows
from persistence.table_streams import Stream

SEGMENTS_AT_A_TIME: Final = 8192


class HistoryCheck:
    """Takes the legs of a shard in order. `counters` are what the legs give, whatever the tables hold."""

    def __init__(self, shard: int, stream: Stream | None) -> None:
        self.counters = Counters()
        self.segments_count = 0
        self.problem = ""  # the first; nothing is compared after it
        self._shard = shard
        self._stream = stream
        self._opened: Int64s = np.zeros((1024, 4), np.int64)
        self._segments: Int64s = np.empty((0, SEGMENT_WIDTH), np.int64)
        self._position: Int64s = np.zeros(1 + TOUCHED_MAX, np.int64)

    def add_accounts(self, accounts: Rows) -> None:
        """The next accounts, ACCOUNT_FACT."""
        self.counters.add_accounts(np.ascontiguousarray(accounts["parent"]))
        if self.counters.count > len(self._opened):
            grown = np.zeros((2 * self.counters.count, 4), np.int64)
            grown[: len(self._opened)] = self._opened
            self._opened = grown

    def add_legs(self, legs: Rows) -> None:
        """The next legs and expiries, LEG_FACT, without burnt ids."""
        if len(legs) == 0:
            return
        if self._stream is not None:
            self._read_until(int(legs["timestamp"][-1]))
        before = int(self._position[0])
        fault = segments.walk(
            legs, self.counters.parents, self.counters.values, self._opened, self._segments, self._position,
            self.counters.count,
        )  # fmt: skip
        self.segments_count += int(self._position[0]) - before
        if fault:
            account, last = self._segments[int(self._position[0])][[0, LAST]].tolist()
            self._give_up(f"the history of account {account} that ends at {last} {FAULTS[fault]}")

    def finish(self) -> None:
        """To be called after the last leg that the projection contains."""
        if self._stream is None:
            return
        if len(self._segments) > int(self._position[0]) or self._stream.take(1):
            self._give_up("account_history holds more than the log gives")
        elif (missing := np.flatnonzero(self._opened[:, 0])).size:
            account = int(missing[0])
            self._give_up(f"the history of account {account} ends before {int(self._opened[account, 2])}")
        self._stop()

    def _give_up(self, problem: str) -> None:
        self.problem = self.problem or problem
        self._stop()

    def _stop(self) -> None:
        self._stream = None
        self._segments = self._segments[:0]
        self._position[0] = 0

    def _read_until(self, timestamp: int) -> None:
        """Has segments ready up to a timestamp."""
        assert self._stream is not None
        while len(self._segments) == 0 or self._segments[-1, LAST] <= timestamp:
            rows = self._stream.take(SEGMENTS_AT_A_TIME)
            if not rows:
                return
            starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
            parsed = np.zeros((len(rows), SEGMENT_WIDTH), np.int64)
            segments.parse(np.frombuffer(b"".join(rows), np.uint8), starts, self._shard, parsed)
            self._segments = np.concatenate((self._segments[int(self._position[0]) :], parsed))
            self._position[0] = 0
