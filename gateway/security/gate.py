"""The door: from the head of a request to its caller.

A gateway asks for a key or token as soon as there is one to ask for: an API key in the database, be it one
that has ended, or a provider of tokens; or because it was told to. Until then everybody who reaches it may do
everything, which is meant for a machine of one's own. Then requests must also be meant for that machine by
their `Host`, so that no web page can make a browser send them under a name of its own (DNS rebinding).

Whatever is wrong with a key or token, the answer is the same; the audit log knows more.
"""

import asyncio
import re
import time
from collections.abc import Callable
from ipaddress import ip_address
from math import ceil
from typing import Any, Final

import structlog
from litestar.types import HTTPScope

from gateway.problems import Problem, gateway_problem, unavailable
from gateway.security.auditing import Auditor
from gateway.security.callers import Caller, Limiter
from gateway.security.credentials import parse_key
from gateway.security.keyring import KeyRing
from gateway.security.principals import anybody, nobody
from gateway.security.settings import SecuritySettings
from gateway.security.tokens import ProviderUnreachable, Tokens
from persistence.errors import PersistenceError

MESSAGES_PATH: Final = "/v1/webhook-sources/{source}/messages"
PUBLIC_PATHS: Final = frozenset({"/ready", "/docs", "/docs/openapi.json", "/openapi.json", MESSAGES_PATH})
"""What everybody may use, as templates: whether requests are taken, the description of the interface, and
where webhooks come in, which are signed."""
CALLER: Final = "tessera.caller"
"""Where in a request's scope the caller stands."""
PATH_CHARACTERS_MAX: Final = 100
"""So much of a path is noted about those who were not let in."""
REFRESH_S: Final = 1.0
"""How long a key that was revoked elsewhere may still be good."""
HOSTS_MAX: Final = 256
"""Hosts that are remembered; when there are more, all are forgotten."""
_SCHEME: Final = b"bearer "
_MESSAGES: Final = re.compile(MESSAGES_PATH.replace("{source}", "[^/]+") + "/?")

_logger = structlog.get_logger("tessera.gateway")


class Gate:
    """Decides who comes in: without a ring and tokens, everybody. With `local`, those only who mean this
    machine."""

    def __init__(
        self,
        tenant: str,
        settings: SecuritySettings | None = None,
        ring: KeyRing | None = None,
        tokens: Tokens | None = None,
        auditor: Auditor | None = None,
        *,
        local: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.auditor = auditor
        self._settings = settings or SecuritySettings()
        self._ring = ring
        self._tokens = tokens
        self._local = local
        self._clock = clock
        self._anybody = Caller(anybody(tenant), Limiter(0, 1))
        self._nobody = Caller(nobody(tenant), Limiter(0, 1))
        self._hosts: dict[bytes, bool] = {}
        self.is_open = not (self._settings.auth or tokens is not None)
        """Whether nobody is asked for a key."""

    async def refresh(self) -> None:
        """Take note of keys that have changed; the first one closes the gate. Raises PersistenceError."""
        if self._ring is not None:
            await self._ring.refresh()
            if self.is_open and len(self._ring):
                self.is_open = False
                self._anybody.good_until = 0.0  # for those who remember it

    async def keep_fresh(self) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except PersistenceError as exc:
                _logger.warning("the API keys can't be read", error=str(exc))

    def find(self, authorization: bytes, host: bytes) -> Caller | None:
        """Who sends a request with these headers (empty = without them), where that is certain at once.
        Whether they may send one now is for `Caller.admit` to say."""
        if self.is_open:
            return self._anybody if self._is_meant_for_us(host) else None
        if (given := _credential(authorization)) is None:
            return None
        if (key := parse_key(given)) is not None:
            return None if self._ring is None or self._ring.is_stale else self._ring.find(key)
        return None if self._tokens is None else self._tokens.find(given)

    async def enter(self, scope: HTTPScope) -> Caller:
        """Let a request in, and note in its scope who sends it. Raises Problem."""
        caller = scope[CALLER] = await self._enter(scope)  # type: ignore[typeddict-unknown-key]  # ours
        return caller

    async def _enter(self, scope: HTTPScope) -> Caller:
        authorization, host = header(scope, b"authorization"), header(scope, b"host")
        if self.is_open:
            if not self._is_meant_for_us(host):
                raise _misdirected(host)
            return self._anybody
        if is_public(scope["path"]):
            known = self.find(authorization, host)
            return known if known is not None and known.admit(self._clock()) else self._nobody
        given = _credential(authorization)
        if given is None:
            raise self._refused(scope, "none was sent")
        found = await self._look_for(given)
        if found is None:
            raise self._refused(scope, "it is not known")
        now = self._clock()
        if now >= found.good_until:
            raise self._refused(scope, "it has ended", found.principal.name)
        if wait_s := found.limiter.wait_s(now):
            self.note_refusal(scope, "rate_limited", found.principal.name)
            raise _too_fast(wait_s)
        found.limiter.let_in(now)
        return found

    async def _look_for(self, given: bytes) -> Caller | None:
        if (key := parse_key(given)) is not None:
            if self._ring is None:
                return None
            if self._ring.is_stale:
                raise unavailable("database_unavailable", "API keys can't be checked now.")
            return await self._ring.look_for(key)
        if self._tokens is None:
            return None
        try:
            return await self._tokens.look_for(given)
        except ProviderUnreachable as exc:
            raise unavailable("provider_unavailable", "Tokens can't be checked now.") from exc

    def _refused(self, scope: HTTPScope, reason: str, principal: str = "") -> Problem:
        self.note_refusal(scope, "unauthenticated", principal, {"credential": reason})
        problem = gateway_problem(
            "unauthenticated",
            "Send an API key or a token that is good here.",
            "Authorization",
            "Bearer, and a key or a token",
        )
        problem.headers["WWW-Authenticate"] = 'Bearer realm="tessera"'
        return problem

    def note_refusal(
        self, scope: HTTPScope, outcome: str, principal: str, detail: dict[str, Any] | None = None
    ) -> None:
        """Have the audit log say that a request was not let in."""
        if self.auditor is not None:
            action = f"{scope['method']} {scope['path'][:PATH_CHARACTERS_MAX]}"
            self.auditor.note(principal, remote_of(scope), action, outcome, detail)

    def count_write(self, caller: Caller, client: tuple[str, int] | None, path: str, status: int) -> None:
        """Have the audit log count a bulk write."""
        if self.auditor is not None and caller.principal.name:
            self.auditor.count(caller.principal.name, client[0] if client else "", path, status)

    def _is_meant_for_us(self, host: bytes) -> bool:
        if not self._local:
            return True
        known = self._hosts.get(host)
        if known is None:
            if len(self._hosts) >= HOSTS_MAX:
                self._hosts.clear()
            known = self._hosts[host] = is_local_name(host.decode("latin-1"))
        return known


def header(scope: HTTPScope, name: bytes) -> bytes:
    """A header of a request; empty if there is none. Of several, the last."""
    found = b""
    for given, value in scope["headers"]:
        if given == name:
            found = value
    return found


def is_public(path: str) -> bool:
    """Whether everybody may use a path."""
    return path in PUBLIC_PATHS or _MESSAGES.fullmatch(path) is not None


def remote_of(scope: HTTPScope) -> str:
    """From where a request comes."""
    client = scope.get("client")
    return client[0] if client else ""


def is_local_name(host: str) -> bool:
    """Whether no stranger can have made a name, perhaps with a port, that means this machine: it is an
    address, `localhost`, or has no dots."""
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if "." not in name and ":" not in name:
        return True
    if name.rstrip(".").endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _credential(authorization: bytes) -> bytes | None:
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip() or None


def _misdirected(host: bytes) -> Problem:
    return gateway_problem(
        "misdirected",
        f"Without keys this gateway answers to names of its own machine only, not to "
        f"{host[:PATH_CHARACTERS_MAX].decode('latin-1')!r}.",
        "Host",
        "localhost, or an address",
    )


def _too_fast(wait_s: float) -> Problem:
    problem = gateway_problem("rate_limited", "This key or token has had as many requests as it may.")
    problem.headers["Retry-After"] = str(ceil(wait_s))
    return problem
