"""Requests already answered: the same request again gets its stored answer, however often it is sent.

A window keeps answers by request id in a few generations. The oldest is dropped as a whole, and only when the
projection has passed it; what was dropped is found in PostgreSQL. An id that is not in memory is *provably
new* if nothing was dropped yet, or if it is a UUIDv7 younger than everything dropped and not from the future;
any other has to be looked up.

Whether two requests are equal is judged by a digest of their content: 16 bytes over everything, and 2 bytes a
field by which the first difference can be named without the original.
"""

from typing import Any, Final, Generic, TypeVar

import msgspec
import xxhash

from engine import ids
from engine.commands import Lines

FUTURE_MS_MAX: Final = 60_000
"""How far ahead of the shard's clock an id may be and still prove that it is new."""
NANOSECONDS_A_MILLISECOND: Final = 1_000_000

_HASH_BYTES: Final = 16
_FIELD_BYTES: Final = 2

Stored = TypeVar("Stored")


class Digester:
    """Digests of commands of one type, over the given fields in order; a field at its default counts as not
    given.
    """

    def __init__(self, command: type[msgspec.Struct], skipped: frozenset[str]) -> None:
        known = msgspec.structs.fields(command)
        self.fields = tuple(field.name for field in known if field.name not in skipped)
        self._defaults = tuple(_default(field) for field in known if field.name not in skipped)

    def digest(self, command: msgspec.Struct) -> bytes:
        """16 bytes over all fields, then 2 bytes for each."""
        whole: list[bytes] = []
        each = bytearray(_FIELD_BYTES * len(self.fields))
        for place, (name, default) in enumerate(zip(self.fields, self._defaults, strict=True)):
            value = getattr(command, name)
            if value == default:
                continue
            content = _content(value)
            whole.append(b"%d:%d:" % (place, len(content)))
            whole.append(content)
            at = place * _FIELD_BYTES
            each[at : at + _FIELD_BYTES] = (xxhash.xxh3_64_intdigest(content) & 0xFFFF or 1).to_bytes(
                2, "big"
            )
        return xxhash.xxh3_128_digest(b"".join(whole)) + each

    def first_difference(self, stored: bytes, given: bytes) -> str:
        """The first field in which two unequal digests differ ("content" if that can't be told)."""
        for place, name in enumerate(self.fields):
            at = _HASH_BYTES + place * _FIELD_BYTES
            if stored[at : at + _FIELD_BYTES] != given[at : at + _FIELD_BYTES]:
                return name
        return "content"


class Generation(Generic[Stored]):
    """What was answered while one generation was the newest."""

    def __init__(self) -> None:
        self.answers: dict[int, tuple[bytes, Stored]] = {}  # request id → digest and answer
        self.ended: dict[int, Stored] = {}  # Moves that ended, with their last accepted answer
        self.references: dict[int, int] = {}  # hash of Party and external reference → Move
        self.last_timestamp = 0  # of the newest fact in it
        self.youngest_ms = -1  # of the UUIDv7 among its ids


class RequestWindow(Generic[Stored]):
    """Generations of answers, changed only by `remember` and `set_generation`."""

    def __init__(self) -> None:
        self.generation = 0  # the newest, which grows
        self.dropped = 0  # every generation below this one is gone
        self.watermark_ms = -1  # of the youngest id that was dropped; −1 = nothing was dropped
        self.generations: dict[int, Generation[Stored]] = {0: Generation()}  # oldest first

    @property
    def newest(self) -> Generation[Stored]:
        """The generation that grows."""
        return self.generations[self.generation]

    def set_generation(self, generation: int, dropped: int) -> None:
        """Begin generation `generation` if it is new, and drop those below `dropped`."""
        if generation > self.generation:
            self.generation = generation
            self.generations[generation] = Generation()
        if dropped > self.dropped:
            self.dropped = dropped
            for number in [number for number in self.generations if number < dropped]:
                gone = self.generations.pop(number)
                self.watermark_ms = max(self.watermark_ms, gone.youngest_ms)

    def droppable(self, projected_timestamp: int) -> int:
        """The first generation that must stay when everything up to that time is projected."""
        for number, generation in self.generations.items():
            if generation.last_timestamp > projected_timestamp or number == self.generation:
                return number
        return self.generation

    def find(self, request: int) -> tuple[bytes, Stored] | None:
        """Digest and answer of a request that is in memory."""
        for generation in self.generations.values():
            if (found := generation.answers.get(request)) is not None:
                return found
        return None

    def find_ended(self, move: int) -> Stored | None:
        """The last answer about a Move that ended, if it is in memory."""
        for generation in self.generations.values():
            if (found := generation.ended.get(move)) is not None:
                return found
        return None

    def find_reference(self, hash: int) -> int | None:
        """The Move with that reference, if it is in memory."""
        for generation in self.generations.values():
            if (found := generation.references.get(hash)) is not None:
                return found
        return None

    def provably_new(self, id: int, now: int) -> bool:
        """Whether an id that is not in memory was never seen. `now` is in nanoseconds."""
        if self.dropped == 0:
            return True
        youngest = now // NANOSECONDS_A_MILLISECOND + FUTURE_MS_MAX
        return ids.is_uuid7(id) and self.watermark_ms < ids.unix_ms_of(id) <= youngest

    def remember(self, request: int, digest: bytes, answer: Stored, timestamp: int) -> None:
        """Keep an answer in the newest generation."""
        newest = self.newest
        newest.answers[request] = digest, answer
        newest.last_timestamp = max(newest.last_timestamp, timestamp)
        if ids.is_uuid7(request):
            newest.youngest_ms = max(newest.youngest_ms, ids.unix_ms_of(request))


def reference_hash(party: int, reference: str) -> int:
    """Stands for a Party's external reference in memory."""
    return xxhash.xxh3_64_intdigest(party.to_bytes(16, "big") + reference.encode())


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _content(value: Any) -> bytes:
    """A field's value as bytes, the same for equal values. Ids are beyond what the encoder takes."""
    if type(value) is int:
        return value.to_bytes(17, "big", signed=True)
    if isinstance(value, Lines):
        columns = (value.things, value.quantities, value.amounts, value.order_lines, value.reasons)
        return _encoder.encode(columns) + b"".join([order.to_bytes(16, "big") for order in value.orders])
    return _encoder.encode(value)


_encoder = msgspec.msgpack.Encoder(order="deterministic")
