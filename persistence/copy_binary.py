"""PostgreSQL's COPY BINARY format, built from and read into arrays.

A stream is `HEADER`, rows, `TRAILER`. A row is its number of fields (int16), then each field as its size
(int32,
-1 = null) and its bytes; every number is big-endian. Rows in which the same fields are null have the same
length, so they are one structured array, and thousands of rows are written with one assignment per field.
Rows with a text at their end are such an array with the texts laid between its rows.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER: Final = b"\xff\xff"
BLOCK_BYTES: Final = 1 << 18
"""How much is handed to the connection at a time: small enough that the event loop stays responsive."""

UUID_OID: Final = 2950

Kind = Literal["int2", "int4", "int8", "uuid"]
Values = npt.NDArray[np.generic]

_SIZE: Final = struct.Struct(">i")
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
    texts: Sequence[bytes | None] | None = None,
) -> list[npt.NDArray[np.void] | bytes]:
    """`count` rows, those with the same fields null together, in the order of `columns`.

    `nulls[name]` is true where a column is null; a column that is not named there never is. Unsigned values
    are stored as the signed number of the same bits. `texts` adds one more column of any bytes at the end.
    """
    if count == 0:
        return []
    nullable = [column.name for column in columns if column.name in nulls]
    pattern = np.zeros(count, np.uint32)
    for bit, name in enumerate(nullable):
        pattern |= nulls[name].astype(np.uint32) << np.uint32(bit)
    if texts is not None:
        missing = np.fromiter((text is None for text in texts), np.bool_, count)
        pattern |= missing.astype(np.uint32) << np.uint32(len(nullable))
    runs: list[npt.NDArray[np.void] | bytes] = []
    for one in np.unique(pattern).tolist():
        absent = {name for bit, name in enumerate(nullable) if one >> bit & 1}
        chosen = np.flatnonzero(pattern == one)
        rows = np.empty(len(chosen), row_dtype(columns, absent, texts is not None))
        _fill(rows, columns, absent, values, slice(None) if len(chosen) == count else chosen)
        if texts is None:
            runs.append(rows)
        elif one >> len(nullable):
            rows["fields"] = len(columns) + 1
            rows["text_size"] = -1
            runs.append(rows)
        else:
            runs.append(_with_texts(rows, len(columns) + 1, [texts[row] or b"" for row in chosen.tolist()]))
    return runs


def fixed_rows(
    columns: Sequence[Column], values: Mapping[str, Values], count: int, text_after: bool = False
) -> npt.NDArray[np.void]:
    """`count` rows without nulls, all of one length. With `text_after`, one more column is to follow them;
    its size, the last four bytes, is left 0."""
    rows = np.empty(count, row_dtype(columns, frozenset(), text_after))
    _fill(rows, columns, frozenset(), values, slice(None))
    if text_after:
        rows["fields"] = len(columns) + 1
        rows["text_size"] = 0
    return rows


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


def unpack_fields(row: bytes) -> list[bytes | None]:
    """The inverse of `pack_fields`."""
    fields: list[bytes | None] = []
    at = 2
    for _ in range(int.from_bytes(row[:2], "big")):
        (size,) = _SIZE.unpack_from(row, at)
        at += 4
        fields.append(None if size < 0 else row[at : at + size])
        at += max(size, 0)
    return fields


def unpack_rows(columns: Sequence[Column], blocks: Iterable[bytes]) -> npt.NDArray[np.void]:
    """The rows of a whole stream, in native byte order and without the sizes. None of its fields may be
    null."""
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


def id_array(ids: npt.NDArray[np.uint64]) -> bytes:
    """Ids of shape (n, 2) as a uuid[] parameter in binary."""
    elements = np.empty(len(ids), [("size", ">i4"), ("hi", ">u8"), ("lo", ">u8")])
    elements["size"] = 16
    elements["hi"], elements["lo"] = ids[:, 0], ids[:, 1]
    return _array_header(UUID_OID, len(ids)) + elements.tobytes()


def blocks_of(
    buffers: Iterable[bytes | Values], header: bool = True, trailer: bool = True
) -> Iterator[memoryview]:
    """A stream of the given rows, or a part of it, in blocks to write."""
    if header:
        yield memoryview(HEADER)
    for buffer in buffers:
        raw = memoryview(buffer) if isinstance(buffer, bytes) else bytes_of(buffer)
        for at in range(0, len(raw), BLOCK_BYTES):
            yield raw[at : at + BLOCK_BYTES]
    if trailer:
        yield memoryview(TRAILER)


def bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """The memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _array_header(element_oid: int, count: int) -> bytes:
    """One dimension from 1 on, no nulls; an empty array has no dimension."""
    if count == 0:
        return struct.pack(">iii", 0, 0, element_oid)
    return struct.pack(">iiiii", 1, 0, element_oid, count, 1)


def _with_texts(rows: npt.NDArray[np.void], fields: int, texts: list[bytes]) -> bytes:
    rows["fields"] = fields
    rows["text_size"] = np.fromiter(map(len, texts), np.int64, len(texts))
    fixed: list[bytes] = rows.view(f"V{rows.dtype.itemsize}").tolist()
    return b"".join([part for pair in zip(fixed, texts, strict=True) for part in pair])


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
