"""Moves: events that shift value or rights between Parties, each with a state machine that its kind
describes.

A `MoveBook` keeps the Moves that are still open and the answers to recent requests. One request goes through
it so:

1. `unknown_requests` says what has to be looked up in PostgreSQL first, because memory can't tell whether it
is new. 2. `prepare` judges the command. It gives an answer (a repeat, a refusal), or `DEFERRED` if the kernel
call that is being put together already has this Move or request in it, or a `Prepared` with the legs that the
command would cause. 3. The kernel judges the legs: all of them, or none. 4. `settle` makes the answer of
that, and the facts that go into the log. They are applied as in a replay, so what is live and what is
recovered can't differ.

A request that was accepted, or refused for a transient reason, stores its answer; sent again, it gets that
answer. Other refusals are judged afresh.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine import ids, preview
from engine.chart import Chart, credit_normal
from engine.commands import TRANSIENT_CODES, MoveAnswer, MoveCommand, MovePreview, Refusal
from engine.confinement import not_given_by
from engine.directory import Directory
from engine.drafts import Draft, MoveBlock, compile_block
from engine.facts import MoveFact, RequestFact
from engine.intake import check_command, line_facts, metadata_bytes, reference_is_valid
from engine.kinds import EXPIRE, CompiledKind, MoveKind, compile_kinds
from engine.layout import SECOND_NS, LegFlag, ids_column
from engine.ledger import Ledger, LegOutcome
from engine.outcomes import (
    OpenMove,
    Prepared,
    answer_of,
    expiry_fact,
    fact_of,
    leg_refusal,
    opened,
    remembered_of,
)
from engine.placement import ONE_SHARD, Placement
from engine.plans import Plan, new_plan, scope_of
from engine.posting import Refused, post
from engine.requests import Digester, Remembered, RequestWindow, reference_hash
from engine.standard_kinds import STANDARD_KINDS

__all__ = ["DEFERRED", "Deferred", "LoadedRequests", "MoveBook", "Prepared", "UnknownRequests"]


DUE_MAX: Final = 4_096
"""Moves whose time is up that one turn takes on."""
PATIENCE_S_MAX: Final = 3_600
TRIES_MAX: Final = 1_024
"""Ids for attempts to take one step when its time is up."""
DEADLINE_REQUESTS: Final = 1 << 48
"""Where the numbers begin by which these ids are made; legs and expiries of holds have lower ones."""


class Deferred:
    """The command has to wait for the outcome of the kernel call that is being put together."""


DEFERRED: Final = Deferred()


class UnknownRequests(msgspec.Struct, frozen=True):
    """What memory can't tell: to be looked up in PostgreSQL before `prepare`. False if there is nothing."""

    requests: list[int]  # ids of requests: their stored answers are needed
    moves: list[int]  # ids of Moves: their last accepted facts are needed
    references: list[tuple[int, str]]  # payers and references: the Moves that have them are needed

    def __bool__(self) -> bool:
        return bool(self.requests or self.moves or self.references)


class LoadedRequests(NamedTuple):
    """What PostgreSQL knows of `UnknownRequests`; what it doesn't know is left out."""

    requests: Mapping[int, MoveFact | RequestFact]
    moves: Mapping[int, MoveFact]
    references: Mapping[tuple[int, str], int]


class MoveBook:
    """The Moves of one shard. State changes only in `replay` and `set_generation`."""

    def __init__(
        self,
        tenant: str,
        ledger: Ledger,
        directory: Directory,
        kinds: Iterable[MoveKind] = STANDARD_KINDS,
        chart: Chart | None = None,
        placement: Placement = ONE_SHARD,
        shard: int = 0,
    ) -> None:
        bucket = placement.platform_buckets[shard]
        self.chart = Chart(tenant, platform_bucket=bucket, placement=placement) if chart is None else chart
        self._placement = placement
        self._shard = shard
        self.kinds = compile_kinds(kinds, self.chart)
        self.open: dict[int, OpenMove] = {}  # Moves that have not ended, by id
        self.window = RequestWindow()  # answers to recent requests
        self._ledger = ledger
        self._directory = directory
        self._hold_moves: dict[int, int] = {}  # open hold → its Move, for all of `open`
        self._unsettled: set[int] = set()  # requests, Moves and reference hashes between prepare and settle
        self._deadlines: list[tuple[int, int]] = []  # heap of (time, Move), for all with time of their own
        self._tries: dict[int, int] = {}  # Moves whose time is up, by how often that was tried
        self._plans: dict[tuple[str, str, str, bool, bool], Plan] = {}  # bounded by the paths that kinds have
        self._digester = Digester(MoveCommand, frozenset({"id", "if_version", "bound_to", "due"}))

    def unknown_requests(self, commands: Sequence[MoveCommand], now: int) -> UnknownRequests:
        """What has to be looked up before these commands can be prepared."""
        unknown = UnknownRequests([], [], [])
        window = self.window
        if window.dropped == 0:
            return unknown
        for command in commands:
            id, move, payer, reference = command.id, command.move, command.payer, command.reference
            if not 0 < id < ids.ID_MAX:
                continue
            if window.find(id) is None and not window.provably_new(id, now):
                unknown.requests.append(id)
            if 0 < move < ids.ID_MAX and not self._knows(move) and not window.provably_new(move, now):
                unknown.moves.append(move)
            if move or reference is None or not reference_is_valid(payer, reference):
                continue
            if window.find_reference(reference_hash(payer, reference)) is None:
                unknown.references.append((payer, reference))
        return unknown

    def prepare(
        self, command: MoveCommand, now: int, loaded: LoadedRequests | None = None, alone: bool = False
    ) -> Prepared | MoveAnswer | Deferred:
        """Judge a command. `loaded` is what `unknown_requests` asked for; `alone` says that no kernel call is
        being put together. Changes nothing that lasts."""
        if not 0 < command.id < ids.ID_MAX:
            return self._refused(command, Refusal.ID_INVALID, "id: must be neither 0 nor 2^128 - 1")
        if command.id in self._unsettled or command.move in self._unsettled:
            return DEFERRED  # even a repeat: its refusal would tell of the Move as it is
        stored = self._stored(command.id, loaded)
        if stored is not None:
            return self._repeated(command, stored)
        try:
            prepared = self._judged(command, now, loaded, alone)
        except Refused as refusal:
            return self._refused(command, refusal.code, refusal.message)
        if isinstance(prepared, Prepared):
            self._unsettled |= self._marks(prepared)
        return prepared

    def compile(self, prepared: Sequence[Prepared]) -> MoveBlock:
        """Columns of many commands at once, as `engine.drafts.compile_block` describes them."""
        return compile_block([item.draft for item in prepared if item.draft is not None], self._ledger.lookup)

    def settle(
        self,
        prepared: Prepared,
        outcome: LegOutcome | None,
        legs: slice | None,
        now: int,
        latest: int | None = None,
    ) -> tuple[MoveAnswer, list[MoveFact]]:
        """The answer and facts that follow from what became of the legs, at `legs` in the outcome.

        A command without legs is stamped with `now`, or with the newest stamp before it if that is later:
        `latest`, or the ledger's if the command came after everything in the ledger.
        """
        self._unsettled -= self._marks(prepared)
        timestamp = max(now, self._ledger.last_timestamp if latest is None else latest)
        refusal = prepared.refusal
        if outcome is not None and legs is not None and prepared.leg_count:
            timestamp = int(outcome.timestamp[legs][-1])
            refusal = refusal or leg_refusal(prepared, outcome.status[legs])
        fact = fact_of(prepared, timestamp, refusal)
        if refusal is not None and refusal[0] not in TRANSIENT_CODES:
            return answer_of(prepared.command.id, remembered_of(fact)), []
        self.replay(fact)
        return answer_of(prepared.command.id, remembered_of(fact)), [fact]

    def expire(self, facts: npt.NDArray[np.void]) -> list[MoveFact]:
        """What follows for Moves from expiries of holds (LEG_FACT rows); other rows are passed over."""
        expiries = facts[(facts["flags"] & LegFlag.EXPIRY) != 0]
        made: list[MoveFact] = []
        columns = (expiries[name].tolist() for name in ("pending_hi", "pending_lo", "timestamp"))
        for high, low, timestamp in zip(*columns, strict=True):
            hold = high << 64 | low
            move = self.open.get(self._hold_moves.get(hold, 0))
            if move is not None:
                fact = expiry_fact(self.kinds.get(move.kind), move, hold, timestamp)
                self.replay(fact)
                made.append(fact)
        return made

    def due(self, now: int) -> list[MoveCommand]:
        """Commands for Moves whose own time is up. What is not carried out is asked for again, less and less
        often; a Move goes on once, however often that is."""
        commands: list[MoveCommand] = []
        while self._deadlines and self._deadlines[0][0] <= now and len(commands) < DUE_MAX:
            _, id = heappop(self._deadlines)
            move = self.open.get(id)
            if move is None or not 0 < move.expires_at <= now or move.holds:
                self._tries.pop(id, None)
                continue
            kind = self.kinds.get(move.kind)
            if kind is None or not kind.has_deadline(move.state):
                continue
            tries = self._tries[id] = self._tries.get(id, 0) + 1
            heappush(self._deadlines, (now + min(2**tries, PATIENCE_S_MAX) * SECOND_NS, id))
            request = ids.leg_id(id, DEADLINE_REQUESTS + move.seq * TRIES_MAX + tries % TRIES_MAX)
            commands.append(MoveCommand(id=request, move=id, transition=EXPIRE, due=True))
        return commands

    def unavailable(self, command: MoveCommand, why: str) -> MoveAnswer:
        """The answer to a command that can't be judged now."""
        return self._refused(command, Refusal.SHARD_UNAVAILABLE, why)

    def preview(self, command: MoveCommand, now: int, loaded: LoadedRequests | None = None) -> MovePreview:
        """The Entries that a command would write if it were sent now. Writes nothing."""
        if self._stored(command.id, loaded) is not None:
            return MovePreview(code=Refusal.ID_INVALID, message="id: this request was answered already")
        try:
            prepared = self._judged(command, now, loaded, alone=True)
        except Refused as refusal:
            return MovePreview(code=refusal.code, message=refusal.message)
        if isinstance(prepared, Deferred):
            assert self._placement.shards > 1, "a preview comes after the call that is being put together"
            return MovePreview(code=Refusal.SHARD_UNAVAILABLE, message="it is just being decided")
        if prepared.refusal is not None:
            return MovePreview(code=prepared.refusal[0], message=prepared.refusal[1])
        if not prepared.leg_count:
            return MovePreview(state=prepared.target)
        block = self.compile([prepared])
        elsewhere = self._placement.of_accounts(block.opens.id) != self._shard
        return preview.of_prepared(prepared, block, self._ledger, now, elsewhere)

    def standing(self, move: int, loaded: LoadedRequests | None = None) -> tuple[str, str, int]:
        """Kind, state and `seq` of a Move, ended ones too. Raises Refused if there is none."""
        found = self.open.get(move)
        if found is not None:
            return found.kind, found.state, found.seq
        ended = self._ended(move, loaded)
        if ended is None:
            raise self._not_open(move, loaded)
        return ended.kind, ended.state, ended.seq

    def set_generation(self, generation: int, dropped: int) -> None:
        """Turn the window of remembered requests as the ledger's window of ids has turned."""
        self.window.set_generation(generation, dropped)

    def replay(self, fact: MoveFact) -> None:
        """Apply what happened to a Move."""
        self.window.remember(remembered_of(fact))
        if not fact.accepted:
            return
        id = ids.id_from_bytes(fact.move)
        move = self.open.pop(id, None) if fact.ended else self.open.get(id)
        for hold in move.holds if move is not None else ():
            self._hold_moves.pop(ids.id_from_bytes(hold), None)
        if move is None and not fact.ended:
            self.open[id] = opened(fact)
        elif move is not None and not fact.ended:
            move.state, move.seq = fact.state, fact.seq
            move.holds, move.expires_at = fact.holds, fact.expires_at
            move.inputs = move.inputs | fact.inputs
        if not fact.ended:
            for hold in fact.holds:
                self._hold_moves[ids.id_from_bytes(hold)] = id
            if fact.expires_at and not fact.holds:
                heappush(self._deadlines, (fact.expires_at, id))
        if fact.reference is not None and fact.seq == 0:
            hash = reference_hash(ids.id_from_bytes(fact.payer), fact.reference)
            self.window.newest.references[hash] = id

    def unknown_request(self, request: int, now: int) -> UnknownRequests:
        """What has to be looked up before it is known whether a request was answered."""
        needless = self.window.find(request) is not None or self.window.provably_new(request, now)
        return UnknownRequests([] if needless else [request], [], [])

    def answered(self, request: int, loaded: LoadedRequests | None = None) -> Remembered | None:
        """What was answered to a request, None if it is new."""
        return self._stored(request, loaded)

    def remember(self, fact: RequestFact) -> None:
        """Keep the answer to a request that is about no Move."""
        self.window.remember(remembered_of(fact))

    def state(self) -> dict[str, Any]:
        """Everything, as plain data and arrays, equal for equal histories."""
        moves = [self.open[id] for id in sorted(self.open)]
        packed = msgspec.msgpack.Encoder(order="sorted").encode(moves)
        return {"open": np.frombuffer(packed, np.uint8).copy(), "window": self.window.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the place of an earlier book."""
        moves = msgspec.msgpack.decode(state["open"].tobytes(), type=list[OpenMove])
        self.open = {ids.id_from_bytes(move.id): move for move in moves}
        self._hold_moves = {
            ids.id_from_bytes(hold): id for id, move in self.open.items() for hold in move.holds
        }
        self._unsettled = set()
        self._tries = {}
        self._deadlines = [
            (move.expires_at, id) for id, move in self.open.items() if move.expires_at and not move.holds
        ]
        heapify(self._deadlines)
        self.window.restore(state["window"])

    def _judged(
        self, command: MoveCommand, now: int, loaded: LoadedRequests | None, alone: bool
    ) -> Prepared | Deferred:
        judge = self._step if command.move else self._creation
        return judge(command, now, loaded, alone)

    def _creation(
        self, command: MoveCommand, now: int, loaded: LoadedRequests | None, alone: bool
    ) -> Prepared | Deferred:
        kind = self._kind(command.kind)
        first = kind.kind.states[0]
        plan = self._plan(kind, first, command.transition or kind.kind.usual, creating=True, due=False)
        check_command(command, plan.wanted, kind)
        if command.bound_to not in {0, command.payer}:
            raise Refused(Refusal.MONEY_OF_ANOTHER, "payer: the caller may move the money of one Party only")
        if command.if_version:
            raise Refused(Refusal.FIELD_NOT_ACCEPTED, "if_version: a Move that is created has no version yet")
        self._check_home(command)
        if command.id in self.open:
            raise Refused(Refusal.EXISTS_WITH_DIFFERENT_CONTENT, "id: a Move has this id already")
        self._check_parties(command, kind)
        asset = self._asset(command.asset)
        defaults = kind.kind.defaults
        rule = kind.kind.lines
        lines = None
        if command.lines is not None and rule is not None:
            lines = line_facts(command.lines, rule, command.reason, self._directory)
        move = OpenMove(
            id=ids.id_bytes(command.id),
            kind=kind.kind.name,
            state=kind.kind.states[0],
            seq=0,
            business_time=command.business_time or now,
            payer=ids.id_bytes(command.payer),
            payee=ids.id_bytes(command.payee),
            asset=asset,
            amount=command.amount,
            tender=command.tender or defaults.get("tender", ""),
            reason=command.reason or defaults.get("reason", ""),
            reverses=ids.id_bytes(command.reverses),
            reference=command.reference,
            lines=lines,
            inputs=command.inputs,
            holds=[],
            expires_at=0,
        )
        prepared = Prepared(command, self._digester.digest(command), kind, move, self._ledger.lookup)
        prepared.parties = self._parties_elsewhere(command, kind)
        if command.reference is not None:
            if reference_hash(command.payer, command.reference) in self._unsettled:
                return DEFERRED
            self._check_reference(command.payer, command.reference, loaded)
        prepared.business_time = move.business_time
        return self._drafted(prepared, plan, command.id, alone)

    def _step(
        self, command: MoveCommand, now: int, loaded: LoadedRequests | None, alone: bool
    ) -> Prepared | Deferred:
        self._check_home(command)
        move = self.open.get(command.move)
        if move is None:
            raise self._not_open(command.move, loaded)
        if command.bound_to not in {0, ids.id_from_bytes(move.payer)}:
            raise Refused(Refusal.MOVE_NOT_FOUND, f"move: there is no Move {ids.format_id(command.move)}")
        kind = self._kind(move.kind)
        if command.kind not in {"", move.kind}:
            raise Refused(
                Refusal.FIELD_INVALID, f"kind: the Move is of kind {move.kind}, not {command.kind!r}"
            )
        if command.reference is not None:
            raise Refused(Refusal.FIELD_NOT_ACCEPTED, "reference: is given when a Move is created")
        prepared = Prepared(command, self._digester.digest(command), kind, move, self._ledger.lookup)
        prepared.seq = move.seq + 1
        prepared.business_time = command.business_time or now
        if command.if_version not in {0, move.seq + 1}:
            message = f"if_version: the Move has version {move.seq + 1}, not {command.if_version}"
            prepared.refusal = Refusal.MOVE_VERSION_DIFFERS.value, message
            return prepared
        plan = self._plan(kind, move.state, command.transition, creating=False, due=command.due)
        check_command(command, plan.wanted, kind)
        if command.lines is not None and kind.kind.lines is not None:
            reason = command.reason or move.reason
            prepared.lines = line_facts(command.lines, kind.kind.lines, reason, self._directory)
        return self._drafted(prepared, plan, command.move, alone)

    def _drafted(self, prepared: Prepared, plan: Plan, id: int, alone: bool) -> Prepared | Deferred:
        """Put together the legs of a plan. One that reads balances has to wait until they are known."""
        if plan.reads and not alone:
            return DEFERRED
        command, move = prepared.command, prepared.move
        if "orders_ended" in plan.checks and move.lines is not None:
            for order in {ids.id_from_bytes(order) for order in move.lines.orders}:
                if order in self._unsettled:
                    return DEFERRED
                self._check_order_ended(order)
        if "reverses_once" in plan.checks:
            self._check_reversal(id, ids.id_from_bytes(move.reverses))
        prepared.transition, prepared.target, prepared.ended = plan.transition, plan.target, plan.ended
        prepared.metadata = metadata_bytes(command)
        scope = scope_of(prepared, plan, id, self.chart, self._directory)
        prepared.reads = plan.reads
        scope.balance = self._balance
        draft = Draft(command.id, id, prepared.seq, prepared.business_time, prepared.kind.kind.code)
        draft.timeout = command.timeout
        holds = [ids.id_from_bytes(hold) for hold in move.holds]
        for step in plan.steps:
            holds = post(step, scope, draft, holds)
        prepared.kept = scope.kept
        if command.bound_to and (problem := not_given_by(command.bound_to, draft, self.chart)):
            raise Refused(Refusal.MONEY_OF_ANOTHER, problem)
        prepared.draft, prepared.holds = draft, holds
        if self._placement.shards > 1:
            prepared.goes_elsewhere = self._goes_elsewhere(draft)
        return prepared

    def _balance(self, key: str, asset: int) -> int:
        """What is in an account on its normal side, less what is held of it; 0 if it isn't there."""
        spec = self.chart.account(key)
        id = ids.account_id(spec.bucket, self.chart.tenant, key, asset)
        row = int(self._ledger.lookup(ids_column([id]))[0])
        if row < 0:
            return 0
        account = self._ledger.accounts[row]
        credits, debits = int(account["credits_posted"]), int(account["debits_posted"])
        if credit_normal(spec.code):
            return credits - debits - int(account["debits_pending"])
        return debits - credits - int(account["credits_pending"])

    def _goes_elsewhere(self, draft: Draft) -> bool:
        """Whether some of the accounts are on other shards."""
        return any(self._placement.shard(run.bucket) != self._shard for run in draft.key_runs)

    def _plan(self, kind: CompiledKind, state: str, transition: str, creating: bool, due: bool) -> Plan:
        key = (kind.kind.name, state, transition, creating, due)
        if (ready := self._plans.get(key)) is not None:
            return ready
        plan = self._plans[key] = new_plan(kind, state, transition, creating, due)
        return plan

    def _kind(self, name: str) -> CompiledKind:
        kind = self.kinds.get(name)
        if kind is None:
            known = ", ".join(sorted(self.kinds))
            raise Refused(Refusal.KIND_UNKNOWN, f"kind: there is no {name!r}; there are {known}")
        return kind

    def _check_home(self, command: MoveCommand) -> None:
        """With several shards an id leads to the Move's home, so that it can only ever reach one of them."""
        if self._placement.shards == 1:
            return
        if command.move:
            home, whose = ids.bucket_of_id(command.move), "its Move"
        else:
            home, whose = ids.bucket_of_party(self.chart.tenant, command.payer), "its payer"
        bucket = ids.bucket_of_id(command.id)
        if bucket != home:
            raise Refused(
                Refusal.ID_IN_WRONG_BUCKET, f"id: is of bucket {bucket}; expected that of {whose}, {home}"
            )

    def _parties_elsewhere(self, command: MoveCommand, kind: CompiledKind) -> list[int]:
        """The Parties of a creation that are on other shards, which only those know. The payer is here."""
        if self._placement.shards == 1:
            return []
        return [
            party
            for _, party in _parties_of(command, kind)
            if party and self._placement.shard(ids.bucket_of_party(self.chart.tenant, party)) != self._shard
        ]

    def _check_parties(self, command: MoveCommand, kind: CompiledKind) -> None:
        elsewhere = self._parties_elsewhere(command, kind)
        for field, party in _parties_of(command, kind):
            if party and party not in elsewhere and self._directory.party_row(party) < 0:
                raise Refused(Refusal.PARTY_NOT_FOUND, f"{field}: there is no Party {ids.format_id(party)}")

    def _asset(self, code: str) -> int:
        asset = self._directory.asset(code) if code else 0
        if code and not asset:
            raise Refused(Refusal.ASSET_NOT_FOUND, f"asset: no Thing has the code {code!r}")
        return asset

    def _check_reference(self, payer: int, reference: str, loaded: LoadedRequests | None) -> None:
        other = self.window.find_reference(reference_hash(payer, reference))
        if other is None and loaded is not None:
            other = loaded.references.get((payer, reference))
        if other is not None:
            raise Refused(
                Refusal.REFERENCE_ALREADY_USED,
                f"reference: {reference!r} is that of Move {ids.format_id(other)} of the same payer",
            )

    def _check_order_ended(self, order: int) -> None:
        if (move := self.open.get(order)) is not None:
            raise Refused(
                Refusal.ORDER_NOT_ENDED,
                f"lines: Move {ids.format_id(order)} is still {move.state}; take it back once it has ended",
            )

    def _check_reversal(self, id: int, reverses: int) -> None:
        if id != ids.reversal_id(reverses):
            raise Refused(
                Refusal.ID_INVALID,
                f"id: what reverses this Move has the id {ids.format_id(ids.reversal_id(reverses))}, so that "
                "there is one at most",
            )
        if (move := self.open.get(reverses)) is not None:
            raise Refused(
                Refusal.MOVE_NOT_ENDED,
                f"reverses: Move {ids.format_id(reverses)} is still {move.state}; only what has ended is "
                "reversed as a whole",
            )

    def _knows(self, move: int) -> bool:
        """Whether memory can say what state a Move is in, or that there is none."""
        window = self.window
        return move in self.open or window.find_ended(move) is not None or window.find(move) is not None

    def _not_open(self, move: int, loaded: LoadedRequests | None) -> Refused:
        text = ids.format_id(move) if 0 < move < ids.ID_MAX else str(move)
        ended = self._ended(move, loaded)
        if ended is not None:
            return Refused(Refusal.MOVE_ENDED, f"move: {text} is {ended.state}; nothing leads on from there")
        return Refused(Refusal.MOVE_NOT_FOUND, f"move: there is no Move {text}")

    def _ended(self, move: int, loaded: LoadedRequests | None) -> Remembered | None:
        """The last accepted answer about a Move that has ended."""
        ended = self.window.find_ended(move)
        if ended is None and loaded is not None and (fact := loaded.moves.get(move)) is not None:
            return remembered_of(fact)
        return ended

    def _stored(self, request: int, loaded: LoadedRequests | None) -> Remembered | None:
        found = self.window.find(request)
        if found is None and loaded is not None and (fact := loaded.requests.get(request)) is not None:
            return remembered_of(fact)
        return found

    def _repeated(self, command: MoveCommand, stored: Remembered) -> MoveAnswer:
        digest = self._digester.digest(command)
        if digest != stored.digest:
            field = self._digester.first_difference(stored.digest, digest)
            message = f"{field}: this id was used before, by a request that differs from this one in {field}"
            return self._refused(command, Refusal.EXISTS_WITH_DIFFERENT_CONTENT, message)
        return answer_of(command.id, stored, replayed=True)

    def _refused(self, command: MoveCommand, code: str, message: str) -> MoveAnswer:
        """A refusal that leaves no trace."""
        id = command.move or command.id
        move = self.open.get(id) if code != Refusal.MOVE_NOT_FOUND else None  # or not the caller's to know of
        return MoveAnswer(
            request=command.id,
            move=id,
            kind=move.kind if move is not None else command.kind,
            state=move.state if move is not None else "",
            seq=move.seq if move is not None else 0,
            version=move.seq + 1 if move is not None else 0,
            timestamp=0,
            code=str(code),
            message=message,
        )

    def _marks(self, prepared: Prepared) -> set[int]:
        """What no other command of the same kernel call may touch."""
        command = prepared.command
        marks = {command.id, command.move or command.id}
        if command.reference is not None:
            marks.add(reference_hash(command.payer, command.reference))
        return marks


def _parties_of(command: MoveCommand, kind: CompiledKind) -> Sequence[tuple[str, int]]:
    """The Parties that a creation names, by field."""
    if not kind.kind.roles:
        return ("payer", command.payer), ("payee", command.payee)
    roles = [(name, command.inputs.get(name)) for name, role in kind.kind.roles.items() if role == "party"]
    named = [(f"inputs: {name}", ids.parse_id(str(id))) for name, id in roles if id is not None]
    return [("payer", command.payer), ("payee", command.payee), *named]
