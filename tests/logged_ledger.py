"""A ledger's life written to a log on PostgreSQL, and an obvious model of what can be asked about it.

`lived` drives a ledger with the workload that the kernel is tested with, so that the log holds everything
that may happen: holds and their ends, chains, closings, roll-ups, imports, burnt ids, guards.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

from engine.facts import Event
from engine.layout import LegFlag
from engine.ledger import NOTHING_RESERVED, Ledger, LedgerConfig
from engine.record import Record, chain_hash, encode
from engine.reference import LegFact
from persistence.database import Database
from persistence.log import Log
from tests import ledgers
from tests.contract.ledger_pair import LedgerPair
from tests.contract.leg_workload import Profile, Workload
from tests.ledgers import SMALL, leg_facts

Counters = tuple[int, int, int, int]
"""Debits pending, debits posted, credits pending, credits posted."""


def lived(seed: int, blocks: int, profile: Profile | None = None) -> LedgerPair:
    """A ledger (and its reference model) after so many blocks of legs and what comes between them."""
    random = Random(seed)
    pair = LedgerPair(SMALL)
    workload = Workload(random, pair.reference, profile or Profile(large_amounts=0.0))
    pair.create_accounts([workload.first_accounts()], workload.now)
    for _ in range(blocks):
        if random.random() < 0.7:  # else the turn goes on
            pair.kernel.end_turn()
        workload.let_time_pass()
        kind = random.random()
        if kind < 0.1:
            pair.create_accounts(workload.account_batches(), workload.now)
        elif kind < 0.15:
            pair.set_guards(*workload.guards(), workload.now)
        elif kind < 0.3:
            pair.expire(workload.now, 10)
        else:
            messages, of_moves = workload.block(12, 6)
            pair.apply_block(messages, workload.now, of_moves)
    pair.kernel.end_turn()
    return pair


class LedgerState:
    """What a log determines when it holds legs and accounts only."""

    def __init__(self, config: LedgerConfig = SMALL) -> None:
        self.ledger = Ledger(config)
        self.reserved = NOTHING_RESERVED

    def state(self) -> dict[str, Any]:
        """The ledger's."""
        return {"ledger": self.ledger.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """As it was."""
        self.ledger.restore(state["ledger"])

    def replay(self, record: Record) -> None:
        """Without judging."""
        self.ledger.set_generation(record.generation, record.dropped)
        self.ledger.replay_accounts(record.accounts)
        self.ledger.replay_guards(record.guards)
        self.ledger.replay_legs(record.legs)


async def write_log(
    database: Database,
    log: Sequence[ledgers.Record],
    events: Sequence[list[Event]] = (),
    shard: int = 0,
) -> list[Record]:
    """Appends the records after those that are there, the first of them an opening record; returns them
    all."""
    events = [*events, *([] for _ in range(len(log) - len(events)))]
    written: list[Record] = []
    async with await Log.open(database, shard) as writer:
        previous, lsn = writer.head.chain, writer.head.lsn
        facts: list[dict[str, Any]] = [{"kind": "opening"}]
        for life, happened in zip(log, events, strict=True):
            facts.append(
                {
                    "generation": life.generation,
                    "dropped": life.dropped,
                    "accounts": life.accounts,
                    "keys": [key_of(row) for row in life.accounts],
                    "guards": life.guards,
                    "legs": life.legs,
                    "events": happened,
                }
            )
        rows = []
        for fact in facts:
            lsn += 1
            record = Record(shard=shard, lsn=lsn, epoch=writer.epoch, time=lsn, previous=previous, **fact)
            payload = encode(record)
            previous = chain_hash(payload)
            rows.append((lsn, writer.epoch, payload))
            written.append(record)
        await writer.append(rows)
    return written


def key_of(account: Any) -> str:
    """Some accounts have a key, some have none."""
    number = int(account["id_lo"])
    return f"L:some/{number % 7}/{number}" if number % 3 else ""


class Line(NamedTuple):
    """A leg or expiry in an account's history: its side, and the account's counters right after it."""

    fact: LegFact
    side: str
    counters: Counters


class ObviousHistory:
    """The history of every account, leg by leg, straight from the specification."""

    def __init__(self, log: Sequence[ledgers.Record]) -> None:
        self.lines: dict[int, list[Line]] = {}  # by ordinal
        self._parents: list[int] = []
        for record in log:
            for account in record.accounts:
                self.lines[len(self._parents)] = []
                self._parents.append(int(account["parent"]))
            for fact in leg_facts(record.legs):
                if not fact.flags & LegFlag.BURNT:
                    self._add(fact)

    def counters(self, ordinal: int, at: int | None = None) -> Counters:
        """Right after everything recorded up to and at a time."""
        past = [line for line in self.lines[ordinal] if at is None or line.fact.timestamp <= at]
        return past[-1].counters if past else (0, 0, 0, 0)

    def business(self, ordinal: int, at: int) -> tuple[int, int]:
        """Sums of Entries, debits and credits, as of a business time."""
        lines = [
            line for line in self.lines[ordinal] if business_time(line.fact) <= at and is_entry(line.fact)
        ]
        return (
            sum(line.fact.amount for line in lines if line.side == "debit"),
            sum(line.fact.amount for line in lines if line.side == "credit"),
        )

    def _add(self, fact: LegFact) -> None:
        above_debit, above_credit = self._above(fact.debit), self._above(fact.credit)
        for ordinal in [fact.debit, *(set(above_debit) - set(above_credit))]:
            self._line(ordinal, fact, "debit")
        for ordinal in [fact.credit, *(set(above_credit) - set(above_debit))]:
            self._line(ordinal, fact, "credit")

    def _line(self, ordinal: int, fact: LegFact, side: str) -> None:
        counters = list(self.counters(ordinal))
        pending, posted = effect(fact)
        place = 0 if side == "debit" else 2
        counters[place] += pending
        counters[place + 1] += posted
        a, b, c, d = counters
        self.lines[ordinal].append(Line(fact, side, (a, b, c, d)))

    def _above(self, ordinal: int) -> list[int]:
        found = []
        while (ordinal := self._parents[ordinal]) >= 0:
            found.append(ordinal)
        return found


def effect(fact: LegFact) -> tuple[int, int]:
    """What a leg adds to the pending and the posted counter of its side."""
    if fact.flags & (LegFlag.VOID_PENDING | LegFlag.EXPIRY):
        return -fact.held, 0
    if fact.flags & LegFlag.POST_PENDING:
        partial = fact.flags & LegFlag.KEEP_OPEN and fact.amount < fact.held
        return -fact.amount if partial else -fact.held, fact.amount
    if fact.flags & LegFlag.PENDING:
        return fact.amount, 0
    return 0, fact.amount


def is_entry(fact: LegFact) -> bool:
    """Whether it changed posted balances."""
    return not fact.flags & (LegFlag.PENDING | LegFlag.VOID_PENDING | LegFlag.EXPIRY | LegFlag.BURNT)


def business_time(fact: LegFact) -> int:
    """When it happened in business terms; a Move's leg has it as a signed number, for there was a time
    before 1970."""
    if not fact.flags & LegFlag.OF_MOVE:
        return fact.timestamp
    return (fact.user_data_64 + 2**63) % 2**64 - 2**63
