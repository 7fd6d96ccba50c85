"""Who may do what: every route, for everybody who may not use it, is refused and tells nothing.

The table is made from the routes of the application, so a route that is added is in it at once. What a route
needs to be asked sensibly stands in `BODIES` and `IN_PATHS`; what is missing there is filled with something.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

import httpx
import pyarrow as pa
import pytest
from litestar.routes import HTTPRoute

from actors.runtime import Engine
from actors.settings import Settings
from gateway.app import HANDLERS, create_framework_app
from gateway.arrow_schema import LEG_SCHEMA, MEDIA_TYPE
from gateway.listener import bind
from gateway.metrics import HttpMetrics
from gateway.security.administration import Administration, KeyDraft
from gateway.security.authorization import needed
from gateway.security.confined import RESOURCES_OF_PARTIES
from gateway.security.credentials import make_key
from gateway.security.gate import PUBLIC_PATHS, Gate
from gateway.security.settings import SecuritySettings
from gateway.server import serving
from persistence import audit
from tests.fixtures_gateway import Client, RunningGateway
from tests.identity_provider import AUDIENCE, HOUR_S, IdentityProvider
from tests.integration.test_http_api import fresh_id

ALICES_NAME: Final = "Alice-whose-name-is-nobodys-business"
NOT_FOUND_OR_FORBIDDEN: Final = {403, 404}


class Guarded(RunningGateway):
    """A gateway that asks for keys, and somebody who makes them."""

    def __init__(self, settings: Settings, security: SecuritySettings) -> None:
        super().__init__(settings)
        self._security = security
        self._usual: dict[tuple[str, ...], str] = {}
        self.gate: Gate
        self.administration: Administration

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with (
            Engine.running(self._settings) as self.engine,
            serving(self.engine, bind("127.0.0.1", 0), security=self._security) as server,
        ):
            self.url, self.gate = server.url, server.gate
            self.administration = Administration(self.engine.database, self._settings.tenant, "test")
            self._started.set()
            await self._stop.wait()
            await self.administration.close()

    def usual_key(self, *scopes: str) -> str:
        """The text of a key with these scopes that others may use too."""
        if scopes not in self._usual:
            self._usual[scopes] = self.key(*scopes)
        return self._usual[scopes]

    def key(self, *scopes: str, **more: Any) -> str:
        """The text of a new key."""
        made = self.call(self.administration.create(KeyDraft(name="test", scopes=list(scopes), **more)))
        self.call(self.gate.refresh())
        assert made.key is not None
        return made.key

    def client(self, key: str) -> Client:
        """A client with a key or token, perhaps an empty one."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return Client(base_url=self.url, headers=headers, timeout=60)


class World(NamedTuple):
    """Alice, who has something to lose, and what strangers would like to know."""

    gateway: Guarded
    provider: IdentityProvider
    full: Client
    alice: str
    mallory: str
    wallet: str
    move: str
    held: str
    hold: str
    leg: str
    secrets: list[str]


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    """A provider of tokens, on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = made.documents(base).get(self.path)
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_: Any) -> None:
            """Not to be seen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    base = f"http://127.0.0.1:{server.server_port}"
    made = IdentityProvider(base)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def world(spare_databases: Any, provider: IdentityProvider) -> Iterator[World]:
    security = SecuritySettings(auth=True, oidc_issuer=provider.issuer, oidc_audience=AUDIENCE)
    with (
        Guarded(Settings(database_url=spare_databases()), security) as gateway,
        gateway.client(gateway.key("*")) as full,
    ):
        assert full.post("/v1/things", json={"kind": "asset", "code": "GBP", "exponent": 2}).is_success
        alice, mallory = full.party(ALICES_NAME), full.party("Mallory")
        wallet = full.fund(alice, 7_654_321)
        full.fund(mallory, 500)
        usual = {"kind": "transfer", "payer": alice, "payee": full.party(), "asset": "GBP"}
        done = full.post("/v1/moves", json={**usual, "amount": 1_234_567, "reference": "alices-rent"})
        held = full.post("/v1/moves", json={**usual, "amount": 23, "transition": "hold"})
        assert done.is_success, done.text
        assert held.is_success, held.text
        move = done.json()["id"]
        leg = full.get(f"/v1/moves/{move}").json()["entries"][0]["leg"]
        [hold] = full.get("/v1/holds", params={"account": wallet}).json()["items"]
        secrets = [ALICES_NAME, "alices-rent", "7654321", "1234567", "6419754"]
        yield World(
            gateway,
            provider,
            full,
            alice,
            mallory,
            wallet,
            move,
            held.json()["id"],
            hold["id"],
            leg,
            secrets,
        )


# The table


class Route(NamedTuple):
    """A method and the template of a path."""

    method: str
    template: str

    @property
    def resource(self) -> str:
        return needed(*self)[0]

    @property
    def action(self) -> str:
        return needed(*self)[1]

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


def all_routes() -> list[Route]:
    """Every route there is."""
    nothing: Any = None
    app = create_framework_app(nothing, HttpMetrics(), nothing, nothing, nothing, Gate("default"))
    return sorted(
        Route(method, route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
    )


ROUTES: Final = all_routes()
GUARDED: Final = [route for route in ROUTES if route.template not in PUBLIC_PATHS]
PUBLIC: Final = {
    *("/ready", "/docs", "/docs/openapi.json", "/openapi.json"),
    "/v1/webhook-sources/{source}/messages",  # signed by whoever sends them
}
"""Written down once more: nothing becomes public without a second thought."""
EVERYBODYS: Final = {
    Route("GET", "/v1/things"),
    Route("GET", "/v1/things/{code}"),
    Route("GET", "/v1/kinds"),
    Route("GET", "/v1/kinds/{name}"),
}
"""What those who are bound to a Party may read too: it is nobody's data."""
EMPTY_HANDED: Final = {
    Route("POST", "/v1/accounts/lookup"),
    Route("POST", "/v1/legs/lookup"),
    Route("POST", "/v1/moves/lookup"),
    Route("POST", "/v1/parties/lookup"),
    Route("POST", "/v1/accounts/balances"),
}
"""What answers with nothing of what is somebody else's, and with what there is of one's own."""


def in_path(world: World, route: Route) -> str:
    """The path of something of Alice's."""
    named = {
        "party_id": world.alice,
        "account_id": world.wallet,
        "move_id": world.held if route.method == "POST" else world.move,
        "hold_id": world.hold,
        "leg_id": world.leg,
        "transition": "void",
        "code": "GBP",
        "name": "transfer",
    }
    path = route.template
    while "{" in path:
        before, _, rest = path.partition("{")
        name, _, after = rest.partition("}")
        path = before + named.get(name.partition(":")[0], str(UUID(int=7))) + after
    return path


def body(world: World, route: Route) -> Any:
    """Something that would do harm if it were let through."""
    transfer = {"kind": "transfer", "payer": world.alice, "payee": world.mallory, "asset": "GBP", "amount": 1}
    ids = {
        "accounts": [world.wallet],
        "legs": [world.leg],
        "moves": [world.move],
        "parties": [world.alice],
    }
    bodies = {
        "/v1/moves": transfer,
        "/v1/moves/preview": transfer,
        "/v1/moves/quote": {
            "payer": world.alice,
            "asset": "GBP",
            "lines": [{"thing": "GBP", "quantity": 1}],
            "pricing": {"policies": ["GBP"]},
        },
        "/v1/accounts": {"key": f"L:wallet/{world.alice}", "asset": "GBP", "floor": -100},
        "/v1/accounts/{account_id}": {"floor": -100},
        "/v1/accounts/balances": {"ids": ids["accounts"]},
        "/v1/parties": {"kind": "person", "name": "Eve"},
        "/v1/parties/{party_id}": {"name": "Eve"},
        "/v1/things": {"kind": "asset", "code": "EVE"},
        "/v1/legs": leg(world),
    }
    if route.template.endswith("/lookup"):
        return {"ids": ids[route.resource]}
    return bodies.get(route.template, {})


def leg(world: World) -> dict[str, Any]:
    return {"id": fresh_id(), "debit": world.wallet, "credit": world.wallet, "amount": 1, "asset": "GBP"}


def ask(world: World, route: Route, credential: str) -> httpx.Response:
    """Use a route on what is Alice's."""
    authorization = f"Bearer {credential}" if credential else ""
    headers = {"Authorization": authorization, "Accept": "application/json"}
    more = {"json": body(world, route)} if route.method in {"POST", "PATCH", "PUT"} else {}
    return world.full.request(route.method, in_path(world, route), headers=headers, **more)


def other_tenants_key(world: World) -> str:
    """A key that is good, of another tenant of the same database."""
    other = Administration(world.gateway.engine.database, "other", "test")
    made = world.gateway.call(other.create(KeyDraft(name="test", scopes=["*"])))
    world.gateway.call(world.gateway.gate.refresh())
    world.gateway.call(other.close())
    assert made.key is not None
    return made.key


def revoked_key(world: World) -> str:
    key = world.gateway.key("*")
    assert world.gateway.call(world.gateway.administration.revoke(key.split("_")[1]))
    world.gateway.call(world.gateway.gate.refresh())
    return key


def credentials(world: World) -> dict[str, str]:
    """What is good for nothing."""
    past = int(time.time()) - HOUR_S
    signed = world.provider.token
    return {
        "no key": "",
        "a key that was never made": make_key().text,
        "the id of a key with another secret": world.gateway.key("*")[:20] + make_key().text[20:],
        "a revoked key": revoked_key(world),
        "an expired key": world.gateway.key("*", expires_in_s=0),
        "another tenant's key": other_tenants_key(world),
        "an expired token": signed(exp=past),
        "a token for later": signed(nbf=int(time.time()) + HOUR_S),
        "a token for somebody else": signed(aud="another"),
        "a token of somebody else": signed(iss="https://id.example.com"),
        "a token of another tenant": signed(tessera_tenant="other"),
        "a token of nobody's key": signed(headers={"kid": "unknown"}),
        "no token at all": "eyJhbGciOiJub25lIn0.e30.",
    }


def told_nothing(world: World, answer: httpx.Response) -> None:
    """A refusal is a problem, and has nothing in it that a stranger could use."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert set(answer.json()) <= {"type", "title", "status", "detail", "code", "where", "accepted"}
    for secret in (*world.secrets, "Traceback", "psycopg", "postgres", "tsk_", "eyJ"):
        assert secret not in answer.text
    for name, value in answer.headers.items():
        known = {"content-type", "content-length", "date", "tessera-lsn", "www-authenticate"}
        assert name in known, (name, value)


@pytest.fixture(scope="module")
def mallorys(world: World) -> list[str]:
    """A key and a token that are bound to Mallory, and may do everything that a Party may."""
    return [
        world.gateway.key("*", party=UUID(world.mallory)),
        world.provider.token(scope="*", tessera_party=world.mallory),
    ]


@pytest.fixture(scope="module")
def good_for_nothing(world: World) -> dict[str, str]:
    return credentials(world)


def test_what_is_public_was_meant_to_be() -> None:
    assert {route.template for route in ROUTES if route not in GUARDED} == PUBLIC == PUBLIC_PATHS


def test_the_table_is_whole() -> None:
    """Every handler of the application is in it."""
    handled = {
        (method, path) for handler in HANDLERS for path in handler.paths for method in handler.http_methods
    }
    assert len({(route.method, route.template) for route in ROUTES if route.method != "OPTIONS"}) >= len(
        handled
    )
    assert {route.resource for route in GUARDED} >= {"accounts", "moves", "parties", "legs", "books"}


@pytest.mark.parametrize("route", GUARDED, ids=str)
def test_nobody_comes_in_without_a_good_credential(
    world: World, good_for_nothing: dict[str, str], route: Route
) -> None:
    before = world.full.books()
    answers = {why: ask(world, route, credential) for why, credential in good_for_nothing.items()}
    for why, answer in answers.items():
        assert answer.status_code == 401, (why, answer.text)
        assert answer.headers["www-authenticate"] == 'Bearer realm="tessera"'
        told_nothing(world, answer)
    assert len({answer.text for answer in answers.values()}) == 1, "each reason is told alike"
    assert world.full.books() == before


@pytest.mark.parametrize("route", GUARDED, ids=str)
def test_a_scope_for_everything_else_is_not_enough(world: World, route: Route) -> None:
    before = world.full.books()
    others = sorted(
        {f"{other.resource}:{other.action}" for other in GUARDED} - {f"{route.resource}:{route.action}"}
    )
    opposite = "*:write" if route.action == "read" else "*:read"
    for credential in (
        world.gateway.usual_key(*others),
        world.gateway.usual_key(opposite),
        world.provider.token(scope=" ".join(others)),
        world.provider.token(scope="openid profile"),
        world.provider.token(scope=None),
    ):
        answer = ask(world, route, credential)
        assert answer.status_code == 403, answer.text
        assert answer.json()["code"] == "forbidden"
        told_nothing(world, answer)
    assert world.full.books() == before


@pytest.mark.parametrize("route", GUARDED, ids=str)
def test_a_key_of_another_party_gets_nothing_of_alices(
    world: World, mallorys: list[str], route: Route
) -> None:
    before = world.full.books()
    for credential in mallorys:
        answer = ask(world, route, credential)
        if route in EVERYBODYS or (route.method == "OPTIONS" and route.resource in RESOURCES_OF_PARTIES):
            assert answer.is_success, answer.text
        elif route in EMPTY_HANDED:
            assert answer.is_success, answer.text
            assert answer.json()["items"] == []
        else:
            assert answer.status_code in NOT_FOUND_OR_FORBIDDEN, answer.text
            told_nothing(world, answer)
        for secret in world.secrets:
            assert secret not in answer.text
    assert world.full.books() == before


@pytest.mark.parametrize("route", GUARDED, ids=str)
def test_a_key_that_may_do_everything_may_do_this(world: World, route: Route) -> None:
    """Or the table would say nothing."""
    if route.method != "GET":
        return
    sufficient = world.gateway.usual_key(f"{route.resource}:{route.action}")
    for credential in (sufficient, world.provider.token()):
        assert ask(world, route, credential).status_code not in {401, 403}


# Bulk and short cuts, which do not come by the routes


def arrow(world: World) -> bytes:
    columns = [
        pa.array([UUID(fresh_id()).bytes], pa.binary(16)),
        pa.array([UUID(world.wallet).bytes], pa.binary(16)),
        pa.array([UUID(world.wallet).bytes], pa.binary(16)),
        pa.array([1], pa.int64()),
        pa.array([1], pa.uint32()),
    ]
    names = ["id", "debit", "credit", "amount", "asset"]
    schema = pa.schema([LEG_SCHEMA.field(name) for name in names])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.record_batch(columns, schema=schema))
    return bytes(sink.getvalue())


@pytest.mark.parametrize("path", ["/v1/legs", "/v1/accounts"])
@pytest.mark.parametrize("whole", [True, False], ids=["at once", "in chunks"])
def test_bulk_is_refused_alike(
    world: World, good_for_nothing: dict[str, str], path: str, whole: bool
) -> None:
    before = world.full.books()
    content = arrow(world)
    forbidden = [
        world.gateway.key("*:read", "moves:write"),
        world.gateway.key("*", party=UUID(world.alice)),
        world.gateway.key("legs:write" if path == "/v1/accounts" else "accounts:write"),
    ]
    expected = [(credential, 401) for credential in good_for_nothing.values()]
    for credential, status in [*expected, *((credential, 403) for credential in forbidden)]:
        for media_type in (MEDIA_TYPE, "application/json"):
            sent = content if media_type == MEDIA_TYPE else json.dumps(leg(world)).encode()
            authorization = f"Bearer {credential}" if credential else ""
            headers = {"Content-Type": media_type, "Authorization": authorization}
            answer = world.full.post(path, content=sent if whole else iter([sent]), headers=headers)
            assert answer.status_code == status, answer.text
            told_nothing(world, answer)
    assert world.full.books() == before


def test_a_short_cut_ends_with_its_key(world: World) -> None:
    """The head of a request is remembered with the key in it, and is worth nothing once that is revoked."""
    key = world.gateway.key("legs:write")
    with world.gateway.client(key) as client:
        for _ in range(3):
            assert client.post("/v1/legs", json=leg(world)).status_code == 422  # it was judged
        assert world.gateway.call(world.gateway.administration.revoke(key.split("_")[1]))
        world.gateway.call(world.gateway.gate.refresh())
        for _ in range(3):
            assert client.post("/v1/legs", json=leg(world)).status_code == 401


def test_a_short_cut_has_the_rate_of_its_key(world: World) -> None:
    key = world.gateway.key("legs:write", rate=1, burst=5)
    with world.gateway.client(key) as client:
        answers = [client.post("/v1/legs", json=leg(world)) for _ in range(10)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:5] == [422] * 5
    assert set(statuses[5:]) == {429}
    assert int(answers[-1].headers["Retry-After"]) >= 1


# What those may do who may do something


def test_a_party_moves_its_own_money(world: World) -> None:
    key = world.gateway.key("moves:write:transfer", "*:read", party=UUID(world.mallory))
    usual = {"kind": "transfer", "payer": world.mallory, "payee": world.alice, "asset": "GBP", "amount": 1}
    with world.gateway.client(key) as client:
        assert client.post("/v1/moves/preview", json=usual).status_code == 200
        done = client.post("/v1/moves", json=usual)
        assert done.status_code == 201, done.text
        held = client.post("/v1/moves", json={**usual, "transition": "hold"})
        assert client.post(f"/v1/moves/{held.json()['id']}/void", json={}).status_code == 200
        for wrong in (
            {**usual, "payer": world.alice, "payee": world.mallory},
            {**usual, "inputs": {"debit": f"L:wallet/{world.alice}"}},
            {**usual, "inputs": {"debit": "A:bank"}},
            {"kind": "journal", "payer": world.mallory, "legs": []},
        ):
            answer = client.post("/v1/moves", json=wrong)
            assert answer.status_code == 403, answer.text
            assert not any(secret in answer.text for secret in world.secrets)


def test_a_party_reads_its_own_data(world: World) -> None:
    key = world.gateway.key("*:read", party=UUID(world.mallory))
    with world.gateway.client(key) as client:
        own = client.get(f"/v1/parties/{world.mallory}")
        assert own.json()["name"] == "Mallory"
        listed = client.get("/v1/accounts", params={"party": world.mallory})
        [wallet] = listed.json()["items"]
        for path in ("", "/balance", "/entries", "/history"):
            assert client.get(f"/v1/accounts/{wallet['id']}{path}").status_code == 200
        assert client.get(f"/v1/accounts/{wallet['id']}/balance", params={"at": int(2e18)}).status_code == 200
        exactly = client.get("/v1/accounts", params={"key": wallet["key"], "asset": "GBP"})
        assert exactly.json()["items"] == [wallet]
        for name in ("party", "payer", "payee"):
            assert client.get("/v1/moves", params={name: world.mallory}).status_code == 200
        assert client.get("/v1/entries", params={"party": world.mallory}).status_code == 200
        both = client.post("/v1/accounts/lookup", json={"ids": [world.wallet, wallet["id"]]})
        assert [item["id"] for item in both.json()["items"]] == [wallet["id"]]
        assert both.json()["missing"] == [world.wallet]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/accounts", {"party": "{alice}"}),
        ("/v1/accounts", {"prefix": "L:wallet/"}),
        ("/v1/accounts", {"key": "L:wallet/{alice}", "asset": "GBP"}),
        ("/v1/moves", {"party": "{alice}"}),
        ("/v1/moves", {"payer": "{alice}"}),
        ("/v1/moves", {"reference": "alices-rent"}),
        ("/v1/moves", {}),
        ("/v1/entries", {"party": "{alice}"}),
        ("/v1/entries", {}),
        ("/v1/holds", {"account": "{wallet}"}),
        ("/v1/holds", {"move": "{held}"}),
        ("/v1/holds", {}),
        ("/v1/parties", {"name": ALICES_NAME}),
        ("/v1/trial-balance", {}),
    ],
    ids=str,
)
def test_a_party_finds_nobody_else(
    world: World, mallorys: list[str], path: str, query: dict[str, str]
) -> None:
    given = {name: value.format(**world._asdict()) for name, value in query.items()}
    answer = world.full.get(path, params=given, headers={"Authorization": f"Bearer {mallorys[0]}"})
    assert answer.status_code in {400, 403, 404}, answer.text
    told_nothing(world, answer)


def test_kinds_and_transitions(world: World) -> None:
    key = world.gateway.key("moves:write:transfer.hold", "moves:write:transfer.void")
    usual = {"kind": "transfer", "payer": world.mallory, "payee": world.alice, "asset": "GBP", "amount": 1}
    with world.gateway.client(key) as client:
        assert client.post("/v1/moves", json=usual).status_code == 403
        held = client.post("/v1/moves", json={**usual, "transition": "hold"})
        assert held.status_code == 201, held.text
        path = f"/v1/moves/{held.json()['id']}"
        assert client.post(f"{path}/post", json={}).status_code == 403
        assert client.post(f"{path}/void+post", json={}).status_code == 403
        assert client.post("/v1/moves/preview", json={**usual, "kind": "journal"}).status_code == 403
        assert client.get(path).status_code == 403
        assert client.post(f"{path}/void", json={}).status_code == 200


def test_the_audit_log_says_who_did_what(world: World) -> None:
    key = world.gateway.key("things:write", "legs:write")
    id = key.split("_")[1]
    with world.gateway.client(key) as client:
        assert client.post("/v1/things", json={"kind": "asset", "code": "AUDIT"}).status_code == 201
        assert client.get("/v1/moves").status_code == 403
        for _ in range(3):
            client.post("/v1/legs", json=leg(world))
    assert world.gateway.gate.auditor is not None
    world.gateway.call(world.gateway.gate.auditor.flush())
    database = world.gateway.engine.database
    stored = world.gateway.call(audit.newest(database, 10_000))
    said = {
        (item.entry.action, item.entry.outcome, item.entry.count)
        for item in stored
        if item.entry.principal == id
    }
    assert said == {
        ("POST /v1/things", "201", 1),
        ("GET /v1/moves", "forbidden", 1),
        ("POST /v1/legs", "422", 3),
    }
    created = [item.entry for item in stored if item.entry.detail.get("id") == id]
    assert [(entry.principal, entry.action) for entry in created] == [("test", "keys create")]
    secret = key.split("_", 2)[2]
    assert all(secret not in item.text for item in stored)
    assert world.gateway.call(audit.check(database)).problems == []
