"""The client without a server: ids, columns, batches, pauses, and what its errors say."""

import json
import pickle
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest

from engine.ids import bucket_of_id, is_uuid7, unix_ms_of
from engine.layout import CEILING_UNSET, FLOOR_UNSET, LegFlag, ids_list
from engine.results import Result
from gateway import arrow
from gateway.client import (
    Answers,
    Client,
    ClientError,
    InvalidColumns,
    RequestRefused,
    Retry,
    RowsRefused,
    Transport,
    Unavailable,
    new_account_ids,
    new_ids,
    to_ids,
    to_uuids,
)
from gateway.client.columns import ACCOUNTS, LEGS, batches, chains, columns_of, stream
from gateway.client.ids import Sequence
from gateway.client.transport import refusal

NUMBERS = {"GBP": 1, "EUR": 2}
UUIDS = [uuid4() for _ in range(3)]
INTS = [uuid.int for uuid in UUIDS]


def columns(given: Any, kind: Any = LEGS) -> dict[str, Any]:
    return columns_of(given, kind, NUMBERS.__getitem__)


# Ids


def test_new_ids_are_uuid7_of_now_at_home_where_the_debit_account_is() -> None:
    debit = new_account_ids(500)
    ids = ids_list(new_ids(500, debit, unix_ms=1_700_000_000_123))
    assert len(set(ids)) == 500
    for id, account in zip(ids, ids_list(debit), strict=True):
        assert is_uuid7(id)
        assert unix_ms_of(id) == 1_700_000_000_123
        assert bucket_of_id(id) == account >> 116


def test_a_post_is_at_home_where_its_hold_is() -> None:
    holds = new_ids(3, new_account_ids(3))
    debit = np.zeros((3, 2), np.uint64)
    debit[2] = new_account_ids(1)[0]
    posts = ids_list(new_ids(3, debit, holds))
    assert [bucket_of_id(id) for id in posts[:2]] == [bucket_of_id(id) for id in ids_list(holds[:2])]
    assert bucket_of_id(posts[2]) == int(debit[2, 0]) >> 52


def test_seeded_ids_repeat_and_others_do_not() -> None:
    one, other = (new_ids(9, unix_ms=1, random=np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(new_ids(9), new_ids(9))


def test_ids_of_one_millisecond_sort_as_they_were_made() -> None:
    ids = ids_list(new_ids(300, unix_ms=5))
    assert ids == sorted(ids)
    assert ids[-1] - ids[0] == 299


def test_a_sequence_goes_on_and_starts_again_after_its_last_number() -> None:
    sequence = Sequence((1 << 62) - 5)
    first, second = (ids_list(new_ids(4, unix_ms=5, sequence=sequence)) for _ in range(2))
    assert second[0] == first[-1] + 1
    assert all(is_uuid7(id) for id in second)
    assert [id % (1 << 62) for id in second] == [(1 << 62) - 1, 0, 1, 2]


@pytest.mark.parametrize(
    "given",
    [
        UUIDS,
        INTS,
        [str(uuid) for uuid in UUIDS],
        [str(uuid).upper() for uuid in UUIDS],
        [uuid.bytes for uuid in UUIDS],
        np.array(UUIDS, object),
        np.array([(i >> 64, i & (1 << 64) - 1) for i in INTS], np.uint64),
        np.frombuffer(b"".join(uuid.bytes for uuid in UUIDS), "V16"),
    ],
)
def test_ids_come_in_many_forms(given: Any) -> None:
    assert ids_list(to_ids(given)) == INTS
    assert to_uuids(to_ids(given)) == UUIDS


@pytest.mark.parametrize(
    "wrong", ["12", -1, 1 << 128, True, 1.5, b"short", [1.5], np.zeros(3), np.zeros((2, 3))]
)
def test_what_is_no_id_is_refused_naming_the_column(wrong: Any) -> None:
    with pytest.raises(InvalidColumns, match="debit"):
        to_ids(wrong, "debit")


# Columns


def as_dictionaries() -> list[dict[str, Any]]:
    return [
        {"id": UUIDS[0], "amount": 5, "asset": "GBP", "flags": LegFlag.LINKED},
        {"id": str(UUIDS[1]), "amount": 6, "asset": "EUR"},
        {"id": INTS[2], "amount": 7, "asset": "GBP"},
    ]


def as_table() -> pa.Table:
    return pa.table(
        {
            "id": pa.array([uuid.bytes for uuid in UUIDS], pa.binary(16)),
            "amount": pa.array([5, 6, 7], pa.int32()),
            "asset": pa.array(["GBP", "EUR", "GBP"]).dictionary_encode(),
            "flags": pa.array([1, 0, 0], pa.uint8()),
        }
    )


FORMS: list[Callable[[], Any]] = [
    as_dictionaries,
    as_table,
    lambda: as_table().to_batches()[0],
    lambda: pa.concat_tables([as_table().slice(0, 1), as_table().slice(1)]),
    lambda: {"id": UUIDS, "amount": np.array([5, 6, 7], np.int32), "asset": [1, 2, 1], "flags": [1, 0, 0]},
    lambda: {"id": INTS, "amount": pa.array([5, 6, 7]), "asset": ["GBP", "EUR", 1], "flags": [1, 0, 0]},
    lambda: as_table().set_column(
        0, "id", pa.ExtensionArray.from_storage(pa.uuid(), as_table()["id"].chunk(0))
    ),
]


@pytest.mark.parametrize("form", FORMS)
def test_rows_in_every_form_become_the_same_columns_and_the_same_stream(form: Callable[[], Any]) -> None:
    made = columns(form())
    sent = arrow.decode_legs(stream(made, slice(0, 3), LEGS))
    assert ids_list(sent.id) == INTS
    assert sent.amount.tolist() == [5, 6, 7]
    assert sent.asset.tolist() == [1, 2, 1]
    assert sent.flags.tolist() == [1, 0, 0]


def test_one_value_stands_for_all_rows() -> None:
    made = columns({"id": INTS, "debit": UUIDS[0], "credit": to_ids(INTS)[1], "amount": 9, "asset": "EUR"})
    sent = arrow.decode_legs(stream(made, slice(1, 3), LEGS))
    assert ids_list(sent.debit) == [INTS[0]] * 2
    assert ids_list(sent.credit) == [INTS[1]] * 2
    assert (sent.amount.tolist(), sent.asset.tolist()) == ([9, 9], [2, 2])


def test_limits_that_are_none_are_unset() -> None:
    made = columns({"id": INTS, "floor": [None, 0, -5], "ceiling": None}, ACCOUNTS)
    sent = arrow.decode_accounts(stream(made, slice(0, 3), ACCOUNTS))
    assert sent.floor.tolist() == [FLOOR_UNSET, 0, -5]
    assert sent.ceiling.tolist() == [CEILING_UNSET] * 3
    absent = columns([{"id": 1, "floor": 3}, {"id": 2}], ACCOUNTS)
    assert absent["floor"].tolist() == [3, FLOOR_UNSET]


@pytest.mark.parametrize(
    ("given", "column", "words"),
    [
        ({"id": INTS, "amuont": 1}, "amuont", "no such column"),
        ({"id": INTS, "amount": [1, 2]}, "columns", "different lengths"),
        ({"id": INTS, "amount": 1.5}, "amount", "no whole numbers"),
        ({"id": INTS, "amount": [1, True, "3"]}, "amount", "no whole numbers"),
        ({"id": INTS, "amount": [[1, 2, 3]]}, "amount", "shape"),
        ({"id": INTS, "amount": 2**63}, "amount", "out of range"),
        ({"id": INTS, "amount": [1, 2, 2**70]}, "amount", "out of range"),
        ({"id": INTS, "code": [1, -1, 1]}, "code", "out of range"),
        ({"id": INTS, "user_data_64": -1}, "user_data_64", "out of range"),
        (as_table().set_column(1, "amount", pa.array([1, None, 3])), "amount", "nulls"),
        (as_table().set_column(1, "amount", pa.array([1.0, 2.0, 3.0])), "amount", "double"),
    ],
)
def test_wrong_columns_are_named_before_anything_is_sent(given: Any, column: str, words: str) -> None:
    with pytest.raises(InvalidColumns, match=words) as raised:
        columns(given)
    assert raised.value.column == column


def test_no_digit_is_lost() -> None:
    largest = {"amount": 2**63 - 1, "user_data_64": 2**64 - 1, "user_data_32": 2**32 - 1, "code": 2**16 - 1}
    sent = arrow.decode_legs(stream(columns({"id": INTS} | largest), slice(0, 3), LEGS))
    for name, value in largest.items():
        assert getattr(sent, name).tolist() == [value] * 3


def test_batches_cut_no_chain() -> None:
    flags = np.array([0, 1, 1, 0, 0, 1, 0, 1], np.uint16)
    made: dict[str, Any] = {"id": np.zeros((8, 2), np.uint64), "flags": flags}
    assert batches(made, 3) == [slice(0, 1), slice(1, 4), slice(4, 7), slice(7, 8)]
    assert batches({"id": made["id"]}, 3) == [slice(0, 3), slice(3, 6), slice(6, 8)]
    with pytest.raises(InvalidColumns, match="chain"):
        batches(made, 2)
    assert list(chains(flags)) == [slice(1, 4), slice(5, 7), slice(7, 8)]
    assert list(chains(flags[:1])) == []


# Answers and errors


def answers(*statuses: Result) -> Answers:
    count = len(statuses)
    return Answers(
        ids=new_ids(count),
        status=np.array(statuses, np.uint8),
        timestamp=np.full(count, 10**18, np.int64),
        lsn=4,
    )


def test_answers_count_and_check() -> None:
    mixed = answers(Result.CREATED, Result.BELOW_FLOOR, Result.EXISTS, Result.BELOW_FLOOR)
    assert len(mixed) == 4
    assert mixed.accepted.tolist() == [True, False, True, False]
    assert mixed.refused.tolist() == [1, 3]
    assert mixed.results[1] is Result.BELOW_FLOOR
    assert mixed.counts() == {Result.CREATED: 1, Result.EXISTS: 1, Result.BELOW_FLOOR: 2}
    assert str(mixed.times()[0]) == "2001-09-09T01:46:40.000000000"
    with pytest.raises(RowsRefused, match=r"2 of 4 .* row 1, with below_floor"):
        mixed.check()
    good = answers(Result.CREATED, Result.EXISTS)
    assert good.check() is good


@pytest.mark.parametrize(
    "error",
    [
        ClientError("x"),
        RequestRefused(422, "invalid_field", "amount: wrong.", "amount", "a number"),
        Unavailable("nobody there", 7),
        RowsRefused(1, 2, 3, "below_floor"),
        InvalidColumns("amount", "wrong", ["right"]),
    ],
)
def test_errors_survive_pickling_with_their_facts(error: ClientError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # made here
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_problem_is_read_and_so_is_anything_else() -> None:
    body = json.dumps({"code": "invalid_field", "detail": "No.", "where": "[3].amount", "accepted": "yes"})
    problem = refusal(422, body.encode())
    assert (problem.code, problem.where, problem.accepted) == ("invalid_field", "[3].amount", "yes")
    for junk in (b"<html>", b"\xff", b"[]", b"{}", b"null", b""):
        assert refusal(502, junk).code == "http_502"


# Trying again


def test_pauses_are_spread_out() -> None:
    retry = Retry(first_s=1.0, longest_s=60.0)
    assert retry.pause(3, 0.0, lambda: 0.0) == 0.0
    assert retry.pause(3, 0.0, lambda: 0.5) == 2.0
    assert retry.pause(10_000, 2.0, lambda: 1.0) == 62.0


def test_settings_that_make_no_sense_are_refused() -> None:
    for url in ("127.0.0.1:8330", "ftp://host", "http://"):
        with pytest.raises(ValueError, match="address"):
            Transport(url)
    with pytest.raises(ValueError, match="connections"):
        Client(connections=0)
    with pytest.raises(ValueError, match="batch_rows"):
        Client(batch_rows=65_537)
    with Client() as client, pytest.raises(TypeError, match="not both"):
        client.post_legs([], amount=1)


def test_no_rows_need_no_server() -> None:
    with Client("http://127.0.0.1:1") as client:
        assert len(client.post_legs([])) == 0
        assert len(client.post_legs(as_table().slice(0, 0).select(["id", "amount"]))) == 0
