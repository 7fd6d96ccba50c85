"""What clients of a simulation send, and what they remember of it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.messages import Message, PostLegs
from engine.layout import ids_column, leg_columns

if TYPE_CHECKING:
    from simulations.simulator.trades import Trade

CODE = 1


class Spec(NamedTuple):
    """A leg as it is sent."""

    id: int
    debit: int
    credit: int
    amount: int
    asset: int
    flags: int = 0
    pending_id: int = 0
    timeout: int = 0


class Order:
    """A request: what is sent, where to, and since when. It is sent again, as it is, until it is answered."""

    def __init__(self, number: int, shard: int, message: Message, legs: list[Spec]) -> None:
        self.number = number
        self.shard = shard
        self.message = message
        self.legs = legs  # empty for other requests than legs
        self.known: dict[int, int] = {}  # of a read: by account, the stamp that it must be as new as
        self.trades: Sequence[Trade] = ()  # of commands on Moves
        self.check: Callable[[Any], None] | None = None  # of other answers than those to legs and reads
        self.sendings = 0
        self.answer: Any = None


def legs_message(legs: list[Spec]) -> PostLegs:
    """Legs as one batch."""
    ids, debits, credits, amounts, assets, flags, pending, timeouts = zip(*legs, strict=True)
    columns = leg_columns(
        len(legs),
        id=ids_column(list(ids)),
        debit=ids_column(list(debits)),
        credit=ids_column(list(credits)),
        amount=amounts,
        asset=assets,
        code=[0 if spec.pending_id else CODE for spec in legs],
        flags=flags,
        pending_id=ids_column(list(pending)),
        timeout=timeouts,
    )
    return PostLegs(columns)
