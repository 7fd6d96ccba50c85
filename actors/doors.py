"""The door to a shard: what an engine needs of one, wherever it runs.

`actors.shard.Shard` is a shard in this process. In a cluster the shard is elsewhere, and what stands here
sends it everything in frames. Whoever holds a door can't tell them apart, but for the time that it takes.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from actors.log_follower import LogFollower
from actors.messages import Message
from persistence.recovery import Recovered
from persistence.verify import Report


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a shard is."""

    status: str  # serving, blocked (new work is refused just now) or stopped
    reason: str  # of that; or why SQL shows nothing new, while it serves
    shard: int
    epoch: int
    lsn: int  # durable
    projected_lsn: int
    projection_lag_legs: int
    mailbox_weight: int
    accounts: int
    open_moves: int


class CatalogueRow(Protocol):
    """A Thing, as far as callers need it."""

    @property
    def code(self) -> str: ...


class Catalogue(Protocol):
    """The Things there are, by code and by asset number."""

    def asset(self, code: str) -> int:
        """The asset number of a code, 0 if there is no such Thing."""

    def thing(self, asset: int) -> CatalogueRow:
        """The Thing with that number. Raises IndexError."""


class Door(Protocol):
    """A shard, as its callers know it. Messages are carried out in the order in which they were left."""

    @property
    def index(self) -> int:
        """Its number."""

    @property
    def catalogue(self) -> Catalogue:
        """The Things that it knows."""

    @property
    def recovered(self) -> Recovered:
        """What it recovered when it was opened."""

    def send(self, message: Message) -> asyncio.Future[Any]:
        """Leave a message; the future is its durable answer. Raises Overloaded or ShardStopped."""

    def send_all(self, messages: Sequence[Message]) -> list[asyncio.Future[Any]]:
        """Leave several messages, one after the other: all of them or, when they are refused, none."""

    async def catch_up(self) -> None:
        """Let the catalogue have every Thing that anybody was answered for before."""

    async def wait_projected(self, lsn: int | None) -> int:
        """Wait until SQL shows everything up to `lsn`, or everything answered so far; returns up to where.
        Raises InvalidRequest for a position that is not in the log."""

    def follow(self, after: int) -> LogFollower:
        """Follow the committed log from a position on. Raises InvalidRequest for one that is not in it."""

    async def verify(self, progress: Callable[[int], None] | None = None) -> Report:
        """Replay the whole log and compare with memory, projection and snapshots."""

    def health(self) -> Health:
        """How it is."""

    async def end(self) -> str:
        """Wait until it serves no more; returns why."""

    async def rest(self) -> None:
        """Take no more messages; return once nothing is left that needs other shards, or after a while."""

    async def close(self) -> None:
        """Let go of it, in order."""
