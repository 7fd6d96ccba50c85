"""One turn of a shard: messages in, facts and answers out.

Messages are decided strictly in order of arrival. Legs of many messages gather into one block for the kernel;
a message that must see their outcome (a read, a second step of the same Move) ends the block first, so the
result is that of one message at a time. The only waiting in here is for rows of PostgreSQL that concern ids
the state has forgotten, before the block that needs them.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
from engine.moves import Deferred, LoadedRequests, Prepared

from actors.answers import AccountState, LegAnswers, account_state
from actors.block_builder import BlockBuilder, without_engine_flags
from actors.commit import Reply
from actors.errors import InvalidRequest, NotFound
from actors.mailbox import Letter
from actors.messages import (
    Capture,
    CreateAccounts,
    Fence,
    PostLegs,
    Preview,
    ReadAccounts,
    SetGuards,
    SubmitMoves,
    SubmitParties,
    SubmitThings,
)
from engine.commands import MoveAnswer, MoveCommand
from engine.facts import Event
from engine.layout import ids_column
from engine.ledger import LegOutcome, LoadedLegs
from engine.record import Record, Rows
from engine.results import Result
from engine.shard_state import ShardState

THREAD_LEGS_MIN: Final = 2_048
"""Blocks from this many legs on are decided in a thread, so that the event loop goes on meanwhile."""
SWEEP_HOLDS_MAX: Final = 65_536

_SLUGS: Final = {int(result): result.slug for result in Result}


class Lookups(Protocol):
    """Rows of PostgreSQL that a turn may need before it decides."""

    async def find_legs(self, ids: Any) -> LoadedLegs:
        """What is known of these leg ids."""

    async def find_requests(self, requests: list[int]) -> LoadedRequests:
        """What is known of these request and Move ids."""


class _Posted(NamedTuple):
    """Bare legs in the block, waiting for the kernel."""

    letter: Letter
    legs: slice

    def settle(self, turn: "Turn", outcome: LegOutcome) -> None:
        """Answer with the statuses and stamps of these legs."""
        turn.answer_legs(self.letter, outcome.status[self.legs], outcome.timestamp[self.legs])


class _Moved(NamedTuple):
    """A Move's legs in the block, waiting for the kernel."""

    answers: list[MoveAnswer]
    at: int
    prepared: Prepared
    legs: slice

    def settle(self, turn: "Turn", outcome: LegOutcome) -> None:
        """Let the Move take its step, or not, as its legs were decided."""
        turn.answer_move(self.answers, self.at, self.prepared, outcome, self.legs)


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
        self._in_block: list[_Posted | _Moved] = []
        self._accounts: list[Rows] = []
        self._keys: list[str] = []
        self._guards: list[Rows] = []
        self._legs: list[Rows] = []
        self._events: list[Event] = []
        self._answers: list[tuple[Letter, Any]] = []
        self._captures: list[Letter] = []
        self._handlers: dict[type, Callable[[Letter], Awaitable[None]]] = {
            PostLegs: self._post_legs,
            SubmitMoves: self._submit_moves,
            CreateAccounts: self._create_accounts,
            SetGuards: self._set_guards,
            SubmitParties: self._submit_parties,
            SubmitThings: self._submit_things,
            ReadAccounts: self._read_accounts,
            Preview: self._preview,
            Fence: self._fence,
            Capture: self._capture,
        }

    def sweep(self) -> None:
        """Release holds that have expired."""
        expired = self._state.ledger.expire(self._now, SWEEP_HOLDS_MAX)
        if len(expired):
            self._legs.append(expired)
            self._events += self._state.moves.expire(expired)

    async def run(self) -> None:
        """Decide all letters. What one of them got wrong is its own answer; the others go on."""
        for letter in self._letters:
            try:
                await self._handlers[type(letter.message)](letter)
            except (InvalidRequest, NotFound) as refusal:
                letter.answer.set_exception(refusal)
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
        )

    def replies(self, lsn: int) -> list[Reply]:
        """The answers, stamped with the position in the log that covers what they saw."""
        for letter in self._captures:
            self._answers.append((letter, (self._state.lsn, self._state.state())))
        return [Reply(letter.answer, _stamped(answer, lsn)) for letter, answer in self._answers]

    # Legs

    async def _post_legs(self, letter: Letter) -> None:
        columns = without_engine_flags(letter.message.columns)
        self._in_block.append(_Posted(letter, self._block.add(columns)))

    async def _flush(self) -> None:
        """Let the kernel decide the block, and answer those who are in it."""
        if not self._in_block:
            return
        builder, self._block = self._block, BlockBuilder()
        waiting, self._in_block = self._in_block, []
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
            self._legs.append(outcome.facts)
        for item in waiting:
            item.settle(self, outcome)

    def answer_legs(self, letter: Letter, status: Any, timestamp: Any) -> None:
        """Note the answer to a batch of legs or accounts."""
        self._count(status)
        self._answers.append((letter, LegAnswers(status=status, timestamp=timestamp)))

    # Moves

    async def _submit_moves(self, letter: Letter) -> None:
        commands: list[MoveCommand] = letter.message.commands
        moves = self._state.moves
        unknown = moves.unknown_requests(commands, self._now)
        loaded = await self._lookups.find_requests(unknown) if unknown else None
        answers: list[Any] = [None] * len(commands)
        self._answers.append((letter, answers))
        for at, command in enumerate(commands):
            step = moves.prepare(command, self._now, loaded)
            if isinstance(step, Deferred):
                await self._flush()
                step = moves.prepare(command, self._now, loaded)
            assert not isinstance(step, Deferred)
            if isinstance(step, MoveAnswer):
                answers[at] = step
                self.results[step.code or "exists"] += 1
            elif step.legs is None:
                self._settle_move(answers, at, step, None, None)
            else:
                legs = self._block.add(step.legs, step.opens, step.open_keys)
                self._in_block.append(_Moved(answers, at, step, legs))

    def answer_move(
        self, answers: list[MoveAnswer], at: int, prepared: Prepared, outcome: LegOutcome, legs: slice
    ) -> None:
        """Note the answer to a Move's command."""
        self._settle_move(answers, at, prepared, outcome, legs)

    def _settle_move(
        self,
        answers: list[MoveAnswer],
        at: int,
        prepared: Prepared,
        outcome: LegOutcome | None,
        legs: slice | None,
    ) -> None:
        answer, facts = self._state.moves.settle(prepared, outcome, legs, self._now)
        self.results[answer.code or "created"] += 1
        self._events += facts
        answers[at] = answer

    async def _preview(self, letter: Letter) -> None:
        await self._flush()
        self._answers.append((letter, self._state.moves.preview(letter.message.command, self._now)))

    # Accounts

    async def _create_accounts(self, letter: Letter) -> None:
        await self._flush()
        columns, keys = letter.message
        outcome = self._state.ledger.create_accounts(columns, np.array([0, len(keys)], np.int64), self._now)
        if len(outcome.facts):
            self._accounts.append(outcome.facts)
            self._keys += [keys[at] for at in outcome.indices.tolist()]
        self.answer_legs(letter, outcome.status, outcome.timestamp)

    async def _set_guards(self, letter: Letter) -> None:
        await self._flush()
        message: SetGuards = letter.message
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
        self._answers.append((letter, account_state(ledger.accounts[row])))

    async def _read_accounts(self, letter: Letter) -> None:
        await self._flush()
        ledger = self._state.ledger
        rows = ledger.lookup(letter.message.ids).tolist()
        found: list[AccountState | None] = [
            account_state(ledger.accounts[row]) if row >= 0 else None for row in rows
        ]
        self._answers.append((letter, found))

    def _row(self, account: int) -> int:
        row = int(self._state.ledger.lookup(ids_column([account]))[0])
        if row < 0:
            raise NotFound("account", f"{account:032x}")
        return row

    # Parties, Things and the rest

    async def _submit_parties(self, letter: Letter) -> None:
        await self._direct(letter, self._state.directory.submit_party)

    async def _submit_things(self, letter: Letter) -> None:
        await self._direct(letter, self._state.directory.submit_thing)

    async def _direct(self, letter: Letter, submit: Callable[[Any, int], Any]) -> None:
        answers = []
        for command in letter.message.commands:
            answer, fact = submit(command, self._now)
            if fact is not None:
                self._events.append(fact)
            self.results[answer.code or ("exists" if answer.replayed else "created")] += 1
            answers.append(answer)
        self._answers.append((letter, answers))

    async def _fence(self, letter: Letter) -> None:
        self._answers.append((letter, _Position()))

    async def _capture(self, letter: Letter) -> None:
        self._captures.append(letter)

    def _count(self, status: Any) -> None:
        counts = np.bincount(status)
        for code in np.flatnonzero(counts).tolist():
            self.results[_SLUGS[code]] += int(counts[code])


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
