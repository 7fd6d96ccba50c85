"""A state as chunks of bytes, and back, with a checksum for each chunk and one for all.

A state is a tree of dicts, lists, integers of any size, texts, bytes, booleans, None and NumPy arrays. Its
stream is a small header (magic, format, size of the tree), the tree as MessagePack in which every array is
a reference, and then the arrays' bytes in the order of the references. The stream is cut into chunks; a
chunk is stored with its checksum (xxh3-128) behind it. Arrays are never joined or copied on the way out,
and are filled in place on the way in, so that a snapshot needs little more memory than the state.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from persistence.copy_binary import bytes_of

FORMAT: Final = 2
CHUNK_BYTES_MAX: Final = 16 << 20
"""The size of every chunk but the last, its checksum not counted."""
CHECKSUM_BYTES: Final = 16

State: TypeAlias = dict[str, Any]

_MAGIC: Final = b"TSRS"
_HEADER: Final = struct.Struct("<4sIQ")
_ARRAY: Final = 1  # MessagePack extension: an array as [descr, shape]
_INTEGER: Final = 2  # MessagePack extension: an integer that needs more than 64 bits

_encoder = msgspec.msgpack.Encoder()


class CorruptSnapshot(Exception):  # noqa: N818  # reads as what it is in a traceback
    """A snapshot's bytes are not what was written."""


class Chunk(NamedTuple):
    """A piece of the stream: views of the state's own memory, and their checksum."""

    pieces: list[memoryview]
    size: int
    checksum: bytes


def encode_state(state: State) -> Iterator[Chunk]:
    """The chunks of `state`, which must not change while they are read."""
    arrays: list[npt.NDArray[Any]] = []
    tree = _encoder.encode(_to_tree(state, arrays))
    streams = [memoryview(_HEADER.pack(_MAGIC, FORMAT, len(tree)) + tree)]
    streams += [bytes_of(array) for array in arrays if array.nbytes]
    pieces: list[memoryview] = []
    room = CHUNK_BYTES_MAX
    for stream in streams:
        at = 0
        while at < len(stream):
            piece = stream[at : at + room]
            pieces.append(piece)
            at += len(piece)
            room -= len(piece)
            if room == 0:
                yield _chunk(pieces)
                pieces, room = [], CHUNK_BYTES_MAX
    if pieces:
        yield _chunk(pieces)


def manifest(shard: int, lsn: int, chain: bytes, checksums: list[bytes]) -> bytes:
    """The checksum that ties the chunks to each other and to their place in the log."""
    head = struct.pack("<HqI", shard, lsn, len(checksums))
    return xxhash.xxh3_128_digest(b"".join((_MAGIC, head, chain, *checksums)))


class StateDecoder:
    """Takes the chunks of a stream in order and gives the state. Raises CorruptSnapshot."""

    def __init__(self) -> None:
        self.checksums: list[bytes] = []
        self._head = bytearray()  # the stream's start, until the whole tree is there
        self._tree: Any = None
        self._arrays: list[npt.NDArray[Any]] = []
        self._open: list[memoryview] = []  # what is still to be filled, the next one last

    def add(self, content: bytes) -> None:
        """The next chunk, with its checksum behind it."""
        data, checksum = memoryview(content)[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if len(content) < CHECKSUM_BYTES or xxhash.xxh3_128_digest(data) != checksum:
            raise CorruptSnapshot(f"chunk {len(self.checksums)} does not match its checksum")
        self.checksums.append(checksum)
        if self._tree is None:
            self._head += data
            data = self._read_tree()
        while len(data):
            if not self._open:
                raise CorruptSnapshot(f"chunk {len(self.checksums) - 1} holds more than the state")
            target = self._open.pop()
            taken = min(len(target), len(data))
            target[:taken] = data[:taken]
            if taken < len(target):
                self._open.append(target[taken:])
            data = data[taken:]

    def finish(self) -> State:
        """The state, after the last chunk."""
        if self._tree is None or self._open:
            raise CorruptSnapshot(f"{len(self.checksums)} chunks are not the whole state")
        state = _from_tree(self._tree, self._arrays)
        if not isinstance(state, dict):
            raise CorruptSnapshot("the state is not a mapping")
        return state

    def _read_tree(self) -> memoryview:
        if len(self._head) < _HEADER.size:
            return memoryview(b"")
        magic, version, size = _HEADER.unpack_from(self._head)
        if magic != _MAGIC or version != FORMAT:
            raise CorruptSnapshot(f"not a snapshot of format {FORMAT}")
        end = _HEADER.size + size
        if len(self._head) < end:
            return memoryview(b"")
        try:
            self._tree = msgspec.msgpack.decode(self._head[_HEADER.size : end])
            _collect_arrays(self._tree, self._arrays)
        except (msgspec.DecodeError, ValueError, TypeError, LookupError) as exc:
            raise CorruptSnapshot(f"unreadable tree: {exc}") from exc
        self._open = [bytes_of(a) for a in reversed(self._arrays) if a.nbytes]
        return memoryview(bytes(self._head[end:]))


def _chunk(pieces: list[memoryview]) -> Chunk:
    digest = xxhash.xxh3_128()
    for piece in pieces:
        digest.update(piece)
    return Chunk(pieces, sum(map(len, pieces)), digest.digest())


def _to_tree(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value))
        described = [np.lib.format.dtype_to_descr(value.dtype), value.shape]
        return msgspec.msgpack.Ext(_ARRAY, _encoder.encode(described))
    if isinstance(value, dict):
        # Not as a map: its keys may be integers that need an extension.
        return {"": [_to_tree(part, arrays) for pair in value.items() for part in pair]}
    if isinstance(value, list | tuple):
        return [_to_tree(item, arrays) for item in value]
    if isinstance(value, np.integer):
        value = int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        size = value.bit_length() // 8 + 1
        return msgspec.msgpack.Ext(_INTEGER, value.to_bytes(size, "big", signed=True))
    return value


def _collect_arrays(value: Any, arrays: list[npt.NDArray[Any]]) -> None:
    """Makes the tree's arrays, empty, in the order in which `_to_tree` found them."""
    if isinstance(value, msgspec.msgpack.Ext) and value.code == _ARRAY:
        descr, shape = msgspec.msgpack.decode(value.data)
        arrays.append(np.empty(tuple(shape), _dtype(descr)))
    elif isinstance(value, dict):
        _collect_arrays(value[""], arrays)
    elif isinstance(value, list):
        for item in value:
            _collect_arrays(item, arrays)


def _dtype(descr: Any) -> np.dtype[Any]:
    if isinstance(descr, str):
        return np.dtype(descr)
    return np.dtype([(field[0], field[1], *(tuple(shape) for shape in field[2:])) for field in descr])


def _from_tree(value: Any, arrays: list[npt.NDArray[Any]], at: list[int] | None = None) -> Any:
    at = [0] if at is None else at
    if isinstance(value, msgspec.msgpack.Ext):
        if value.code == _INTEGER:
            return int.from_bytes(value.data, "big", signed=True)
        at[0] += 1
        return arrays[at[0] - 1]
    if isinstance(value, dict):
        parts = [_from_tree(part, arrays, at) for part in value[""]]
        return dict(zip(parts[::2], parts[1::2], strict=True))
    if isinstance(value, list):
        return [_from_tree(item, arrays, at) for item in value]
    return value
