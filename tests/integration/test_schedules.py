"""Schedules over HTTP: each tick happens once, late if need be, and whoever is killed meanwhile."""

import asyncio
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from actors.runtime import Engine
from actors.settings import Settings
from gateway.schedules.scheduler import Scheduler
from gateway.schedules.schemas import ScheduleSpec
from gateway.schemas import MoveDraft
from gateway.wire import Amount, Instant, encode
from persistence.database import Database
from persistence.schedules import StoredSchedule
from tests.faults.served import Nursery
from tests.fixtures_cluster import EVERYWHERE
from tests.fixtures_engine import Shop as EngineShop
from tests.fixtures_engine import settings_of
from tests.fixtures_gateway import Client, RunningGateway
from tests.integration.test_http_api import fresh_id

RUNTIMES = EVERYWHERE
DEADLINE_S = 60
KILLS = 2
SCHEDULES = 8
TICKS = 4


def until(holds: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def soon(seconds: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def named() -> str:
    return f"s-{fresh_id()}"


def schedule(http: Client, code: int = 201, **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/schedules", json={"name": named(), "start": soon(), **fields})
    assert answer.status_code == code, answer.text
    made: dict[str, Any] = answer.json()
    return made


def shown(http: Client, name: str) -> dict[str, Any]:
    answer = http.get(f"/v1/schedules/{name}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def have_ticked(http: Client, names: list[str], wanted: int) -> bool:
    return sum(int(shown(http, name)["tick"]) for name in names) >= wanted


def rent(payer: str, payee: str, amount: int = 10) -> dict[str, Any]:
    return {"kind": "transfer", "payer": payer, "payee": payee, "asset": "GBP", "amount": amount}


def test_ticks_make_moves_under_the_ids_that_were_told(http: Client) -> None:
    ada, bob = http.party(), http.party()
    wallet = http.fund(ada, 100)
    made = schedule(http, every={"unit": "second"}, ticks_max=2, move=rent(ada, bob))
    until(lambda: shown(http, made["name"])["state"] == "ended")
    found = shown(http, made["name"])
    assert (found["tick"], found["refused"], found["due"], found["next_id"]) == (2, 0, None, None)
    assert http.balance(wallet) == 80
    first = http.get(f"/v1/moves/{made['next_id']}").json()
    assert (first["state"], first["business_time"][:19]) == ("posted", made["start"][:19])
    assert len(http.get("/v1/moves", params={"payer": ada, "kind": "transfer"}).json()["items"]) == 2


def test_a_step_takes_a_move_further(http: Client) -> None:
    ada, bob = http.party(), http.party()
    http.fund(ada, 100)
    held = http.post("/v1/moves", json={**rent(ada, bob), "transition": "hold"}).json()["id"]
    made = schedule(http, step={"move": held, "transition": "void"})
    until(lambda: shown(http, made["name"])["state"] == "ended")
    assert http.get(f"/v1/moves/{held}").json()["state"] == "voided"


def test_what_is_refused_is_said_and_the_next_tick_comes(http: Client) -> None:
    ada, bob = http.party(), http.party()
    wallet = http.fund(ada, 15)
    made = schedule(http, every={"unit": "second"}, ticks_max=2, move=rent(ada, bob))
    until(lambda: shown(http, made["name"])["state"] == "ended")
    found = shown(http, made["name"])
    assert (found["refused"], found["code"]) == (1, "below_floor")
    assert http.balance(wallet) == 5


def test_paused_listed_and_ended(http: Client) -> None:
    ada, bob = http.party(), http.party()
    wallet = http.fund(ada, 100)
    made = schedule(http, start=soon(3600), move=rent(ada, bob))
    path = f"/v1/schedules/{made['name']}"
    assert http.patch(path, json={"paused": True}).json()["state"] == "paused"
    assert http.patch(path, json={"paused": False}).json()["state"] == "active"
    names: list[str] = []
    cursor: str | None = None
    while cursor != "":
        page = http.get("/v1/schedules", params={"limit": 1, **({"cursor": cursor} if cursor else {})}).json()
        names += [item["name"] for item in page["items"]]
        cursor = page["next"] or ""
    assert made["name"] in names
    assert names == sorted(names)
    again = http.post("/v1/schedules", json={"name": made["name"], "start": soon(), "move": rent(ada, bob)})
    assert (again.status_code, again.json()["code"]) == (409, "name_already_used")
    assert http.delete(path).status_code == 200
    assert http.get(path).status_code == 404
    assert http.balance(wallet) == 100


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"start": "2001-01-01T00:00:00Z", "move": {"kind": "transfer"}}, "invalid_field"),
        ({"until": "2001-01-01T00:00:00Z", "move": {"kind": "transfer"}}, "invalid_field"),
        ({}, "invalid_field"),
        ({"move": {"kind": "transfer", "amount": -1}}, "negative_amount"),
        ({"move": {"kind": "transfer"}, "every": {"unit": "day", "counts": 2}}, "unknown_field"),
    ],
)
def test_what_is_no_schedule_is_refused(http: Client, fields: dict[str, Any], code: str) -> None:
    assert schedule(http, 422, **fields)["code"] == code


async def test_two_gateways_and_one_that_forgets_make_one_move(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await EngineShop.opened(engine, funds=100)
        payer, payee = UUID(int=shop.buyer), UUID(int=shop.seller)
        move = MoveDraft(kind="transfer", payer=payer, payee=payee, asset="GBP", amount=Amount(10))
        start = time.time_ns() - 10**9
        spec = encode(ScheduleSpec(start=Instant(start), move=move))
        stored = StoredSchedule(
            name="once", id=UUID(int=7), created=start, principal="", spec=spec, due=start
        )
        one, other = Scheduler(engine), Scheduler(engine)
        try:
            assert await one.stored.add(stored)
            assert not any(await asyncio.gather(*(which._tick(stored, start) for which in (one, other, one))))
            assert not await other._tick(stored, start)  # as after a kill, before its row went on
            found = await one.stored.get("once")
            assert found is not None
            assert (found.state, found.tick, found.refused) == ("ended", 1, 0)
        finally:
            await one.stored.close()
            await other.stored.close()
        balance = await engine.account(shop.wallet(shop.buyer), "GBP").balance()
        assert balance.posted == 90


async def test_every_tick_happens_once_whoever_is_killed(database: Database) -> None:
    async with Nursery.opened(database.dsn) as nursery:
        names: list[str] = []
        ada = bob = ""
        for life in range(KILLS + 1):
            await nursery.serve()
            with Client(base_url=nursery.url, timeout=60) as http:
                if not names:
                    assert http.post("/v1/things", json={"kind": "asset", "code": "GBP"}).is_success
                    ada, bob = http.party(), http.party()
                    http.fund(ada, 1_000)
                    every: dict[str, Any] = {
                        "every": {"unit": "second"},
                        "ticks_max": TICKS,
                        "move": rent(ada, bob, 1),
                    }
                    names = [schedule(http, **every)["name"] for _ in range(SCHEDULES)]

                wanted = SCHEDULES * TICKS * (life + 1) // (KILLS + 1)
                until(partial(have_ticked, http, names, wanted))
                if life == KILLS:
                    moves = http.get(
                        "/v1/moves", params={"payer": ada, "kind": "transfer", "limit": 1000}
                    ).json()
                    assert len(moves["items"]) == SCHEDULES * TICKS
                    assert http.balance(http.account(f"L:wallet/{bob}")) == SCHEDULES * TICKS
                    assert {shown(http, name)["refused"] for name in names} == {0}
                else:
                    await nursery.end(signal.SIGKILL)


def test_what_fell_due_meanwhile_happens_with_its_own_time(spare_databases: Any) -> None:
    settings = Settings(database_url=spare_databases())
    with RunningGateway(settings) as gateway, Client(base_url=gateway.url) as http:
        assert http.post("/v1/things", json={"kind": "asset", "code": "GBP"}).is_success
        ada, bob = http.party(), http.party()
        wallet = http.fund(ada, 100)
        late = soon(1)
        made = schedule(http, start=late, every={"unit": "second"}, ticks_max=2, move=rent(ada, bob))
        assert http.patch(f"/v1/schedules/{made['name']}", json={"paused": True}).is_success
    until(lambda: datetime.now(UTC) > datetime.fromisoformat(late) + timedelta(seconds=2))
    with RunningGateway(settings) as gateway, Client(base_url=gateway.url) as http:
        assert http.balance(wallet) == 100
        assert http.patch(f"/v1/schedules/{made['name']}", json={"paused": False}).is_success
        until(lambda: shown(http, made["name"])["state"] == "ended")
        moves = http.get("/v1/moves", params={"payer": ada, "kind": "transfer", "order": "oldest"}).json()
        times = [datetime.fromisoformat(item["business_time"][:26] + "Z") for item in moves["items"]]
        assert times[1] - times[0] == timedelta(seconds=1)
        assert abs(times[0] - datetime.fromisoformat(late)) < timedelta(milliseconds=1)
