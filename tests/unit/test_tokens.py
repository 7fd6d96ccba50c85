"""Bearer tokens: which are good, and what happens while the provider changes keys or is away."""

import base64
import hmac
import json
import time
from typing import Any, Final
from uuid import UUID

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.security import tokens as module
from gateway.security.settings import SecuritySettings
from gateway.security.tokens import (
    FETCH_PAUSE_S,
    KEYS_FRESH_S,
    KEYS_STALE_S,
    LEEWAY_S,
    ProviderUnreachable,
    Tokens,
)
from tests.identity_provider import AUDIENCE, HOUR_S, IdentityProvider

ISSUER: Final = "https://id.example.org/realms/shop"
PARTY: Final = UUID("019aa0c2-7c00-7000-8000-00000000a11c")


class Desk:
    """A verifier, and the provider that it asks."""

    def __init__(self, tenant: str = "default", **settings: Any) -> None:
        self.now = 0.0
        self.fetched: list[str] = []
        self.is_reachable = True
        self.provider = IdentityProvider(ISSUER)
        self.documents: dict[str, bytes] = {}
        given = {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, **settings}
        self.tokens = Tokens(
            SecuritySettings(**given),
            tenant,
            clock=lambda: self.now,
            transport=httpx.MockTransport(self._answer),
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.fetched.append(str(request.url))
        if not self.is_reachable:
            raise httpx.ConnectError("nobody there")
        path = request.url.path.removeprefix("/realms/shop")
        found = {**self.provider.documents(ISSUER), **self.documents}.get(path)
        return httpx.Response(404) if found is None else httpx.Response(200, content=found)

    async def accepted(self, token: str) -> str:
        caller = await self.tokens.look_for(token.encode())
        assert caller is not None
        assert self.tokens.find(token.encode()) is caller
        return caller.principal.name

    async def refused(self, token: str) -> None:
        assert await self.tokens.look_for(token.encode()) is None
        assert self.tokens.find(token.encode()) is None


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_good_token_says_who_may_do_what(desk: Desk) -> None:
    token = desk.provider.token(scope="openid moves:read moves:write:transfer", tessera_party=str(PARTY))
    caller = await desk.tokens.look_for(token.encode())
    assert caller is not None
    principal = caller.principal
    assert (principal.name, principal.tenant) == (f"{ISSUER}#alice", "default")
    assert (str(principal.scopes), principal.party) == ("moves:read moves:write:transfer", PARTY.int)
    assert desk.fetched == [f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"]


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", rsa.generate_private_key(65537, 2048)),
        ("PS384", rsa.generate_private_key(65537, 2048)),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("ES512", ec.generate_private_key(ec.SECP521R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_usual_algorithms(desk: Desk, algorithm: str, key: Any) -> None:
    desk.provider.rotate(algorithm, key)
    assert await desk.accepted(desk.provider.token())


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - LEEWAY_S - 5},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": int(time.time()) + HOUR_S},
        {"iat": int(time.time()) + HOUR_S},
        {"aud": "another"},
        {"aud": ["another", "more"]},
        {"aud": None},
        {"iss": ISSUER + "/"},
        {"iss": "https://id.example.com"},
        {"iss": None},
        {"sub": None},
        {"sub": 7},
        {"tessera_tenant": "other"},
        {"tessera_tenant": ["default"]},
        {"tessera_party": "alice"},
        {"tessera_party": 7},
        {"tessera_party": ""},
        {"tessera_party": str(UUID(int=0))},
        {"scope": 7},
        {"scope": {"*": True}},
    ],
    ids=repr,
)
async def test_claims_that_are_not_good(desk: Desk, claims: dict[str, Any]) -> None:
    await desk.refused(desk.provider.token(**claims))
    assert await desk.accepted(desk.provider.token())


async def test_a_list_of_audiences_and_of_scopes(desk: Desk) -> None:
    assert await desk.accepted(desk.provider.token(aud=["another", AUDIENCE], scope=["moves:read", 7]))


async def test_a_token_without_scopes_may_do_nothing(desk: Desk) -> None:
    caller = await desk.tokens.look_for(desk.provider.token(scope=None).encode())
    assert caller is not None
    assert not caller.principal.scopes.granted


async def test_tenants_do_not_mix() -> None:
    other = Desk(tenant="other")
    await other.refused(other.provider.token())
    await other.refused(other.provider.token(tessera_tenant="default"))
    assert await other.accepted(other.provider.token(tessera_tenant="other"))


async def test_claims_may_have_other_names() -> None:
    desk = Desk(oidc_scope_claim="scp", oidc_party_claim="customer", oidc_tenant_claim="org")
    token = desk.provider.token(
        scp=["moves:read"], customer=str(PARTY), org="default", tessera_tenant="other"
    )
    caller = await desk.tokens.look_for(token.encode())
    assert caller is not None
    assert (str(caller.principal.scopes), caller.principal.party) == ("moves:read", PARTY.int)


async def test_a_signature_that_is_not_the_providers(desk: Desk) -> None:
    provider = desk.provider
    stranger = ec.generate_private_key(ec.SECP256R1())
    await desk.refused(provider.token(key=stranger))
    head, content, signature = provider.token().split(".")
    forged = base64.urlsafe_b64encode(json.dumps(provider.claims(sub="root")).encode()).rstrip(b"=").decode()
    await desk.refused(f"{head}.{forged}.{signature}")
    await desk.refused(f"{head}.{content}.")
    await desk.refused(f"{head}.{content}")


async def test_a_token_that_is_not_signed(desk: Desk) -> None:
    await desk.refused(jwt.encode(desk.provider.claims(), "", "none"))
    await desk.refused(jwt.encode(desk.provider.claims(), "", "none", headers={"kid": "key0"}))


async def test_a_public_key_is_no_shared_secret(desk: Desk) -> None:
    """Somebody signs with what everybody knows, and says it was a secret."""
    pem = desk.provider.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    await desk.refused(signed_with_secret(pem, desk.provider.claims(), "key0"))
    text = base64.urlsafe_b64encode(pem).decode()
    desk.provider.published.append({"kty": "oct", "k": text, "alg": "HS256", "kid": "shared"})
    desk.now += KEYS_FRESH_S + 1
    await desk.refused(signed_with_secret(pem, desk.provider.claims(), "shared"))


def signed_with_secret(secret: bytes, claims: dict[str, Any], key_id: str) -> str:
    """A token signed with HS256, which PyJWT refuses to make with such a secret."""
    head = {"typ": "JWT", "alg": "HS256", "kid": key_id}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (head, claims)]
    signature = hmac.digest(secret, b".".join(parts), "sha256")
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize("text", ["", "a", "a.b.c", "....", "\x00", "ü", "e30.e30.e30", "x" * 10_000])
async def test_what_is_no_token(desk: Desk, text: str) -> None:
    await desk.refused(text)
    assert desk.fetched == []


async def test_a_new_key_of_the_provider_is_fetched_when_it_is_used(desk: Desk) -> None:
    assert await desk.accepted(desk.provider.token())
    desk.provider.rotate("ES256", ec.generate_private_key(ec.SECP256R1()))
    await desk.refused(desk.provider.token())  # the keys were fetched just now
    desk.now += FETCH_PAUSE_S
    assert await desk.accepted(desk.provider.token())


async def test_strangers_do_not_make_us_ask_the_provider_all_the_time(desk: Desk) -> None:
    await desk.accepted(desk.provider.token())
    desk.now += FETCH_PAUSE_S
    fetched = len(desk.fetched)
    for number in range(10):
        await desk.refused(desk.provider.token(headers={"kid": f"nobodys{number}"}))
    assert len(desk.fetched) == fetched + 2


async def test_a_key_that_was_withdrawn_is_forgotten(desk: Desk) -> None:
    token = desk.provider.token(sub="bob")
    await desk.accepted(desk.provider.token())
    del desk.provider.published[0]
    desk.provider.rotate("ES256", ec.generate_private_key(ec.SECP256R1()))
    desk.now += KEYS_FRESH_S + 1
    await desk.refused(token)


async def test_a_token_may_name_no_key_if_there_is_one_only(desk: Desk) -> None:
    assert await desk.accepted(desk.provider.token(headers={}))
    old = desk.provider.token(headers={}, sub="bob")
    desk.provider.rotate("ES256", ec.generate_private_key(ec.SECP256R1()))
    desk.now += KEYS_FRESH_S + 1
    await desk.refused(old)


async def test_the_providers_keys_are_good_for_a_while_without_it(desk: Desk) -> None:
    await desk.accepted(desk.provider.token())
    desk.is_reachable = False
    desk.now += KEYS_STALE_S - 1
    assert await desk.accepted(desk.provider.token(sub="bob"))
    desk.now += 2
    with pytest.raises(ProviderUnreachable):
        await desk.tokens.look_for(desk.provider.token(sub="carol").encode())
    desk.is_reachable = True
    desk.now += FETCH_PAUSE_S
    assert await desk.accepted(desk.provider.token(sub="carol"))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/.well-known/openid-configuration", b"{}"),
        (
            "/.well-known/openid-configuration",
            b'{"issuer":"https://id.example.com","jwks_uri":"https://x/y"}',
        ),
        ("/.well-known/openid-configuration", b'{"issuer":"%b"}' % ISSUER.encode()),
        ("/.well-known/openid-configuration", b'{"issuer":"%b","jwks_uri":"http://x/y"}' % ISSUER.encode()),
        ("/.well-known/openid-configuration", b"[]"),
        ("/.well-known/openid-configuration", b"<html>"),
        ("/keys", b'{"keys":[]}'),
        ("/keys", b'{"keys":7}'),
        ("/keys", b'{"keys":[{"kty":"EC"}]}'),
        ("/keys", b"{" + b" " * (1 << 20) + b"}"),
    ],
)
async def test_a_provider_that_says_what_makes_no_sense(desk: Desk, path: str, content: bytes) -> None:
    desk.documents[path] = content
    with pytest.raises(ProviderUnreachable):
        await desk.tokens.look_for(desk.provider.token().encode())


async def test_the_keys_may_be_elsewhere() -> None:
    desk = Desk(oidc_jwks_url=f"{ISSUER}/keys")
    assert await desk.accepted(desk.provider.token())
    assert desk.fetched == [f"{ISSUER}/keys"]


async def test_a_token_ends_when_it_expires_though_it_is_remembered(desk: Desk) -> None:
    token = desk.provider.token(exp=int(time.time()) + 10)
    caller = await desk.tokens.look_for(token.encode())
    assert caller is not None
    assert caller.admit(desk.now + 9)
    assert not caller.admit(desk.now + 10 + LEEWAY_S + 1)


async def test_tokens_of_one_subject_share_a_rate() -> None:
    desk = Desk(rate=1, burst=2)
    first = await desk.tokens.look_for(desk.provider.token().encode())
    second = await desk.tokens.look_for(desk.provider.token(jti="another").encode())
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.admit(0.0)
    assert second.admit(0.0)
    assert not first.admit(0.0)


async def test_what_is_remembered_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_MAX", 4)
    for number in range(10):
        await desk.accepted(desk.provider.token(sub=f"s{number}"))
    assert len(desk.tokens._remembered) <= 4
    assert len(desk.tokens._limiters) <= 4
