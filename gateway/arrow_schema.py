"""The columns of the bulk interface: what an Arrow stream of legs or accounts may hold, and its answer.

Columns have the names of the JSON interface. Ids, parties and `user_data_128` are 16 bytes, big-endian, as
UUIDs are written; numbers have exactly the type given here. A column that is left out is 0 on every row, a
limit is unset. `asset` is the number of a Thing, `flags` a sum of flags.
"""

from typing import Final

import msgspec
import pyarrow as pa

from engine.layout import ACCOUNT_COLUMN_SPEC, LEG_COLUMN_SPEC
from engine.results import Result

MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
ROWS_MAX: Final = 65_536
"""Rows of one request, in all its batches together."""
ID_TYPE: Final = pa.binary(16)
RESULTS_KEY: Final = b"tessera.results"
"""In the metadata of an answer's schema: a JSON object of result numbers and their codes."""


def _schema(spec: dict[str, tuple[int, type]]) -> pa.Schema:
    return pa.schema(
        [
            pa.field(name, ID_TYPE if width == 2 else pa.from_numpy_dtype(kind), nullable=False)
            for name, (width, kind) in spec.items()
        ]
    )


LEG_SCHEMA: Final = _schema(LEG_COLUMN_SPEC)
"""Every column that legs may have."""
ACCOUNT_SCHEMA: Final = _schema(ACCOUNT_COLUMN_SPEC)
"""Every column that accounts may have."""

_METADATA: Final = {RESULTS_KEY: msgspec.json.encode({int(result): result.slug for result in Result})}
_ANSWER_FIELDS: Final = [
    pa.field("timestamp", pa.int64(), nullable=False),
    pa.field("status", pa.uint8(), nullable=False),
]
ANSWER_SCHEMA: Final = pa.schema(_ANSWER_FIELDS, metadata=_METADATA)
"""The answer to every row, in order."""
REFUSED_SCHEMA: Final = pa.schema(
    [pa.field("row", pa.uint32(), nullable=False), *_ANSWER_FIELDS], metadata=_METADATA
)
"""The answer to the rows that were refused; the others are in the ledger."""
