"""Ids: valid UUIDs, the right bucket, no collisions, and the same for ever."""

import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import ids
from engine.layout import ids_column, ids_list

UINT62 = st.integers(0, 2**62 - 1)
ANY_ID = st.integers(0, 2**128 - 1)


@given(st.integers(0, 2**48 - 1), st.integers(0, 4095), UINT62)
def test_uuid7_is_valid_and_carries_its_parts(unix_ms: int, bucket: int, rand62: int) -> None:
    made = ids.uuid7(unix_ms, bucket, rand62)
    standard = uuid.UUID(int=made)
    assert standard.version == 7
    assert standard.variant == uuid.RFC_4122
    assert ids.is_uuid7(made)
    assert ids.unix_ms_of(made) == unix_ms
    assert ids.bucket_of_id(made) == bucket
    assert made & (2**62 - 1) == rand62


@pytest.mark.parametrize("parts", [(2**48, 0, 0), (-1, 0, 0), (0, 4096, 0), (0, -1, 0), (0, 0, 2**62)])
def test_uuid7_refuses_parts_that_do_not_fit(parts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="no UUIDv7 holds"):
        ids.uuid7(*parts)


@given(ANY_ID)
def test_text_and_bytes_round_trip(id: int) -> None:
    text = ids.format_id(id)
    assert text == str(uuid.UUID(int=id))
    assert ids.parse_id(text) == ids.parse_id(text.upper()) == id
    assert ids.id_from_bytes(ids.id_bytes(id)) == id
    assert ids_list(ids_column([id])) == [id]


@pytest.mark.parametrize("text", ["", "bob", "01902b3c7d007abc8def0123456789ab", " 01902b3c", "\u0660" * 36])
def test_other_text_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="expected a UUID"):
        ids.parse_id(text)


def test_known_answers() -> None:
    """These values are in databases: a change of any of them loses accounts."""
    party = ids.uuid7(1_700_000_000_000, 0, 7)
    request = ids.uuid7(1, 2, 3)
    assert ids.bucket_of_party("t", party) == 2389
    assert ids.account_id(5, "t", "A:psp", 1) == 0x005ED7168056410F3FC5B1E527447E25
    assert [ids.leg_id(request, n) for n in (0, 1)] == [
        0x0000000000017002_91A829CAD43D2C82,
        0x0000000000017002_B85B3094FC73873C,
    ]
    assert ids.format_id(ids.id_of_text("t", "x")) == "57701972-62fe-8eca-9742-65d1624fea1d"


def test_account_ids_are_distinct_and_in_their_bucket() -> None:
    keys = [f"I:owned/{n}" for n in range(300)]
    hashes = ids.key_hashes([ids.key_hash("t", key) for key in keys])
    assets = np.arange(1, 101, dtype=np.uint32)
    made = ids.account_ids(
        np.full(30_000, 4095, np.uint64), np.repeat(hashes, 100, axis=0), np.tile(assets, 300)
    )
    as_integers = ids_list(made)
    assert len(set(as_integers)) == 30_000
    assert {ids.bucket_of_account(id) for id in as_integers} == {4095}
    assert as_integers[205] == ids.account_id(4095, "t", keys[2], 6)


def test_account_id_depends_on_every_part() -> None:
    parts = [(1, "t", "A:psp", 1), (2, "t", "A:psp", 1), (1, "u", "A:psp", 1), (1, "t", "A:ps", 1)]
    assert len({ids.account_id(*part) for part in [*parts, (1, "t", "A:psp", 2)]}) == 5


@given(ANY_ID, st.integers(0, 2**31), st.integers(1, 50))
def test_leg_ids_share_the_home_of_their_request(request_id: int, start: int, count: int) -> None:
    made = ids_list(ids.leg_ids(request_id, start, count))
    assert len(set(made)) == count
    assert {id >> 64 for id in made} == {request_id >> 64}
    assert all((id >> 62) & 3 == 2 for id in made)
    assert made == [ids.leg_id(request_id, start + n) for n in range(count)]


def test_leg_ids_of_many_requests_are_those_of_each() -> None:
    requests = [ids.uuid7(1_700_000_000_000, 9, n) for n in range(200)]
    counts = np.array([n % 7 for n in range(200)], np.int64)
    together = ids_list(ids.leg_ids_of_many(requests, counts))
    apart = [
        id
        for request, count in zip(requests, counts.tolist(), strict=True)
        for id in ids_list(ids.leg_ids(request, 0, count))
    ]
    assert together == apart
    assert len(set(together)) == len(together)
    assert len(ids.leg_ids_of_many([], np.zeros(0, np.int64))) == 0


def test_leg_ids_of_one_request_never_collide() -> None:
    made = ids.leg_ids(ids.uuid7(1_700_000_000_000, 0, 1), 0, 200_000)
    assert len(np.unique(made[:, 1])) == 200_000


def test_buckets_are_evenly_used() -> None:
    counts = np.bincount(
        [ids.bucket_of_party("t", ids.uuid7(n, 0, n)) for n in range(40_960)], minlength=4096
    )
    assert counts.max() < 40


def test_id_of_text_is_stable_scoped_and_no_uuid7() -> None:
    first = ids.id_of_text("t", "order-1")
    assert first == ids.id_of_text("t", "order-1")
    assert first not in {ids.id_of_text("u", "order-1"), ids.id_of_text("t", "order-2")}
    assert uuid.UUID(int=first).version == 8
    assert not ids.is_uuid7(first)
