"""How the two ends of a connection prove to each other that they know the cluster's token.

Each answers the other's random challenge with a keyed hash, so that the token itself is never sent, and
nothing that is overheard can be used again. What is said afterwards is neither encrypted nor signed: the
network between the nodes of a cluster has to be private.
"""

import hmac
import secrets
from typing import Final

from actors.cluster.supervision import VERSION
from actors.cluster.wire import PROTOCOL, Hello, Proof

CHALLENGE_BYTES: Final = 32


def challenge() -> bytes:
    """A new one."""
    return secrets.token_bytes(CHALLENGE_BYTES)


def proof_of(token: bytes, side: str, hello: Hello, other: bytes) -> bytes:
    """What only somebody with the token can say: `side` is who says it, `other` the client's challenge."""
    said = f"tessera {side} {hello.protocol} {hello.shard} {hello.epoch} ".encode()
    return hmac.digest(token, said + hello.challenge + other, "sha256")


def is_proof(proof: bytes, token: bytes, side: str, hello: Hello, other: bytes) -> bool:
    """Whether it is one."""
    return hmac.compare_digest(proof, proof_of(token, side, hello, other))


def mismatch(said: Hello | Proof) -> str:
    """Why the other end can't be spoken to; empty if it can."""
    if said.protocol == PROTOCOL:
        return ""
    return (
        f"it speaks protocol {said.protocol} (Tessera {said.version}), and this end {PROTOCOL} "
        f"(Tessera {VERSION}): run the same version everywhere, see the rolling upgrade in docs/cluster.md"
    )
