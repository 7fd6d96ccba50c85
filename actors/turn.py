"""One turn of a shard: messages in, facts and answers out.

Messages are decided strictly in order of arrival. Legs of many messages gather into one block for the kernel;
a message that must see their outcome (a read, a second step of the same Move) ends the block first, so the
result is that of one message at a time. The only waiting in here is for rows of PostgreSQL that concern ids
the state has forgotten, before the block that needs them.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from actors.answers import AccountState, Claimed, LegAnswers, account_state
from actors.attribution import Attribution
from actors.block_builder import BlockBuilder, without_engine_flags
from actors.commit import Reply
from actors.errors import InvalidRequest, NotFound, Overloaded
from actors.mailbox import RETRY_AFTER_S, Letter
from actors.messages import (
    Capture,
    Claim,
    CreateAccounts,
    Fence,
    PostBatches,
    PostLegs,
    Preview,
    ReadAccounts,
    ReadHolds,
    ReadSteps,
    SetGuards,
    SubmitMoves,
    SubmitParties,
    SubmitThings,
)
from engine import open_holds
from engine.commands import DirectoryAnswer, MoveAnswer, MoveCommand, Refusal
from engine.facts import Event, RequestFact
from engine.ids import id_bytes, id_from_bytes
from engine.layout import AccountColumns, LegColumns, ids_column
from engine.ledger import LegOutcome, LoadedLegs
from engine.moves import Deferred, LoadedRequests, UnknownRequests
from engine.next_steps import next_steps
from engine.outcomes import Prepared
from engine.record import Record, Rows
from engine.requests import Remembered
from engine.results import TRANSIENT, Result
from engine.shard_state import ShardState

THREAD_LEGS_MIN: Final = 2_048
"""Blocks from this many legs on are decided in a thread, so that the event loop goes on meanwhile."""
SWEEP_HOLDS_MAX: Final = 32_768
"""Holds that one turn releases at most."""
TURN_LEGS_MAX: Final = 98_304
"""Legs in a turn at most; with the sweep's they fit into `LedgerConfig.turn_events_max`."""

_Kept = TypeVar("_Kept", AccountState, DirectoryAnswer)
_KEPT: Final[dict[type, bytes]] = {AccountState: b"account", DirectoryAnswer: b"directory"}
"""Answers that are kept, and what stands for their kind where other requests have a digest."""
_SLUGS: Final = {int(result): result.slug for result in Result}
_MAKES_FACT: Final = np.zeros(256, np.bool_)
"""By result: whether a leg that was answered so is in the log, as a leg or as a burnt id."""
_MAKES_FACT[[int(result) for result in (Result.CREATED, *TRANSIENT)]] = True


class Lookups(Protocol):
    """Rows of PostgreSQL that a turn may need before it decides."""

    async def find_legs(self, ids: npt.NDArray[np.uint64]) -> LoadedLegs:
        """What is known of these leg ids."""

    async def find_requests(self, unknown: UnknownRequests) -> LoadedRequests:
        """What is known of these requests, Moves and references."""


class Posted(NamedTuple):
    """Bare legs in the block, waiting for the kernel."""

    letter: Letter
    legs: slice


class Moved(NamedTuple):
    """A Move's command, waiting for the kernel; its answer goes to place `at` of `answers`."""

    answers: list[Any]
    at: int
    prepared: Prepared
    principal: str
    open: Any = None  # of the same answers, while others of them may come later


class Judged(NamedTuple):
    """A Move's command whose legs are in the block."""

    moved: Moved
    legs: slice | None


class Turn:
    """Decides `letters` at time `now` (ns) on `state`. Use once: `sweep`, `run`, then `record` and
    `replies`."""

    def __init__(self, state: ShardState, lookups: Lookups, now: int, letters: list[Letter]) -> None:
        self.results: Counter[str] = Counter()  # answers by code
        self._state = state
        self._lookups = lookups
        self._now = now
        self._letters = letters
        self._block = BlockBuilder()
        self._in_block: list[Posted | Judged] = []
        self._drafted: list[Moved] = []  # prepared one after the other, not in the block yet
        self._accounts: list[Rows] = []
        self._keys: list[str] = []
        self._guards: list[Rows] = []
        self._legs: list[Rows] = []
        self._events: list[Event] = []
        self._attribution = Attribution()
        self._principal = ""  # on whose word the message that is being decided came
        self._answers: list[tuple[Letter, Any]] = []
        self._leg_count = 0  # in this turn so far, without the sweep's
        self._captures: list[Letter] = []
        self._handlers: dict[type, Callable[[Letter], Awaitable[None]]] = {
            PostLegs: self._post_legs,
            PostBatches: self._post_batches,
            SubmitMoves: self._submit_moves,
            CreateAccounts: self._create_accounts,
            SetGuards: self._set_guards,
            Claim: self._claim,
            SubmitParties: self._submit_parties,
            SubmitThings: self._submit_things,
            ReadAccounts: self._read_accounts,
            Preview: self._preview,
            ReadSteps: self._read_steps,
            ReadHolds: self._read_holds,
            Fence: self._fence,
            Capture: self._capture,
        }

    def sweep(self) -> None:
        """Release holds that have expired."""
        expired = self._state.ledger.expire(self._now, SWEEP_HOLDS_MAX)
        if len(expired):
            self._happened(expired)
            self._attribution.legs("", len(expired))
            self._swept(expired)

    def _swept(self, expired: Rows) -> None:
        """Holds have run out."""
        self._add_events(self._state.moves.expire(expired), "")

    def _happened(self, facts: Rows) -> None:
        """Legs, expiries and burnt ids are true now, and go into the log."""
        self._legs.append(facts)

    async def run(self) -> None:
        """Decide all letters. What one of them got wrong is its own answer; the others go on."""
        for letter in self._letters:
            self._principal = getattr(letter.message, "principal", "")
            try:
                await self._handlers[type(letter.message)](letter)
            except (InvalidRequest, NotFound, Overloaded) as refusal:
                self._answers.append((letter, refusal))
        await self._flush()

    def record(self, shard: int, epoch: int) -> Record | None:
        """The turn's facts, or None if it changed nothing."""
        if not (self._accounts or self._guards or self._legs or self._events or self._state.window_changed):
            return None
        return self._state.next_record(
            shard=shard,
            epoch=epoch,
            time=self._now,
            accounts=self._accounts,
            keys=self._keys,
            guards=self._guards,
            legs=self._legs,
            events=self._events,
            envelopes=self._attribution.envelopes(self._state.tenant),
        )

    def replies(self, lsn: int) -> list[Reply]:
        """The answers, stamped with the position in the log that covers what they saw."""
        for letter in self._captures:
            self._answers.append((letter, (self._state.lsn, self._state.state())))
        return [Reply(letter.answer, _stamped(answer, lsn)) for letter, answer in self._answers]

    # Legs

    async def _post_legs(self, letter: Letter) -> None:
        if not self._room_for(len(letter.message.columns.amount)):
            raise Overloaded("the turn is full", RETRY_AFTER_S)
        columns = self._legs_of(letter)
        self._compile_moves()
        self._in_block.append(Posted(letter, self._block.add(columns)))

    async def _post_batches(self, letter: Letter) -> None:
        message: PostBatches = letter.message
        if not self._room_for(len(message.columns.amount)):
            raise Overloaded("the turn is full", RETRY_AFTER_S)
        columns = self._legs_of(letter)
        self._compile_moves()
        self._in_block.append(Posted(letter, self._block.add_batches(columns, message.offsets)))

    def _legs_of(self, letter: Letter) -> LegColumns:
        """The legs in a letter, as the kernel may take them. Raises Overloaded."""
        return without_engine_flags(letter.message.columns)

    def _room_for(self, legs: int) -> bool:
        """Whether so many more legs fit into this turn; if so they are counted."""
        if self._leg_count + legs > TURN_LEGS_MAX:
            return False
        self._leg_count += legs
        return True

    def _compile_moves(self) -> None:
        """Put the Moves that were prepared into the block."""
        drafted, self._drafted = self._drafted, []
        with_legs = [item.prepared for item in drafted if item.prepared.leg_count]
        places = iter(self._block.add_moves(self._state.moves.compile(with_legs)) if with_legs else ())
        self._in_block += [
            Judged(item, next(places) if item.prepared.leg_count else None) for item in drafted
        ]

    async def _flush(self) -> None:
        """Let the kernel decide the block, and answer those who are in it."""
        self._compile_moves()
        if not self._in_block:
            return
        builder, self._block = self._block, BlockBuilder()
        waiting, self._in_block = self._in_block, []
        stamps = Stamps(self._state.ledger.last_timestamp)
        outcome = await self._decide(builder) if len(builder) else None
        if outcome is not None:
            self._attribute(waiting, outcome)
        self._answer_all(waiting, outcome, stamps)

    def _answer_all(
        self, waiting: "list[Posted | Judged]", outcome: LegOutcome | None, stamps: "Stamps"
    ) -> None:
        """Answer who is in a block, in order."""
        for item in waiting:
            if isinstance(item, Judged):
                self._settle(item, outcome, stamps)
            else:
                assert outcome is not None
                self._answer_legs(item.letter, outcome.status[item.legs], outcome.timestamp[item.legs])
            if item.legs is not None:
                stamps.end = item.legs.stop

    async def _decide(self, builder: BlockBuilder) -> LegOutcome:
        ledger = self._state.ledger
        block = builder.build()
        unknown = ledger.unknown_ids(block, self._now)
        if len(unknown):
            block = builder.build(await self._lookups.find_legs(unknown))
        if len(builder) >= THREAD_LEGS_MIN:
            outcome = await asyncio.to_thread(ledger.apply_legs, block, self._now)
        else:
            outcome = ledger.apply_legs(block, self._now)
        if len(outcome.opened):
            self._accounts.append(outcome.opened)
            self._keys += [builder.open_keys[at] for at in outcome.opened_index.tolist()]
        if len(outcome.facts):
            self._happened(outcome.facts)
        return outcome

    def _attribute(self, waiting: "Sequence[Posted | Judged]", outcome: LegOutcome) -> None:
        """Note on whose word each of the block's facts came."""
        principals = {
            name
            for item in waiting
            for name in (
                [item.moved.principal] if isinstance(item, Judged) else _principals_of(item.letter.message)
            )
        }
        if len(principals) == 1:
            self._attribution.legs(principals.pop(), len(outcome.facts))
            return
        made = _MAKES_FACT[outcome.status]
        for item in waiting:
            if item.legs is None:
                continue
            if isinstance(item, Judged):
                self._attribution.legs(item.moved.principal, int(np.count_nonzero(made[item.legs])))
            elif isinstance(item.letter.message, PostBatches) and item.letter.message.principals:
                message = item.letter.message
                self._attribution.batches(message.principals, message.offsets, made[item.legs])
            else:
                [principal] = _principals_of(item.letter.message)
                self._attribution.legs(principal, int(np.count_nonzero(made[item.legs])))

    def _add_events(self, events: Sequence[Event], principal: str) -> None:
        """Events that happened on somebody's word."""
        self._events += events
        self._attribution.events(principal, len(events))

    def _answer_legs(
        self, letter: Letter, status: npt.NDArray[np.uint8], timestamp: npt.NDArray[np.int64]
    ) -> None:
        counts = np.bincount(status)
        for code in np.flatnonzero(counts).tolist():
            self.results[_SLUGS[code]] += int(counts[code])
        self._answers.append((letter, LegAnswers(status=status, timestamp=timestamp)))

    # Moves

    async def _submit_moves(self, letter: Letter) -> None:
        commands: list[MoveCommand] = letter.message.commands
        loaded = await self._loaded(commands)
        answers: list[Any] = [None] * len(commands)
        self._answers.append((letter, answers))
        for at, command in enumerate(commands):
            step = self._state.moves.prepare(command, self._now, loaded)
            if isinstance(step, Deferred):
                await self._flush()
                step = self._state.moves.prepare(command, self._now, loaded, alone=True)
            if isinstance(step, MoveAnswer):
                answers[at] = step
                self.results[step.code or "exists"] += 1
                continue
            assert isinstance(step, Prepared)
            if not self._room_for(step.leg_count):
                step.refusal = (
                    Refusal.TURN_FULL,
                    f"{step.leg_count} legs do not fit into this turn; send it again",
                )
                step.draft = None
            self._drafted.append(Moved(answers, at, step, self._principal))

    def _settle(self, judged: Judged, outcome: LegOutcome | None, stamps: "Stamps") -> None:
        """Let a Move take its step, or not, as its legs were decided."""
        prepared = judged.moved.prepared
        latest = stamps.latest(outcome) if judged.legs is None else None
        answer, facts = self._state.moves.settle(prepared, outcome, judged.legs, self._now, latest)
        self.results[answer.code or "created"] += 1
        self._add_events(facts, judged.moved.principal)
        self._give(judged.moved, answer)

    def _give(self, moved: Moved, answer: MoveAnswer) -> None:
        """A command has its answer."""
        moved.answers[moved.at] = answer

    async def _preview(self, letter: Letter) -> None:
        await self._flush()
        command: MoveCommand = letter.message.command
        loaded = await self._loaded([command])
        self._answers.append((letter, self._state.moves.preview(command, self._now, loaded)))

    async def _read_steps(self, letter: Letter) -> None:
        await self._flush()
        message: ReadSteps = letter.message
        command = MoveCommand(id=message.request, move=message.move)
        loaded = await self._loaded([command])
        found = next_steps(self._state.moves, message.move, message.request, self._now, loaded)
        self._answers.append((letter, found))

    async def _loaded(self, commands: list[MoveCommand]) -> LoadedRequests | None:
        """What the book has to know before it can judge these commands, and has forgotten."""
        unknown = self._state.moves.unknown_requests(commands, self._now)
        return await self._lookups.find_requests(unknown) if unknown else None

    # Accounts

    async def _create_accounts(self, letter: Letter) -> None:
        await self._flush()
        columns, keys = self._accounts_of(letter), letter.message.keys
        outcome = self._state.ledger.create_accounts(columns, np.array([0, len(keys)], np.int64), self._now)
        if len(outcome.facts):
            self._accounts.append(outcome.facts)
            self._keys += [keys[at] for at in outcome.indices.tolist()]
        self._answer_legs(letter, outcome.status, outcome.timestamp)

    def _accounts_of(self, letter: Letter) -> AccountColumns:
        """The accounts in a letter, as the kernel may take them."""
        columns: AccountColumns = letter.message.columns
        return columns

    async def _set_guards(self, letter: Letter) -> None:
        await self._flush()
        message: SetGuards = letter.message
        before = await self._answered_as(message.request, AccountState)
        if before is not None:
            self._answers.append((letter, before))
            return
        ledger = self._state.ledger
        row = self._row(message.account)
        account = ledger.accounts[row]
        if message.if_version and int(account["version"]) != message.if_version:
            raise InvalidRequest(
                "if_version",
                f"the account is at version {int(account['version'])}",
                "the present version, or 0",
            )
        if (int(account["floor"]), int(account["ceiling"])) != (message.floor, message.ceiling):
            self._guards.append(ledger.set_guards(row, message.floor, message.ceiling, self._now))
        answer = account_state(ledger.accounts[row])
        self._keep(message.request, answer)
        self._answers.append((letter, answer))

    async def _read_accounts(self, letter: Letter) -> None:
        await self._flush()
        ledger = self._state.ledger
        rows = ledger.lookup(letter.message.ids).tolist()
        found: list[AccountState | None] = [
            account_state(ledger.accounts[row]) if row >= 0 else None for row in rows
        ]
        self._answers.append((letter, found))

    async def _read_holds(self, letter: Letter) -> None:
        await self._flush()
        self._answers.append((letter, open_holds.find(self._state.ledger, letter.message.wanted)))

    def _row(self, account: int) -> int:
        row = int(self._state.ledger.lookup(ids_column([account]))[0])
        if row < 0:
            raise NotFound("account", f"{account:032x}")
        return row

    # Parties, Things and the rest

    async def _submit_parties(self, letter: Letter) -> None:
        request = letter.message.request
        before = await self._answered_as(request, DirectoryAnswer)
        if before is not None:
            self._answers.append((letter, [before]))
            return
        answers = await self._submit_directory(letter, self._state.directory.submit_party)
        if answers[0].accepted:
            self._keep(request, answers[0])

    async def _submit_things(self, letter: Letter) -> None:
        await self._submit_directory(letter, self._state.directory.submit_thing)

    async def _submit_directory(
        self, letter: Letter, submit: Callable[[Any, int], tuple[DirectoryAnswer, Event | None]]
    ) -> list[DirectoryAnswer]:
        await self._flush()
        answers = []
        for command in letter.message.commands:
            answer, fact = submit(command, self._now)
            if fact is not None:
                self._add_events([fact], self._principal)
            self.results[answer.code or ("exists" if answer.replayed else "created")] += 1
            answers.append(answer)
        self._answers.append((letter, answers))
        return answers

    # Requests that are about no Move

    async def _claim(self, letter: Letter) -> None:
        await self._flush()
        key, digest, request, _ = letter.message
        stored = await self._answered(key)
        if stored is None:
            self._remember(RequestFact(id_bytes(key), digest, self._now, id_bytes(request)))
            self._answers.append((letter, Claimed(request=request, digest=digest, replayed=False)))
            return
        claimed = Claimed(request=id_from_bytes(stored.answer), digest=stored.digest, replayed=True)
        self._answers.append((letter, claimed))

    async def _answered_as(self, request: int, kind: type[_Kept]) -> _Kept | None:
        """What was answered to a request before, if it has an id. Raises InvalidRequest if that was about
        something else."""
        stored = await self._answered(request) if request else None
        if stored is None:
            return None
        if stored.digest != _KEPT[kind]:
            raise InvalidRequest("request", "this id was used before, by a request of another kind")
        return msgspec.structs.replace(msgspec.json.decode(stored.answer, type=kind), replayed=True)

    def _keep(self, request: int, answer: AccountState | DirectoryAnswer) -> None:
        """Keep the answer to a request that has an id."""
        if request:
            content = msgspec.json.encode(answer)
            self._remember(RequestFact(id_bytes(request), _KEPT[type(answer)], self._now, content))

    def _remember(self, fact: RequestFact) -> None:
        self._state.moves.remember(fact)
        self._add_events([fact], self._principal)

    async def _answered(self, request: int) -> Remembered | None:
        moves = self._state.moves
        unknown = moves.unknown_request(request, self._now)
        return moves.answered(request, await self._lookups.find_requests(unknown) if unknown else None)

    async def _fence(self, letter: Letter) -> None:
        self._answers.append((letter, _Position()))

    async def _capture(self, letter: Letter) -> None:
        self._captures.append(letter)


def _principals_of(message: PostLegs | PostBatches) -> Sequence[str]:
    """On whose word a message's legs came."""
    if isinstance(message, PostBatches):
        return message.principals or [""]
    return [message.principal]


class Stamps:
    """The newest stamp of a fact up to a place in the block; `end` only grows."""

    def __init__(self, before: int) -> None:
        self.end = 0  # of the legs that were looked at or passed
        self._seen = 0  # legs that count in `_latest`
        self._latest = before

    def latest(self, outcome: LegOutcome | None) -> int:
        """The newest stamp of all facts before the block and in it up to `end`."""
        if outcome is not None and self._seen < self.end:
            part = slice(self._seen, self.end)
            of_facts = outcome.timestamp[part][_MAKES_FACT[outcome.status[part]]]
            self._latest = max(self._latest, int(of_facts.max(initial=0)))
            self._seen = self.end
        return self._latest


class _Position(NamedTuple):
    """Stands for the turn's own position in the log."""


def _stamped(answer: Any, lsn: int) -> Any:
    match answer:
        case _Position():
            return lsn
        case list():
            return [_stamped(item, lsn) for item in answer]
        case msgspec.Struct() if hasattr(answer, "lsn"):
            return msgspec.structs.replace(answer, lsn=lsn)
    return answer
