"""What became of legs and accounts, row by row."""

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.results import Result
from gateway.client.errors import RowsRefused
from gateway.client.ids import Ids

_RESULTS: Final = {int(result): result for result in Result}


class Answers(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One answer for each leg or account, in the order in which they were given.

    `ids` (n, 2) are those that were sent, `status` (u8) is a `Result`, `timestamp` (i8) the nanosecond at
    which the row was recorded or judged. Everything that was accepted is durable. `lsn` is the position in
    the log that a query has to have seen to see all of it.
    """

    ids: Ids
    status: npt.NDArray[np.uint8]
    timestamp: npt.NDArray[np.int64]
    lsn: int

    def __len__(self) -> int:
        return len(self.status)

    @property
    def accepted(self) -> npt.NDArray[np.bool_]:
        """True where the row is in the ledger, from now or from an earlier attempt."""
        accepted: npt.NDArray[np.bool_] = (self.status == Result.CREATED) | (self.status == Result.EXISTS)
        return accepted

    @property
    def refused(self) -> npt.NDArray[np.int64]:
        """The rows that are not in the ledger."""
        return np.flatnonzero(~self.accepted)

    @property
    def results(self) -> list[Result]:
        """The statuses as members of `Result`."""
        return [_RESULTS[status] for status in self.status.tolist()]

    def counts(self) -> dict[Result, int]:
        """How many rows had each result."""
        values, counts = np.unique(self.status, return_counts=True)
        return {_RESULTS[v]: n for v, n in zip(values.tolist(), counts.tolist(), strict=True)}

    def check(self) -> "Answers":
        """Itself, if every row is in the ledger. Raises RowsRefused."""
        refused = self.refused
        if len(refused):
            row = int(refused[0])
            raise RowsRefused(len(refused), len(self), row, Result(int(self.status[row])).slug)
        return self

    def times(self) -> npt.NDArray[np.datetime64]:
        """The timestamps as NumPy times."""
        return self.timestamp.view("datetime64[ns]")


def decode(body: bytes, ids: Ids, lsn: int) -> Answers:
    """The answers in a bulk response."""
    table = pa.ipc.open_stream(body).read_all()
    return Answers(
        ids=ids, status=table["status"].to_numpy(), timestamp=table["timestamp"].to_numpy(), lsn=lsn
    )


def joined(parts: list[Answers]) -> Answers:
    """The answers to several batches as one."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        nothing = np.empty(0, np.int64)
        return Answers(
            ids=np.empty((0, 2), np.uint64), status=nothing.astype(np.uint8), timestamp=nothing, lsn=0
        )
    return Answers(
        ids=np.concatenate([part.ids for part in parts]),
        status=np.concatenate([part.status for part in parts]),
        timestamp=np.concatenate([part.timestamp for part in parts]),
        lsn=max(part.lsn for part in parts),
    )
