"""From what a caller has to Arrow streams: NumPy arrays, Arrow tables or lists of dictionaries.

Everything becomes one NumPy array per column first, checked and cast without losing a digit; then batches are
slices of these, and a stream is bytes that can be sent any number of times.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.ids import format_id
from engine.layout import (
    ACCOUNT_COLUMN_SPEC,
    CEILING_UNSET,
    FLOOR_UNSET,
    LEG_COLUMN_SPEC,
    LegFlag,
    ids_list,
)
from gateway.arrow_schema import ACCOUNT_SCHEMA, ID_TYPE, LEG_SCHEMA
from gateway.client.errors import InvalidColumns
from gateway.client.ids import Ids, is_one_id, to_ids

END: Final = b"\xff\xff\xff\xff\0\0\0\0"
_UNSET: Final = {"floor": FLOOR_UNSET, "ceiling": CEILING_UNSET}

Given: TypeAlias = Mapping[str, Any] | pa.Table | pa.RecordBatch | Sequence[Mapping[str, Any]]
"""Legs or accounts as callers have them: columns by name (arrays, lists, or one value for all rows), an Arrow
table, or a list of dictionaries."""
Columns = dict[str, npt.NDArray[Any]]


class Kind(NamedTuple):
    """Legs or accounts."""

    path: str
    spec: dict[str, tuple[int, type]]
    schema: pa.Schema


LEGS: Final = Kind("/v1/legs", LEG_COLUMN_SPEC, LEG_SCHEMA)
ACCOUNTS: Final = Kind("/v1/accounts", ACCOUNT_COLUMN_SPEC, ACCOUNT_SCHEMA)


def columns_of(given: Given, kind: Kind, asset_number: Callable[[str], int]) -> Columns:
    """The columns that were given, in the shapes of `engine.layout`; `asset_number` tells that of a code.

    Raises InvalidColumns.
    """
    if isinstance(given, (pa.Table, pa.RecordBatch)):
        named: Mapping[str, Any] = {
            name: _from_arrow(name, given.column(name)) for name in given.schema.names
        }
        rows: int | None = given.num_rows
    elif isinstance(given, Mapping):
        named = {name: _column(name, value) for name, value in given.items()}
        rows = None
    else:
        names = list(dict.fromkeys(name for item in given for name in item))
        named = {name: [item.get(name, _absent(name)) for item in given] for name in names}
        rows = len(given)
    unknown = sorted(named.keys() - kind.spec.keys())
    if unknown:
        raise InvalidColumns(unknown[0], "there is no such column", list(kind.spec))
    columns = {
        name: to_ids(value, name) if kind.spec[name][0] == 2 else _numbers(name, value, kind, asset_number)
        for name, value in named.items()
    }
    single = {name for name, value in named.items() if rows is None and _is_single(value, kind.spec[name][0])}
    lengths = {len(column) for name, column in columns.items() if name not in single}
    if rows is None:
        rows = lengths.pop() if len(lengths) == 1 else None if lengths else 1
    if rows is None or lengths - {rows}:
        sizes = ", ".join(f"{name} {len(c)}" for name, c in columns.items() if name not in single)
        raise InvalidColumns("columns", f"they have different lengths: {sizes}")
    return {
        name: np.ascontiguousarray(np.broadcast_to(column, (rows, *column.shape[1:])))
        for name, column in columns.items()
    }


def _column(name: str, value: Any) -> Any:
    return _from_arrow(name, value) if isinstance(value, (pa.Array, pa.ChunkedArray)) else value


def _absent(name: str) -> Any:
    return _UNSET.get(name, 0)


def _is_single(value: Any, width: int) -> bool:
    return is_one_id(value) if width == 2 else np.ndim(value) == 0


def _from_arrow(name: str, column: pa.Array | pa.ChunkedArray) -> npt.NDArray[Any] | list[str]:
    """A column of an Arrow table: ids as (n, 2), codes of assets as text, anything else as NumPy has it."""
    if column.null_count:
        raise InvalidColumns(name, "it has nulls")
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ExtensionArray):
        whole = whole.storage
    if whole.type == ID_TYPE:
        values = whole.buffers()[1]
        return (
            np.frombuffer(values, ">u8", 2 * len(whole), 16 * whole.offset).astype(np.uint64).reshape(-1, 2)
        )
    if pa.types.is_integer(whole.type):
        numbers: npt.NDArray[Any] = whole.to_numpy(zero_copy_only=False)
        return numbers
    if pa.types.is_string(whole.type) or pa.types.is_dictionary(whole.type):
        texts: list[str] = whole.to_pylist()
        return texts
    raise InvalidColumns(name, f"it has the type {whole.type}", ["integers", str(ID_TYPE)])


def _numbers(name: str, value: Any, kind: Kind, asset_number: Callable[[str], int]) -> npt.NDArray[Any]:
    """A column of whole numbers, of the type that it has on the wire."""
    dtype = np.dtype(kind.spec[name][1])
    if name == "asset" and isinstance(value, str):
        value = asset_number(value)
    elif name == "asset" and not isinstance(value, np.ndarray) and np.ndim(value):
        numbers = {code: asset_number(code) for code in set(value) if isinstance(code, str)}
        value = [numbers.get(code, code) for code in value]
    elif name in _UNSET and value is None:
        value = _UNSET[name]
    elif name in _UNSET and isinstance(value, (list, tuple)):
        value = [_UNSET[name] if bound is None else bound for bound in value]
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind not in "iu" and not (array.dtype == object and _are_integers(array)):
        raise InvalidColumns(name, f"an array of {array.dtype} holds no whole numbers", [str(dtype)])
    if array.ndim != 1:
        raise InvalidColumns(name, f"it has shape {array.shape}", ["one dimension"])
    limits = np.iinfo(kind.spec[name][1])
    if len(array) and (int(array.min()) < limits.min or int(array.max()) > limits.max):
        raise InvalidColumns(name, "a number is out of range", [f"{limits.min} to {limits.max}"])
    return array.astype(dtype, copy=False)


def _are_integers(array: npt.NDArray[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in array.flat)


def count_of(columns: Columns) -> int:
    """How many rows there are."""
    return len(columns["id"])


def batches(columns: Columns, rows_max: int) -> list[slice]:
    """Slices of at most `rows_max` rows that cut no chain in two. Raises InvalidColumns for a longer
    chain."""
    count = count_of(columns)
    flags = columns.get("flags")
    cuts: list[slice] = []
    start = 0
    while start < count:
        stop = min(start + rows_max, count)
        if flags is not None and stop < count:
            ends = np.flatnonzero((flags[start:stop] & np.uint16(LegFlag.LINKED)) == 0)
            if not len(ends):
                raise InvalidColumns("flags", f"a chain is longer than {rows_max}", ["shorter chains"])
            stop = start + int(ends[-1]) + 1
        cuts.append(slice(start, stop))
        start = stop
    return cuts


def stream(columns: Columns, rows: slice, kind: Kind) -> bytes:
    """Some rows as an Arrow stream."""
    count = rows.stop - rows.start
    arrays = []
    fields = []
    for name, column in columns.items():
        part = column[rows]
        field = kind.schema.field(name)
        if field.type == ID_TYPE:
            data = pa.py_buffer(part.astype(">u8"))  # as UUIDs are written
            arrays.append(pa.FixedSizeBinaryArray.from_buffers(ID_TYPE, count, [None, data]))
        else:
            arrays.append(pa.array(part))
        fields.append(field)
    schema = pa.schema(fields)
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    return b"".join((schema.serialize(), batch.serialize(), END))


def chains(flags: npt.NDArray[np.uint16]) -> Iterator[slice]:
    """The chains of two or more in a batch of legs."""
    linked = (flags & np.uint16(LegFlag.LINKED)) != 0
    starts = np.flatnonzero(linked & ~np.concatenate(([False], linked[:-1])))
    for start in starts.tolist():
        after = np.flatnonzero(~linked[start:])
        yield slice(start, start + int(after[0]) + 1 if len(after) else len(flags))


def id_texts(ids: Ids) -> list[str]:
    """Ids as they stand in paths."""
    return [format_id(id) for id in ids_list(ids)]
