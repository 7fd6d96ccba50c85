"""Ledgers to test: the reference model and the kernel's ledger behind one face.

`KernelLedger` speaks the reference model's language to `engine.ledger.Ledger`: it turns legs and accounts
into columns, and facts back into structs. It is also the shard around it in small: it keeps a log of facts,
and a `Database` in which legs are found that the ledger no longer remembers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from engine.layout import (
    ACCOUNT_COLUMN_SPEC,
    ACCOUNT_FACT,
    GUARD_FACT,
    LEG_COLUMN_SPEC,
    LEG_FACT,
    LEG_FLAGS_OF_CLIENTS,
    OPEN_COLUMN_SPEC,
    AccountColumns,
    HoldStatus,
    LegColumns,
    LegFlag,
    account_columns,
    ids_column,
    ids_list,
    leg_columns,
    open_columns,
)
from engine.ledger import Ledger, LedgerConfig, LegBlock, LoadedLegs, WindowFull
from engine.reference import Account, AccountState, Answer, GuardFact, Leg, LegFact, Outcome
from engine.results import Result

SMALL = LedgerConfig(
    ids_per_generation=1 << 10, turn_events_max=1 << 10, accounts_initial=8, holds_initial=8, hash_seed=1
)
"""Tables that must grow at once; as much memory as a test needs."""


class LedgerUnderTest(Protocol):
    """What the reference model and the kernel's ledger have in common."""

    @property
    def accounts(self) -> Mapping[int, AccountState]: ...

    def create_accounts(self, accounts: Sequence[Account], now: int) -> Outcome: ...

    def apply_batch(
        self,
        legs: Sequence[Leg],
        now: int,
        opens: Sequence[tuple[int, Account]] = (),
        allowed_flags: int = LEG_FLAGS_OF_CLIENTS,
    ) -> Outcome: ...

    def set_guards(self, ordinal: int, floor: int, ceiling: int, now: int) -> GuardFact: ...

    def expire(self, now: int, limit: int) -> list[LegFact]: ...


class Message(msgspec.Struct, frozen=True):
    """One batch of legs, with the accounts to ensure before some of them."""

    legs: Sequence[Leg]
    opens: Sequence[tuple[int, Account]] = ()


class Record(msgspec.Struct, frozen=True):
    """What one turn puts into the log: as in the real one, first all accounts, then guards, then legs."""

    generation: int
    dropped: int
    accounts: npt.NDArray[np.void]
    guards: npt.NDArray[np.void]
    legs: npt.NDArray[np.void]


class Database:
    """Where legs are for ever, once they are projected."""

    def __init__(self) -> None:
        self.legs: dict[int, np.void] = {}
        self.resolved: dict[int, tuple[int, int]] = {}  # hold → what became of it, what was held just before
        self.timestamp = 0  # greatest stamp projected

    def project(self, facts: npt.NDArray[np.void]) -> None:
        """Takes in leg facts, in the log's order."""
        for row in facts:
            fact = leg_fact(row.item())
            self.timestamp = max(self.timestamp, fact.timestamp)
            if fact.id:
                self.legs[fact.id] = row
            if fact.pending_id and not (fact.flags & LegFlag.KEEP_OPEN and fact.amount < fact.held):
                self.resolved[fact.pending_id] = _status(fact.flags), fact.held

    def find(self, ids: list[int]) -> LoadedLegs:
        """Those of the ids that are there."""
        found = sorted({id for id in ids if id in self.legs})
        facts = np.zeros(len(found), LEG_FACT)
        status = np.zeros(len(found), np.uint8)
        for index, id in enumerate(found):
            facts[index] = self.legs[id]
            if id in self.resolved:
                status[index], facts[index]["held"] = self.resolved[id]
        return LoadedLegs(facts, status)


def _status(flags: int) -> int:
    if flags & LegFlag.EXPIRY:
        return HoldStatus.EXPIRED
    return HoldStatus.VOIDED if flags & LegFlag.VOID_PENDING else HoldStatus.POSTED


class KernelLedger:
    """A kernel ledger with the log and the database that a shard gives it."""

    def __init__(self, config: LedgerConfig = SMALL) -> None:
        self.ledger = Ledger(config)
        self.database = Database()
        self.log: list[Record] = []
        self._turn: dict[
            str, list[npt.NDArray[np.void]]
        ] = {}  # facts of the present turn; empty between turns
        self._projected = 0  # records
        self._forgetting = False  # at the beginning of the next turn

    # The face of the reference model

    @property
    def accounts(self) -> Mapping[int, AccountState]:
        """All accounts by id, as they are now."""
        return {account.id: account for account in account_states(self.ledger)}

    def create_accounts(self, accounts: Sequence[Account], now: int) -> Outcome:
        """One batch of new accounts."""
        return self.create_account_batches([accounts], now)

    def apply_batch(
        self,
        legs: Sequence[Leg],
        now: int,
        opens: Sequence[tuple[int, Account]] = (),
        allowed_flags: int = LEG_FLAGS_OF_CLIENTS,
    ) -> Outcome:
        """One batch of legs, alone in its block."""
        return self.apply_block([Message(legs, opens)], now, allowed_flags)

    def set_guards(self, ordinal: int, floor: int, ceiling: int, now: int) -> GuardFact:
        """New guards for an account."""
        self._begin()
        facts = self.ledger.set_guards(ordinal, floor, ceiling, now)
        self._write(guards=facts)
        (row,) = facts
        return GuardFact(**{name: row[name].item() for name in GuardFact.__struct_fields__})

    def expire(self, now: int, limit: int) -> list[LegFact]:
        """The sweep."""
        self._begin()
        facts = self.ledger.expire(now, limit)
        self._write(legs=facts)
        return leg_facts(facts)

    # Blocks of several batches

    def create_account_batches(self, batches: Sequence[Sequence[Account]], now: int) -> Outcome:
        """Several batches of accounts in one call."""
        self._begin()
        accounts = [account for batch in batches for account in batch]
        columns = columns_of_accounts(accounts)
        first = self.ledger.account_count
        outcome = self.ledger.create_accounts(columns, _offsets(batches), now)
        self._write(accounts=outcome.facts)
        answers = [
            Answer(Result(status), timestamp)
            for status, timestamp in zip(outcome.status.tolist(), outcome.timestamp.tolist(), strict=True)
        ]
        created = [index for index, answer in enumerate(answers) if answer.result == Result.CREATED]
        assert outcome.indices.tolist() == created
        return Outcome(answers, [], self._created(first, outcome.facts))

    def apply_block(self, messages: Sequence[Message], now: int, allowed_flags: int) -> Outcome:
        """Several batches of legs in one call, looked up in the database as far as they need it."""
        self._begin()
        first = self.ledger.account_count
        block = self.block(messages, allowed_flags)
        unknown = ids_list(self.ledger.unknown_ids(block, now))
        outcome = self.ledger.apply_legs(block._replace(loaded=self.database.find(unknown)), now)
        self._write(accounts=outcome.opened, legs=outcome.facts)
        answers = [
            Answer(Result(status), timestamp, amount)
            for status, timestamp, amount in zip(
                outcome.status.tolist(), outcome.timestamp.tolist(), outcome.amount.tolist(), strict=True
            )
        ]
        opens = [account for message in messages for _, account in message.opens]
        accounts = self._created(first, outcome.opened)
        assert [opens[index].id for index in outcome.opened_index.tolist()] == [a.id for a in accounts]
        return Outcome(answers, leg_facts(outcome.facts), accounts)

    @staticmethod
    def block(messages: Sequence[Message], allowed_flags: int = LEG_FLAGS_OF_CLIENTS) -> LegBlock:
        """The batches as columns, before anything is looked up."""
        legs = [leg for message in messages for leg in message.legs]
        offsets = _offsets([message.legs for message in messages])
        opens = [
            (start + index, account)
            for start, message in zip(offsets.tolist(), messages, strict=False)
            for index, account in message.opens
        ]
        spec = {name: kind for name, kind in OPEN_COLUMN_SPEC.items() if name != "before"}
        columns = _columns([account for _, account in opens], spec) | {
            "before": [index for index, _ in opens]
        }
        return LegBlock(
            columns=columns_of_legs(legs),
            offsets=offsets,
            opens=open_columns(len(opens), **columns) if opens else None,
            loaded=None,
            allowed_flags=allowed_flags,
        )

    # The shard around it

    def end_turn(self) -> None:
        """Writes the record of all commands since the last turn ended; the next command begins a new one."""
        if self._turn:
            arrays = {name: np.concatenate(parts) for name, parts in self._turn.items()}
            self.log.append(Record(self.ledger.generation, self.ledger.dropped, **arrays))
            self._turn = {}

    def project(self) -> None:
        """Lets the database catch up with the log."""
        self.end_turn()
        for record in self.log[self._projected :]:
            self.database.project(record.legs)
        self._projected = len(self.log)

    def forget(self) -> None:
        """Has the next turn, whose record tells of it, drop the generations of ids that the database has."""
        self.end_turn()
        self._forgetting = True

    def _drop(self) -> None:
        self.ledger.drop_generations(self.ledger.droppable(self.database.timestamp))
        self._forgetting = False

    def _begin(self) -> None:
        if self._turn:
            return
        if self._forgetting:
            self._drop()
        try:
            self.ledger.begin_turn()
        except WindowFull:
            self.project()
            self._drop()
            self.ledger.begin_turn()
        kinds = {"accounts": ACCOUNT_FACT, "guards": GUARD_FACT, "legs": LEG_FACT}
        self._turn = {name: [np.zeros(0, kind)] for name, kind in kinds.items()}

    def _write(self, **parts: npt.NDArray[np.void]) -> None:
        for name, facts in parts.items():
            self._turn[name].append(facts)

    def _created(self, first: int, facts: npt.NDArray[np.void]) -> list[AccountState]:
        rows = facts.tolist()
        return [account_state(self.ledger, first + i, facts.dtype, row) for i, row in enumerate(rows)]


def replay(log: Sequence[Record], ledger: Ledger) -> None:
    """Applies records to another ledger, as recovery does."""
    for record in log:
        ledger.set_generation(record.generation, record.dropped)
        ledger.replay_accounts(record.accounts)
        ledger.replay_guards(record.guards)
        ledger.replay_legs(record.legs)


def account_states(ledger: Ledger) -> list[AccountState]:
    """All accounts as the reference model has them."""
    rows = ledger.accounts
    return [account_state(ledger, ordinal, rows.dtype, row) for ordinal, row in enumerate(rows.tolist())]


def account_state(
    ledger: Ledger, ordinal: int, kind: np.dtype[np.void], row: tuple[int, ...]
) -> AccountState:
    """An account, or the fact of its creation, as the reference model has it."""
    values = dict(zip(kind.names or (), row, strict=True))
    for name in ("id", "party", "user_data_128"):
        values[name] = values.pop(f"{name}_hi") << 64 | values.pop(f"{name}_lo")
    above = values["parent"]
    if above >= 0:
        parent = ledger.accounts[above]
        values["parent"] = parent["id_hi"].item() << 64 | parent["id_lo"].item()
    else:
        values["parent"] = 0
    return AccountState(ordinal=ordinal, **values)


def leg_facts(rows: npt.NDArray[np.void]) -> list[LegFact]:
    """Leg facts as the reference model has them."""
    return [leg_fact(row) for row in rows.tolist()]


def leg_fact(row: tuple[int, ...]) -> LegFact:
    """One leg fact as the reference model has it."""
    (id_hi, id_lo, pending_hi, pending_lo, wide_hi, wide_lo, user_data_64, amount, held, timestamp) = row[:10]
    debit, credit, user_data_32, timeout, code, flags = row[10:16]
    return LegFact(
        id=id_hi << 64 | id_lo,
        pending_id=pending_hi << 64 | pending_lo,
        user_data_128=wide_hi << 64 | wide_lo,
        user_data_64=user_data_64,
        user_data_32=user_data_32,
        amount=amount,
        held=held,
        timestamp=timestamp,
        debit=debit,
        credit=credit,
        timeout=timeout,
        code=code,
        flags=flags,
    )


def columns_of_legs(legs: Sequence[Leg]) -> LegColumns:
    """Legs as clients send them."""
    return leg_columns(len(legs), **_columns(legs, LEG_COLUMN_SPEC))


def columns_of_accounts(accounts: Sequence[Account]) -> AccountColumns:
    """Accounts as clients send them."""
    return account_columns(len(accounts), **_columns(accounts, ACCOUNT_COLUMN_SPEC))


def _columns(events: Sequence[Any], spec: dict[str, tuple[int, type]]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, (width, _) in spec.items():
        values = [getattr(event, name) for event in events]
        columns[name] = ids_column(values) if width == 2 else values
    return columns


def _offsets(batches: Sequence[Sequence[Any]]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *(len(batch) for batch in batches)], dtype=np.int64)
