"""Bearer tokens of an OpenID Connect provider: JSON Web Tokens, verified with PyJWT.

A token must be signed by a key that the provider publishes, with an asymmetric algorithm, for our audience,
by the very issuer, and must have neither expired nor not begun. What it allows stands in its claims (their
names are settings): scopes, perhaps a Party, and a tenant if that is not `default`.

The provider's keys are fetched when a token needs them and kept for `KEYS_FRESH_S`. A token that names a key
nobody knows makes us fetch them again, but not more often than every `FETCH_PAUSE_S`. If the provider can't
be reached, its keys stay good for `KEYS_STALE_S`. A verified token is remembered by its digest until it
expires.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import jwt
import msgspec
import structlog

from gateway.listener import is_loopback
from gateway.security.callers import Caller, Limiter
from gateway.security.principals import NAME_CHARACTERS_MAX, Principal
from gateway.security.scopes import known_scopes
from gateway.security.settings import SecuritySettings

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""None of them takes a public key for a shared secret."""
LEEWAY_S: Final = 30
"""How far the provider's clock may be off."""
TOKEN_BYTES_MAX: Final = 8_192
KEYS_FRESH_S: Final = 300.0
KEYS_STALE_S: Final = 3_600.0
FETCH_PAUSE_S: Final = 10.0
FETCH_TIMEOUT_S: Final = 5.0
DOCUMENT_BYTES_MAX: Final = 1 << 20
REMEMBERED_MAX: Final = 10_000
"""Tokens, and limiters; when there are more, all are forgotten."""
DEFAULT_TENANT: Final = "default"

_logger = structlog.get_logger("tessera.gateway")


class ProviderUnreachable(Exception):  # noqa: N818  # says what happened
    """The provider's keys are needed and can't be had."""


class _Known(NamedTuple):
    """The provider's keys, and when they were fetched."""

    by_id: Mapping[str, jwt.PyJWK]
    at: float


class Tokens:
    """Verifies tokens of one provider for one tenant."""

    def __init__(
        self,
        settings: SecuritySettings,
        tenant: str,
        clock: Callable[[], float] = time.perf_counter,
        wall_s: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        assert settings.oidc_issuer is not None, "there is a provider"
        self._issuer = settings.oidc_issuer
        self._settings = settings
        self._tenant = tenant
        self._clock, self._wall_s = clock, wall_s
        self._http = httpx.AsyncClient(timeout=FETCH_TIMEOUT_S, follow_redirects=False, transport=transport)
        self._keys: _Known | None = None
        self._tried_at = -FETCH_PAUSE_S
        self._fetching = asyncio.Lock()
        self._remembered: dict[bytes, Caller] = {}
        self._limiters: dict[str, Limiter] = {}

    async def close(self) -> None:
        """End the connections to the provider."""
        await self._http.aclose()

    def find(self, token: bytes) -> Caller | None:
        """Whose token that is, if it was verified before."""
        return self._remembered.get(hashlib.sha256(token).digest())

    async def look_for(self, token: bytes) -> Caller | None:
        """Whose token that is, None if it is not good. Raises ProviderUnreachable."""
        if (found := self.find(token)) is not None:
            return found
        if len(token) > TOKEN_BYTES_MAX:
            return None
        try:
            text = token.decode("ascii")
            header = jwt.get_unverified_header(text)
            if header.get("alg") not in ALGORITHMS:
                return None
            key = await self._key(header.get("kid"))
            if key is None:
                return None
            claims = jwt.decode(
                text,
                key,
                algorithms=ALGORITHMS,
                audience=self._settings.oidc_audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, UnicodeDecodeError):
            return None
        principal = self._principal(claims)
        return None if principal is None else self._remember(token, principal, float(claims["exp"]))

    def _principal(self, claims: Mapping[str, Any]) -> Principal | None:
        """What the claims say; None if they make no sense, or speak of another tenant."""
        names = self._settings
        tenant = claims.get(names.oidc_tenant_claim, DEFAULT_TENANT)
        scopes = claims.get(names.oidc_scope_claim, "")
        party = claims.get(names.oidc_party_claim)
        if isinstance(scopes, str):
            scopes = scopes.split()
        if tenant != self._tenant or not isinstance(scopes, list):
            return None
        try:
            bound = 0 if party is None else UUID(party).int
        except (ValueError, AttributeError, TypeError):
            return None
        if party is not None and not bound:
            return None  # 0 would be nobody in particular
        return Principal(
            name=f"{self._issuer}#{claims['sub']}"[:NAME_CHARACTERS_MAX],
            tenant=self._tenant,
            scopes=known_scopes(scope for scope in scopes if isinstance(scope, str)),
            party=bound,
        )

    def _remember(self, token: bytes, principal: Principal, expires_s: float) -> Caller:
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        if len(self._limiters) >= REMEMBERED_MAX:
            self._limiters.clear()
        limiter = self._limiters.get(principal.name)
        if limiter is None:
            limiter = Limiter(self._settings.rate, self._settings.burst)
            self._limiters[principal.name] = limiter
        good_until = self._clock() + expires_s + LEEWAY_S - self._wall_s()
        caller = Caller(principal, limiter, good_until)
        self._remembered[hashlib.sha256(token).digest()] = caller
        return caller

    # The provider's keys

    async def _key(self, id: Any) -> jwt.PyJWK | None:
        """The key of that id; of a provider with one key, also without an id. Raises ProviderUnreachable."""
        async with self._fetching:
            if self._keys is None or self._clock() - self._keys.at > KEYS_FRESH_S:
                await self._fetch()
            if (found := self._choose(id)) is None and id is not None:
                await self._fetch()  # it may be new
                found = self._choose(id)
        return found

    def _choose(self, id: Any) -> jwt.PyJWK | None:
        if self._keys is None or self._clock() - self._keys.at > KEYS_STALE_S:
            raise ProviderUnreachable
        if id is None:
            only = list(self._keys.by_id.values())
            return only[0] if len(only) == 1 else None
        return self._keys.by_id.get(id) if isinstance(id, str) else None

    async def _fetch(self) -> None:
        """Fetch the keys, unless that was tried just now."""
        if self._clock() - self._tried_at < FETCH_PAUSE_S:
            return
        self._tried_at = self._clock()
        try:
            url = self._settings.oidc_jwks_url or await self._discovered()
            keys = jwt.PyJWKSet.from_dict(await self._document(url))
        except (httpx.HTTPError, ValueError, jwt.PyJWTError) as exc:
            _logger.warning("the keys of the OpenID Connect provider can't be had", error=repr(exc))
            return
        signing = [key for key in keys.keys if key.public_key_use in {None, "sig"}]
        self._keys = _Known(
            {key.key_id or str(number): key for number, key in enumerate(signing)}, self._clock()
        )

    async def _discovered(self) -> str:
        document = await self._document(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise ValueError("the discovery document is another issuer's")
        return str(document.get("jwks_uri"))

    async def _document(self, url: str) -> dict[str, Any]:
        """A JSON object from the provider. Raises ValueError and httpx.HTTPError."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise ValueError(f"{url} is not https")
        async with self._http.stream("GET", url) as response:
            response.raise_for_status()
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > DOCUMENT_BYTES_MAX:
                    raise ValueError(f"{url} answers too much")
        document = msgspec.json.decode(body)  # its errors are ValueErrors
        if not isinstance(document, dict):
            raise ValueError(f"{url} is no JSON object")
        return document
