"""Requests that come again, and changes that depend on a version: keys, ETags, conditions."""

from typing import Any

import pytest

from actors.settings import Settings
from tests.fixtures_cluster import EVERYWHERE
from tests.fixtures_gateway import Client, RunningGateway
from tests.integration.test_http_api import fresh_id, leg, transfer

RUNTIMES = EVERYWHERE

KEY = "Idempotency-Key"


def keyed(key: str) -> dict[str, str]:
    return {KEY: key}


def is_replay(answer: Any) -> bool:
    return bool(answer.headers.get("Idempotent-Replayed") == "true")


def test_move_under_a_key_happens_once(http: Client) -> None:
    alice, bob = http.party(), http.party()
    purse, key = http.fund(alice, 100), fresh_id()
    body = transfer(alice, bob, 30, metadata={"a": 1})
    first = http.post("/v1/moves", json=body, headers=keyed(key))
    assert (first.status_code, is_replay(first)) == (201, False)
    again = http.post("/v1/moves", json=body, headers=keyed(key))
    assert (again.status_code, is_replay(again), again.json()) == (200, True, first.json())
    assert http.balance(purse) == 70
    other = http.post("/v1/moves", json={**body, "amount": 31}, headers=keyed(key))
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_content")
    assert other.json()["where"] == "amount"
    elsewhere = http.post("/v1/parties", json={"kind": "person"}, headers=keyed(key))
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (409, "exists_with_different_content")
    assert http.balance(purse) == 70


def test_refusal_under_a_key_stays(http: Client) -> None:
    alice, bob = http.party(), http.party()
    key, body = fresh_id(), transfer(alice, bob, 30)
    refused = http.post("/v1/moves", json=body, headers=keyed(key))
    assert (refused.status_code, refused.json()["code"], is_replay(refused)) == (409, "below_floor", False)
    http.fund(alice, 100)
    again = http.post("/v1/moves", json=body, headers=keyed(key))
    assert (again.status_code, again.json(), is_replay(again)) == (409, refused.json(), True)


def test_transition_under_a_key(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 100)
    move, key = (
        http.post("/v1/moves", json=transfer(alice, bob, 60, transition="hold")).json()["id"],
        fresh_id(),
    )
    posted = http.post(f"/v1/moves/{move}/post", json={"amount": 45}, headers=keyed(key))
    assert (posted.status_code, posted.json()["state"]) == (200, "posted")
    again = http.post(f"/v1/moves/{move}/post", json={"amount": 45}, headers=keyed(key))
    assert (again.json(), is_replay(again)) == (posted.json(), True)
    for path, body, where in (
        (f"/v1/moves/{move}/void", {"amount": 45}, "operation"),
        (f"/v1/moves/{move}/post", {"amount": 44}, "amount"),
    ):
        other = http.post(path, json=body, headers=keyed(key))
        assert (other.status_code, other.json()["where"]) == (409, where)


@pytest.mark.parametrize(
    ("path", "body", "change"),
    [
        ("/v1/parties", {"kind": "org", "name": "Kew"}, {"name": "Kew Gardens"}),
        ("/v1/things", {"kind": "product", "code": "CODE"}, {"exponent": 1}),
        ("/v1/accounts", {"key": "A:till/CODE", "asset": "GBP"}, {"floor": 5}),
        ("/v1/accounts", [{"id": "ID", "asset": "GBP", "code": 7}], {"code": 8}),
        (
            "/v1/legs",
            [{"id": "ID", "debit": "A", "credit": "B", "amount": 1, "asset": "GBP", "code": 7}],
            {"amount": 2},
        ),
    ],
)
def test_everything_that_is_made_takes_a_key(
    http: Client, path: str, body: Any, change: dict[str, Any]
) -> None:
    bank = http.account("A:bank")
    places = {"CODE": fresh_id(), "ID": fresh_id(account=bank), "A": bank, "B": http.account("A:psp")}

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("CODE", places["CODE"]) if "CODE" in value else places.get(value, value)
        if isinstance(value, list):
            return [filled(item) for item in value]
        return {name: filled(item) for name, item in value.items()} if isinstance(value, dict) else value

    body = filled(body)
    different = [{**body[0], **change}] if isinstance(body, list) else {**body, **change}
    key = fresh_id()
    made = http.post(path, json=body, headers=keyed(key))
    assert (made.status_code, is_replay(made)) == (201, False), made.text
    again = http.post(path, json=body, headers=keyed(key))
    assert (again.status_code, is_replay(again)) == (200, True)
    if not isinstance(body, list):
        assert again.json() == made.json()
    refused = http.post(path, json=different, headers=keyed(key))
    assert (refused.status_code, refused.json()["code"]) == (409, "exists_with_different_content")
    assert refused.json()["where"] == ("body" if isinstance(body, list) else next(iter(change)))


def test_change_under_a_key_does_not_undo_what_came_after_it(http: Client) -> None:
    purse, key = http.account(f"L:wallet/{http.party()}"), fresh_id()
    path = f"/v1/accounts/{purse}"
    first = http.patch(path, json={"floor": -10}, headers=keyed(key))
    assert (first.status_code, first.json()["floor"], is_replay(first)) == (200, -10, False)
    http.patch(path, json={"floor": -20})
    again = http.patch(path, json={"floor": -10}, headers=keyed(key))
    assert (again.json(), is_replay(again)) == (first.json(), True)
    assert http.get(path).json()["floor"] == -20
    other = http.patch(path, json={"ceiling": 5}, headers=keyed(key))
    assert (other.status_code, other.json()["where"]) == (409, "floor")

    party, key = http.party("A"), fresh_id()
    path = f"/v1/parties/{party}"
    first = http.patch(path, json={"name": "B"}, headers=keyed(key))
    assert (first.json()["version"], is_replay(first)) == (2, False)
    http.patch(path, json={"name": "C"})
    again = http.patch(path, json={"name": "B"}, headers=keyed(key))
    assert (again.json()["version"], is_replay(again)) == (2, True)
    assert http.get(path).json()["name"] == "C"


def test_closing_under_a_key(http: Client) -> None:
    purse, key = http.account(f"L:wallet/{http.party()}"), fresh_id()
    closed = http.post(f"/v1/accounts/{purse}/close", json={}, headers=keyed(key))
    assert closed.status_code == 200
    again = http.post(f"/v1/accounts/{purse}/close", json={}, headers=keyed(key))
    assert (again.status_code, is_replay(again)) == (200, True)
    other = http.post(f"/v1/accounts/{purse}/reopen", json={}, headers=keyed(key))
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_content")
    assert http.get(f"/v1/accounts/{purse}").json()["closed"]


def test_id_in_the_body_may_come_with_a_key(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 10)
    body, key = transfer(alice, bob, 1, id=fresh_id(payer=alice)), fresh_id()
    made = http.post("/v1/moves", json=body, headers=keyed(key))
    assert made.json()["id"] == body["id"]
    assert is_replay(http.post("/v1/moves", json=body, headers=keyed(key)))
    other = http.post("/v1/moves", json={**body, "id": fresh_id(payer=alice)}, headers=keyed(key))
    assert (other.status_code, other.json()["where"]) == (409, "id")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_key_that_is_none_is_refused(http: Client, key: str) -> None:
    answer = http.post("/v1/parties", json={"kind": "person"}, headers=keyed(key))
    assert (answer.status_code, answer.json()["where"]) == (400, KEY)


def test_keys_hold_across_restarts_and_gateways(spare_databases: Any) -> None:
    settings = Settings(database_url=spare_databases(), ids_per_generation=1, generations_max=3)
    key, other_key = fresh_id(), fresh_id()
    with RunningGateway(settings) as first, Client(base_url=first.url, timeout=60) as http:
        http.post("/v1/things", json={"kind": "asset", "code": "GBP"})
        alice, bob = http.party(), http.party()
        http.fund(alice, 100)
        body = transfer(alice, bob, 30)
        made = http.post("/v1/moves", json=body, headers=keyed(key))
        till = http.account(f"L:wallet/{bob}")
        limits = http.patch(f"/v1/accounts/{till}", json={"floor": -1}, headers=keyed(other_key))
        for _ in range(8):  # what was answered is forgotten in memory, and found in the tables
            http.fund(alice, 1)
            http.get("/v1/moves", params={"limit": 1})
        assert is_replay(http.post("/v1/moves", json=body, headers=keyed(key)))
    with RunningGateway(settings) as second, Client(base_url=second.url, timeout=60) as http:
        again = http.post("/v1/moves", json=body, headers=keyed(key))
        assert (is_replay(again), again.json()) == (True, made.json())
        other = http.post("/v1/moves", json={**body, "payee": alice}, headers=keyed(key))
        assert (other.status_code, other.json()["where"]) == (409, "payee")
        same = http.patch(f"/v1/accounts/{till}", json={"floor": -1}, headers=keyed(other_key))
        assert (is_replay(same), same.json()) == (True, limits.json())


# Versions


def test_etag_of_a_read_is_the_condition_of_a_change(http: Client) -> None:
    alice, bob = http.party("A"), http.party()
    purse = http.fund(alice, 100)
    move = http.post("/v1/moves", json=transfer(alice, bob, 60, transition="hold")).json()["id"]
    names = iter("BCDE")

    def limit(tag: dict[str, str]) -> Any:
        return http.patch(f"/v1/accounts/{purse}", json={"floor": -9}, headers=tag)

    def name(tag: dict[str, str]) -> Any:
        return http.patch(f"/v1/parties/{alice}", json={"name": next(names)}, headers=tag)

    def post(tag: dict[str, str]) -> Any:
        return http.post(f"/v1/moves/{move}/post", json={"amount": 1}, headers=tag)

    def close(tag: dict[str, str]) -> Any:
        return http.post(f"/v1/accounts/{purse}/close", json={"even_with_balance": True}, headers=tag)

    for path, change in (
        (f"/v1/accounts/{purse}", limit),
        (f"/v1/parties/{alice}", name),
        (f"/v1/moves/{move}", post),
        (f"/v1/accounts/{purse}", close),
    ):
        tag = http.get(path).headers["ETag"]
        changed = change({"If-Match": tag})
        assert changed.status_code == 200, changed.text
        now = http.get(path).headers["ETag"].strip('"').partition("-")[0]
        assert changed.headers["ETag"].strip('"') == now
        refused = change({"If-Match": tag})
        if change is post:
            assert (refused.status_code, refused.json()["code"]) == (409, "move_ended")
        else:
            assert (refused.status_code, refused.json()["where"]) == (412, "If-Match")
            assert refused.json()["code"].endswith("_version_differs")
        assert change({"If-Match": "*"}).status_code in {200, 409}


@pytest.mark.parametrize("tag", ["7", 'W/"1"', '"x"', '"1", "2"', '"0"', ""])
def test_condition_that_makes_no_sense(http: Client, tag: str) -> None:
    purse = http.account(f"L:wallet/{http.party()}")
    answer = http.patch(f"/v1/accounts/{purse}", json={"floor": -9}, headers={"If-Match": tag})
    assert (answer.status_code, answer.json()["where"]) == (400, "If-Match")
    both = http.patch(
        f"/v1/accounts/{purse}", json={"floor": -9, "if_version": 1}, headers={"If-Match": '"1"'}
    )
    assert (both.status_code, both.json()["where"]) == (400, "If-Match")


def test_answer_that_the_client_has_is_not_sent_again(http: Client) -> None:
    alice, bob = http.party(), http.party()
    purse = http.fund(alice, 100)
    balance, tag = f"/v1/accounts/{purse}/balance", ""
    for path in (
        f"/v1/accounts/{purse}",
        balance,
        f"/v1/accounts/{purse}/entries",
        f"/v1/moves?payer={alice}",
        "/v1/kinds",
    ):
        first = http.get(path)
        tag = first.headers["ETag"]
        same = http.get(path, headers={"If-None-Match": f'"other", {tag}'})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag), path
        assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    tag = http.get(balance).headers["ETag"]
    http.post("/v1/moves", json=transfer(alice, bob, 1))
    assert http.get(balance, headers={"If-None-Match": tag}).status_code == 200


def test_small_legs_with_a_key_take_the_way_that_knows_it(http: Client) -> None:
    bank, till = http.account("A:bank"), http.account("A:psp")
    one, key = leg(bank, till, 1), fresh_id()
    for _ in range(2):
        assert http.post("/v1/legs", json=one).status_code in {200, 201}
    assert http.post("/v1/legs", json=one, headers=keyed(key)).status_code == 200
    other = http.post("/v1/legs", json=leg(bank, till, 2), headers=keyed(key))
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_content")
