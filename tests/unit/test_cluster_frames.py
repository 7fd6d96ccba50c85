"""Frames come out as they went in, however the stream is cut; and nothing else is taken for one."""

import asyncio
from random import Random
from typing import Any, cast

import numpy as np
import pytest

from actors.cluster.frames import (
    FRAME_BYTES_MAX,
    MAGIC,
    PREFIX,
    SCRATCH_BYTES,
    STRANGER_BYTES_MAX,
    Buffers,
    FrameProtocol,
    FrameRefused,
    frame,
)

Column = np.ndarray[Any, Any]


class Transport:
    """Notes what becomes of the connection."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Reader(FrameProtocol):
    """Keeps the frames that come."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        super().__init__()
        self.frame_bytes_max = frame_bytes_max
        self.frames: list[tuple[bytes, Buffers]] = []
        self.refusals: list[str] = []
        self.connection = Transport()
        self.connection_made(cast(asyncio.BaseTransport, self.connection))

    def frame_received(self, head: memoryview, buffers: Buffers) -> None:
        self.frames.append((bytes(head), buffers))

    def refused(self, refusal: FrameRefused) -> None:
        self.refusals.append(str(refusal))

    def feed(self, stream: bytes, sizes: list[int]) -> None:
        """Let it read the stream in pieces, the last of which takes the rest."""
        at = 0
        while at < len(stream) and not self.connection.aborted:
            place = self.get_buffer(-1)
            size = min(len(place), len(stream) - at, sizes.pop(0) if sizes else len(stream))
            place[:size] = stream[at : at + size]
            self.buffer_updated(size)
            at += size


def joined(head: bytes, *buffers: Column) -> bytes:
    return b"".join(frame(head, list(buffers)))


@pytest.mark.parametrize("seed", range(20))
def test_frames_survive_any_cut_of_the_stream(seed: int) -> None:
    chance = Random(seed)
    sent: list[tuple[bytes, Column, Column]] = []
    for number in range(chance.randrange(1, 30)):
        head = b"%d" % number * chance.choice((1, 3, 100, 5_000))
        rows = chance.choice((0, 1, 7, 1_000, 30_000))
        sent.append((head, np.arange(rows, dtype=np.uint64), np.arange(rows, dtype=np.uint8)))
    stream = b"".join(joined(head, wide, narrow) for head, wide, narrow in sent)
    reader = Reader()
    reader.feed(stream, [chance.choice((1, 2, 15, 16, 17, 4_000, 100_000)) for _ in range(500)])
    assert len(reader.frames) == len(sent)
    for (head, wide, narrow), (found, buffers) in zip(sent, reader.frames, strict=True):
        assert found == head
        assert np.array_equal(buffers.take(np.uint64, wide.shape), wide)
        assert np.array_equal(buffers.take(np.uint8, narrow.shape), narrow)
        with pytest.raises(FrameRefused, match="lacks 8 bytes"):
            buffers.take(np.uint64, (1,))


def test_columns_are_read_into_place_and_can_be_written() -> None:
    column = np.arange(SCRATCH_BYTES, dtype=np.int64)
    reader = Reader()
    reader.feed(joined(b"{}", column), [])
    (_, buffers) = reader.frames[0]
    found = buffers.take(np.int64, (len(column) // 2, 2))
    assert found.flags.aligned
    assert found.flags.c_contiguous
    found[0] = 7


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"GET /v1/health HTTP/1.1\r\n\r\n", "not a frame"),
        (PREFIX.pack(b"TSF9", 2, 0), "not a frame"),
        (PREFIX.pack(MAGIC, 2**32 - 1, 0), "not a frame"),
        (PREFIX.pack(MAGIC, 8, STRANGER_BYTES_MAX), f"a frame of {STRANGER_BYTES_MAX + 8} bytes"),
    ],
)
def test_what_is_no_frame_ends_the_connection(stream: bytes, said: str) -> None:
    reader = Reader(STRANGER_BYTES_MAX)
    reader.feed(stream, [])
    assert reader.connection.aborted
    assert len(reader.refusals) == 1
    assert said in reader.refusals[0]
    assert reader.frames == []


@pytest.mark.parametrize("shape", [(-1,), (2, -3), (2**40, 2**40)])
def test_impossible_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameRefused):
        Buffers(np.zeros(64, np.uint8)).take(np.uint64, shape)
