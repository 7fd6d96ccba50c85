"""A state survives its way through chunks, and no byte of them can change unseen."""

from typing import Any

import numpy as np
import pytest

from engine.layout import ACCOUNT, LEG_FACT
from persistence import snapshot_codec
from persistence.snapshot_codec import CorruptSnapshot, State, StateDecoder, encode_state, manifest


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_codec, "CHUNK_BYTES_MAX", 700)


def example() -> State:
    return {
        "numbers": np.arange(500),
        "accounts": np.ones(7, ACCOUNT),
        "none": np.empty((0, 2), np.uint64),
        "zero": np.array(5, np.int32),
        "legs": np.ones(33, LEG_FACT)[::3],
        "tree": {"list": [1, 2**100, -(2**70), -1, b"bytes", None, True, "text", 2**64 - 1, -(2**63)]},
        "by id": {2**127: np.arange(6, dtype="u4").reshape(2, 3), 3: {"": []}},
    }


def chunks_of(state: State) -> list[bytes]:
    return [b"".join(chunk.pieces) + chunk.checksum for chunk in encode_state(state)]


def decoded(chunks: list[bytes]) -> State:
    decoder = StateDecoder()
    for chunk in chunks:
        decoder.add(chunk)
    return decoder.finish()


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def test_a_state_comes_back_as_it_was() -> None:
    chunks = chunks_of(example())
    assert len(chunks) > 5
    assert all(len(chunk) == 700 + 16 for chunk in chunks[:-1])
    assert_same(decoded(chunks), example())


@pytest.mark.parametrize("size", [1, 20, 24, 25, 10_000_000])
def test_the_size_of_chunks_does_not_matter(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_codec, "CHUNK_BYTES_MAX", size)
    assert_same(decoded(chunks_of(example())), example())


def test_what_comes_back_can_be_written_to() -> None:
    state = decoded(chunks_of(example()))
    state["numbers"][0] = 7
    assert state["numbers"][0] == 7


def test_no_byte_can_change_unseen() -> None:
    chunks = chunks_of({"a": np.arange(200), "b": [1, 2]})
    for number, chunk in enumerate(chunks):
        for place in range(len(chunk)):
            changed = chunk[:place] + bytes([chunk[place] ^ 1]) + chunk[place + 1 :]
            with pytest.raises(CorruptSnapshot):
                decoded([*chunks[:number], changed, *chunks[number + 1 :]])


def test_chunks_that_are_missing_too_many_or_in_another_order() -> None:
    chunks = chunks_of(example())
    for wrong in (
        chunks[:-1],
        [*chunks, chunks[-1]],
        chunks[1:],
        [b""],
        [],
        [chunks[0][:10]],
    ):
        with pytest.raises(CorruptSnapshot):
            decoded(wrong)
    swapped = [*chunks[:-3], chunks[-2], chunks[-3], chunks[-1]]
    decoder = StateDecoder()
    for chunk in swapped:
        decoder.add(chunk)
    right = [chunk[-16:] for chunk in chunks]
    assert manifest(0, 5, b"chain", decoder.checksums) != manifest(0, 5, b"chain", right)


def test_the_manifest_says_where_a_snapshot_belongs() -> None:
    sums = [b"1" * 16, b"2" * 16]
    manifests = {
        manifest(shard, lsn, chain, checksums)
        for shard in (0, 1)
        for lsn in (5, 6)
        for chain in (b"a" * 16, b"b" * 16)
        for checksums in (sums, sums[::-1], sums[:1])
    }
    assert len(manifests) == 24
