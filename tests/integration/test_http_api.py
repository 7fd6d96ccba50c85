"""The HTTP interface as a client uses it: what it accepts, what it answers, what it remembers."""

import json
import random
import re
import time
from typing import Any
from uuid import UUID

import msgspec
import pytest

from actors.settings import Settings
from engine.ids import bucket_of_account, bucket_of_id, bucket_of_party, uuid7
from gateway import explanation_schemas, problems, quote_schemas, reading_schemas, schemas
from gateway.app import HANDLERS
from gateway.events import schemas as event_schemas
from gateway.schedules import schemas as schedule_schemas
from gateway.webhooks import schemas as webhook_schemas
from gateway.webhooks import source_schemas
from gateway.wire import decode_value
from tests.fixtures_cluster import ON_RAY_TOO
from tests.fixtures_gateway import Client, RunningGateway

RUNTIMES = ON_RAY_TOO

RANDOM = random.Random(8330)
DIGITS_19 = 2**62


def fresh_id(payer: str = "", account: str = "", of: str = "") -> str:
    """A UUIDv7 as a client makes it: at home with a payer, an account, or what another id is of."""
    bucket = RANDOM.getrandbits(12)
    if payer:
        bucket = bucket_of_party("default", UUID(payer).int)
    elif account:
        bucket = bucket_of_account(UUID(account).int)
    elif of:
        bucket = bucket_of_id(UUID(of).int)
    return str(UUID(int=uuid7(time.time_ns() // 1_000_000, bucket, RANDOM.getrandbits(62))))


def transfer(payer: str, payee: str, amount: Any, **more: Any) -> dict[str, Any]:
    return {"kind": "transfer", "payer": payer, "payee": payee, "asset": "GBP", "amount": amount, **more}


def pages(http: Client, path: str, **query: Any) -> list[dict[str, Any]]:
    """Everything of a list, page by page."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        answer = http.get(path, params={**query, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["next"]
        if cursor is None:
            return items


# Parties and Things


def test_party_is_created_once_and_read_back(http: Client) -> None:
    draft = {"id": fresh_id(), "kind": "org", "name": "Kew Gardens", "profile": {"country": "GB", "vat": 1}}
    created = http.post("/v1/parties", json=draft)
    assert created.status_code == 201
    assert created.json() == {**draft, "trust": None, "relations": [], "version": 1}
    assert int(created.headers["Tessera-Lsn"]) > 0
    assert "Idempotent-Replayed" not in created.headers

    again = http.post("/v1/parties", json=draft)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == created.json()

    other = http.post("/v1/parties", json={**draft, "name": "Kew"})
    assert other.status_code == 409
    assert other.json()["code"] == "exists_with_different_content"

    assert http.get(f"/v1/parties/{draft['id']}").json() == created.json()


def test_parties_are_listed_page_by_page(http: Client) -> None:
    made = {http.party(f"listed {number}") for number in range(5)}
    listed = pages(http, "/v1/parties", limit=2)
    assert made <= {party["id"] for party in listed}
    assert [party["id"] for party in listed] == sorted(party["id"] for party in listed)


def test_thing_gets_a_number_and_keeps_its_code(http: Client) -> None:
    draft = {
        "kind": "product",
        "code": "85123A",
        "name": "Heart T-light holder",
        "attrs": {"colour": "white"},
    }
    created = http.post("/v1/things", json=draft)
    assert created.status_code == 201
    thing = created.json()
    assert thing["asset"] > 1
    assert http.get("/v1/things/85123A").json() == thing
    assert thing in pages(http, "/v1/things", limit=1)

    taken = http.post("/v1/things", json={**draft, "name": "Another"})
    assert (taken.status_code, taken.json()["code"]) == (409, "thing_code_already_used")


# Accounts


def test_account_is_opened_once_by_key_and_asset(http: Client) -> None:
    key = f"L:wallet/{http.party()}"
    draft = {"key": key, "asset": "GBP", "floor": -50000}
    created = http.post("/v1/accounts", json=draft)
    assert created.status_code == 201
    account = created.json()
    assert account["floor"] == -50000
    assert account["ceiling"] is None
    assert account["version"] == 1
    assert account["party"] == key.removeprefix("L:wallet/")

    again = http.post("/v1/accounts", json=draft)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    other = http.post("/v1/accounts", json={**draft, "floor": 0})
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_floor")

    assert http.get(f"/v1/accounts/{account['id']}").json() == account
    by_key = http.get("/v1/accounts", params={"key": key, "asset": "GBP"}).json()
    assert by_key == {"items": [account], "next": None}
    by_party = http.get("/v1/accounts", params={"party": account["party"]}).json()
    assert by_party["items"] == [account]
    by_prefix = http.get("/v1/accounts", params={"prefix": key[:-3]}).json()
    assert by_prefix["items"] == [account]


def test_guards_change_one_at_a_time_and_only_at_the_version_asked_for(http: Client) -> None:
    party = http.party()
    account = http.account(f"L:wallet/{party}")
    changed = http.patch(f"/v1/accounts/{account}", json={"ceiling": 100})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["floor"], changed.json()["ceiling"], changed.json()["version"]) == (0, 100, 2)
    changed = http.patch(f"/v1/accounts/{account}", json={"floor": -20, "if_version": 2})
    assert (changed.json()["floor"], changed.json()["ceiling"]) == (-20, 100)
    changed = http.patch(f"/v1/accounts/{account}", json={"ceiling": None})
    assert (changed.json()["floor"], changed.json()["ceiling"]) == (-20, None)

    stale = http.patch(f"/v1/accounts/{account}", json={"floor": 0, "if_version": 2})
    assert (stale.status_code, stale.json()["code"]) == (409, "account_version_differs")
    assert http.get(f"/v1/accounts/{account}").json()["floor"] == -20

    borrowed = http.post("/v1/moves", json=transfer(party, http.party(), 20))
    assert borrowed.status_code == 201
    refused = http.post("/v1/moves", json=transfer(party, http.party(), 1))
    assert (refused.status_code, refused.json()["code"]) == (409, "below_floor")


# Moves


def test_transfer_moves_money_and_can_be_repeated(http: Client) -> None:
    alice, bob = http.party("Alice"), http.party("Bob")
    purse = http.fund(alice, 10_000)
    move = transfer(alice, bob, 1_250, id=fresh_id(payer=alice), reference="rent", metadata={"month": "May"})

    created = http.post("/v1/moves", json=move)
    assert created.status_code == 201
    assert created.json()["id"] == move["id"]
    assert created.json()["state"] == "posted"
    assert created.json()["legs"] == 1
    assert http.balance(purse) == 8_750

    again = http.post("/v1/moves", json=move)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == created.json()
    assert http.balance(purse) == 8_750

    other = http.post("/v1/moves", json={**move, "amount": 1_251})
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_content")
    assert "amount" in other.json()["detail"]

    read = http.get(f"/v1/moves/{move['id']}").json()
    assert read["reference"] == "rent"
    assert read["metadata"] == {"month": "May"}
    assert [(entry["side"], entry["key"], entry["amount"]) for entry in read["entries"]] == [
        ("debit", f"L:wallet/{alice}", 1_250),
        ("credit", f"L:wallet/{bob}", 1_250),
    ]
    assert [step["transition"] for step in read["steps"]] == ["post"]


def test_move_without_an_id_gets_one(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 5)
    first = http.post("/v1/moves", json=transfer(alice, bob, 1)).json()
    second = http.post("/v1/moves", json=transfer(alice, bob, 1)).json()
    assert UUID(first["id"]).version == 7
    assert first["id"] != second["id"]


def test_hold_is_posted_by_a_transition(http: Client) -> None:
    alice, bob = http.party(), http.party()
    purse, till = http.fund(alice, 1_000), http.account(f"L:wallet/{bob}")
    held = http.post("/v1/moves", json=transfer(alice, bob, 600, transition="hold"))
    assert (held.status_code, held.json()["state"]) == (201, "pending")
    balance = http.get(f"/v1/accounts/{purse}/balance").json()
    assert (balance["posted"], balance["available"], balance["pending_out"]) == (1_000, 400, 600)

    move = held.json()["id"]
    request = {"id": fresh_id(of=move), "amount": 450}
    posted = http.post(f"/v1/moves/{move}/post", json=request)
    assert (posted.status_code, posted.json()["state"], posted.json()["version"]) == (200, "posted", 2)
    assert (http.balance(purse), http.balance(till)) == (550, 450)
    again = http.post(f"/v1/moves/{move}/post", json=request)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    ended = http.post(f"/v1/moves/{move}/void", json={})
    assert ended.status_code == 409
    assert [step["transition"] for step in http.get(f"/v1/moves/{move}").json()["steps"]] == ["hold", "post"]


def test_order_carries_lines_and_business_time(http: Client) -> None:
    buyer = http.party()
    for code in ("mug", "plate"):
        http.post("/v1/things", json={"kind": "product", "code": code})
    order = {
        "kind": "order",
        "payer": buyer,
        "asset": "GBP",
        "transition": "place+capture+fulfil",
        "business_time": "2010-12-01T08:26:00Z",
        "lines": [
            {"thing": "mug", "quantity": 6, "amount": 1530},
            {"thing": "plate", "quantity": 2, "amount": 1000},
        ],
    }
    created = http.post("/v1/moves", json=order)
    assert created.status_code == 201, created.text
    read = http.get(f"/v1/moves/{created.json()['id']}").json()
    assert read["business_time"] == "2010-12-01T08:26:00.000000000Z"
    assert [(line["thing"], line["quantity"], line["amount"]) for line in read["lines"]] == [
        ("mug", 6, 1530),
        ("plate", 2, 1000),
    ]
    psp = http.account("A:psp")
    assert http.balance(psp, business="2010-12-01T08:25:59Z") == 0
    assert http.balance(psp, business="2010-12-01T08:26:00Z") == 2530


def test_moves_are_found_by_what_they_are(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 100)
    made = [
        http.post("/v1/moves", json=transfer(alice, bob, 1, reference=f"search-{number}")).json()["id"]
        for number in range(3)
    ]
    held = http.post("/v1/moves", json=transfer(alice, bob, 1, transition="hold")).json()["id"]

    def found(**query: Any) -> list[str]:
        return [move["id"] for move in pages(http, "/v1/moves", limit=2, **query)]

    assert found(party=bob) == [held, *reversed(made)]
    assert found(party=bob, order="oldest") == [*made, held]
    assert found(payer=alice, state="pending") == [held]
    assert found(payer=alice, kind="transfer", state="posted", order="oldest") == made
    assert found(payer=alice, reference="search-1") == [made[1]]
    assert found(payer=bob) == []


def test_preview_tells_what_would_be_posted_and_writes_nothing(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 100)
    before = http.books()
    shown = http.post("/v1/moves/preview", json=transfer(alice, bob, 70))
    assert shown.status_code == 200, shown.text
    assert shown.json()["state"] == "posted"
    assert [(entry["side"], entry["amount"]) for entry in shown.json()["entries"]] == [
        ("debit", 70),
        ("credit", 70),
    ]
    refused = http.post("/v1/moves/preview", json=transfer(alice, bob, 101))
    assert (refused.status_code, refused.json()["code"]) == (409, "below_floor")
    assert http.books() == before


# Balances, Entries, history


def test_sums_over_accounts_may_be_beyond_64_bits(http: Client) -> None:
    code = f"X{fresh_id()[-8:].upper()}"
    made = http.post("/v1/things", json={"kind": "asset", "code": code, "exponent": 0})
    assert made.status_code == 201, made.text
    stamps = []
    for number in range(3):
        debit, credit = f"A:vault/{code}-{number}", f"A:pile/{code}-{number}"
        legs = [{"debit": debit, "credit": credit, "amount": str(2**62), "asset": code}]
        answer = http.post("/v1/moves", json={"kind": "journal", "legs": legs})
        assert answer.status_code == 201, answer.text
        stamps.append(answer.json()["timestamp"])
    for query in ({}, {"at": stamps[-1]}):
        balance = http.get("/v1/trial-balance", params=query).json()
        assert balance["balanced"]
        (line,) = [line for line in balance["lines"] if line["asset"] == code]
        assert line["debits"] == line["credits"] == str(3 * 2**62)


def test_balance_as_of_a_time_and_entries_page_by_page(http: Client) -> None:
    alice, bob = http.party(), http.party()
    purse = http.fund(alice, 1_000)
    stamps = []
    for number in range(7):
        made = http.post("/v1/moves", json=transfer(alice, bob, number + 1)).json()
        stamps.append(made["timestamp"])

    assert http.balance(purse) == 1_000 - 28
    assert http.balance(purse, at=stamps[2]) == 1_000 - 6
    newest = pages(http, f"/v1/accounts/{purse}/entries", limit=3)
    assert [entry["amount"] for entry in newest] == [7, 6, 5, 4, 3, 2, 1, 1_000]
    oldest = pages(http, f"/v1/accounts/{purse}/entries", limit=3, order="oldest", side="debit")
    assert [entry["amount"] for entry in oldest] == [1, 2, 3, 4, 5, 6, 7]
    between = pages(http, f"/v1/accounts/{purse}/entries", start=stamps[1], end=stamps[3])
    assert [entry["amount"] for entry in between] == [4, 3, 2]
    history = pages(http, f"/v1/accounts/{purse}/history", limit=3, order="oldest")
    assert [line["counters"]["debits_posted"] for line in history] == [0, 1, 3, 6, 10, 15, 21, 28]
    assert newest[0]["counter_key"] == f"L:wallet/{bob}"


def test_query_sees_the_write_it_names(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 10)
    made = http.post("/v1/moves", json=transfer(alice, bob, 10))
    seen = http.get(
        f"/v1/moves/{made.json()['id']}", headers={"Tessera-Wait-Lsn": made.headers["Tessera-Lsn"]}
    )
    assert seen.status_code == 200
    ahead = http.get("/v1/moves", headers={"Tessera-Wait-Lsn": str(10**12)})
    assert (ahead.status_code, ahead.json()["where"]) == (400, "Tessera-Wait-Lsn")


def test_large_amounts_survive_as_text(http: Client) -> None:
    alice = http.party()
    leg = {"debit": "A:bank", "credit": f"L:wallet/{alice}", "amount": str(DIGITS_19), "asset": "big"}
    http.post("/v1/things", json={"kind": "asset", "code": "big"})
    made = http.post("/v1/moves", json={"kind": "journal", "legs": [leg]})
    assert made.status_code == 201, made.text
    account = http.account(f"L:wallet/{alice}", "big")
    assert http.get(f"/v1/accounts/{account}/balance").json()["posted"] == str(DIGITS_19)


# Bare legs


def leg(debit: str, credit: str, amount: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": fresh_id(account=debit),
        "debit": debit,
        "credit": credit,
        "amount": amount,
        "asset": "GBP",
        "code": 7,
        **more,
    }


def test_bare_legs_answer_one_by_one(http: Client) -> None:
    bank, purse = http.account("A:bank"), http.account(f"L:wallet/{http.party()}")
    first, second = leg(bank, purse, 500), leg(purse, bank, 501)
    answer = http.post("/v1/legs", json=[first, second])
    assert answer.status_code == 201
    assert [result["code"] for result in answer.json()["results"]] == ["created", "below_floor"]
    assert (answer.json()["created"], answer.json()["refused"]) == (1, 1)
    again = http.post("/v1/legs", json=[first, second])
    assert [result["code"] for result in again.json()["results"]] == ["exists", "id_already_failed"]
    assert again.status_code == 200
    alone = http.post("/v1/legs", json=[first])
    assert (alone.status_code, alone.headers["Idempotent-Replayed"]) == (200, "true")
    read = http.get(f"/v1/legs/{first['id']}").json()
    assert (read["debit"], read["credit"], read["amount"], read["asset"]) == (bank, purse, 500, "GBP")
    assert http.get(f"/v1/legs/{second['id']}").status_code == 404


def test_chain_and_hold_as_bare_legs(http: Client) -> None:
    bank, purse = http.account("A:bank"), http.account(f"L:wallet/{http.party()}")
    hold = leg(bank, purse, 300, flags=["pending", "linked"], timeout=3600)
    post = {"id": fresh_id(of=hold["id"]), "amount": 200, "flags": ["post_pending"], "pending_id": hold["id"]}
    assert http.post("/v1/legs", json=[hold, post]).json()["created"] == 2
    assert http.balance(purse) == 200
    chain = [leg(bank, purse, 10, flags=["linked"]), leg(purse, bank, 10_000)]
    refused = http.post("/v1/legs", json=chain)
    assert (refused.status_code, refused.json()["code"], refused.json()["where"]) == (
        409,
        "below_floor",
        "[1]",
    )
    assert http.balance(purse) == 200


# Operations


def test_health_readiness_and_metrics(http: Client) -> None:
    health = http.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "serving")
    assert http.get("/ready").json() == {"ready": True, "reason": ""}
    metrics = http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'tessera_http_requests_total{method="GET",route="/health",status="200"}' in metrics.text
    assert "tessera_durable_lsn" in metrics.text


def test_openapi_document_describes_every_route_with_valid_examples(http: Client) -> None:
    document = http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    served = {
        re.sub(r":\w+}", "}", path)
        for handler in HANDLERS
        if handler.resolve_include_in_schema()
        for path in handler.paths
    }
    assert set(document["paths"]) == served
    checked = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            for schema, examples in examples_of(operation):
                for example in examples:
                    check_example(schema, example)
                    checked += 1
    assert checked > 60
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])


def examples_of(operation: dict[str, Any]) -> list[tuple[dict[str, Any], list[Any]]]:
    """The schema of each documented body, with its examples."""
    found = []
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if content["schema"].get("format") == "binary" or content["schema"].keys() == {"type", "description"}:
            continue  # whatever it is
        assert content["schema"].get("examples"), operation["summary"]
        found.append((content["schema"], content["schema"]["examples"]))
    for answer in operation["responses"].values():
        for content in (answer.get("content") or {}).values():
            examples = [example["value"] for example in (content.get("examples") or {}).values()]
            found.append((content["schema"], examples))
    return found


_SCHEMAS = (
    schemas,
    reading_schemas,
    explanation_schemas,
    quote_schemas,
    event_schemas,
    webhook_schemas,
    source_schemas,
    schedule_schemas,
    problems,
)


def check_example(schema: dict[str, Any], example: Any) -> None:
    """The example is what the struct behind the schema decodes, and has no field that the struct hasn't."""
    if "oneOf" in schema:
        several = isinstance(example, list)
        fitting = [one for one in schema["oneOf"] if (one.get("type") == "array") == several]
        assert any(is_example(one, example) for one in fitting), example
        return
    if schema.get("type") == "array":
        for item in example:
            check_example(schema["items"], item)
        return
    [reference] = re.findall(r"#/components/schemas/(\w+)", json.dumps(schema))
    kind = next(getattr(module, reference) for module in _SCHEMAS if hasattr(module, reference))
    msgspec.convert(example, kind, dec_hook=decode_value)
    assert set(example) <= {field.encode_name for field in msgspec.structs.fields(kind)}


def is_example(schema: dict[str, Any], example: Any) -> bool:
    """Whether `check_example` passes."""
    try:
        check_example(schema, example)
    except (AssertionError, msgspec.ValidationError):
        return False
    return True


def test_documentation_page_needs_no_other_host(http: Client) -> None:
    page = http.get("/docs")
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert "/v1/moves/{move_id}/{transition}" in page.text
    assert not re.search(r"<script|src=|(href|url)[=(][\"']?https?://|@import", page.text)


def test_documented_example_of_a_transfer_works(http: Client, gateway: RunningGateway) -> None:
    assert gateway.engine.health().status == "serving"
    document = http.get("/openapi.json").json()
    body = document["paths"]["/v1/moves"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    example = json.loads(json.dumps(body["examples"][0]))
    payer = http.party()
    http.fund(payer, example["amount"])
    example |= {"id": fresh_id(payer=payer), "payer": payer, "payee": http.party()}
    assert http.post("/v1/moves", json=example).status_code == 201


@pytest.mark.parametrize("path", ["/v1/nothing", "/nothing", "/v1/accounts/1/2/3/4"])
def test_unknown_path_is_a_problem(http: Client, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"


def test_deposed_engine_says_so_and_answers_nothing_else(spare_databases: Any) -> None:
    url = spare_databases()
    with RunningGateway(Settings(database_url=url)) as first, Client(base_url=first.url, timeout=60) as old:
        party = old.party()
        account = old.get("/v1/accounts", params={"party": party}).json()
        assert account["items"] == []
        with (
            RunningGateway(Settings(database_url=url, takeover=True)) as second,
            Client(base_url=second.url, timeout=60) as new,
        ):
            refused = old.post("/v1/parties", json={"kind": "person"})
            assert (refused.status_code, refused.json()["code"]) == (503, "shard_stopped")
            assert int(refused.headers["Retry-After"]) > 0
            health = old.get("/health")
            assert (health.status_code, health.json()["status"]) == (503, "stopped")
            assert health.json()["reason"]
            ready = old.get("/ready")
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
            assert "tessera_serving" in old.get("/metrics").text
            assert new.get(f"/v1/parties/{party}").status_code == 200
