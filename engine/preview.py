"""What a command would write if it were sent now: its Entries, with everything filled in that only the ledger
knows.

The legs are judged by the reference model, over copies of the accounts and holds that they name. So a preview
refuses what the ledger would refuse, with the same words, and changes nothing. With several shards it asks
none of the others: what the guards of their accounts would refuse is refused only when the command is sent.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.commands import MovePreview
from engine.drafts import Draft, MoveBlock
from engine.entities import Effect, Entry, Side
from engine.layout import (
    CEILING_UNSET,
    FLOOR_UNSET,
    LEG_FLAGS_OF_CLIENTS,
    SECOND_NS,
    HoldStatus,
    LegFlag,
    ids_column,
    ids_list,
)
from engine.ledger import Ledger
from engine.outcomes import Prepared, leg_refusal
from engine.reference import Account, AccountState, Hold, Leg, LegFact, ReferenceLedger
from engine.reference import Outcome as ModelOutcome

_ALLOWED: Final = LEG_FLAGS_OF_CLIENTS | int(LegFlag.OF_MOVE)
_COUNTERS: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
_PLAIN: Final = ("asset", "code", "flags", "floor", "ceiling", "version", "timestamp", *_COUNTERS)


def of_prepared(
    prepared: Prepared, block: MoveBlock, ledger: Ledger, now: int, elsewhere: npt.NDArray[np.bool_]
) -> MovePreview:
    """What the ledger would make of the legs of a prepared command, `block`. Of the accounts that the block
    opens, some are `elsewhere`, on other shards."""
    draft = prepared.draft
    assert draft is not None
    model = _model(block, ledger)
    outcome = model.apply_batch(_legs(block), now, _opens(block, elsewhere), _ALLOWED)
    status = np.array([int(answer.result) for answer in outcome.answers], np.uint8)
    refusal = leg_refusal(prepared, status)
    if refusal is not None:
        return MovePreview(code=refusal[0], message=refusal[1])
    return MovePreview(state=prepared.target, entries=_entries(draft, outcome, model))


def _entries(draft: Draft, outcome: ModelOutcome, model: ReferenceLedger) -> list[Entry]:
    keys: dict[int, str] = {}  # by ordinal; "" for accounts that only a hold names
    entries: list[Entry] = []
    for leg, fact in enumerate(outcome.facts):
        keys[fact.debit] = draft.account_key(draft.debits[leg]) or keys.get(fact.debit, "")
        keys[fact.credit] = draft.account_key(draft.credits[leg]) or keys.get(fact.credit, "")
        for effect, amount in _effects(fact):
            for side, place in ((Side.DEBIT, fact.debit), (Side.CREDIT, fact.credit)):
                account = model.accounts[model.ids[place]]
                entries.append(
                    Entry(
                        account=account.id,
                        key=keys[place],
                        side=side,
                        amount=amount,
                        asset=account.asset,
                        move=draft.move,
                        seq=draft.seq,
                        leg=fact.id,
                        effect=effect,
                    )
                )
    return entries


def _effects(fact: LegFact) -> list[tuple[Effect, int]]:
    """What a leg does, and with how much. A post of less than was held releases the rest."""
    if fact.flags & LegFlag.PENDING:
        return [(Effect.HELD, fact.amount)]
    if fact.flags & LegFlag.VOID_PENDING:
        return [(Effect.RELEASED, fact.held)]
    effects = [(Effect.POSTED, fact.amount)]
    rest = fact.held - fact.amount if fact.flags & LegFlag.POST_PENDING else 0
    return effects if rest <= 0 or fact.flags & LegFlag.KEEP_OPEN else [*effects, (Effect.RELEASED, rest)]


def _model(block: MoveBlock, ledger: Ledger) -> ReferenceLedger:
    """The reference model with what the legs name, as it is now."""
    model = ReferenceLedger()
    model.last["fact"] = ledger.last_timestamp
    legs = block.legs
    named = {*ids_list(legs.debit), *ids_list(legs.credit)} - {0}
    rows = {int(row) for row in ledger.lookup(ids_column(sorted(named))) if row >= 0} if named else set()
    pending = sorted({*ids_list(legs.pending_id)} - {0})
    holds = ledger.find_holds(ids_column(pending)) if pending else ledger.holds[:0]
    for hold in holds:
        rows |= {int(hold["debit"]), int(hold["credit"])}
    for ordinal, row in enumerate(sorted(_with_ancestors(rows, ledger))):
        account = _account(ledger, row, ordinal)
        model.accounts[account.id] = account
        model.ids[ordinal] = account.id
    for hold in holds:
        _add_hold(model, hold, ledger)
    return model


def _with_ancestors(rows: Iterable[int], ledger: Ledger) -> set[int]:
    found: set[int] = set()
    for row in rows:
        above = row
        while above >= 0:
            found.add(above)
            above = int(ledger.accounts[above]["parent"])
    return found


def _account(ledger: Ledger, row: int, ordinal: int) -> AccountState:
    account = ledger.accounts[row]
    parent = int(account["parent"])
    return AccountState(
        id=_id(account, "id"),
        ordinal=ordinal,
        parent=_id(ledger.accounts[parent], "id") if parent >= 0 else 0,
        party=_id(account, "party"),
        **{name: int(account[name]) for name in _PLAIN},
    )


def _add_hold(model: ReferenceLedger, hold: np.void, ledger: Ledger) -> None:
    id, created, timeout = _id(hold, "id"), int(hold["timestamp"]), int(hold["timeout"])
    debit, credit = (_id(ledger.accounts[int(hold[side])], "id") for side in ("debit", "credit"))
    model.legs[id] = LegFact(
        id=id,
        user_data_128=_id(hold, "user_data_128"),
        user_data_64=int(hold["user_data_64"]),
        user_data_32=int(hold["user_data_32"]),
        amount=int(hold["held"]),
        timestamp=created,
        debit=model.accounts[debit].ordinal,
        credit=model.accounts[credit].ordinal,
        timeout=timeout,
        code=int(hold["code"]),
        flags=int(hold["flags"]),
    )
    status = int(hold["status"])
    model.holds[id] = Hold(
        id=id,
        debit=debit,
        credit=credit,
        held=int(hold["held"]),
        status=status,
        created=created,
        expiry=created + timeout * SECOND_NS if timeout and status == HoldStatus.OPEN else None,
    )


def _legs(block: MoveBlock) -> list[Leg]:
    columns: dict[str, list[int]] = {
        name: ids_list(column) if column.ndim == 2 else column.tolist()
        for name, column in block.legs._asdict().items()
    }
    return [Leg(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _opens(block: MoveBlock, elsewhere: npt.NDArray[np.bool_]) -> list[tuple[int, Account]]:
    """Accounts to ensure; each once, as the ledger opens them. Those on other shards, whose balances are not
    known here, without guards."""
    opens = block.opens._replace(
        floor=np.where(elsewhere, FLOOR_UNSET, block.opens.floor),
        ceiling=np.where(elsewhere, CEILING_UNSET, block.opens.ceiling),
    )
    columns: dict[str, npt.NDArray[np.generic]] = opens._asdict()
    numbers = {name: columns[name].tolist() for name in ("before", "asset", "code", "floor", "ceiling")}
    found = []
    for at, (id, party) in enumerate(zip(ids_list(opens.id), ids_list(opens.party), strict=True)):
        content = {name: values[at] for name, values in numbers.items() if name != "before"}
        found.append((numbers["before"][at], Account(id=id, party=party, **content)))
    return found


def _id(row: np.void, name: str) -> int:
    return int(row[f"{name}_hi"]) << 64 | int(row[f"{name}_lo"])
