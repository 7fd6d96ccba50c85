"""What can be sent to a shard. A message's weight is how much of a turn it takes; its `principal`, on whose
word it comes ("" = nobody asked)."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.commands import CreateParty, CreateThing, MoveCommand, UpdateParty
from engine.layout import AccountColumns, LegColumns
from engine.open_holds import HoldFilter

LEGS_PER_LINE: Final = 4
LEGS_BESIDE_LINES: Final = 8
STEPS_WEIGHT: Final = 64
"""Of asking where a Move can go: each of its kind's transitions is tried."""


def move_weight(command: MoveCommand) -> int:
    """About how many legs a command causes, rather more than fewer."""
    rows = len(command.lines.amounts or command.lines.quantities) if command.lines is not None else 0
    if command.legs is not None:
        rows += len(command.legs.amounts)
    if command.entries is not None:
        rows += len(command.entries.amounts)
    return LEGS_BESIDE_LINES + LEGS_PER_LINE * rows


class PostLegs(NamedTuple):
    """One client's batch of legs. Answer: `LegAnswers`."""

    columns: LegColumns
    principal: str = ""

    @property
    def weight(self) -> int:
        return len(self.columns.amount)


class PostBatches(NamedTuple):
    """Batches of many clients, `offsets[k]` to `offsets[k + 1]` each, none of them empty; each is judged and
    stamped by itself. Answer: one `LegAnswers` for all of them."""

    columns: LegColumns
    offsets: npt.NDArray[np.int64]
    principals: tuple[str, ...] = ()  # one for each batch, or none: nobody asked

    @property
    def weight(self) -> int:
        return len(self.columns.amount)


class CreateAccounts(NamedTuple):
    """One client's batch of accounts, with their keys ("" for an account that has none). Answer:
    `LegAnswers`."""

    columns: AccountColumns
    keys: list[str]

    @property
    def weight(self) -> int:
        return len(self.keys)


class SetGuards(NamedTuple):
    """New guards for an account. Answer: the account after it, as `AccountState`; the same request again gets
    the same answer."""

    account: int
    floor: int
    ceiling: int
    if_version: int  # 0 = whatever it is
    request: int = 0  # 0 = it can't be repeated
    principal: str = ""

    @property
    def weight(self) -> int:
        return 1


class SubmitMoves(NamedTuple):
    """Commands on Moves, carried out in order. Answer: one `MoveAnswer` each."""

    commands: list[MoveCommand]
    principal: str = ""

    @property
    def weight(self) -> int:
        return sum(map(move_weight, self.commands))


class Claim(NamedTuple):
    """A client's own key for a request: whoever claims it first says what the request's id is, and what is
    in it. Answer: `Claimed`, the same for everybody who claims it."""

    key: int
    digest: bytes
    request: int
    principal: str = ""

    @property
    def weight(self) -> int:
        return 1


class SubmitParties(NamedTuple):
    """Parties to create or change. Answer: one `DirectoryAnswer` each. With `request`, the same one command
    again gets the same answer."""

    commands: list[CreateParty | UpdateParty]
    request: int = 0
    principal: str = ""

    @property
    def weight(self) -> int:
        return len(self.commands)


class SubmitThings(NamedTuple):
    """Things to create or change. Answer: one `DirectoryAnswer` each."""

    commands: list[CreateThing]
    principal: str = ""

    @property
    def weight(self) -> int:
        return len(self.commands)


class ReadAccounts(NamedTuple):
    """Accounts by id. Answer: a list of `AccountState | None`."""

    ids: npt.NDArray[np.uint64]

    @property
    def weight(self) -> int:
        return len(self.ids)


class Preview(NamedTuple):
    """What a command would write, without writing it. Answer: a list of `EntryPreview`."""

    command: MoveCommand

    @property
    def weight(self) -> int:
        return move_weight(self.command)


class ReadSteps(NamedTuple):
    """Where a Move stands and can go from there; `request` is a fresh id at its home. Answer: `NextSteps`."""

    move: int
    request: int

    @property
    def weight(self) -> int:
        return STEPS_WEIGHT


class ReadHolds(NamedTuple):
    """Holds in memory, as a filter says. Answer: `HoldPage`."""

    wanted: HoldFilter

    @property
    def weight(self) -> int:
        return max(self.wanted.limit, len(self.wanted.ids))


class Fence(NamedTuple):
    """Nothing to do. Answer: the LSN of everything sent before, once durable, and proof that the shard is
    ours."""

    @property
    def weight(self) -> int:
        return 1


class Capture(NamedTuple):
    """A consistent copy of the whole state at a turn's end. Answer: `(lsn, state)`."""

    @property
    def weight(self) -> int:
        return 1


Message = (
    PostLegs
    | PostBatches
    | CreateAccounts
    | SetGuards
    | Claim
    | SubmitMoves
    | SubmitParties
    | SubmitThings
    | ReadAccounts
    | Preview
    | ReadSteps
    | ReadHolds
    | Fence
    | Capture
)
