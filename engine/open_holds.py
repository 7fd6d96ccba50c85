"""Reading holds: what is reserved, between which accounts, until when.

Open holds are all in memory; resolved ones stay for a while. Ids are integers, 0 = none; times nanoseconds.
"""

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine.layout import AMOUNT_MAX, SECOND_NS, HoldStatus, LegFlag, ids_column
from engine.ledger import Ledger

STATUS_NAMES: Final = {
    HoldStatus.OPEN: "open",
    HoldStatus.POSTED: "posted",
    HoldStatus.VOIDED: "voided",
    HoldStatus.EXPIRED: "expired",
}
_CLOSING: Final = LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT


class HoldFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which holds: these ids, whatever became of them; or the open ones that fit. 0 = no condition."""

    ids: list[int] = []
    account: int = 0  # on either side
    move: int = 0
    asset: int = 0
    expires_until: int = 0  # those that run out then or earlier
    closing: bool = False  # only those that close an account
    newest_first: bool = True
    after: tuple[int, int] = (0, 0)  # creation and id of the last one of the page before; 0, 0 = none
    limit: int = 100


class HoldState(msgspec.Struct, frozen=True, kw_only=True):
    """A hold; `held` is what is left of it, or once it is resolved, what was left just before."""

    id: int
    debit: int
    credit: int
    asset: int
    held: int
    created: int
    expires_at: int  # 0 = never
    status: str
    code: int
    closes: list[int]  # accounts that are closed while it is open
    move: int
    seq: int


class HoldPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some holds, in order; `more`: there are others after them."""

    items: list[HoldState]
    more: bool
    lsn: int = 0


def find(ledger: Ledger, wanted: HoldFilter) -> HoldPage:
    """The holds in memory that a filter lets through, in order of creation."""
    if wanted.ids:
        found = ledger.find_holds(ids_column(wanted.ids))
        return HoldPage(items=[_state(ledger, hold) for hold in found], more=False)
    holds = ledger.holds
    rows = np.flatnonzero(holds["status"] == HoldStatus.OPEN)
    if wanted.account:
        row = int(ledger.lookup(ids_column([wanted.account]))[0])
        rows = rows[(holds["debit"][rows] == row) | (holds["credit"][rows] == row)]
    if wanted.asset:
        rows = rows[ledger.accounts["asset"][holds["debit"][rows]] == wanted.asset]
    if wanted.move:
        of_move = (holds["flags"][rows] & LegFlag.OF_MOVE) != 0
        rows = rows[of_move & _is(holds[rows], "user_data_128", wanted.move)]
    if wanted.closing:
        rows = rows[(holds["flags"][rows] & _CLOSING) != 0]
    if wanted.expires_until:
        timeout = holds["timeout"][rows].astype(np.int64)
        rows = rows[(timeout > 0) & (holds["timestamp"][rows] + timeout * SECOND_NS <= wanted.expires_until)]
    order = np.lexsort((holds["id_lo"][rows], holds["id_hi"][rows], holds["timestamp"][rows]))
    rows = rows[order[::-1] if wanted.newest_first else order]
    rows = rows[_beyond(holds[rows], wanted)]
    page = rows[: wanted.limit]
    return HoldPage(items=[_state(ledger, holds[row]) for row in page], more=len(page) < len(rows))


def closed_by(flags: int, debit: int, credit: int) -> list[int]:
    """Which of its accounts a pending leg with these flags closes."""
    closing = ((LegFlag.CLOSING_DEBIT, debit), (LegFlag.CLOSING_CREDIT, credit))
    return [account for flag, account in closing if flags & flag]


def _beyond(holds: npt.NDArray[Any], wanted: HoldFilter) -> npt.NDArray[np.bool_]:
    """Those that come after the last one of the page before."""
    timestamp, id = wanted.after
    if not timestamp and not id:
        return np.ones(len(holds), np.bool_)
    high, low = np.uint64(id >> 64), np.uint64(id & (2**64 - 1))
    later_id = (holds["id_hi"] > high) | ((holds["id_hi"] == high) & (holds["id_lo"] > low))
    later = (holds["timestamp"] > timestamp) | ((holds["timestamp"] == timestamp) & later_id)
    here = (holds["timestamp"] == timestamp) & _is(holds, "id", id)
    beyond: npt.NDArray[np.bool_] = ~(later | here) if wanted.newest_first else later
    return beyond


def _is(rows: npt.NDArray[Any], name: str, id: int) -> npt.NDArray[np.bool_]:
    same: npt.NDArray[np.bool_] = (rows[f"{name}_hi"] == np.uint64(id >> 64)) & (
        rows[f"{name}_lo"] == np.uint64(id & (2**64 - 1))
    )
    return same


def _state(ledger: Ledger, hold: np.void) -> HoldState:
    debit, credit = ledger.accounts[int(hold["debit"])], ledger.accounts[int(hold["credit"])]
    timeout, flags = int(hold["timeout"]), int(hold["flags"])
    of_move = bool(flags & LegFlag.OF_MOVE)
    debit_id, credit_id = _id(debit, "id"), _id(credit, "id")
    return HoldState(
        id=_id(hold, "id"),
        debit=debit_id,
        credit=credit_id,
        asset=int(debit["asset"]),
        held=int(hold["held"]),
        created=int(hold["timestamp"]),
        expires_at=min(int(hold["timestamp"]) + timeout * SECOND_NS, AMOUNT_MAX) if timeout else 0,
        status=STATUS_NAMES[int(hold["status"])],
        code=int(hold["code"]),
        closes=closed_by(flags, debit_id, credit_id),
        move=_id(hold, "user_data_128") if of_move else 0,
        seq=int(hold["user_data_32"]) if of_move else 0,
    )


def _id(row: np.void, name: str) -> int:
    return int(row[f"{name}_hi"]) << 64 | int(row[f"{name}_lo"])
