"""The gate: who comes in, at which times, and what those are told who don't."""

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.problems import Problem
from gateway.security import gate as gates
from gateway.security.auditing import KINDS_MAX, OTHERS, Auditor
from gateway.security.callers import Caller, Limiter
from gateway.security.credentials import NewKey, make_key, matches, parse_key
from gateway.security.gate import CALLER, Gate, is_local_name
from gateway.security.keyring import LOOK_AGAIN_S, NANOSECONDS, STALE_S, KeyRing
from gateway.security.settings import SecuritySettings
from persistence.api_keys import StoredKey
from persistence.database import Database, DatabaseSettings
from persistence.errors import DatabaseUnreachable


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def wall_ns(self) -> int:
        return round(self.now) * NANOSECONDS


class Table:
    """A table of keys, as `ApiKeys` shows it."""

    def __init__(self) -> None:
        self.keys: list[StoredKey] = []
        self.asked = 0
        self.is_reachable = True

    async def changed_since(self, version: int) -> Sequence[StoredKey]:
        self.asked += 1
        if not self.is_reachable:
            raise DatabaseUnreachable("no answer", attempts=1, seconds=0.1)
        return [key for key in self.keys if key.version > version]

    def add(self, **more: Any) -> NewKey:
        made = make_key()
        self.put(StoredKey(**{**default(made), **more}))
        return made

    def put(self, key: StoredKey) -> None:
        version = len(self.keys) + 1
        self.keys.append(
            StoredKey(**{**{n: getattr(key, n) for n in key.__struct_fields__}, "version": version})
        )


def default(made: NewKey) -> dict[str, Any]:
    return {
        "id": made.id,
        "digest": made.digest,
        "tenant": "default",
        "name": "shop",
        "scopes": ["*"],
        "created": 0,
    }


class House:
    """A gate with a table of keys, an audit log, and a clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.table = Table()
        given = SecuritySettings(**settings)
        self.ring = KeyRing(
            self.table,  # type: ignore[arg-type]  # it has what the ring asks for
            "default",
            given.rate,
            given.burst,
            self.clock,
            self.clock.wall_ns,
        )
        self.auditor = Auditor(
            Database(DatabaseSettings(url="postgresql://nobody@192.0.2.1/none")), "default"
        )
        self.gate = Gate("default", given, self.ring, None, self.auditor, clock=self.clock)

    async def knock(self, key: str = "", host: str = "127.0.0.1:8330", path: str = "/v1/moves") -> Caller:
        scope = request(key and f"Bearer {key}", host, path)
        caller: Caller = await self.gate.enter(scope)
        assert scope[CALLER] == caller
        return caller

    async def refused(self, key: str = "", **more: Any) -> tuple[int, str]:
        with pytest.raises(Problem) as refusal:
            await self.knock(key, **more)
        return refusal.value.status, refusal.value.code

    @property
    def noted(self) -> list[tuple[str, str, str, int]]:
        waiting = self.auditor._waiting.items()
        return [(kind.principal, kind.action, kind.outcome, count) for kind, (_, count) in waiting]


def request(authorization: str = "", host: str = "127.0.0.1", path: str = "/v1/moves") -> Any:
    headers = [(b"host", host.encode())]
    if authorization:
        headers.append((b"authorization", authorization.encode()))
    return {"method": "GET", "path": path, "headers": headers, "client": ("192.0.2.7", 4711)}


def found(house: House, key: str) -> Caller | None:
    return house.gate.find(f"Bearer {key}".encode(), b"x")


@pytest.fixture
async def house() -> House:
    """One that has had a first key."""
    house = House()
    house.table.add()
    await house.gate.refresh()
    return house


async def test_without_keys_everybody_on_this_machine_may_do_everything() -> None:
    house = House()
    await house.gate.refresh()
    caller = await house.knock()
    assert (caller.principal.name, caller.principal.scopes.allow("moves", "write")) == ("", True)
    assert house.gate.find(b"", b"localhost:8330") is caller
    assert await house.refused(host="rebound.example.org") == (421, "misdirected")
    assert house.gate.find(b"", b"rebound.example.org") is None
    assert house.noted == []


async def test_the_first_key_closes_the_gate_for_those_who_are_inside_too() -> None:
    house = House()
    await house.gate.refresh()
    anybody = await house.knock()
    assert anybody.admit(house.clock())
    house.table.add(revoked=1)
    await house.gate.refresh()
    assert not anybody.admit(house.clock())
    assert await house.refused() == (401, "unauthenticated")


async def test_a_gate_may_ask_for_keys_before_there_is_one() -> None:
    assert await House(auth=True).refused() == (401, "unauthenticated")


async def test_a_key_is_good_at_once(house: House) -> None:
    made = house.table.add(scopes=["moves:read"])
    house.clock.now += 2 * LOOK_AGAIN_S
    assert found(house, made.text) is None
    caller = await house.knock(made.text)
    assert (caller.principal.name, str(caller.principal.scopes)) == (made.id, "moves:read")
    assert found(house, made.text) is caller


async def test_strangers_do_not_make_us_ask_the_database_all_the_time(house: House) -> None:
    house.clock.now += 2 * LOOK_AGAIN_S
    asked = house.table.asked
    for _ in range(10):
        await house.refused(make_key().text)
    assert house.table.asked == asked + 1


@pytest.mark.parametrize(
    "mangled",
    [
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text.upper(),
        lambda _text: make_key().text,
        lambda text: text[:20] + make_key().text[20:],
        lambda text: "tsk_" + make_key().id + text[20:],
        lambda _text: "",
        lambda text: text + "\xe9",
    ],
)
async def test_all_that_is_not_a_key_is_refused_alike(house: House, mangled: Any) -> None:
    made = house.table.add()
    await house.gate.refresh()
    with pytest.raises(Problem) as refusal:
        await house.gate.enter(request(f"Bearer {mangled(made.text)}"))
    with pytest.raises(Problem) as without:
        await house.gate.enter(request())
    assert str(refusal.value) == str(without.value)
    assert refusal.value.headers == without.value.headers == {"WWW-Authenticate": 'Bearer realm="tessera"'}


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
async def test_the_scheme_is_bearer_in_any_case(house: House, scheme: str) -> None:
    made = house.table.add()
    await house.gate.refresh()
    assert (await house.gate.enter(request(scheme + made.text))).principal.name == made.id


@pytest.mark.parametrize("scheme", ["", "Basic ", "Token ", "Bearer"])
async def test_another_scheme_is_none(house: House, scheme: str) -> None:
    made = house.table.add()
    await house.gate.refresh()
    with pytest.raises(Problem):
        await house.gate.enter(request(scheme + made.text))


async def test_a_revoked_key_ends_for_those_who_remember_it_too(house: House) -> None:
    made = house.table.add()
    await house.gate.refresh()
    caller = await house.knock(made.text)
    house.table.put(StoredKey(**{**default(made), "revoked": 7}))
    await house.gate.refresh()
    assert not caller.admit(house.clock())
    assert await house.refused(made.text) == (401, "unauthenticated")
    assert (made.id, "GET /v1/moves", "unauthenticated", 1) in house.noted


async def test_a_key_ends_when_it_expires(house: House) -> None:
    made = house.table.add(expires=1_010 * NANOSECONDS)
    await house.gate.refresh()
    caller = await house.knock(made.text)
    house.clock.now += 9
    assert caller.admit(house.clock())
    house.clock.now += 1
    assert not caller.admit(house.clock())
    assert await house.refused(made.text) == (401, "unauthenticated")


async def test_another_tenants_key_is_nobodys(house: House) -> None:
    made = house.table.add(tenant="other")
    await house.gate.refresh()
    assert await house.refused(made.text) == (401, "unauthenticated")
    assert found(house, made.text) is None


async def test_keys_end_when_the_database_is_away_for_long(house: House) -> None:
    made = house.table.add()
    await house.gate.refresh()
    house.table.is_reachable = False
    house.clock.now += STALE_S
    assert found(house, made.text) is not None
    assert await house.refused(make_key().text) == (401, "unauthenticated")
    house.clock.now += 1
    assert found(house, made.text) is None
    assert await house.refused(made.text) == (503, "database_unavailable")


async def test_a_key_has_its_rate(house: House) -> None:
    made = house.table.add(rate=2, burst=3)
    other = house.table.add()
    await house.gate.refresh()
    caller, *_ = [await house.knock(made.text) for _ in range(3)]
    with pytest.raises(Problem) as refusal:
        await house.knock(made.text)
    assert (refusal.value.status, refusal.value.headers["Retry-After"]) == (429, "1")
    assert not caller.admit(house.clock())
    await house.knock(other.text)
    house.clock.now += 0.5
    assert caller.admit(house.clock())
    assert await house.refused(made.text) == (429, "rate_limited")
    house.clock.now += 100
    await house.gate.refresh()
    for _ in range(3):
        await house.knock(made.text)
    assert await house.refused(made.text) == (429, "rate_limited")
    assert (made.id, "GET /v1/moves", "rate_limited", 3) in house.noted


async def test_the_gate_has_a_rate_for_keys_without_one() -> None:
    house = House(rate=10, burst=1)
    made, own = house.table.add(), house.table.add(rate=0)
    await house.gate.refresh()
    await house.knock(made.text)
    assert await house.refused(made.text) == (429, "rate_limited")
    for _ in range(200):
        await house.knock(own.text)


async def test_what_is_public_needs_no_key(house: House) -> None:
    made = house.table.add(scopes=["operations:read"])
    await house.gate.refresh()
    for path in gates.PUBLIC_PATHS:
        assert not (await house.knock(path=path)).principal.scopes.granted
    assert (await house.knock(made.text, path="/ready")).principal.name == made.id
    assert not (await house.knock(make_key().text, path="/ready")).principal.scopes.granted
    assert await house.refused(path="/ready/") == (401, "unauthenticated")


async def test_what_is_noted_is_bounded(house: House) -> None:
    for number in range(KINDS_MAX + 10):
        await house.refused(path=f"/{number}{'x' * 1_000}")
    assert len(house.noted) == KINDS_MAX + 1
    assert house.noted[-1] == ("", OTHERS, "unauthenticated", 10)
    assert max(len(action) for _, action, _, _ in house.noted) <= gates.PATH_CHARACTERS_MAX + len("GET ")


async def test_no_secret_is_noted(house: House) -> None:
    made = house.table.add(revoked=1)
    await house.gate.refresh()
    await house.refused(made.text)
    await house.refused(made.text[:-1] + "!")
    secret = made.text.split("_", 2)[2]
    assert secret[:-1] not in repr(house.auditor._waiting)


def test_a_digest_is_compared_as_a_whole() -> None:
    made, other = make_key(), make_key()
    given = parse_key(made.text.encode())
    assert given is not None
    assert matches(given, made.digest)
    assert not matches(given, other.digest)
    assert not matches(given, None)
    assert not matches(given._replace(secret=b""), None)


def test_a_limiter_that_is_adjusted_goes_on_from_where_it_was() -> None:
    limiter = Limiter(1, 2)
    limiter.let_in(0.0)
    limiter.let_in(0.0)
    assert limiter.wait_s(0.0) == 1.0
    limiter.adjust(1, 3)
    assert limiter.wait_s(0.0) == 0.0
    limiter.adjust(0, 1)
    limiter.let_in(5.0)
    assert limiter.wait_s(5.0) == 0.0


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("", True),
        ("localhost", True),
        ("localhost:8330", True),
        ("app.localhost:8330", True),
        ("127.0.0.1", True),
        ("127.0.0.1:8330", True),
        ("192.168.0.7:8330", True),
        ("[::1]", True),
        ("[::1]:8330", True),
        ("ledger", True),
        ("example.org", False),
        ("example.org:8330", False),
        ("127.0.0.1.example.org", False),
        ("localhost.example.org", False),
        ("127.1.example", False),
        ("[example.org]", False),
    ],
)
def test_names_of_this_machine(host: str, is_local: bool) -> None:
    assert is_local_name(host) is is_local


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="go together"):
        SecuritySettings(oidc_issuer="https://id.example.org")
    with pytest.raises(ValueError, match="oidc_jwks_url"):
        SecuritySettings(oidc_jwks_url="https://id.example.org/keys")
    with pytest.raises(ValueError, match="rate"):
        SecuritySettings(rate=-1)
    with pytest.raises(ValueError, match="TESSERA_RATE"):
        SecuritySettings.from_environment({"TESSERA_RATE": "many"})


def test_settings_from_the_environment() -> None:
    environment = {"TESSERA_AUTH": "1", "TESSERA_RATE": "7", "TESSERA_OIDC_ISSUER": "", "HOME": "/"}
    settings = SecuritySettings.from_environment(environment, rate=9)
    assert (settings.auth, settings.rate, settings.oidc_issuer) == (True, 9, None)
