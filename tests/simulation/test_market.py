"""The seeded market is repeatable, is shaped like a market, and its books are what it sold."""

import numpy as np

from actors.runtime import Engine
from actors.settings import Settings
from persistence.database import Database
from simulations.market import MarketSize, market
from simulations.planning import PlannedKind, plan
from simulations.replay import replay

SMALL = MarketSize(orders=600, buyers=120, sellers=6, items_per_seller=25)


def ignore(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


def test_same_seed_same_market() -> None:
    first, second, other = market(3, SMALL), market(3, SMALL), market(4, SMALL)
    assert first.quantity.tolist() == second.quantity.tolist()
    assert first.price_mills.tolist() == second.price_mills.tolist()
    assert first.invoice.values == second.invoice.values
    assert first.quantity.tolist() != other.quantity.tolist()
    assert first.dataset != other.dataset


def test_market_has_orders_refunds_and_write_offs_in_order_of_time() -> None:
    sales = market(3, SMALL)
    planned = plan(sales)
    kinds = np.bincount(planned.kind, minlength=len(PlannedKind))
    assert kinds[PlannedKind.ORDER] == SMALL.orders
    assert kinds[PlannedKind.REFUND] > 20
    assert kinds[PlannedKind.WRITE_OFF] >= 1
    assert (np.diff(planned.time_ns) >= 0).all()
    assert len(sales.seller.values) == SMALL.sellers
    guests = np.array([name == "" for name in sales.customer.values])[sales.customer.codes]
    served = planned.pieces.order >= 0
    assert served[~guests[planned.pieces.refund]].all(), "whoever is known gives back what was bought"
    assert not served[guests[planned.pieces.refund]].any()


async def test_books_are_what_the_market_sold(database: Database) -> None:
    sales = market(5, SMALL)
    planned = plan(sales)
    settings = Settings(database_url=database.dsn, database_schema=database.schema)
    async with Engine.running(settings) as engine:
        report = await replay(engine, planned, ignore)
        assert (await engine.verify()).ok
    assert report.ok
    assert report.moves == planned.move_count
    amounts = sales.quantity * sales.price_mills
    assert report.net_mills == amounts.sum()
    assert report.cancelled_mills == amounts[amounts < 0].sum()
    for column, books in (
        (sales.customer, report.books.by_customer),
        (sales.country, report.books.by_country),
    ):
        for code, name in enumerate(column.values):
            assert books.get(name, 0) == amounts[column.codes == code].sum()
