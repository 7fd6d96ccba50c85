"""A reader of events that resumes sees each once, in order, whoever is killed under load."""

import asyncio
import contextlib
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import pytest

from actors.runtime import Engine
from gateway.client import AsyncClient, Client, RequestRefused, Retry, Unavailable
from gateway.events.streams import StreamSettings
from gateway.listener import bind
from persistence.database import Database
from tests.crash_load import FUNDS, Load
from tests.faults.http_proxy import HttpProxy
from tests.faults.served import ROOT, START_S, Nursery, environment
from tests.fixtures_cluster import LOCAL
from tests.fixtures_engine import BOUND_S, Shop, settings_of
from tests.fixtures_gateway import RunningGateway

RUNTIMES = LOCAL

QUICK: Final = Retry(first_s=0.01, longest_s=0.05, give_up_s=60.0)
KILLS: Final = 3


async def loaded(database: Database) -> Load:
    """Clients of a database that has everything they need."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine, funds=FUNDS)
        accounts = await shop.bare_accounts(4)
    return Load(Random(seed), shop.buyer, shop.seller, accounts)


def everything(url: str) -> list[dict[str, Any]]:
    """All events that there are, page by page."""
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"position": "start", "more": True}
    with httpx.Client(base_url=url, headers={"Accept": "application/json"}, timeout=BOUND_S) as http:
        while page["more"]:
            page = http.get("/v1/events", params={"after": page["position"]}).json()
            found += page["items"]
    return found


class Collector:
    """Takes events in a task, and knows when it has one."""

    def __init__(self, client: AsyncClient, after: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.source = client.events(after=after)
        self._grown = asyncio.Condition()
        self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        async for event in self.source:
            async with self._grown:
                self.events.append(event)
                self._grown.notify_all()

    async def wait_for(self, id: str) -> None:
        """Return once the event has come."""
        async with asyncio.timeout(BOUND_S), self._grown:
            await self._grown.wait_for(lambda: any(event["id"] == id for event in self.events))

    async def grow(self, count: int) -> None:
        """Return once so many more events have come."""
        goal = len(self.events) + count
        async with asyncio.timeout(BOUND_S), self._grown:
            await self._grown.wait_for(lambda: len(self.events) >= goal)

    async def close(self) -> None:
        await self.source.aclose()
        await self._task


@contextlib.asynccontextmanager
async def collecting(url: str, after: str = "start") -> AsyncIterator[Collector]:
    async with AsyncClient(url, retry=QUICK) as client:
        collector = Collector(client, after)
        try:
            yield collector
        finally:
            await collector.close()


async def test_the_engine_is_killed_under_load(database: Database) -> None:
    load = await loaded(database)
    async with Nursery.opened(database.dsn) as nursery:
        await nursery.serve()
        async with HttpProxy(nursery.url) as proxy, collecting(proxy.url) as collector:
            for kill in range(KILLS):
                clients = await load.run_until(nursery.url, load.random.randrange(20, 100))
                await nursery.end(signal.SIGKILL)
                await asyncio.wait_for(clients, BOUND_S)
                await nursery.serve()
                assert nursery.epoch == kill + 3
                proxy.target = nursery.url
            await load.send_again(nursery.url, load.unacknowledged)
            whole = await asyncio.to_thread(everything, nursery.url)
            await collector.wait_for(whole[-1]["id"])
            assert collector.events == whole
            await nursery.end(signal.SIGTERM)
    told = {event["data"]["id"] for event in whole if event["type"].startswith("move.")}
    asked = [r for r in load.requests if r.path == "/v1/moves" and r.kind != "refused"]
    assert len(asked) > 20
    assert {request.body["id"] for request in asked} <= told


async def test_the_gateway_goes_and_its_connections_break_under_load(gateway: RunningGateway) -> None:
    with Client(gateway.url) as client:
        payer, payee = (client.create_party()["id"] for _ in range(2))
        leg = {"debit": "A:bank", "credit": f"L:wallet/{payer}", "amount": 10_000, "asset": "GBP"}
        client.move("journal", legs=[leg])
        stop = threading.Event()

        def load() -> int:
            count = 0
            while not stop.is_set():
                client.move("transfer", payer=payer, payee=payee, asset="GBP", amount=1)
                count += 1
            return count

        loading = asyncio.create_task(asyncio.to_thread(load))
        async with HttpProxy(gateway.url) as proxy, collecting(proxy.url) as collector:
            for _ in range(4):
                with beside(gateway) as url:
                    proxy.target = url
                    for _ in range(2):
                        await proxy.cut()
                        await collector.grow(10)
                    proxy.target = gateway.url
            stop.set()
            assert await loading > 5
            whole = await asyncio.to_thread(everything, gateway.url)
            await collector.wait_for(whole[-1]["id"])
            assert collector.events == whole


def beside(gateway: RunningGateway) -> contextlib.AbstractContextManager[str]:
    return gateway.beside(StreamSettings(heartbeat_s=0.05))


async def test_the_client_is_killed_under_load(database: Database, tmp_path: Path) -> None:
    load = await loaded(database)
    file = tmp_path / "seen"
    async with Nursery.opened(database.dsn) as nursery:
        await nursery.serve()
        clients = await load.run_until(nursery.url, 1)
        for _ in range(KILLS):
            async with reading(nursery.url, file) as output:
                await lines(output, load.random.randrange(1, 200))
        await nursery.end(signal.SIGTERM)
        await asyncio.wait_for(clients, BOUND_S)
        await nursery.serve()
        await load.send_again(nursery.url, load.unacknowledged)
        whole = await asyncio.to_thread(everything, nursery.url)
        async with reading(nursery.url, file) as output:
            last = ""
            while last != whole[-1]["id"]:
                [last] = await lines(output, 1)
        await nursery.end(signal.SIGTERM)
    assert file.read_text().split() == [event["id"] for event in whole]


@contextlib.asynccontextmanager
async def reading(url: str, file: Path) -> AsyncIterator[asyncio.StreamReader]:
    """A reader that goes on where the file ends, and is killed at the end; it tells what it has written."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.faults.event_reader", url, str(file)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.communicate()


async def lines(output: asyncio.StreamReader, count: int) -> list[str]:
    async with asyncio.timeout(START_S):
        return [(await output.readline()).decode().strip() for _ in range(count)]


# One stream


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Client]:
    with Client(gateway.url, retry=Retry(first_s=0.01, longest_s=0.01, give_up_s=0.05)) as client:
        yield client


def test_events_come_as_they_happen_and_carry_their_position(client: Client) -> None:
    with client.events(after="start", type="party.created") as events:
        made = [client.create_party(name=f"P{n}")["id"] for n in range(3)]
        found: list[str] = []
        while len(found) < 3:
            event = next(events)
            if event["data"]["id"] in made:
                found.append(event["data"]["id"])
                assert events.position == event["id"]
        assert found == made
    with client.events(after=events.position, type=["party", "thing"]) as later:
        another = client.create_party()["id"]
        assert next(later)["data"]["id"] == another


def test_a_filter_that_makes_no_sense_is_refused(client: Client) -> None:
    with client.events(kind="auction") as events, pytest.raises(RequestRefused, match="auction"):
        next(events)


def test_closing_ends_a_reader_that_waits(client: Client) -> None:
    events = client.events(type="thing")
    waiting = threading.Event()

    def read() -> list[Any]:
        waiting.set()
        return list(events)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        assert waiting.wait(BOUND_S)
        events.close()
        assert reading.result(BOUND_S) == []
    with pytest.raises(StopIteration):
        next(events)


def test_a_server_that_is_not_there_is_given_up() -> None:
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    retry = Retry(first_s=0.01, longest_s=0.01, give_up_s=0.05)
    with (
        Client(f"http://127.0.0.1:{port}", retry=retry) as client,
        client.events() as events,
        pytest.raises(Unavailable),
    ):
        next(events)


async def test_an_async_reader_can_be_cancelled_and_go_on(gateway: RunningGateway) -> None:
    async with AsyncClient(gateway.url) as client, client.events(type="party", after="start") as events:
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        made = [(await client.create_party())["id"] for _ in range(3)]
        found: list[str] = []
        while found[-3:] != made:
            found.append((await anext(events))["data"]["id"])
        assert len(set(found)) == len(found)
