"""Arrow streams: what is accepted, how it becomes columns, and that nothing hostile gets any further."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from actors.answers import LegAnswers
from engine.ids import uuid7
from engine.layout import (
    ACCOUNT_COLUMN_SPEC,
    CEILING_UNSET,
    FLOOR_UNSET,
    LEG_COLUMN_SPEC,
    LegColumns,
    ids_list,
)
from engine.results import Result
from gateway import arrow
from gateway.arrow_schema import ACCOUNT_SCHEMA, LEG_SCHEMA, RESULTS_KEY, ROWS_MAX
from gateway.problems import Problem

MUTATIONS = 6_000
IDS = [uuid7(1_700_000_000_000 + n, n, n * 7) for n in range(5)]


def id_column(ids: list[int]) -> pa.Array:
    return pa.array([id.to_bytes(16, "big") for id in ids], pa.binary(16))


def stream(*batches: pa.RecordBatch, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    """An Arrow stream of these batches."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    whole: bytes = sink.getvalue().to_pybytes()
    return whole


def legs(count: int = 5, **more: Any) -> pa.RecordBatch:
    """Some legs, with the columns that most clients send and the given ones."""
    ids = (IDS * (count // 5 + 1))[:count]
    columns = {
        "id": id_column(ids),
        "debit": id_column(ids),
        "credit": id_column(ids),
        "amount": pa.array(range(count), pa.int64()),
        "asset": pa.array([1] * count, pa.uint32()),
        "code": pa.array([7] * count, pa.uint16()),
    }
    return pa.record_batch(columns | more)


def refusal(body: bytes, decode: Callable[[bytes], Any] = arrow.decode_legs) -> Problem:
    """The problem with a body."""
    with pytest.raises(Problem) as raised:
        decode(body)
    return raised.value


# What is accepted


def test_every_column_of_a_leg_comes_through() -> None:
    sent: dict[str, Any] = {}
    for number, (name, (width, kind)) in enumerate(LEG_COLUMN_SPEC.items(), 1):
        values = [id + number for id in IDS] if width == 2 else [number * 10 + row for row in range(5)]
        sent[name] = id_column(values) if width == 2 else pa.array(values, pa.from_numpy_dtype(kind))
    columns = arrow.decode_legs(stream(pa.record_batch(sent)))
    for number, (name, (width, kind)) in enumerate(LEG_COLUMN_SPEC.items(), 1):
        column = getattr(columns, name)
        assert column.dtype == kind
        assert column.flags.c_contiguous
        assert column.flags.owndata or column.base.flags.owndata
        if width == 2:
            assert ids_list(column) == [id + number for id in IDS]
        else:
            assert column.tolist() == [number * 10 + row for row in range(5)]


def test_columns_left_out_have_their_defaults() -> None:
    columns = arrow.decode_legs(stream(pa.record_batch({"id": id_column(IDS)})))
    for name, (width, kind) in LEG_COLUMN_SPEC.items():
        column = getattr(columns, name)
        assert column.shape == ((5, 2) if width == 2 else (5,))
        assert column.dtype == kind
        assert name == "id" or not column.any()
    accounts = arrow.decode_accounts(stream(pa.record_batch({"id": id_column(IDS)})))
    assert accounts._fields == tuple(ACCOUNT_COLUMN_SPEC)
    assert set(accounts.floor.tolist()) == {FLOOR_UNSET}
    assert set(accounts.ceiling.tolist()) == {CEILING_UNSET}


def test_columns_may_come_in_any_order_and_in_several_batches() -> None:
    turned = legs().select(["code", "amount", "credit", "asset", "id", "debit"])
    columns = arrow.decode_legs(stream(turned, turned.slice(0, 0), turned.slice(1, 3)))
    assert columns.amount.tolist() == [0, 1, 2, 3, 4, 1, 2, 3]
    assert ids_list(columns.id) == [*IDS, *IDS[1:4]]


def test_a_full_request_is_accepted_and_one_more_row_is_not() -> None:
    full = pa.record_batch({"id": pa.array([bytes(16)] * ROWS_MAX, pa.binary(16))})
    assert len(arrow.decode_legs(stream(full)).amount) == ROWS_MAX
    problem = refusal(stream(full, full.slice(0, 1)))
    assert (problem.status, problem.code) == (413, "too_many_items")
    assert str(ROWS_MAX) in problem.accepted
    assert len(stream(pa.record_batch([full.column(0)] * 5, names=list("abcde")))) < arrow.BODY_BYTES_MAX


# What is not


WRONG_COLUMNS: list[tuple[str, pa.Array, str]] = [
    ("amount", pa.array([1.0] * 5), "double"),
    ("amount", pa.array([1] * 5, pa.int32()), "int32"),
    ("amount", pa.array([1] * 5, pa.uint64()), "uint64"),
    ("amount", pa.array(["1"] * 5), "string"),
    ("amount", pa.array([1] * 5, pa.decimal128(20)), "decimal"),
    ("amount", pa.array([1] * 5).dictionary_encode(), "dictionary"),
    ("amount", pa.nulls(5), "null"),
    ("amount", pa.array([[1]] * 5), "list"),
    ("amount", pa.array([{"x": 1}] * 5), "struct"),
    ("amount", pa.RunEndEncodedArray.from_arrays([5], [1]), "run_end_encoded"),
    ("asset", pa.array(["GBP"] * 5), "string"),
    ("code", pa.array([True] * 5), "bool"),
    ("timestamp", pa.array([1] * 5, pa.timestamp("ns")), "timestamp"),
    ("debit", pa.array([b"x" * 16] * 5), "binary"),
    ("debit", pa.array([b"x" * 15] * 5, pa.binary(15)), "fixed_size_binary[15]"),
    ("debit", pa.array(["x"] * 5).cast(pa.string_view()), "string_view"),
    ("debit", pa.ExtensionArray.from_storage(pa.uuid(), id_column(IDS)), "arrow.uuid"),
]


@pytest.mark.parametrize(("name", "column", "given"), WRONG_COLUMNS)
def test_another_type_is_refused_naming_the_column(name: str, column: pa.Array, given: str) -> None:
    problem = refusal(stream(legs(**{name: column})))
    assert (problem.status, problem.code, problem.where) == (422, "invalid_field", name)
    assert given in problem.detail
    assert problem.accepted == str(LEG_SCHEMA.field(name).type)


def test_an_unknown_extension_of_a_known_type_is_refused() -> None:
    batch = legs()
    field = batch.schema.field("amount").with_metadata({"ARROW:extension:name": "money"})
    problem = refusal(stream(batch.cast(batch.schema.set(3, field))))
    assert (problem.code, problem.where) == ("invalid_field", "amount")
    assert "extension" in problem.detail


def test_unknown_missing_and_repeated_columns_are_named() -> None:
    problem = refusal(stream(legs(ammount=pa.array([1] * 5))))
    assert (problem.status, problem.code, problem.where) == (422, "unknown_field", "ammount")
    assert "amount" in problem.accepted
    problem = refusal(stream(legs(**{"x" * 5_000: pa.array([1] * 5)})))
    assert len(problem.where) < 100
    problem = refusal(stream(pa.record_batch({"amount": pa.array([1])})))
    assert (problem.status, problem.code, problem.where) == (422, "missing_field", "id")
    twice = pa.record_batch([id_column(IDS)] * 2, names=["id", "id"])
    assert refusal(stream(twice)).where == "id"
    assert refusal(stream(legs()), arrow.decode_accounts).where == "debit"


@pytest.mark.parametrize("name", ["id", "amount", "code"])
@pytest.mark.parametrize("row", [0, 3, 11])
def test_a_null_is_refused_naming_column_and_row(name: str, row: int) -> None:
    values = legs(12).column(name).to_pylist()
    values[row] = None
    column = pa.array(values, LEG_SCHEMA.field(name).type)
    problem = refusal(stream(legs(12, **{name: column})))
    assert (problem.status, problem.code, problem.where) == (422, "invalid_field", f"[{row}].{name}")
    assert "null" in problem.detail
    problem = refusal(stream(legs(12), legs(12, **{name: column})))
    assert problem.where == f"[{12 + row}].{name}"


def test_a_negative_version_is_refused_naming_column_and_row() -> None:
    problem = refusal(stream(legs(if_credit_version=pa.array([0, 1, -1, 2, -3]))))
    assert (problem.code, problem.where) == ("invalid_field", "[2].if_credit_version")


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compression_is_refused_before_anything_is_unpacked(codec: str) -> None:
    bomb = pa.record_batch({"id": pa.array([bytes(16)] * ROWS_MAX, pa.binary(16))})
    body = stream(bomb, options=pa.ipc.IpcWriteOptions(compression=codec))
    assert len(body) < 20_000
    before = pa.total_allocated_bytes()
    problem = refusal(body)
    assert (problem.status, problem.code) == (400, "malformed_arrow")
    assert "compressed" in problem.detail
    assert pa.total_allocated_bytes() - before < len(body)


def test_no_rows_and_too_many_batches() -> None:
    problem = refusal(stream(legs().slice(0, 0)))
    assert (problem.status, problem.code, problem.where) == (422, "invalid_field", "body")
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, LEG_SCHEMA).close()
    assert refusal(sink.getvalue().to_pybytes()).code == "invalid_field"
    problem = refusal(stream(*[legs(1)] * (arrow.BATCHES_MAX + 1)))
    assert (problem.status, problem.code) == (413, "too_many_items")


def test_other_formats_and_versions_are_no_streams() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, LEG_SCHEMA) as writer:
        writer.close()
    old = [
        pa.ipc.IpcWriteOptions(use_legacy_format=True),
        pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4),
    ]
    bodies = [sink.getvalue().to_pybytes(), *(stream(legs(), options=options) for options in old)]
    for body in [*bodies, b"", b"[]", b"\xff" * 64, bytes(64), arrow.END, legs().serialize().to_pybytes()]:
        problem = refusal(body)
        assert (problem.status, problem.code, problem.where) == (400, "malformed_arrow", "body")


def test_a_stream_cut_off_anywhere_is_refused() -> None:
    body = stream(legs(), legs(3))
    for length in range(len(body)):
        problem = refusal(body[:length])
        assert 400 <= problem.status < 500


def test_bytes_after_the_end_are_refused() -> None:
    for more in (b"x", b"\0" * 8, stream(legs())):
        problem = refusal(stream(legs()) + more)
        assert (problem.status, problem.code) == (400, "malformed_arrow")
        assert "follow" in problem.detail


def test_a_dictionary_batch_and_a_second_schema_are_refused() -> None:
    whole = stream(legs())
    head = LEG_SCHEMA.serialize().to_pybytes()
    assert "schema" in refusal(head + head + whole[-8:]).detail
    with_dictionary = stream(pa.record_batch({"id": id_column(IDS).dictionary_encode()}))
    messages = list(pa.ipc.MessageReader.open_stream(with_dictionary))
    assert [message.type for message in messages] == ["schema", "dictionary", "record batch"]
    swapped = id_only_head() + messages[1].serialize().to_pybytes() + arrow.END
    assert "dictionary" in refusal(swapped).detail


def id_only_head() -> bytes:
    head: bytes = pa.schema([LEG_SCHEMA.field("id")]).serialize().to_pybytes()
    return head


# A header that promises what the body does not have


def numbers_in(body: bytes, value: int) -> list[int]:
    """Where a number stands in a message's metadata, as 64 bits."""
    wanted = struct.pack("<q", value)
    return [at for at in range(len(body) - 7) if body[at : at + 8] == wanted]


@pytest.mark.parametrize("promised", [12, 4_096, 65_536, 65_537, 2**31, 2**62, 2**63 - 1, -1, -(2**63)])
def test_a_header_that_promises_other_rows_than_there_are(promised: int) -> None:
    """Everywhere that the header says 11 rows, and everywhere at once."""
    body = stream(legs(11))
    places = numbers_in(body, 11)
    assert len(places) >= 7, "the batch's length and each column's"
    for chosen in [[place] for place in places] + [places]:
        forged = bytearray(body)
        for place in chosen:
            forged[place : place + 8] = struct.pack("<q", promised)
        check_hostile(bytes(forged), rows_max=11)


def test_missing_bytes_of_a_column_are_named_by_column_and_row() -> None:
    """Every buffer is shortened, in turn, to half of what the rows need."""
    body = stream(legs(64))
    named = set()
    for size in (64 * 16, 64 * 8, 64 * 4, 64 * 2):
        for place in numbers_in(body, size):
            forged = body[:place] + struct.pack("<q", size // 2) + body[place + 8 :]
            _, problem = decoded(forged)
            if problem is not None and problem.where != "body":  # else it was an offset
                assert problem.where.startswith("[32].")
                named.add(problem.where.removeprefix("[32]."))
    assert named == set(legs().schema.names)


# Anything


def decoded(body: bytes) -> tuple[LegColumns | None, Problem | None]:
    """The legs, or the problem with them."""
    try:
        return arrow.decode_legs(body), None
    except Problem as problem:
        return None, problem


def check_hostile(body: bytes, rows_max: int = ROWS_MAX) -> bool:
    """The body is refused as the client's fault, or means at most `rows_max` rows; whether it was refused."""
    columns, problem = decoded(body)
    if columns is None:
        assert problem is not None
        assert 400 <= problem.status < 500
        assert problem.detail
        assert problem.where
        return True
    count = len(columns.amount)
    assert 0 < count <= rows_max
    for name, (width, kind) in LEG_COLUMN_SPEC.items():
        column: npt.NDArray[Any] = getattr(columns, name)
        assert column.dtype == kind
        assert column.shape == ((count, 2) if width == 2 else (count,))
    return False


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_is_refused_or_harmless(seed: int) -> None:
    chance = random.Random(seed)
    originals = [stream(legs(3)), stream(legs(40), legs(7)), stream(pa.record_batch({"id": id_column(IDS)}))]
    nasty = [0, 1, 7, 8, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1]
    refused = 0
    for _ in range(MUTATIONS // 4):
        body = bytearray(chance.choice(originals))
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            at = chance.randrange(len(body))
            match chance.randrange(5):
                case 0:
                    body[at] ^= 1 << chance.randrange(8)
                case 1:
                    body[at] = chance.randrange(256)
                case 2:
                    width = chance.choice((1, 2, 4, 8))
                    body[at : at + width] = (chance.choice(nasty) & (2 ** (8 * width) - 1)).to_bytes(
                        width, "little"
                    )
                case 3:
                    del body[at : at + chance.choice((1, 4, 8, 64))]
                case _:
                    body[at:at] = body[chance.randrange(len(body)) :][: chance.choice((1, 8, 64))]
        refused += check_hostile(bytes(body))
    assert refused > MUTATIONS // 16, "the damage does reach what is checked"


@pytest.mark.parametrize("seed", range(2))
def test_random_bytes_are_refused(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(500):
        tail = chance.randbytes(chance.randrange(200))
        head = chance.choice((b"", struct.pack("<Ii", 0xFFFFFFFF, chance.randrange(-5, 300))))
        assert check_hostile(head + tail)


# Answers


def answers_of(*statuses: int) -> LegAnswers:
    count = len(statuses)
    return LegAnswers(
        status=np.array(statuses, np.uint8), timestamp=np.arange(100, 100 + count, dtype=np.int64), lsn=9
    )


def test_answers_come_back_row_by_row_and_explain_themselves() -> None:
    sent = answers_of(Result.CREATED, Result.EXISTS, Result.BELOW_FLOOR, Result.LINKED_EVENT_FAILED)
    table = pa.ipc.open_stream(arrow.encode_answers(sent)).read_all()
    assert table.column_names == ["timestamp", "status"]
    assert table["timestamp"].to_pylist() == [100, 101, 102, 103]
    assert table["status"].to_pylist() == sent.status.tolist()
    assert (table.schema.field("timestamp").type, table.schema.field("status").type) == (
        pa.int64(),
        pa.uint8(),
    )
    names = json.loads(table.schema.metadata[RESULTS_KEY])
    assert names == {str(int(result)): result.slug for result in Result}


def test_refused_rows_alone() -> None:
    sent = answers_of(Result.CREATED, Result.EXISTS, Result.BELOW_FLOOR, Result.LINKED_EVENT_FAILED)
    table = pa.ipc.open_stream(arrow.encode_answers(sent, refused_only=True)).read_all()
    assert table.to_pydict() == {
        "row": [2, 3],
        "timestamp": [102, 103],
        "status": [Result.BELOW_FLOOR, Result.LINKED_EVENT_FAILED],
    }
    nothing = pa.ipc.open_stream(arrow.encode_answers(answers_of(0, 0), refused_only=True)).read_all()
    assert nothing.num_rows == 0


def test_schemas_have_every_column() -> None:
    assert LEG_SCHEMA.names == list(LEG_COLUMN_SPEC)
    assert ACCOUNT_SCHEMA.names == list(ACCOUNT_COLUMN_SPEC)
