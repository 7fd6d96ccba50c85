"""Whatever is nearly right is decoded or refused in so many words, by each decoder that strangers reach.

Arrow streams have theirs in `test_arrow`, records and snapshots in `test_record` and `test_snapshot_codec`.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final

import msgspec
import pytest

from gateway import hot_legs
from gateway.cursors import seal, unseal
from gateway.events.positions import cursor_of
from gateway.problems import Problem
from gateway.reading_schemas import BalancesDraft, IdsDraft, PartyPatch
from gateway.routes import accounts, legs, moves, parties, things
from gateway.schemas import AccountDraft, LegDraft, MoveDraft, PartyDraft, ThingDraft
from gateway.security.credentials import make_key, parse_key
from gateway.webhooks.signatures import SignatureRefused, make_secret, signed, verify
from gateway.wire import decode, decode_value, encode
from tests.fuzz.mutation import mutated

MUTATIONS: Final = 1_500
"""Of the samples of each decoder, unless more are asked for."""
SECRET: Final = make_secret()


def json(kind: Any) -> Callable[[bytes], object]:
    """A decoder of bodies."""
    decoder = msgspec.json.Decoder(kind, dec_hook=decode_value)
    return lambda data: decode(decoder, data)


def text(work: Callable[[str], object]) -> Callable[[bytes], object]:
    """A decoder of what stands in a head or a query."""
    return lambda data: work(data.decode("latin-1"))


def verified(data: bytes) -> object:
    """The id of a signed message, its headers one to a line before its body."""
    head, _, body = data.partition(b"\n\n")
    pairs = (line.partition(b": ") for line in head.split(b"\n"))
    return verify(
        {name.decode("latin-1"): value.decode("latin-1") for name, _, value in pairs}, body, [SECRET], 5
    )


def message() -> bytes:
    headers = "\n".join(f"{name}: {value}" for name, value in signed("m1", 5, b"{}", [SECRET]).items())
    return headers.encode() + b"\n\n{}"


CASES: Final[dict[str, tuple[Callable[[bytes], object], list[bytes]]]] = {
    "moves": (json(MoveDraft), [encode(moves.DRAFT)]),
    "parties": (json(PartyDraft), [encode(parties.DRAFT)]),
    "changes of parties": (json(PartyPatch), [encode({"name": "x", "relations": [parties.EMPLOYED]})]),
    "things": (json(ThingDraft), [encode({**things.DRAFT, "bundle": [{"thing": "mug", "quantity": 2}]})]),
    "accounts": (json(AccountDraft), [encode(accounts.DRAFT)]),
    "legs": (json(list[LegDraft]), [encode([legs.LEG])]),
    "small posts of legs": (hot_legs.decode, [encode(legs.LEG), encode([legs.LEG, legs.LEG])]),
    "lookups": (json(IdsDraft), [encode({"ids": [legs.LEG["id"]]})]),
    "balances": (json(BalancesDraft), [encode({"ids": [legs.LEG["id"]], "at": "2011-12-09T12:50:00Z"})]),
    "cursors": (text(lambda data: unseal("/v1/x", data)), [(seal("/v1/x", "12.34") or "").encode()]),
    "positions": (text(lambda data: cursor_of(data, [50, 60], "after")), [b"0.42.3,1.7.0", b"start", b"now"]),
    "keys": (parse_key, [make_key().text.encode()]),
    "signed messages": (verified, [message()]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_nearly_right(name: str, pytestconfig: pytest.Config) -> None:
    decoder, samples = CASES[name]
    seed = int(pytestconfig.getoption("fuzz_seed"))
    random = Random(f"{name} {seed}")
    for sample in samples:
        decoder(sample)
    refused = 0
    for _ in range(max(MUTATIONS, pytestconfig.getoption("fuzz_requests"))):
        data = mutated(random, samples)
        try:
            decoder(data)
        except (Problem, SignatureRefused):
            refused += 1
        except Exception as exc:
            raise AssertionError(f"{data!r} under the seed {seed}") from exc
    assert refused or decoder in {parse_key, hot_legs.decode}, "these say None"
