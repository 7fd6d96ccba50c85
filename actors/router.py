"""Which shard a command goes to, and how the answers of several come together.

Everything has one home: a Move its payer's, a leg its debit account's, a post or void its hold's, a chain its
first leg's, a Party and an account their own. Lists keep their order within each shard; between shards there
is none. Where some of a list's shards can't be reached, their part is answered with `shard_unavailable`:
whether it happened is then unknown, and sending it again with the same ids settles it. A list for one shard
goes there as it is, and its errors are raised.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from actors.answers import AccountState, LegAnswers
from actors.doors import Door, Health
from actors.errors import ActorError, InvalidRequest, Overloaded, ShardStopped
from actors.messages import (
    CreateAccounts,
    Message,
    PostBatches,
    PostLegs,
    ReadAccounts,
    ReadHolds,
    move_weight,
)
from engine import ids
from engine.commands import CreateParty, DirectoryAnswer, MoveAnswer, MoveCommand, Refusal, UpdateParty
from engine.layout import AccountColumns, AccountFlag, LegColumns, LegFlag, ids_column
from engine.open_holds import HoldFilter, HoldPage
from engine.placement import Placement
from engine.results import Result

MESSAGE_WEIGHT_MAX: Final = 16_384
"""Longer lists of commands are sent as several messages."""

_IMPORTED: Final[dict[type, int]] = {LegColumns: LegFlag.IMPORTED, AccountColumns: AccountFlag.IMPORTED}
_SETTLING: Final = np.uint16(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)
_LINKED: Final = np.uint16(LegFlag.LINKED)
assert int(LegFlag.LINKED) == int(AccountFlag.LINKED)
_STATES: Final = ("serving", "blocked", "stopped")
"""Of a shard, from best to worst."""

Ints = npt.NDArray[np.int64]


class _Part(NamedTuple):
    """What of a batch, or of several, goes to one shard."""

    shard: int
    rows: Ints  # where they were
    columns: Any
    offsets: Ints  # of the batches in it
    batches: Ints  # which ones they are
    added: npt.NDArray[np.bool_] | None  # rows that were not there, and whose answers nobody wants


class Router:
    """The shards of an engine, as one. `doors[k]` is shard k."""

    def __init__(self, doors: Sequence[Door], placement: Placement, tenant: str) -> None:
        self._doors = doors
        self._placement = placement
        self._tenant = tenant

    # Lists of commands

    async def moves(
        self, kind: Callable[[list[Any]], Message], commands: Sequence[MoveCommand]
    ) -> list[MoveAnswer]:
        """Send commands on Moves; one answer each, in order."""
        return await self._list(kind, commands, self._shard_of_move, move_weight, _move_unavailable)

    async def parties(
        self, kind: Callable[[list[Any]], Message], commands: Sequence[CreateParty | UpdateParty]
    ) -> list[DirectoryAnswer]:
        """Send commands on Parties; one answer each, in order."""
        return await self._list(kind, commands, self.shard_of_party, _one, _party_unavailable)

    def shard_of_id(self, id: int) -> int:
        """The shard that an id of a leg, Move or request leads to."""
        return self._placement.shard(ids.bucket_of_id(id)) if 0 <= id <= ids.ID_MAX else 0

    def shard_of_account(self, account: int) -> int:
        """The shard that an account is on."""
        return self._placement.shard_of_account(account)

    def _shard_of_move(self, command: MoveCommand) -> int:
        return self.shard_of_id(command.id)

    def shard_of_party(self, command: CreateParty | UpdateParty) -> int:
        """The shard that a Party is on."""
        if not 0 <= command.id <= ids.ID_MAX:
            return 0
        return self._placement.shard(ids.bucket_of_party(self._tenant, command.id))

    async def _list(
        self,
        kind: Callable[[list[Any]], Message],
        commands: Sequence[Any],
        shard_of: Callable[[Any], int],
        weight_of: Callable[[Any], int],
        unavailable: Callable[[Any, str], Any],
    ) -> list[Any]:
        places: dict[int, list[int]] = {}
        for place, command in enumerate(commands):
            places.setdefault(shard_of(command), []).append(place)
        parts = {shard: [commands[place] for place in where] for shard, where in places.items()}
        answers: list[Any] = [None] * len(commands)
        sent = {
            shard: self._try(shard, [kind(some) for some in in_messages(part, weight_of)])
            for shard, part in parts.items()
        }
        for shard, found in (await _settled(sent)).items():
            if isinstance(found, ActorError):
                if len(parts) == 1:
                    raise found
                given = [unavailable(command, str(found)) for command in parts[shard]]
            else:
                given = [answer for message in found for answer in message]
            for place, answer in zip(places[shard], given, strict=True):
                answers[place] = answer
        return answers

    # Legs and accounts

    def legs(
        self, columns: LegColumns, offsets: Ints | None, principals: tuple[str, ...]
    ) -> "asyncio.Future[LegAnswers]":
        """Send batches of legs (None = it is one), each on the word of one of `principals`, or without any,
        on nobody's; the future has the answers to all of them."""
        count = len(columns.amount)
        bounds = np.array([0, count], np.int64) if offsets is None else offsets
        parts = _split(columns, bounds, self._homes_of_legs(columns))
        if len(parts) == 1:
            message: Message = (
                PostLegs(columns, *principals)
                if offsets is None
                else PostBatches(columns, bounds, principals)
            )
            return self._doors[parts[0].shard].send(message)

        def part_of(part: _Part) -> Message:
            words = tuple(principals[batch] for batch in part.batches.tolist()) if principals else ()
            return PostBatches(part.columns, part.offsets, words)

        return self._gathered(parts, part_of, count)

    def _homes_of_legs(self, columns: LegColumns) -> npt.NDArray[np.int16]:
        homes = self._placement.of_accounts(columns.debit)
        pending = columns.pending_id
        settling = (columns.flags & _SETTLING != 0) & ((pending[:, 0] | pending[:, 1]) != 0)
        return np.where(settling, self._placement.of_ids(pending), homes) if settling.any() else homes

    def accounts(self, columns: AccountColumns, keys: list[str]) -> "asyncio.Future[LegAnswers]":
        """Send a batch of accounts; the future has the answers."""
        count = len(columns.asset)
        parts = _split(columns, np.array([0, count], np.int64), self._placement.of_accounts(columns.id))
        if len(parts) == 1:
            return self._doors[parts[0].shard].send(CreateAccounts(columns, keys))

        def message(part: _Part) -> Message:
            own = iter(part.rows.tolist())
            added = part.added.tolist() if part.added is not None else [False] * len(part.columns.asset)
            return CreateAccounts(part.columns, ["" if extra else keys[next(own)] for extra in added])

        return self._gathered(parts, message, count)

    def _gathered(
        self, parts: list[_Part], message: Callable[[_Part], Message], count: int
    ) -> "asyncio.Future[LegAnswers]":
        sent = {part.shard: self._try(part.shard, [message(part)]) for part in parts}
        if all(isinstance(answer, ActorError) for answer in sent.values()):
            raise next(answer for answer in sent.values() if isinstance(answer, ActorError))
        return asyncio.ensure_future(_joined(parts, sent, count))

    # Reads

    async def read_accounts(self, accounts: Sequence[int]) -> list[AccountState | None]:
        """Accounts as they are now. Of a striped one that is asked for by its row on shard 0: all of it."""
        rows = [self._placement.stripes(account) for account in accounts]
        wanted = list(dict.fromkeys(row for stripes in rows for row in stripes))
        of_shard: dict[int, list[int]] = {}
        for account in wanted:
            of_shard.setdefault(self.shard_of_account(account), []).append(account)
        found: dict[int, AccountState | None] = {}
        answers = await asyncio.gather(
            *[self._doors[shard].send(ReadAccounts(ids_column(some))) for shard, some in of_shard.items()]
        )
        for some, states in zip(of_shard.values(), answers, strict=True):
            found |= dict(zip(some, states, strict=True))
        return [
            _whole(account, [found[row] for row in stripes])
            for account, stripes in zip(accounts, rows, strict=True)
        ]

    async def find_holds(self, wanted: HoldFilter) -> HoldPage:
        """Holds as they are now, those of all shards in one order."""
        asked: dict[int, HoldFilter] = {}
        if wanted.ids:
            for id in wanted.ids:
                asked.setdefault(self.shard_of_id(id), msgspec.structs.replace(wanted, ids=[])).ids.append(id)
        elif wanted.move:
            asked[self.shard_of_id(wanted.move)] = wanted
        elif wanted.account:
            asked[self.shard_of_account(wanted.account)] = wanted
        else:
            asked = dict.fromkeys(range(len(self._doors)), wanted)
        pages: list[HoldPage] = await asyncio.gather(
            *[self._doors[shard].send(ReadHolds(part)) for shard, part in asked.items()]
        )
        if len(pages) == 1:
            return pages[0]
        found = [hold for page in pages for hold in page.items]
        lsn = max((page.lsn for page in pages), default=0)
        if wanted.ids:
            places = {id: place for place, id in enumerate(wanted.ids)}
            return HoldPage(items=sorted(found, key=lambda hold: places[hold.id]), more=False, lsn=lsn)
        found.sort(key=lambda hold: (hold.created, hold.id), reverse=wanted.newest_first)
        more = len(found) > wanted.limit or any(page.more for page in pages)
        return HoldPage(items=found[: wanted.limit], more=more, lsn=lsn)

    async def wait_projected(self, lsn: int | None) -> int:
        """Wait until SQL shows everything answered so far; returns up to where, as `health` counts. Positions
        of one shard say nothing of the others, so there is less to wait for only with `lsn` = 0."""
        ends = [door.health().lsn for door in self._doors]
        if lsn == 0:
            return 0
        if lsn is not None and lsn > sum(ends):
            raise InvalidRequest("lsn", f"{lsn} is not in the log", f"at most {sum(ends)}")
        return sum(await asyncio.gather(*[door.wait_projected(None) for door in self._doors]))

    def health(self) -> Health:
        """How the shards are, as one: the worst of their states, and their sums."""
        each = [door.health() for door in self._doors]
        worst = max(each, key=lambda one: _STATES.index(one.status))
        return Health(
            status=worst.status,
            reason=worst.reason,
            shard=worst.shard,
            epoch=max(one.epoch for one in each),
            lsn=sum(one.lsn for one in each),
            projected_lsn=sum(one.projected_lsn for one in each),
            projection_lag_legs=sum(one.projection_lag_legs for one in each),
            mailbox_weight=sum(one.mailbox_weight for one in each),
            accounts=sum(one.accounts for one in each),
            open_moves=sum(one.open_moves for one in each),
        )

    def _try(self, shard: int, messages: list[Message]) -> "list[asyncio.Future[Any]] | ActorError":
        try:
            return self._doors[shard].send_all(messages)
        except (Overloaded, ShardStopped) as error:
            return error


def in_messages(commands: Iterable[Any], weight_of: Callable[[Any], int]) -> list[list[Any]]:
    """Commands in lists of which each is one message."""
    parts: list[list[Any]] = []
    weight = MESSAGE_WEIGHT_MAX
    for command in commands:
        more = weight_of(command)
        if weight + more > MESSAGE_WEIGHT_MAX:
            parts.append([])
            weight = 0
        parts[-1].append(command)
        weight += more
    return parts


def _split(columns: Any, offsets: Ints, homes: npt.NDArray[np.int16]) -> list[_Part]:
    """Batches of legs or accounts by the shard that each of their chains is at home on."""
    first = np.ones(len(homes), np.bool_)
    first[1:] = (columns.flags[:-1] & _LINKED) == 0
    first[offsets[:-1]] = True
    homes = homes[first][np.cumsum(first) - 1]
    if (homes == homes[0]).all():
        every = np.arange(len(offsets) - 1)
        return [_Part(int(homes[0]), np.arange(len(homes)), columns, offsets, every, None)]
    batch = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    imported = (columns.flags & _IMPORTED[type(columns)]) != 0
    parts = []
    for shard in np.unique(homes).tolist():
        rows = np.flatnonzero(homes == shard)
        begins = np.flatnonzero(np.diff(batch[rows], prepend=-1))
        chosen = type(columns)(*(column[rows] for column in columns))
        differs = imported[rows[begins]] != imported[offsets[batch[rows[begins]]]]
        parts.append(_part(shard, rows, chosen, begins, batch[rows[begins]], differs))
    return parts


def _part(
    shard: int, rows: Ints, columns: Any, begins: Ints, batches: Ints, differs: npt.NDArray[np.bool_]
) -> _Part:
    """One shard's part. A batch is imported or not as its first row says; where that row went elsewhere and
    says otherwise than the first one here, a row that says the same, and can't be taken, goes before."""
    if not differs.any():
        return _Part(shard, rows, columns, np.append(begins, len(rows)), batches, None)
    at = begins[differs]
    columns = type(columns)(*(np.insert(column, at, 0, axis=0) for column in columns))
    added = np.insert(np.zeros(len(rows), np.bool_), at, True)
    where = np.flatnonzero(added)
    flag = np.uint16(_IMPORTED[type(columns)])
    flags = columns.flags.copy()
    flags[where] = flags[where + 1] & flag ^ flag
    begins = begins + np.cumsum(differs) - differs
    offsets = np.append(begins, len(flags))
    return _Part(shard, rows, columns._replace(flags=flags), offsets, batches, added)


async def _settled(
    sent: "dict[int, list[asyncio.Future[Any]] | ActorError]",
) -> dict[int, list[Any] | ActorError]:
    """The answers of each shard to its messages, or why there are none."""
    results: dict[int, list[Any] | ActorError] = {}
    for shard, messages in sent.items():
        if isinstance(messages, ActorError):
            results[shard] = messages
            continue
        try:
            results[shard] = list(await asyncio.gather(*messages))
        except ActorError as error:
            results[shard] = error
    return results


async def _joined(
    parts: list[_Part], sent: "dict[int, list[asyncio.Future[Any]] | ActorError]", count: int
) -> LegAnswers:
    """One answer from those of the shards, each row where it was."""
    status = np.full(count, Result.SHARD_UNAVAILABLE, np.uint8)
    timestamp = np.zeros(count, np.int64)
    lsn = 0
    found = await _settled(sent)
    errors = [answer for answer in found.values() if isinstance(answer, ActorError)]
    if len(errors) == len(found):
        raise errors[0]
    for part in parts:
        answers = found[part.shard]
        if isinstance(answers, ActorError):
            continue
        (answer,) = answers
        wanted = slice(None) if part.added is None else ~part.added
        status[part.rows] = answer.status[wanted]
        timestamp[part.rows] = answer.timestamp[wanted]
        lsn = max(lsn, answer.lsn)
    return LegAnswers(status=status, timestamp=timestamp, lsn=lsn)


def _whole(account: int, stripes: list[AccountState | None]) -> AccountState | None:
    """An account from its rows."""
    there = [row for row in stripes if row is not None]
    if len(stripes) == 1 or not there:
        return stripes[0]
    counters = ("debits_pending", "debits_posted", "credits_pending", "credits_posted", "version")
    return msgspec.structs.replace(
        there[0],
        id=account,
        timestamp=min(row.timestamp for row in there),
        lsn=max(row.lsn for row in there),
        **{name: sum(getattr(row, name) for row in there) for name in counters},
    )


def _one(_command: Any) -> int:
    return 1


def _move_unavailable(command: MoveCommand, why: str) -> MoveAnswer:
    return MoveAnswer(
        request=command.id,
        move=command.move or command.id,
        kind=command.kind,
        state="",
        seq=0,
        version=0,
        timestamp=0,
        code=Refusal.SHARD_UNAVAILABLE,
        message=why,
    )


def _party_unavailable(command: CreateParty | UpdateParty, why: str) -> DirectoryAnswer:
    return DirectoryAnswer(id=command.id, code=Refusal.SHARD_UNAVAILABLE, message=why)
