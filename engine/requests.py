"""Requests already answered: the same request again gets its stored answer, however often it is sent.

A window keeps answers by request id in a few generations. The oldest is dropped as a whole, and only when the
projection has passed it; what was dropped is found in PostgreSQL. An id that is not in memory is *provably
new* if nothing was dropped yet, or if it is a UUIDv7 younger than everything dropped and not from the future;
any other has to be looked up.

Whether two requests are equal is judged by a digest of their content: 16 bytes over everything, and 2 bytes a
field by which the first difference can be named without the original.
"""

from typing import Any, Final
from zlib import crc32

import msgspec
import numpy as np
import xxhash

from engine import ids
from engine.commands import Lines

FUTURE_MS_MAX: Final = 60_000
"""How far ahead of the shard's clock an id may be and still prove that it is new."""
NANOSECONDS_A_MILLISECOND: Final = 1_000_000

ANSWERS_PER_GENERATION: Final = 1 << 17
"""A generation with so many answers should be followed by the next, even if few ids of legs are in it."""

_HASH_BYTES: Final = 16
_FIELD_BYTES: Final = 2


class Digester:
    """Digests of commands of one type, over the given fields in order; a field at its default counts as not
    given.
    """

    def __init__(self, command: type[msgspec.Struct], skipped: frozenset[str]) -> None:
        known = msgspec.structs.fields(command)
        self.fields = tuple(field.name for field in known if field.name not in skipped)
        self._named_defaults = tuple(
            (field.name, _default(field)) for field in known if field.name not in skipped
        )

    def digest(self, command: msgspec.Struct) -> bytes:
        """16 bytes over all fields, then 2 bytes for each."""
        whole: list[bytes] = []
        each = bytearray(_FIELD_BYTES * len(self.fields))
        at = 0
        for name, default in self._named_defaults:
            value = getattr(command, name)
            if value != default:
                content = _content(value)
                hash = crc32(content)
                whole += (b"%d:%d:" % (at, len(content)), content)
                each[at], each[at + 1] = hash & 255, hash >> 8 & 127 | 128
            at += _FIELD_BYTES
        return xxhash.xxh3_128_digest(b"".join(whole)) + each

    def first_difference(self, stored: bytes, given: bytes) -> str:
        """The first field in which two unequal digests differ ("content" if that can't be told)."""
        for place, name in enumerate(self.fields):
            at = _HASH_BYTES + place * _FIELD_BYTES
            if stored[at : at + _FIELD_BYTES] != given[at : at + _FIELD_BYTES]:
                return name
        return "content"


class Remembered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The stored answer to a request."""

    request: bytes
    digest: bytes
    move: bytes
    kind: str
    state: str
    seq: int
    timestamp: int
    ended: bool
    code: str
    message: str
    unmatched_quantity: int
    unmatched_amount: int
    leg_count: int
    answer: bytes = b""  # of a request that is about no Move


class Generation:
    """What was answered while one generation was the newest."""

    def __init__(self) -> None:
        self.answers: dict[int, Remembered] = {}  # by request id
        self.ended: dict[int, Remembered] = {}  # by Move: the answer that ended it, if not its first
        self.references: dict[int, int] = {}  # hash of Party and external reference → Move
        self.last_timestamp = 0  # of the newest fact in it
        self.youngest_ms = -1  # of the UUIDv7 among its ids


class RequestWindow:
    """Generations of answers, changed only by `remember`, `note_…` and `set_generation`."""

    def __init__(self) -> None:
        self.generation = 0  # the newest, which grows
        self.dropped = 0  # every generation below this one is gone
        self.watermark_ms = -1  # of the youngest id that was dropped; −1 = no UUIDv7 was dropped
        self.generations: dict[int, Generation] = {0: Generation()}  # oldest first

    @property
    def newest(self) -> Generation:
        """The generation that grows."""
        return self.generations[self.generation]

    @property
    def full(self) -> bool:
        """Whether it is time to begin the next generation, for the sake of memory."""
        return len(self.newest.answers) >= ANSWERS_PER_GENERATION

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
            if generation.last_timestamp > projected_timestamp:
                return number
        return self.generation

    def find(self, request: int) -> Remembered | None:
        """The answer to a request that is in memory."""
        for generation in self.generations.values():
            if (found := generation.answers.get(request)) is not None:
                return found
        return None

    def find_ended(self, move: int) -> Remembered | None:
        """The last accepted answer about a Move that ended, if it is in memory."""
        for generation in self.generations.values():
            if (found := generation.ended.get(move)) is not None:
                return found
        created = self.find(move)
        return created if created is not None and created.ended else None

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

    def remember(self, answer: Remembered) -> None:
        """Keep an answer in the newest generation."""
        newest = self.newest
        request = ids.id_from_bytes(answer.request)
        newest.answers[request] = answer
        if answer.ended and answer.move != answer.request:
            newest.ended[ids.id_from_bytes(answer.move)] = answer
        newest.last_timestamp = max(newest.last_timestamp, answer.timestamp)
        if ids.is_uuid7(request):
            newest.youngest_ms = max(newest.youngest_ms, ids.unix_ms_of(request))

    def state(self) -> dict[str, Any]:
        """Everything, as plain data and bytes, equal for equal histories."""
        packed = [
            (
                number,
                generation.last_timestamp,
                generation.youngest_ms,
                list(generation.answers.values()),
                [(ids.id_bytes(move), answer) for move, answer in generation.ended.items()],
                [(hash, ids.id_bytes(move)) for hash, move in generation.references.items()],
            )
            for number, generation in self.generations.items()
        ]
        return {
            "generation": self.generation,
            "dropped": self.dropped,
            "watermark_ms": self.watermark_ms,
            "generations": np.frombuffer(_encoder.encode(packed), np.uint8).copy(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the place of an earlier window."""
        self.generation = int(state["generation"])
        self.dropped = int(state["dropped"])
        self.watermark_ms = int(state["watermark_ms"])
        self.generations = {}
        for number, last_timestamp, youngest_ms, answers, ended, references in _decoder.decode(
            state["generations"].tobytes()
        ):
            generation = self.generations[number] = Generation()
            generation.last_timestamp = last_timestamp
            generation.youngest_ms = youngest_ms
            generation.answers = {ids.id_from_bytes(answer.request): answer for answer in answers}
            generation.ended = {ids.id_from_bytes(move): answer for move, answer in ended}
            generation.references = {hash: ids.id_from_bytes(move) for hash, move in references}


def reference_hash(party: int, reference: str) -> int:
    """Stands for a Party's external reference in memory."""
    return xxhash.xxh3_64_intdigest(party.to_bytes(16, "big") + reference.encode())


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def _content(value: Any) -> bytes:
    """A field's value as bytes, the same for equal values. Ids, and numbers that will be refused, are beyond
    what the encoder takes.
    """
    if type(value) is int and abs(value) <= ids.ID_MAX:
        return value.to_bytes(17, "big", signed=True)
    try:
        if isinstance(value, Lines):
            columns = (value.things, value.quantities, value.amounts, value.order_lines, value.reasons)
            own = _encoder.encode(value.columns) if value.columns else b""
            orders = b"".join([order.to_bytes(16, "big") for order in value.orders])
            return _encoder.encode(columns) + orders + own
        return _encoder.encode(value)
    except (OverflowError, TypeError, ValueError):
        return ascii(value).encode()
    except RecursionError:
        return b"nested too deeply"


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(
    list[tuple[int, int, int, list[Remembered], list[tuple[bytes, Remembered]], list[tuple[int, bytes]]]]
)
