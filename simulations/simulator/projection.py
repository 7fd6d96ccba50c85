"""The projection, simulated: what SQL would know of a shard's records, for turns that have forgotten it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from actors.projector_thread import ProjectorThread
from engine.facts import MoveFact, RequestFact
from engine.ids import id_from_bytes
from engine.layout import LEG_FACT, HoldStatus, LegFlag, ids_list
from engine.ledger import LoadedLegs
from engine.moves import LoadedRequests, UnknownRequests
from engine.record import Record, decode
from persistence.errors import ProjectionConflict

if TYPE_CHECKING:
    from simulations.simulator.server import Server

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_RESOLVED = {
    int(LegFlag.POST_PENDING): HoldStatus.POSTED,
    int(LegFlag.VOID_PENDING): HoldStatus.VOIDED,
    int(LegFlag.EXPIRY): HoldStatus.EXPIRED,
}


class Projection:
    """The tables of one shard, up to record `lsn`."""

    def __init__(self) -> None:
        self.lsn = 0
        self.legs: dict[int, np.void] = {}
        self.holds: dict[int, int] = {}  # by id of the pending leg: its status
        self.requests: dict[int, MoveFact | RequestFact] = {}
        self.moves: dict[int, MoveFact] = {}
        self.references: dict[tuple[int, str], int] = {}  # by payer and reference

    def take(self, record: Record) -> None:
        """Add a record's facts."""
        assert record.lsn == self.lsn + 1
        self.lsn = record.lsn
        for row in record.legs:
            flags = int(row["flags"])
            if not flags & LegFlag.EXPIRY:
                id = int(row["id_hi"]) << 64 | int(row["id_lo"])
                self.legs[id] = row
                if flags & LegFlag.PENDING:
                    self.holds[id] = HoldStatus.OPEN
            for flag, status in _RESOLVED.items():
                if flags & flag:
                    self._resolve(row, flags, status)
        for event in record.events:
            if isinstance(event, MoveFact | RequestFact):
                self.requests[id_from_bytes(event.request)] = event
            if isinstance(event, MoveFact) and event.accepted:
                self.moves[id_from_bytes(event.move)] = event
                if event.reference is not None and event.seq == 0:
                    key = id_from_bytes(event.payer), event.reference
                    self.references[key] = id_from_bytes(event.move)

    def _resolve(self, row: np.void, flags: int, status: int) -> None:
        if flags & LegFlag.KEEP_OPEN and row["amount"] != row["held"]:
            return
        hold = int(row["pending_hi"]) << 64 | int(row["pending_lo"])
        self.holds[hold] = status
        pending = self.legs[hold].copy()
        pending["held"] = row["held"]
        self.legs[hold] = pending


class SimulatedProjector:
    """Takes the place of a `ProjectorThread`."""

    def __init__(self, server: "Server", shard: int) -> None:
        self._server = server
        self._shard = shard
        self._tables = server.projections.setdefault(shard, Projection())
        self._advanced: Callable[[], None] = lambda: None
        self.lsn = self._tables.lsn
        self.timestamp = 0

    @property
    def handed(self) -> int:
        """The last record that was given to it."""
        return self.lsn

    def given(self) -> ProjectorThread:
        """It, as what it stands for."""
        return cast(ProjectorThread, self)

    def on_advance(self, callback: Callable[[], None]) -> None:
        """Have this called after every transaction."""
        self._advanced = callback

    async def extend(self, records: Sequence[Record], _at_once: int, _pieces: int) -> None:
        """Project records. Raises ProjectionConflict if somebody else did."""
        await asyncio.sleep(self._server.faults.delay(self._server.faults.projection_s))
        if self._tables.lsn != self.lsn:
            self.lsn = self._tables.lsn
            raise ProjectionConflict("another projector is at work", self._shard)
        for record in records:
            self._tables.take(record)
        self.lsn = self._tables.lsn
        self._advanced()

    def hurry(self, _hurried: bool) -> None:
        """It has no pace of its own."""

    def gap(self) -> None:
        """It waits for none."""

    async def flush(self) -> None:
        """Nothing is kept back."""

    async def read_back(self, start: int, _legs_max: int) -> list[Record]:
        """Records from the log."""
        await asyncio.sleep(self._server.faults.delay(0.003))
        return [decode(payload) for _, _, payload in self._server.tail(self._shard, start, 8)]

    async def close(self) -> None:
        """There is nothing to end."""


class SimulatedLookups:
    """What turns ask the tables of all shards."""

    def __init__(self, server: "Server") -> None:
        self._server = server

    async def find_legs(self, ids: npt.NDArray[np.uint64]) -> LoadedLegs:
        """What is known of leg ids."""
        await asyncio.sleep(self._server.faults.delay(0.001))
        found: list[tuple[int, Any, int]] = []
        for id in ids_list(ids):
            for tables in self._server.projections.values():
                row = tables.legs.get(id)
                if row is not None:
                    found.append((id, row, tables.holds.get(id, 0)))
        found.sort(key=lambda one: one[0])
        facts = np.zeros(len(found), LEG_FACT)
        for place, (_, row, _) in enumerate(found):
            facts[place] = row
        return LoadedLegs(facts, np.array([status for _, _, status in found], np.uint8))

    async def find_requests(self, unknown: UnknownRequests) -> LoadedRequests:
        """What is known of requests and Moves."""
        await asyncio.sleep(self._server.faults.delay(0.001))
        loaded = LoadedRequests({}, {}, {})
        for tables in self._server.projections.values():
            loaded = LoadedRequests(
                {**loaded.requests, **_found(unknown.requests, tables.requests)},
                {**loaded.moves, **_found(unknown.moves, tables.moves)},
                {**loaded.references, **_found(unknown.references, tables.references)},
            )
        return loaded


def _found(wanted: Iterable[_Key], known: Mapping[_Key, _Value]) -> dict[_Key, _Value]:
    return {key: known[key] for key in wanted if key in known}
