"""Deliberately broken variants of the commit code, each of which the auditor must catch.

A mutant puts another function in the place of a real one while it is `applied`. What it breaks is said in its
first line; the check that is expected to notice is not, since any may.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from actors.commit import CommitPipeline
from actors.turn import Turn
from engine.ledger import Ledger
from engine.record import chain_hash
from engine.shard_state import ShardState
from persistence.errors import LogUnavailable
from persistence.log import Entry, Head, Log
from persistence.log_session import LogSession
from simulations.simulator.server import Server, SimulatedLog

Patches = list[tuple[type, str, Callable[..., Any]]]


def _ack_before_durable() -> Patches:
    """Answers are given when the commit has been sent."""
    durable = CommitPipeline._make_durable

    async def make_durable(self: CommitPipeline, batch: list[Any]) -> None:
        for turn in batch:
            for reply in turn.replies:
                reply.give()
        await durable(self, batch)

    return [(CommitPipeline, "_make_durable", make_durable)]


def _unknown_taken_as_done() -> Patches:
    """A commit whose outcome is unknown is taken for one that happened."""

    async def resolve(self: Log, records: Sequence[Entry]) -> int:
        await _resolve(self, records)
        return len(records)

    return [(SimulatedLog, "resolve", resolve)]


def _failed_taken_as_done() -> Patches:
    """A commit that the server refused is answered from memory."""

    async def append(self: Log, records: Sequence[Entry]) -> None:
        try:
            await _append(self, records)
        except LogUnavailable:
            self.head = Head(records[-1][0], self.epoch, chain_hash(records[-1][2]))

    return [(SimulatedLog, "append", append)]


def _stale_owner_answers() -> Patches:
    """What changed nothing is answered without asking whether the log is still ours."""

    async def confirm(_self: Log) -> None:
        return

    return [(Log, "confirm", confirm)]


def _stale_owner_appends() -> Patches:
    """Whoever takes over neither waits for the lock nor ends the session of the last owner, and records are
    put over what is there."""

    async def lock(_self: LogSession, _takeover: bool, _wait_s: float) -> None:
        return

    def commit(self: Server, shard: int, records: Sequence[Entry]) -> None:
        for record in records:
            self.logs.setdefault(shard, {}).pop(record[0], None)
        _commit(self, shard, records)

    return [(LogSession, "lock", lock), (Server, "commit", commit)]


def _forgets_ids_too_early() -> Patches:
    """Ids are forgotten before SQL knows them."""
    forget = ShardState.forget

    def forget_all(self: ShardState, _projected_lsn: int) -> None:
        forget(self, 1 << 60)

    return [(ShardState, "forget", forget_all)]


def _trusts_every_id() -> Patches:
    """An id that memory has forgotten counts as new."""

    def unknown_ids(self: Ledger, block: Any, now: int) -> Any:
        return _unknown_ids(self, block, now)[:0]

    return [(Ledger, "unknown_ids", unknown_ids)]


def _guards_not_replayed() -> Patches:
    """A guard change is not replayed."""

    def replay_guards(_self: Ledger, _facts: Any) -> None:
        return

    return [(Ledger, "replay_guards", replay_guards)]


def _expires_without_a_record() -> Patches:
    """Holds that run out are released in memory only."""

    def sweep(self: Turn) -> None:
        self._state.ledger.expire(self._now, 1_000)

    return [(Turn, "sweep", sweep)]


_append = Log.append
_resolve = Log.resolve
_unknown_ids = Ledger.unknown_ids
_commit = Server.commit

MUTANTS: Final[dict[str, Callable[[], Patches]]] = {
    "ack before durable": _ack_before_durable,
    "unknown outcome taken as done": _unknown_taken_as_done,
    "failed commit taken as done": _failed_taken_as_done,
    "stale owner answers": _stale_owner_answers,
    "stale owner appends": _stale_owner_appends,
    "ids forgotten too early": _forgets_ids_too_early,
    "forgotten ids taken as new": _trusts_every_id,
    "guard changes not replayed": _guards_not_replayed,
    "expiry not logged": _expires_without_a_record,
}


@contextmanager
def applied(name: str) -> Iterator[None]:
    """The code, with this mutant in it."""
    with ExitStack() as stack:
        for owner, attribute, replacement in MUTANTS[name]():
            stack.enter_context(patch.object(owner, attribute, replacement, create=True))
        yield
