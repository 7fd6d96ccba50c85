"""The projection: tables for SQL, derived from the log, exactly once.

A projector reads the records of one shard in order and writes their rows by COPY BINARY. One transaction
takes a group of records: it copies the rows, and moves the shard's cursor from where the group before left
it to this group's end, which fails unless exactly one row is there. So a record is projected as a whole or
not at all, never twice, whatever dies in between; and of two projectors of one shard only one gets on.

Groups are written by two sessions in turn, so that PostgreSQL works on two cores. A group commits only after
the one before it has, so readers see every record with all that came before it.

The counters of every account are kept in memory, so that the history of an account carries its balances;
they are read from the tables at the start and after every failure.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from engine.layout import ACCOUNT_FACT, CEILING_UNSET, FLOOR_UNSET, LEG_FACT, AccountFlag, LegFlag
from engine.record import Record
from engine.rows import chosen, joined
from persistence import segments
from persistence.copy_binary import Column, blocks_of, unpack_rows
from persistence.database import Database, Session, translated
from persistence.errors import (
    ConnectionLost,
    DatabaseUnreachable,
    ProjectionConflict,
    ProjectionGap,
    QueryFailed,
)
from persistence.log_reader import LogReader
from persistence.projection_rows import (
    ACCOUNT_COLUMNS,
    BURNT_COLUMNS,
    CROSSING_COLUMNS,
    CROSSING_MOVE_COLUMNS,
    LEG_COLUMNS,
    MOVE_COLUMNS,
    PARTY_COLUMNS,
    REQUEST_COLUMNS,
    THING_COLUMNS,
    Buffers,
    Rows,
    account_rows,
    burnt_rows,
    event_rows,
    fold_parties,
    leg_rows,
    packed,
)
from persistence.statements import statements

GROUP_LEGS_MAX: Final = 200_000
"""How many legs one transaction takes, unless a single record has more."""
INLINE_FACTS_MAX: Final = 1_000
"""Up to here rows are built on the event loop; more would hold it up, so a thread builds them."""
CHUNK_LEGS: Final = 25_000
"""How many rows of legs are built at a time, while those before them are on their way."""
SESSIONS: Final = 2
"""How many groups are written at a time."""
SPREAD_CHUNK_LEGS: Final = 2_000
"""The same while a group is spread over time: a processor that builds rows is taken, too."""
GAP_MAX_S: Final = 0.02
"""How long a piece of what is spread waits for a commit of the log to be over."""
SPREAD_BYTES_MIN: Final = 8_192
"""A piece has so many bytes at least …"""
SPREAD_BYTES_MAX: Final = 65_536
"""… and if it came to more than so many, the group is not spread: PostgreSQL would hardly rest between
them."""
ATTEMPTS_MAX: Final = 3
"""How often a group is tried when the session breaks, before the caller hears of it."""

_SQL: Final = statements("projection")
_COUNTER_COLUMNS: Final = (
    Column("ordinal", "int4"),
    Column("parent", "int4"),
    Column("flags", "int4"),
    Column("debits_pending", "int8"),
    Column("debits_posted", "int8"),
    Column("credits_pending", "int8"),
    Column("credits_posted", "int8"),
)
_CLOSING: Final = int(LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT)
_RELEASING: Final = int(LegFlag.VOID_PENDING | LegFlag.EXPIRY)
_CLOSED: Final = int(AccountFlag.CLOSED)
_UNIQUE_VIOLATION: Final = "23505"


class Projector:
    """Projects one shard. `start` before `project`; one task at a time."""

    def __init__(self, database: Database, shard: int) -> None:
        self.shard = shard
        self.lsn = 0
        """The last record that the tables contain."""
        self.timestamp = 0
        """The newest timestamp in them. What is not younger survives a crash of PostgreSQL in the tables."""
        self.handed = 0
        """The last record that the tables contain once what is being written is committed."""
        self.advanced: Callable[[], None] = lambda: None
        """Called after every commit."""
        self.hurried = False
        """Set by any thread while somebody waits for what is being written: nothing is spread then."""
        self.spreading = False
        """Whether what is being written waits for gaps between commits of the log."""
        self._database = database
        self._sessions: list[Session] = []  # none: what is kept in memory must be read again
        self._writing: deque[asyncio.Task[None]] = deque()  # a session each, in order of their records
        self._groups = 0  # begun by these sessions
        self._gap = asyncio.Event()  # set after a commit of the log
        self._remembers = False  # whether counters and closings below are those at `lsn`
        self._counters = segments.Counters()
        self._closed: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)  # by account ordinal

    async def start(self) -> None:
        """Connects, and reads where the projection is; what its accounts have is read with the first records,
        so that nobody waits for it who only writes the log. Raises DatabaseUnreachable."""
        await self.close()
        try:
            for _ in range(SESSIONS):
                self._sessions.append(await self._connect())
            session = self._sessions[0]
            with translated():
                await session.execute(_SQL["create_cursor"], (self.shard,))
                cursor = await (await session.execute(_SQL["cursor"], (self.shard,))).fetchone()
        except BaseException:
            await self.close()
            raise
        assert cursor is not None
        self.lsn, self.timestamp = cursor
        self.handed = self.lsn
        self._groups = 0
        self._remembers = False

    async def _connect(self) -> Session:
        session = await self._database.connect(f"tessera {self._database.schema}/{self.shard} projection")
        try:
            with translated():
                await session.execute(_SQL["commit_synchronously"])
                await session.execute(_SQL["party_buffer"])
        except BaseException:
            await session.close()
            raise
        return session

    async def close(self) -> None:
        """Ends the sessions, and whatever they are writing."""
        self.spreading = False
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)  # the first error was told already
        self._writing.clear()
        self.handed = self.lsn
        while self._sessions:
            await self._sessions.pop().close()

    async def project(self, records: Sequence[Record]) -> None:
        """Puts the records into the tables, in transactions of at most GROUP_LEGS_MAX legs.

        They must follow each other; those that the tables contain already are passed over. A broken session
        is replaced. Raises DatabaseUnreachable (try again later), ProjectionConflict, ProjectionGap; then
        the last groups may be in the tables or not, and `lsn` tells after the next `start` or `project`.
        """
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                await self.extend(records)
                await self.flush()
                return
            except ConnectionLost as lost:
                if attempt == ATTEMPTS_MAX:
                    raise DatabaseUnreachable(
                        f"the projection's session broke {attempt} times: {lost}", attempt, 0.0
                    ) from lost

    async def extend(self, records: Sequence[Record], at_once: int = SESSIONS, pieces: int = 0) -> None:
        """As `project`, but returns while the last of the records are still being written, at most `at_once`
        groups together, each in about so many `pieces` if there is a number: every piece waits for the next
        `gap`, so that commits of the log seldom find a processor taken.

        What goes wrong with those is raised by the next call, or by `flush`; ConnectionLost among it. Then
        the records after `lsn` must be given again.
        """
        try:
            if not self._sessions:
                await self.start()
            if not self._remembers:
                await self._remember()
            following = [record for record in records if record.lsn > self.handed]
            self._check_sequence(following)
            for group in _groups(following):
                await self._begin(group, at_once, pieces)
        except BaseException:
            await self.close()
            raise

    def gap(self) -> None:
        """Say that a commit of the log is over, and PostgreSQL has a moment."""
        self._gap.set()

    async def flush(self) -> None:
        """Returns when all that was given is in the tables."""
        try:
            while self._writing:
                await self._end_oldest()
        except BaseException:
            await self.close()
            raise

    async def read_back(self, start: int, legs_max: int) -> list[Record]:
        """Records from the log, from `start` on: as many as come to about `legs_max` legs, at least one if it
        is there."""
        return await asyncio.to_thread(self._read_back, start, legs_max)

    def _read_back(self, start: int, legs_max: int) -> list[Record]:
        records: list[Record] = []
        legs = 0
        with LogReader(self._database, self.shard, after=start - 1) as reader:
            for logged in itertools.chain.from_iterable(reader):
                records.append(logged.record)
                legs += len(logged.record.legs)
                if legs >= legs_max:
                    break
        return records

    async def _begin(self, records: Sequence[Record], at_once: int, pieces: int) -> None:
        self.spreading = pieces > 0
        group = await self._make(records)
        if pieces:
            group = group._replace(piece_bytes=_piece_bytes(group, pieces))
        while len(self._writing) >= at_once:
            await self._end_oldest()
        session = self._sessions[self._groups % len(self._sessions)]
        before = self._writing[-1] if self._writing else None
        self._writing.append(asyncio.create_task(self._write(session, group, before)))
        self._groups += 1
        self.handed = group.last_lsn

    async def _end_oldest(self) -> None:
        await asyncio.wait([self._writing[0]])
        self._writing.popleft().result()

    async def _make(self, records: Sequence[Record]) -> "_Group":
        """The rows of the next group, but for its legs: those are built as they are sent."""
        size = sum(len(record.legs) + len(record.accounts) + len(record.events) for record in records)
        group: _Group = await self._in_thread(size, _build, self.shard, self._counters.count, records)
        self._counters.add_accounts(np.ascontiguousarray(group.accounts["parent"]))
        await self._pause()
        touched = await self._in_thread(size, self._counters.add_legs, group.legs)
        await self._pause()
        history = await self._in_thread(size, self._counters.segment_rows, self.shard, group.legs, touched)
        group.copies.append(("account_history", segments.COLUMNS, [history]))
        return group

    async def _write(self, session: Session, group: "_Group", before: asyncio.Task[None] | None) -> None:
        """Writes a group; what depends on the group before it, and the commit, wait until that one is
        committed."""
        with translated():
            async with session.transaction():
                await self._copy_group(session, group)
                if before is not None:
                    await asyncio.wait([before])
                    before.result()
                timestamp = max(self.timestamp, group.timestamp)
                await self._advance(session, group.last_lsn, timestamp)
                closed = await self._closings(session, group.accounts, group.legs)
                if group.parties:
                    await session.execute(_SQL["merge_parties"])
                await self._write_guards(session, group.guards)
                await self._write_closings(session, closed)
        self.lsn, self.timestamp = group.last_lsn, timestamp
        self.advanced()

    async def _copy_group(self, session: Session, group: "_Group") -> None:
        try:
            with translated():
                await self._copy_legs(session, group.legs, group.piece_bytes)
                for table, columns, buffers in group.copies:
                    await self._copy(session, table, columns, buffers, group.piece_bytes)
        except QueryFailed as failure:
            if failure.sqlstate != _UNIQUE_VIOLATION:
                raise
            raise ProjectionConflict(
                f"rows of the projection of shard {self.shard} after record {self.lsn} are there already: "
                f"another projector is at work, or the tables were changed ({failure})",
                self.shard,
            ) from failure

    def _check_sequence(self, records: Sequence[Record]) -> None:
        for expected, record in enumerate(records, self.handed + 1):
            if record.lsn != expected or record.shard != self.shard:
                raise ProjectionGap(
                    f"the projection of shard {self.shard} needs record {expected} next, not {record.lsn}",
                    self.shard,
                    expected,
                    record.lsn,
                )

    async def _remember(self) -> None:
        """Reads the counters that the tables have. Raises ProjectionConflict if they have moved on."""
        session = self._sessions[0]
        with translated():
            async with session.transaction():
                await session.execute(_SQL["one_moment"])
                cursor = await (await session.execute(_SQL["cursor"], (self.shard,))).fetchone()
                if cursor != (self.lsn, self.timestamp):
                    raise self._moved_on()
                await self._read_counters(session)
        self._remembers = True

    def _moved_on(self) -> ProjectionConflict:
        return ProjectionConflict(
            f"the projection of shard {self.shard} is not at record {self.lsn} any more: "
            "another projector is at work, or the cursor was changed",
            self.shard,
        )

    async def _advance(self, session: Session, lsn: int, timestamp: int) -> None:
        moved = await session.execute(
            _SQL["advance"],
            {"shard": self.shard, "expected": self.lsn, "next": lsn, "timestamp": timestamp},
        )
        if moved.rowcount != 1:
            raise self._moved_on()

    async def _copy_legs(self, session: Session, legs: Rows, piece_bytes: int) -> None:
        if len(legs) == 0:
            return
        async with session.cursor().copy(_copy_statement("leg", _names(LEG_COLUMNS))) as copy:
            async for block in self._leg_blocks(legs, SPREAD_CHUNK_LEGS if piece_bytes else CHUNK_LEGS):
                await self._write_block(copy, block, piece_bytes)

    async def _copy(
        self, session: Session, table: str, columns: Sequence[str], buffers: Buffers, piece_bytes: int
    ) -> None:
        if not any(len(buffer) for buffer in buffers):
            return
        async with session.cursor().copy(_copy_statement(table, columns)) as copy:
            for block in blocks_of(buffers):
                await self._write_block(copy, block, piece_bytes)

    async def _write_block(self, copy: psycopg.AsyncCopy, block: memoryview, piece_bytes: int) -> None:
        """Send a block, whole or, if pieces have a size, in pieces."""
        sent = 0
        while piece_bytes and len(block) - sent > piece_bytes and not self.hurried:
            await copy.write(block[sent : sent + piece_bytes])
            sent += piece_bytes
            await self._pause()
        await copy.write(block[sent:])

    async def _pause(self) -> None:
        """While a group is spread over time, wait for the next gap, but not long."""
        if not self.spreading or self.hurried:
            return
        self._gap.clear()
        try:
            async with asyncio.timeout(GAP_MAX_S):
                await self._gap.wait()
        except TimeoutError:
            return

    async def _leg_blocks(self, legs: Rows, size: int) -> AsyncIterator[memoryview]:
        """The stream of all rows, so many legs at a time; the next chunk is built while one is written."""
        chunks = [legs[at : at + size] for at in range(0, len(legs), size)]
        buffers: Buffers = await self._in_thread(len(legs), leg_rows, self.shard, chunks[0])
        following: asyncio.Future[Any] | None = None
        try:
            for position in range(len(chunks)):
                if position + 1 < len(chunks):
                    building = self._in_thread(len(legs), leg_rows, self.shard, chunks[position + 1])
                    following = asyncio.ensure_future(building)
                last = position + 1 == len(chunks)
                for block in blocks_of(buffers, header=position == 0, trailer=last):
                    yield block
                if following is not None and not last:
                    buffers = await following
        finally:
            if following is not None:
                await asyncio.wait([following])

    async def _write_guards(self, session: Session, guards: dict[int, tuple[int, int]]) -> None:
        if not guards:
            return
        floors = [None if floor == FLOOR_UNSET else floor for floor, _ in guards.values()]
        ceilings = [None if ceiling == CEILING_UNSET else ceiling for _, ceiling in guards.values()]
        given = {"shard": self.shard, "ordinals": list(guards), "floors": floors, "ceilings": ceilings}
        await session.execute(_SQL["guard"], given)

    async def _write_closings(self, session: Session, closed: dict[int, bool]) -> None:
        if not closed:
            return
        given = {"shard": self.shard, "ordinals": list(closed), "closed": list(closed.values())}
        await session.execute(_SQL["close"], given)

    async def _closings(self, session: Session, accounts: Rows, legs: Rows) -> dict[int, bool]:
        """Which accounts the legs leave closed or open again, by ordinal; kept in mind for later legs too.

        A leg with a closing flag closes; the void or expiry of that very hold opens again. Only releases
        that touch an account which is closed, or is being closed here, need a look at the hold.
        """
        self._closed = np.concatenate((self._closed, accounts["flags"] & _CLOSED != 0))
        closing = np.flatnonzero(legs["flags"] & _CLOSING != 0)
        touched = self._closed.copy() if len(closing) else self._closed
        touched[legs["debit"][closing]] = True
        touched[legs["credit"][closing]] = True
        releasing = np.flatnonzero(legs["flags"] & _RELEASING != 0)
        releasing = releasing[touched[legs["debit"][releasing]] | touched[legs["credit"][releasing]]]
        if len(closing) == 0 and len(releasing) == 0:
            return {}
        holds = {_id(legs[i], "id"): int(legs["flags"][i]) for i in closing}
        earlier = {_id(legs[i], "pending") for i in releasing} - holds.keys()
        if earlier:
            ids = [f"{id:032x}" for id in earlier]
            rows = await (await session.execute(_SQL["closing_flags"], (ids,))).fetchall()
            holds |= {id.int: flags for id, flags in rows}
        changed: dict[int, bool] = {}
        for i in np.sort(np.concatenate((closing, releasing))).tolist():
            leg = legs[i]
            closes = bool(leg["flags"] & _CLOSING)
            flags = int(leg["flags"]) if closes else holds.get(_id(leg, "pending"), 0)
            if flags & LegFlag.CLOSING_DEBIT:
                changed[int(leg["debit"])] = closes
            if flags & LegFlag.CLOSING_CREDIT:
                changed[int(leg["credit"])] = closes
        self._closed[list(changed)] = list(changed.values())
        return changed

    async def _read_counters(self, session: Session) -> None:
        statement = sql.SQL(_SQL["counters"].decode()).format(shard=sql.Literal(self.shard))
        async with session.cursor().copy(statement) as copy:
            rows = unpack_rows(_COUNTER_COLUMNS, [bytes(block) async for block in copy])
        if len(rows) and int(rows["ordinal"][-1]) != len(rows) - 1:
            raise ProjectionGap(f"the table account of shard {self.shard} has holes", self.shard, 0, 0)
        counters = segments.Counters()
        counters.add_accounts(rows["parent"])
        for column, name in enumerate(
            ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
        ):
            counters.values[: len(rows), column] = rows[name]
        self._counters = counters
        self._closed = rows["flags"] & _CLOSED != 0

    async def _in_thread(self, facts: int, function: Any, *arguments: Any) -> Any:
        if facts <= INLINE_FACTS_MAX:
            return function(*arguments)
        return await asyncio.to_thread(function, *arguments)


class _Group(NamedTuple):
    """Records made ready for one transaction. Rows of legs are built while they are sent."""

    accounts: Rows
    legs: Rows  # and expiries, no burnt ids
    copies: list[tuple[str, Sequence[str], Buffers]]  # other tables: columns and rows
    guards: dict[int, tuple[int, int]]  # by account ordinal, the newest of each
    parties: bool  # whether there are any
    last_lsn: int
    timestamp: int  # the newest stamp that the records gave, 0 = none
    piece_bytes: int = 0  # sent at a time, 0 = as much as goes


def _build(shard: int, first_ordinal: int, records: Sequence[Record]) -> _Group:
    accounts = joined([record.accounts for record in records], ACCOUNT_FACT)
    keys = [key for record in records for key in record.keys]
    facts = joined([record.legs for record in records], LEG_FACT)
    burnt = facts["flags"] & int(LegFlag.BURNT) != 0
    legs, burnt_ids = (chosen(facts, ~burnt), chosen(facts, burnt)) if burnt.any() else (facts, facts[:0])
    events = [event_rows(record) for record in records if record.events]
    parties = fold_parties(events)
    guards = [guard for record in records for guard in record.guards]
    stamped = (accounts, facts, *(record.guards for record in records if len(record.guards)))
    return _Group(
        accounts=accounts,
        legs=legs,
        copies=[
            (
                "account",
                (*_names(ACCOUNT_COLUMNS), "key"),
                account_rows(shard, first_ordinal, accounts, keys),
            ),
            ("burnt_id", _names(BURNT_COLUMNS), burnt_rows(shard, burnt_ids)),
            ("party_buffer", PARTY_COLUMNS, packed(parties)),
            ("thing", THING_COLUMNS, packed([row for rows in events for row in rows.things])),
            ("move", MOVE_COLUMNS, packed([row for rows in events for row in rows.moves])),
            ("request", REQUEST_COLUMNS, packed([row for rows in events for row in rows.requests])),
            ("crossing", CROSSING_COLUMNS, packed([row for rows in events for row in rows.crossings])),
            (
                "crossing_move",
                CROSSING_MOVE_COLUMNS,
                packed([row for rows in events for row in rows.crossing_moves]),
            ),
        ],
        guards={int(g["account"]): (int(g["floor"]), int(g["ceiling"])) for g in guards},
        parties=bool(parties),
        last_lsn=records[-1].lsn,
        timestamp=max((int(rows["timestamp"].max()) for rows in stamped if len(rows)), default=0),
    )


def _piece_bytes(group: _Group, pieces: int) -> int:
    """How much of a group to send at a time for it to be about so many pieces; 0 = as much as goes."""
    others = sum(len(block) for _, _, buffers in group.copies for block in blocks_of(buffers))
    piece = (group.legs.nbytes + others) // pieces
    return max(piece, SPREAD_BYTES_MIN) if piece <= SPREAD_BYTES_MAX else 0


def _groups(records: Sequence[Record]) -> Iterable[list[Record]]:
    group: list[Record] = []
    legs = 0
    for record in records:
        if group and legs + len(record.legs) > GROUP_LEGS_MAX:
            yield group
            group, legs = [], 0
        group.append(record)
        legs += len(record.legs)
    if group:
        yield group


def _id(leg: np.void, name: str) -> int:
    return int(leg[f"{name}_hi"]) << 64 | int(leg[f"{name}_lo"])


def _names(columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple(column.name for column in columns)


def _copy_statement(table: str, columns: Sequence[str]) -> sql.Composed:
    return sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
