"""The two ends of a connection of a cluster: who may speak to whom."""

import msgspec

from actors.cluster.handshake import challenge, is_proof, mismatch, proof_of
from actors.cluster.wire import PROTOCOL, Hello

TOKEN = bytes(range(32))
HELLO = Hello(protocol=PROTOCOL, version="1.2.3", shard=4, epoch=5, challenge=bytes(32))


def test_another_protocol_is_refused_saying_what_to_do() -> None:
    assert mismatch(HELLO) == ""
    reason = mismatch(msgspec.structs.replace(HELLO, protocol=PROTOCOL + 1))
    assert f"it speaks protocol {PROTOCOL + 1} (Tessera 1.2.3), and this end {PROTOCOL}" in reason
    assert "run the same version everywhere" in reason


def test_a_proof_holds_for_one_token_side_shard_epoch_and_challenge() -> None:
    other = challenge()
    proof = proof_of(TOKEN, "client", HELLO, other)
    assert is_proof(proof, TOKEN, "client", HELLO, other)
    assert not is_proof(proof, TOKEN[::-1], "client", HELLO, other)
    assert not is_proof(proof, TOKEN, "server", HELLO, other)
    assert not is_proof(proof, TOKEN, "client", msgspec.structs.replace(HELLO, shard=3), other)
    assert not is_proof(proof, TOKEN, "client", msgspec.structs.replace(HELLO, epoch=6), other)
    assert not is_proof(proof, TOKEN, "client", HELLO, challenge())
