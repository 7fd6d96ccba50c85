"""From the caller and the route to yes, or 403.

A route needs the scope of its resource: reading it for GET, writing it for everything else. That follows from
the method and the path, so a new route is guarded before anybody has thought of it. Whose data it is, and
which Moves, is looked at behind the route, by `gateway.security.confined`.
"""

from typing import Any, Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.problems import Problem, gateway_problem
from gateway.security.callers import Caller
from gateway.security.gate import CALLER, PUBLIC_PATHS, Gate
from gateway.security.principals import Principal
from gateway.security.scopes import Action, resource_of

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def caller_of(scope: Any) -> Caller:
    """Who sends a request that was let in."""
    caller: Caller = scope[CALLER]
    return caller


def needed(method: str, template: str) -> tuple[str, Action]:
    """The resource of a route, and what is done to it."""
    return resource_of(template), "read" if method in READING else "write"


def authorize(principal: Principal, method: str, template: str) -> None:
    """Let a principal use a route. Raises Problem."""
    if template in PUBLIC_PATHS:
        return
    resource, action = needed(method, template)
    if not principal.scopes.allow_some(resource, action):
        raise forbidden(f"This needs the scope {resource}:{action}.")


def authorize_bulk(principal: Principal, path: str) -> None:
    """Let a principal write bare legs or accounts. Raises Problem.

    They name accounts by id, which says nothing about whose they are, so nobody who is bound to a Party may.
    """
    authorize(principal, "POST", path)
    if principal.party:
        raise forbidden("A key or token that is bound to a Party writes Moves.")


def may_take_short_cut(principal: Principal, path: str) -> bool:
    """Whether `authorize_bulk` lets a principal write there."""
    return not principal.party and principal.scopes.allow(*needed("POST", path))


def forbidden(detail: str, where: str = "") -> Problem:
    """The caller may not do that."""
    return gateway_problem("forbidden", detail, where)


class Authorization:
    """Middleware that guards every route behind it, and has the audit log say what was written."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Guard `app`."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == ScopeType.HTTP, "the gateway has no other routes"
            principal = caller_of(scope).principal
            try:
                authorize(principal, scope["method"], scope.get("path_template") or scope["path"])
            except Problem as problem:
                self._gate.note_refusal(scope, problem.code, principal.name, {"needed": problem.detail})
                raise
            await app(scope, receive, send)

        return guarded
