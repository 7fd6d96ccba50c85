"""Everything a shard knows: its ledger, its Moves, its Parties and Things, and where in the log that stands.

It changes in two ways only. Live, a turn decides (through the parts) and then `advance` takes note of the
record that says so. In recovery, `replay` applies a record's facts without judging again. Both lead to the
same state, array for array.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from engine.crossing.machine import Crossings
from engine.directory import Directory
from engine.facts import Envelope, Event, KnownThingFact, MoveFact, PartyFact, RequestFact, ThingFact
from engine.kinds import MoveKind
from engine.layout import ACCOUNT_FACT, GUARD_FACT, LEG_FACT
from engine.ledger import GENERATIONS_KEPT, NOTHING_RESERVED, Ledger, LedgerConfig
from engine.moves import MoveBook
from engine.placement import ONE_SHARD, Placement
from engine.record import FIRST_CHAIN, Record
from engine.rows import Rows, joined
from engine.standard_kinds import STANDARD_KINDS


class ShardState:
    """The state of one shard. `lsn`, `epoch`, `time` and `chain` are those of the last record it has seen.

    `chain` is not part of what `state()` gives: it is a property of the record's bytes, which whoever replays
    them knows and sets.
    """

    def __init__(
        self,
        tenant: str,
        config: LedgerConfig,
        placement: Placement = ONE_SHARD,
        shard: int = 0,
        kinds: Iterable[MoveKind] = STANDARD_KINDS,
    ) -> None:
        self.tenant = tenant
        self.placement = placement
        self.shard = shard
        self.ledger = Ledger(config)
        self.directory = Directory()
        self.moves = MoveBook(
            tenant, self.ledger, self.directory, kinds=kinds, placement=placement, shard=shard
        )
        self.crossings = (
            Crossings(tenant, placement, shard, self.ledger, self.directory) if placement.shards > 1 else None
        )
        self.lsn = 0
        self.epoch = 0
        self.time = 0  # ns
        self.chain = FIRST_CHAIN  # hash of the last record
        self._logged_window = (0, 0)  # generation and dropped of the last record
        self._ends: dict[int, int] = {}  # by generation that is there and over: its last record

    def begin_turn(self) -> None:
        """Start a new generation of what is remembered if the present one is full, of leg ids or of answers.

        Raises WindowFull if no generation is free.
        """
        before = self.ledger.generation
        self.ledger.begin_turn()
        if self.moves.window.full and self.ledger.generation == before:
            self.ledger.begin_generation()
        self.moves.set_generation(self.ledger.generation, self.ledger.dropped)

    def forget(self, projected_lsn: int) -> None:
        """Drop generations of ids that PostgreSQL has by now: all records they ended in are projected. Stamps
        would not do: Moves may have none of their own."""
        droppable = self.ledger.dropped
        while (
            droppable <= self.ledger.generation - GENERATIONS_KEPT and self._ends[droppable] <= projected_lsn
        ):
            droppable += 1
        if droppable > self.ledger.dropped:
            self.ledger.drop_generations(droppable)
            self.moves.set_generation(self.ledger.generation, self.ledger.dropped)

    @property
    def reserved(self) -> Rows:
        """What is pending in accounts without a hold (RESERVED): chains over several shards may take it."""
        return NOTHING_RESERVED if self.crossings is None else self.crossings.tables.reserved

    @property
    def window_changed(self) -> bool:
        """Whether the id window has turned since the last record, which is a fact to be logged."""
        return (self.ledger.generation, self.ledger.dropped) != self._logged_window

    def next_record(
        self,
        shard: int,
        epoch: int,
        time: int,
        accounts: list[Rows],
        keys: list[str],
        guards: list[Rows],
        legs: list[Rows],
        events: list[Event],
        envelopes: Sequence[Envelope] = (),
    ) -> Record:
        """The record that says what a turn decided; it comes right after the last one. `envelopes` say on
        whose word; without any, it was on nobody's."""
        facts = joined(legs, LEG_FACT)
        nobody = Envelope(tenant=self.tenant, leg_count=len(facts), event_first=1, event_count=len(events))
        return Record(
            shard=shard,
            lsn=self.lsn + 1,
            epoch=epoch,
            time=time,
            generation=self.ledger.generation,
            dropped=self.ledger.dropped,
            previous=self.chain,
            accounts=joined(accounts, ACCOUNT_FACT),
            keys=keys,
            guards=joined(guards, GUARD_FACT),
            legs=facts,
            events=[*(envelopes or (nobody,)), *events],
        )

    def opening_record(self, shard: int, epoch: int, time: int) -> Record:
        """The record that a new writer begins with."""
        record = self.next_record(shard, epoch, time, [], [], [], [], [])
        return Record(
            **{field: getattr(record, field) for field in record.__struct_fields__} | {"kind": "opening"}
        )

    def advance(self, record: Record, chain: bytes) -> None:
        """Take note of a record whose facts the state has already."""
        self.lsn, self.epoch, self.time = record.lsn, record.epoch, record.time
        self.chain = chain
        for generation in range(self._logged_window[0], record.generation):
            self._ends[generation] = record.lsn - 1
        for generation in range(self._logged_window[1], record.dropped):
            self._ends.pop(generation, None)
        self._logged_window = (record.generation, record.dropped)

    def replay(self, record: Record) -> None:
        """Apply the next record's facts. `chain` is then unknown, until it is set."""
        self.ledger.set_generation(record.generation, record.dropped)
        self.moves.set_generation(record.generation, record.dropped)
        if len(record.accounts):
            self.ledger.replay_accounts(record.accounts)
        if len(record.guards):
            self.ledger.replay_guards(record.guards)
        if len(record.legs):
            self.ledger.replay_legs(record.legs)
            if self.crossings is not None:
                self.crossings.note_legs(record.legs)
        for event in record.events:
            if isinstance(event, MoveFact):
                self.moves.replay(event)
            elif isinstance(event, RequestFact):
                self.moves.remember(event)
            elif isinstance(event, PartyFact | ThingFact | KnownThingFact):
                self.directory.replay(event)
            elif not isinstance(event, Envelope):
                assert self.crossings is not None, "one shard has no crossings"
                self.crossings.replay(event, record.epoch)
        self.advance(record, b"")

    def state(self) -> dict[str, Any]:
        """Everything, as plain data; equal for equal histories, array for array."""
        return {
            "ledger": self.ledger.state(),
            "directory": self.directory.state(),
            "moves": self.moves.state(),
            **({} if self.crossings is None else {"crossings": self.crossings.state()}),
            "position": {
                "lsn": self.lsn,
                "epoch": self.epoch,
                "time": self.time,
                "window": list(self._logged_window),
                "ends": [[generation, lsn] for generation, lsn in self._ends.items()],
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `state()` gave."""
        self.ledger.restore(state["ledger"])
        self.directory.restore(state["directory"])
        self.moves.restore(state["moves"])
        if self.crossings is not None:
            self.crossings.restore(state["crossings"])
        position = state["position"]
        self.lsn, self.epoch, self.time = position["lsn"], position["epoch"], position["time"]
        self.chain = b""
        self._logged_window = (position["window"][0], position["window"][1])
        self._ends = dict(position["ends"])
