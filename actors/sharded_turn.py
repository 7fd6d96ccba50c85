"""A turn of one of several shards: as any turn, with ids held to the buckets that they say they are of.

An id in another bucket is refused before it is looked for, and stays usable. The kernel knows nothing of
buckets: such ids are shown to it as 0, which it refuses at the place in the order of checks that they have.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from actors.mailbox import Letter
from actors.messages import CreateAccounts
from actors.turn import Turn
from engine.layout import AccountColumns, LegColumns
from engine.placement import strays_of_accounts, strays_of_legs
from engine.results import Result

_NO_ID: Final = np.uint8(Result.ID_MUST_NOT_BE_ZERO)
_STRAY: Final = np.uint8(Result.ID_IN_WRONG_BUCKET)


class ShardedTurn(Turn):
    """A `Turn` where there are several shards."""

    def _legs_of(self, letter: Letter) -> LegColumns:
        columns = super()._legs_of(letter)
        strays = strays_of_legs(columns)
        return columns._replace(id=_without(columns.id, strays)) if strays.any() else columns

    def _accounts_of(self, letter: Letter) -> AccountColumns:
        columns = super()._accounts_of(letter)
        strays = self._stray_accounts(columns)
        return columns._replace(id=_without(columns.id, strays)) if strays.any() else columns

    def _answer_legs(
        self, letter: Letter, status: npt.NDArray[np.uint8], timestamp: npt.NDArray[np.int64]
    ) -> None:
        without_id = status == _NO_ID
        if without_id.any():
            columns = letter.message.columns
            of_accounts = isinstance(letter.message, CreateAccounts)
            strays = self._stray_accounts(columns) if of_accounts else strays_of_legs(columns)
            status = np.where(without_id & strays, _STRAY, status)
        super()._answer_legs(letter, status, timestamp)

    def _stray_accounts(self, columns: AccountColumns) -> npt.NDArray[np.bool_]:
        return strays_of_accounts(columns.id, self._state.placement, self._state.shard)


def _without(ids: npt.NDArray[np.uint64], which: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """The ids with 0 in some places."""
    return np.where(which[:, None], np.uint64(0), ids)
