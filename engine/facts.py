"""Facts that stand beside the legs in a log record: what happened to Parties, Things and Moves, and on whose
word.

They are results, not commands: replaying one changes state without judging again, so a later rule can't
rewrite history. Encoded as arrays, so a record stays small; therefore fields are only ever *appended*, with a
default, and never reordered or reused. Ids are 16 bytes, big-endian; 16 zero bytes (`NO_ID`) mean none. Times
are nanoseconds.
"""

from typing import Final

import msgspec

NO_ID: Final = bytes(16)


class PartyFact(msgspec.Struct, frozen=True, array_like=True, tag="party", gc=False):
    """A Party as it is since this record; version 1 is its creation."""

    id: bytes
    kind: str
    name: str
    profile: bytes  # JSON object
    version: int
    timestamp: int


class ThingFact(msgspec.Struct, frozen=True, array_like=True, tag="thing", gc=False):
    """A Thing that was added to the catalogue. Its asset number and exponent never change."""

    id: bytes
    kind: str
    code: str
    asset: int
    exponent: int
    name: str
    attrs: bytes  # JSON object
    timestamp: int


class LineFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A Move's lines, column by column: a column is empty (nothing of the kind) or as long as the others."""

    things: list[int]  # asset numbers, 0 = no Thing
    quantities: list[int]
    amounts: list[int]
    orders: list[bytes] = []  # the order whose line this one reverses
    order_lines: list[int] = []  # the number of that line, from 1; 0 = it reverses nothing known
    reasons: list[str] = []
    columns: dict[str, list[int | str]] = {}  # of the kind's own, each as long as the others


class MoveFact(msgspec.Struct, frozen=True, array_like=True, tag="move", gc=False):
    """What one request did to a Move, or that it was refused for a transient reason (`code` is not empty).

    An accepted request is one row of the Move's history: `seq` counts them from 0, the creation, and the
    Move's version is `seq + 1`. Legs that it caused carry the Move's id and the same `seq`. What only a
    creation knows (reference, reverses, lines, metadata, inputs) is empty later, unless a later request gave
    it anew. A refused request has the state and `seq` that the Move had, and writes no row of history; only
    its answer is kept.
    """

    request: bytes
    move: bytes
    kind: str
    transition: str  # names of the transitions taken, joined by "+"; empty for a creation that takes none
    state: str
    ended: bool  # the state is terminal
    seq: int
    timestamp: int
    business_time: int
    payer: bytes
    payee: bytes = NO_ID
    asset: int = 0  # of the money
    amount: int = 0  # of the Move, or of this request where it names one
    tender: str = ""
    digest: bytes = b""  # of the request's content, see engine.requests
    code: str = ""  # why it was refused; empty = accepted
    message: str = ""
    reference: str | None = None
    reverses: bytes = NO_ID
    lines: LineFacts | None = None
    inputs: dict[str, int | str] = {}  # and the counters that it kept
    holds: list[bytes] = []  # leg ids of the holds that are open after this request
    expires_at: int = 0  # when the first of them runs out, 0 = never
    metadata: bytes = b""  # JSON object
    unmatched_quantity: int = 0  # of lines that reverse nothing known
    unmatched_amount: int = 0
    leg_count: int = 0
    reason: str = ""

    @property
    def version(self) -> int:
        """The Move's version after this request."""
        return self.seq + 1

    @property
    def accepted(self) -> bool:
        """Whether it changed the Move."""
        return not self.code


class RequestFact(msgspec.Struct, frozen=True, array_like=True, tag="request", gc=False):
    """What was answered to a request that is about no Move, so that the same one again gets the same answer:
    a claim of a client's own key (the answer is the id that its request has), or a change under an id."""

    request: bytes
    digest: bytes  # of the request's content, see engine.requests; of a change, what kind it is of
    timestamp: int
    answer: bytes


class Envelope(msgspec.Struct, frozen=True, array_like=True, tag="envelope", gc=False):
    """On whose word, and when in business terms, a range of the record's legs and events came."""

    tenant: str
    principal: str = ""
    request: bytes = NO_ID
    trace: str = ""
    business_time: int = 0
    leg_first: int = 0
    leg_count: int = 0
    event_first: int = 0
    event_count: int = 0


class BegunFact(msgspec.Struct, frozen=True, array_like=True, tag="begun", gc=False):
    """A crossing of ours, see `engine.crossing`: its home has set aside what its own legs need. Rows are
    those of `engine.layout`, as bytes; ids stand one after the other."""

    counter: int  # with the record's shard and epoch, the crossing's name
    reserved: bytes  # RESERVED rows; written no more
    locked: bytes  # ids of holds
    needs: bytes = b""  # RESERVED rows, one an account, packed (`engine.record.pack_rows`)


class PreparedFact(msgspec.Struct, frozen=True, array_like=True, tag="prepared", gc=False):
    """Another shard's crossing: its legs here were judged, and what they need is set aside until its home
    says what became of it."""

    home: int
    epoch: int
    counter: int
    kept: bytes  # by chain: 1 = acceptable here
    status: bytes  # by leg: what was voted
    missing: list[int]  # places of Parties that were asked for and are not there
    legs: bytes  # of the acceptable chains, packed (`engine.record.pack_rows`); stamps come later
    leg_ends: list[int]  # by chain: where its legs end
    reserved: bytes  # as in BegunFact
    locked: bytes
    principals: list[str]  # on whose word, by chain, or one for all
    needs: bytes = b""


class DecidedFact(msgspec.Struct, frozen=True, array_like=True, tag="decided", gc=False):
    """What becomes of a crossing of ours; the legs of the chains that are kept stand in the same record.

    `peers` have to confirm that they have done their part. `burnt` and `settled` say, by peer, what else
    that is: ids that failed, and what became of holds whose other side they have."""

    epoch: int
    counter: int
    kept: bytes  # by chain: 1 = it happened
    peers: list[int]
    burnt: list[bytes]  # ids, by peer
    settled: list[bytes]  # packed LEG_FACT rows, by peer
    ids: bytes  # of legs and requests that are not answered before all have confirmed
    leg_first: int = 0  # of the record's legs
    leg_count: int = 0


class AppliedFact(msgspec.Struct, frozen=True, array_like=True, tag="applied", gc=False):
    """Another shard's crossing is decided, and done here: the legs stand in the same record."""

    home: int
    epoch: int
    counter: int
    confirmed: bool  # its home waits to hear of it
    low: tuple[int, int]  # epoch and counter: whatever its home began before that has ended everywhere
    leg_first: int = 0
    leg_count: int = 0


class EndedFact(msgspec.Struct, frozen=True, array_like=True, tag="ended", gc=False):
    """Every shard has done its part of a crossing of ours, and nobody will ask for it again."""

    epoch: int
    counter: int


class KnownThingFact(msgspec.Struct, frozen=True, array_like=True, tag="known_thing", gc=False):
    """A Thing that shard 0 has added to the catalogue, as far as the others need it."""

    id: bytes
    kind: str
    code: str
    asset: int
    exponent: int
    account: str
    tracked: bool
    digest: bytes
    created: int


CrossingFact = BegunFact | PreparedFact | DecidedFact | AppliedFact | EndedFact
Event = PartyFact | ThingFact | KnownThingFact | MoveFact | RequestFact | Envelope | CrossingFact
"""Anything that may stand among a record's events; the tag is the first element of its array."""
