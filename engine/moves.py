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
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine import ids, preview
from engine.chart import Chart
from engine.commands import TRANSIENT_CODES, MoveAnswer, MoveCommand, MovePreview, Refusal
from engine.directory import Directory
from engine.drafts import Draft, MoveBlock, compile_block
from engine.facts import NO_ID, LineFacts, MoveFact
from engine.intake import (
    Wanted,
    check_command,
    entry_rows,
    leg_rows,
    line_facts,
    metadata_bytes,
    paired_rows,
)
from engine.kinds import PATH_SEPARATOR, CompiledKind, CompiledTransition, Each, MoveKind, compile_kinds
from engine.layout import SECOND_NS, LegColumns, LegFlag, OpenColumns
from engine.ledger import Ledger, LegOutcome
from engine.posting import Refused, Scope, line_rows, post
from engine.requests import Digester, Remembered, RequestWindow, reference_hash
from engine.results import Result
from engine.standard_kinds import STANDARD_KINDS

PATH_LENGTH_MAX: Final = 8
"""Transitions that one command may take."""
_EXPIRE: Final = "expire"
_EXPIRY_REQUESTS: Final = 1 << 40
"""Where the numbers begin by which ids are made for expiries, which nobody requested; legs have lower ones."""
_SLUGS: Final = {int(result): result.slug for result in Result}
_UNCHAINED: Final = (Result.CREATED, Result.LINKED_EVENT_FAILED)
_REASONS: Final = {
    Result.BELOW_FLOOR.slug: "the debited account has too little",
    Result.ABOVE_CEILING.slug: "the credited account has no room for it",
    Result.EXCEEDS_PENDING_TRANSFER_AMOUNT.slug: "that is more than is held",
}


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

    requests: Mapping[int, MoveFact]
    moves: Mapping[int, MoveFact]
    references: Mapping[tuple[int, str], int]


class OpenMove(msgspec.Struct, array_like=True, gc=False):
    """A Move that has not ended."""

    id: bytes
    kind: str
    state: str
    seq: int
    business_time: int
    payer: bytes
    payee: bytes
    asset: int
    amount: int
    tender: str
    reason: str
    reverses: bytes
    reference: str | None
    lines: LineFacts | None
    inputs: dict[str, int | str]
    holds: list[bytes]  # open holds, by leg id
    expires_at: int  # when the first of them runs out, 0 = never


class Plan(NamedTuple):
    """The transitions that a command takes from a state, and what it needs for them."""

    steps: tuple[CompiledTransition, ...]
    transition: str
    target: str
    ended: bool
    wanted: Wanted
    rows: frozenset[Each]  # what its postings repeat for
    checks: frozenset[str]


class Prepared:
    """A command that was judged acceptable so far, with the legs it causes."""

    def __init__(self, command: MoveCommand, digest: bytes, kind: CompiledKind, move: OpenMove) -> None:
        self.command = command
        self.digest = digest
        self.kind = kind
        self.move = move  # as it was before; of a creation, as it would start
        self.plan: Plan | None = None  # None: refused already, see refusal
        self.refusal: tuple[str, str] | None = None  # code and message, if it only remains to be stored
        self.seq = 0
        self.draft: Draft | None = None
        self.holds: list[int] = []  # open after it
        self.metadata = b""
        self.business_time = 0
        self._book: MoveBook | None = None
        self._block: MoveBlock | None = None

    @property
    def leg_count(self) -> int:
        """How many legs it causes."""
        return len(self.draft) if self.draft is not None else 0

    @property
    def block(self) -> MoveBlock:
        """Its legs as columns. To make the columns of many at once, see `MoveBook.compile`."""
        if self._block is None:
            assert self._book is not None
            self._block = self._book.compile([self])
        return self._block

    @property
    def legs(self) -> LegColumns | None:
        """Its legs, None if there are none."""
        return self.block.legs if self.leg_count else None

    @property
    def opens(self) -> OpenColumns:
        """The accounts to open for them."""
        return self.block.opens

    @property
    def open_keys(self) -> list[str]:
        """Their keys."""
        return self.block.keys


class MoveBook:
    """The Moves of one shard. State changes only in `replay` and `set_generation`."""

    def __init__(
        self,
        tenant: str,
        ledger: Ledger,
        directory: Directory,
        kinds: Iterable[MoveKind] = STANDARD_KINDS,
        chart: Chart | None = None,
    ) -> None:
        self.chart = Chart(tenant) if chart is None else chart
        self.kinds = compile_kinds(kinds, self.chart)
        self.open: dict[int, OpenMove] = {}  # Moves that have not ended, by id
        self.window = RequestWindow()  # answers to recent requests
        self._ledger = ledger
        self._directory = directory
        self._hold_moves: dict[int, int] = {}  # open hold → its Move, for all of `open`
        self._unsettled: set[int] = set()  # requests, Moves and reference hashes between prepare and settle
        self._plans: dict[tuple[str, str, str, bool], Plan] = {}  # bounded by the paths that kinds have
        self._digester = Digester(MoveCommand, frozenset({"id", "if_version"}))

    # Judging

    def unknown_requests(self, commands: Sequence[MoveCommand], now: int) -> UnknownRequests:
        """What has to be looked up before these commands can be prepared."""
        unknown = UnknownRequests([], [], [])
        window = self.window
        if window.dropped == 0:
            return unknown
        for command in commands:
            if window.find(command.id) is None and not window.provably_new(command.id, now):
                unknown.requests.append(command.id)
            move = command.move
            if move and not self._knows(move) and not window.provably_new(move, now):
                unknown.moves.append(move)
            if command.reference is not None and not move:
                hash = reference_hash(command.payer, command.reference)
                if window.find_reference(hash) is None:
                    unknown.references.append((command.payer, command.reference))
        return unknown

    def prepare(
        self, command: MoveCommand, now: int, loaded: LoadedRequests | None = None
    ) -> Prepared | MoveAnswer | Deferred:
        """Judge a command. `loaded` is what `unknown_requests` asked for. Changes nothing that lasts."""
        if not 0 < command.id < ids.ID_MAX:
            return self._refused(command, Refusal.ID_INVALID, "id: must be neither 0 nor 2^128 - 1")
        stored = self._stored(command.id, loaded)
        if stored is not None:
            return self._repeated(command, stored)
        if command.id in self._unsettled or command.move in self._unsettled:
            return DEFERRED
        try:
            prepared = self._judged(command, now, loaded)
        except Refused as refusal:
            return self._refused(command, refusal.code, refusal.message)
        if isinstance(prepared, Prepared):
            self._unsettled |= self._marks(prepared)
        return prepared

    def compile(self, prepared: Sequence[Prepared]) -> MoveBlock:
        """Columns of many commands at once, as `engine.drafts.compile_block` describes them."""
        return compile_block([item.draft for item in prepared if item.draft is not None], self._ledger.lookup)

    def settle(
        self, prepared: Prepared, outcome: LegOutcome | None, legs: slice | None, now: int
    ) -> tuple[MoveAnswer, list[MoveFact]]:
        """The answer and facts that follow from what became of the legs, which are at `legs` in the outcome."""
        self._unsettled -= self._marks(prepared)
        timestamp = max(now, self._ledger.last_timestamp)
        refusal = prepared.refusal
        if outcome is not None and legs is not None and prepared.leg_count:
            timestamp = int(outcome.timestamp[legs][-1])
            refusal = refusal or _leg_refusal(prepared, outcome.status[legs])
        fact = _fact(prepared, timestamp, refusal)
        if refusal is not None and refusal[0] not in TRANSIENT_CODES:
            return _answer(prepared.command.id, _remembered(fact)), []
        self.replay(fact)
        return _answer(prepared.command.id, _remembered(fact)), [fact]

    def expire(self, facts: npt.NDArray[np.void]) -> list[MoveFact]:
        """What follows for Moves from expiries of holds (LEG_FACT rows); other rows are passed over."""
        expiries = facts[(facts["flags"] & LegFlag.EXPIRY) != 0]
        made: list[MoveFact] = []
        for high, low, timestamp in zip(
            expiries["pending_hi"].tolist(),
            expiries["pending_lo"].tolist(),
            expiries["timestamp"].tolist(),
            strict=True,
        ):
            hold = high << 64 | low
            move = self.open.get(self._hold_moves.get(hold, 0))
            if move is not None:
                fact = self._expiry(move, hold, timestamp)
                self.replay(fact)
                made.append(fact)
        return made

    def preview(self, command: MoveCommand, now: int) -> MovePreview:
        """The Entries that a command would write if it were sent now. Writes nothing."""
        if self.window.find(command.id) is not None:
            return MovePreview(code=Refusal.ID_INVALID, message="id: this request was answered already")
        try:
            prepared = self._judged(command, now, None)
        except Refused as refusal:
            return MovePreview(code=refusal.code, message=refusal.message)
        if isinstance(prepared, Deferred):
            raise AssertionError("a preview comes after the call that is being put together")
        if prepared.refusal is not None:
            return MovePreview(code=prepared.refusal[0], message=prepared.refusal[1])
        assert prepared.plan is not None
        return preview.of_draft(prepared.draft, prepared.plan.target, self.compile([prepared]), self._ledger)

    # State

    def set_generation(self, generation: int, dropped: int) -> None:
        """Turn the window of remembered requests as the ledger's window of ids has turned."""
        self.window.set_generation(generation, dropped)

    def replay(self, fact: MoveFact) -> None:
        """Apply what happened to a Move."""
        remembered = _remembered(fact)
        self.window.remember(remembered)
        if not fact.accepted:
            return
        id = ids.id_from_bytes(fact.move)
        move = self.open.pop(id, None) if fact.ended else self.open.get(id)
        for hold in move.holds if move is not None else ():
            self._hold_moves.pop(ids.id_from_bytes(hold), None)
        if fact.ended:
            self.window.newest.ended[id] = remembered
        elif move is None:
            self.open[id] = _opened(fact)
        else:
            move.state, move.seq = fact.state, fact.seq
            move.holds, move.expires_at = fact.holds, fact.expires_at
            move.inputs = move.inputs | fact.inputs
        if not fact.ended:
            for hold in fact.holds:
                self._hold_moves[ids.id_from_bytes(hold)] = id
        if fact.reference is not None and fact.seq == 0:
            hash = reference_hash(ids.id_from_bytes(fact.payer), fact.reference)
            self.window.newest.references[hash] = id

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
        self.window.restore(state["window"])

    # Details

    def _judged(self, command: MoveCommand, now: int, loaded: LoadedRequests | None) -> Prepared | Deferred:
        return self._step(command, now, loaded) if command.move else self._creation(command, now, loaded)

    def _creation(self, command: MoveCommand, now: int, loaded: LoadedRequests | None) -> Prepared | Deferred:
        kind = self._kind(command.kind)
        plan = self._plan(kind, kind.kind.states[0], command.transition or kind.kind.usual, creating=True)
        check_command(command, plan.wanted, kind)
        if command.if_version:
            raise Refused(Refusal.FIELD_NOT_ACCEPTED, "if_version: a Move that is created has no version yet")
        self._check_parties(command)
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
        prepared = Prepared(command, self._digester.digest(command), kind, move)
        prepared._book = self
        if command.reference is not None:
            if reference_hash(command.payer, command.reference) in self._unsettled:
                return DEFERRED
            self._check_reference(command.payer, command.reference, loaded)
        prepared.business_time = move.business_time
        return self._drafted(prepared, plan, command.id)

    def _step(self, command: MoveCommand, now: int, loaded: LoadedRequests | None) -> Prepared | Deferred:
        move = self.open.get(command.move)
        if move is None:
            raise self._not_open(command.move, loaded)
        kind = self._kind(move.kind)
        if command.kind not in {"", move.kind}:
            raise Refused(
                Refusal.FIELD_INVALID, f"kind: the Move is of kind {move.kind}, not {command.kind!r}"
            )
        if command.reference is not None:
            raise Refused(Refusal.FIELD_NOT_ACCEPTED, "reference: is given when a Move is created")
        prepared = Prepared(command, self._digester.digest(command), kind, move)
        prepared._book = self
        prepared.seq = move.seq + 1
        prepared.business_time = command.business_time or now
        if command.if_version not in {0, move.seq + 1}:
            message = f"if_version: the Move has version {move.seq + 1}, not {command.if_version}"
            prepared.refusal = Refusal.MOVE_VERSION_DIFFERS, message
            return prepared
        plan = self._plan(kind, move.state, command.transition, creating=False)
        check_command(command, plan.wanted, kind)
        return self._drafted(prepared, plan, command.move)

    def _drafted(self, prepared: Prepared, plan: Plan, id: int) -> Prepared | Deferred:
        """Put together the legs of a plan."""
        command, move = prepared.command, prepared.move
        if "orders_ended" in plan.checks and move.lines is not None:
            for order in {ids.id_from_bytes(order) for order in move.lines.orders}:
                if order in self._unsettled:
                    return DEFERRED
                self._check_order_ended(order)
        prepared.plan = plan
        prepared.metadata = metadata_bytes(command)
        scope = self._scope(prepared, plan, id)
        draft = Draft(command.id, id, prepared.seq, prepared.business_time, prepared.kind.kind.code)
        draft.timeout = command.timeout
        holds = [ids.id_from_bytes(hold) for hold in move.holds]
        for step in plan.steps:
            holds = post(step, scope, draft, holds)
        prepared.draft, prepared.holds = draft, holds
        return prepared

    def _scope(self, prepared: Prepared, plan: Plan, id: int) -> Scope:
        """What the names in the kind's templates stand for."""
        command, move, kind = prepared.command, prepared.move, prepared.kind
        scope = Scope(self.chart, self._directory, kind, move.asset)
        scope.ids = {
            "move": id,
            "payer": ids.id_from_bytes(move.payer),
            "payee": ids.id_from_bytes(move.payee),
            "reverses": ids.id_from_bytes(move.reverses),
        }
        scope.names = {name: ids.format_id(value) for name, value in scope.ids.items() if value}
        if move.tender:
            scope.names["tender"] = move.tender
        if move.reason:
            scope.names["reason"] = move.reason
        given = move.inputs | command.inputs
        scope.given_keys = frozenset(given)
        for name, value in (kind.kind.inputs | given).items():
            scope.names[name] = str(value)
            if isinstance(value, int):
                scope.values[name] = value
        lines = move.lines
        scope.values |= {
            "amount": move.amount,
            "given": command.amount,
            "given_or_all": command.amount or 2**63 - 1,
            "total": sum(lines.amounts) if lines is not None else 0,
        }
        if lines is not None and kind.kind.lines is not None:
            scope.rows["line"] = line_rows(lines, scope, kind.kind.lines.contra)
        if command.legs is not None:
            scope.rows["leg"] = leg_rows(command.legs, self._directory)
        elif command.entries is not None:
            if "entry" in plan.rows:
                scope.rows["entry"] = entry_rows(command.entries, self._directory)
            if "leg" in plan.rows:
                scope.rows["leg"] = paired_rows(command.entries, self._directory)
        return scope

    def _plan(self, kind: CompiledKind, state: str, transition: str, creating: bool) -> Plan:
        key = (kind.kind.name, state, transition, creating)
        if (ready := self._plans.get(key)) is not None:
            return ready
        plan = self._plans[key] = _new_plan(kind, state, transition, creating)
        return plan

    def _kind(self, name: str) -> CompiledKind:
        kind = self.kinds.get(name)
        if kind is None:
            known = ", ".join(sorted(self.kinds))
            raise Refused(Refusal.KIND_UNKNOWN, f"kind: there is no {name!r}; there are {known}")
        return kind

    def _check_parties(self, command: MoveCommand) -> None:
        for field, party in (("payer", command.payer), ("payee", command.payee)):
            if party and self._directory.party_row(party) < 0:
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
                f"lines: Move {ids.format_id(order)} is still {move.state}; it can be taken back once it has ended",
            )

    def _knows(self, move: int) -> bool:
        """Whether memory can say what state a Move is in, or that there is none."""
        window = self.window
        return move in self.open or window.find_ended(move) is not None or window.find(move) is not None

    def _not_open(self, move: int, loaded: LoadedRequests | None) -> Refused:
        text = ids.format_id(move) if 0 < move < ids.ID_MAX else str(move)
        ended = self.window.find_ended(move)
        if ended is None and loaded is not None and (fact := loaded.moves.get(move)) is not None:
            ended = _remembered(fact)
        if ended is not None:
            return Refused(Refusal.MOVE_ENDED, f"move: {text} is {ended.state}; nothing leads on from there")
        return Refused(Refusal.MOVE_NOT_FOUND, f"move: there is no Move {text}")

    def _stored(self, request: int, loaded: LoadedRequests | None) -> Remembered | None:
        found = self.window.find(request)
        if found is None and loaded is not None and (fact := loaded.requests.get(request)) is not None:
            return _remembered(fact)
        return found

    def _repeated(self, command: MoveCommand, stored: Remembered) -> MoveAnswer:
        digest = self._digester.digest(command)
        if digest != stored.digest:
            field = self._digester.first_difference(stored.digest, digest)
            message = f"a request with this id was answered already; it differs from this one in {field}"
            return self._refused(command, Refusal.EXISTS_WITH_DIFFERENT_CONTENT, message)
        return _answer(command.id, stored, replayed=True)

    def _refused(self, command: MoveCommand, code: str, message: str) -> MoveAnswer:
        """A refusal that leaves no trace."""
        id = command.move or command.id
        move = self.open.get(id)
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

    def _expiry(self, move: OpenMove, hold: int, timestamp: int) -> MoveFact:
        kind = self.kinds.get(move.kind)
        step = kind.steps.get((move.state, _EXPIRE)) if kind is not None else None
        seq = move.seq + 1
        left = [other for other in move.holds if ids.id_from_bytes(other) != hold]
        return MoveFact(
            request=ids.id_bytes(ids.leg_id(ids.id_from_bytes(move.id), _EXPIRY_REQUESTS + seq)),
            move=move.id,
            kind=move.kind,
            transition=_EXPIRE,
            state=step.transition.target if step is not None else move.state,
            ended=step is not None and step.ended,
            seq=seq,
            timestamp=timestamp,
            business_time=timestamp,
            payer=move.payer,
            payee=move.payee,
            asset=move.asset,
            tender=move.tender,
            holds=left,
            expires_at=move.expires_at if left else 0,
        )


def _new_plan(kind: CompiledKind, state: str, transition: str, creating: bool) -> Plan:
    """The way from a state along some transitions. Raises Refused."""
    names = transition.split(PATH_SEPARATOR) if transition else []
    if not creating and not names:
        raise Refused(Refusal.TRANSITION_UNKNOWN, f"transition: missing; {_ways_on(kind, state)}")
    if len(names) > PATH_LENGTH_MAX:
        raise Refused(Refusal.TRANSITION_UNKNOWN, f"transition: more than {PATH_LENGTH_MAX} at once")
    steps = []
    for name in names:
        if name not in kind.names:
            known = ", ".join(sorted(kind.names - {_EXPIRE}))
            raise Refused(
                Refusal.TRANSITION_UNKNOWN, f"transition: {kind.kind.name} has no {name!r}; it has {known}"
            )
        step = kind.steps.get((state, name))
        if step is None or step.transition.by_engine:
            raise Refused(
                Refusal.MOVE_STATE_DIFFERS,
                f"transition: {name!r} does not lead on from {state}; {_ways_on(kind, state)}",
            )
        steps.append(step)
        state = step.transition.target
    needed = [*(kind.kind.needs if creating else ())]
    accepted = [*needed, *(kind.kind.takes if creating else ())]
    for step in steps:
        needed += step.transition.needs
        accepted += [*step.transition.needs, *step.transition.takes]
    return Plan(
        steps=tuple(steps),
        transition=transition,
        target=state,
        ended=kind.ended(state),
        wanted=Wanted(tuple(needed), frozenset(field for need in accepted for field in need.split("|"))),
        rows=frozenset(posting.posting.each for step in steps for posting in step.postings),
        checks=frozenset(check for step in steps for check in step.transition.checks),
    )


def _ways_on(kind: CompiledKind, state: str) -> str:
    ways = kind.next_of(state)
    return f"from {state} lead {', '.join(ways)}" if ways else f"nothing leads on from {state}"


def _leg_refusal(prepared: Prepared, status: npt.NDArray[np.uint8]) -> tuple[str, str] | None:
    """Code and message of the leg that broke the chain, None if there is none."""
    broken = np.flatnonzero((status != _UNCHAINED[0]) & (status != _UNCHAINED[1]))
    if not len(broken):
        return None
    leg = int(broken[0])
    code = _SLUGS[int(status[leg])]
    draft = prepared.draft
    assert draft is not None
    debit, credit = draft.account_key(draft.debits[leg]), draft.account_key(draft.credits[leg])
    what = f"{debit} > {credit} = {draft.amounts[leg]}" if debit else f"hold = {draft.amounts[leg]}"
    reason = _REASONS.get(code, code.replace("_", " "))
    return code, f"leg {leg + 1} of {len(draft)}, {what}: {reason}"


def _fact(prepared: Prepared, timestamp: int, refusal: tuple[str, str] | None) -> MoveFact:
    """What became of a prepared command."""
    command, move, plan = prepared.command, prepared.move, prepared.plan
    creating = not command.move
    if refusal is not None or plan is None:
        code, message = refusal or ("", "")
        return MoveFact(
            request=ids.id_bytes(command.id),
            move=move.id,
            kind=move.kind,
            transition=command.transition,
            state="" if creating else move.state,
            ended=False,
            seq=move.seq,
            timestamp=timestamp,
            business_time=prepared.business_time,
            payer=move.payer,
            digest=prepared.digest,
            code=code,
            message=message,
        )
    lines = move.lines if creating else None
    units, money = _unmatched(lines, prepared.kind)
    expires_at = move.expires_at if prepared.holds else 0
    if prepared.holds and command.timeout:
        ends = timestamp + command.timeout * SECOND_NS
        expires_at = min(expires_at, ends) if expires_at else ends
    return MoveFact(
        request=ids.id_bytes(command.id),
        move=move.id,
        kind=move.kind,
        transition=plan.transition,
        state=plan.target,
        ended=plan.ended,
        seq=prepared.seq,
        timestamp=timestamp,
        business_time=prepared.business_time,
        payer=move.payer,
        payee=move.payee,
        asset=move.asset,
        amount=command.amount,
        tender=move.tender,
        digest=prepared.digest,
        reference=command.reference,
        reverses=move.reverses if creating else NO_ID,
        lines=lines,
        inputs=command.inputs,
        holds=[ids.id_bytes(hold) for hold in prepared.holds],
        expires_at=expires_at,
        metadata=prepared.metadata,
        unmatched_quantity=units,
        unmatched_amount=money,
        leg_count=prepared.leg_count,
        reason=move.reason,
    )


def _unmatched(lines: LineFacts | None, kind: CompiledKind) -> tuple[int, int]:
    """Units and money of lines that reverse nothing known, for kinds whose lines may reverse."""
    if lines is None or kind.kind.lines is None or "orders" not in kind.kind.lines.takes:
        return 0, 0
    if not lines.order_lines:
        return sum(lines.quantities), sum(lines.amounts)
    return (
        sum(units for units, line in zip(lines.quantities, lines.order_lines, strict=True) if not line),
        sum(money for money, line in zip(lines.amounts, lines.order_lines, strict=True) if not line),
    )


def _opened(fact: MoveFact) -> OpenMove:
    return OpenMove(
        id=fact.move,
        kind=fact.kind,
        state=fact.state,
        seq=fact.seq,
        business_time=fact.business_time,
        payer=fact.payer,
        payee=fact.payee,
        asset=fact.asset,
        amount=fact.amount,
        tender=fact.tender,
        reason=fact.reason,
        reverses=fact.reverses,
        reference=fact.reference,
        lines=fact.lines,
        inputs=fact.inputs,
        holds=fact.holds,
        expires_at=fact.expires_at,
    )


def _remembered(fact: MoveFact) -> Remembered:
    return Remembered(
        fact.request, fact.digest, fact.move, fact.kind, fact.state, fact.seq, fact.timestamp, fact.ended, fact.code,
        fact.message, fact.unmatched_quantity, fact.unmatched_amount, fact.leg_count,
    )  # fmt: skip


def _answer(request: int, stored: Remembered, replayed: bool = False) -> MoveAnswer:
    return MoveAnswer(
        request=request,
        move=ids.id_from_bytes(stored.move),
        kind=stored.kind,
        state=stored.state,
        seq=stored.seq,
        version=stored.seq + 1 if stored.state else 0,
        timestamp=stored.timestamp,
        code=stored.code,
        message=stored.message,
        replayed=replayed,
        ended=stored.ended,
        unmatched_quantity=stored.unmatched_quantity,
        unmatched_amount=stored.unmatched_amount,
        leg_count=stored.leg_count,
    )
