"""What the auditor knows of Moves: who asked for what, what became of it in the log, and what must be so.

Books are kept by the facts in records: every Move with all states that it had, every request with its answer.
A fact must be what one of those commands that were sent leads to from the state that the Move was in; its
legs must be in the same record, or, on other shards, come after it; and an answer must be the one that the
log has, however often it is asked for.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from engine.commands import TRANSIENT_CODES, MoveAnswer, NextSteps, Refusal
from engine.facts import MoveFact
from engine.ids import bucket_of_id, id_bytes, id_from_bytes, leg_id
from engine.layout import CEILING_UNSET, FLOOR_UNSET, HoldStatus
from engine.placement import Placement
from engine.shard_state import ShardState
from simulations.simulator.books import BALANCING_DEBIT, PENDING, RESOLVING, Books, Counters, Wrong
from simulations.simulator.orders import Order, Spec
from simulations.simulator.trades import (
    BALANCING_CREDIT,
    ENDS,
    STARTS,
    STATES,
    Ledgers,
    Trade,
    target,
)

_NEVER: Final = frozenset(
    {Refusal.MOVE_NOT_FOUND, Refusal.ASSET_NOT_FOUND, Refusal.THING_NOT_FOUND, Refusal.ORDER_NOT_ENDED}
)
"""Refusals that say that something which its client was told of is not there."""
_OF_HOLDS: Final = frozenset({"exceeds_pending_transfer_amount", "pending_transfer_expired"})


class MoveBook:
    """A Move: its creation, and after each accepted request its stamp and state."""

    def __init__(self, creation: Trade) -> None:
        self.creation = creation
        self.history: list[tuple[int, str]] = []
        self.holds: list[int] = []

    @property
    def state(self) -> str:
        """Where it is."""
        return self.history[-1][1] if self.history else STARTS[self.creation.creation.kind]

    @property
    def version(self) -> int:
        """How many requests it has accepted."""
        return len(self.history)

    @property
    def ended(self) -> bool:
        """Whether nothing leads on."""
        return self.state in ENDS


class _Done(NamedTuple):
    """What became of a request: the fact, and of an accepted one the legs that it caused."""

    fact: MoveFact
    trade: Trade | None  # None: of the engine's own accord
    legs: list[Spec]


class MoveAuditor:
    """The Moves of one run. `everywhere` says whether a leg is on disk on all shards that it is on."""

    def __init__(
        self,
        placement: Placement,
        ledgers: Ledgers,
        books: list[Books],
        crosses: Callable[[Spec, int, int], None],
        everywhere: Callable[[Spec], bool],
        told: Callable[[Spec], None],
    ) -> None:
        self.moves: dict[int, MoveBook] = {}
        self._placement = placement
        self._ledgers = ledgers
        self._books = books
        self._crosses = crosses
        self._everywhere = everywhere
        self._told = told
        self._sent: dict[int, list[Trade]] = {}
        self._done: dict[int, _Done] = {}
        self._of_leg: dict[int, int] = {}  # leg → request
        self._references: dict[tuple[bytes, str], int] = {}
        self._fresh: list[_Done] = []  # of the record that is taken

    # What is sent

    def sent(self, order: Order) -> None:
        """Somebody sends commands for the first time."""
        for trade in order.trades:
            self._sent.setdefault(trade.command.id, []).append(trade)
            for state in self._states_before(trade):
                for spec in self._ledgers.legs(trade, state, order.shard):
                    self._of_leg[spec.id] = trade.command.id
                    self._crosses(spec, trade.command.id, order.shard)

    @staticmethod
    def _states_before(trade: Trade) -> set[str]:
        """The states in which a command may find its Move."""
        kind = trade.creation.kind
        if trade.command is trade.creation:
            return {STARTS[kind]}
        return {source for of, source, _ in STATES if of == kind} - {STARTS[kind]}

    def version_of(self, move: int) -> int:
        """How far a Move is, as far as it is on disk."""
        return self.moves[move].version if move in self.moves else 0

    # What is durable

    def take(self, shard: int, facts: Iterable[MoveFact]) -> None:
        """What a record says of Moves, before its legs are looked at."""
        self._fresh.clear()
        for fact in facts:
            done = self._expired(fact) if self._is_expiry(fact) else self._requested(shard, fact)
            request = id_from_bytes(fact.request)
            if request in self._done:
                raise Wrong("once", f"request {request:032x} is answered again")
            self._done[request] = done
            self._fresh.append(done)

    def is_decided(self, request: int) -> bool:
        """Whether a request was accepted."""
        done = self._done.get(request)
        return done is not None and done.fact.accepted

    def leg_happened(self, leg: int) -> None:
        """A Move's leg is in a record, whose facts were taken."""
        request = self._of_leg.get(leg)
        if request is not None and not self.is_decided(request):
            raise Wrong(
                "decided before applied", f"leg {leg:032x} happens, and its Move has not taken a step"
            )

    def end(self, shard: int, lsn: int) -> None:
        """The record was taken: the legs of its Moves are in it."""
        books = self._books[shard]
        for done in self._fresh:
            fact = done.fact
            if done.trade is None:
                hold = books.holds.get(leg_id(id_from_bytes(fact.move), 0))
                if hold is None or hold.status != HoldStatus.EXPIRED:
                    raise Wrong("Moves' legs", f"Move {fact.move.hex()} has expired, and its hold has not")
            for spec in done.legs:
                leg = books.legs.get(spec.id)
                if leg is None and self._is_at_home(spec, shard):
                    raise Wrong("Moves' legs", f"request {fact.request.hex()} happens without {spec.id:032x}")
                if leg is not None and leg.lsn != lsn:
                    raise Wrong("Moves' legs", f"leg {spec.id:032x} happened before its request")

    def _is_at_home(self, spec: Spec, shard: int) -> bool:
        if spec.flags & RESOLVING:
            return True
        of = self._placement.shard_of_account
        return shard in (of(spec.debit), of(spec.credit))

    def _is_expiry(self, fact: MoveFact) -> bool:
        return fact.transition == "expire" and id_from_bytes(fact.request) not in self._sent

    def _expired(self, fact: MoveFact) -> _Done:
        """A Move's hold has run out."""
        move = self.moves.get(id_from_bytes(fact.move))
        if move is None or move.state != "pending":
            raise Wrong("Moves' states", f"Move {fact.move.hex()} expires, and is not pending")
        self._step(move, fact, "expired", [])
        return _Done(fact, None, [])

    def _requested(self, shard: int, fact: MoveFact) -> _Done:
        request, id = id_from_bytes(fact.request), id_from_bytes(fact.move)
        move = self.moves.get(id)
        fitting = [trade for trade in self._sent.get(request, ()) if self._fits(trade, fact)]
        if not fitting or self._placement.shard(bucket_of_id(request)) != shard:
            raise Wrong("as sent", f"nobody has sent request {request:032x} as it is in the log of {shard}")
        trade = fitting[0]
        state = move.state if move is not None else STARTS[trade.creation.kind]
        if not fact.accepted:
            self._check_refused(shard, fact, trade, state, move)
            return _Done(fact, trade, [])
        creating = trade.command is trade.creation
        if creating != (move is None):
            raise Wrong("once", f"Move {id:032x} is created again, or was never created")
        reached = target(trade, state)
        if reached is None:
            raise Wrong("Moves' states", f"request {request:032x} does not lead on from {state}")
        wanted = trade.command.if_version
        if move is None:
            move = self.moves[id] = MoveBook(trade)
            self._check_reference(fact, id)
        elif wanted not in (0, move.version):
            raise Wrong(
                "Moves' states", f"request {request:032x} wanted version {wanted}, not {move.version}"
            )
        legs = self._ledgers.legs(trade, state, shard)
        if fact.leg_count != len(legs):
            raise Wrong("Moves' legs", f"request {request:032x} has {fact.leg_count} legs, not {len(legs)}")
        self._step(move, fact, reached, [spec.id for spec in legs if spec.flags & PENDING])
        return _Done(fact, trade, legs)

    def _fits(self, trade: Trade, fact: MoveFact) -> bool:
        """Whether a fact may have come from a command."""
        command = trade.command
        if (fact.kind, fact.move) != (trade.creation.kind, id_bytes(trade.move)):
            return False
        if not fact.accepted:
            return True
        metadata = msgspec.json.decode(fact.metadata) if fact.metadata else None
        creating = command is trade.creation
        return (fact.amount, metadata) == (command.amount, command.metadata) and (
            not creating or fact.reference == command.reference
        )

    def _step(self, move: MoveBook, fact: MoveFact, state: str, holds: list[int]) -> None:
        id = fact.move.hex()
        if (fact.seq, fact.state, fact.ended) != (move.version, state, state in ENDS):
            raise Wrong(
                "Moves' states",
                f"Move {id} goes from version {move.version} to {fact.seq + 1}, {fact.state}, not {state}",
            )
        if move.history and fact.timestamp < move.history[-1][0]:
            raise Wrong("serial history", f"Move {id} goes on at {fact.timestamp}, before its last step")
        if [id_from_bytes(hold) for hold in fact.holds] != holds:
            raise Wrong("Moves' legs", f"Move {id} has holds {fact.holds}")
        move.history.append((fact.timestamp, state))
        move.holds = holds

    def _check_reference(self, fact: MoveFact, id: int) -> None:
        if fact.reference is None:
            return
        other = self._references.setdefault((fact.payer, fact.reference), id)
        if other != id:
            raise Wrong("once", f"Moves {other:032x} and {id:032x} have one reference")

    def _check_refused(
        self, shard: int, fact: MoveFact, trade: Trade, state: str, move: MoveBook | None
    ) -> None:
        """A refusal that is kept."""
        version = move.version if move is not None else 0
        if fact.code not in TRANSIENT_CODES:
            raise Wrong("expected answers", f"request {fact.request.hex()} was refused for ever: {fact.code}")
        if fact.code == Refusal.MOVE_VERSION_DIFFERS:
            if trade.command.if_version in (0, version):
                raise Wrong("predicted answers", f"request {fact.request.hex()}: {fact.message}")
        elif self._placement.shards == 1:
            expected = self._judge(
                self._books[shard], self._ledgers.legs(trade, state, shard), fact.timestamp
            )
            if expected != fact.code:
                raise Wrong(
                    "predicted answers",
                    f"request {fact.request.hex()} was refused as {fact.code}, expected was {expected}",
                )

    def _judge(self, books: Books, legs: list[Spec], stamp: int) -> str:
        """What would be said of a Move's legs just before a stamp: the first reason, "" if there is none."""
        overlay: dict[int, Counters] = {}

        def at(account: int) -> Counters:
            if account not in overlay:
                book = books.accounts.get(account)
                found = book.before(stamp) if book is not None else None
                overlay[account] = self._as_opened(account) if found is None else found
            return overlay[account]

        for spec in legs:
            if spec.flags & RESOLVING:
                return ""  # refusals of these are not kept
            debit, credit = at(spec.debit), at(spec.credit)
            amount = spec.amount
            if spec.flags & BALANCING_DEBIT:
                amount = min(amount, max(0, debit.above_floor - max(debit.floor, 0)))
            if spec.flags & BALANCING_CREDIT:
                amount = min(amount, max(0, min(credit.ceiling, 0) - credit.below_ceiling))
            if amount and debit.floor != FLOOR_UNSET and debit.above_floor - amount < debit.floor:
                return "below_floor"
            if amount and credit.ceiling != CEILING_UNSET and credit.below_ceiling + amount > credit.ceiling:
                return "above_ceiling"
            if spec.flags & PENDING:
                overlay[spec.debit] = debit._replace(debits_pending=debit.debits_pending + amount)
                credit = overlay[spec.credit]
                overlay[spec.credit] = credit._replace(credits_pending=credit.credits_pending + amount)
            else:
                overlay[spec.debit] = debit._replace(debits_posted=debit.debits_posted + amount)
                credit = overlay[spec.credit]
                overlay[spec.credit] = credit._replace(credits_posted=credit.credits_posted + amount)
        return ""

    def _as_opened(self, account: int) -> Counters:
        floor, ceiling = self._ledgers.guards[account]
        return Counters(floor=floor, ceiling=ceiling)

    # What is answered

    def answered(self, order: Order, answers: Sequence[MoveAnswer]) -> None:
        """A shard answers commands."""
        for trade, answer in zip(order.trades, answers, strict=True):
            self._answered(trade, answer)

    def _answered(self, trade: Trade, answer: MoveAnswer) -> None:
        request = trade.command.id
        done = self._done.get(request)
        if answer.request != request:
            raise Wrong("expected answers", f"request {request:032x} is answered as {answer.request:032x}")
        kept = answer.accepted or answer.code in TRANSIENT_CODES
        if done is None and kept:
            raise Wrong("durable before told", f"request {request:032x} is told of, and is not on disk")
        if not kept:
            self._check_passing(trade, answer, done)
            return
        assert done is not None
        fact = done.fact
        given = (answer.move, answer.kind, answer.state, answer.seq, answer.timestamp, answer.code)
        stored = (id_from_bytes(fact.move), fact.kind, fact.state, fact.seq, fact.timestamp, fact.code)
        if given != stored or (answer.leg_count, answer.ended) != (fact.leg_count, fact.ended):
            raise Wrong("answered the same", f"request {request:032x}: {given}, in the log is {stored}")
        if not self._fits(trade, fact):
            raise Wrong("answered the same", f"request {request:032x} was about something else")
        for spec in done.legs:
            if not self._everywhere(spec):
                raise Wrong("applied before told", f"request {request:032x} is told of before {spec.id:032x}")
            self._told(spec)

    def _check_passing(self, trade: Trade, answer: MoveAnswer, done: _Done | None) -> None:
        """A refusal that is not kept: it was true at a time after the client could know better."""
        request, code = trade.command.id, answer.code
        move = self.moves.get(trade.move)
        states = {state for _, state in move.history} if move is not None else set()
        match code:
            case Refusal.EXISTS_WITH_DIFFERENT_CONTENT:
                fine = done is not None and len(self._sent[request]) > 1
            case Refusal.MOVE_ENDED:
                fine = move is not None and move.ended
            case Refusal.MOVE_STATE_DIFFERS:
                fine = any(target(trade, state) is None for state in states)
            case Refusal.REFERENCE_ALREADY_USED:
                key = (id_bytes(trade.command.payer), trade.command.reference or "")
                fine = self._references.get(key, trade.move) != trade.move
            case Refusal.SHARD_UNAVAILABLE:
                fine = self._placement.shards > 1
            case _:
                fine = code in _OF_HOLDS and "pending" in states and code not in _NEVER
        if not fine:
            raise Wrong("expected answers", f"request {request:032x}: {code}, {answer.message}")

    def read(self, move: int, known: int, answer: NextSteps) -> None:
        """A shard says where a Move stands."""
        book = self.moves.get(move)
        if book is None or answer.code or answer.version > book.version:
            raise Wrong("durable before told", f"Move {move:032x} is read as {answer.version} {answer.code}")
        if answer.version < known:
            raise Wrong("nothing stale", f"Move {move:032x} is read as {answer.version}, {known} was told of")
        if book.history[answer.version - 1][1] != answer.state:
            raise Wrong("serial history", f"Move {move:032x} was never {answer.state} at {answer.version}")

    # At the end

    def finish(self, states: list[ShardState]) -> None:
        """Faults are over: what is live is what the log says, and nothing is left over in what has ended."""
        for shard, live in enumerate(states):
            open_ = {
                id: (book.state, book.version - 1, [id_bytes(hold) for hold in book.holds])
                for id, book in self.moves.items()
                if not book.ended and self._placement.shard(bucket_of_id(id)) == shard
            }
            found = {id: (move.state, move.seq, move.holds) for id, move in live.moves.open.items()}
            if found != open_:
                raise Wrong("log and memory agree", f"shard {shard} has other open Moves than its log")
        for done in self._done.values():
            for spec in done.legs:
                if not self._everywhere(spec):
                    raise Wrong("all or none", f"leg {spec.id:032x} has never happened everywhere")
        for id, book in self.moves.items():
            if book.ended:
                self._finish_move(id)
            holds = self._books[self._placement.shard(bucket_of_id(id))].holds
            if any(holds[hold].status != HoldStatus.OPEN for hold in book.holds if not book.ended):
                raise Wrong("holds end", f"Move {id:032x} is {book.state}, and its hold is not open")

    def _finish_move(self, id: int) -> None:
        """What a Move had for the time being is given on."""
        for account in self._ledgers.passing_accounts(id):
            books = self._books[self._placement.shard_of_account(account)]
            found = books.accounts.get(account)
            if found is not None and found.now.balance:
                raise Wrong("Moves' legs", f"Move {id:032x} has ended, and {found.now.balance} is left")
