"""The log record: what is written is read, and nothing else is."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.facts import PartyFact
from engine.layout import ACCOUNT_FACT, GUARD_FACT, LEG_FACT
from engine.record import CorruptRecord, Record, chain_hash, decode, encode


def _random_rows(rng: np.random.Generator, dtype: np.dtype[np.void], count: int, span: int) -> np.ndarray:
    rows = np.zeros(count, dtype)
    for name in dtype.names or ():
        if name.startswith("_"):
            continue
        info = np.iinfo(rows[name].dtype)
        low = (
            int(rng.integers(info.min, info.max - span, dtype=rows[name].dtype, endpoint=True))
            if span < info.max
            else 0
        )
        rows[name] = rng.integers(
            low, min(low + span, info.max), count, dtype=rows[name].dtype, endpoint=True
        )
    return rows


def _record(seed: int, accounts: int, guards: int, legs: int, span: int) -> Record:
    rng = np.random.default_rng(seed)
    return Record(
        shard=3,
        lsn=7,
        epoch=2,
        time=1_700_000_000_000_000_000,
        generation=1,
        dropped=1,
        previous=bytes(range(16)),
        accounts=_random_rows(rng, ACCOUNT_FACT, accounts, span),
        keys=[f"L:order/{i}" for i in range(accounts)],
        guards=_random_rows(rng, GUARD_FACT, guards, span),
        legs=_random_rows(rng, LEG_FACT, legs, span),
        events=[PartyFact(id=bytes(16), kind="person", name="A", profile=b"{}", version=1, timestamp=5)],
    )


def _assert_equal(one: Record, other: Record) -> None:
    for field in msgspec.structs.fields(Record):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            for name in left.dtype.names or ():
                np.testing.assert_array_equal(left[name], right[name], err_msg=f"{field.name}.{name}")
        else:
            assert left == right, field.name


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    counts=st.tuples(*[st.sampled_from([0, 1, 31, 32, 33, 200])] * 3),
    span=st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**62]),
)
def test_what_is_encoded_is_decoded(seed: int, counts: tuple[int, int, int], span: int) -> None:
    record = _record(seed, *counts, span)
    _assert_equal(decode(encode(record)), record)


def test_a_simple_leg_takes_few_bytes() -> None:
    rng = np.random.default_rng(1)
    legs = np.zeros(8_190, LEG_FACT)
    legs["id_hi"] = rng.integers(0, 2**63, len(legs))
    legs["id_lo"] = rng.integers(0, 2**63, len(legs))
    legs["debit"] = rng.integers(0, 1_000_000, len(legs))
    legs["credit"] = rng.integers(0, 1_000_000, len(legs))
    legs["amount"] = rng.integers(1, 100_000_000, len(legs))
    legs["code"] = 1
    legs["timestamp"] = 1_700_000_000_000_000_000 + np.arange(len(legs))
    assert len(encode(Record(shard=0, lsn=1, epoch=1, time=0, legs=legs))) / len(legs) <= 40


def test_every_changed_byte_is_noticed() -> None:
    payload = encode(_record(1, 2, 1, 40, 1_000))
    for at in range(len(payload)):
        with pytest.raises(CorruptRecord):
            decode(payload[:at] + bytes([payload[at] ^ 0x10]) + payload[at + 1 :])
    for length in range(0, len(payload), 7):
        with pytest.raises(CorruptRecord):
            decode(payload[:length])


def test_a_record_hashes_to_what_the_next_one_carries() -> None:
    first = encode(Record(shard=0, lsn=1, epoch=1, time=0))
    second = decode(encode(Record(shard=0, lsn=2, epoch=1, time=0, previous=chain_hash(first))))
    assert second.previous == chain_hash(first)
    assert len(second.previous) == 16
