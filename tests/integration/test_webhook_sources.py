"""Webhooks that come in: signed, once, and only what the rules say."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from gateway.webhooks.signatures import make_secret, secret_of, secret_text, signed
from tests.fixtures_gateway import Client
from tests.integration.test_http_api import fresh_id
from tests.integration.test_webhooks import walked

PATH: Final = "/v1/webhook-sources"
RULES: Final = [
    {
        "when": {"type": "payment.settled"},
        "transition": "post",
        "reference": "data.orders.0",
        "amount": "data.amount",
        "metadata": {"payment": "data.id", "absent": "data.nothing"},
    },
    {"when": {"type": "payment.failed", "data.final": True}, "transition": "void", "move": "data.move"},
]


class Source:
    """Somebody who sends messages."""

    def __init__(self, http: Client, name: str, secret: bytes) -> None:
        self.http = http
        self.name = name
        self.secret = secret

    def send(self, content: Any, *, id: str = "", key: bytes = b"", ago_s: int = 0) -> httpx.Response:
        """A signed message."""
        body = json.dumps(content).encode()
        headers = signed(id or f"msg_{uuid4()}", int(time.time()) - ago_s, body, [key or self.secret])
        return self.post(body, headers)

    def post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return self.http.post(
            f"{PATH}/{self.name}/messages",
            content=body,
            headers={"Content-Type": "application/json", **headers},
        )


@pytest.fixture
def source(http: Client) -> Iterator[Source]:
    name = f"acme-{uuid4().hex[:8]}"
    made = http.post(PATH, json={"name": name, "rules": RULES})
    assert made.status_code == 201, made.text
    yield Source(http, name, secret_of(made.json()["secret"]))
    assert http.delete(f"{PATH}/{name}").is_success


class Held:
    """A transfer of 500 that waits for its payment."""

    def __init__(self, http: Client) -> None:
        self.http = http
        payer, payee = http.party(), http.party()
        http.fund(payer, 1_000)
        self.reference = f"order-{uuid4()}"
        usual = {"kind": "transfer", "payer": payer, "payee": payee, "asset": "GBP", "amount": 500}
        held = http.post("/v1/moves", json={**usual, "transition": "hold", "reference": self.reference})
        assert held.status_code == 201, held.text
        self.id = held.json()["id"]
        self.payee = http.account(f"L:wallet/{payee}")

    @property
    def state(self) -> str:
        return str(self.http.get(f"/v1/moves/{self.id}").json()["state"])

    def settled(self, amount: Any = 300, **more: Any) -> dict[str, Any]:
        """What says that it was paid."""
        data = {"id": "pay_1", "orders": [self.reference], "amount": amount, **more}
        return {"type": "payment.settled", "data": data}


def test_a_message_takes_a_move_further_once(http: Client, source: Source) -> None:
    held = Held(http)
    first = source.send(held.settled(), id="msg_1")
    assert first.status_code == 200, first.text
    assert first.json() == {"outcome": "done", "move": held.id, "state": "posted"}
    assert http.balance(held.payee) == 300
    again = source.send(held.settled(), id="msg_1", ago_s=60)
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    other = source.send(held.settled(200), id="msg_1")
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_content")
    late = source.send(held.settled())
    assert late.status_code == 409, late.text
    assert http.balance(held.payee) == 300
    steps = http.get(f"/v1/moves/{held.id}").json()["steps"]
    assert [step["metadata"] for step in steps[1:]] == [{"payment": "pay_1"}]


def test_the_same_message_at_once(http: Client, source: Source) -> None:
    held = Held(http)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: source.send(held.settled(), id="msg_at_once"), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.text for answer in answers} == {answers[0].text}
    assert http.balance(held.payee) == 300


def test_bad_signatures_change_nothing(http: Client, source: Source) -> None:
    held = Held(http)
    before = http.books()
    body = json.dumps(held.settled()).encode()
    good = signed("msg_1", int(time.time()), body, [source.secret])
    answers = [
        source.send(held.settled(), key=make_secret()),
        source.send(held.settled(), ago_s=301),
        source.send(held.settled(), ago_s=-301),
        source.post(body, {}),
        source.post(body + b" ", good),
        source.post(body, {**good, "webhook-id": "msg_2"}),
        source.post(body, {**good, "webhook-timestamp": str(int(time.time()) - 1)}),
        source.post(body, {**good, "webhook-signature": "v1,"}),
        Source(http, "nobody-we-know", source.secret).send(held.settled()),
    ]
    for answer in answers:
        assert answer.status_code == 401, answer.text
        assert answer.json()["code"] == "bad_signature"
    assert len({answer.text for answer in answers}) == 1, "each reason is told alike"
    assert http.books() == before
    assert held.state == "pending"


def test_what_is_none_of_ours_is_ignored(http: Client, source: Source) -> None:
    before = http.books()
    for content in (
        {"type": "customer.created"},
        {"type": "payment.failed", "data": {"final": 1}},
        {"type": "payment.failed", "data": {"final": "true"}},
        {"type": ["payment.settled"]},
        ["payment.settled"],
        "payment.settled",
    ):
        answer = source.send(content)
        assert (answer.status_code, answer.json()["outcome"]) == (200, "ignored"), answer.text
    assert http.books() == before


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"amount": "much"}, "data.amount"),
        ({"amount": 1.5}, "data.amount"),
        ({"amount": -1}, "data.amount"),
        ({"amount": None}, "data.amount"),
        ({"orders": []}, "data.orders.0"),
        ({"orders": [17]}, "data.orders.0"),
        ({"orders": "x"}, "data.orders.0"),
        ({"orders": ["no\0body"]}, "data.orders.0"),
    ],
    ids=str,
)
def test_what_a_rule_needs_must_be_there(
    http: Client, source: Source, more: dict[str, Any], where: str
) -> None:
    held = Held(http)
    before = http.books()
    answer = source.send(held.settled(**more))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field"), answer.text
    assert answer.json()["where"] == where
    assert http.books() == before


def test_a_message_that_comes_too_early_may_come_again(http: Client, source: Source) -> None:
    early = {"type": "payment.failed", "data": {"final": True, "move": fresh_id()}}
    answer = source.send(early, id="msg_early")
    assert (answer.status_code, answer.json()["code"]) == (404, "move_not_found"), answer.text
    unknown = source.send({"type": "payment.settled", "data": {"orders": ["nothing"], "amount": 1}})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "move_not_found"), unknown.text
    held = Held(http)
    failed = {"type": "payment.failed", "data": {"final": True, "move": held.id}}
    assert source.send(failed).json() == {"outcome": "done", "move": held.id, "state": "voided"}


def test_sources_are_administered(http: Client, source: Source) -> None:
    path = f"{PATH}/{source.name}"
    shown = http.get(path).json()
    assert shown["rules"][0]["reference"] == "data.orders.0"
    assert shown["url"] == f"{path}/messages"
    assert shown in http.get(PATH, params={"limit": 1_000}).json()["items"]
    others = [f"{name}-{uuid4().hex[:8]}" for name in "cab"]
    for name in others:
        assert http.post(PATH, json={"name": name, "rules": RULES}).status_code == 201
    made = [name for name in (one["name"] for one in walked(http, PATH, limit=1)) if name in others]
    assert made == others
    late = [
        name
        for name in (one["name"] for one in walked(http, PATH, limit=1, order="newest"))
        if name in others
    ]
    assert late == others[::-1]
    for name in others:
        assert http.delete(f"{PATH}/{name}").is_success
    taken = http.post(PATH, json={"name": source.name, "rules": RULES})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_already_used")
    ours = make_secret()
    rotated = http.post(f"{path}/rotate", json={"secret": secret_text(ours)})
    assert rotated.json()["secret"] == secret_text(ours)
    for key in (ours, source.secret):
        assert source.send({"type": "nothing"}, key=key).status_code == 200
    assert http.post(f"{path}/rotate", json={"overlap_s": 0}).is_success
    for key in (ours, source.secret):
        assert source.send({"type": "nothing"}, key=key).status_code == 401
    changed = http.patch(path, json={"rules": RULES[:1]})
    assert len(changed.json()["rules"]) == 1
    wrong: dict[str, Any]
    for wrong in (
        {"rules": []},
        {"rules": [{"when": {"type": "x"}, "transition": "post"}]},
        {"rules": [{"when": {"type": "x"}, "transition": "post", "move": "a", "reference": "b"}]},
        {"rules": [{"when": {}, "transition": "post", "move": "a"}]},
        {"rules": [{"when": {"type": 1.5}, "transition": "post", "move": "a"}]},
    ):
        assert http.patch(path, json=wrong).status_code == 422
    for wrong in ({"name": "Acme"}, {"name": "-"}, {"secret": "whsec_short"}):
        assert http.post(PATH, json={"name": "other", "rules": RULES, **wrong}).status_code == 422
