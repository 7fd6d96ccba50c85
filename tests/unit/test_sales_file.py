"""The reader of sales files: exact, and clear about what it refuses."""

import lzma
import pickle
from pathlib import Path

import pytest

from simulations.errors import SalesFileError
from simulations.sales_file import read_sales

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
GOOD = "1,T1,LAMP,2,2020-01-02 03:04:00,1.005,17850.0,Norway\n"


def refused(path: Path, content: bytes) -> SalesFileError:
    path.write_bytes(content)
    with pytest.raises(SalesFileError) as caught:
        read_sales(path, "test")
    return caught.value


def test_values_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text(
        HEADER + GOOD + '2,T2,"LAMP, ""BIG""",-3,2020-01-02 03:05:00,-0.1,,"A ""B""\nC"\n\n1,T1,,1,'
        "2020-01-02 03:04:00,999999999999.999,17850,Norway\n"
    )
    sales = read_sales(path, "test")
    assert sales.invoice.values == ["1", "2"]
    assert sales.invoice.codes.tolist() == [0, 1, 0]
    assert sales.item_names == ["LAMP", 'LAMP, "BIG"']
    assert sales.customer.values == ["17850", ""]
    assert sales.customer.codes.tolist() == [0, 1, 0]
    assert sales.country.values == ["Norway", 'A "B"\nC']
    assert sales.quantity.tolist() == [2, -3, 1]
    assert sales.price_mills.tolist() == [1005, -100, 999_999_999_999_999]
    assert sales.time_ns.tolist()[0] == 1_577_934_240 * 10**9


def test_xz_by_name_and_by_content(tmp_path: Path) -> None:
    for name in ("sales.csv.xz", "sales.csv"):
        (tmp_path / name).write_bytes(lzma.compress((HEADER + GOOD).encode()))
        assert read_sales(tmp_path / name, "test").line_count == 1


def test_columns_in_any_order_extra_ones_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    names = HEADER.strip().split(",")
    values = GOOD.strip().split(",")
    path.write_text(
        ",".join(["x", *reversed(names)]) + "\r\n" + ",".join(["y", *reversed(values)]) + "\r\n",
        encoding="utf-8-sig",
        newline="",
    )
    assert read_sales(path, "test").price_mills.tolist() == [1005]


def test_header_alone_is_a_file_without_lines(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text(HEADER)
    sales = read_sales(tmp_path / "sales.csv", "test")
    assert sales.line_count == 0
    assert sales.item_names == []


def test_missing_columns_are_named(tmp_path: Path) -> None:
    error = refused(
        tmp_path / "sales.csv", b"InvoiceNo,StockCode,Quantity,InvoiceDate,CustomerID,Country\n1\n"
    )
    assert error.line == 1
    assert error.problem == "missing columns: Description, UnitPrice"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("Quantity", "two"),
        ("Quantity", "1.5"),
        ("Quantity", ""),
        ("Quantity", "2147483648"),
        ("UnitPrice", "2,55"),
        ("UnitPrice", "2.0005"),
        ("UnitPrice", "NaN"),
        ("UnitPrice", "inf"),
        ("UnitPrice", ""),
        ("UnitPrice", "1e30"),
        ("InvoiceDate", "02/01/2020"),
        ("InvoiceDate", "2020-13-02 03:04:00"),
        ("InvoiceDate", "1969-12-31 23:59:59"),
        ("InvoiceDate", "2200-01-01 00:00:00"),
        ("InvoiceNo", ""),
        ("StockCode", " "),
        ("StockCode", "x" * 61),
        ("StockCode", "T\t1"),
        ("Description", "é" * 101),
        ("Country", "a\x00b"),
    ],
)
def test_wrong_value_is_named_with_line_and_column(tmp_path: Path, column: str, value: str) -> None:
    names = HEADER.strip().split(",")
    row = GOOD.strip().split(",")
    row[names.index(column)] = f'"{value}"'
    rows = [GOOD, "\n", '3,T1,"TWO\nLINES",2,2020-01-02 03:04:00,1,,Norway\n', ",".join(row) + "\n", GOOD]
    error = refused(tmp_path / "sales.csv", (HEADER + "".join(rows)).encode())
    assert (error.line, error.column) == (6, column)
    assert str(tmp_path / "sales.csv") in str(error)
    assert "line 6, column " + column in str(error)


def test_amount_too_large_to_hold(tmp_path: Path) -> None:
    row = "1,T1,LAMP,2147483647,2020-01-02 03:04:00,999999999999.999,,Norway\n"
    error = refused(tmp_path / "sales.csv", (HEADER + GOOD + row).encode())
    assert (error.line, error.column) == (3, "UnitPrice")


def test_row_with_too_few_values(tmp_path: Path) -> None:
    error = refused(tmp_path / "sales.csv", (HEADER + GOOD + "1,T1,LAMP\n").encode())
    assert error.line == 3
    assert "3 values" in error.problem


def test_bad_encoding_is_named_with_line_and_column(tmp_path: Path) -> None:
    error = refused(tmp_path / "sales.csv", (HEADER + GOOD + GOOD.replace("LAMP", "CAFÉ")).encode("latin-1"))
    assert (error.line, error.column) == (3, "Description")
    assert "0xc9" in error.problem


def test_truncated_xz(tmp_path: Path) -> None:
    packed = lzma.compress((HEADER + GOOD * 1000).encode())
    error = refused(tmp_path / "sales.csv.xz", packed[: len(packed) // 2])
    assert "truncated" in str(error)


def test_damaged_xz_and_one_that_is_none(tmp_path: Path) -> None:
    packed = bytearray(lzma.compress((HEADER + GOOD * 1000).encode()))
    packed[len(packed) // 2] ^= 0xFF
    assert "damaged" in str(refused(tmp_path / "sales.csv.xz", bytes(packed)))
    assert "damaged" in str(refused(tmp_path / "sales.csv.xz", (HEADER + GOOD).encode()))


def test_empty_file_missing_file_and_folder(tmp_path: Path) -> None:
    assert "empty" in str(refused(tmp_path / "sales.csv", b""))
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(SalesFileError, match=str(path)):
            read_sales(path, "test")


def test_unclosed_quote(tmp_path: Path) -> None:
    error = refused(tmp_path / "sales.csv", (HEADER + GOOD + '"1,T1,LAMP,2\n' + GOOD).encode())
    assert error.line == 3


def test_error_survives_pickling() -> None:
    error = SalesFileError("a.csv", "wrong", 3, "Quantity", "a number")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert str(copy) == str(error) == "a.csv, line 3, column Quantity: wrong (accepted: a number)"
    assert (copy.line, copy.column, copy.accepted) == (3, "Quantity", "a number")
