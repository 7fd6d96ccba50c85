"""Deliberately broken variants of the commit code, each of which the auditor must catch.

A mutant puts another function in the place of a real one while it is `applied`. What it breaks is said in its
first line; the check that is expected to notice is not, since any may.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

import numpy as np
from msgspec.structs import replace

from actors.commit import CommitPipeline
from actors.turn import Turn
from engine.crossing.common import column_of, wide
from engine.crossing.effects import Effects
from engine.crossing.home import HomeSide
from engine.crossing.localising import part_id
from engine.crossing.messages import Decide, Name, Vote
from engine.crossing.peer import PeerSide
from engine.crossing.tables import Tables, bytes_of, ids_of
from engine.facts import DecidedFact
from engine.layout import AccountFlag, LegColumns, leg_columns
from engine.ledger import Ledger
from engine.moves import MoveBook, UnknownRequests
from engine.record import chain_hash
from engine.shard_state import ShardState
from persistence.errors import LogUnavailable
from persistence.log import Entry, Head, Log
from persistence.log_session import LogSession
from simulations.simulator.projection import SimulatedLookups
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


def _tells_before_durable() -> Patches:
    """Votes and decisions are sent before they are on disk."""
    return [(Effects, "later", Effects.now)]


def _applies_twice() -> Patches:
    """A peer does not remember what it has done for a home."""

    def on_decision(self: PeerSide, sender: int, decide: Decide, effects: Effects, now: int) -> Any:
        self._asked.setdefault(decide.name, now)
        return _on_decision(self, sender, decide, effects, now)

    def is_done(_self: Tables, _name: Name) -> bool:
        return False

    def apply(_self: Tables, _fact: Any) -> None:
        return

    return [(PeerSide, "on_decision", on_decision), (Tables, "is_done", is_done), (Tables, "_apply", apply)]


def _give_up(peer: PeerSide, name: Name, effects: Effects, now: int) -> None:
    """Take what is prepared for aborted."""
    nothing = Decide(name, np.zeros(0, np.uint8), False, np.zeros((0, 2), np.uint64), leg_columns(0), (0, 0))
    _on_decision(peer, name.home, nothing, effects, now)


def _releases_in_doubt() -> Patches:
    """A peer that has waited too long for a decision releases what it has set aside."""

    def ask(self: PeerSide, effects: Effects, now: int, patience: int) -> None:
        for name, asked_at in list(self._asked.items()):
            if now - asked_at > patience:
                _give_up(self, name, effects, now)

    return [(PeerSide, "ask", ask)]


def _answers_before_applied() -> Patches:
    """A home answers once it has decided."""

    def decide(self: HomeSide, name: Name, one: Any, effects: Effects, now: int) -> None:
        _decide(self, name, one, effects, now)
        done = self._done.get(name)
        if done is not None and done.work is not None:
            effects.finished += done.work.end(done.chains)
            done.work = None

    return [(HomeSide, "_decide", decide)]


def _refuses_to_apply() -> Patches:
    """A peer does not apply what is decided on an account that was closed meanwhile."""

    def kept(self: PeerSide, name: Name, prepared: Any, decide: Decide) -> Any:
        facts, _ = _kept(self, name, prepared, decide)
        flags = self._common.ledger.accounts["flags"]
        closed = (flags[facts["debit"]] | flags[facts["credit"]]) & int(AccountFlag.CLOSED)
        return facts[closed == 0], [("", int((closed == 0).sum()))]

    return [(PeerSide, "_kept", kept)]


def _loses_decisions() -> Patches:
    """A home's next owner does not know what was decided, and says that it was aborted."""

    def begin_epoch(self: HomeSide, effects: Effects) -> None:
        self._common.tables.decided.clear()
        _begin_epoch(self, effects)

    return [(HomeSide, "begin_epoch", begin_epoch)]


def _counts_old_votes() -> Patches:
    """A home takes a vote on a crossing of an earlier epoch for one on its own of the same number."""

    def on_vote(self: HomeSide, sender: int, vote: Vote, effects: Effects, now: int) -> None:
        name = vote.name._replace(epoch=self._common.epoch)
        open_ = self._open.get(name)
        if open_ is not None and len(open_.asked.get(sender, ())) == len(vote.status):
            vote = vote._replace(name=name)
        _on_vote(self, sender, vote, effects, now)

    return [(HomeSide, "on_vote", on_vote)]


def _settles_in_any_order() -> Patches:
    """A peer settles holds in the order in which it hears of it, not in that of their home."""

    def settled(self: PeerSide, news: LegColumns) -> Any:
        held = news.timestamp.copy()
        left: dict[int, int] = {}
        for place in range(len(held)):
            hold = part_id(wide(news.pending_id, place), self._common.bucket)
            for found in self._common.ledger.find_holds(column_of(hold)):
                held[place] = left.get(hold, int(found["held"]))
                left[hold] = int(held[place]) - int(news.amount[place])
        return _settled(self, news._replace(timestamp=held))

    return [(PeerSide, "_settled", settled)]


def _frees_failed_ids() -> Patches:
    """An id that failed may be used again until the shard that it is of has heard that it failed."""

    def note(self: Tables, fact: Any, epoch: int) -> None:
        if isinstance(fact, DecidedFact):
            failed = ids_of(b"".join(fact.burnt)).tolist()
            kept = [id for id in ids_of(fact.ids).tolist() if id not in failed]
            fact = replace(fact, ids=bytes_of(np.array(kept, np.uint64).reshape(-1, 2)))
        _note(self, fact, epoch)

    return [(Tables, "note", note)]


def _judges_repeats_afresh() -> Patches:
    """A Move's request that is sent again is judged again, whatever it was answered."""

    def stored(_self: MoveBook, _request: int, _loaded: Any) -> None:
        return

    return [(MoveBook, "_stored", stored)]


def _steps_race() -> Patches:
    """Two steps of one Move are judged by the state that it had before both."""

    def marks(_self: MoveBook, _prepared: Any) -> set[int]:
        return set()

    return [(MoveBook, "_marks", marks)]


def _expires_without_its_move() -> Patches:
    """A hold runs out, and its Move does not hear of it."""

    def expire(_self: MoveBook, _facts: Any) -> list[Any]:
        return []

    return [(MoveBook, "expire", expire)]


def _forgets_references() -> Patches:
    """A reference is known only until memory has forgotten its Move."""

    def find(_self: SimulatedLookups, unknown: UnknownRequests) -> Any:
        return _find_requests(_self, UnknownRequests(unknown.requests, unknown.moves, []))

    return [(SimulatedLookups, "find_requests", find)]


_append = Log.append
_find_requests = SimulatedLookups.find_requests
_on_vote = HomeSide.on_vote
_settled = PeerSide._settled
_note = Tables.note
_on_decision = PeerSide.on_decision
_decide = HomeSide._decide
_kept = PeerSide._kept
_begin_epoch = HomeSide.begin_epoch
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
    "told before durable": _tells_before_durable,
    "double apply": _applies_twice,
    "release in doubt": _releases_in_doubt,
    "ack before applied": _answers_before_applied,
    "apply refused on a closed account": _refuses_to_apply,
    "lost decision": _loses_decisions,
    "old votes counted": _counts_old_votes,
    "settled in any order": _settles_in_any_order,
    "failed ids are free": _frees_failed_ids,
    "repeats judged afresh": _judges_repeats_afresh,
    "steps of a Move race": _steps_race,
    "expiry without its Move": _expires_without_its_move,
    "references forgotten": _forgets_references,
}


@contextmanager
def applied(name: str) -> Iterator[None]:
    """The code, with this mutant in it."""
    with ExitStack() as stack:
        for owner, attribute, replacement in MUTANTS[name]():
            stack.enter_context(patch.object(owner, attribute, replacement, create=True))
        yield
