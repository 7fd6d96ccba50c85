"""From the caller and the route to yes, or 403.

A route needs the scope of its resource: reading it for GET, writing it for everything else. That follows from
the method and the path, so a new route is guarded before anybody has thought of it. Whose data it is, and
which Moves, is looked at behind the route, by `gateway.security.confined`.
"""

import time
from typing import Any, Final
from urllib.parse import parse_qs
from uuid import UUID

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from actors.runtime import Engine
from gateway.problems import Problem
from gateway.security.callers import Caller
from gateway.security.confined import RESOURCES_OF_PARTIES, confined, forbidden
from gateway.security.gate import CALLER, PUBLIC_PATHS, Gate, remote_of
from gateway.security.principals import Principal
from gateway.security.scopes import MOVES, Action, resource_of

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
READING_BY_POST: Final = frozenset({"lookup", "balances"})
"""Last words of paths that take a list of what is to be read."""
EVENTS_PATH: Final = "/v1/events"
_COUNTED_ONLY: Final = frozenset({MOVES, "legs"})
"""Resources whose log says more about each write than the audit log could."""


class CredentialEnded(Exception):  # noqa: N818  # says what happened
    """A key was revoked, or a token expired, while its answer was still going on."""


def caller_of(scope: Any) -> Caller:
    """Who sends a request that was let in."""
    caller: Caller = scope[CALLER]
    return caller


def engine_for(scope: Any, engine: Engine) -> Any:
    """The engine as whoever sends a request may use it."""
    if _template(scope) in PUBLIC_PATHS:
        return engine
    principal = caller_of(scope).principal
    return confined(engine.on_word_of(principal.name), principal)


def sees_operations(scope: Any) -> bool:
    """Whether whoever sends a request may know how the engine is."""
    return caller_of(scope).principal.scopes.allow("operations", "read")


def needed(method: str, template: str) -> tuple[str, Action]:
    """The resource of a route, and what is done to it."""
    reads = method in READING or template.rpartition("/")[2] in READING_BY_POST
    return resource_of(template), "read" if reads else "write"


def authorize(principal: Principal, method: str, template: str) -> None:
    """Let a principal use a route. Raises Problem."""
    if template in PUBLIC_PATHS:
        return
    resource, action = needed(method, template)
    if not principal.scopes.allow_some(resource, action):
        raise forbidden(f"This needs the scope {resource}:{action}.")
    if principal.party and (
        resource not in RESOURCES_OF_PARTIES or (action == "write" and resource != MOVES)
    ):
        raise forbidden("A key or token that is bound to a Party may not do that.")


def may_write_in_bulk(principal: Principal, path: str) -> bool:
    """Whether a principal may write bare legs or accounts. They name accounts by id, which says nothing about
    whose they are."""
    return not principal.party and principal.scopes.allow(*needed("POST", path))


class Authorization:
    """Middleware that guards every route behind it, and has the audit log say what was written."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Guard `app`."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == ScopeType.HTTP, "the gateway has no other routes"
            caller = caller_of(scope)
            status = 500

            async def while_good(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                elif message.get("more_body") and time.perf_counter() >= caller.good_until:
                    raise CredentialEnded
                await send(message)

            self._check(scope, caller.principal)
            try:
                await app(scope, receive, while_good)
            finally:
                self._note_write(scope, caller.principal, status)

        return guarded

    def _check(self, scope: HTTPScope, principal: Principal) -> None:
        template = _template(scope)
        try:
            authorize(principal, scope["method"], template)
            if principal.party and (scope["method"], template) == ("GET", EVENTS_PATH):
                _check_events(scope, principal.party)
        except Problem as problem:
            self._gate.note_refusal(scope, problem.code, principal.name, {"why": problem.detail})
            raise

    def _note_write(self, scope: HTTPScope, principal: Principal, status: int) -> None:
        template = _template(scope)
        resource, action = needed(scope["method"], template)
        if action == "write" and principal.name and self._gate.auditor is not None:
            named = {} if resource in _COUNTED_ONLY else scope.get("path_params") or {}
            detail = {name: str(value) for name, value in named.items()}
            self._gate.auditor.note(
                principal.name, remote_of(scope), f"{scope['method']} {template}", str(status), detail
            )


def _template(scope: Any) -> str:
    template: str = scope.get("path_template") or scope["path"]
    return template


def _check_events(scope: HTTPScope, party: int) -> None:
    """Raises Problem if a stream would show more than what concerns a Party."""
    asked = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("party", [])
    own = str(UUID(int=party))
    if not asked or any(name.lower() != own for name in asked):
        raise forbidden(f"A key or token that is bound to a Party names it: party={own}.", "party", own)
