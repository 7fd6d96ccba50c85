"""Where an event stands in the log, and how far somebody has read it.

An event's position is `shard.lsn.place`: the `place`-th event, from 1, of a record. Somebody who has read a
shard up to a position has seen the event there and everything before; `0.42.0` stands before the first event
of record 42. Who reads several shards has a position in each, joined by commas.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from gateway.problems import gateway_problem

_POSITION: Final = re.compile(r"(\d{1,5})\.(\d{1,19})\.(\d{1,10})")
START: Final = "start"
NOW: Final = "now"
_ACCEPTED: Final = f"the id of an event, `{START}` or `{NOW}`"


class Position(NamedTuple):
    """A place in the log of one shard."""

    shard: int
    lsn: int
    place: int

    @property
    def text(self) -> str:
        """As it stands in an event's id."""
        return f"{self.shard}.{self.lsn}.{self.place}"

    @classmethod
    def before_record(cls, shard: int, lsn: int) -> Self:
        """Before the first event of a record."""
        return cls(shard, lsn, 0)


Cursor = tuple[Position, ...]
"""How far every shard has been read, in order of the shards."""


def cursor_text(cursor: Cursor) -> str:
    """As clients pass it on."""
    return ",".join(position.text for position in cursor)


def cursor_of(text: str, ends: Sequence[int], where: str) -> Cursor:
    """The cursor that a client gave; `ends` are the last committed records of the shards.

    `now` is their end, `start` their beginning, and so it is for a shard that a list does not name. Raises
    Problem for what is no cursor of this log.
    """
    if text == NOW:
        return tuple(Position.before_record(shard, lsn + 1) for shard, lsn in enumerate(ends))
    cursor = [Position.before_record(shard, 1) for shard in range(len(ends))]
    if text == START:
        return tuple(cursor)
    named: set[int] = set()
    for part in text.split(","):
        match = _POSITION.fullmatch(part)
        if match is None:
            raise gateway_problem("invalid_cursor", f"{part[:60]!r} is no position.", where, _ACCEPTED)
        position = Position(*map(int, match.groups()))
        if position.shard >= len(ends) or position.shard in named:
            raise gateway_problem("invalid_cursor", f"{part!r} names a wrong shard.", where, _ACCEPTED)
        end = ends[position.shard]
        if not 1 <= position.lsn <= end + (position.place == 0):
            raise gateway_problem(
                "invalid_cursor", f"{part!r} is not in the log, which ends at {end}.", where, _ACCEPTED
            )
        named.add(position.shard)
        cursor[position.shard] = position
    return tuple(cursor)
