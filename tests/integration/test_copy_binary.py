"""What is written and read in the COPY BINARY format is what PostgreSQL reads and writes."""

from typing import Any
from uuid import UUID

import numpy as np
import pytest
from psycopg import sql

from persistence.copy_binary import (
    Column,
    blocks_of,
    fixed_rows,
    id_array,
    pack_fields,
    pack_rows,
    unpack_fields,
    unpack_rows,
)
from persistence.copy_out import copy_out
from persistence.database import Database
from persistence.errors import QueryFailed

COLUMNS = (
    Column("small", "int2"),
    Column("middle", "int4"),
    Column("large", "int8"),
    Column("id", "uuid"),
)
TABLE = "create table t (small int2, middle int4, large int8, id uuid, label text)"


@pytest.fixture
def table(empty_database: Database) -> Database:
    with empty_database.session_sync("test") as session:
        session.execute(b"create schema if not exists tessera")
        session.execute(TABLE.encode())
    return empty_database


def values(count: int) -> dict[str, Any]:
    numbers = np.arange(count)
    return {
        "small": (numbers - 3).astype(np.int16),
        "middle": (numbers * -70_000).astype(np.int32),
        "large": (numbers.astype(np.uint64) << np.uint64(60)) - np.uint64(1),  # unsigned: the same bits
        "id": np.stack((numbers, numbers * 7), axis=1).astype(np.uint64),
    }


def copy_in(database: Database, statement: str, *buffers: Any) -> list[tuple[Any, ...]]:
    with database.session_sync("test") as session:
        with session.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for block in blocks_of(buffers):
                copy.write(block)
        return session.execute(b"select small, middle, large, id, label from t order by small").fetchall()


def expected(count: int) -> list[tuple[Any, ...]]:
    return [
        (n - 3, n * -70_000, ((n << 60) - 1 + 2**63) % 2**64 - 2**63, UUID(int=n << 64 | n * 7))
        for n in range(count)
    ]


def test_rows_with_nulls_and_texts(table: Database) -> None:
    count = 12
    nulls = {
        "middle": np.arange(count) % 2 == 0,
        "large": np.arange(count) % 3 == 0,
        "id": np.arange(count) == 5,
    }
    texts = [None if n % 4 == 0 else f"text {n} é".encode() for n in range(count)]
    runs = pack_rows(COLUMNS, values(count), nulls, count, texts)
    assert len(runs) > 3
    wanted = []
    for n, row in enumerate(expected(count)):
        text = texts[n]
        wanted.append(
            (
                row[0],
                None if n % 2 == 0 else row[1],
                None if n % 3 == 0 else row[2],
                None if n == 5 else row[3],
                None if text is None else text.decode(),
            )
        )
    statement = "copy t (small, middle, large, id, label) from stdin (format binary)"
    assert copy_in(table, statement, *runs) == wanted


def test_rows_without_nulls_are_one_array(table: Database) -> None:
    (run,) = pack_rows(COLUMNS, values(5), {}, 5)
    found = copy_in(table, "copy t (small, middle, large, id) from stdin (format binary)", run)
    assert found == [(*row, None) for row in expected(5)]
    assert bytes(run) == bytes(fixed_rows(COLUMNS, values(5), 5))
    assert pack_rows(COLUMNS, values(0), {}, 0) == []


def test_fields_that_are_bytes_already(table: Database) -> None:
    fields = [b"\x00\x01", None, (9).to_bytes(8, "big"), UUID(int=4).bytes, b""]
    row = pack_fields(fields)
    statement = "copy t (small, middle, large, id, label) from stdin (format binary)"
    assert copy_in(table, statement, row) == [(1, None, 9, UUID(int=4), "")]
    assert unpack_fields(row) == fields


def test_rows_come_back(table: Database) -> None:
    (run,) = pack_rows(COLUMNS, values(1000), {}, 1000)
    copy_in(table, "copy t (small, middle, large, id) from stdin (format binary)", run)

    query = "copy (select small, middle, large, id from t order by small) to stdout (format binary)"
    with table.session_sync("test") as session:
        rows = list(copy_out(session, sql.SQL(query).format()))
        assert b"".join(rows) == bytes(run)
        with session.cursor() as cursor, cursor.copy(query.encode()) as copy:
            parsed = unpack_rows(COLUMNS, [bytes(block) for block in copy])
        assert parsed["small"].tolist() == values(1000)["small"].tolist()
        assert parsed["id_lo"].tolist() == values(1000)["id"][:, 1].tolist()
        empty = "copy (select 1 where false) to stdout (format binary)"
        assert list(copy_out(session, sql.SQL(empty).format())) == []
        with pytest.raises(QueryFailed):
            list(copy_out(session, sql.SQL("copy (select 1 / 0) to stdout (format binary)").format()))
        with pytest.raises(QueryFailed):
            list(copy_out(session, sql.SQL("copy nothing to stdout (format binary)").format()))


def test_a_cut_stream_or_one_with_nulls_is_refused() -> None:
    (run,) = pack_rows(COLUMNS, values(2), {}, 2)
    stream = b"".join(blocks_of([run]))
    assert len(unpack_rows(COLUMNS, [stream])) == 2
    for wrong in (stream[:-2], stream[5:], stream[:-3] + stream[-2:]):
        with pytest.raises(ValueError, match="COPY BINARY"):
            unpack_rows(COLUMNS, [wrong])


@pytest.mark.parametrize("count", [0, 1, 5])
def test_arrays(table: Database, count: int) -> None:
    ids = values(count)["id"]
    row = pack_fields([id_array(ids)])
    with table.session_sync("test") as session:
        session.execute(b"create table arrays (ids uuid[])")
        with session.cursor() as cursor, cursor.copy(b"copy arrays from stdin (format binary)") as copy:
            for block in blocks_of([row]):
                copy.write(block)
        found = session.execute(b"select ids from arrays").fetchone()
    assert found == ([row[3] for row in expected(count)],)
