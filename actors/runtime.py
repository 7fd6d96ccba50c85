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
from functools import cached_property, partial
from typing import Any, Final, Self, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from actors.answers import AccountState, Claimed, LegAnswers
from actors.doors import Door, Health
from actors.errors import InvalidRequest, NotFound
from actors.handles import AccountHandle, PartyHandle
from actors.kind_files import kinds_of
from actors.log_follower import LogFollower
from actors.messages import (
    Capture,
    Claim,
    CreateAccounts,
    Fence,
    Message,
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
from actors.peers import LocalPeers
from actors.router import Router, in_messages
from actors.settings import Settings
from actors.shard import Shard
from actors.tracing import Tracer
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
from engine.ids import bucket_of_account, id_of_text
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
from engine.placement import ONE_SHARD, Placement
from persistence import placement, schema, tenancy
from persistence.database import Database
from persistence.queries import Queries
from persistence.recovery import Recovered, recovered_together
from persistence.verify import Report, merged

LEGS_PER_BATCH_MAX: Final = 65_536
_UNSTRIPED: Final = "an account that is one row, such as one of a Party, for guards and roll-ups"

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
        self._placement = ONE_SHARD
        self._chart = Chart(settings.tenant)
        self.kinds: Mapping[str, CompiledKind] = compile_kinds(
            kinds_of(self.settings), self._chart
        )  # by name
        self._shards: list[Door] = []
        self._principal = ""  # on whose word commands come; "" = nobody asked

    @classmethod
    async def open(cls, settings: Settings, clock: Callable[[], int] = time.time_ns) -> "Engine":
        """Start or reach PostgreSQL, take the log, recover, and serve. Raises PersistenceError, and KindError
        for a kind of somebody's own that does not hold together."""
        database = Database(settings.database)
        engine = cls(settings, database, EngineMetrics())
        await asyncio.to_thread(database.start)
        try:
            await schema.migrate(database)
            await tenancy.claim(database, settings.tenant)
            engine._live_on(await placement.agreed(database, settings.shards))
            await engine._open_shards(clock)
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

    def _live_on(self, placement: Placement) -> None:
        """Take note of where things are; before the first command."""
        self._placement = self.queries.placement = placement
        self._chart = Chart(self.settings.tenant, placement=placement)
        self.kinds = compile_kinds(kinds_of(self.settings), self._chart)

    async def _open_shards(self, clock: Callable[[], int]) -> None:
        """Open all shards, or none."""
        peers = LocalPeers()
        opening = [
            asyncio.create_task(self._open_shard(index, clock, peers))
            for index in range(self._placement.shards)
        ]
        try:
            await asyncio.wait(opening)
        except asyncio.CancelledError:
            for task in opening:
                task.cancel()
            await asyncio.wait(opening)
        opened = [task.result() for task in opening if _error_of(task) is None]
        self._shards += opened
        if len(opened) < len(opening):
            await asyncio.gather(*[shard.close() for shard in opened])
            raise next(error for error in map(_error_of, opening) if error is not None)

    async def _open_shard(self, index: int, clock: Callable[[], int], peers: LocalPeers) -> Shard:
        metrics = self.metrics.shard(index)
        shard = await Shard.open(index, self.settings, self._database, metrics, clock, self._placement, peers)
        peers.join(index, shard)
        return shard

    async def close(self) -> None:
        """Answer what waits, let the projection catch up, leave a snapshot, and let go of the database."""
        try:
            if self._router is not None:
                await asyncio.gather(*[shard.rest() for shard in self._shards])
            await asyncio.gather(*[shard.close() for shard in self._shards])
        finally:
            await self.queries.close()
            await asyncio.to_thread(self._database.stop)

    async def ended(self) -> str:
        """Wait until the engine serves no more; returns why."""
        ends = [asyncio.create_task(shard.end()) for shard in self._shards]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return next(end.result() for end in ends if end.done())
        finally:
            for end in ends:
                end.cancel()

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
        answer: Claimed = await self._home_of(message.key).send(message)
        return answer

    async def create_parties(self, commands: Sequence[CreateParty | UpdateParty]) -> list[DirectoryAnswer]:
        """Register or change Parties; one durable answer each, in order."""
        if self._router is not None:
            return await self._router.parties(self._spoken(SubmitParties), list(commands))
        return await self._in_messages(SubmitParties, list(commands), _one)

    async def change_party(self, command: UpdateParty, request: int = 0) -> DirectoryAnswer:
        """Change a Party. The same request again gets the same answer, whatever has happened since."""
        home = self._home if self._router is None else self._shards[self._router.shard_of_party(command)]
        answers: list[DirectoryAnswer] = await home.send(SubmitParties([command], request, self._principal))
        return answers[0]

    async def create_things(self, commands: Sequence[CreateThing]) -> list[DirectoryAnswer]:
        """Add Things to the catalogue; one durable answer each, in order."""
        return await self._in_messages(SubmitThings, list(commands), _one)

    async def submit(self, commands: Sequence[MoveCommand]) -> list[MoveAnswer]:
        """Carry out commands on Moves in order; one durable answer each."""
        if self._router is not None:
            return await self._router.moves(self._spoken(SubmitMoves), list(commands))
        return await self._in_messages(SubmitMoves, list(commands), move_weight)

    async def preview(self, command: MoveCommand) -> MovePreview:
        """The Entries that a command would write now, without writing them."""
        answer: MovePreview = await self._home_of(command.id).send(Preview(command))
        return answer

    async def next_steps(self, move: int, request: int) -> NextSteps:
        """Where a Move can go from where it stands. `request` is a fresh id at its home, and stays unused."""
        answer: NextSteps = await self._home_of(move).send(ReadSteps(move, request))
        return answer

    async def find_holds(self, wanted: HoldFilter) -> HoldPage:
        """Holds as they are now: open ones that fit, or those with the given ids that are in memory."""
        if self._router is not None:
            return await self._router.find_holds(wanted)
        answer: HoldPage = await self._home.send(ReadHolds(wanted))
        return answer

    async def post_legs(self, columns: LegColumns) -> LegAnswers:
        """One batch of bare legs, at most 65,536; a durable answer for each."""
        if not 0 < len(columns.amount) <= LEGS_PER_BATCH_MAX:
            raise InvalidRequest(
                "legs", f"{len(columns.amount)} legs in a batch", f"1 to {LEGS_PER_BATCH_MAX}"
            )
        if self._router is not None:
            return await self._router.legs(columns, None, (self._principal,))
        answer: LegAnswers = await self._home.send(PostLegs(columns, self._principal))
        return answer

    def send_batches(
        self, columns: LegColumns, offsets: npt.NDArray[np.int64], principals: tuple[str, ...] = ()
    ) -> "asyncio.Future[LegAnswers]":
        """Many clients' batches of bare legs, `offsets[k]` to `offsets[k + 1]` each, none of them empty, each
        on the word of one of `principals`, or without any, on nobody's; each is judged by itself. The future
        has their durable answers. Raises Overloaded or ShardStopped."""
        if self._router is not None:
            return self._router.legs(columns, offsets, principals)
        return self._home.send(PostBatches(columns, offsets, principals))

    async def create_accounts(self, columns: AccountColumns, keys: list[str] | None = None) -> LegAnswers:
        """One batch of accounts by id, at most 65,536; a durable answer for each."""
        count = len(columns.asset)
        if not 0 < count <= LEGS_PER_BATCH_MAX:
            raise InvalidRequest("accounts", f"{count} accounts in a batch", f"1 to {LEGS_PER_BATCH_MAX}")
        if self._router is not None:
            return await self._router.accounts(columns, keys or [""] * count)
        answer: LegAnswers = await self._home.send(CreateAccounts(columns, keys or [""] * count))
        return answer

    async def open_accounts(self, drafts: Sequence[AccountDraft]) -> list[AccountOpened]:
        """Open accounts by key; each is answered, and one that is there already with the same content
        `exists`."""
        await self.know_assets({draft.asset for draft in drafts})
        specs = [self._spec(draft.key) for draft in drafts]
        for draft in drafts:
            _check_bounds(draft.floor, draft.ceiling)
            if self._router is not None:
                self._check_unstriped(draft)
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
        if self._router is not None:
            await self._check_one_row(account)
        shard = self._placement.shard_of_account(account)
        answer: AccountState = await self._shards[shard].send(message)
        return answer

    # Reads

    async def read_accounts(self, ids: Sequence[int]) -> list[AccountState | None]:
        """Accounts as they are now, None where there is none; they see every command answered before."""
        if self._router is not None:
            return await self._router.read_accounts(ids)
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
        positions: list[int] = await asyncio.gather(*[shard.send(Fence()) for shard in self._shards])
        return max(positions)

    async def know_assets(self, codes: Iterable[str]) -> None:
        """Let `asset_number` know these codes if anybody was answered for a Thing that has one."""
        if not all(map(self._home.catalogue.asset, codes)):
            await self._home.catch_up()

    async def wait_projected(self, lsn: int | None = None) -> int:
        """Wait until SQL shows everything up to `lsn`, or everything answered so far; returns up to where."""
        if self._router is not None:
            return await self._router.wait_projected(lsn)
        return await self._home.wait_projected(lsn)

    async def capture(self, shard: int = 0) -> tuple[int, dict[str, Any]]:
        """A consistent copy of a shard's whole state, and the position in its log that it has."""
        captured: tuple[int, dict[str, Any]] = await self._door(shard).send(Capture())
        return captured

    async def verify(self, progress: Callable[[int], None] | None = None) -> Report:
        """Prove the books: replay the whole log and compare with memory, projection and snapshots."""
        return merged([await shard.verify(progress) for shard in self._shards])

    @property
    def recovery(self) -> Recovered:
        """What opening the engine recovered."""
        return recovered_together([shard.recovered for shard in self._shards])

    def health(self) -> Health:
        """How the engine is."""
        return self._home.health() if self._router is None else self._router.health()

    def trace(self, tracer: Tracer) -> None:
        """Let the shards of this process tell a tracer what becomes of its requests."""
        for shard in self._shards:
            if isinstance(shard, Shard):
                shard.tracer = tracer

    def refresh_metrics(self) -> None:
        """Bring the gauges up to date, before they are read."""
        for shard in self._shards:
            health = shard.health()
            for name in ("mailbox_weight", "projected_lsn", "projection_lag_legs", "accounts", "open_moves"):
                self.metrics.gauge(name, health.shard, getattr(health, name))
            self.metrics.gauge("durable_lsn", health.shard, health.lsn)
            self.metrics.gauge("serving", health.shard, health.status == "serving")
            for name in ("mailbox_weight_max", "projection_lag_legs_max"):
                self.metrics.gauge(name, health.shard, getattr(self.settings, name))

    # Inside

    @property
    def _home(self) -> Door:
        """The shard that has the catalogue, and, where there is one shard, everything."""
        return self._shards[0]

    def _home_of(self, id: int) -> Door:
        """The shard that a Move or request is at home on."""
        return self._home if self._router is None else self._shards[self._router.shard_of_id(id)]

    @cached_property
    def _router(self) -> Router | None:
        """What splits commands over several shards, None where there is one."""
        if len(self._shards) == 1:
            return None
        return Router(self._shards, self._placement, self.settings.tenant)

    def _door(self, shard: int) -> Door:
        if not 0 <= shard < len(self._shards):
            raise InvalidRequest("shard", f"there is no shard {shard}", f"0 to {len(self._shards) - 1}")
        return self._shards[shard]

    def _spec(self, key: str) -> AccountSpec:
        try:
            return self._chart.account(key)
        except ChartError as exc:
            raise InvalidRequest("key", str(exc)) from exc

    def _check_unstriped(self, draft: AccountDraft) -> None:
        """Guards and roll-ups need an account that is in one place."""
        plain = draft.floor is None and draft.ceiling is None and not draft.parent and not draft.rollup
        if not plain and self._spec(draft.key).striped:
            raise InvalidRequest(
                "key", f"{draft.key} has a row on each of {len(self._shards)} shards", _UNSTRIPED
            )

    async def _check_one_row(self, account: int) -> None:
        if bucket_of_account(account) not in self._placement.platform_buckets:
            return
        await self.wait_projected()
        for found in await self.queries.accounts([account]):
            if found.key and self._spec(found.key).striped:
                raise InvalidRequest(
                    "account", f"{found.key} has a row on each of {len(self._shards)} shards", _UNSTRIPED
                )

    def _spoken(self, kind: Callable[..., Message]) -> Callable[[list[Any]], Message]:
        """What makes messages on the word of whoever this engine works for."""
        return partial(kind, principal=self._principal)

    async def _in_messages(
        self, kind: Callable[..., Any], commands: list[Any], weight_of: Callable[[Any], int]
    ) -> list[Any]:
        sent = self._home.send_all(
            [kind(part, principal=self._principal) for part in in_messages(commands, weight_of)]
        )
        return [answer for answers in await asyncio.gather(*sent) for answer in answers]


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Why a task that is over has no result."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _one(_command: object) -> int:
    return 1


def _check_bounds(floor: int | None, ceiling: int | None) -> None:
    for name, bound in (("floor", floor), ("ceiling", ceiling)):
        if bound is not None and not -AMOUNT_MAX <= bound < AMOUNT_MAX:
            raise InvalidRequest(name, f"{bound} is out of range", "a 64-bit integer")
