"""Frames: what the processes of a cluster send each other over a stream.

    frame    := prefix head padding (buffer padding)*
    prefix   := magic "TSF1", u32 bytes of the head, u64 bytes of everything after the head's padding
    padding  := zeros up to the next multiple of 8 bytes

Integers are little-endian. The head is JSON (`actors.cluster.wire`): it says what the buffers are, and
thereby how long each is. Buffers are the memory of columns. They are written from where they are and read
into place, so that a column is never copied or looked at on its way; both ends are little-endian machines.
"""

import asyncio
import struct
from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from actors.errors import ActorError

MAGIC: Final = b"TSF1"
PREFIX: Final = struct.Struct("<4sIQ")
HEAD_BYTES_MAX: Final = 64 << 20
FRAME_BYTES_MAX: Final = 4 << 30
"""The largest frame that is taken from somebody who has proved who they are."""
STRANGER_BYTES_MAX: Final = 4 << 10
"""The largest frame that is taken from anybody else."""
SCRATCH_BYTES: Final = 64 << 10
ALIGNMENT: Final = 8

Memory = bytes | memoryview
_PADDING: Final = tuple(bytes(count) for count in range(ALIGNMENT))


class FrameRefused(ActorError):  # noqa: N818  # says what happened
    """Bytes that are no frame, or one that is too large; the connection can't be used any more."""


def padded(size: int) -> int:
    """The next multiple of 8."""
    return size + -size % ALIGNMENT


def frame(head: bytes, buffers: Sequence[npt.NDArray[Any]] = ()) -> list[Memory]:
    """The pieces of a frame, in order. The buffers must not change until they are written."""
    pieces: list[Memory] = [b"", head, _PADDING[-len(head) % ALIGNMENT]]
    size = 0
    for buffer in buffers:
        memory = np.ascontiguousarray(buffer).data.cast("B") if buffer.size else memoryview(b"")
        size += padded(len(memory))
        pieces += (memory, _PADDING[-len(memory) % ALIGNMENT])
    pieces[0] = PREFIX.pack(MAGIC, len(head), size)
    return [piece for piece in pieces if len(piece)]


class Buffers:
    """The buffers of a frame, to be taken in order. They share the frame's memory."""

    def __init__(self, memory: npt.NDArray[np.uint8]) -> None:
        self._memory = memory
        self._at = 0

    def take(self, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The next buffer as an array. Raises FrameRefused if the frame has less."""
        kind = np.dtype(dtype)
        size = kind.itemsize
        for count in shape:
            if count < 0:
                raise FrameRefused(f"an array of shape {shape}")
            size *= count
        end = self._at + size
        if end > len(self._memory):
            raise FrameRefused(f"a frame lacks {end - len(self._memory)} bytes of its columns")
        found = self._memory[self._at : end].view(kind).reshape(shape)
        self._at = padded(end)
        return found

    def skip(self, size: int) -> None:
        """Pass over so many bytes of buffers."""
        self._at += size


class FrameProtocol(asyncio.BufferedProtocol):
    """Reads frames from a stream. Small ones are gathered in one buffer; a large one is read into place."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.frame_bytes_max = STRANGER_BYTES_MAX
        self._scratch = bytearray(SCRATCH_BYTES)
        self._scratch_view = memoryview(self._scratch)
        self._end = 0  # of what is in the scratch buffer
        self._body: npt.NDArray[np.uint8] | None = None  # of the frame that is being read into place
        self._body_view = memoryview(b"")
        self._filled = 0
        self._head_bytes = 0

    # For subclasses

    def frame_received(self, head: memoryview, buffers: Buffers) -> None:
        """A frame is there. FrameRefused drops the connection."""
        raise NotImplementedError

    def refused(self, refusal: FrameRefused) -> None:
        """What came is no frame; the connection is being dropped."""

    def send(self, pieces: Sequence[Memory]) -> None:
        """Write a frame."""
        self.transport.writelines(pieces)

    # From the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is there."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # we know better
        """Where to read to."""
        if self._body is not None:
            return self._body_view[self._filled :]
        return self._scratch_view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have been read."""
        try:
            if self._body is None:
                self._end += nbytes
                self._take_frames()
            else:
                self._filled += nbytes
                if self._filled == len(self._body):
                    body, self._body = self._body, None
                    self._give(body, self._head_bytes)
        except FrameRefused as refusal:
            self.refused(refusal)
            self.transport.abort()

    def _take_frames(self) -> None:
        at = 0
        while self._end - at >= PREFIX.size:
            magic, head_bytes, buffer_bytes = PREFIX.unpack_from(self._scratch, at)
            size = padded(head_bytes) + buffer_bytes
            if magic != MAGIC or head_bytes > HEAD_BYTES_MAX:
                raise FrameRefused("this is not a frame of Tessera")
            if size > self.frame_bytes_max:
                raise FrameRefused(f"a frame of {size} bytes; {self.frame_bytes_max} are taken")
            at += PREFIX.size
            body = np.empty(size, np.uint8)
            here = min(size, self._end - at)
            body[:here] = np.frombuffer(self._scratch, np.uint8, here, at)
            at += here
            if here < size:
                self._body, self._body_view = body, body.data
                self._filled, self._head_bytes = here, head_bytes
                break
            self._give(body, head_bytes)
        left = self._end - at
        self._scratch[:left] = self._scratch[at : self._end]
        self._end = left

    def _give(self, body: npt.NDArray[np.uint8], head_bytes: int) -> None:
        self.frame_received(body.data[:head_bytes], Buffers(body[padded(head_bytes) :]))
