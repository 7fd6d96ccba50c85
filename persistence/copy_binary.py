"""PostgreSQL's COPY BINARY format, built from and read into arrays.

A stream is `HEADER`, rows, `TRAILER`. A row is its number of fields (int16), then each field as its size (int32,
-1 = null) and its bytes; every number is big-endian. Rows in which the same fields are null have the same length, so
they are one structured array, and thousands of rows are written with one assignment per field. Rows with a text at
their end are such an array with the texts laid between its rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"
BLOCK_BYTES: Final = 1 << 18
"""How much is handed to the connection at a time: small enough that the event loop stays responsive."""

Kind = Literal["int2", "int4", "int8", "uuid"]
Values = npt.NDArray[np.generic]

_SIZES: Final[Mapping[Kind, int]] = {"int2": 2, "int4": 4, "int8": 8, "uuid": 16}


class Column(NamedTuple):
    """A column of fixed size. Values of kind `uuid` are arrays of shape (n, 2), the high half first."""

    name: str
    kind: Kind


def pack_rows(
    columns: Sequence[Column],
    values: Mapping[str, Values],
    nulls: Mapping[str, npt.NDArray[np.bool_]],
    count: int,
) -> list[npt.NDArray[np.void]]:
    """`count` rows as one structured array per combination of nulls, in the order of `columns`.

    `nulls[name]` is true where a column is null; a column that is not named there never is. Unsigned values are
    stored as the signed number of the same bits.
    """
    if count == 0:
        return []
    nullable = [column.name for column in columns if column.name in nulls]
    pattern = np.zeros(count, np.uint32)
    for bit, name in enumerate(nullable):
        pattern |= nulls[name].astype(np.uint32) << np.uint32(bit)
    runs = []
    for one in np.unique(pattern).tolist():
        absent = {name for bit, name in enumerate(nullable) if one >> bit & 1}
        chosen = np.flatnonzero(pattern == one)
        rows = np.empty(len(chosen), row_dtype(columns, absent))
        _fill(rows, columns, absent, values, slice(None) if len(chosen) == count else chosen)
        runs.append(rows)
    return runs


def pack_rows_with_text(
    columns: Sequence[Column], values: Mapping[str, Values], texts: Sequence[bytes], count: int
) -> bytes:
    """`count` rows without nulls, followed by one more column that holds a text (or any other bytes)."""
    if count == 0:
        return b""
    rows = np.empty(count, row_dtype(columns, frozenset(), text_after=True))
    _fill(rows, columns, frozenset(), values, slice(None))
    rows["fields"] = len(columns) + 1
    rows["text_size"] = np.fromiter(map(len, texts), np.int64, count)
    fixed = rows.view(f"V{rows.dtype.itemsize}").tolist()
    return b"".join([part for pair in zip(fixed, texts, strict=True) for part in pair])


def pack_fields(fields: Sequence[bytes | None]) -> bytes:
    """One row of fields that are bytes already."""
    parts = [len(fields).to_bytes(2, "big")]
    for field in fields:
        if field is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            parts.append(len(field).to_bytes(4, "big"))
            parts.append(field)
    return b"".join(parts)


def row_dtype(
    columns: Sequence[Column], absent: frozenset[str] | set[str], text_after: bool = False
) -> np.dtype[np.void]:
    """The layout of a row in which the columns `absent` are null."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in columns:
        fields.append((f"{name}_size", ">i4"))
        if name in absent:
            continue
        if kind == "uuid":
            fields += [(f"{name}_hi", ">u8"), (f"{name}_lo", ">u8")]
        else:
            fields.append((name, f">i{_SIZES[kind]}"))
    if text_after:
        fields.append(("text_size", ">i4"))
    return np.dtype(fields)


def unpack_rows(columns: Sequence[Column], blocks: Iterable[bytes]) -> npt.NDArray[np.void]:
    """The rows of a whole stream, in native byte order and without the sizes. None of its fields may be null."""
    stream = b"".join(blocks)
    if not stream.startswith(HEADER) or not stream.endswith(TRAILER):
        raise ValueError("not a whole COPY BINARY stream")
    wire = row_dtype(columns, frozenset())
    count, rest = divmod(len(stream) - len(HEADER) - len(TRAILER), wire.itemsize)
    if rest:
        raise ValueError("a COPY BINARY stream holds nulls or other columns than expected")
    rows = np.frombuffer(stream, wire, count, len(HEADER))
    names = [name for name in wire.names or () if name != "fields" and not name.endswith("_size")]
    native = np.empty(count, [(name, wire[name].newbyteorder("=")) for name in names])
    for name in names:
        native[name] = rows[name]
    return native


def blocks_of(buffers: Iterable[bytes | Values]) -> Iterable[memoryview]:
    """A whole stream of the given rows, in blocks to write."""
    yield memoryview(HEADER)
    for buffer in buffers:
        raw = (
            memoryview(buffer) if isinstance(buffer, bytes) else memoryview(buffer.reshape(-1).view(np.uint8))
        )
        for at in range(0, len(raw), BLOCK_BYTES):
            yield raw[at : at + BLOCK_BYTES]
    yield memoryview(TRAILER)


def _fill(
    rows: npt.NDArray[np.void],
    columns: Sequence[Column],
    absent: frozenset[str] | set[str],
    values: Mapping[str, Values],
    chosen: slice | npt.NDArray[np.intp],
) -> None:
    rows["fields"] = len(columns)
    for name, kind in columns:
        rows[f"{name}_size"] = -1 if name in absent else _SIZES[kind]
        if name in absent:
            continue
        if kind == "uuid":
            rows[f"{name}_hi"] = values[name][chosen, 0]
            rows[f"{name}_lo"] = values[name][chosen, 1]
        else:
            rows[name] = values[name][chosen].astype(f"i{_SIZES[kind]}", copy=False)
