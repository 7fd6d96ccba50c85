"""The replay's totals are DuckDB's, to the mill, and a second replay posts nothing."""

import lzma
import os
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pytest

from actors.runtime import Engine
from actors.settings import Settings
from engine.commands import CreateThing
from engine.entities import ThingKind
from engine.ids import uuid7
from persistence.database import Database
from simulations.market import MarketSize, market
from simulations.online_retail import find_file, read_plan
from simulations.replay import NotPrepared, ReplayReport, replay
from simulations.sales import Sales
from simulations.sales_file import read_sales

TINY = Path(__file__).with_name("tiny_sales.csv")
GENERATED_ORDERS = 1_500


def settings_of(database: Database) -> Settings:
    return Settings(database_url=database.dsn, database_schema=database.schema)


def ignore(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


class Expected:
    """What DuckDB makes of a file; amounts in mills."""

    def __init__(self, path: Path, folder: Path) -> None:
        plain = path
        if path.suffix == ".xz":
            plain = folder / "plain.csv"
            plain.write_bytes(lzma.decompress(path.read_bytes()))
        self._connection = duckdb.connect()
        self._connection.execute(
            """
            create table line as
            select InvoiceNo, InvoiceDate, coalesce(Country, '') as Country,
                   regexp_replace(coalesce(CustomerID, ''), '[.]0$', '') as CustomerID,
                   (Quantity::hugeint * UnitPrice::decimal(18, 3) * 1000)::hugeint as mills
            from read_csv(?, all_varchar = true, header = true)
            """,
            [str(plain)],
        )
        self._lines = self._connection.table("line")

    def total(self, where: str = "true") -> int:
        ((mills,),) = self._lines.filter(where).aggregate("coalesce(sum(mills), 0)").fetchall()
        return int(mills)

    def by(self, value: str) -> dict[str, int]:
        rows = self._lines.aggregate(f"{value}, sum(mills)", value).fetchall()
        return {name: int(mills) for name, mills in rows}

    def lines(self) -> int:
        ((count,),) = self._lines.aggregate("count(*)").fetchall()
        return int(count)


def assert_books_are(report: ReplayReport, expected: Expected) -> None:
    books = report.books
    assert report.lines == expected.lines()
    assert report.net_mills == expected.total()
    assert report.cancelled_mills == expected.total("InvoiceNo like 'C%'")
    assert books.by_month == expected.by("substr(InvoiceDate, 1, 7)")
    assert books.by_country == expected.by("Country")
    assert books.by_customer == expected.by("CustomerID")
    assert {name: balance.difference for name, balance in report.trial_balance.items()} == dict.fromkeys(
        report.trial_balance, 0
    )
    assert report.refused == 0
    assert report.refusals == []
    assert books.undrained == {}
    assert report.ok


async def replayed_twice(database: Database, path: Path, expected: Expected) -> ReplayReport:
    """Replay, check the books, replay again on the next engine, check that nothing has changed."""
    planned = read_plan(path)
    async with Engine.running(settings_of(database)) as engine:
        first = await replay(engine, planned, ignore)
    assert_books_are(first, expected)
    assert (first.moves, first.repeats) == (planned.move_count, 0)
    assert first.entries == first.books.entries
    async with Engine.running(settings_of(database)) as engine:
        second = await replay(engine, planned, ignore)
        assert (await engine.verify()).ok
    assert_books_are(second, expected)
    assert (second.moves, second.repeats, second.entries) == (0, planned.move_count, 0)
    assert second.books == first.books
    return first


async def test_tiny_file_with_every_trap(database: Database, tmp_path: Path) -> None:
    report = await replayed_twice(database, TINY, Expected(TINY, tmp_path))
    assert (report.orders, report.refunds, report.adjustments) == (11, 8, 5)
    assert report.unmatched_lines == 11
    assert (report.unmatched_units, report.unmatched_mills) == (5, 708_906)
    assert report.books.moves == report.moves


async def test_things_that_are_there_already_will_do_if_their_exponents_agree(database: Database) -> None:
    planned = read_plan(TINY)
    lantern = CreateThing(id=uuid7(1, 2, 3), kind=ThingKind.PRODUCT, code="T100", name="Made by hand")
    pounds = CreateThing(id=uuid7(1, 2, 4), kind=ThingKind.ASSET, code="GBP", exponent=2)
    async with Engine.running(settings_of(database)) as engine:
        assert (await engine.create_things([lantern]))[0].accepted
        renamed = planned._replace(
            sales=planned.sales._replace(item_names=["?"] * len(planned.sales.item_names))
        )
        assert (await replay(engine, planned, ignore)).ok
        again = await replay(engine, renamed, ignore)
        assert (again.repeats, again.ok) == (planned.move_count, True)
    other = msgspec.structs.replace(settings_of(database), database_schema="other")
    async with Engine.running(other) as engine:
        assert (await engine.create_things([pounds]))[0].accepted
        with pytest.raises(NotPrepared, match="'GBP' with 2 decimals, and these sales need 3"):
            await replay(engine, planned, ignore)


async def test_whole_file(database: Database, tmp_path: Path) -> None:
    """The data set where it is at hand, else a file of the same shape; the test is the same."""
    path = find_file(None, os.environ) or generated_file(tmp_path / "generated.csv.xz")
    report = await replayed_twice(database, path, Expected(path, tmp_path))
    if path.name.startswith("online_retail"):
        assert (report.lines, report.moves) == (541_909, 25_900)
        assert (report.net_mills, report.cancelled_mills) == (9_747_747_934, -896_812_490)
        assert len([name for name in report.books.by_customer if name]) == 4_372


def generated_file(path: Path) -> Path:
    """A file like the data set's, from the seeded market."""
    write(market(11, MarketSize(orders=GENERATED_ORDERS, buyers=300, sellers=5)), path)
    return path


def write(sales: Sales, path: Path) -> None:
    dates = np.datetime_as_string(sales.time_ns.astype("M8[ns]"), unit="s")
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.write("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n")
        for line in range(sales.line_count):
            item = sales.item.codes[line]
            whole, rest = divmod(int(sales.price_mills[line]), 1000)
            file.write(
                f"{sales.invoice.values[sales.invoice.codes[line]]},{sales.item.values[item]},"
                f"{sales.item_names[item]},{sales.quantity[line]},{dates[line].replace('T', ' ')},"
                f"{whole}.{rest:03},{sales.customer.values[sales.customer.codes[line]]},"
                f"{sales.country.values[sales.country.codes[line]]}\n"
            )


def test_generated_file_reads_back(tmp_path: Path) -> None:
    original = market(11, MarketSize(orders=50, buyers=20, sellers=2))
    write(original, tmp_path / "sales.csv.xz")
    again = read_sales(tmp_path / "sales.csv.xz", original.dataset)
    assert again.quantity.tolist() == original.quantity.tolist()
    assert again.price_mills.tolist() == original.price_mills.tolist()
    assert again.time_ns.tolist() == original.time_ns.tolist()
    assert [again.item.values[code] for code in again.item.codes] == [
        original.item.values[code] for code in original.item.codes
    ]
