"""Card payments as columns, and files of them: CSV or Parquet, by their suffix.

A file has the columns TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT and TX_FRAUD, in any order and among
any others. Amounts are read as decimals of two places. Ids may be numbers or text.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from engine.features.definition import DAY_NS
from simulations.errors import PaymentsFileError

TIME, CUSTOMER, TERMINAL, AMOUNT, FRAUD = "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"
COLUMNS: Final = (TIME, CUSTOMER, TERMINAL, AMOUNT, FRAUD)
PATTERN: Final = "TX_FRAUD_SCENARIO"
SUFFIXES: Final = (".csv", ".parquet")
AMOUNT_MINOR_MAX: Final = 10**11
"""The largest amount of a payment, in hundredths."""

_MONEY: Final = pa.decimal128(14, 2)
_HUNDREDTH: Final = Decimal("0.01")
Int64s = npt.NDArray[np.int64]


class Payments(NamedTuple):
    """Payments in order of time: arrays of one length."""

    time_ns: Int64s  # since 1970-01-01
    customer: Int64s  # from 1
    terminal: Int64s  # from 1
    amount_minor: Int64s  # hundredths
    fraud: npt.NDArray[np.uint8]
    pattern: npt.NDArray[np.uint8]  # by which a fraud was planted; 0 = none, or not known
    row: Int64s  # place in the file, from 0

    @property
    def day(self) -> Int64s:
        """The days of the payments, since 1970-01-01."""
        return self.time_ns // DAY_NS

    def chosen(self, which: npt.NDArray[Any]) -> "Payments":
        """Those that an index or a mask names."""
        return Payments(
            time_ns=self.time_ns[which],
            customer=self.customer[which],
            terminal=self.terminal[which],
            amount_minor=self.amount_minor[which],
            fraud=self.fraud[which],
            pattern=self.pattern[which],
            row=self.row[which],
        )


def write_payments(payments: Payments, path: Path) -> None:
    """Writes a file. Raises PaymentsFileError if its suffix says neither CSV nor Parquet, or it can't be."""
    write_table(_table(payments), path)


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a table as its suffix says. Raises PaymentsFileError."""
    try:
        if _suffix(path) == ".csv":
            pacsv.write_csv(table, path)
        else:
            pq.write_table(table, path)
    except OSError as exc:
        raise PaymentsFileError(str(path), f"it can't be written ({exc.strerror or exc})") from exc


def _table(payments: Payments) -> pa.Table:
    number = len(payments.time_ns)
    seconds = pa.array(payments.time_ns // 10**9).cast(pa.timestamp("s"))
    cents = pa.array(payments.amount_minor).cast(pa.decimal128(19, 0))
    return pa.table(
        {
            "TRANSACTION_ID": np.arange(number),
            TIME: seconds,
            CUSTOMER: payments.customer,
            TERMINAL: payments.terminal,
            AMOUNT: pc.multiply(cents, pa.scalar(_HUNDREDTH)).cast(_MONEY),
            FRAUD: payments.fraud,
            PATTERN: payments.pattern,
        }
    )


def read_payments(path: Path) -> Payments:
    """All payments of a file, in order of time. Raises PaymentsFileError, which says what is wrong."""
    suffix = _suffix(path)
    try:
        table = _read_csv(path) if suffix == ".csv" else _read_parquet(path)
    except FileNotFoundError as exc:
        raise PaymentsFileError(str(path), "there is no such file") from exc
    except (OSError, pa.ArrowException) as exc:
        raise PaymentsFileError(str(path), f"it can't be read as {suffix[1:]} ({_first_line(exc)})") from exc
    if table.num_rows == 0:
        raise PaymentsFileError(str(path), "it has no payments")
    time = _column(path, table, TIME, pa.timestamp("ns"), "a date and time like 2018-04-01 00:00:31")
    amount = _column(path, table, AMOUNT, _MONEY, "an amount like 57.16")
    fraud = _column(path, table, FRAUD, pa.int64(), "0 or 1")
    payments = Payments(
        time_ns=time.cast(pa.int64()).to_numpy(),
        customer=_codes(path, table, CUSTOMER),
        terminal=_codes(path, table, TERMINAL),
        amount_minor=pc.multiply(amount, pa.scalar(100)).cast(pa.int64()).to_numpy(),
        fraud=fraud.to_numpy().astype(np.uint8),
        pattern=np.zeros(table.num_rows, np.uint8),
        row=np.arange(table.num_rows),
    )
    if not np.isin(fraud.to_numpy(), (0, 1)).all():
        raise PaymentsFileError(str(path), "a value is neither 0 nor 1", column=FRAUD)
    if payments.amount_minor.min() < 0 or payments.amount_minor.max() > AMOUNT_MINOR_MAX:
        raise PaymentsFileError(
            str(path), "an amount is out of bounds", column=AMOUNT, accepted=f"0 to {AMOUNT_MINOR_MAX // 100}"
        )
    return payments.chosen(np.argsort(payments.time_ns, kind="stable"))


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise PaymentsFileError(
            str(path), f"its suffix is {suffix or 'missing'}", accepted=" or ".join(SUFFIXES)
        )
    return suffix


def _read_csv(path: Path) -> pa.Table:
    with pacsv.open_csv(path) as reader:
        _require(path, reader.schema.names)
    types = {CUSTOMER: pa.string(), TERMINAL: pa.string(), AMOUNT: pa.string()}
    return pacsv.read_csv(
        path, convert_options=pacsv.ConvertOptions(include_columns=list(COLUMNS), column_types=types)
    )


def _read_parquet(path: Path) -> pa.Table:
    _require(path, pq.read_schema(path).names)
    return pq.read_table(path, columns=list(COLUMNS))


def _require(path: Path, names: list[str]) -> None:
    if missing := [name for name in COLUMNS if name not in names]:
        raise PaymentsFileError(
            str(path), f"it has no column {', '.join(missing)}", accepted=f"at least {', '.join(COLUMNS)}"
        )


def _column(path: Path, table: pa.Table, name: str, wanted: Any, accepted: str) -> Any:
    """A column without gaps as the wanted type."""
    column = _whole(path, table, name)
    try:
        if pa.types.is_floating(column.type) and wanted is _MONEY:
            return pc.round(column, ndigits=2).cast(_MONEY)
        return column.cast(wanted)
    except pa.ArrowException as exc:
        raise PaymentsFileError(str(path), _first_line(exc), column=name, accepted=accepted) from exc


def _codes(path: Path, table: pa.Table, name: str) -> Int64s:
    """Ids as numbers from 1, in order of their first appearance."""
    column = _whole(path, table, name).combine_chunks()
    encoded = column.dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64) + 1  # type: ignore[no-any-return]  # pyarrow is untyped


def _whole(path: Path, table: pa.Table, name: str) -> Any:
    column = table.column(name)
    if column.null_count:
        raise PaymentsFileError(str(path), f"{column.null_count:,} values are missing", column=name)
    return column


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0].rstrip(".")
