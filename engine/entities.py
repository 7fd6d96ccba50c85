"""The four entities, as readers meet them: Party, Thing, Move, Entry.

They are views, made on request: what is stored in memory is rows of arrays and open Moves (see
`engine.directory` and `engine.moves`), and what survives is facts (see `engine.facts`). Ids are integers, 0 =
none; times are nanoseconds.
"""

from enum import StrEnum
from typing import Any

import msgspec


class PartyKind(StrEnum):
    """What a Party is. Buyer and seller are roles in a Move, never kinds."""

    PERSON = "person"
    ORG = "org"
    SERVICE = "service"
    MACHINE = "machine"


class ThingKind(StrEnum):
    """What a Thing is. A currency is an asset; a policy says what orders cost, see `engine.policies`."""

    PRODUCT = "product"
    LICENCE = "licence"
    SERVICE = "service"
    SUBSCRIPTION = "subscription"
    ASSET = "asset"
    TIME = "time"
    POLICY = "policy"


class Side(StrEnum):
    """The side of an Entry."""

    DEBIT = "debit"
    CREDIT = "credit"


class Effect(StrEnum):
    """What an Entry does: it changes the posted balance, or only what is held of it."""

    POSTED = "posted"
    HELD = "held"
    RELEASED = "released"


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """Someone or something that exchanges."""

    id: int
    kind: PartyKind
    name: str = ""
    profile: dict[str, Any] = {}
    version: int = 1


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """Anything offered or owned. Every Thing is an asset too, so stock, seats and points are balances."""

    id: int
    kind: ThingKind
    code: str  # unique
    asset: int  # its number in accounts and legs, from 1
    exponent: int = 0  # decimals of the minor unit
    name: str = ""
    attrs: dict[str, Any] = {}


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """An event that shifts value or rights between parties, as it stands."""

    id: int
    kind: str
    state: str
    seq: int
    version: int
    payer: int = 0
    payee: int = 0
    asset: int = 0
    amount: int = 0
    reverses: int = 0
    reference: str | None = None
    business_time: int = 0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the ledger. Two of them make a leg."""

    account: int
    key: str
    side: Side
    amount: int
    asset: int
    move: int = 0
    seq: int = 0
    leg: int = 0
    timestamp: int = 0
    effect: Effect = Effect.POSTED
