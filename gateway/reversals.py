"""The command that takes back a Move as a whole: its posted legs, backwards, in a Move that reverses it.

What a Move has written does not change any more once it has ended, so the command is the same whenever it is
made; and its id follows from the Move's. So a Move is reversed once, however often it is asked for.
"""

from typing import Final
from uuid import UUID

from actors.errors import NotFound
from actors.runtime import Engine
from engine.commands import JournalLegs, MoveCommand, Refusal
from engine.ids import reversal_id
from engine.layout import LegFlag
from gateway.problems import refusal
from gateway.reading_schemas import ReversalDraft
from gateway.routes.parameters import read_after

_UNPOSTED: Final = LegFlag.PENDING | LegFlag.VOID_PENDING


async def reversal_of(engine: Engine, move: UUID, draft: ReversalDraft) -> MoveCommand:
    """The command that reverses a Move. Raises NotFound, or Problem if there is nothing to reverse yet."""
    await read_after(engine, None)
    found = await engine.queries.moves_by_id([move.int])
    if not found:
        raise NotFound("Move", str(move))
    [reversed_] = found
    if not reversed_.ended:
        raise refusal(
            Refusal.MOVE_NOT_ENDED,
            f"The Move is still {reversed_.state}; take it to an end first. Only what has ended is reversed.",
        )
    journal = await engine.queries.journal(move.int)
    posted = [line for line in journal if line.leg.amount and not line.leg.flags & _UNPOSTED]
    if not posted:
        raise refusal(Refusal.NOTHING_TO_REVERSE, f"The Move is {reversed_.state} and has posted nothing.")
    posted.reverse()
    return MoveCommand(
        id=reversal_id(move.int),
        kind="reversal",
        payer=reversed_.payer,
        payee=reversed_.payee,
        reverses=move.int,
        legs=JournalLegs(
            debits=[line.credit_key for line in posted],
            credits=[line.debit_key for line in posted],
            amounts=[line.leg.amount for line in posted],
            assets=[engine.asset_code(line.leg.asset) for line in posted],
        ),
        reason=draft.reason,
        reference=draft.reference,
        metadata=draft.metadata,
        business_time=int(draft.business_time or 0),
    )
