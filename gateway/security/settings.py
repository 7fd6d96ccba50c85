"""What an operator decides about security, in one immutable object. The environment is read here and nowhere
else: `TESSERA_<NAME>` for each field."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.environment import from_environment

ENVIRONMENT_PREFIX: Final = "TESSERA_"
RATE_MAX: Final = 1_000_000


class SecuritySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With none of it, a gateway asks for keys as soon as there is one. Raises ValueError."""

    auth: bool = False  # ask for a key even while there is none
    rate: int = 0  # requests a second of a key or token that has no rate of its own; 0 = no limit
    burst: int = 100  # and so many at once
    oidc_issuer: str | None = None  # of bearer tokens, exactly as they have it in `iss`
    oidc_audience: str | None = None  # what they must have in `aud`
    oidc_jwks_url: str | None = None  # the provider's keys; else its discovery document says where
    oidc_scope_claim: str = "scope"
    oidc_party_claim: str = "tessera_party"
    oidc_tenant_claim: str = "tessera_tenant"

    def __post_init__(self) -> None:
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("oidc_issuer and oidc_audience go together")
        if self.oidc_jwks_url is not None and self.oidc_issuer is None:
            raise ValueError("oidc_jwks_url goes with oidc_issuer and oidc_audience")
        for name, least in (("rate", 0), ("burst", 1)):
            if not least <= getattr(self, name) <= RATE_MAX:
                raise ValueError(f"{name} must be {least} to {RATE_MAX}, not {getattr(self, name)}")

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] | None = None, **given: Any
    ) -> "SecuritySettings":
        """The given settings, and the environment's for those that are None. Raises ValueError."""
        return from_environment(cls, ENVIRONMENT_PREFIX, environment, given)
