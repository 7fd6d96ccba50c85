"""Orders that policies price: previewed, frozen on the Move, repeated, explained and given back."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
import pytest

from engine.policies.quote import Quote
from engine.policies.returns import returned
from tests.fixtures_cluster import EVERYWHERE
from tests.fixtures_gateway import Client
from tests.integration.test_http_api import fresh_id

RUNTIMES = EVERYWHERE

EUR: Final = {"kind": "asset", "code": "EUR", "exponent": 2}


class Shop:
    """Things and policies of its own, so that tests do not share them."""

    def __init__(self, http: Client) -> None:
        self.http = http
        self.mark = fresh_id()[-12:]
        self.thing("mug", attrs={"groups": ["cups"], "weight": 0.3, "note": {"a": 1}})
        self.thing("rum", attrs={"groups": ["spirits"], "alcohol_ml": 280})
        self.thing("vat", kind="service", attrs={"account": f"L:tax/{self.mark}"})
        self.thing("shipping", kind="service", attrs={"account": f"R:fee/{self.mark}"})
        rows = [
            {"level": "list", "thing": self.code("mug"), "asset": "EUR", "price": 1000},
            {"level": "list", "thing": self.code("rum"), "asset": "EUR", "price": 2500},
            {"level": "segment", "thing": self.code("mug"), "asset": "EUR", "price": 950, "segment": "trade"},
        ]
        self.policy("prices", {"policy": "prices", "rows": rows})
        stage = {"name": "VAT", "order": 1, "rules": [{"thing": self.code("vat"), "rate": "19%"}]}
        self.policy("taxes", {"policy": "taxes", "stages": [stage]})
        shipping = {"code": "shipping", "thing": self.code("shipping"), "asset": "EUR", "amount": 500}
        self.policy("fees", {"policy": "fees", "fees": [{**shipping, "taxable": True, "refundable": True}]})
        adults = {"code": "adults", "about": {"groups": ["spirits"]}, "age_min": 18}
        self.policy("rules", {"policy": "compliance", "rules": [adults]})

    def code(self, name: str) -> str:
        return f"{name}-{self.mark}"

    def thing(self, name: str, **fields: Any) -> None:
        answer = self.http.post("/v1/things", json={"kind": "product", "code": self.code(name), **fields})
        assert answer.status_code == 201, answer.text

    def policy(self, name: str, document: dict[str, Any]) -> None:
        self.thing(name, kind="policy", attrs=document)

    def order(self, *policies: str, **more: Any) -> dict[str, Any]:
        return {
            "asset": "EUR",
            "lines": [{"thing": self.code("mug"), "quantity": 3}],
            "pricing": {"policies": [self.code(name) for name in policies]},
            **more,
        }

    def party(self, **profile: Any) -> str:
        answer = self.http.post("/v1/parties", json={"kind": "person", "profile": profile})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])


@pytest.fixture
def shop(http: Client) -> Shop:
    assert http.post("/v1/things", json=EUR).status_code in {201, 409}
    return Shop(http)


def given_back(buyer: str, order: str, quote: Quote, amounts: dict[int, int]) -> dict[str, Any]:
    """A refund of these amounts of the lines of an order."""
    lines = [
        {
            "thing": quote.lines[line - 1].thing,
            "quantity": 1,
            "amount": amount,
            "order": order,
            "order_line": line,
        }
        for line, amount in amounts.items()
    ]
    return {"kind": "refund", "payer": buyer, "asset": "EUR", "transition": "grant+succeed", "lines": lines}


def test_a_quote_explains_every_amount(http: Client, shop: Shop) -> None:
    answer = http.post("/v1/moves/quote", json=shop.order("prices", "taxes", "fees"))
    assert answer.status_code == 200, answer.text
    quote = answer.json()
    assert [(line["kind"], line["thing"], line["amount"]) for line in quote["lines"]] == [
        ("goods", shop.code("mug"), 3000),
        ("fee", shop.code("shipping"), 500),
        ("tax", shop.code("vat"), 665),
    ]
    assert (quote["total"], quote["taxes"], quote["verdict"]) == (4165, 665, "allow")
    assert quote["lines"][2]["taxes"] == {"1": 570, "2": 95}
    assert quote["policies"] == {name: shop.code(name) for name in ("prices", "taxes", "fees")}
    said = quote["trace"][0]
    assert said["sentence"] == (
        f"Line 1: 3 of {shop.code('mug')} at 10.00 EUR each come to 30.00 EUR. The price is the list price."
    )
    assert (said["step"]["step"], said["step"]["amount"]) == ("priced", 3000)


def test_a_priced_order_keeps_its_quote(http: Client, shop: Shop) -> None:
    buyer = shop.party(standing={"segments": ["trade"]})
    draft = shop.order("prices", "taxes", "fees", kind="order", payer=buyer, id=fresh_id(payer=buyer))
    draft["metadata"] = {"basket": 7}
    trial = http.post("/v1/moves/preview", json={**draft, "transition": "place+capture+fulfil"})
    assert trial.status_code == 200, trial.text
    made = http.post("/v1/moves", json={**draft, "transition": "place+capture+fulfil"})
    assert made.status_code == 201, made.text
    path = f"/v1/moves/{draft['id']}"
    move = http.get(path).json()
    assert [line["amount"] for line in move["lines"]] == [2850, 500, 637]
    assert move["metadata"] == {"basket": 7}
    posted = {entry["key"]: entry["amount"] for entry in move["entries"] if entry["side"] == "credit"}
    assert posted[f"L:order/{draft['id']}"] == 3987
    assert (posted[f"L:tax/{shop.mark}"], posted[f"R:fee/{shop.mark}"]) == (637, 500)
    quote = http.get(path + "/quote").json()
    assert (quote["total"], quote["policies"]["prices"]) == (3987, shop.code("prices"))
    assert "that of the segment trade" in quote["trace"][0]["sentence"]


def test_a_request_sent_again_gets_the_quote_that_was_kept(http: Client, shop: Shop) -> None:
    buyer = shop.party(standing={"segments": ["trade"]})
    draft = shop.order("prices", kind="order", payer=buyer, id=fresh_id(payer=buyer), transition="place")
    first = http.post("/v1/moves", json=draft)
    assert first.status_code == 201, first.text
    changed = http.patch(f"/v1/parties/{buyer}", json={"profile": {"standing": {}}})
    assert changed.status_code == 200, changed.text
    again = http.post("/v1/moves", json=draft)
    assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (200, "true"), again.text
    assert again.json() == first.json()
    other = http.post("/v1/moves", json={**draft, "lines": [{"thing": shop.code("mug"), "quantity": 4}]})
    assert (other.status_code, other.json()["code"]) == (409, "exists_with_different_content")
    keyed = {name: value for name, value in draft.items() if name != "id"}
    answers = [http.post("/v1/moves", json=keyed, headers={"Idempotency-Key": shop.mark}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]


def test_the_same_request_many_times_at_once_is_one_move(http: Client, shop: Shop) -> None:
    buyer = shop.party()
    draft = shop.order("prices", kind="order", payer=buyer, id=fresh_id(payer=buyer), transition="place")
    with ThreadPoolExecutor(6) as several:
        answers = [*several.map(lambda _: http.post("/v1/moves", json=draft), range(6))]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 200, 201]


def test_what_is_returned_gives_back_its_part_of_the_lines(http: Client, shop: Shop) -> None:
    buyer = shop.party()
    order = fresh_id(payer=buyer)
    draft = shop.order("prices", "taxes", "fees", kind="order", payer=buyer, id=order)
    made = http.post("/v1/moves", json={**draft, "transition": "place+capture+fulfil"})
    assert made.status_code == 201, made.text
    view = http.get(f"/v1/moves/{order}/quote").json()
    known = {name: view[name] for name in ("asset", "as_of", "total")}
    shown = [{name: value for name, value in line.items() if value is not None} for line in view["lines"]]
    quote = msgspec.convert({**known, "lines": shown}, Quote, strict=False)
    taken = [0, 0, 0]
    for before in range(3):
        amounts = returned(quote, {1: before}, {1: 1})
        refund = given_back(buyer, order, quote, amounts)
        answer = http.post("/v1/moves", json=refund)
        assert answer.status_code == 201, answer.text
        for line, amount in amounts.items():
            taken[line - 1] += amount
    assert taken == [3000, 500, 665]
    assert http.balance(http.account(f"L:tax/{shop.mark}", asset="EUR")) == 0
    more = http.post("/v1/moves", json=given_back(buyer, order, quote, {1: 1}))
    assert (more.status_code, more.json()["code"]) == (409, "above_ceiling")


def test_an_order_that_is_not_allowed_is_not_written(http: Client, shop: Shop) -> None:
    lines = [{"thing": shop.code("rum"), "quantity": 1}]
    child, adult = shop.party(standing={"born": "2020-01-01"}), shop.party(standing={"born": "1990-01-01"})
    draft = shop.order("prices", "rules", kind="order", lines=lines, transition="place")
    refused = http.post("/v1/moves", json={**draft, "payer": child})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_compliant")
    assert "the buyer must be 18 or older" in refused.json()["detail"]
    assert http.post("/v1/moves", json={**draft, "payer": adult}).status_code == 201
    quote = shop.order("prices", "rules", lines=lines)
    assert http.post("/v1/moves/quote", json=quote).json()["verdict"] == "deny"


def test_budgets_are_what_their_accounts_have(http: Client, shop: Shop) -> None:
    off = {"kind": "amount_off", "amount": 600, "asset": "EUR"}
    campaign = str(fresh_id())
    promotion = {"code": "spring", "benefit": off, "budget": campaign}
    shop.policy("promotions", {"policy": "promotions", "promotions": [promotion]})
    draft = shop.order("prices", "promotions")
    answer = http.post("/v1/moves/quote", json=draft).json()
    assert answer.get("discounts") == 0, answer
    leg = {"debit": f"M:budget/{campaign}", "credit": "M:budget.contra", "amount": 600, "asset": "EUR"}
    assert http.post("/v1/moves", json={"kind": "journal", "legs": [leg]}).status_code == 201
    quote = http.post("/v1/moves/quote", json=draft).json()
    assert (quote["discounts"], quote["uses"]) == (600, {campaign: 600})


def test_what_can_not_be_is_refused_by_the_field(http: Client, shop: Shop) -> None:
    nobody = fresh_id()
    good = shop.order("prices")
    order = {**good, "kind": "order", "payer": shop.party()}
    line = {"thing": shop.code("mug"), "quantity": 1}
    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("/v1/moves/quote", {**good, "payer": nobody}, 404, ""),
        ("/v1/moves/quote", {**good, "asset": "XXX"}, 422, "asset"),
        ("/v1/moves/quote", {**good, "lines": [{**line, "thing": "none"}]}, 422, "lines[0].thing"),
        ("/v1/moves/quote", {**good, "pricing": {"policies": ["none"]}}, 422, "pricing.policies[0]"),
        ("/v1/moves/quote", {**good, "pricing": {"policies": [line["thing"]]}}, 422, "pricing.policies[0]"),
        ("/v1/moves/quote", shop.order("taxes"), 422, "pricing.policies"),
        ("/v1/moves/quote", shop.order("prices", "prices"), 422, "pricing.policies"),
        ("/v1/moves/quote", {**good, "lines": [{**line, "thing": shop.code("vat")}]}, 422, "lines[0].thing"),
        ("/v1/moves", {**order, "lines": [{**line, "amount": 5}]}, 422, "lines[0]"),
        ("/v1/moves", {**order, "lines": [{**line, "quantity": 0}]}, 422, "lines[0]"),
        ("/v1/moves", {**order, "lines": None}, 422, "lines"),
        ("/v1/moves", {"kind": "journal", "metadata": {"tessera:quote": 1}}, 422, "metadata.tessera:quote"),
        ("/v1/parties", {"kind": "org", "profile": {"standing": {"born": 7}}}, 422, "profile.standing.born"),
        (
            "/v1/things",
            {"kind": "policy", "code": nobody, "attrs": {"policy": "prices", "rows": [{"level": "list"}]}},
            422,
            "attrs.rows[0]",
        ),
    ]
    for path, body, status, where in cases:
        before = http.books()
        answer = http.post(path, json=body)
        assert (answer.status_code, answer.json().get("where", "")) == (status, where), (body, answer.text)
        assert http.books() == before
    assert http.get(f"/v1/moves/{nobody}/quote").status_code == 404
