"""A turn of one of several shards.

It does what any turn does, and four things more. It hears what other shards have to say, and tells them what
it has to (`engine.crossing`). It finds the chains and Moves that have to do with other shards, and lets them
cross, at its end, after what concerns this shard alone. It holds ids to the buckets that they say they are
of. And it asks shard 0 for Things that it does not know.

The kernel knows nothing of other shards: legs that it must not judge (ids of other buckets, ids in doubt, and
all legs of chains that cross) are shown to it without an id, which it refuses, and changes nothing; their
chains fail with them, and the legs beside them are judged as ever.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from actors.block_builder import without_engine_flags
from actors.crossing_chains import CrossingLegs, chains_of, crossing_rows, together
from actors.errors import Overloaded
from actors.mailbox import RETRY_AFTER_S, Letter
from actors.messages import CreateAccounts
from actors.turn import TURN_LEGS_MAX, Judged, Lookups, Moved, Posted, Stamps, Turn
from actors.unfinished import (
    PARKED_MAX,
    CrossingMove,
    OpenAnswer,
    OpenLegs,
    OpenMoves,
    Parked,
    Unfinished,
)
from engine.commands import MoveAnswer, MoveCommand, Refusal
from engine.crossing.effects import Effects, Finished
from engine.crossing.home import UNANSWERED
from engine.crossing.messages import AskThings, Frame, Prepare, Things
from engine.crossing.tables import settlements_elsewhere
from engine.id_set import IdSet
from engine.ids import format_id
from engine.layout import AccountColumns, LegColumns, LegFlag
from engine.ledger import LegOutcome
from engine.moves import Deferred, LoadedRequests
from engine.outcomes import Prepared, leg_refusal
from engine.placement import strays_of_accounts, strays_of_legs
from engine.results import Result
from engine.rows import Rows
from engine.shard_state import ShardState

OPEN_LEGS_MAX: Final = 32_768
"""Legs of crossings that may be on their way at a time; more are refused."""
THINGS_PATIENCE_NS: Final = 500_000_000
CATALOGUE: Final = 0
"""The shard that has the catalogue."""

_SETTLING: Final = np.uint16(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)
_NO_ID: Final = np.uint8(Result.ID_MUST_NOT_BE_ZERO)
_UNKNOWN: Final = frozenset({Refusal.ASSET_NOT_FOUND.value, Refusal.THING_NOT_FOUND.value})

Bits = npt.NDArray[np.bool_]


class _Landed(NamedTuple):
    """Whose legs have crossed: `rows` of an answer."""

    open: OpenLegs
    rows: npt.NDArray[np.int64]


class _Held(NamedTuple):
    """An answer that is ready, but for other shards: a Move's, or a part of a letter's legs."""

    open: OpenAnswer
    at: int
    answer: MoveAnswer | None


class ShardedTurn(Turn):
    """A `Turn` of a shard that has others beside it. `frames` is what they have said."""

    def __init__(
        self,
        state: ShardState,
        lookups: Lookups,
        now: int,
        letters: list[Letter],
        frames: list[Frame],
        unfinished: Unfinished,
        epoch: int,
    ) -> None:
        super().__init__(state, lookups, now, letters)
        assert state.crossings is not None
        self._crossings = state.crossings
        self._frames = frames
        self.unheard: list[Frame] = []  # frames that did not fit
        self._unfinished = unfinished
        self._epoch = epoch
        self._effects = Effects(
            state.shard, self._accounts, self._keys, self._legs, self._events, self._attribution
        )
        self._opened: dict[Any, OpenLegs] = {}  # by the letter's future: what the block gives a part of
        self._crossing_legs: list[CrossingLegs] = []
        self._crossing_moves: list[CrossingMove] = []
        self._crossing_count = 0  # legs in both
        self._news = False  # whether what is parked may go on
        self._held: list[_Held] | None = None  # answers to what settles holds elsewhere, while they are made
        self._settling: set[int] = set()  # stamps of legs that do
        self._asked = False  # whether this turn has asked for the catalogue

    @property
    def at_once(self) -> dict[int, Frame]:
        """What other shards are to be told, before the turn is durable."""
        return self._effects.at_once

    @property
    def once_durable(self) -> dict[int, Frame]:
        """What they are to be told once it is."""
        return self._effects.once_durable

    def sweep(self) -> None:
        """Release holds that have expired."""
        self._take_over()
        super().sweep()

    async def run(self) -> None:
        """Hear the others, decide all letters, and let cross what crosses."""
        self._take_over()
        for place, frame in enumerate(self._frames):
            if not self._is_room_for(frame):
                self.unheard = self._frames[place:]
                break
            await self._hear(frame)
        self._crossings.look_again(self._effects, self._now)
        if self._unfinished.asked_at and self._now - self._unfinished.asked_at > THINGS_PATIENCE_NS:
            self._ask_things()
        self._leg_count += self._effects.leg_count
        self._finish()
        await self._unpark()
        known = self._state.directory.thing_count
        await super().run()
        await self._cross()
        self._finish()
        self._tell_things(known)

    def _tell_things(self, known: int) -> None:
        """Tell everybody of Things that are new, so that few have to ask."""
        things = self._state.directory.things_after(known)
        if things and self._state.shard == CATALOGUE:
            for shard in range(1, self._state.placement.shards):
                self._effects.later(shard).things.append(Things(0, known, things))

    def _take_over(self) -> None:
        if self._crossings.epoch != self._epoch:
            self._crossings.begin_epoch(self._epoch, self._effects)

    # Other shards

    def _is_room_for(self, frame: Frame) -> bool:
        """Whether the legs that a frame may make happen fit into this turn; the first one's always do."""
        happened = self._effects.leg_count
        return not happened or happened + self._crossings.legs_in(frame) <= TURN_LEGS_MAX

    async def _hear(self, frame: Frame) -> None:
        self._crossings.hear(frame, self._effects, self._now)
        for prepare in frame.prepares:
            await self._prepare(frame.sender, prepare)
        for asked in frame.asked_things:
            things = self._state.directory.things_after(asked.known)
            self._effects.later(frame.sender).things.append(Things(asked.number, asked.known, things))
        for told in frame.things:
            self._learn(told)

    async def _prepare(self, sender: int, prepare: Prepare) -> None:
        peer, ledger = self._crossings.peer, self._state.ledger
        plan = peer.plan(sender, prepare, self._effects, self._now)
        if plan is None:
            return
        unknown = ledger.unknown_ids(plan.block, self._now)
        loaded = await self._lookups.find_legs(unknown) if len(unknown) else None
        peer.prepare(sender, plan, loaded, self._effects, self._now)

    def _learn(self, told: Things) -> None:
        """Take Things into the catalogue, and let those go on who waited for them."""
        self._add_events(self._state.directory.learn(told.known, told.things), "")
        unfinished = self._unfinished
        if told.number == unfinished.questions:
            unfinished.asked_at = 0
        for place, parked in enumerate(unfinished.parked):
            if 0 < parked.question <= told.number:
                unfinished.parked[place] = parked._replace(question=-1)
        self._news = True

    def _ask_things(self) -> None:
        unfinished = self._unfinished
        unfinished.asked_at = self._now
        question = AskThings(unfinished.questions, self._state.directory.thing_count)
        self._effects.now(CATALOGUE).asked_things.append(question)

    # What has come to its end

    def _finish(self) -> None:
        """Take note of what was decided, and answer what has come to its end."""
        effects = self._effects
        for done in effects.decided:
            self._settle_crossing(done.claim, done)
        for done in effects.finished:
            self._news = True
            claim = done.claim
            if isinstance(claim, CrossingMove):
                if claim.answer is None:
                    self._settle_crossing(claim, done)
                assert claim.answer is not None
                self._fill(claim.open, claim.at, claim.answer)
            else:
                claim.open.status[claim.rows] = done.status
                claim.open.timestamp[claim.rows] = done.timestamp
                self._complete(claim.open)
        for held in effects.ended:
            self._news = True
            if held.answer is None:
                self._complete(held.open)
            else:
                self._fill(held.open, held.at, held.answer)
        effects.decided.clear()
        effects.finished.clear()
        effects.ended.clear()

    def _settle_crossing(self, move: CrossingMove, done: Finished) -> None:
        """Let a Move take its step, or not, as all shards have decided."""
        prepared = move.prepared
        if done.missing == UNANSWERED or (done.status == Result.SHARD_UNAVAILABLE).any():
            why = "a shard that has a part in it did not answer; send it again"
            prepared.refusal = Refusal.SHARD_UNAVAILABLE, why
        elif done.missing:
            why = f"payee: there is no Party {format_id(done.missing)}"
            prepared.refusal = Refusal.PARTY_NOT_FOUND, why
        elif prepared.draft is not None:
            prepared.refusal = leg_refusal(prepared, done.status)
        stamp = int(done.timestamp.max(initial=0)) if prepared.refusal is None else 0
        stamp = stamp or max(self._now, self._state.ledger.last_timestamp)
        answer, facts = self._state.moves.settle(prepared, None, None, stamp, stamp)
        self.results[answer.code or "created"] += 1
        self._add_events(facts, move.open.letter.message.principal)
        move.answer = answer

    def _complete(self, open: OpenAnswer) -> None:
        """Another part of an answer is there."""
        open.left -= 1
        if open.left:
            return
        self._unfinished.answers.pop(open, None)
        if isinstance(open, OpenMoves):
            self._answers.append((open.letter, open.answers))
        elif isinstance(open, OpenLegs):
            super()._answer_legs(open.letter, self._unhidden(open.letter, open.status), open.timestamp)

    def _fill(self, open: OpenAnswer, at: int, answer: MoveAnswer) -> None:
        assert isinstance(open, OpenMoves)
        open.answers[at] = answer
        self._complete(open)

    # Bare legs and accounts

    def _legs_of(self, letter: Letter) -> LegColumns:
        """The legs, those that the kernel must not judge without their ids."""
        legs = without_engine_flags(letter.message.columns)
        state = self._state
        hidden = strays_of_legs(legs)
        given = legs._replace(id=_without(legs.id, hidden)) if hidden.any() else legs
        given = self._crossings.inheriting(given)
        doubtful = self._crossings.are_in_doubt(given.id)
        if doubtful is not None:
            hidden |= doubtful
        crossing = crossing_rows(given, letter.message, state.shard, state.placement)
        if crossing is not None:
            rows = np.flatnonzero(crossing)
            self._check_crossing_room(len(rows))
            open = self._open_legs(letter, 2)
            self._crossing_legs.append(chains_of(given, letter.message, rows, _Landed(open, rows)))
            self._crossing_count += len(rows)
            hidden |= crossing
        hidden |= self._early(given, crossing)
        return given._replace(id=_without(given.id, hidden)) if hidden.any() else given

    def _early(self, legs: LegColumns, crossing: Bits | None) -> Bits:
        """Which posts and voids are of holds that are not decided yet, such as one that crosses in the same
        batch. Their ids must not be burnt."""
        early = np.zeros(len(legs.flags), np.bool_)
        rows = np.flatnonzero((legs.flags & _SETTLING != 0) & (~crossing if crossing is not None else True))
        if not len(rows):
            return early
        holds = legs.pending_id[rows]
        doubtful = self._crossings.are_in_doubt(holds)
        if doubtful is not None:
            early[rows] = doubtful
        if crossing is not None:
            own = IdSet(self._state.ledger.config.hash_seed)
            own.add(legs.id[crossing])
            just_placed = own.which(holds)
            if just_placed is not None:
                early[rows] |= just_placed
        return early

    def _check_crossing_room(self, legs: int) -> None:
        """Raises Overloaded if so many more legs are too many; a batch that is alone is not."""
        on_their_way = self._crossings.home.open_legs + self._crossing_count
        if on_their_way and on_their_way + legs > OPEN_LEGS_MAX:
            raise Overloaded("too much is on its way between shards", RETRY_AFTER_S)

    def _open_legs(self, letter: Letter, left: int) -> OpenLegs:
        open = self._opened[letter.answer] = OpenLegs(letter, left)
        self._unfinished.answers[open] = None
        return open

    def _accounts_of(self, letter: Letter) -> AccountColumns:
        columns = super()._accounts_of(letter)
        strays = self._stray_accounts(columns)
        return columns._replace(id=_without(columns.id, strays)) if strays.any() else columns

    def _stray_accounts(self, columns: AccountColumns) -> Bits:
        return strays_of_accounts(columns.id, self._state.placement, self._state.shard)

    def _answer_legs(
        self, letter: Letter, status: npt.NDArray[np.uint8], timestamp: npt.NDArray[np.int64]
    ) -> None:
        status = self._unhidden(letter, status)
        open = self._opened.pop(letter.answer, None)
        holding = self._held is not None and not self._settling.isdisjoint(timestamp.tolist())
        if open is None and not holding:
            super()._answer_legs(letter, status, timestamp)
            return
        if open is None:
            open = self._open_legs(letter, 1)
            del self._opened[letter.answer]
        open.status[:], open.timestamp[:] = status, timestamp
        if holding:
            assert self._held is not None
            self._held.append(_Held(open, 0, None))
        else:
            self._complete(open)

    def _unhidden(self, letter: Letter, status: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """What is to be said of legs and accounts that were shown to the kernel without their ids."""
        without_id = status == _NO_ID
        if not without_id.any():
            return status
        columns = letter.message.columns
        without_id &= columns.id.any(axis=1)
        if isinstance(letter.message, CreateAccounts):
            strays = self._stray_accounts(columns)
        else:
            strays = strays_of_legs(columns)
        status = np.where(without_id & strays, np.uint8(Result.ID_IN_WRONG_BUCKET), status)
        return np.where(without_id & ~strays, np.uint8(Result.SHARD_UNAVAILABLE), status)

    # Moves

    async def _submit_moves(self, letter: Letter) -> None:
        commands: list[MoveCommand] = letter.message.commands
        loaded = await self._loaded(commands)
        open = OpenMoves(letter)
        self._unfinished.answers[open] = None
        for at, command in enumerate(commands):
            await self._submit_one(Parked(open, at, command), loaded)

    async def _submit_one(self, parked: Parked, loaded: LoadedRequests | None) -> None:
        open, at, command, question = parked
        moves = self._state.moves
        if self._crossings.is_unanswered(command.id):
            self._park(parked)
            return
        step = moves.prepare(command, self._now, loaded)
        if isinstance(step, Deferred):
            await self._flush()
            step = moves.prepare(command, self._now, loaded, alone=True)
        if isinstance(step, Deferred):
            self._park(parked)
        elif isinstance(step, MoveAnswer):
            if step.code in _UNKNOWN and self._state.shard != CATALOGUE and question >= 0:
                self._park_for_things(parked)
                return
            self.results[step.code or "exists"] += 1
            self._fill(open, at, step)
        else:
            assert isinstance(step, Prepared)
            self._take(open, at, step)
            if step.reads:
                await self._cross()  # while what it read is so

    def _take(self, open: OpenMoves, at: int, prepared: Prepared) -> None:
        """A command that is acceptable so far."""
        crosses = prepared.refusal is None and self._crosses(prepared)
        if crosses and self._crossings.home.open_legs + self._crossing_count > OPEN_LEGS_MAX:
            why = "too much is on its way between shards; send it again"
            prepared.refusal, prepared.draft, crosses = (Refusal.SHARD_UNAVAILABLE, why), None, False
        if not self._room_for(prepared.leg_count):
            why = f"{prepared.leg_count} legs do not fit into this turn; send it again"
            prepared.refusal, prepared.draft, crosses = (Refusal.TURN_FULL, why), None, False
        if crosses:
            self._crossing_moves.append(CrossingMove(open, at, prepared))
            self._crossing_count += prepared.leg_count
        else:
            self._drafted.append(Moved(open.answers, at, prepared, open.letter.message.principal, open))

    def _crosses(self, prepared: Prepared) -> bool:
        prepared.parties = [
            party for party in prepared.parties if not self._crossings.home.knows_party(party)
        ]
        return prepared.goes_elsewhere or bool(prepared.parties)

    def _give(self, moved: Moved, answer: MoveAnswer) -> None:
        open = moved.open
        assert isinstance(open, OpenMoves)
        if self._held is not None and answer.timestamp in self._settling:
            self._held.append(_Held(open, moved.at, answer))
        else:
            self._fill(open, moved.at, answer)

    def _park(self, parked: Parked) -> None:
        """Let a command wait for what it has to wait for."""
        if len(self._unfinished.parked) >= PARKED_MAX:
            refused = self._state.moves.unavailable(parked.command, "too much waits; send it again")
            self._fill(parked.open, parked.at, refused)
        else:
            self._unfinished.parked.append(parked)

    def _park_for_things(self, parked: Parked) -> None:
        unfinished = self._unfinished
        if not self._asked:
            self._asked = True
            unfinished.questions += 1
            self._ask_things()
        self._park(parked._replace(question=unfinished.questions))

    async def _unpark(self) -> None:
        """Try again what waits, in order, if anything has changed."""
        if not self._news or not self._unfinished.parked:
            return
        waiting, self._unfinished.parked = self._unfinished.parked, type(self._unfinished.parked)()
        for parked in waiting:
            if parked.question > 0:
                self._unfinished.parked.append(parked)
            else:
                await self._submit_one(parked, await self._loaded([parked.command]))

    # Holds that are also elsewhere

    def _happened(self, facts: Rows) -> None:
        super()._happened(facts)
        self._crossings.note_legs(facts)

    def _swept(self, facts: Rows) -> None:
        super()._swept(facts)
        self._crossings.cascade(facts, [], [], self._effects, self._now)

    def _answer_all(self, waiting: list[Posted | Judged], outcome: LegOutcome | None, stamps: Stamps) -> None:
        """Answers to legs that settle holds whose other side is elsewhere are held back until it is done
        there."""
        elsewhere = None if outcome is None else settlements_elsewhere(outcome.facts, self._state.ledger)
        if outcome is None or elsewhere is None or not elsewhere.any():
            super()._answer_all(waiting, outcome, stamps)
            return
        self._settling = set(outcome.facts["timestamp"][elsewhere].tolist())
        # A Move's answer has the stamp of the last of its legs.
        for item in waiting:
            if isinstance(item, Judged) and item.legs is not None:
                own = outcome.timestamp[item.legs]
                if not self._settling.isdisjoint(own.tolist()):
                    self._settling.add(int(own[-1]))
        self._held = []
        super()._answer_all(waiting, outcome, stamps)
        held, self._held = self._held, None
        requests = [one.answer.request for one in held if one.answer is not None]
        self._crossings.cascade(outcome.facts, requests, held, self._effects, self._now)

    # Crossing

    async def _cross(self) -> None:
        """Let everything cross that this turn has found."""
        crossing_legs, self._crossing_legs = self._crossing_legs, []
        crossing_moves, self._crossing_moves = self._crossing_moves, []
        self._crossing_count = 0
        if not crossing_legs and not crossing_moves:
            return
        with_legs = [move.prepared for move in crossing_moves if move.prepared.leg_count]
        block = self._state.moves.compile(with_legs) if with_legs else None
        chains = together(crossing_legs, crossing_moves, block)
        home, ledger = self._crossings.home, self._state.ledger
        plan = home.plan(chains, self._effects, self._now)
        unknown = ledger.unknown_ids(plan.block, self._now)
        loaded = await self._lookups.find_legs(unknown) if len(unknown) else None
        home.begin(plan, loaded, self._effects, self._now)


def _without(ids: npt.NDArray[np.uint64], which: Bits) -> npt.NDArray[np.uint64]:
    """The ids with 0 in some places."""
    return np.where(which[:, None], np.uint64(0), ids)
