"""One run: shards, clients, the network and the server between them, and the auditor over all of it.

A *step* is the next thing that is due (a message or a statement that arrives, a timer, a commit) with all
that follows from it at the same moment. Faults happen for as many steps as the plan says; then they stop,
whoever is stopped is woken, and everything has to drain: every client gets its answer.
"""

import asyncio
import logging
import random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import structlog
import xxhash

from actors.messages import CreateAccounts, Message
from engine.chart import Chart
from engine.crossing.messages import Frame
from engine.ids import account_id, bucket_of_account, bucket_of_id
from engine.layout import CEILING_UNSET, FLOOR_UNSET, account_columns, ids_column
from engine.placement import Placement
from engine.shard_state import ShardState
from persistence.log import Entry
from simulations.simulator.auditor import Auditor
from simulations.simulator.books import Wrong
from simulations.simulator.clients import Client, fresh_id
from simulations.simulator.faults import Faults, Incident, Plan
from simulations.simulator.loop import Process, SimulatedLoop
from simulations.simulator.nodes import Incarnation, config_of, settings_of
from simulations.simulator.orders import Order, Spec, legs_message
from simulations.simulator.server import Server
from simulations.simulator.traders import NO_MOVES, Market, Trader
from simulations.simulator.trades import Ledgers

TENANT: Final = "default"
START_NS: Final = 1_800_000_000_000_000_000
DRAIN_STEPS_MAX: Final = 200_000
"""After so many steps without faults everything must have come to its end."""
DRAIN_S: Final = 8.0
"""How long is looked at what expires by itself at the end."""
FUNDS: Final = 500
ASSETS: Final = (1, 2)


class Account(NamedTuple):
    """An account that clients use."""

    id: int
    asset: int
    floor: int
    ceiling: int


class Outcome(NamedTuple):
    """How a run ended. `digest` depends on everything that happened."""

    plan: Plan
    steps: int
    wrong: Wrong | None
    detail: str
    digest: str
    answers: int
    records: int
    incidents: int  # drawn, whether they happened or not


class Network:
    """The way of orders and answers: late, lost, twice, in any order, to the wrong process."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.cut: set[int] = set()  # shards that hear nobody

    def send(self, client: Client, order: Order) -> None:
        """An order goes to its shard."""
        world, faults = self._world, self._world.faults
        world.clients_of[order.number] = client
        for _ in range(2 if faults.strikes("message_doubled") else 1):
            if faults.strikes("message_dropped"):
                continue
            target = world.current[order.shard]
            if faults.strikes("message_astray"):
                target = world.rng.choice(world.incarnations[order.shard][-3:])
            self.deliver(target, target.receive, order)

    def tell(self, shard: int, frame: Frame) -> None:
        """A frame goes to a shard."""
        world, faults = self._world, self._world.faults
        for _ in range(2 if faults.strikes("message_doubled") else 1):
            if not faults.strikes("message_dropped") and frame.sender not in self.cut:
                world.server.later(self._delay(), self._hear, shard, frame)
        if faults.strikes("message_echoed"):
            world.server.later(2 * faults.long_delay(), self._hear, shard, frame)

    def _hear(self, shard: int, frame: Frame) -> None:
        target = self._world.current[shard]
        self._arrive(target, target.hear, frame)

    def deliver(self, target: Incarnation, receive: Any, message: Any) -> None:
        """Something goes to a process."""
        server = self._world.server
        server.later(self._delay(), self._arrive, target, receive, message)

    def reply(self, order: Order, answer: Any) -> None:
        """An answer goes to its client."""
        world, faults = self._world, self._world.faults
        if faults.strikes("message_dropped") or order.shard in self.cut:
            return
        world.loop.call_later(
            self._delay(), world.clients_of[order.number].hear, order, answer, context=world.server.context
        )

    def _arrive(self, target: Incarnation, receive: Any, message: Any) -> None:
        if target.index not in self.cut:
            self._world.loop.run_in(target.process, receive, message)

    def _delay(self) -> float:
        faults = self._world.faults
        return faults.long_delay() if faults.strikes("message_late") else faults.delay(faults.network_s)


class World:
    """Everything there is in one run. `run` is the whole of it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(f"{plan.seed}/world")
        drawn = self.rng.choice((1, 2, 2, 3))
        self.shards = plan.shards or drawn
        self.placement = Placement.even(self.shards)
        self.loop = SimulatedLoop()  # type: ignore[abstract]  # the rest is asked for by nobody
        self.faults = Faults(plan, self.shards)
        settings_rng = random.Random(f"{plan.seed}/settings")
        self.settings = settings_of(settings_rng.choice)
        self._config = config_of(self.settings)
        self.ledgers = Ledgers([self._chart(shard) for shard in range(self.shards)])
        self.auditor = Auditor(self.placement, self.empty_state, self.ledgers)
        self.market = Market()
        self.server = Server(self.loop, self.faults, self._committed)
        self.network = Network(self)
        self.clients_of: dict[int, Client] = {}
        self.current: list[Incarnation] = []
        self.incarnations: list[list[Incarnation]] = [[] for _ in range(self.shards)]
        self.accounts = self._make_accounts()
        self.guarded = [account for account in self.accounts if account.floor == 0]
        self._numbers = 0
        self._digest = xxhash.xxh3_128()
        self._wrong: Wrong | None = None
        self._detail = ""
        self._steps = 0

    # For all parts

    def empty_state(self, shard: int) -> ShardState:
        """What a shard is that has seen nothing."""
        return ShardState(TENANT, self._config, self.placement, shard)

    def time_ns(self) -> int:
        """The present, by a clock that is right."""
        return START_NS + int(self.loop.time() * 1e9)

    def found(self, wrong: Wrong, cause: BaseException | None = None) -> None:
        """Something is wrong; the first such thing counts."""
        if self._wrong is None and not self.loop.is_closed():
            self._wrong = wrong
            self._detail = "".join(traceback.format_exception(cause or wrong))

    def answered(self, order: Order, answer: Any) -> None:
        """A shard has answered."""
        try:
            self.auditor.answered(order, answer)
        except Wrong as wrong:
            self.found(wrong)
        self._digest.update(f"{order.number} {type(answer).__name__} {self.loop.time()}".encode())
        self.network.reply(order, answer)

    def process_ended(self, incarnation: Incarnation) -> None:
        """A shard's process has ended by itself: another takes its place, unless one did already."""
        self.server.drop(incarnation.process)
        if self.current[incarnation.index] is incarnation:
            self.start(incarnation.index)

    def start(self, shard: int) -> None:
        """Start a process for a shard; the network leads to it from now on."""
        incarnation = Incarnation(self, shard, len(self.incarnations[shard]) + 1)
        self.incarnations[shard].append(incarnation)
        if len(self.current) <= shard:
            self.current.append(incarnation)
        self.current[shard] = incarnation
        incarnation.start()

    # Orders

    def order(self, legs: list[Spec]) -> Order:
        """Legs, to be sent as one batch to where the first is at home."""
        self._numbers += 1
        home = self.placement.shard(bucket_of_id(legs[0].id))
        return Order(self._numbers, home, legs_message(legs), legs)

    def order_to(self, account: int, message: Message) -> Order:
        """Something about an account."""
        return self.order_at(self.placement.shard_of_account(account), message)

    def order_at(self, shard: int, message: Message) -> Order:
        """Something for a shard."""
        self._numbers += 1
        return Order(self._numbers, shard, message, [])

    def leg_id(self, rng: random.Random, bucket: int) -> int:
        """A new id for what is at home in a bucket."""
        return fresh_id(rng, self.time_ns() // 1_000_000, bucket)

    def two_accounts(self, rng: random.Random, near: int | None) -> tuple[Account, Account]:
        """Two different ones, of one asset; the first on the shard of `near`, if that is given."""
        asset = rng.choice(ASSETS)
        some = [account for account in self.accounts if account.asset == asset]
        if near is not None:
            shard = self.placement.shard_of_account(near)
            debit = rng.choice([one for one in some if self.placement.shard_of_account(one.id) == shard])
        else:
            debit = rng.choice(some)
        return debit, rng.choice([one for one in some if one != debit])

    def _chart(self, shard: int) -> Chart:
        bucket = self.placement.platform_buckets[shard]
        return Chart(TENANT, platform_bucket=bucket, placement=self.placement)

    def _make_accounts(self) -> list[Account]:
        """Of each asset a platform's account without guards, one with a ceiling, and wallets."""
        accounts = []
        for asset in ASSETS:
            for number in range(5):
                floor = FLOOR_UNSET if number < 2 else 0
                ceiling = 2_000 if number == 1 else CEILING_UNSET
                bucket = self.placement.platform_buckets[number % self.shards] + number
                id = account_id(bucket, TENANT, f"account {number}", asset)
                accounts.append(Account(id, asset, floor, ceiling))
        return accounts

    # The run

    def run(self) -> Outcome:
        """All of it."""
        with _quiet(), self.loop:
            try:
                self._run()
            except Wrong as wrong:
                self.found(wrong)
            except Exception as failure:
                self.found(Wrong("no bugs", f"a callback failed: {failure!r}"), failure)
        return Outcome(
            plan=self.plan,
            steps=self._steps,
            wrong=self._wrong,
            detail=self._detail,
            digest=self._digest.hexdigest(),
            answers=self.auditor.answers,
            records=sum(books.lsn for books in self.auditor.books),
            incidents=self.faults.incident_count,
        )

    def _run(self) -> None:
        for shard in range(self.shards):
            self.start(shard)
        outside = Process("clients")
        drawn = self.rng.choice((2, 4, 8))
        count = self.plan.clients or drawn
        everybody = [Client(self, number) for number in range(count)]
        traders = [Trader(self, number) for number in range(self._trader_count())]
        clients = self.loop.spawn(outside, self._all_clients(everybody, traders))
        incidents = self.faults.incidents
        while self._steps < self.plan.steps:
            while incidents and incidents[-1].step <= self._steps:
                self._happen(incidents.pop())
            self._step()
        self._calm()
        self._drain(clients)
        self.auditor.finish([self._serving(shard) for shard in range(self.shards)])

    def _step(self) -> None:
        self._steps += 1
        if not self.loop.step():
            raise Wrong("liveness", "nothing is left to happen")
        if self._wrong is not None:
            raise self._wrong

    def _calm(self) -> None:
        """No faults from now on."""
        self.faults.calm = True
        self.network.cut.clear()
        for incarnations in self.incarnations:
            for incarnation in incarnations:
                if incarnation.process.stopped:
                    self.loop.wake(incarnation.process)

    def _drain(self, clients: "asyncio.Task[None]") -> None:
        end = self._steps + DRAIN_STEPS_MAX
        while not clients.done():
            if self._steps > end:
                raise Wrong(
                    "liveness", f"a client has no answer after {DRAIN_STEPS_MAX} steps without faults"
                )
            self._step()
        clients.result()
        until = self.loop.time() + DRAIN_S
        while self.loop.time() < until:
            self._step()
        while not all(self._is_resting(shard) for shard in range(self.shards)):
            if self._steps > end:
                raise Wrong("liveness", f"shards are busy {DRAIN_STEPS_MAX} steps after the last fault")
            self._replace_deposed()
            self._step()

    def _is_resting(self, shard: int) -> bool:
        live = self.current[shard].shard
        if live is None or live.stopped is not None or live.durable_lsn != live.state.lsn:
            return False
        if live.state.epoch < self.auditor.books[shard].epoch:
            return False
        return live.state.crossings is None or live.state.crossings.idle

    def _replace_deposed(self) -> None:
        """An owner whom nobody asks for anything does not find out that it is none any more."""
        for shard, current in enumerate(self.current):
            live = current.shard
            if live is not None and live.state.epoch < self.auditor.books[shard].epoch:
                self.start(shard)

    def _serving(self, shard: int) -> ShardState:
        live = self.current[shard].shard
        assert live is not None
        if live.feed.failure is not None:
            raise Wrong("no bugs", f"the projection has stopped: {live.feed.failure!r}")
        return live.state

    def _trader_count(self) -> int:
        if NO_MOVES in self.plan.without:
            return 0
        drawn = random.Random(f"{self.plan.seed}/traders").choice((0, 2, 4, 6))
        return min(drawn, self.plan.clients or drawn)

    async def _all_clients(self, clients: list[Client], traders: list[Trader]) -> None:
        opener = Client(self, len(clients))
        await self._open_accounts(opener)
        if traders:
            await Trader(self, len(traders)).open_market()
        await asyncio.gather(*(client.live() for client in (*clients, *traders)))

    async def _open_accounts(self, client: Client) -> None:
        for shard in range(self.shards):
            here = [one for one in self.accounts if self.placement.shard_of_account(one.id) == shard]
            await self._open_on(client, here)
        for account in self.guarded:
            source = next(one for one in self.accounts if one.asset == account.asset and one.floor != 0)
            id = self.leg_id(self.rng, bucket_of_account(source.id))
            await client.ask(self.order([Spec(id, source.id, account.id, FUNDS, account.asset)]))

    async def _open_on(self, client: Client, accounts: list[Account]) -> None:
        columns = account_columns(
            len(accounts),
            id=ids_column([account.id for account in accounts]),
            asset=[account.asset for account in accounts],
            code=np.ones(len(accounts)),
            floor=[account.floor for account in accounts],
            ceiling=[account.ceiling for account in accounts],
        )
        await client.ask(self.order_to(accounts[0].id, CreateAccounts(columns, [""] * len(accounts))))

    # What happens to shards

    def _happen(self, incident: Incident) -> None:
        self._digest.update(f"{incident.what} {incident.shard}".encode())
        current = self.current[incident.shard]
        match incident.what:
            case "crash":
                current.process.dead = True
                self.server.drop(current.process)
                self.start(incident.shard)
            case "freeze":
                current.process.stopped = True
                self.start(incident.shard)
                self._later(incident.length_s, self.loop.wake, current.process)
            case "replace":
                self.start(incident.shard)
            case "restart_server":
                self.server.end_all()
            case "partition":
                self.network.cut.add(incident.shard)
                self._later(incident.length_s, self.network.cut.discard, incident.shard)
            case "hand_over":
                current.hand_over()
            case "snapshot":
                follower = self.auditor.followers[incident.shard]
                if follower.lsn:
                    self.server.keep_snapshot(incident.shard, follower)
            case "clock_back":
                current.set_clock_back(incident.length_s)

    def _later(self, delay_s: float, work: Any, *arguments: Any) -> None:
        self.server.later(delay_s, work, *arguments)

    def _committed(self, shard: int, entry: Entry) -> None:
        self._digest.update(entry[2])
        try:
            self.auditor.committed(shard, entry)
        except Wrong as wrong:
            self.found(wrong)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines of shards whose faults are meant."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
