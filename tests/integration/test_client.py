"""The Python client against a real server, and against one that fails: each leg happens once."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import numpy as np
import pytest

from actors.runtime import Engine
from actors.settings import Settings
from engine.layout import LegFlag, ids_list
from gateway.client import (
    Answers,
    AsyncClient,
    Client,
    RequestRefused,
    Result,
    Retry,
    Transport,
    Unavailable,
    new_account_ids,
    new_ids,
    to_uuids,
)
from persistence.database import Database
from tests.faults.http_proxy import HttpProxy
from tests.faults.served import Nursery
from tests.fixtures_cluster import LOCAL
from tests.fixtures_engine import BOUND_S
from tests.fixtures_gateway import RunningGateway

RUNTIMES = LOCAL

QUICK: Final = Retry(first_s=0.01, longest_s=0.05, give_up_s=60.0)
Ids = Any


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Client]:
    with Client(gateway.url, batch_rows=100) as client:
        yield client


@pytest.fixture
def accounts(client: Client) -> Ids:
    """Four new accounts, of which the last may not be overdrawn."""
    ids = new_account_ids(4)
    client.create_accounts(id=ids, asset="GBP", code=1, floor=[None, None, None, 0]).check()
    return ids


def net(client: Client, account: Ids) -> int:
    """Credits minus debits."""
    counters = client.account(str(to_uuids(account.reshape(1, 2))[0]))["counters"]
    return int(counters["credits_posted"]) - int(counters["debits_posted"])


# Calls


def test_the_documented_ten_lines(gateway: RunningGateway) -> None:
    with Client(gateway.url) as client:
        accounts = new_account_ids(10)
        client.create_accounts(id=accounts, asset="GBP", code=1).check()
        payer = np.random.default_rng(1).integers(0, 10, 20_000)
        payee = (payer + 1) % 10
        answers = client.post_legs(
            debit=accounts[payer], credit=accounts[payee], amount=1, asset="GBP", code=1
        )
        assert answers.counts() == {Result.CREATED: 20_000}
        assert len(set(ids_list(answers.ids))) == 20_000
        assert 0 < answers.lsn <= client.get("/health")["lsn"]
        assert net(client, accounts[0]) == int((payee == 0).sum()) - int((payer == 0).sum())


def test_many_batches_are_one_answer_in_the_order_of_the_legs(client: Client, accounts: Ids) -> None:
    count = 1_050
    debit = np.repeat(accounts[:1], count, axis=0)
    debit[::7] = accounts[3]  # has nothing to give
    answers = client.post_legs(debit=debit, credit=accounts[1], amount=1, asset="GBP", code=1)
    assert answers.refused.tolist() == list(range(0, count, 7))
    assert answers.counts() == {Result.CREATED: count - 150, Result.BELOW_FLOOR: 150}
    again = client.post_legs(id=answers.ids, debit=debit, credit=accounts[1], amount=1, asset="GBP", code=1)
    assert again.counts() == {Result.EXISTS: count - 150, Result.ID_ALREADY_FAILED: 150}
    assert np.array_equal(again.timestamp[again.accepted], answers.timestamp[answers.accepted])
    assert net(client, accounts[1]) == count - 150


def test_in_order_each_batch_sees_the_one_before(client: Client, accounts: Ids) -> None:
    """Money goes to the poor account first, and all of it on from there."""
    first = {"debit": accounts[0], "credit": accounts[3], "amount": 1, "asset": "GBP", "code": 1}
    rows = [first] * 250 + [first | {"debit": accounts[3], "credit": accounts[1]}] * 250
    client.post_legs(rows, in_order=True).check()
    assert (net(client, accounts[3]), net(client, accounts[1])) == (0, 250)


def test_a_stream_of_parts_answers_part_by_part(client: Client, accounts: Ids) -> None:
    asked = []

    def parts() -> Iterator[dict[str, Any]]:
        for number in range(1, 31):
            asked.append(number)
            amounts = np.full(number * 10, number)
            yield {"debit": accounts[0], "credit": accounts[1], "amount": amounts, "asset": 1, "code": 1}

    sizes = []
    for answers in client.post_stream(parts()):
        sizes.append(len(answers.check()))
        assert len(asked) - len(sizes) <= 4, "the generator does not run ahead"
    assert sizes == [number * 10 for number in range(1, 31)]
    assert net(client, accounts[1]) == sum(10 * number * number for number in range(1, 31))


async def test_the_same_for_asyncio(gateway: RunningGateway) -> None:
    async with AsyncClient(gateway.url, batch_rows=100) as client:
        accounts = new_account_ids(2)
        (await client.create_accounts(id=accounts, asset="GBP", code=1)).check()
        legs = {"debit": accounts[0], "credit": accounts[1], "amount": 1, "asset": "GBP", "code": 1}
        ids = new_ids(350, np.repeat(accounts[:1], 350, axis=0))
        (await client.post_legs(**legs, id=ids)).check()

        async def parts() -> AsyncIterator[dict[str, Any]]:
            for number in range(1, 6):
                yield legs | {"amount": np.full(50, number)}

        assert [len(answers.check()) async for answers in client.post_stream(parts())] == [50] * 5
        assert [len(answers) async for answers in client.post_stream([legs] * 3)] == [1] * 3
        again = await client.post_legs(**legs, id=ids, in_order=True)
        assert again.counts() == {Result.EXISTS: 350}
        party = await client.create_party(name="Ada")
        wallet = await client.open_account(f"L:wallet/{party['id']}", "GBP")
        assert (await client.get(f"/v1/accounts/{wallet['id']}"))["party"] == party["id"]


def test_the_rest_of_the_interface(client: Client) -> None:
    ada, bob = client.create_party(name="Ada"), client.create_party("org", name="Bob & Co")
    wallet = client.open_account(f"L:wallet/{ada['id']}", "GBP")
    leg = {"debit": "A:bank", "credit": wallet["key"], "amount": 100, "asset": "GBP"}
    client.move("journal", legs=[leg])
    held = client.move(
        "transfer", transition="hold", payer=ada["id"], payee=bob["id"], asset="GBP", amount=30
    )
    assert client.step(held["id"], "post")["state"] == "posted"
    assert client.balance(wallet["id"])["posted"] == 70
    assert [entry["amount"] for entry in client.entries(wallet["id"], limit=1)] == [30, 100]
    assert client.create_thing("client-test", "product")["code"] == "client-test"
    assert client.get("/v1/trial-balance")["balanced"]


def test_what_is_wrong_is_raised_as_the_server_said_it(client: Client, accounts: Ids) -> None:
    with pytest.raises(RequestRefused, match="There is no") as raised:
        client.post_legs(debit=accounts[0], credit=accounts[1], amount=1, asset="XXX", code=1)
    assert raised.value.status == 404
    with pytest.raises(RequestRefused) as raised:
        client.post_legs(
            debit=accounts[0], credit=accounts[1], amount=[1, 1], asset=1, code=1, if_debit_version=[0, -1]
        )
    assert (raised.value.code, raised.value.where) == ("invalid_field", "[1].if_debit_version")


# Failures


def test_lost_answers_are_asked_for_again_and_nothing_happens_twice(gateway: RunningGateway) -> None:
    async def through_a_proxy() -> None:
        async with (
            HttpProxy(gateway.url) as proxy,
            AsyncClient(proxy.url, connections=3, batch_rows=50, retry=QUICK) as client,
        ):
            accounts = new_account_ids(3)
            (await client.create_accounts(id=accounts, asset="GBP", code=1, floor=[None, None, 0])).check()
            proxy.lose_answers(7)
            debit = np.repeat(accounts[:1], 600, axis=0)
            debit[5] = accounts[2]
            answers = await client.post_legs(debit=debit, credit=accounts[1], amount=1, asset="GBP", code=1)
            assert proxy.lost == 7
            assert answers.refused.tolist() == [5]
            assert {Result.CREATED, Result.EXISTS} <= set(answers.results)
            counters = (await client.get(f"/v1/accounts/{to_uuids(accounts[1:2])[0]}"))["counters"]
            assert counters["credits_posted"] == 599

    asyncio.run(through_a_proxy())


async def test_a_chain_whose_answer_was_lost_is_there_as_a_whole(gateway: RunningGateway) -> None:
    async with (
        HttpProxy(gateway.url) as proxy,
        AsyncClient(proxy.url, connections=1, retry=QUICK) as client,
    ):
        accounts = new_account_ids(3)
        (await client.create_accounts(id=accounts, asset="GBP", code=1, floor=[None, None, 0])).check()
        debit = np.repeat(accounts[:1], 8, axis=0)
        debit[4] = accounts[2]  # spoils the second chain; the third has a leg that was there before
        ids = new_ids(8, debit)
        there_before = {"debit": accounts[0], "credit": accounts[1], "amount": 1, "asset": 1, "code": 1}
        (await client.post_legs(**there_before, id=ids[6:7])).check()
        linked = int(LegFlag.LINKED)
        legs: dict[str, Any] = {
            "id": ids, "debit": debit, "credit": accounts[1], "amount": 1, "asset": 1, "code": 1,
            "flags": [linked, linked, 0, linked, 0, linked, 0, 0],
        }  # fmt: skip
        proxy.lose_answers(1)
        answers = await client.post_legs(legs)
        assert proxy.lost == 1
        assert answers.results == [
            *[Result.EXISTS] * 3,
            *[Result.LINKED_EVENT_FAILED, Result.ID_ALREADY_FAILED],
            *[Result.LINKED_EVENT_FAILED, Result.EXISTS],
            Result.EXISTS,
        ]
        stamps = answers.timestamp.tolist()
        assert [stamp - stamps[0] for stamp in stamps[:3]] == [0, 1, 2]
        for id, stamp in zip(to_uuids(ids[:3]), stamps, strict=False):
            leg = await client.get(f"/v1/legs/{id}")
            assert leg["timestamp"].endswith(f"{stamp % 10**9:09d}Z")


async def test_a_killed_server_loses_nothing_and_doubles_nothing(database: Database) -> None:
    """Killed twice while batches are on their way; the client goes on with whoever serves next."""
    async with (
        Nursery.opened(database.dsn) as nursery,
        HttpProxy("http://127.0.0.1:1") as proxy,
        AsyncClient(proxy.url, connections=3, batch_rows=200, retry=QUICK) as client,
    ):
        await nursery.serve()
        proxy.target = nursery.url
        await client.create_thing("GBP", exponent=2)
        accounts = new_account_ids(3)
        (await client.create_accounts(id=accounts, asset="GBP", code=1)).check()

        async def load() -> list[Answers]:
            legs = {"debit": accounts[0], "credit": accounts[1], "asset": 1, "code": 1}
            parts = ({**legs, "amount": np.full(200, number)} for number in range(1, 121))
            return [answers async for answers in client.post_stream(parts)]

        loading = asyncio.create_task(load())
        for number in (20, 60):
            await asyncio.wait_for(proxy.answered(number), BOUND_S)
            await nursery.end(signal.SIGKILL)
            await nursery.serve()
            proxy.target = nursery.url
        answers = await loading
        assert len(answers) == 120
        assert all(part.accepted.all() for part in answers)
        counters = (await client.get(f"/v1/accounts/{to_uuids(accounts[1:2])[0]}"))["counters"]
        assert counters["credits_posted"] == 200 * sum(range(1, 121))
        assert (await client.get("/v1/trial-balance"))["balanced"]
        await nursery.end(signal.SIGTERM)
    async with Engine.running(Settings(database_url=database.dsn)) as engine:
        assert (await engine.verify()).ok


# Pauses


class Script(BaseHTTPRequestHandler):
    """Answers requests as told: a status with Retry-After, or no answer at all."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, ScriptedServer)
        step = self.server.script.pop(0)
        if step is None:
            self.close_connection = True
            return
        status, headers = step
        body = b'{"code":"overloaded","detail":"Full."}'
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class ScriptedServer(ThreadingHTTPServer):
    daemon_threads = True
    script: list[Any]


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer(("127.0.0.1", 0), Script) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Patience:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def __call__(self) -> float:
        return sum(self.slept)


def transport(server: ScriptedServer, script: list[Any], patience: Patience) -> Transport:
    server.script = script
    return Transport(
        f"http://127.0.0.1:{server.server_address[1]}",
        sleep=patience.sleep,
        clock=patience,
        chance=lambda: 1.0,
        retry=Retry(first_s=0.1, longest_s=1.0, give_up_s=10.0),
    )


DONE: Final = (200, {"Tessera-Lsn": "7"})
BUSY: Final = (503, {"Retry-After": "3"})


def test_pauses_double_up_to_a_bound(scripted: ScriptedServer) -> None:
    patience = Patience()
    sender = transport(scripted, [None, (502, {}), None, (503, {}), None, (500, {}), DONE], patience)
    response = sender.send("GET", "/health")
    assert (response.status, response.lsn, response.attempts) == (200, 7, 7)
    assert patience.slept == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    sender.close()


def test_retry_after_is_the_least_that_is_waited(scripted: ScriptedServer) -> None:
    patience = Patience()
    sender = transport(scripted, [BUSY, DONE], patience)
    assert sender.send("GET", "/").attempts == 2
    assert patience.slept == [3.1]
    sender.close()


def test_it_gives_up_in_time_and_says_why(scripted: ScriptedServer) -> None:
    patience = Patience()
    sender = transport(scripted, [BUSY] * 9, patience)
    with pytest.raises(Unavailable, match=r"gave up after 4 attempts: overloaded: Full\."):
        sender.send("GET", "/")
    assert patience() <= 10
    sender.close()


def test_a_refusal_is_not_tried_again(scripted: ScriptedServer) -> None:
    patience = Patience()
    sender = transport(scripted, [(422, {})], patience)
    with pytest.raises(RequestRefused):
        sender.send("GET", "/")
    assert patience.slept == []
    sender.close()


def test_nobody_there(scripted: ScriptedServer) -> None:
    patience = Patience()
    sender = Transport("http://127.0.0.1:1", sleep=patience.sleep, clock=patience, retry=Retry(give_up_s=1.0))
    with pytest.raises(Unavailable, match="ConnectionRefusedError"):
        sender.send("GET", "/")
    assert scripted.server_address


async def test_a_full_engine_is_waited_for(database: Database) -> None:
    """A mailbox of one batch: most of a burst is refused at first, and all is written in the end."""
    settings = Settings(database_url=database.dsn, mailbox_messages_max=1)
    with RunningGateway(settings) as gateway:
        async with AsyncClient(gateway.url, connections=8, batch_rows=20) as client:
            await client.create_thing("GBP", exponent=2)
            accounts = new_account_ids(2)
            (await client.create_accounts(id=accounts, asset="GBP", code=1)).check()
            legs = {"debit": accounts[0], "credit": accounts[1], "asset": 1, "code": 1}
            answers = await client.post_legs(**legs, amount=np.ones(1_000, np.int64))
            assert answers.accepted.all()
            counters = (await client.get(f"/v1/accounts/{to_uuids(accounts[1:])[0]}"))["counters"]
            assert counters["credits_posted"] == 1_000
