"""Finding and trying out over HTTP: next steps, previews, reversals, holds, filters, pages, bulk lookups."""

from typing import Any

import pytest

from tests.fixtures_gateway import Client
from tests.integration.test_http_api import fresh_id, leg, pages, transfer

# Kinds, next steps, previews


def test_kinds_are_machines_that_can_be_read(http: Client) -> None:
    kinds = {kind["name"]: kind for kind in http.get("/v1/kinds").json()["items"]}
    assert {"transfer", "journal", "order", "refund", "adjustment", "opening", "reversal"} <= set(kinds)
    transfer_kind = http.get("/v1/kinds/transfer").json()
    assert transfer_kind == kinds["transfer"]
    assert transfer_kind["ended"] == ["posted", "voided", "expired"]
    steps = {(step["name"], step["target"]): step for step in transfer_kind["transitions"]}
    assert steps["post", "posted"]["by_engine"] is False
    assert steps["expire", "expired"]["by_engine"] is True
    assert http.get("/v1/kinds/gift").status_code == 404


def test_next_transitions_say_what_is_possible_and_why_not(http: Client) -> None:
    alice, bob = http.party(), http.party()
    purse = http.fund(alice, 100)
    held = http.post("/v1/moves", json=transfer(alice, bob, 60, transition="hold")).json()

    def steps() -> dict[str, Any]:
        answer = http.get(f"/v1/moves/{held['id']}/transitions")
        assert answer.status_code == 200, answer.text
        return {step["transition"]: step for step in answer.json()["transitions"]}

    assert steps()["post"] == {
        "transition": "post",
        "allowed": True,
        "target": "posted",
        "needs": [],
        "takes": ["amount"],
        "code": None,
        "reason": None,
    }
    assert (steps()["hold"]["allowed"], steps()["hold"]["code"]) == (False, "move_state_differs")
    closed = http.post(f"/v1/accounts/{purse}/close", json={"even_with_balance": True})
    assert closed.status_code == 200, closed.text
    refused = steps()["post"]
    assert (refused["allowed"], refused["code"]) == (False, "debit_account_already_closed")
    assert "debit account already closed" in refused["reason"]
    assert steps()["void"]["allowed"]
    http.post(f"/v1/moves/{held['id']}/void", json={})
    assert {step["code"] for step in steps().values()} == {"move_ended"}
    missing = http.get(f"/v1/moves/{fresh_id()}/transitions")
    assert (missing.status_code, missing.json()["code"]) == (404, "move_not_found")


def test_preview_shows_what_is_held_posted_and_released(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 100)
    a, b = f"L:wallet/{alice}", f"L:wallet/{bob}"

    def shown(**body: Any) -> list[tuple[str, str, int, str]]:
        before = http.books()
        answer = http.post("/v1/moves/preview", json=body)
        assert answer.status_code == 200, answer.text
        assert http.books() == before
        return [
            (entry["side"], entry["key"], entry["amount"], entry["effect"])
            for entry in answer.json()["entries"]
        ]

    hold = transfer(alice, bob, 60, transition="hold")
    assert shown(**hold) == [("debit", a, 60, "held"), ("credit", b, 60, "held")]
    move = http.post("/v1/moves", json=hold).json()["id"]
    assert shown(move=move, transition="post", amount=45) == [
        ("debit", a, 45, "posted"),
        ("credit", b, 45, "posted"),
        ("debit", a, 15, "released"),
        ("credit", b, 15, "released"),
    ]
    assert shown(move=move, transition="void") == [
        ("debit", a, 60, "released"),
        ("credit", b, 60, "released"),
    ]
    too_much = http.post("/v1/moves/preview", json={"move": move, "transition": "post", "amount": 61})
    assert (too_much.status_code, too_much.json()["code"]) == (409, "exceeds_pending_transfer_amount")
    http.post(f"/v1/moves/{move}/void", json={})
    entries = http.get(f"/v1/moves/{move}").json()["entries"]
    assert [(entry["effect"], entry["amount"]) for entry in entries] == [("held", 60)] * 2 + [
        ("released", 60)
    ] * 2


# Reversals


def test_move_is_reversed_once(http: Client) -> None:
    alice, bob = http.party(), http.party()
    purse, till = http.fund(alice, 100), http.account(f"L:wallet/{bob}")
    move = http.post("/v1/moves", json=transfer(alice, bob, 30)).json()["id"]
    shown = http.post(f"/v1/moves/{move}/reversal/preview", json={})
    assert shown.status_code == 200, shown.text
    assert [(entry["side"], entry["key"]) for entry in shown.json()["entries"]] == [
        ("debit", f"L:wallet/{bob}"),
        ("credit", f"L:wallet/{alice}"),
    ]
    made = http.post(f"/v1/moves/{move}/reversal", json={"metadata": {"ticket": 1}})
    assert (made.status_code, made.json()["kind"], made.json()["state"]) == (201, "reversal", "posted")
    assert (http.balance(purse), http.balance(till)) == (100, 0)
    again = http.post(f"/v1/moves/{move}/reversal", json={"metadata": {"ticket": 1}})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == made.json()
    other = http.post(f"/v1/moves/{move}/reversal", json={"metadata": {"ticket": 2}})
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_content")
    assert "metadata" in other.json()["detail"]
    assert http.get(f"/v1/moves/{move}").json()["reversed_by"] == [made.json()["id"]]
    assert [m["id"] for m in pages(http, "/v1/moves", reverses=move)] == [made.json()["id"]]
    back = http.post(f"/v1/moves/{made.json()['id']}/reversal", json={})
    assert back.status_code == 201
    assert (http.balance(purse), http.balance(till)) == (70, 30)


def test_what_can_not_be_reversed_is_refused(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 100)
    held = http.post("/v1/moves", json=transfer(alice, bob, 30, transition="hold")).json()["id"]
    refused = http.post(f"/v1/moves/{held}/reversal", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "move_not_ended")
    http.post(f"/v1/moves/{held}/void", json={})
    refused = http.post(f"/v1/moves/{held}/reversal", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_reverse")
    assert http.post(f"/v1/moves/{fresh_id()}/reversal", json={}).status_code == 404
    paid = http.post("/v1/moves", json=transfer(alice, bob, 30)).json()["id"]
    http.post("/v1/moves", json=transfer(bob, alice, 30))
    before = http.books()
    spent = http.post(f"/v1/moves/{paid}/reversal/preview", json={})
    assert (spent.status_code, spent.json()["code"]) == (409, "below_floor")
    assert http.books() == before
    by_hand = {
        "kind": "reversal",
        "reverses": paid,
        "legs": [
            {"debit": f"L:wallet/{bob}", "credit": f"L:wallet/{alice}", "amount": 1, "asset": "GBP"},
        ],
    }
    refused = http.post("/v1/moves", json=by_hand)
    assert (refused.status_code, refused.json()["code"]) == (422, "id_invalid")


def test_order_that_was_refunded_in_part_is_not_reversed_as_a_whole(http: Client) -> None:
    buyer = http.party()
    http.post("/v1/things", json={"kind": "product", "code": "kettle"})
    order = {
        "kind": "order",
        "payer": buyer,
        "asset": "GBP",
        "transition": "place+capture+fulfil",
        "lines": [{"thing": "kettle", "quantity": 2, "amount": 5_000}],
    }
    psp = http.account("A:psp")
    before = http.balance(psp)
    whole, part = (http.post("/v1/moves", json=order).json()["id"] for _ in range(2))
    assert http.post(f"/v1/moves/{whole}/reversal", json={"reason": "recall"}).status_code == 201
    assert http.balance(psp) == before + 5_000
    refund = {
        "kind": "refund",
        "payer": buyer,
        "asset": "GBP",
        "transition": "grant+succeed",
        "lines": [{"thing": "kettle", "quantity": 1, "amount": 2_500, "order": part, "order_line": 1}],
    }
    assert http.post("/v1/moves", json=refund).status_code == 201
    refused = http.post(f"/v1/moves/{part}/reversal", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "above_ceiling")


# Holds


def test_holds_are_found_and_tell_what_became_of_them(http: Client) -> None:
    alice, bob = http.party(), http.party()
    purse, till = http.fund(alice, 100), http.account(f"L:wallet/{bob}")
    first = leg(purse, till, 10, flags=["pending"], timeout=3600)
    second = leg(purse, till, 20, flags=["pending"])
    assert http.post("/v1/legs", json=[first, second]).status_code == 201
    move = http.post("/v1/moves", json=transfer(alice, bob, 30, transition="hold")).json()

    def found(**query: Any) -> list[int]:
        return [hold["held"] for hold in pages(http, "/v1/holds", limit=1, **query)]

    assert found(account=purse) == [30, 20, 10]
    assert found(account=till, order="oldest") == [10, 20, 30]
    assert found(move=move["id"]) == [30]
    assert found(account=purse, expires_until="2262-01-01T00:00:00Z") == [10]
    hold = http.get(f"/v1/holds/{first['id']}").json()
    assert (hold["status"], hold["debit_key"], hold["held"]) == ("open", f"L:wallet/{alice}", 10)
    assert (hold["expires"] > hold["created"], hold["steps"], hold["move"]) == (True, [], None)

    part, rest = (
        {"id": fresh_id(of=first["id"]), "amount": amount, "flags": flags, "pending_id": first["id"]}
        for amount, flags in ((4, ["post_pending", "keep_open"]), (0, ["void_pending"]))
    )
    assert http.post("/v1/legs", json=[part, rest]).json()["created"] == 2
    hold = http.get(f"/v1/holds/{first['id']}").json()
    assert hold["status"] == "voided"
    assert [(step["leg"], step["how"], step["amount"], step["held_before"]) for step in hold["steps"]] == [
        (part["id"], "posted", 4, 10),
        (rest["id"], "voided", 0, 6),
    ]
    assert found(account=purse) == [30, 20]
    assert http.get(f"/v1/holds/{part['id']}").status_code == 404
    assert http.get(f"/v1/holds/{fresh_id()}").status_code == 404


# Closing


def test_account_is_closed_and_reopened(http: Client) -> None:
    alice, bob = http.party(), http.party()
    purse = http.fund(alice, 100)
    full = http.post(f"/v1/accounts/{purse}/close", json={})
    assert (full.status_code, full.json()["code"]) == (409, "account_not_empty")
    http.post("/v1/moves", json=transfer(alice, bob, 100))
    version = http.get(f"/v1/accounts/{purse}").json()["version"]
    stale = http.post(f"/v1/accounts/{purse}/close", json={"if_version": version - 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "account_version_differs")
    closed = http.post(f"/v1/accounts/{purse}/close", json={"if_version": version})
    assert (closed.status_code, closed.json()["closed"]) == (200, True)
    again = http.post(f"/v1/accounts/{purse}/close", json={})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    refused = http.post("/v1/moves", json=transfer(bob, alice, 1))
    assert (refused.status_code, refused.json()["code"]) == (409, "credit_account_already_closed")
    found = http.get("/v1/accounts", params={"party": alice, "closed": True}).json()["items"]
    assert [account["id"] for account in found] == [purse]
    opened = http.post(f"/v1/accounts/{purse}/reopen", json={})
    assert (opened.status_code, opened.json()["closed"]) == (200, False)
    again = http.post(f"/v1/accounts/{purse}/reopen", json={})
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert http.post("/v1/moves", json=transfer(bob, alice, 1)).status_code == 201


def test_account_that_was_created_closed_stays_so(http: Client) -> None:
    account = {"id": fresh_id(), "asset": "GBP", "code": 9, "flags": ["closed"]}
    assert http.post("/v1/accounts", json=[account]).status_code == 201
    refused = http.post(f"/v1/accounts/{account['id']}/reopen", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "account_closed_for_good")


# Filters and pages


def test_accounts_are_found_by_several_filters_at_once(http: Client) -> None:
    party = http.party()
    top = http.account(f"L:wallet/{party}/all", rollup=True)
    http.post("/v1/things", json={"kind": "asset", "code": "EUR", "exponent": 2})
    below = [
        http.account(f"L:wallet/{party}/{name}", asset, parent=top)
        for name, asset in (("b", "GBP"), ("a", "GBP"))
    ]
    euros = http.account(f"I:owned/{party}", "EUR")

    def found(**query: Any) -> list[str]:
        return [account["id"] for account in pages(http, "/v1/accounts", limit=1, **query)]

    assert found(party=party) == [top, *below, euros]
    assert found(party=party, order="newest") == [euros, *reversed(below), top]
    assert found(party=party, order="key") == [euros, below[1], top, below[0]]
    assert found(prefix=f"L:wallet/{party}") == [below[1], top, below[0]]
    assert found(parent=top) == below
    assert found(party=party, asset="EUR") == [euros]
    assert found(**{"party": party, "class": "I"}) == [euros]
    assert found(party=party, rollup=True) == [top]
    assert found(key=f"L:wallet/{party}/a") == [below[1]]
    assert found(party=party, closed=True) == []


def test_entries_of_the_whole_ledger(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 100)
    made = [http.post("/v1/moves", json=transfer(alice, bob, amount)).json() for amount in (1, 2, 3)]
    mine = pages(http, "/v1/entries", party=bob, limit=1)
    assert [(entry["side"], entry["key"], entry["amount"]) for entry in mine] == [
        ("credit", f"L:wallet/{bob}", amount) for amount in (3, 2, 1)
    ]
    between = {"start": made[0]["timestamp"], "end": made[1]["timestamp"]}
    both = pages(http, "/v1/entries", limit=3, order="oldest", kind="transfer", asset="GBP", **between)
    assert [(entry["side"], entry["amount"], entry["move"]) for entry in both] == [
        (side, amount, move["id"])
        for amount, move in zip((1, 2), made, strict=False)
        for side in ("debit", "credit")
    ]


def test_parties_and_things_by_kind_and_name(http: Client) -> None:
    name = f"only {fresh_id()}"
    made = [
        http.post("/v1/parties", json={"kind": kind, "name": name}).json()
        for kind in ("org", "machine", "org")
    ]
    assert pages(http, "/v1/parties", name=name, limit=1) == made
    assert pages(http, "/v1/parties", name=name, order="newest", limit=1) == made[::-1]
    assert pages(http, "/v1/parties", name=name, kind="machine") == [made[1]]
    code = f"thing-{fresh_id()}"
    things = [
        http.post("/v1/things", json={"kind": kind, "code": f"{code}-{kind}"}).json()
        for kind in ("product", "service")
    ]
    assert pages(http, "/v1/things", prefix=code, order="newest", limit=1) == things[::-1]
    assert pages(http, "/v1/things", prefix=code, kind="service") == [things[1]]


SOMEBODY = "019aa0c2-7c00-7000-8000-00000000dead"


@pytest.mark.parametrize(
    ("path", "query", "where"),
    [
        ("/v1/moves", {"kind": "gift"}, "kind"),
        ("/v1/moves", {"state": "happy"}, "state"),
        ("/v1/moves", {"kind": "journal", "state": "pending"}, "state"),
        ("/v1/moves", {"asset": "XXX"}, "asset"),
        ("/v1/moves", {"party": SOMEBODY}, "party"),
        ("/v1/moves", {"payer": SOMEBODY}, "payer"),
        ("/v1/moves", {"reverses": SOMEBODY}, "reverses"),
        ("/v1/moves", {"ended": "perhaps"}, "ended"),
        ("/v1/moves", {"business_start": "2024-01-02T00:00:00Z", "business_end": 1}, "business_start"),
        ("/v1/moves", {"start": "2024-01-02T00:00:00Z", "end": 1}, "start"),
        ("/v1/accounts", {"party": SOMEBODY}, "party"),
        ("/v1/accounts", {"parent": SOMEBODY}, "parent"),
        ("/v1/accounts", {"class": "Z"}, "class"),
        ("/v1/accounts", {"asset": "XXX"}, "asset"),
        ("/v1/accounts", {"key": "A:bank", "asset": "XXX"}, "asset"),
        ("/v1/accounts", {"key": "A:bank", "prefix": "A:b"}, "key"),
        ("/v1/accounts", {"order": "size"}, "order"),
        ("/v1/holds", {"account": SOMEBODY}, "account"),
        ("/v1/holds", {"move": SOMEBODY}, "move"),
        ("/v1/holds", {"asset": "XXX"}, "asset"),
        ("/v1/entries", {"kind": "gift"}, "kind"),
        ("/v1/entries", {"party": SOMEBODY}, "party"),
        ("/v1/entries", {"asset": "XXX"}, "asset"),
        ("/v1/parties", {"kind": "buyer"}, "kind"),
        ("/v1/things", {"kind": "money"}, "kind"),
    ],
)
def test_filter_that_makes_no_sense_is_an_error(
    http: Client, path: str, query: dict[str, Any], where: str
) -> None:
    answer = http.get(path, params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter"), answer.text
    assert answer.json()["where"] == where


def test_cursor_of_one_list_is_none_of_another(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 9)
    for _ in range(3):
        http.post("/v1/moves", json=transfer(alice, bob, 1))
    cursor = http.get("/v1/moves", params={"party": alice, "limit": 1}).json()["next"]
    for path, query in (
        ("/v1/moves", {"party": bob}),
        ("/v1/moves", {"party": alice, "order": "oldest"}),
        ("/v1/entries", {"party": alice}),
        ("/v1/holds", {}),
    ):
        answer = http.get(path, params={**query, "cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor"), path


# Many at once


def test_bulk_lookups_keep_the_order_and_name_what_is_missing(http: Client) -> None:
    alice, bob = http.party(), http.party()
    http.fund(alice, 9)
    moves = [http.post("/v1/moves", json=transfer(alice, bob, 1)).json()["id"] for _ in range(2)]
    accounts = [http.account(f"L:wallet/{party}") for party in (bob, alice)]
    legs = [entry["leg"] for move in moves for entry in http.get(f"/v1/moves/{move}").json()["entries"][:1]]
    nothing = fresh_id()
    for path, ids in (
        ("moves", moves[::-1]),
        ("accounts", accounts),
        ("parties", [bob, alice]),
        ("legs", legs[::-1]),
    ):
        answer = http.post(f"/v1/{path}/lookup", json={"ids": [ids[0], nothing, ids[1]]})
        assert answer.status_code == 200, answer.text
        assert [item["id"] for item in answer.json()["items"]] == ids
        assert answer.json()["missing"] == [nothing]
        one = http.get(f"/v1/{path}/{ids[0]}").json()
        assert answer.json()["items"][0].items() <= one.items()
        for bad in ([], [nothing] * 1_001):
            assert http.post(f"/v1/{path}/lookup", json={"ids": bad}).status_code == 422


def test_balances_of_many_accounts_in_recorded_and_business_time(http: Client) -> None:
    alice, bob = http.party(), http.party()
    purse, till = http.fund(alice, 100), http.account(f"L:wallet/{bob}")
    day = "2011-12-{:02d}T00:00:00Z"
    stamps = []
    for number, amount in ((9, 5), (7, 3)):  # the earlier day is recorded later
        body = transfer(alice, bob, amount, business_time=day.format(number))
        stamps.append(http.post("/v1/moves", json=body).json()["timestamp"])

    def posted(**when: Any) -> list[int]:
        answer = http.post("/v1/accounts/balances", json={"ids": [till, purse, fresh_id()], **when})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["missing"]) == 1
        found = [item["posted"] for item in answer.json()["items"]]
        query = dict(when)
        assert found == [http.balance(account, **query) for account in (till, purse)]
        return found

    assert posted() == [8, 92]
    assert posted(at=stamps[0]) == [5, 95]
    assert posted(business=day.format(8)) == [3, -3]
    assert posted(business=day.format(9)) == [8, -8]
    assert posted(business=day.format(9), at=stamps[0]) == [5, -5]
    assert posted(business=day.format(8), at=stamps[0]) == [0, 0]


def test_party_is_changed_in_part(http: Client) -> None:
    party = http.post("/v1/parties", json={"kind": "person", "name": "Al", "profile": {"a": 1}}).json()
    path = f"/v1/parties/{party['id']}"
    named = http.patch(path, json={"name": "Alice"})
    assert (named.status_code, named.json()) == (200, {**party, "name": "Alice", "version": 2})
    same = http.patch(path, json={"name": "Alice"})
    assert same.json()["version"] == 2
    stale = http.patch(path, json={"profile": {}, "if_version": 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "party_version_differs")
    emptied = http.patch(path, json={"profile": {}, "if_version": 2})
    assert emptied.json() == {**party, "name": "Alice", "profile": {}, "version": 3}
    assert http.get(path).json() == emptied.json()
    assert http.patch(f"/v1/parties/{fresh_id()}", json={}).status_code == 404


def test_every_list_takes_the_same_parameters(http: Client) -> None:
    document = http.get("/openapi.json").json()
    lists = {
        path: {parameter["name"] for parameter in item["get"].get("parameters", [])}
        for path, item in document["paths"].items()
        if "Page" in str(item.get("get", {}).get("responses", {}).get("200", {}).get("content", {}))
    }
    assert lists.pop("/v1/kinds") == {"If-None-Match"}  # there are so few of them
    lists.pop("/v1/events")  # positions in the log
    assert {"/v1/accounts", "/v1/moves", "/v1/entries", "/v1/holds", "/v1/parties"} <= set(lists)
    for path, names in lists.items():
        assert {"cursor", "limit", "order"} <= names, path
