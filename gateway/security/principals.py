"""On whose word a request comes."""

from typing import Final

import msgspec

from gateway.security.scopes import ALL, MOVES, NONE, Scopes

NAME_CHARACTERS_MAX: Final = 200


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who has shown who they are."""

    name: str  # the id of a key, or the issuer and subject of a token; empty = whoever it is
    tenant: str
    scopes: Scopes
    party: int = 0  # moves this Party's money only, and reads its data only; 0 = any

    @property
    def is_confined(self) -> bool:
        """Whether more has to be looked at than the route: whose data it is, or which Moves."""
        return bool(self.party) or not self.scopes.allow(MOVES, "write")


def anybody(tenant: str) -> Principal:
    """Whoever reaches a gateway that asks for no key."""
    return Principal(name="", tenant=tenant, scopes=ALL)


def nobody(tenant: str) -> Principal:
    """Whoever looks at what is public."""
    return Principal(name="", tenant=tenant, scopes=NONE)
