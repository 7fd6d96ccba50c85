"""Forms: how values travel, derived from their types.

Arrays and columns become buffers behind the head of a frame, in order of appearance, columns without those
that are all zeros. Everything else is JSON: a struct or a named tuple with an array in it is a list of its
fields, one without is what msgspec makes of it.
"""

from collections.abc import Callable
from functools import reduce
from operator import or_
from types import UnionType
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import numpy.typing as npt

from actors.cluster.frames import Buffers, FrameRefused
from actors.errors import InvalidRequest
from engine.layout import (
    ACCOUNT_COLUMN_SPEC,
    LEG_COLUMN_SPEC,
    OPEN_COLUMN_SPEC,
    AccountColumns,
    LegColumns,
    OpenColumns,
)
from persistence.snapshot_codec import CHECKSUM_BYTES, CorruptSnapshot, StateDecoder, encode_state

Arrays = list[npt.NDArray[Any]]
State = tuple[int, dict[str, Any]]
"""A shard's whole state, and the record that it comes after."""

_SPECS: Final[dict[Any, Any]] = {
    LegColumns: LEG_COLUMN_SPEC,
    AccountColumns: ACCOUNT_COLUMN_SPEC,
    OpenColumns: OPEN_COLUMN_SPEC,
}


class _Columns(msgspec.Struct, frozen=True, array_like=True):
    """Columns: how many rows, and which are not all zeros."""

    rows: int
    names: list[str]


class _Array(msgspec.Struct, frozen=True, array_like=True):
    """A single array."""

    shape: tuple[int, ...]


def _pack_columns(columns: Any, buffers: Arrays) -> _Columns:
    rows, names = len(columns[0]), []
    for (name, (width, dtype)), column in zip(_SPECS[type(columns)].items(), columns, strict=True):
        if column.dtype != dtype or column.shape != ((rows, 2) if width == 2 else (rows,)):
            raise InvalidRequest(
                name,
                f"a column of {column.dtype} and shape {column.shape}",
                f"{np.dtype(dtype)}, {rows} rows",
            )
        if column.size and (column.flat[0] or column.any()):
            names.append(name)
            buffers.append(column)
    return _Columns(rows, names)


def _unpack_columns(kind: type) -> Callable[[_Columns, Buffers], Any]:
    spec = _SPECS[kind]

    def unpack(form: _Columns, buffers: Buffers) -> Any:
        given = set(form.names)
        if not given <= spec.keys() or len(given) != len(form.names):
            raise FrameRefused(f"columns {form.names}")
        filled = []
        for name, (width, dtype) in spec.items():
            shape = (form.rows, 2) if width == 2 else (form.rows,)
            filled.append(buffers.take(dtype, shape) if name in given else np.zeros(shape, dtype))
        return kind(*filled)

    return unpack


def _array(dtype: npt.DTypeLike) -> "Part":
    def pack(array: npt.NDArray[Any], buffers: Arrays) -> _Array:
        if array.dtype != dtype:
            raise InvalidRequest("array", f"an array of {array.dtype}", str(np.dtype(dtype)))
        buffers.append(array)
        return _Array(array.shape)

    return Part(_Array, pack, lambda form, buffers: buffers.take(dtype, form.shape))


def _pack_state(state: State, buffers: Arrays) -> Any:
    lsn, tree = state
    sizes = []
    for chunk in encode_state(tree):
        content = b"".join(chunk.pieces) + chunk.checksum
        buffers.append(np.frombuffer(content, np.uint8))
        sizes.append(chunk.size)
    return lsn, sizes


def _unpack_state(form: Any, buffers: Buffers) -> State:
    lsn, sizes = form
    decoder = StateDecoder()
    try:
        for size in sizes:
            decoder.add(buffers.take(np.uint8, (size + CHECKSUM_BYTES,)).tobytes())
        return lsn, decoder.finish()
    except CorruptSnapshot as exc:
        raise FrameRefused(str(exc)) from exc


def _unchanged(value: Any, _buffers: Any) -> Any:
    return value


class Part(NamedTuple):
    """How values of a type travel: the type of their JSON, and the ways there and back."""

    form: Any
    pack: Callable[[Any, Arrays], Any] = _unchanged
    unpack: Callable[[Any, Buffers], Any] = _unchanged

    @property
    def plain(self) -> bool:
        """Whether values are their own form."""
        return self.pack is _unchanged


def part_of(kind: Any) -> Part:
    """How values of a type travel."""
    if kind in _SPECS:
        return Part(_Columns, _pack_columns, _unpack_columns(kind))
    if get_origin(kind) is np.ndarray:
        (scalar,) = get_args(get_args(kind)[1])
        return _array(scalar)
    if kind == State:
        return Part(tuple[int, list[int]], _pack_state, _unpack_state)
    if get_origin(kind) is list:
        return _list(kind)
    if get_origin(kind) is UnionType:
        return _union(kind)
    if isinstance(kind, type) and get_type_hints(kind):
        return _structure(kind)
    return Part(kind)


def _list(kind: Any) -> Part:
    item = part_of(*get_args(kind))
    if item.plain:
        return Part(kind)
    form: Any = list[item.form]  # type: ignore[name-defined]  # a type that is made here
    return Part(
        form,
        lambda values, buffers: [item.pack(value, buffers) for value in values],
        lambda given, buffers: [item.unpack(value, buffers) for value in given],
    )


def _union(kind: Any) -> Part:
    """One of several; of structs, each in an envelope with its name."""
    structs = [one for one in get_args(kind) if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    if len(structs) < 2:
        return Part(kind)
    forms: dict[type, Any] = {
        one: msgspec.defstruct(one.__name__, [("content", one)], array_like=True, tag=True) for one in structs
    }
    return Part(
        reduce(or_, forms.values()),
        lambda value, _buffers: forms[type(value)](value),
        lambda given, _buffers: given.content,
    )


def _structure(kind: type) -> Part:
    """A struct or a named tuple. Where none of its fields is an array, it travels as it is."""
    parts = {name: part_of(hint) for name, hint in get_type_hints(kind).items()}
    if all(part.plain for part in parts.values()):
        return Part(kind)
    form = msgspec.defstruct(
        f"{kind.__name__}Form", [(name, part.form) for name, part in parts.items()], array_like=True
    )

    def pack(value: Any, buffers: Arrays) -> Any:
        return form(*[part.pack(getattr(value, name), buffers) for name, part in parts.items()])

    def unpack(given: Any, buffers: Buffers) -> Any:
        return kind(**{name: part.unpack(getattr(given, name), buffers) for name, part in parts.items()})

    return Part(form, pack, unpack)
