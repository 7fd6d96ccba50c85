"""Reads a sales file, CSV or CSV in xz, into `Sales`: all of it or, with a message that says where, nothing.

The file is parsed as columns by pyarrow, with prices as exact decimals. pyarrow does not say on which line a
value is wrong; when it refuses the file, a slow reader goes through it line by line to name line and column.
"""

import calendar
import csv
import io
import lzma
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from engine.layout import AMOUNT_MAX, SECOND_NS
from simulations.errors import SalesFileError
from simulations.sales import GUEST, Coded, Int64s, Sales, constant

COLUMNS: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
TEXT_COLUMNS: Final = ("InvoiceNo", "StockCode", "Description", "CustomerID", "Country")
NAMES: Final = ("InvoiceNo", "StockCode", "CustomerID")
"""Columns whose values become references, codes and names: they hold no control characters."""
NEVER_EMPTY: Final = ("InvoiceNo", "StockCode")
FILE_BYTES_MAX: Final = 2**31  # after decompression
TEXT_BYTES_MAX: Final = 200  # in one value, as UTF-8
NAME_BYTES_MAX: Final = 60
QUANTITY_MAX: Final = 2**31 - 1
PRICE_MAX: Final = 10**15
YEAR_FIRST, YEAR_LAST = 1970, 2199

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_XZ_MAGIC: Final = b"\xfd7zXZ\x00"
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_PRICE: Final = pa.decimal128(18, 3)
_DATE_FORMATS: Final = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M")
_TYPES: Final = {
    **dict.fromkeys(TEXT_COLUMNS, _TEXT),
    "Quantity": pa.int64(),
    "InvoiceDate": pa.timestamp("s"),
    "UnitPrice": _PRICE,
}
_ACCEPTED: Final = {
    "Quantity": f"a whole number from -{QUANTITY_MAX} to {QUANTITY_MAX}",
    "InvoiceDate": f"a date and time like 2010-12-01 08:26:00, from {YEAR_FIRST} to {YEAR_LAST}",
    "UnitPrice": "a decimal number with at most three decimals, like 2.55",
}


def read_sales(path: Path, dataset: str, currency: str = "GBP", seller: str = "the shop") -> Sales:
    """The file's lines in its own order. Raises SalesFileError."""
    content = _content(path)
    _check_header(path, content)
    try:
        table = _parse(content)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as exc:
        raise _explain(path, content, str(exc)) from exc
    quantity = table["Quantity"].combine_chunks().to_numpy(zero_copy_only=False)
    price_mills = _mills(table["UnitPrice"].combine_chunks())
    seconds = table["InvoiceDate"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
    text = {name: _coded(table[name]) for name in TEXT_COLUMNS}
    if _out_of_bounds(quantity, price_mills, seconds) or _bad_text(text):
        raise _explain(path, content, "a value is out of bounds")
    items = text["StockCode"]
    return Sales(
        dataset=dataset,
        currency=currency,
        invoice=text["InvoiceNo"],
        item=items,
        item_names=_first_names(items, text["Description"]),
        customer=_customers(text["CustomerID"]),
        country=text["Country"],
        seller=constant(seller, len(quantity)),
        quantity=quantity,
        price_mills=price_mills,
        time_ns=seconds * SECOND_NS,
    )


def _content(path: Path) -> bytes:
    """The file's bytes, decompressed where it is xz by name or by its first bytes."""
    try:
        with path.open("rb") as file:
            if path.suffix == ".xz" or file.peek(len(_XZ_MAGIC)).startswith(_XZ_MAGIC):
                with lzma.open(file) as unpacked:
                    content = unpacked.read(FILE_BYTES_MAX + 1)
            else:
                content = file.read(FILE_BYTES_MAX + 1)
    except EOFError as exc:
        raise SalesFileError(str(path), "the .xz file is truncated: it ends before its end marker") from exc
    except lzma.LZMAError as exc:
        raise SalesFileError(str(path), f"the .xz file is damaged or is none: {exc}") from exc
    except OSError as exc:
        raise SalesFileError(str(path), exc.strerror or str(exc)) from exc
    if len(content) > FILE_BYTES_MAX:
        raise SalesFileError(str(path), f"more than {FILE_BYTES_MAX} bytes", accepted="smaller files")
    return content.removeprefix(b"\xef\xbb\xbf")


def _check_header(path: Path, content: bytes) -> None:
    first = content.split(b"\n", 1)[0]
    try:
        names = next(csv.reader([first.decode("utf-8").rstrip("\r")]), [])
    except UnicodeDecodeError as exc:
        raise SalesFileError(str(path), f"not UTF-8: {exc.reason}", line=1, accepted="UTF-8 text") from exc
    except csv.Error as exc:
        raise SalesFileError(str(path), f"the header cannot be read: {exc}", line=1) from exc
    if missing := [name for name in COLUMNS if name not in names]:
        problem = "the file is empty" if not content else f"missing columns: {', '.join(missing)}"
        raise SalesFileError(str(path), problem, line=1, accepted=f"a header with {','.join(COLUMNS)}")
    if twice := [name for name in COLUMNS if names.count(name) > 1]:
        raise SalesFileError(str(path), f"columns named twice: {', '.join(twice)}", line=1)


def _parse(content: bytes) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(content),
        read_options=pacsv.ReadOptions(block_size=4 << 20),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=_TYPES,
            include_columns=list(COLUMNS),
            null_values=[],
            strings_can_be_null=False,
            timestamp_parsers=list(_DATE_FORMATS),
        ),
    )


def _mills(prices: pa.Array) -> Int64s:
    """Prices as integers: a decimal128 with scale 3 *is* the mills, in 16 bytes of which 8 suffice."""
    if len(prices) == 0:
        return np.zeros(0, np.int64)
    halves = np.frombuffer(prices.buffers()[1], np.int64).reshape(-1, 2)
    return np.ascontiguousarray(halves[prices.offset : prices.offset + len(prices), 0])


def _coded(column: pa.ChunkedArray) -> Coded:
    if column.num_chunks == 0:
        return Coded(np.zeros(0, np.int32), [])
    array = column.unify_dictionaries().combine_chunks()
    return Coded(array.indices.to_numpy(zero_copy_only=False), array.dictionary.to_pylist())


def _customers(column: Coded) -> Coded:
    """Customers without the `.0` that a spreadsheet left on their numbers: 17850 and 17850.0 are one."""
    positions: dict[str, int] = {}
    stripped = [re.sub(r"(?<=\d)\.0+$", "", value.strip()) or GUEST for value in column.values]
    merged = np.array([positions.setdefault(value, len(positions)) for value in stripped], np.int32)
    return Coded(merged[column.codes] if len(merged) else column.codes, list(positions))


def _first_names(items: Coded, descriptions: Coded) -> list[str]:
    """For each item its first description that is not blank; an item without any is called by its code."""
    blank = np.array([not value.strip() for value in descriptions.values], bool)
    named = np.flatnonzero(~blank[descriptions.codes]) if len(blank) else np.zeros(0, np.int64)
    names = list(items.values)
    codes, first = np.unique(items.codes[named], return_index=True)
    for code, line in zip(codes.tolist(), named[first].tolist(), strict=True):
        names[code] = _CONTROL.sub(" ", descriptions.values[descriptions.codes[line]]).strip()
    return names


def _out_of_bounds(quantity: Int64s, price_mills: Int64s, seconds: Int64s) -> bool:
    first, last = (calendar.timegm((year, 1, 1, 0, 0, 0)) for year in (YEAR_FIRST, YEAR_LAST + 1))
    return bool(
        np.any((quantity > QUANTITY_MAX) | (quantity < -QUANTITY_MAX))
        or np.any(np.abs(price_mills) > AMOUNT_MAX // np.maximum(np.abs(quantity), 1))
        or np.any((seconds < first) | (seconds >= last))
    )


def _bad_text(text: dict[str, Coded]) -> bool:
    return any(_text_problem(name, value) for name, column in text.items() for value in column.values)


def _text_problem(name: str, value: str) -> str:
    if "\x00" in value or (name in NAMES and _CONTROL.search(value)):
        return f"{_quoted(value)} holds a control character"
    limit = NAME_BYTES_MAX if name in NAMES else TEXT_BYTES_MAX
    if len(value.encode()) > limit:
        return f"longer than {limit} bytes"
    if name in NEVER_EMPTY and not value.strip():
        return "is empty"
    return ""


def _explain(path: Path, content: bytes, reason: str) -> SalesFileError:
    """The first thing wrong with the file, with line and column; `reason` if the slow reader finds none."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as exc:
        return _explain_encoding(path, content, exc)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = next(reader)
    checks = [(names.index(name), name, _CHECKS.get(name)) for name in COLUMNS]
    line = 2
    try:
        for row in reader:
            if not row:
                pass  # a blank line, which is no line of an invoice
            elif len(row) != len(names):
                problem = f"{len(row)} values where the header names {len(names)} columns"
                return SalesFileError(str(path), problem, line)
            else:
                for position, name, check in checks:
                    if problem := _text_problem(name, row[position]) or (
                        check(row[position]) if check else ""
                    ):
                        return SalesFileError(str(path), problem, line, name, _ACCEPTED.get(name, ""))
                if problem := _product_problem(row[names.index("Quantity")], row[names.index("UnitPrice")]):
                    return SalesFileError(str(path), problem, line, "UnitPrice")
            line = reader.line_num + 1
    except csv.Error as exc:
        return SalesFileError(str(path), f"not CSV: {exc}", line)
    return SalesFileError(str(path), reason)


def _explain_encoding(path: Path, content: bytes, error: UnicodeDecodeError) -> SalesFileError:
    start = content.rfind(b"\n", 0, error.start) + 1
    header = next(csv.reader([content.split(b"\n", 1)[0].decode("utf-8")]))
    fields = next(csv.reader([content[start : error.start].decode("latin-1")]), [""])
    name = header[len(fields) - 1] if len(fields) <= len(header) else None
    problem = f"byte 0x{content[error.start]:02x} is not UTF-8: {error.reason}"
    return SalesFileError(str(path), problem, content.count(b"\n", 0, error.start) + 1, name, "UTF-8 text")


def _quantity_problem(value: str) -> str:
    if not re.fullmatch(r"\s*-?\d+\s*", value) or abs(int(value)) > QUANTITY_MAX:
        return f"{_quoted(value)} is not a quantity"
    return ""


def _price_problem(value: str) -> str:
    if re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", value):
        price = Decimal(value)
        if abs(price) < PRICE_MAX and price * 1000 % 1 == 0:
            return ""
    return f"{_quoted(value)} is not a price"


def _date_problem(value: str) -> str:
    for date_format in _DATE_FORMATS:
        try:
            date = datetime.strptime(value, date_format)  # the file knows no time zone
        except ValueError:
            continue
        if YEAR_FIRST <= date.year <= YEAR_LAST:
            return ""
    return f"{_quoted(value)} is not a date of business"


def _product_problem(quantity: str, price: str) -> str:
    if abs(int(quantity) * Decimal(price) * 1000) > AMOUNT_MAX:
        return f"{quantity} times {price} is more than an amount can hold"
    return ""


def _quoted(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "…")


_CHECKS: Final[dict[str, Callable[[str], str]]] = {
    "Quantity": _quantity_problem,
    "InvoiceDate": _date_problem,
    "UnitPrice": _price_problem,
}
