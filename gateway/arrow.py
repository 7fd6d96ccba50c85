"""Arrow streams in and out: strict decoding of what anybody may send, without Python work per row.

A request is one Arrow IPC stream: a schema, record batches, the end-of-stream marker, and nothing after it.
It is hostile until proven. The schema may hold only the columns of `gateway.arrow_schema`, each with its
exact type; there are no dictionaries, extension types or nulls, and nothing is compressed, so decoding never
takes more memory than the body has bytes. Sizes are checked before a value is read, and values are copied
out of the body.

Whatever is wrong is raised as a Problem that names the column, and the row where there is one, counted over
all batches.
"""

import struct
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.answers import LegAnswers
from engine.layout import (
    ACCOUNT_COLUMN_SPEC,
    CEILING_UNSET,
    FLOOR_UNSET,
    LEG_COLUMN_SPEC,
    AccountColumns,
    LegColumns,
)
from engine.results import Result
from gateway.arrow_schema import ACCOUNT_SCHEMA, ANSWER_SCHEMA, LEG_SCHEMA, REFUSED_SCHEMA, ROWS_MAX
from gateway.problems import gateway_problem

BODY_BYTES_MAX: Final = 16 << 20
"""A full request with every column fits, padding included."""
BATCHES_MAX: Final = 1_024
METADATA_BYTES_MAX: Final = 1 << 20
SCHEMAS_MAX: Final = 64
"""So many schemas are remembered: a client's is the same every time, and reading one takes as long as
reading a hundred legs."""
SCHEMA_BYTES_MAX: Final = 4_096
"""A larger one is not remembered."""
END: Final = b"\xff\xff\xff\xff\0\0\0\0"
"""The end-of-stream marker."""

_PREFIX: Final = struct.Struct("<Ii")
_CONTINUATION: Final = 0xFFFFFFFF
_EXTENSION: Final = b"ARROW:extension:name"
_DEFAULTS: Final = {"floor": FLOOR_UNSET, "ceiling": CEILING_UNSET}
_NOT_NEGATIVE: Final = frozenset({"if_debit_version", "if_credit_version"})

_Columns = TypeVar("_Columns", LegColumns, AccountColumns)


class _Shape(NamedTuple):
    """What a kind of request looks like."""

    name: str
    schema: pa.Schema
    spec: dict[str, tuple[int, type]]


_LEGS: Final = _Shape("legs", LEG_SCHEMA, LEG_COLUMN_SPEC)
_ACCOUNTS: Final = _Shape("accounts", ACCOUNT_SCHEMA, ACCOUNT_COLUMN_SPEC)


def decode_legs(body: bytes) -> LegColumns:
    """The legs in an Arrow stream. Raises Problem."""
    return _decode(LegColumns, _LEGS, body)


def decode_accounts(body: bytes) -> AccountColumns:
    """The accounts in an Arrow stream. Raises Problem."""
    return _decode(AccountColumns, _ACCOUNTS, body)


def encode_answers(answers: LegAnswers, refused_only: bool = False) -> bytes:
    """An Arrow stream that says what became of every row, or of the refused ones only."""
    status, timestamp = answers.status, answers.timestamp
    if not refused_only:
        batch = pa.RecordBatch.from_arrays([pa.array(timestamp), pa.array(status)], schema=ANSWER_SCHEMA)
        return b"".join((_ANSWER_HEAD, batch.serialize(), END))
    rows = np.flatnonzero((status != Result.CREATED) & (status != Result.EXISTS))
    columns = [pa.array(rows.astype(np.uint32)), pa.array(timestamp[rows]), pa.array(status[rows])]
    batch = pa.RecordBatch.from_arrays(columns, schema=REFUSED_SCHEMA)
    return b"".join((_REFUSED_HEAD, batch.serialize(), END))


_ANSWER_HEAD: Final = ANSWER_SCHEMA.serialize().to_pybytes()
_REFUSED_HEAD: Final = REFUSED_SCHEMA.serialize().to_pybytes()


def _decode(kind: type[_Columns], shape: _Shape, body: bytes) -> _Columns:
    messages = _messages(body)
    schema = _known_schema(messages[0], shape)
    batches = _batches(messages[1:], schema)
    total = sum(batch.num_rows for batch in batches)
    if total == 0:
        raise gateway_problem("invalid_field", "The stream holds no rows.", "body", f"1 to {ROWS_MAX} rows")
    columns = []
    for name, (width, dtype) in shape.spec.items():
        at = schema.get_field_index(name)
        if at >= 0:
            columns.append(_column(batches, at, name, width, np.dtype(dtype), total))
        elif name in _DEFAULTS:
            columns.append(np.full(total, _DEFAULTS[name], dtype))
        else:
            columns.append(np.zeros((total, 2) if width == 2 else total, dtype))
    return kind(*columns)


# Framing


def _messages(body: bytes) -> list[pa.Message]:
    """The messages of a whole stream, up to its end, which is that of the body too."""
    whole = pa.py_buffer(body)
    messages: list[pa.Message] = []
    at = 0
    while True:
        number = len(messages)
        if len(body) - at < _PREFIX.size:
            _malformed(f"the stream breaks off after message {number}: it has no end-of-stream marker")
        continuation, size = _PREFIX.unpack_from(body, at)
        if continuation != _CONTINUATION:
            _malformed(f"message {number} does not begin with a continuation marker")
        if size == 0:
            break
        if not 0 < size <= METADATA_BYTES_MAX:
            _malformed(f"message {number} announces {size} bytes of metadata")
        if number > BATCHES_MAX:
            raise gateway_problem(
                "too_many_items", "The stream is cut into too many batches.", "body", f"{BATCHES_MAX} batches"
            )
        try:
            message = pa.ipc.read_message(whole.slice(at))
        except (pa.ArrowException, OSError, EOFError) as exc:
            _malformed(f"message {number} can't be read: {_first_line(exc)}")
        messages.append(message)
        at += _PREFIX.size + size + message.body.size
    if at + len(END) < len(body):
        _malformed(f"{len(body) - at - len(END)} bytes follow the end of the stream")
    if not messages:
        _malformed("the stream has no schema")
    return messages


def _malformed(reason: str) -> NoReturn:
    raise gateway_problem(
        "malformed_arrow",
        f"The body can't be read as an Arrow stream: {reason}.",
        "body",
        "an uncompressed Arrow IPC stream, format V5",
    )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")[:200]


# Schema


_schemas: Final[dict[tuple[str, bytes], pa.Schema]] = {}  # checked ones, by shape and metadata


def _known_schema(message: pa.Message, shape: _Shape) -> pa.Schema:
    """As `_checked_schema`, which is asked only once about what comes again and again."""
    if message.metadata.size > SCHEMA_BYTES_MAX or message.body.size:
        return _checked_schema(message, shape)
    key = shape.name, message.metadata.to_pybytes()
    schema = _schemas.get(key)
    if schema is None:
        schema = _checked_schema(message, shape)
        if len(_schemas) >= SCHEMAS_MAX:
            _schemas.clear()
        _schemas[key] = schema
    return schema


def _checked_schema(message: pa.Message, shape: _Shape) -> pa.Schema:
    """The schema, if it has only columns that we know, once each, with the types that they have."""
    if message.type != "schema":
        _malformed("it does not begin with a schema")
    if message.metadata_version != pa.ipc.MetadataVersion.V5:
        _malformed("it has a metadata version before V5")
    try:
        schema: pa.Schema = pa.ipc.read_schema(message)
        names = schema.names
        types = [str(field.type) for field in schema]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        _malformed(f"its schema can't be read: {_first_line(exc)}")
    seen: set[str] = set()
    for field, name, given in zip(schema, names, types, strict=True):
        expected = shape.schema.get_field_index(name)
        if expected < 0:
            shown = name if len(name) <= 64 else f"{name[:61]}..."
            raise gateway_problem(
                "unknown_field", f"There is no column {shown!r}.", shown or "body", ", ".join(shape.spec)
            )
        if name in seen:
            raise gateway_problem("invalid_field", f"{name}: the column is there twice.", name, "one column")
        seen.add(name)
        wanted = shape.schema.field(expected).type
        if field.type != wanted or _EXTENSION in (field.metadata or {}):
            extension = " of an extension" if field.type == wanted else ""
            raise gateway_problem(
                "invalid_field",
                f"{name}: the column has the type {given[:64]}{extension}.",
                name,
                str(wanted),
            )
    if "id" not in seen:
        raise gateway_problem(
            "missing_field", "id: the column is missing.", "id", str(shape.schema.field("id").type)
        )
    return schema


# Record batches


def _batches(messages: list[pa.Message], schema: pa.Schema) -> list[pa.RecordBatch]:
    """The record batches, as many rows as one request may have, every value inside the body."""
    batches: list[pa.RecordBatch] = []
    total = 0
    for number, message in enumerate(messages):
        if message.type != "record batch":
            _malformed(f"message {number + 1} is a {message.type}, where only record batches are accepted")
        rows = _announced_rows(message, number)
        total += rows
        if total > ROWS_MAX:
            raise gateway_problem(
                "too_many_items", f"The body announces {total} rows or more.", "body", f"1 to {ROWS_MAX} rows"
            )
        try:
            batch = pa.ipc.read_record_batch(message, schema)
        except (pa.ArrowException, OSError) as exc:
            _malformed(f"batch {number} can't be read: {_first_line(exc)}")
        for name, column in zip(schema.names, batch.columns, strict=True):
            _check_column(name, column, rows, total - rows)
        try:
            batch.validate(full=True)
        except pa.ArrowException as exc:
            _malformed(f"batch {number} is not valid: {_first_line(exc)}")
        batches.append(batch)
    return batches


def _announced_rows(message: pa.Message, number: int) -> int:
    """How many rows a batch says it has. Refuses a compressed one before anything is unpacked."""
    try:
        root = _Table.root(message.metadata)
        header = root.table(_MESSAGE_HEADER)
        if header.has(_BATCH_COMPRESSION):
            _malformed(f"batch {number} is compressed")
        rows = header.int64(_BATCH_LENGTH)
    except (struct.error, ValueError):
        _malformed(f"batch {number} has a broken header")
    if rows < 0:
        _malformed(f"batch {number} announces {rows} rows")
    return rows


def _check_column(name: str, column: pa.Array, rows: int, before: int) -> None:
    """Refuse a column with other than `rows` values, or without the bytes for them, or with nulls."""
    if len(column) != rows:
        _malformed(f"column {name} has {len(column)} values in a batch of {rows} rows")
    validity, values = column.buffers()
    there = (values.size if values is not None else 0) // column.type.byte_width
    if there < rows:
        _refuse_row(name, before + there, f"the batch announces {rows} rows and has bytes for {there}")
    if column.null_count == 0:
        return
    if validity is None or validity.size * 8 < rows:
        _malformed(f"column {name} has nulls, and no bytes that say where")
    valid = np.unpackbits(np.frombuffer(validity, np.uint8), count=rows, bitorder="little")
    nulls = np.flatnonzero(valid == 0)
    _refuse_row(name, before + (int(nulls[0]) if len(nulls) else 0), "the value is null")


def _refuse_row(name: str, row: int, what: str) -> NoReturn:
    where = f"[{row}].{name}"
    raise gateway_problem("invalid_field", f"{where}: {what}.", where, "a value on every row")


def _column(
    batches: list[pa.RecordBatch], at: int, name: str, width: int, dtype: np.dtype[Any], total: int
) -> npt.NDArray[Any]:
    """One column of all batches, copied; ids become two native halves."""
    column = np.empty(total * width, dtype)
    wire = dtype.newbyteorder(">") if width == 2 else dtype.newbyteorder("<")
    row = 0
    for batch in batches:
        count = batch.num_rows * width
        if count:
            column[row : row + count] = np.frombuffer(batch.column(at).buffers()[1], wire, count)
        row += count
    if name in _NOT_NEGATIVE and column.min() < 0:
        first = int(np.argmax(column < 0))
        where = f"[{first}].{name}"
        raise gateway_problem("invalid_field", f"{where}: {column[first]} is negative.", where, "0 or more")
    return column.reshape(total, 2) if width == 2 else column


# The metadata of a message is a FlatBuffer, whose structure pyarrow has verified. Two of its fields decide
# whether pyarrow may go on, and pyarrow does not show them.

_MESSAGE_HEADER: Final = 2
_BATCH_LENGTH: Final = 0
_BATCH_COMPRESSION: Final = 3
_U16: Final = struct.Struct("<H")
_I32: Final = struct.Struct("<i")
_U32: Final = struct.Struct("<I")
_I64: Final = struct.Struct("<q")


class _Table(NamedTuple):
    """A table of a FlatBuffer. Raises struct.error or ValueError beyond its bytes."""

    raw: memoryview
    at: int

    @classmethod
    def root(cls, raw: pa.Buffer) -> "_Table":
        view = memoryview(raw)
        return cls(view, _U32.unpack_from(view, 0)[0])

    def _place(self, field: int) -> int:
        """Where a field's value is, 0 if it is left out."""
        vtable = self.at - _I32.unpack_from(self.raw, self.at)[0]
        if vtable < 0:
            raise ValueError("a table without a layout")
        (size,) = _U16.unpack_from(self.raw, vtable)
        entry = 4 + 2 * field
        if entry + 2 > size:
            return 0
        (offset,) = _U16.unpack_from(self.raw, vtable + entry)
        return self.at + offset if offset else 0

    def has(self, field: int) -> bool:
        return self._place(field) != 0

    def int64(self, field: int) -> int:
        place = self._place(field)
        return int(_I64.unpack_from(self.raw, place)[0]) if place else 0

    def table(self, field: int) -> "_Table":
        place = self._place(field)
        if not place:
            raise ValueError("a table is missing")
        return _Table(self.raw, place + _U32.unpack_from(self.raw, place)[0])
