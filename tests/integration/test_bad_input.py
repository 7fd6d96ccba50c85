"""What is wrong is refused, saying what, where, and what would be accepted; and nothing changes."""

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from gateway.app import BODY_BYTES_MAX
from gateway.schemas import LEGS_PER_REQUEST_MAX
from tests.fixtures_cluster import LOCAL
from tests.fixtures_gateway import Client, RunningGateway
from tests.integration.test_http_api import fresh_id, leg, transfer

RUNTIMES = LOCAL

NOBODY = "00000000-0000-7000-8000-000000000001"


@pytest.fixture
def unchanged(http: Client) -> Iterator[None]:
    """Whatever the test does, log and trial balance stay as they are."""
    http.party()
    before = http.books()
    yield
    assert http.books() == before


@pytest.fixture(scope="module")
def people(gateway: RunningGateway) -> tuple[str, str]:
    """Somebody with 10 pounds, and somebody else."""
    with Client(base_url=gateway.url, timeout=60) as http:
        alice, bob = http.party("Alice"), http.party("Bob")
        http.fund(alice, 1_000)
        http.account(f"L:wallet/{bob}")
        http.post("/v1/things", json={"kind": "asset", "code": "EUR", "exponent": 2})
        return alice, bob


def refused(answer: Any, status: int, code: str, where: str, *words: str) -> None:
    """It is a problem with that code, about that field, whose detail has these words in it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem.get("where", "")) == (code, where), problem
    assert problem["status"] == status
    assert problem["type"] == f"urn:tessera:problem:{code}"
    assert problem["title"]
    for word in words:
        assert word in problem["detail"] + problem.get("accepted", ""), problem


WRONG_AMOUNTS = [
    ("-1", "negative_amount", "never negative"),
    ("12.5", "invalid_amount", "whole number"),
    ("1.0", "invalid_amount", "whole number"),
    ("1e3", "invalid_amount", "whole number"),
    ("true", "invalid_amount", "boolean"),
    ("null", "invalid_amount", "null"),
    ('"12.50"', "invalid_amount", "digits"),
    ('"NaN"', "invalid_amount", "digits"),
    ('"ten"', "invalid_amount", "digits"),
    (str(2**63), "invalid_amount", "between 0 and"),
    (f'"{2**63}"', "invalid_amount", "between 0 and"),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("amount", "code", "words"), WRONG_AMOUNTS)
def test_wrong_amount_of_a_leg(http: Client, amount: str, code: str, words: str) -> None:
    body = f'[{{"id":"{fresh_id()}","debit":"{NOBODY}","credit":"{NOBODY}","amount":{amount}}}]'
    answer = http.post("/v1/legs", content=body, headers={"Content-Type": "application/json"})
    refused(answer, 422, code, "[0].amount", words)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("amount", "code", "words"), [case for case in WRONG_AMOUNTS if case[0] != "null"])
def test_wrong_amount_of_a_move(
    http: Client, people: tuple[str, str], amount: str, code: str, words: str
) -> None:
    payer, payee = people
    body = f'{{"kind":"transfer","payer":"{payer}","payee":"{payee}","asset":"GBP","amount":{amount}}}'
    answer = http.post("/v1/moves", content=body, headers={"Content-Type": "application/json"})
    refused(answer, 422, code, "amount", words)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "body",
    ["", "{", "[", "nonsense", '{"amount":NaN}', '{"kind":"transfer",}', "\ufeff{}", '{"kind":"transfer"} x'],
)
@pytest.mark.parametrize("path", ["/v1/moves", "/v1/parties", "/v1/legs", f"/v1/moves/{NOBODY}/post"])
def test_malformed_json(http: Client, path: str, body: str) -> None:
    answer = http.post(path, content=body.encode(), headers={"Content-Type": "application/json"})
    refused(answer, 400, "malformed_json", "", "JSON")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("body", [b"\xff\xfe{}", b'{"kind":"person","name":"\xff"}', b"[" * 100_000])
def test_malformed_bytes(http: Client, body: bytes) -> None:
    answer = http.post("/v1/parties", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_body_must_be_declared_as_json(http: Client, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = http.post("/v1/parties", content=b'{"kind":"person"}', headers=headers)
    refused(answer, 415, "unsupported_media_type", "Content-Type", "application/json")


@pytest.mark.usefixtures("unchanged")
def test_body_over_the_limit(http: Client) -> None:
    large = b'{"kind":"person","name":"' + b"x" * BODY_BYTES_MAX + b'"}'
    answer = http.post("/v1/parties", content=large, headers={"Content-Type": "application/json"})
    refused(answer, 413, "body_too_large", "")

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    answer = http.post("/v1/parties", content=chunks(), headers={"Content-Type": "application/json"})
    refused(answer, 413, "body_too_large", "")


@pytest.mark.usefixtures("unchanged")
def test_number_of_legs(http: Client) -> None:
    refused(http.post("/v1/legs", json=[]), 422, "invalid_field", "body", f"1 to {LEGS_PER_REQUEST_MAX}")
    many = [leg(NOBODY, NOBODY, 1)] * (LEGS_PER_REQUEST_MAX + 1)
    refused(http.post("/v1/legs", json=many), 413, "too_many_items", "body", str(LEGS_PER_REQUEST_MAX))


@pytest.mark.usefixtures("unchanged")
def test_unknown_fields_are_refused_and_the_known_ones_named(http: Client) -> None:
    answer = http.post("/v1/parties", json={"kind": "person", "nmae": "Alice"})
    refused(answer, 422, "unknown_field", "nmae", "name")
    answer = http.post("/v1/moves", json={"kind": "order", "lines": [{"thing": "mug", "qty": 1}]})
    refused(answer, 422, "unknown_field", "lines[0].qty", "quantity")
    answer = http.post("/v1/parties", json={"name": "Alice"})
    refused(answer, 422, "missing_field", "kind")
    answer = http.post("/v1/parties", json={"kind": "robot"})
    refused(answer, 422, "invalid_field", "kind", "machine")
    answer = http.post("/v1/parties", json={"kind": "person", "id": "12"})
    refused(answer, 422, "invalid_field", "id", "UUID")
    answer = http.post("/v1/parties", json={"kind": "person", "name": "a\0b"})
    refused(answer, 422, "invalid_field", "name", "U+0000")


@pytest.mark.usefixtures("unchanged")
def test_ids_that_are_no_ids_of_requests(http: Client, people: tuple[str, str]) -> None:
    for wrong in (UUID(int=0), UUID(int=2**128 - 1)):
        answer = http.post("/v1/moves", json=transfer(*people, 1, id=str(wrong)))
        refused(answer, 422, "id_invalid", "id")


# What the engine refuses


@pytest.mark.usefixtures("unchanged")
def test_unknown_kind_and_transition_say_what_there_is(http: Client, people: tuple[str, str]) -> None:
    answer = http.post("/v1/moves", json={**transfer(*people, 1), "kind": "gift"})
    refused(answer, 422, "kind_unknown", "kind", "transfer", "order", "refund")
    answer = http.post("/v1/moves", json=transfer(*people, 1, transition="teleport"))
    refused(answer, 422, "transition_unknown", "transition", "post", "hold")


def test_unknown_transition_of_a_move(http: Client, people: tuple[str, str]) -> None:
    held = http.post("/v1/moves", json=transfer(*people, 1, transition="hold"))
    assert held.status_code == 201, held.text
    before = http.books()
    answer = http.post(f"/v1/moves/{held.json()['id']}/teleport", json={})
    refused(answer, 422, "transition_unknown", "transition", "post", "void")
    assert http.books() == before


@pytest.mark.usefixtures("unchanged")
def test_unknown_move(http: Client) -> None:
    answer = http.post(f"/v1/moves/{fresh_id()}/post", json={})
    refused(answer, 404, "move_not_found", "move")
    refused(http.get(f"/v1/moves/{fresh_id()}"), 404, "not_found", "")


@pytest.mark.usefixtures("unchanged")
def test_move_to_oneself(http: Client, people: tuple[str, str]) -> None:
    payer, _ = people
    answer = http.post("/v1/moves", json=transfer(payer, payer, 1))
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] in {"parties_must_be_different", "accounts_must_be_different"}


@pytest.mark.usefixtures("unchanged")
def test_unknown_party_and_asset(http: Client, people: tuple[str, str]) -> None:
    payer, payee = people
    refused(http.post("/v1/moves", json=transfer(payer, fresh_id(), 1)), 422, "party_not_found", "payee")
    refused(
        http.post("/v1/moves", json={**transfer(payer, payee, 1), "asset": "XXX"}),
        422,
        "asset_not_found",
        "asset",
        "XXX",
    )
    refused(
        http.post("/v1/legs", json=[leg(NOBODY, NOBODY, 1, asset="XXX")]),
        422,
        "asset_not_found",
        "[0].asset",
        "XXX",
    )
    answer = http.post("/v1/accounts", json={"key": "A:bank", "asset": "XXX"})
    refused(answer, 422, "invalid_field", "asset", "XXX")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("key", ["cash", "Q:cash", "L:", "L:wallet/", "L:wallet/a b", "l:cash/x"])
def test_account_key_that_is_none(http: Client, key: str) -> None:
    answer = http.post("/v1/accounts", json={"key": key, "asset": "GBP"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["where"] == "key"


def test_unknown_account_of_a_leg(http: Client) -> None:
    """The id is burnt, so the log grows; the books don't."""
    bank = http.account("A:bank")
    before = http.books()
    sent = leg(bank, NOBODY, 1)
    refused(http.post("/v1/legs", json=[sent]), 409, "credit_account_not_found", "[0]")
    refused(http.post("/v1/legs", json=[sent]), 409, "id_already_failed", "[0]")
    assert http.books()[1] == before[1]


@pytest.mark.usefixtures("unchanged")
def test_assets_that_differ(http: Client, people: tuple[str, str]) -> None:
    bank, purse = http.account("A:bank"), http.account(f"L:wallet/{people[0]}")
    answer = http.post("/v1/legs", json=[leg(bank, purse, 1, asset="EUR")])
    refused(answer, 409, "transfer_must_have_the_same_asset_as_accounts", "[0]")
    answer = http.post("/v1/legs", json=[leg(bank, bank, 1)])
    refused(answer, 422, "accounts_must_be_different", "[0]")
    answer = http.post("/v1/legs", json=[leg(bank, purse, 1, code=0)])
    refused(answer, 422, "code_must_not_be_zero", "[0]")
    answer = http.post("/v1/legs", json=[leg(bank, purse, 1, flags=["sideways"])])
    refused(answer, 422, "invalid_field", "[0].flags[0]", "pending", "linked")


def sums(books: tuple[int, Any]) -> list[tuple[str, int, int]]:
    """What each asset adds up to. Shards may have opened accounts for each other meanwhile."""
    return [(line["asset"], line["debits"], line["credits"]) for line in books[1]["lines"]]


def test_more_than_there_is(http: Client, people: tuple[str, str]) -> None:
    payer, payee = people
    before = http.books()
    sent = transfer(payer, payee, 1_000_000, id=fresh_id(payer))
    refused(http.post("/v1/moves", json=sent), 409, "below_floor", "")
    again = http.post("/v1/moves", json=sent)
    refused(again, 409, "below_floor", "")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert sums(http.books()) == sums(before)


@pytest.mark.usefixtures("unchanged")
def test_sum_that_overflows(http: Client, people: tuple[str, str]) -> None:
    leg = {"debit": "A:bank", "credit": f"L:wallet/{people[1]}", "amount": str(2**63 - 1), "asset": "GBP"}
    answer = http.post("/v1/moves", json={"kind": "journal", "legs": [leg, leg]})
    assert answer.status_code in {409, 422}, answer.text
    assert "overflows" in answer.json()["code"]


@pytest.mark.usefixtures("unchanged")
def test_journal_that_does_not_balance(http: Client) -> None:
    entries = [
        {"account": "A:bank", "side": "debit", "amount": 100, "asset": "GBP"},
        {"account": "L:tax/gb", "side": "credit", "amount": 99, "asset": "GBP"},
    ]
    answer = http.post("/v1/moves", json={"kind": "journal", "entries": entries})
    assert (answer.status_code, answer.json()["code"]) == (422, "not_balanced")


# Queries


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/v1/parties?limit=0", "limit"),
        ("/v1/parties?limit=100000", "limit"),
        ("/v1/parties?limit=ten", "limit"),
        ("/v1/parties?colour=red", "colour"),
        ("/v1/parties?cursor=abc", "cursor"),
        ("/v1/parties/12", "party_id"),
        ("/v1/moves?state=posted&party=me", "party"),
        ("/v1/moves?start=2011-01-02T00:00:00Z&end=2011-01-01T00:00:00Z", "start"),
        ("/v1/moves?order=random", "order"),
        ("/v1/accounts?key=A:bank&prefix=A:", "key"),
        ("/v1/accounts?class=Q", "class"),
        ("/v1/accounts?key=A:bank&asset=GBP&prefix=A:", "key"),
        ("/v1/trial-balance?at=yesterday", "at"),
    ],
)
def test_query_that_makes_no_sense(http: Client, path: str, where: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 400, answer.text
    assert answer.json()["where"] == where
    assert answer.json()["code"] in {"invalid_parameter", "unknown_parameter", "invalid_cursor"}


@pytest.mark.usefixtures("people", "unchanged")
@pytest.mark.parametrize(
    "query",
    [
        "side=both",
        "start=2011-01-02T00:00:00Z&end=2011-01-01T00:00:00Z",
        "limit=0",
        "code=70000",
        "start=1.5",
    ],
)
def test_filter_of_entries_that_makes_no_sense(http: Client, query: str) -> None:
    bank = http.account("A:bank")
    answer = http.get(f"/v1/accounts/{bank}/entries?{query}")
    assert answer.status_code == 400, answer.text


def test_unknown_account(http: Client) -> None:
    before = http.books()
    for path in ("", "/balance", "/entries", "/history", "/balance?at=2011-01-01T00:00:00Z"):
        refused(http.get(f"/v1/accounts/{NOBODY}{path}"), 404, "not_found", "", NOBODY)
    refused(http.patch(f"/v1/accounts/{NOBODY}", json={"floor": 0}), 404, "not_found", "")
    refused(http.get("/v1/accounts?key=A:nowhere&asset=GBP"), 404, "not_found", "")
    assert http.books() == before


def test_cursor_of_another_list(http: Client) -> None:
    http.party()
    cursor = http.get("/v1/parties?limit=1").json()["next"]
    assert cursor
    answer = http.get("/v1/moves", params={"cursor": cursor})
    refused(answer, 400, "invalid_cursor", "cursor")


@pytest.mark.usefixtures("unchanged")
def test_method_that_a_path_does_not_take(http: Client) -> None:
    answer = http.delete("/v1/parties")
    refused(answer, 405, "method_not_allowed", "")
    assert "GET" in answer.headers["allow"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("line", [b"NONSENSE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00\x01\x02\r\n\r\n"])
def test_what_is_no_http(gateway: RunningGateway, line: bytes) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(line)
        assert connection.recv(64).startswith(b"HTTP/1.1 400")


@pytest.mark.usefixtures("unchanged")
def test_half_a_body(gateway: RunningGateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/parties HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"kind":"person"'
        )


NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    2**64,
    10**30,
    "",
    "x",
    "é\u202e\U0001f600",
    "x" * 300,
    "../../etc/passwd",
    "'; drop table leg; --",
    "%00",
    "\u0001",
    str(UUID(int=0)),
    str(UUID(int=2**128 - 1)),
    "2011-02-30T00:00:00Z",
    [],
    {},
    [[]],
    {"a": {"b": [1, 2, {"c": None}]}},
]


def mutations(example: Any) -> Iterator[Any]:
    """The example with each of its values replaced by each nasty one, and with each field left out."""
    if isinstance(example, list):
        for index, item in enumerate(example):
            for changed in mutations(item):
                yield [*example[:index], changed, *example[index + 1 :]]
    elif isinstance(example, dict):
        for name, value in example.items():
            yield {key: kept for key, kept in example.items() if key != name}
            for nasty in NASTY:
                yield {**example, name: nasty}
            if isinstance(value, (list, dict)):
                for changed in mutations(value):
                    yield {**example, name: changed}


BODIES: list[tuple[str, str, Any]] = [
    ("post", "/v1/parties", {"id": NOBODY, "kind": "person", "name": "n", "profile": {"a": 1}}),
    (
        "post",
        "/v1/things",
        {"id": NOBODY, "kind": "asset", "code": "Z9", "exponent": 2, "name": "n", "attrs": {}},
    ),
    (
        "post",
        "/v1/accounts",
        {"key": "L:tax/zz", "asset": "GBP", "floor": 0, "ceiling": 9, "parent": NOBODY, "rollup": False},
    ),
    ("patch", f"/v1/accounts/{NOBODY}", {"floor": 0, "ceiling": 9, "if_version": 1}),
    (
        "post",
        "/v1/moves",
        {
            "kind": "order",
            "id": NOBODY,
            "transition": "place",
            "payer": NOBODY,
            "payee": NOBODY,
            "asset": "GBP",
            "amount": 1,
            "tender": "psp",
            "reason": "r",
            "lines": [
                {"thing": "GBP", "quantity": 1, "amount": 1, "order": NOBODY, "order_line": 1, "reason": "r"}
            ],
            "reverses": NOBODY,
            "reference": "r",
            "metadata": {"a": 1},
            "inputs": {"a": 1},
            "business_time": 1,
            "timeout": 1,
        },
    ),
    (
        "post",
        "/v1/moves/preview",
        {
            "kind": "journal",
            "move": NOBODY,
            "legs": [{"debit": "A:bank", "credit": "L:tax/zz", "amount": 1, "asset": "GBP"}],
            "entries": [{"account": "A:bank", "side": "debit", "amount": 1, "asset": "GBP"}],
            "if_version": 1,
        },
    ),
    (
        "post",
        f"/v1/moves/{NOBODY}/post",
        {"id": NOBODY, "amount": 1, "tender": "t", "if_version": 1, "inputs": {}},
    ),
    (
        "post",
        "/v1/legs",
        [
            {
                "id": NOBODY,
                "debit": NOBODY,
                "credit": NOBODY,
                "amount": 1,
                "asset": "GBP",
                "code": 1,
                "flags": ["pending"],
                "pending_id": NOBODY,
                "timeout": 1,
                "user_data_128": NOBODY,
                "user_data_64": 1,
                "user_data_32": 1,
                "timestamp": 1,
                "if_debit_version": 1,
                "if_credit_version": 1,
            }
        ],
    ),
]


@pytest.mark.parametrize(("method", "path", "body"), BODIES, ids=[path for _, path, _ in BODIES])
def test_nasty_values_are_the_clients_fault_or_nobodys(
    http: Client, method: str, path: str, body: Any
) -> None:
    """Each is accepted or refused as a problem, never answered with 5xx; the engine serves on, in balance."""
    for changed in mutations(body):
        answer = http.request(method, path, json=changed)
        assert answer.status_code < 500, (changed, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", (changed, answer.text)
            assert answer.json()["detail"], changed
    assert http.get("/health").json()["status"] == "serving"
    http.books()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/parties?limit={}",
        "/v1/parties?cursor={}",
        "/v1/parties/{}",
        "/v1/things/{}",
        "/v1/accounts/{}",
        "/v1/accounts/{}/balance",
        "/v1/accounts?key={}&asset=GBP",
        "/v1/accounts?key=A:bank&asset={}",
        "/v1/accounts?prefix={}",
        "/v1/accounts?party={}",
        "/v1/moves?reference={}",
        "/v1/moves?kind={}",
        "/v1/moves?state={}",
        "/v1/moves?start={}",
        "/v1/moves/{}",
        "/v1/legs/{}",
        "/v1/trial-balance?at={}",
    ],
)
def test_nasty_queries(http: Client, path: str) -> None:
    for nasty in NASTY:
        answer = http.get(path.format(quote(str(nasty), safe="")))
        assert answer.status_code < 500, (nasty, answer.text)
    assert http.get("/health").json()["status"] == "serving"
