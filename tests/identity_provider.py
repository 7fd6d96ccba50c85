"""An OpenID Connect provider as far as a gateway sees one: keys that it publishes, tokens that it signs."""

import json
import time
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE: Final = "tessera"
HOUR_S: Final = 3_600

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class IdentityProvider:
    """Signs with one key at a time; `rotate` makes another, and publishes both."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.published: list[dict[str, Any]] = []
        self.key_id = ""
        self.key: Key
        self.algorithm = ""
        self.rotate("ES256", ec.generate_private_key(ec.SECP256R1()))

    def rotate(self, algorithm: str, key: Key) -> None:
        """Sign with this key from now on."""
        self.key, self.algorithm, self.key_id = key, algorithm, f"key{len(self.published)}"
        public: Any = jwt.get_algorithm_by_name(algorithm)
        described = public.to_jwk(key.public_key(), as_dict=True)
        self.published.append({**described, "kid": self.key_id, "alg": algorithm, "use": "sig"})

    def documents(self, base: str) -> dict[str, bytes]:
        """What it serves, by path."""
        discovery = {"issuer": self.issuer, "jwks_uri": f"{base}/keys"}
        return {
            "/.well-known/openid-configuration": json.dumps(discovery).encode(),
            "/keys": json.dumps({"keys": self.published}).encode(),
        }

    def claims(self, **more: Any) -> dict[str, Any]:
        """What a good token says; None leaves a claim out."""
        now = int(time.time())
        usual = {"iss": self.issuer, "aud": AUDIENCE, "sub": "alice", "scope": "openid *", "iat": now}
        given = {**usual, "exp": now + HOUR_S, **more}
        return {name: value for name, value in given.items() if value is not None}

    def token(self, headers: dict[str, Any] | None = None, key: Any = None, **more: Any) -> str:
        """A token with these claims."""
        named = {"kid": self.key_id} if headers is None else headers
        algorithm = named.get("alg", self.algorithm)
        return jwt.encode(self.claims(**more), key or self.key, algorithm, headers=named)
