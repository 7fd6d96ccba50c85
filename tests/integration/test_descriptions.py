"""What is said of Parties and Things: trust and relations; rights, meters, variants and bundles."""

from typing import Any, Final
from uuid import UUID

import pytest

from tests.fixtures_gateway import Client
from tests.integration.test_access import World, provider, world
from tests.integration.test_http_api import fresh_id

__all__ = ["provider", "world"]

NOBODY: Final = str(UUID(int=7))


def thing(http: Client, **fields: Any) -> dict[str, Any]:
    answer = http.post("/v1/things", json={"kind": "product", "code": fresh_id(), **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert http.get(f"/v1/things/{made['code']}").json() == made
    return made


def test_relations_and_trust(http: Client) -> None:
    firm, other = http.party("Firm"), http.party("Other")
    employed = {"kind": "employee_of", "party": firm}
    draft = {"kind": "person", "name": "Ann", "profile": {"a": 1}, "trust": 80, "relations": [employed]}
    made = http.post("/v1/parties", json=draft)
    assert made.status_code == 201, made.text
    ann = made.json()
    assert {name: ann[name] for name in draft} == draft
    path = f"/v1/parties/{ann['id']}"
    assert http.get(path).json() == ann
    wanted: dict[str, Any] = {"related_to": firm}
    for query in (wanted, {**wanted, "relation": "employee_of"}, {**wanted, "trust_min": 80}):
        found = http.get("/v1/parties", params=query)
        assert [item["id"] for item in found.json()["items"]] == [ann["id"]], found.text
    none: list[dict[str, Any]] = [
        {"related_to": other},
        {**wanted, "relation": "owner_of"},
        {**wanted, "trust_min": 81},
    ]
    for query in none:
        assert http.get("/v1/parties", params=query).json()["items"] == []
    changed = http.patch(path, json={"trust": None, "relations": [{"kind": "owner_of", "party": other}]})
    assert changed.status_code == 200, changed.text
    now = http.get(path).json()
    assert (now["trust"], now["profile"], now["version"]) == (None, {"a": 1}, 2)
    assert now["relations"] == [{"kind": "owner_of", "party": other}]
    assert http.patch(path, json={"profile": {}}).json()["relations"] == now["relations"]


def test_rights_meters_variants_and_bundles(http: Client) -> None:
    base, unit = thing(http), thing(http)
    variant = thing(http, variant_of=base["code"], options={"size": "M"})
    assert (variant["variant_of"], variant["options"]) == (base["code"], {"size": "M"})
    rights = [{"name": "stream", "uses": 3, "term_s": 86_400, "transferable": True}]
    meter = {"unit": unit["code"], "included": 100, "period": "month"}
    served = thing(http, kind="subscription", rights=rights, meter=meter, attrs={"tracked": False})
    assert (served["rights"], served["meter"], served["attrs"]) == (rights, meter, {"tracked": False})
    parts = [{"thing": base["code"], "quantity": 2}, {"thing": unit["code"], "quantity": 1}]
    bundle = thing(http, bundle=parts)
    assert bundle["bundle"] == parts
    for query, expected in (({"variant_of": base["code"]}, variant), ({"part": unit["code"]}, bundle)):
        assert http.get("/v1/things", params=query).json()["items"] == [expected]


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/v1/parties", {"kind": "org", "relations": [{"kind": "x", "party": NOBODY}]}, "relations[0].party"),
        ("/v1/parties", {"kind": "org", "profile": {"tessera:trust": 1}}, "profile.tessera:trust"),
        ("/v1/parties", {"kind": "org", "trust": 101}, "trust"),
        ("/v1/things", {"kind": "product", "code": "b1", "bundle": [{"thing": "none"}]}, "bundle[0].thing"),
        ("/v1/things", {"kind": "product", "code": "b2", "variant_of": "none"}, "variant_of"),
        ("/v1/things", {"kind": "product", "code": "b3", "meter": {"unit": "none"}}, "meter.unit"),
        ("/v1/things", {"kind": "product", "code": "b4", "options": {"size": "M"}}, "options"),
        ("/v1/things", {"kind": "product", "code": "b5", "attrs": {"tessera:x": 1}}, "attrs.tessera:x"),
    ],
)
def test_what_makes_no_sense_is_refused(http: Client, path: str, body: dict[str, Any], where: str) -> None:
    before = http.books()
    answer = http.post(path, json=body)
    assert answer.status_code in {404, 409, 422}, answer.text
    assert answer.json()["where"] == where, answer.text
    assert http.books() == before


def test_events_tell_what_is_said_but_not_who_is_trusted(http: Client) -> None:
    draft = {"kind": "person", "trust": 80, "relations": [{"kind": "knows", "party": http.party()}]}
    party = http.post("/v1/parties", json=draft).json()["id"]
    query = {"after": "start", "party": party}
    page = http.get("/v1/events", params=query, headers={"Accept": "application/json"}).json()
    while page["more"] and not page["items"]:
        query["after"] = page["position"]
        page = http.get("/v1/events", params=query, headers={"Accept": "application/json"}).json()
    data = page["items"][0]["data"]
    assert data["relations"] == draft["relations"]
    assert data["profile"] == {}
    assert "trust" not in data


def test_a_party_does_not_learn_how_it_is_trusted(world: World) -> None:
    full = world.full
    assert full.patch(f"/v1/parties/{world.mallory}", json={"trust": 3}).json()["trust"] == 3
    with world.gateway.client(world.gateway.key("*", party=UUID(world.mallory))) as own:
        assert own.get(f"/v1/parties/{world.mallory}").json()["trust"] is None
