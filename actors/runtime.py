"""The local runtime: shards hosted in this process, and the door to them.

`Engine.open(settings)` starts or reaches PostgreSQL, migrates it, becomes the only writer of its log,
recovers, and serves. Commands go to the shard that owns what they are about and are answered when they are
durable. Reads of what is in memory (accounts, open Moves) go through the shard's mailbox as well, so that
they see everything before them; history and search are SQL over the projection.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, Final, Self, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from actors.answers import AccountState, Claimed, LegAnswers
from actors.doors import Door, Health
from actors.errors import InvalidRequest, NotFound
from actors.handles import AccountHandle, PartyHandle
from actors.log_follower import LogFollower
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
    move_weight,
)
from actors.metrics import EngineMetrics
from actors.settings import Settings
from actors.shard import Shard
from engine.chart import AccountSpec, Chart, ChartError
from engine.commands import (
    CreateParty,
    CreateThing,
    DirectoryAnswer,
    MoveAnswer,
    MoveCommand,
    MovePreview,
    NextSteps,
    UpdateParty,
)
from engine.ids import id_of_text
from engine.kinds import CompiledKind, compile_kinds
from engine.layout import (
    AMOUNT_MAX,
    CEILING_UNSET,
    FLOOR_UNSET,
    AccountColumns,
    LegColumns,
    account_columns,
    ids_column,
)
from engine.open_holds import HoldFilter, HoldPage
from engine.standard_kinds import STANDARD_KINDS
from persistence import schema
from persistence.database import Database
from persistence.queries import Queries
from persistence.recovery import Recovered
from persistence.verify import Report

MESSAGE_WEIGHT_MAX: Final = 16_384
"""Longer lists of commands are sent as several messages."""
LEGS_PER_BATCH_MAX: Final = 65_536

_T = TypeVar("_T")


class AccountDraft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account to open by its key. Guards left out are those of its class."""

    key: str
    asset: str  # code
    floor: int | None = None
    ceiling: int | None = None
    parent: int = 0  # id of a roll-up
    rollup: bool = False


class AccountOpened(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an AccountDraft; `status` is a Result."""

    id: int
    status: int
    timestamp: int
    lsn: int


class Engine:
    """An open engine. Use `Engine.open` or `Engine.running`; every method may be called from any task of its
    loop."""

    def __init__(self, settings: Settings, database: Database, metrics: EngineMetrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.queries = Queries(database)  # history, search and reports, over the projection
        self._database = database
        self._chart = Chart(settings.tenant)
        self.kinds: Mapping[str, CompiledKind] = compile_kinds(STANDARD_KINDS, self._chart)  # by name
        self._shards: list[Door] = []
        self._principal = ""  # on whose word commands come; "" = nobody asked

    @classmethod
    async def open(cls, settings: Settings, clock: Callable[[], int] = time.time_ns) -> "Engine":
        """Start or reach PostgreSQL, take the log, recover, and serve. Raises PersistenceError."""
        database = Database(settings.database)
        await asyncio.to_thread(database.start)
        engine = cls(settings, database, EngineMetrics())
        try:
            await schema.migrate(database)
            engine._shards.append(await Shard.open(0, settings, database, engine.metrics.shard(0), clock))
        except BaseException:
            await asyncio.to_thread(database.stop)
            raise
        return engine

    @classmethod
    @asynccontextmanager
    async def running(
        cls, settings: Settings, clock: Callable[[], int] = time.time_ns
    ) -> AsyncIterator["Engine"]:
        """An open engine that is closed at the end."""
        engine = await cls.open(settings, clock)
        try:
            yield engine
        finally:
            await engine.close()

    async def close(self) -> None:
        """Answer what waits, let the projection catch up, leave a snapshot, and let go of the database."""
        try:
            for shard in self._shards:
                await shard.close()
        finally:
            await self.queries.close()
            await asyncio.to_thread(self._database.stop)

    async def ended(self) -> str:
        """Wait until the engine serves no more; returns why."""
        return await self._home.end()

    # Handles

    def account(self, key: str, asset: str) -> AccountHandle:
        """The account with this key and asset code. Raises InvalidRequest for a key that cannot be one."""
        return AccountHandle(self, self.account_id(key, asset), key)

    def account_of_id(self, id: int) -> AccountHandle:
        """The account with this id."""
        return AccountHandle(self, id, "")

    def party(self, id: int) -> PartyHandle:
        """The Party with this id."""
        return PartyHandle(self, id)

    def account_id(self, key: str, asset: str) -> int:
        """The id that a key and an asset code make. Raises InvalidRequest for either."""
        self._spec(key)
        return self._chart.account_id(key, self.asset_number(asset))

    def asset_number(self, code: str) -> int:
        """The asset number of a Thing's code. Raises InvalidRequest if there is no such Thing."""
        number = self._home.catalogue.asset(code)
        if not number:
            raise InvalidRequest("asset", f"there is no Thing with the code {code!r}", "the code of a Thing")
        return number

    def asset_code(self, number: int) -> str:
        """The code of the Thing with that asset number. Raises NotFound."""
        try:
            return self._home.catalogue.thing(number).code
        except IndexError as exc:
            raise NotFound("asset", str(number)) from exc

    # Commands

    def on_word_of(self, principal: str) -> Self:
        """This engine, for commands on somebody's word: the log says whose."""
        if principal == self._principal:
            return self
        engine = copy(self)
        engine._principal = principal
        return engine

    async def claim(self, key: str, digest: bytes, request: int) -> Claimed:
        """Claim a client's own key for a request of that id and content, or learn whose it is."""
        message = Claim(id_of_text(self.settings.tenant, key), digest, request, self._principal)
        answer: Claimed = await self._home.send(message)
        return answer

    async def create_parties(self, commands: Sequence[CreateParty | UpdateParty]) -> list[DirectoryAnswer]:
        """Register or change Parties; one durable answer each, in order."""
        return await self._in_messages(SubmitParties, list(commands))

    async def change_party(self, command: UpdateParty, request: int = 0) -> DirectoryAnswer:
        """Change a Party. The same request again gets the same answer, whatever has happened since."""
        answers: list[DirectoryAnswer] = await self._home.send(
            SubmitParties([command], request, self._principal)
        )
        return answers[0]

    async def create_things(self, commands: Sequence[CreateThing]) -> list[DirectoryAnswer]:
        """Add Things to the catalogue; one durable answer each, in order."""
        return await self._in_messages(SubmitThings, list(commands))

    async def submit(self, commands: Sequence[MoveCommand]) -> list[MoveAnswer]:
        """Carry out commands on Moves in order; one durable answer each."""
        return await self._in_messages(SubmitMoves, list(commands))

    async def preview(self, command: MoveCommand) -> MovePreview:
        """The Entries that a command would write now, without writing them."""
        answer: MovePreview = await self._home.send(Preview(command))
        return answer

    async def next_steps(self, move: int, request: int) -> NextSteps:
        """Where a Move can go from where it stands. `request` is a fresh id at its home, and stays unused."""
        answer: NextSteps = await self._home.send(ReadSteps(move, request))
        return answer

    async def find_holds(self, wanted: HoldFilter) -> HoldPage:
        """Holds as they are now: open ones that fit, or those with the given ids that are in memory."""
        answer: HoldPage = await self._home.send(ReadHolds(wanted))
        return answer

    async def post_legs(self, columns: LegColumns) -> LegAnswers:
        """One batch of bare legs, at most 65,536; a durable answer for each."""
        if not 0 < len(columns.amount) <= LEGS_PER_BATCH_MAX:
            raise InvalidRequest(
                "legs", f"{len(columns.amount)} legs in a batch", f"1 to {LEGS_PER_BATCH_MAX}"
            )
        answer: LegAnswers = await self._home.send(PostLegs(columns, self._principal))
        return answer

    def send_batches(
        self, columns: LegColumns, offsets: npt.NDArray[np.int64], principals: tuple[str, ...] = ()
    ) -> "asyncio.Future[LegAnswers]":
        """Many clients' batches of bare legs, `offsets[k]` to `offsets[k + 1]` each, none of them empty, each
        on the word of one of `principals`, or without any, on nobody's; each is judged by itself. The future
        has their durable answers. Raises Overloaded or ShardStopped."""
        return self._home.send(PostBatches(columns, offsets, principals))

    async def create_accounts(self, columns: AccountColumns, keys: list[str] | None = None) -> LegAnswers:
        """One batch of accounts by id, at most 65,536; a durable answer for each."""
        count = len(columns.asset)
        if not 0 < count <= LEGS_PER_BATCH_MAX:
            raise InvalidRequest("accounts", f"{count} accounts in a batch", f"1 to {LEGS_PER_BATCH_MAX}")
        answer: LegAnswers = await self._home.send(CreateAccounts(columns, keys or [""] * count))
        return answer

    async def open_accounts(self, drafts: Sequence[AccountDraft]) -> list[AccountOpened]:
        """Open accounts by key; each is answered, and one that is there already with the same content
        `exists`."""
        specs = [self._spec(draft.key) for draft in drafts]
        for draft in drafts:
            _check_bounds(draft.floor, draft.ceiling)
            if not 0 <= draft.parent < 2**128:
                raise InvalidRequest("parent", f"{draft.parent} is no id", "the id of a roll-up, or 0")
        ids = [self.account_id(draft.key, draft.asset) for draft in drafts]
        columns = account_columns(
            len(drafts),
            id=ids_column(ids),
            party=ids_column([spec.party for spec in specs]),
            parent=ids_column([draft.parent for draft in drafts]),
            asset=[self.asset_number(draft.asset) for draft in drafts],
            code=[spec.code for spec in specs],
            flags=[8 * draft.rollup for draft in drafts],
            floor=[
                spec.floor if draft.floor is None else draft.floor
                for draft, spec in zip(drafts, specs, strict=True)
            ],
            ceiling=[
                spec.ceiling if draft.ceiling is None else draft.ceiling
                for draft, spec in zip(drafts, specs, strict=True)
            ],
        )
        answers = await self.create_accounts(columns, [draft.key for draft in drafts])
        return [
            AccountOpened(id=id, status=status, timestamp=timestamp, lsn=answers.lsn)
            for id, status, timestamp in zip(
                ids, answers.status.tolist(), answers.timestamp.tolist(), strict=True
            )
        ]

    async def set_guards(
        self, account: int, floor: int | None, ceiling: int | None, if_version: int = 0, request: int = 0
    ) -> AccountState:
        """Give an account new guards (None = none), in the kernel's terms: credits minus debits. The same
        request again gets the same answer, whatever has happened since."""
        _check_bounds(floor, ceiling)
        if not 0 <= account < 2**128:
            raise NotFound("account", str(account))
        message = SetGuards(
            account,
            FLOOR_UNSET if floor is None else floor,
            CEILING_UNSET if ceiling is None else ceiling,
            if_version,
            request,
            self._principal,
        )
        answer: AccountState = await self._home.send(message)
        return answer

    # Reads

    async def read_accounts(self, ids: Sequence[int]) -> list[AccountState | None]:
        """Accounts as they are now, None where there is none; they see every command answered before."""
        answer: list[AccountState | None] = await self._home.send(ReadAccounts(ids_column(list(ids))))
        return answer

    def log_ends(self) -> list[int]:
        """The last committed record of every shard."""
        return [shard.health().lsn for shard in self._shards]

    def follow(self, shard: int, after: int) -> LogFollower:
        """Follow a shard's committed log: every record after a position, once, in order. Raises
        InvalidRequest for a shard or a position that there is not."""
        return self._door(shard).follow(after)

    async def wait_shown(self, shard: int, lsn: int) -> None:
        """Wait until SQL shows everything of a shard up to a position."""
        await self._door(shard).wait_projected(lsn)

    @property
    def database(self) -> Database:
        """Where the log is, for what is kept beside it."""
        return self._database

    async def fence(self) -> int:
        """The position in the log of everything sent before; it is durable, and the log is ours."""
        position: int = await self._home.send(Fence())
        return position

    async def know_assets(self, codes: Iterable[str]) -> None:
        """Let `asset_number` know these codes if anybody was answered for a Thing that has one."""
        if not all(map(self._home.catalogue.asset, codes)):
            await self._home.catch_up()

    async def wait_projected(self, lsn: int | None = None) -> int:
        """Wait until SQL shows everything up to `lsn`, or everything answered so far; returns up to where."""
        return await self._home.wait_projected(lsn)

    async def capture(self) -> tuple[int, dict[str, Any]]:
        """A consistent copy of the whole state, and the position in the log that it has."""
        captured: tuple[int, dict[str, Any]] = await self._home.send(Capture())
        return captured

    async def verify(self, progress: Callable[[int], None] | None = None) -> Report:
        """Prove the books: replay the whole log and compare with memory, projection and snapshots."""
        return await self._home.verify(progress)

    @property
    def recovery(self) -> Recovered:
        """What opening the engine recovered."""
        return self._home.recovered

    def health(self) -> Health:
        """How the engine is."""
        return self._home.health()

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date, before they are read."""
        health = self.health()
        for name in ("mailbox_weight", "projected_lsn", "projection_lag_legs", "accounts", "open_moves"):
            self.metrics.gauge(name, health.shard, getattr(health, name))
        self.metrics.gauge("durable_lsn", health.shard, health.lsn)
        self.metrics.gauge("serving", health.shard, health.status == "serving")

    # Inside

    @property
    def _home(self) -> Door:
        return self._shards[0]

    def _door(self, shard: int) -> Door:
        if not 0 <= shard < len(self._shards):
            raise InvalidRequest("shard", f"there is no shard {shard}", f"0 to {len(self._shards) - 1}")
        return self._shards[shard]

    def _spec(self, key: str) -> AccountSpec:
        try:
            return self._chart.account(key)
        except ChartError as exc:
            raise InvalidRequest("key", str(exc)) from exc

    async def _in_messages(self, kind: Callable[..., Any], commands: list[Any]) -> list[Any]:
        parts: list[list[Any]] = []
        weight = MESSAGE_WEIGHT_MAX
        for command in commands:
            more = move_weight(command) if isinstance(command, MoveCommand) else 1
            if weight + more > MESSAGE_WEIGHT_MAX:
                parts.append([])
                weight = 0
            parts[-1].append(command)
            weight += more
        sent = self._home.send_all([kind(part, principal=self._principal) for part in parts])
        return [answer for answers in await asyncio.gather(*sent) for answer in answers]


def _check_bounds(floor: int | None, ceiling: int | None) -> None:
    for name, bound in (("floor", floor), ("ceiling", ceiling)):
        if bound is not None and not -AMOUNT_MAX <= bound < AMOUNT_MAX:
            raise InvalidRequest(name, f"{bound} is out of range", "a 64-bit integer")
