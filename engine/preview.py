"""What a command would write if it were sent now: its Entries, with amounts that only the ledger knows filled
in.
"""

import numpy as np

from engine import ids
from engine.commands import MovePreview
from engine.drafts import Draft, MoveBlock
from engine.entities import Entry, Side
from engine.layout import AMOUNT_MAX, CEILING_UNSET, FLOOR_UNSET, LegFlag, ids_list
from engine.ledger import Ledger
from engine.results import Result


class _Balance:
    """An account as it would be after the legs so far."""

    def __init__(self, floor: int, ceiling: int) -> None:
        self.floor = floor
        self.ceiling = ceiling
        self.posted = 0  # credits − debits
        self.debits_pending = 0
        self.credits_pending = 0

    @property
    def takeable(self) -> int:
        """What a balancing debit takes at most."""
        return max(0, self.posted - self.debits_pending - max(self.floor, 0))

    @property
    def lacking(self) -> int:
        """What a balancing credit fills up at most."""
        ceiling = 0 if self.ceiling == CEILING_UNSET else min(self.ceiling, 0)
        return max(0, -self.posted - self.credits_pending + ceiling)


def of_draft(draft: Draft | None, state: str, block: MoveBlock, ledger: Ledger) -> MovePreview:
    """The Entries of a draft's legs. Of a hold, and of the release of one, nothing is posted, so there are
    none.
    """
    if draft is None or not len(draft):
        return MovePreview(state=state)
    balances: dict[int, _Balance] = {}
    opens = {
        id: (floor, ceiling)
        for id, floor, ceiling in zip(
            ids_list(block.opens.id), block.opens.floor.tolist(), block.opens.ceiling.tolist(), strict=True
        )
    }
    entries: list[Entry] = []
    legs = block.legs
    for leg, (debit, credit, flags) in enumerate(
        zip(ids_list(legs.debit), ids_list(legs.credit), legs.flags.tolist(), strict=True)
    ):
        amount = draft.amounts[leg]
        if not debit:
            continue
        payer = _balance(debit, balances, opens, ledger)
        payee = _balance(credit, balances, opens, ledger)
        if flags & LegFlag.BALANCING_DEBIT:
            amount = min(amount, payer.takeable)
        if flags & LegFlag.BALANCING_CREDIT:
            amount = min(amount, payee.lacking)
        refusal = _refusal(payer, payee, amount)
        if refusal is not None:
            keys = f"{draft.account_key(draft.debits[leg])} > {draft.account_key(draft.credits[leg])}"
            return MovePreview(code=refusal.slug, message=f"leg {leg + 1} of {len(draft)}, {keys} = {amount}")
        if flags & LegFlag.PENDING:
            payer.debits_pending += amount
            payee.credits_pending += amount
            continue
        payer.posted -= amount
        payee.posted += amount
        asset = draft.account_assets[draft.debits[leg]]
        for side, account, place in (
            (Side.DEBIT, debit, draft.debits[leg]),
            (Side.CREDIT, credit, draft.credits[leg]),
        ):
            entries.append(
                Entry(
                    account=account,
                    key=draft.account_key(place),
                    side=side,
                    amount=amount,
                    asset=asset,
                    move=draft.move,
                    seq=draft.seq,
                    leg=ids.leg_id(draft.request, leg),
                )
            )
    return MovePreview(state=state, entries=entries)


def _refusal(payer: _Balance, payee: _Balance, amount: int) -> Result | None:
    """The guard that would refuse it."""
    if not amount or amount == AMOUNT_MAX:
        return None
    if payer.floor != FLOOR_UNSET and payer.posted - payer.debits_pending - amount < payer.floor:
        return Result.BELOW_FLOOR
    if payee.ceiling != CEILING_UNSET and payee.posted + payee.credits_pending + amount > payee.ceiling:
        return Result.ABOVE_CEILING
    return None


def _balance(
    id: int, balances: dict[int, _Balance], opens: dict[int, tuple[int, int]], ledger: Ledger
) -> _Balance:
    found = balances.get(id)
    if found is None:
        wanted = np.array([[id >> 64, id & (2**64 - 1)]], np.uint64)
        row = int(ledger.lookup(wanted)[0])
        if row < 0:
            found = _Balance(*opens[id])
        else:
            account = ledger.accounts[row]
            found = _Balance(int(account["floor"]), int(account["ceiling"]))
            found.posted = int(account["credits_posted"]) - int(account["debits_posted"])
            found.debits_pending = int(account["debits_pending"])
            found.credits_pending = int(account["credits_pending"])
        balances[id] = found
    return found
