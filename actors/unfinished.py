"""What a shard has taken and can't answer yet: commands whose legs are on several shards, and those that wait
for such a command.

Unlike everything else that waits, these outlive their turn. None of it is in the log: if the shard stops,
their callers are told so, and settle it by sending them again.
"""

from collections import deque
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from actors.errors import ActorError
from actors.mailbox import Letter
from engine.commands import MoveAnswer, MoveCommand
from engine.outcomes import Prepared

PARKED_MAX: Final = 20_000
"""Commands that may wait for others; more are refused."""


class OpenAnswer:
    """The answer to a letter that is put together over several turns. `left` parts of it are missing."""

    def __init__(self, letter: Letter, left: int) -> None:
        self.letter = letter
        self.left = left


class OpenMoves(OpenAnswer):
    """Of commands on Moves: an answer each."""

    def __init__(self, letter: Letter) -> None:
        count = len(letter.message.commands)
        super().__init__(letter, count)
        self.answers: list[Any] = [None] * count


class OpenLegs(OpenAnswer):
    """Of bare legs: a status and a stamp each."""

    def __init__(self, letter: Letter, left: int) -> None:
        super().__init__(letter, left)
        count = len(letter.message.columns.amount)
        self.status: npt.NDArray[np.uint8] = np.zeros(count, np.uint8)
        self.timestamp: npt.NDArray[np.int64] = np.zeros(count, np.int64)


class CrossingMove:
    """A command that goes over several shards; `answer` once that is decided."""

    def __init__(self, open: OpenMoves, at: int, prepared: Prepared) -> None:
        self.open = open
        self.at = at
        self.prepared = prepared
        self.answer: MoveAnswer | None = None


class Parked(NamedTuple):
    """A command that waits: for another one to end, or for an answer to a question about the catalogue."""

    open: OpenMoves
    at: int
    command: MoveCommand
    question: int = 0  # its number; −1 = it was answered


class Unfinished:
    """Everything of this kind that one shard has."""

    def __init__(self) -> None:
        self.parked: deque[Parked] = deque()  # in order of arrival
        self.answers: dict[OpenAnswer, None] = {}  # not complete, in order
        self.questions = 0  # how often the catalogue was asked for
        self.asked_at = 0  # ns; 0 = no question is open

    def fail(self, error: ActorError) -> None:
        """Tell everybody who waits that there will be no answer."""
        for open in self.answers:
            if not open.letter.answer.done():
                open.letter.answer.set_exception(error)
        self.answers.clear()
        self.parked.clear()
