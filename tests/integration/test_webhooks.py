"""Webhooks as receivers meet them: signed, in order for each account, until they are taken."""

import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any, Final

import msgspec
import pytest

from actors.settings import Settings
from gateway.webhooks.settings import WebhookSettings
from gateway.webhooks.signatures import secret_of, verify
from persistence.database import Database
from simulations.receiver import CUT, HANG, Message, Receiver, Reply
from tests.faults.served import Nursery
from tests.fixtures_gateway import Client, RunningGateway
from tests.integration.test_http_api import fresh_id

BOUND_S: Final = 60
QUICK: Final = WebhookSettings(
    timeout_s=0.3,
    first_pause_s=0.02,
    pause_factor=1.5,
    longest_pause_s=0.2,
    attempts_max=1_000,
    probe_pause_s=0.01,
    longest_probe_pause_s=0.1,
    write_s=0.05,
    poll_s=0.05,
    restart_s=0.1,
)
TAKE: Final = Reply()
KILLS: Final = 2


class Inbox:
    """What a receiver was sent, and what it took. `reply` decides, and takes unless it says otherwise."""

    def __init__(self, reply: Callable[[dict[str, Any]], Reply] = lambda _: TAKE) -> None:
        self.reply = reply
        self.messages: list[Message] = []
        self.taken: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, message: Message) -> Reply:
        event = json.loads(message.body)
        reply = self.reply(event)
        with self._changed:
            self.messages.append(message)
            if 200 <= reply.status < 300 and reply is not HANG:
                self.taken.append(event)
            self._changed.notify_all()
        return reply

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until something holds of what has come."""
        with self._changed:
            assert self._changed.wait_for(condition, BOUND_S), (len(self.messages), len(self.taken))

    def has(self, count: int) -> bool:
        """Whether so many different legs were taken."""
        return len(self.amounts) >= count

    @property
    def amounts(self) -> list[int]:
        """Of the legs that were taken, each once."""
        return list(dict.fromkeys(event["data"]["amount"] for event in list(self.taken)))


@pytest.fixture(scope="module")
def gateway(spare_databases: Any) -> Iterator[RunningGateway]:
    with RunningGateway(Settings(database_url=spare_databases()), webhooks=QUICK) as running:
        with Client(base_url=running.url) as client:
            assert client.post("/v1/things", json={"kind": "asset", "code": "GBP", "exponent": 2}).is_success
        yield running


@pytest.fixture
def http(gateway: RunningGateway) -> Iterator[Client]:
    """A client; whatever webhooks it made are gone afterwards."""
    with Client(base_url=gateway.url, timeout=60) as client:
        yield client
        for webhook in client.get("/v1/webhooks").json()["items"]:
            assert client.delete(f"/v1/webhooks/{webhook['id']}").is_success


def hook(http: Client, url: str, **more: Any) -> dict[str, Any]:
    """A new webhook, with its secret."""
    answer = http.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return {**made["webhook"], "secret": made["secret"]}


def legs_of(*accounts: str) -> dict[str, Any]:
    return {"types": ["leg"], "accounts": list(accounts)}


def pairs(http: Client, count: int) -> list[tuple[str, str]]:
    """Accounts with money, and others to send it to."""
    found = []
    for _ in range(count):
        rich = http.fund(http.party(), 1_000_000)
        found.append((rich, http.account(f"L:wallet/{http.party()}")))
    return found


def pay(http: Client, debit: str, credit: str, amount: int) -> None:
    leg = {"id": fresh_id(), "debit": debit, "credit": credit, "amount": amount, "asset": "GBP", "code": 1}
    made = http.post("/v1/legs", json=leg)
    assert made.status_code == 201, made.text


def shown(http: Client, id: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/v1/webhooks/{id}").json()
    return found


def until(condition: Callable[[], Any]) -> None:
    """Ask the gateway again and again."""
    ends = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < ends
        threading.Event().wait(0.01)


def walked(http: Client, path: str, **query: Any) -> list[dict[str, Any]]:
    """A list, page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = http.get(path, params={**query, **cursor}).json()
        found += page["items"]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


def test_what_is_sent_is_what_happened(http: Client) -> None:
    [(debit, credit)] = pairs(http, 1)
    inbox = Inbox()
    with Receiver(inbox) as receiver:
        made = hook(http, receiver.url, name="books", filter=legs_of(debit))
        start = http.get("/v1/events", params={"after": "now"}, headers={"Accept": "application/json"})
        for amount in (5, 7):
            pay(http, debit, credit, amount)
        inbox.wait(lambda: len(inbox.taken) == 2)
    query = {"after": start.json()["position"], "account": debit}
    told: list[dict[str, Any]] = []
    while len(told) < 2:
        page = http.get("/v1/events", params=query, headers={"Accept": "application/json"}).json()
        told += page["items"]
        query["after"] = page["position"]
    assert inbox.taken == told
    keys = [secret_of(made["secret"])]
    for message in inbox.messages:
        assert message.headers["content-type"] == "application/json"
        assert verify(message.headers, message.body, keys, int(time.time())) == message.id
        assert "." not in message.id
    assert len({message.id for message in inbox.messages}) == 2
    assert "secret" not in http.get(f"/v1/webhooks/{made['id']}").text.replace("old_secret_until", "")
    until(lambda: len(http.get(f"/v1/webhooks/{made['id']}/deliveries").json()["items"]) == 2)
    deliveries = http.get(f"/v1/webhooks/{made['id']}/deliveries").json()["items"]
    assert [item["event"] for item in deliveries] == [event["id"] for event in reversed(told)]
    assert {(item["status"], item["error"], item["attempt"]) for item in deliveries} == {(204, "", 1)}


def test_each_is_delivered_and_accounts_keep_their_order(http: Client) -> None:
    """A receiver that fails, hangs, cuts, and answers late: too late, and just in time."""
    random = Random(5)
    accounts = pairs(http, 8)
    moods = [TAKE] * 6 + [Reply(500), Reply(503), CUT, HANG, Reply(after_s=0.5), Reply(after_s=0.05)]
    inbox = Inbox(lambda _: random.choice(moods))
    with Receiver(inbox) as receiver:
        hook(http, receiver.url, filter=legs_of(*(debit for debit, _ in accounts)))
        for amount in range(1, 201):
            pay(http, *accounts[amount % len(accounts)], amount)
        inbox.wait(lambda: len(inbox.amounts) == 200)
    assert sorted(inbox.amounts) == list(range(1, 201))
    assert len(inbox.messages) > 200, "some came more than once"
    by_account = defaultdict(list)
    for event in inbox.taken:
        by_account[event["data"]["debit"]].append(event["data"]["amount"])
    for amounts in by_account.values():
        assert list(dict.fromkeys(amounts)) == sorted(set(amounts))
        assert amounts == sorted(amounts), "not even a repeat comes after what follows it"
    ids = {message.id: message.body for message in inbox.messages}
    assert all(ids[message.id] == message.body for message in inbox.messages)


def test_an_account_that_waits_holds_up_no_other(http: Client) -> None:
    (poison, first), (fine, second) = pairs(http, 2)
    healed = threading.Event()

    def reply(event: dict[str, Any]) -> Reply:
        return Reply(500) if event["data"]["debit"] == poison and not healed.is_set() else TAKE

    inbox = Inbox(reply)
    with Receiver(inbox) as receiver:
        made = hook(http, receiver.url, filter=legs_of(poison, fine))
        for amount in range(1, 41):
            pay(http, poison, first, amount)
            pay(http, fine, second, 100 + amount)
        inbox.wait(lambda: len(inbox.taken) == 40)
        assert inbox.amounts == list(range(101, 141))
        tried = {json.loads(message.body)["data"]["amount"] for message in inbox.messages}
        assert tried & set(range(1, 41)) == {1}, "what comes after it has not been tried"
        until(lambda: shown(http, made["id"])["waiting"] == 40)
        healed.set()
        inbox.wait(lambda: len(inbox.taken) == 80)
        assert inbox.amounts[40:] == list(range(1, 41))
        until(lambda: shown(http, made["id"])["waiting"] == 0)


def test_nothing_is_lost_when_the_gateway_goes(spare_databases: Any) -> None:
    """Not what was never tried, not what failed, not what waits behind it, and no account's order."""
    url = spare_databases()
    inbox = Inbox(lambda _: Reply(500))
    with Receiver(inbox) as receiver:
        with (
            RunningGateway(Settings(database_url=url), webhooks=QUICK) as first,
            Client(base_url=first.url) as http,
        ):
            assert http.post("/v1/things", json={"kind": "asset", "code": "GBP"}).is_success
            accounts = pairs(http, 3)
            hook(http, receiver.url, filter=legs_of(*(debit for debit, _ in accounts)))
            for amount in range(1, 31):
                pay(http, *accounts[amount % 3], amount)
            inbox.wait(lambda: len(inbox.messages) > 20)
        inbox.reply = lambda _: TAKE
        with RunningGateway(Settings(database_url=url), webhooks=QUICK):
            inbox.wait(lambda: len(inbox.amounts) == 30)
        seen = len(inbox.messages)
        with (
            RunningGateway(Settings(database_url=url), webhooks=QUICK) as third,
            Client(base_url=third.url) as http,
        ):
            pay(http, *accounts[0], 1_000)
            inbox.wait(lambda: 1_000 in inbox.amounts)
    assert len(inbox.messages) == seen + 1, "what was taken is not sent again"
    for third_of in range(3):
        amounts = [amount for amount in inbox.amounts if amount % 3 == third_of and amount < 1_000]
        assert amounts == sorted(amounts)


async def test_nothing_is_lost_when_the_process_is_killed(database: Database) -> None:
    """Each event comes, and an account's in order, whatever was on its way."""
    random = Random(7)
    inbox = Inbox(lambda _: random.choice([TAKE, TAKE, TAKE, Reply(500), Reply(after_s=0.02)]))
    quick = {**msgspec.to_builtins(QUICK), "lease_s": 0.5}
    variables = {f"TESSERA_WEBHOOK_{name.upper()}": str(value) for name, value in quick.items()}
    made: list[tuple[str, str]] = []
    with Receiver(inbox) as receiver:
        async with Nursery.opened(database.dsn, **variables) as nursery:
            for life in range(KILLS + 1):
                await nursery.serve()
                with Client(base_url=nursery.url, timeout=60) as http:
                    if not made:
                        assert http.post("/v1/things", json={"kind": "asset", "code": "GBP"}).is_success
                        made = pairs(http, 4)
                        hook(http, receiver.url, filter=legs_of(*(debit for debit, _ in made)))
                    for amount in range(40 * life + 1, 40 * life + 41):
                        pay(http, *made[amount % 4], amount)
                if life < KILLS:
                    inbox.wait(partial(inbox.has, 40 * life + 15))
                    await nursery.end(signal.SIGKILL)
            inbox.wait(partial(inbox.has, 40 * (KILLS + 1)))
    for account in range(4):
        amounts = [amount for amount in inbox.amounts if amount % 4 == account]
        assert amounts == sorted(amounts)


def test_what_is_given_up_is_kept_and_can_be_replayed(spare_databases: Any) -> None:
    settings = msgspec.structs.replace(QUICK, attempts_max=3)
    broken = threading.Event()
    broken.set()

    def reply(event: dict[str, Any]) -> Reply:
        return Reply(422) if broken.is_set() and event["data"]["amount"] == 1 else TAKE

    inbox = Inbox(reply)
    with (
        Receiver(inbox) as receiver,
        RunningGateway(Settings(database_url=spare_databases()), webhooks=settings) as gateway,
        Client(base_url=gateway.url) as http,
    ):
        assert http.post("/v1/things", json={"kind": "asset", "code": "GBP"}).is_success
        [(debit, credit)] = pairs(http, 1)
        made = hook(http, receiver.url, filter=legs_of(debit))
        path = f"/v1/webhooks/{made['id']}"
        pay(http, debit, credit, 1)
        pay(http, debit, credit, 2)
        inbox.wait(lambda: inbox.amounts == [2])
        until(lambda: shown(http, made["id"])["dead"] == 1)
        [dead] = walked(http, f"{path}/dead", limit=1)
        assert walked(http, f"{path}/dead", limit=1, order="newest") == [dead]
        assert (dead["attempts"], dead["status"], dead["error"]) == (3, 422, "answered 422")
        attempts = http.get(f"{path}/deliveries", params={"failed": True}).json()["items"]
        assert [item["attempt"] for item in attempts] == [3, 2, 1]
        for order, expected in (("newest", attempts), ("oldest", attempts[::-1])):
            assert walked(http, f"{path}/deliveries", failed=True, limit=2, order=order) == expected
        assert http.post(f"{path}/replay", json={"events": ["0.1.1"]}).json() == {"events": 0}
        broken.clear()
        assert http.post(f"{path}/replay", json={"events": [dead["event"]]}).json() == {"events": 1}
        inbox.wait(lambda: inbox.amounts == [2, 1])
        until(lambda: (shown(http, made["id"])["dead"], shown(http, made["id"])["waiting"]) == (0, 0))


def test_secrets_are_rotated(http: Client) -> None:
    [(debit, credit)] = pairs(http, 1)
    inbox = Inbox()
    with Receiver(inbox) as receiver:
        made = hook(http, receiver.url, filter=legs_of(debit))
        path = f"/v1/webhooks/{made['id']}/rotate"
        first = secret_of(made["secret"])
        second = secret_of(http.post(path, json={}).json()["secret"])
        third = secret_of(http.post(path, json={"overlap_s": 0}).json()["secret"])
        assert len({first, second, third}) == 3
        pay(http, debit, credit, 1)
        inbox.wait(lambda: len(inbox.taken) == 1)
        fourth = secret_of(http.post(path, json={"overlap_s": 60}).json()["secret"])
        assert shown(http, made["id"])["old_secret_until"] is not None
        pay(http, debit, credit, 2)
        inbox.wait(lambda: len(inbox.taken) == 2)
    signatures = [message.headers["webhook-signature"].split() for message in inbox.messages]
    assert [len(several) for several in signatures] == [1, 2]
    now = int(time.time())
    for message, keys in zip(inbox.messages, ([third], [third, fourth]), strict=True):
        for key in keys:
            assert verify(message.headers, message.body, [key], now)


def test_a_receiver_that_is_gone(http: Client) -> None:
    [(debit, credit)] = pairs(http, 1)
    inbox = Inbox(lambda _: Reply(410))
    with Receiver(inbox) as receiver:
        made = hook(http, receiver.url, filter=legs_of(debit))
        pay(http, debit, credit, 1)
        until(lambda: shown(http, made["id"])["state"] == "disabled")
        assert "410" in shown(http, made["id"])["reason"]
        pay(http, debit, credit, 2)
        inbox.reply = lambda _: TAKE
        changed = http.patch(f"/v1/webhooks/{made['id']}", json={"state": "active"})
        assert (changed.json()["state"], changed.json()["reason"]) == ("active", "")
        inbox.wait(lambda: inbox.amounts == [1, 2])


def test_a_paused_webhook_goes_on_where_it_was(http: Client) -> None:
    [(debit, credit)] = pairs(http, 1)
    inbox = Inbox()
    with Receiver(inbox) as receiver:
        made = hook(http, receiver.url, filter=legs_of(debit))
        path = f"/v1/webhooks/{made['id']}"
        pay(http, debit, credit, 1)
        inbox.wait(lambda: inbox.amounts == [1])
        assert http.patch(path, json={"state": "paused", "name": "later"}).json()["name"] == "later"
        pay(http, debit, credit, 2)
        elsewhere = Inbox()
        with Receiver(elsewhere) as another:
            assert http.patch(path, json={"state": "active", "url": another.url}).is_success
            elsewhere.wait(lambda: 2 in elsewhere.amounts)
    assert inbox.amounts == [1]


def test_history_can_be_sent_too(http: Client) -> None:
    [(debit, credit)] = pairs(http, 1)
    for amount in (1, 2, 3):
        pay(http, debit, credit, amount)
    inbox = Inbox()
    with Receiver(inbox) as receiver:
        hook(http, receiver.url, after="start", filter={"types": ["leg.posted"], "accounts": [credit]})
        inbox.wait(lambda: len(inbox.taken) == 3)
    assert inbox.amounts == [1, 2, 3]


def test_no_redirect_is_followed_and_no_flood_is_read(http: Client) -> None:
    [(debit, credit)] = pairs(http, 1)
    flood = Reply(200, body=b"x" * (1 << 22))
    replies = [Reply(302, headers=(("Location", "/elsewhere"),)), flood]
    inbox = Inbox(lambda _: replies.pop(0) if replies else TAKE)
    with Receiver(inbox) as receiver:
        made = hook(http, receiver.url, filter=legs_of(debit))
        pay(http, debit, credit, 1)
        pay(http, debit, credit, 2)
        inbox.wait(lambda: inbox.amounts == [1, 2])
    assert len(inbox.messages) == 3
    path = f"/v1/webhooks/{made['id']}/deliveries"
    until(lambda: len(http.get(path).json()["items"]) == 3)
    items = http.get(path).json()["items"]
    assert [item["status"] for item in items] == [204, 200, 302]
    assert items[2]["error"] == "answered 302"


def test_endpoints_are_administered(http: Client) -> None:
    url = "http://127.0.0.1:9/hook"
    draft = {"url": url, "filter": {"types": ["move"]}}
    headers = {"Idempotency-Key": "our-only-webhook"}
    made = http.post("/v1/webhooks", json=draft, headers=headers)
    again = http.post("/v1/webhooks", json=draft, headers=headers)
    assert (made.status_code, again.status_code) == (201, 200)
    assert again.json()["webhook"]["id"] == made.json()["webhook"]["id"]
    assert again.json()["secret"] is None
    assert again.headers["Idempotent-Replayed"] == "true"
    other = http.post("/v1/webhooks", json={**draft, "url": url + "2"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_content")
    other = http.post("/v1/webhooks", json={**draft, "name": "x", "id": made.json()["webhook"]["id"]})
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_content")
    several = [hook(http, url)["id"] for _ in range(4)] + [made.json()["webhook"]["id"]]
    for order in ("oldest", "newest"):
        found = [item["id"] for item in walked(http, "/v1/webhooks", limit=2, order=order)]
        assert found == sorted(several, reverse=order == "newest")
    assert [item["id"] for item in walked(http, "/v1/webhooks", limit=2)] == sorted(several)
    cursor = http.get("/v1/webhooks", params={"limit": 2}).json()["next"]
    mixed = http.get("/v1/webhooks", params={"limit": 2, "order": "newest", "cursor": cursor})
    assert (mixed.status_code, mixed.json()["code"]) == (400, "invalid_cursor")
    gone = several[0]
    assert http.delete(f"/v1/webhooks/{gone}").json()["id"] == gone
    for method, path, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("PATCH", "", {}),
        ("POST", "/rotate", {}),
        ("GET", "/deliveries", None),
        ("GET", "/dead", None),
        ("POST", "/replay", {}),
    ):
        answer = http.request(method, f"/v1/webhooks/{gone}{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, path)


@pytest.mark.parametrize(
    ("draft", "where"),
    [
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "https:///nowhere"}, "url"),
        ({"url": "https://user:secret@example.com/"}, "url"),
        ({"url": "https://example.com/#part"}, "url"),
        ({"url": "https://example.com:99999/"}, "url"),
        ({"url": "https://example.com/ blank"}, "url"),
        ({"url": "https://[::1/"}, "url"),
        ({"url": "https://example.com/", "filter": {"types": ["nothing"]}}, "filter.types"),
        ({"url": "https://example.com/", "filter": {"assets": ["XXX"]}}, "filter.assets"),
        ({"url": "https://example.com/", "filter": {"kinds": ["robbery"]}}, "filter.kinds"),
        ({"url": "https://example.com/", "after": "yesterday"}, "after"),
        ({"url": "https://example.com/", "after": "0.99999999.1"}, "after"),
        ({"url": "https://example.com/", "secret": "whsec_"}, "secret"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(http: Client, draft: dict[str, Any], where: str) -> None:
    answer = http.post("/v1/webhooks", json=draft)
    assert answer.status_code in {400, 422}, answer.text
    assert answer.json()["where"] == where
    assert http.get("/v1/webhooks").json()["items"] == []
