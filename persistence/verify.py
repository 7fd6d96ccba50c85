"""The proof of the books: everything that holds a balance against the log.

The log is replayed from its first record, ignoring snapshots, and every link of it is checked. Beside the
engine's own replay the counters are added up a second time, independently. Then everything else must agree:
the tables of the projection row by row at the record where their cursor stands, every published snapshot
with the state at its record, array for array, and, if it is given, the live state. Nothing is changed, and
a running shard is not disturbed."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import chain, islice
from typing import Any, Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from engine.kernel.audit import without_reserved
from engine.layout import AccountFlag, LegFlag
from engine.ledger import InvariantBroken, Ledger, LedgerConfig
from engine.record import Record
from engine.shard_state import ShardState
from persistence import snapshots
from persistence.copy_binary import bytes_of, fixed_rows, unpack_fields
from persistence.database import Database, translated
from persistence.errors import LogDamaged
from persistence.history_check import HistoryCheck
from persistence.log_reader import Logged, LogReader
from persistence.pair_audit import PairBook, PairLine, on_their_way, pair_faults
from persistence.projection_rows import (
    ACCOUNT_COLUMNS,
    LEG_COLUMNS,
    MOVE_COLUMNS,
    PARTY_COLUMNS,
    THING_COLUMNS,
    EventRows,
    Fields,
    account_values,
    event_rows,
    leg_values,
)
from persistence.recovery import Replayable
from persistence.snapshot_codec import CorruptSnapshot, State
from persistence.snapshots import Manifest
from persistence.sums import run_sums
from persistence.table_streams import Stream, TableStreams

PROBLEMS_MAX: Final = 100
"""After so many, more of the same kind tell nothing new."""
ROWS_AT_A_TIME: Final = 50_000

_COUNTERS: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


class Verifiable(Replayable, Protocol):
    """State with a ledger in it."""

    ledger: Ledger

    @property
    def reserved(self) -> npt.NDArray[Any]:
        """What is pending in its accounts without a hold (RESERVED)."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked, how much of it, and what is wrong. `lsn` is the last record that was read."""

    ok: bool
    lsn: int
    checked: dict[str, int]
    problems: list[str]
    pairs: list[PairLine] = []  # what crossings with other shards gave it


def merged(reports: Sequence[Report]) -> Report:
    """What was found on several shards, and between them."""
    if len(reports) == 1:
        return reports[0]
    checked: Counter[str] = Counter()
    for report in reports:
        checked.update(report.checked)
    problems = [
        f"shard {shard}: {problem}" for shard, report in enumerate(reports) for problem in report.problems
    ]
    pairs = [report.pairs for report in reports]
    problems += islice(pair_faults(pairs), PROBLEMS_MAX)
    between = {
        "crossings": len({line.name for lines in pairs for line in lines}),
        "crossings_on_their_way": on_their_way(pairs),
        "shards": len(reports),
    }
    return Report(
        ok=not problems,
        lsn=sum(report.lsn for report in reports),
        checked=dict(checked) | between,
        problems=problems,
    )


async def verify(
    database: Database,
    shard: int,
    fresh: Callable[[], Verifiable] | None = None,
    live: tuple[int, State] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Checks one shard. `fresh` makes an empty state, with as much room for ids as the shard itself has.

    `live` is the state of the running shard right after a record, with the record's LSN. `progress` is told
    the LSN after each batch, from another thread."""
    return await asyncio.to_thread(_verify, database, shard, fresh or _empty_state, live, progress)


def _empty_state() -> Verifiable:
    return ShardState("", LedgerConfig(hash_seed=0))


def _verify(
    database: Database,
    shard: int,
    fresh: Callable[[], Verifiable],
    live: tuple[int, State] | None,
    progress: Callable[[int], None] | None,
) -> Report:
    with TableStreams(database, shard) as tables:
        check = _Verification(database, shard, fresh(), tables, live)
        try:
            with LogReader(database, shard, last=check.head) as reader:
                for batch in reader:
                    check.replay(batch)
                    if progress is not None:
                        progress(check.lsn)
        except LogDamaged as damage:
            check.problem(f"the log is damaged at record {damage.lsn}: {damage}")
        check.finish()
        return check.report()


class _Verification:
    """One run. `replay` takes the log in order."""

    def __init__(
        self,
        database: Database,
        shard: int,
        state: Verifiable,
        tables: TableStreams,
        live: tuple[int, State] | None,
    ) -> None:
        self.lsn = 0
        self._database = database
        self._shard = shard
        self._state = state
        self._live = live
        self._problems: list[str] = []
        self._checked = dict.fromkeys(("records", "legs", "accounts", "parties", "things", "moves"), 0)
        head = tables.fetch("head")
        self.head = max(head[0][0] if head else 0, live[0] if live is not None else 0)
        self._pairs = PairBook(shard)
        self._tables = _Tables(shard, tables, self.problem)
        if self._tables.lsn == 0:
            self._tables.finish(state.ledger)
        with database.session_sync(f"tessera {database.schema}/{shard} verify") as session, translated():
            self._manifests = {found.lsn: found for found in snapshots.manifests(session, shard)}

    def problem(self, text: str) -> None:
        """Notes what is wrong."""
        if len(self._problems) < PROBLEMS_MAX:
            self._problems.append(text)

    def replay(self, batch: list[Logged]) -> None:
        """The next records: facts first, then whatever stands at that very place in the log."""
        for logged in batch:
            record = logged.record
            try:
                self._state.replay(record)
            except (InvariantBroken, ValueError, KeyError) as broken:
                raise LogDamaged(f"it can't be replayed: {broken}", self._shard, record.lsn) from broken
            self.lsn = record.lsn
            self._count(record)
            self._tables.add(record)
            self._pairs.add(record)
            if record.lsn == self._tables.lsn:
                self._tables.finish(self._state.ledger)
            if record.lsn in self._manifests:
                self._check_snapshot(self._manifests.pop(record.lsn))
            if self._live is not None and self._live[0] == record.lsn:
                self._compare(self._live[1], "the live state")
                self._live = None
                self._checked["live_state"] = 1

    def finish(self) -> None:
        """After the last record."""
        if self._tables.lsn > self.lsn:
            self.problem(f"the projection is at record {self._tables.lsn}, the log ends at {self.lsn}")
        if self._live is not None:
            self.problem(f"the live state is at record {self._live[0]}, the log ends at {self.lsn}")
        for lsn in self._manifests:
            self.problem(f"there is a snapshot at record {lsn}, the log ends at {self.lsn}")
        try:
            self._state.ledger.check(self._state.reserved)
        except InvariantBroken as broken:
            self.problem(f"the ledger at record {self.lsn} contradicts itself: {broken}")
        self._check_counters()
        self._check_trial_balance()
        for fault in self._pairs.faults(self._tables.history.counters.values):
            self.problem(fault)

    def report(self) -> Report:
        """What came of it."""
        checked = self._checked | self._tables.checked
        return Report(
            ok=not self._problems,
            lsn=self.lsn,
            checked=checked,
            problems=self._problems,
            pairs=self._pairs.lines(),
        )

    def _count(self, record: Record) -> None:
        self._checked["records"] += 1
        self._checked["legs"] += len(record.legs)
        self._checked["accounts"] += len(record.accounts)

    def _check_snapshot(self, manifest: Manifest) -> None:
        name = f"tessera {self._database.schema}/{self._shard} verify"
        with self._database.session_sync(name) as session, translated():
            try:
                snapshot = snapshots.load(session, self._shard, manifest)
            except CorruptSnapshot as corrupt:
                self.problem(f"the snapshot at record {manifest.lsn} is not valid: {corrupt}")
                return
        self._compare(snapshot.state, f"the snapshot at record {manifest.lsn}")
        self._checked["snapshots"] = self._checked.get("snapshots", 0) + 1

    def _compare(self, other: State, name: str) -> None:
        for path in differences(self._state.state(), other):
            self.problem(f"{name} has another {path} than the log gives")

    def _check_counters(self) -> None:
        """The engine's replay and the counters added up here."""
        accounts = without_reserved(self._state.ledger.accounts, self._state.reserved)
        counters = self._tables.history.counters
        for column, name in enumerate(_COUNTERS):
            wrong = np.flatnonzero(accounts[name] != counters.values[: counters.count, column])
            if wrong.size:
                self.problem(f"{name} of account {int(wrong[0])} does not add up")
        self._checked["balances"] = 4 * counters.count

    def _check_trial_balance(self) -> None:
        accounts = without_reserved(self._state.ledger.accounts, self._state.reserved)
        accounts = accounts[accounts["flags"] & int(AccountFlag.ROLLUP) == 0]
        accounts = accounts[np.argsort(accounts["asset"], kind="stable")]
        assets, starts = np.unique(accounts["asset"], return_index=True)
        for kind in ("posted", "pending"):
            debits = run_sums(accounts[f"debits_{kind}"], starts)
            credits_ = run_sums(accounts[f"credits_{kind}"], starts)
            for asset, debit, credit in zip(assets.tolist(), debits, credits_, strict=True):
                if debit != credit:
                    self.problem(f"asset {asset}: {debit} {kind} on the debit side, {credit} on the other")
        self._checked["assets"] = len(assets)


class _Tables:
    """The tables of the projection, as they were when the run began, beside the records they stand for."""

    def __init__(self, shard: int, tables: TableStreams, problem: Callable[[str], None]) -> None:
        cursor = tables.fetch("cursor")
        self.lsn, self._timestamp = cursor[0] if cursor else (0, 0)
        self.checked: dict[str, int] = {}
        self.history = HistoryCheck(shard, tables.open("segments"))
        self._shard = shard
        self._tables = tables
        self._problem = problem
        self._legs: Stream | None = tables.open("legs")
        self._legs_done = False
        self._newest = 0
        self._burnt = _Digest()
        self._key_hashes: list[int] = []
        self._facts = 0  # accounts so far
        self._created: list[npt.NDArray[np.void]] = []
        self._parties: dict[bytes, bytes] = {}
        self._things = _Digest()
        self._moves = _Digest()
        self._requests = _Digest()
        self._crossings = _Digest()
        self._crossing_moves = _Digest()

    def add(self, record: Record) -> None:
        """The next record."""
        self.history.add_accounts(record.accounts)
        burnt = record.legs["flags"] & int(LegFlag.BURNT) != 0
        legs = record.legs[~burnt] if burnt.any() else record.legs
        self.history.add_legs(legs)
        if record.lsn > self.lsn:
            return
        self._check_legs(legs)
        for rows in (record.accounts, record.guards, record.legs):
            if len(rows):
                self._newest = max(self._newest, int(rows["timestamp"].max()))
        for fact in record.legs[burnt]:
            self._burnt.add(_burnt_key(self._shard, fact))
        self._key_hashes += [xxhash.xxh3_64_intdigest(key.encode()) for key in record.keys]
        if record.events:
            self._add_events(event_rows(record))

    def finish(self, ledger: Ledger) -> None:
        """At the record where the projection's cursor stands: the tables hold this and nothing else."""
        if self._timestamp != self._newest:
            self._problem(f"the projection's cursor has timestamp {self._timestamp}, not {self._newest}")
        self.history.finish()
        if self.history.problem:
            self._problem(self.history.problem)
        self.checked["history_segments"] = self.history.segments_count
        if self._legs is not None and self._legs.take(1):
            self._problem("the table leg holds more than the log")
        self._check_accounts(ledger)
        burnt = _Digest()
        for row in self._tables.open("burnt_ids"):
            burnt.add(row)
        self._same(burnt, self._burnt, "burnt_id")
        self._check_events()

    def _check_legs(self, legs: npt.NDArray[np.void]) -> None:
        if self._legs is None:
            return
        for at in range(0, len(legs), ROWS_AT_A_TIME):
            part = legs[at : at + ROWS_AT_A_TIME]
            expected = fixed_rows(LEG_COLUMNS, leg_values(self._shard, part), len(part))
            rows = self._legs.take(len(part))
            self.checked["leg"] = self.checked.get("leg", 0) + len(rows)
            place = _first_difference(bytes_of(expected), b"".join(rows), expected.itemsize)
            if place >= 0:
                timestamp = int(part["timestamp"][min(place, len(part) - 1)])
                self._problem(f"the table leg differs from the log at timestamp {timestamp}")
                self._legs = None
                return

    def _check_accounts(self, ledger: Ledger) -> None:
        """Accounts as they are at this record: creation, guards, closings; and their keys."""
        accounts = ledger.accounts
        stream = self._tables.open("accounts")
        for at in range(0, len(accounts), ROWS_AT_A_TIME):
            part = accounts[at : at + ROWS_AT_A_TIME]
            expected = fixed_rows(ACCOUNT_COLUMNS, account_values(self._shard, at, part), len(part), True)
            size = expected.itemsize - 4  # without the size of the key
            fixed = np.ascontiguousarray(expected.view(np.uint8).reshape(-1, expected.itemsize)[:, :size])
            rows = stream.take(len(part))
            place = _first_difference(bytes_of(fixed), b"".join([row[:size] for row in rows]), size)
            keys = [xxhash.xxh3_64_intdigest(row[size + 4 :]) for row in rows]
            if place < 0 and keys != self._key_hashes[at : at + len(part)]:
                pairs = zip(keys, self._key_hashes[at:], strict=False)
                place = next(n for n, (found, wanted) in enumerate(pairs) if found != wanted)
            if place >= 0:
                self._problem(f"the table account differs from the log at account {at + place}")
                return
        if stream.take(1):
            self._problem("the table account holds more than the log")
        self.checked["account"] = len(accounts)

    def _add_events(self, rows: EventRows) -> None:
        for id, party in rows.parties.items():
            self._parties[id] = _canonical(party, PARTY_COLUMNS)
        for thing in rows.things:
            self._things.add(_canonical(thing, THING_COLUMNS))
        for move in rows.moves:
            self._moves.add(_canonical(move, MOVE_COLUMNS))
        for request in rows.requests:
            self._requests.add(_canonical(request, ()))
        for crossing in rows.crossings:
            self._crossings.add(_canonical(crossing, ()))
        for crossing_move in rows.crossing_moves:
            self._crossing_moves.add(_canonical(crossing_move, ()))

    def _check_events(self) -> None:
        expected = _Digest()
        for party in self._parties.values():
            expected.add(party)
        for table, name, columns, digest in (
            ("party", "parties", PARTY_COLUMNS, expected),
            ("thing", "things", THING_COLUMNS, self._things),
            ("move", "moves", MOVE_COLUMNS, self._moves),
            ("request", "requests", (), self._requests),
            ("crossing", "crossings", (), self._crossings),
            ("crossing_move", "crossing_moves", (), self._crossing_moves),
        ):
            found = _Digest()
            for row in self._tables.open(name):
                found.add(_canonical(unpack_fields(row), columns))
            self._same(found, digest, table)

    def _same(self, found: "_Digest", expected: "_Digest", table: str) -> None:
        self.checked[table] = found.count
        if found.count != expected.count:
            self._problem(f"the table {table} has {found.count} rows, the log gives {expected.count}")
        elif found.total != expected.total:
            self._problem(f"the table {table} holds other rows than the log gives")


class _Digest:
    """Of a set of rows, whatever their order."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0

    def add(self, row: bytes) -> None:
        """One more."""
        self.count += 1
        self.total = (self.total + xxhash.xxh3_128_intdigest(row)) % 2**128


def differences(one: Any, other: Any, path: str = "state") -> Iterable[str]:
    """Where two states differ, as paths; arrays are compared as a whole, with their dtype."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            if key in one and key in other:
                yield from differences(one[key], other[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype != other.dtype or one.shape != other.shape or _raw(one) != _raw(other):
            yield path
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield path
        else:
            parts = enumerate(zip(one, other, strict=True))
            yield from chain.from_iterable(differences(a, b, f"{path}[{n}]") for n, (a, b) in parts)
    elif one != other:
        yield path


def _raw(array: npt.NDArray[Any]) -> memoryview:
    return bytes_of(np.ascontiguousarray(array))


def _first_difference(expected: memoryview, found: bytes, size: int) -> int:
    """The first row that differs, -1 if none does."""
    if expected == found:
        return -1
    rows = min(len(expected), len(found)) // size
    ours = np.frombuffer(expected, np.uint8, rows * size).reshape(rows, size)
    theirs = np.frombuffer(found, np.uint8, rows * size).reshape(rows, size)
    wrong = np.flatnonzero((ours != theirs).any(axis=1))
    return int(wrong[0]) if wrong.size else rows


def _burnt_key(shard: int, fact: np.void) -> bytes:
    return b"".join(
        (
            (3).to_bytes(2, "big"), (2).to_bytes(4, "big"), shard.to_bytes(2, "big"), (8).to_bytes(4, "big"),
            int(fact["timestamp"]).to_bytes(8, "big", signed=True), (16).to_bytes(4, "big"),
            int(fact["id_hi"]).to_bytes(8, "big"), int(fact["id_lo"]).to_bytes(8, "big"),
        )
    )  # fmt: skip


_JSON: Final = frozenset({"profile", "attrs", "lines", "inputs", "metadata"})


def _canonical_json(text: bytes) -> bytes:
    """PostgreSQL keeps the value of a number, not how it was written: 1e22 comes back with all its zeros."""
    return json.dumps(json.loads(text, parse_float=_number), sort_keys=True).encode()


def _number(text: str) -> int | str:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else str(number.normalize())


def _canonical(fields: Fields, columns: Iterable[str]) -> bytes:
    """A row in one form only: JSON can be written in many."""
    names = list(columns) or [""] * len(fields)
    parts: list[bytes | None] = []
    for name, field in zip(names, fields, strict=True):
        if name in _JSON and field is not None:
            parts.append(_canonical_json(field[1:]))
        else:
            parts.append(field)
    return msgspec.msgpack.encode(parts)
