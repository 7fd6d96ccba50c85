"""Scopes: what a key or a token may do.

    moves:read                    read Moves
    moves:write                   create Moves of every kind, and take them further
    moves:write:transfer          … of this kind
    moves:write:transfer.hold     … by this transition
    *:read  *:write  *            the same for every resource; everything

The resources are the first words of the paths (`resource_of`), so a new one needs no list to be changed.
Writing does not include reading.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

Action = Literal["read", "write"]

EVERYTHING: Final = "*"
MOVES: Final = "moves"
SCOPES_MAX: Final = 64
ACCEPTED: Final = (
    "*, RESOURCE:read, RESOURCE:write, moves:write:KIND, moves:write:KIND.TRANSITION; a resource may be * too"
)

_NAME: Final = r"[a-z][a-z0-9_-]*"
_SCOPE: Final = re.compile(rf"\*|(?:\*|{_NAME}):(?:read|write)|{MOVES}:write:{_NAME}(?:\.{_NAME})?")
_RESOURCES: Final = {"trial-balance": "books"}
"""First words of paths that are not themselves the name of a resource."""
_OPERATIONS: Final = "operations"


class ScopeError(ValueError):
    """A scope that can't be one."""


class Scopes(NamedTuple):
    """A set of scopes that was checked by `parse_scopes`."""

    granted: frozenset[str]

    def allow(self, resource: str, action: Action) -> bool:
        """Whether everything of that resource may be read, or written."""
        return not self.granted.isdisjoint((EVERYTHING, f"*:{action}", f"{resource}:{action}"))

    def allow_some(self, resource: str, action: Action) -> bool:
        """Whether something of that resource may be read, or written: of Moves, perhaps some kinds."""
        if self.allow(resource, action):
            return True
        return (resource, action) == (MOVES, "write") and bool(self.move_kinds)

    @property
    def move_kinds(self) -> frozenset[str]:
        """The narrower scopes for writing Moves, as `kind` or `kind.transition`."""
        prefix = f"{MOVES}:write:"
        return frozenset(scope.removeprefix(prefix) for scope in self.granted if scope.startswith(prefix))

    def allow_move(self, kind: str, transitions: str) -> bool:
        """Whether a Move of that kind may be taken through these transitions, joined by "+"."""
        if self.allow(MOVES, "write"):
            return True
        kinds = self.move_kinds
        return kind in kinds or all(f"{kind}.{name}" in kinds for name in transitions.split("+"))

    def __str__(self) -> str:
        return " ".join(sorted(self.granted))


ALL: Final = Scopes(frozenset({EVERYTHING}))
NONE: Final = Scopes(frozenset())


def parse_scopes(given: Iterable[str]) -> Scopes:
    """The scopes, checked. Raises ScopeError."""
    granted = frozenset(given)
    for scope in sorted(granted):
        if _SCOPE.fullmatch(scope) is None:
            raise ScopeError(f"{scope!r} is no scope; accepted are {ACCEPTED}")
    if not 0 < len(granted) <= SCOPES_MAX:
        raise ScopeError(f"{len(granted)} scopes; a key has 1 to {SCOPES_MAX}")
    return Scopes(granted)


def known_scopes(given: Iterable[str]) -> Scopes:
    """Those of a token's scopes that are ours; the others are somebody else's, and grant nothing here."""
    return Scopes(frozenset(scope for scope in given if _SCOPE.fullmatch(scope) is not None))


def resource_of(template: str) -> str:
    """The resource of a route: `/v1/moves/{move_id:str}` is of `moves`, `/metrics` of `operations`."""
    version, _, rest = template.strip("/").partition("/")
    if version != "v1":
        return _OPERATIONS
    name = rest.partition("/")[0]
    return _RESOURCES.get(name, name)
