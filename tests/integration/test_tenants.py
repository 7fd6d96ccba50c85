"""Two tenants on one PostgreSQL: nothing of one is to be had from the other."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest

from actors.runtime import Engine
from actors.settings import Settings
from gateway.security.administration import administering
from gateway.security.settings import SecuritySettings
from persistence.database import Database
from persistence.errors import DatabaseRefused
from tests.fixtures_engine import settings_of
from tests.fixtures_gateway import Client
from tests.integration.test_access import Guarded

PARTY: Final = "019aa0c2-7c00-7000-8000-00000000a11c"
MOVE: Final = "019aa0c2-7c00-7000-8000-000000000001"


class Tenant(NamedTuple):
    """A tenant's gateway, a client that may do everything there, its key, and its wallet."""

    gateway: Guarded
    http: Client
    key: str
    wallet: str


def tenant_of(gateway: Guarded, http: Client, key: str, name: str, amount: int) -> Tenant:
    """A tenant with a Party, an account and a Move whose names and ids others have too."""
    assert http.post("/v1/things", json={"kind": "asset", "code": "GBP", "exponent": 2}).status_code == 201
    party = http.post("/v1/parties", json={"id": PARTY, "kind": "person", "name": name})
    assert party.status_code == 201, party.text
    legs = [{"debit": "A:bank", "credit": f"L:wallet/{PARTY}", "amount": amount, "asset": "GBP"}]
    made = http.post("/v1/moves", json={"id": MOVE, "kind": "journal", "legs": legs, "reference": name})
    assert made.status_code == 201, made.text
    return Tenant(gateway, http, key, http.account(f"L:wallet/{PARTY}"))


@pytest.fixture(scope="module")
def tenants(spare_databases: Any) -> Iterator[tuple[Tenant, Tenant]]:
    url = spare_databases()
    security = SecuritySettings(auth=True)
    with (
        Guarded(Settings(database_url=url), security) as first,
        Guarded(Settings(database_url=url, database_schema="of_blue", tenant="blue"), security) as second,
    ):
        keys = first.key("*"), second.key("*")
        with first.client(keys[0]) as one, second.client(keys[1]) as other:
            yield (
                tenant_of(first, one, keys[0], "Red", 100),
                tenant_of(second, other, keys[1], "Blue", 20),
            )


def test_the_same_ids_are_different_things(tenants: tuple[Tenant, Tenant]) -> None:
    red, blue = tenants
    assert red.wallet != blue.wallet
    assert red.http.balance(red.wallet) == 100
    assert blue.http.balance(blue.wallet) == 20
    for one, name in ((red, "Red"), (blue, "Blue")):
        assert one.http.get(f"/v1/parties/{PARTY}").json()["name"] == name
        assert one.http.get(f"/v1/moves/{MOVE}").json()["reference"] == name


def test_lists_lookups_and_sums_have_ones_own_only(tenants: tuple[Tenant, Tenant]) -> None:
    red, blue = tenants
    for own, other, name in ((red, blue, "Blue"), (blue, red, "Red")):
        lists = ("accounts?prefix=L:", "moves", "entries", "parties", "things", "holds", "trial-balance")
        for path in lists:
            answer = own.http.get(f"/v1/{path}")
            assert answer.status_code == 200, answer.text
            assert other.wallet not in answer.text
            assert name not in answer.text
        found = own.http.post("/v1/accounts/lookup", json={"ids": [own.wallet, other.wallet]}).json()
        assert [item["id"] for item in found["items"]] == [own.wallet]
        assert found["missing"] == [other.wallet]
        assert own.http.get(f"/v1/accounts/{other.wallet}/entries").status_code == 404


def test_events_are_ones_own_only(tenants: tuple[Tenant, Tenant]) -> None:
    red, blue = tenants
    for own, other, name in ((red, blue, "Blue"), (blue, red, "Red")):
        told, after, more = "", "start", True
        while more:
            page = own.http.get("/v1/events", params={"after": after}, headers={"Accept": "application/json"})
            told, after, more = told + page.text, page.json()["position"], page.json()["more"]
        assert own.wallet in told
        assert other.wallet not in told
        assert name not in told


def test_a_key_is_good_for_its_tenant_only(tenants: tuple[Tenant, Tenant]) -> None:
    red, blue = tenants
    for own, other in ((red, blue), (blue, red)):
        answer = own.http.get("/v1/things", headers={"Authorization": f"Bearer {other.key}"})
        assert answer.status_code == 401


def test_an_idempotency_key_is_claimed_for_its_tenant_only(tenants: tuple[Tenant, Tenant]) -> None:
    for one, name in zip(tenants, ("Ann", "Bea"), strict=True):
        headers = {"Idempotency-Key": "the-same"}
        made = one.http.post("/v1/parties", json={"kind": "person", "name": name}, headers=headers)
        assert made.status_code == 201, made.text


def test_metrics_are_of_one_tenant(tenants: tuple[Tenant, Tenant]) -> None:
    red, blue = tenants
    name = 'route="/v1/kinds/{name}",status="404"'
    assert blue.http.get("/v1/kinds/none").status_code == 404
    assert name in blue.http.get("/metrics").text
    assert name not in red.http.get("/metrics").text


def test_rates_are_of_one_tenant(tenants: tuple[Tenant, Tenant]) -> None:
    red, blue = tenants
    slow, other = (one.gateway.key("*", rate=1, burst=1) for one in tenants)
    with red.gateway.client(slow) as exhausted, blue.gateway.client(other) as fresh:
        statuses = [exhausted.get("/v1/things").status_code for _ in range(3)]
        assert 429 in statuses
        assert fresh.get("/v1/things").status_code == 200


async def test_a_schema_has_one_tenant(database: Database) -> None:
    async with Engine.running(settings_of(database)):
        pass
    for attempt in (Engine.running, administering):
        with pytest.raises(DatabaseRefused, match="another tenant's") as refused:
            async with attempt(settings_of(database, tenant="blue")):
                pass
        assert "default" not in str(refused.value)
    async with Engine.running(settings_of(database)) as engine:
        assert engine.settings.tenant == "default"
