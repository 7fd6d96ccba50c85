"""A gateway as clients meet it: a real engine on a real PostgreSQL, behind a real HTTP server.

`gateway` is shared by the tests of a module, which therefore use Parties and accounts of their own.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx
import psycopg
import pytest
import uvloop
from psycopg import sql
from psycopg.conninfo import make_conninfo

from actors.runtime import Engine
from actors.settings import Settings
from gateway.events.streams import StreamSettings
from gateway.listener import bind
from gateway.server import serving
from gateway.webhooks.settings import WebhookSettings
from persistence.embedded import EmbeddedServer
from tests.fixtures_cluster import engine_on
from tests.fixtures_postgres import TEMPLATE

START_S: Final = 120
REST_S: Final = 20
T = TypeVar("T")
_numbers = itertools.count(1)


class RunningGateway:
    """An engine and its HTTP server in a thread with an event loop of its own."""

    def __init__(
        self,
        settings: Settings,
        runtime: str = "local",
        webhooks: WebhookSettings | None = None,
        ray_address: str = "",
    ) -> None:
        self._settings = settings
        self._runtime = runtime  # see `engine_on`
        self._ray_address = ray_address
        self._webhooks = webhooks
        self._started = threading.Event()
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gateway")
        self.engine: Engine
        self.url = ""

    def __enter__(self) -> "RunningGateway":
        self._thread.start()
        assert self._started.wait(START_S), "the gateway did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_S)
        assert not self._thread.is_alive(), "the gateway did not stop"
        if self._failure is not None:
            raise self._failure

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine beside the engine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_S)

    @contextmanager
    def beside(self, streams: StreamSettings) -> Iterator[str]:
        """The address of another gateway to the same engine, for the length of the block."""
        stop = asyncio.Event()
        started: Future[str] = Future()

        async def serve() -> None:
            async with serving(self.engine, bind("127.0.0.1", 0), streams) as server:
                started.set_result(server.url)
                await stop.wait()

        running = asyncio.run_coroutine_threadsafe(serve(), self._loop)
        try:
            yield started.result(START_S)
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            running.result(START_S)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as failure:  # handed to the test's own thread
            self._failure = failure
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with (
            engine_on(self._runtime, self._settings, self._ray_address) as self.engine,
            serving(self.engine, bind("127.0.0.1", 0), webhooks=self._webhooks) as server,
        ):
            self.url = server.url
            self._started.set()
            await self._stop.wait()


class Client(httpx.Client):
    """An HTTP client that knows how to make what most tests need."""

    def party(self, name: str = "") -> str:
        """A new Party's id."""
        answer = self.post("/v1/parties", json={"kind": "person", "name": name})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def account(self, key: str, asset: str = "GBP", **limits: Any) -> str:
        """An account's id, opened if it is not there yet."""
        answer = self.post("/v1/accounts", json={"key": key, "asset": asset, **limits})
        assert answer.status_code in {200, 201}, answer.text
        return str(answer.json()["id"])

    def balance(self, account: str, **query: Any) -> int:
        """What an account has."""
        answer = self.get(f"/v1/accounts/{account}/balance", params=query)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["posted"])

    def fund(self, party: str, amount: int) -> str:
        """Put money into a Party's wallet, and return the wallet's id."""
        leg = {"debit": "A:bank", "credit": f"L:wallet/{party}", "amount": amount, "asset": "GBP"}
        answer = self.post("/v1/moves", json={"kind": "journal", "legs": [leg]})
        assert answer.status_code == 201, answer.text
        return self.account(f"L:wallet/{party}")

    def books(self) -> tuple[int, Any]:
        """How long the log is, and the trial balance: what must not change when something is refused."""
        lsn = self._lsn_at_rest()
        answer = self.get("/v1/trial-balance")
        assert answer.status_code == 200, answer.text
        assert answer.json()["balanced"], answer.text
        return lsn, answer.json()

    def _lsn_at_rest(self) -> int:
        """How long the log is once shards have told each other all about what was answered: a turn of each of
        them, for holds, finds nothing more to write."""
        lsn, deadline = -1, time.monotonic() + REST_S
        while True:
            assert self.get("/v1/holds", params={"limit": 1}).status_code == 200
            found = int(self.get("/health").json()["lsn"])
            if found == lsn:
                return lsn
            assert time.monotonic() < deadline, "the log grows on"
            lsn = found


@pytest.fixture(scope="session")
def spare_databases(postgres_server: EmbeddedServer) -> Iterator[Any]:
    """Makes migrated databases for fixtures that live longer than a test."""
    made: list[str] = []

    def make() -> str:
        name = f"spare_{next(_numbers)}"
        with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(
                    sql.Identifier(name), sql.Identifier(TEMPLATE)
                )
            )
        made.append(name)
        return make_conninfo(postgres_server.dsn, dbname=name)

    yield make
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def gateway(spare_databases: Any, request: pytest.FixtureRequest) -> Iterator[RunningGateway]:
    """An engine behind HTTP, with pounds; local, or on the runtime that a module asks for by its
    parameter."""
    runtime = getattr(request, "param", "local")
    settings = Settings(database_url=spare_databases())
    ray_address = request.getfixturevalue("ray_address") if runtime == "ray" else ""
    with RunningGateway(settings, runtime, ray_address=ray_address) as running:
        with httpx.Client(base_url=running.url) as client:
            made = client.post("/v1/things", json={"kind": "asset", "code": "GBP", "exponent": 2})
            assert made.status_code == 201, made.text
        yield running


@pytest.fixture
def http(gateway: RunningGateway) -> Iterator[Client]:
    """A client of the gateway."""
    with Client(base_url=gateway.url, timeout=60) as client:
        yield client
