"""A seeded market: buyers, sellers, orders, refunds, write-offs; the same seed gives the same market.

It takes the place of recorded sales where there are none, and comes as the same columns, so everything after
it is the same path: planning, replay, totals, proofs.
"""

from typing import Final, NamedTuple, TypeVar

import numpy as np

from engine.layout import SECOND_NS
from simulations.sales import GUEST, Coded, Int64s, Sales

YEAR_START_NS: Final = 1_704_067_200 * SECOND_NS  # 2024-01-01
YEAR_MINUTES: Final = 366 * 24 * 60
MINUTE_NS: Final = 60 * SECOND_NS
LINES_MEAN: Final = 12
LINES_MAX: Final = 200
COUNTRIES: Final = ("Norway", "Germany", "France", "Spain", "Portugal", "Japan", "Kenya", "Chile")
POSTAGE: Final = "POSTAGE"

Random = np.random.Generator


class MarketSize(NamedTuple):
    """How large a market is."""

    orders: int = 12_000
    buyers: int = 2_000
    sellers: int = 40
    items_per_seller: int = 60


class _Lines(NamedTuple):
    """Lines on the way to `Sales`; invoices are numbered by time later."""

    invoice: Int64s
    item: Int64s  # −1 = postage
    quantity: Int64s
    price_mills: Int64s
    minute: Int64s


class _Orders(NamedTuple):
    """One row per invoice."""

    seller: Int64s
    buyer: Int64s  # −1 = a guest
    country: Int64s
    minute: Int64s


_Columns = TypeVar("_Columns", _Lines, _Orders)


def market(seed: int, size: MarketSize | None = None) -> Sales:
    """A year's sales. One in ten orders is partly given back, one in fifty items is written off once."""
    size = size or MarketSize()
    random = np.random.default_rng(seed)
    prices = random.integers(250, 40_000, size.sellers * size.items_per_seller) * 5
    orders = _orders(random, size)
    sold = _sold(random, size, orders, prices)
    parties = [orders]
    lines = [sold, _postage(random, orders)]
    refunds, given_back = _refunds(random, orders, sold, first_invoice=size.orders)
    write_offs, written_off = _write_offs(random, size, first_invoice=size.orders + len(refunds.minute))
    parties += [refunds, write_offs]
    lines += [given_back, written_off]
    return _sales(seed, size, _together(parties), _together(lines), size.orders, len(refunds.minute))


def _orders(random: Random, size: MarketSize) -> _Orders:
    buyer = _popular(random, size.buyers, size.orders)
    country = (buyer * 7 + buyer // 5) % len(COUNTRIES)  # a buyer's country, the same every time
    guest = random.random(size.orders) < 0.1
    return _Orders(
        seller=_popular(random, size.sellers, size.orders),
        buyer=np.where(guest, -1, buyer),
        country=country,
        minute=np.sort(random.integers(0, YEAR_MINUTES, size.orders)),
    )


def _sold(random: Random, size: MarketSize, orders: _Orders, prices: Int64s) -> _Lines:
    counts = np.minimum(random.geometric(1 / LINES_MEAN, size.orders), LINES_MAX)
    invoice = np.repeat(np.arange(size.orders), counts)
    n = len(invoice)
    item = orders.seller[invoice] * size.items_per_seller + _popular(random, size.items_per_seller, n)
    reduced = random.random(n) < 0.15
    gift = random.random(n) < 0.005
    price = np.where(reduced, prices[item] * 4 // 5, prices[item])
    return _Lines(
        invoice=invoice,
        item=item,
        quantity=random.geometric(0.2, n),
        price_mills=np.where(gift, 0, price),
        minute=orders.minute[invoice],
    )


def _postage(random: Random, orders: _Orders) -> _Lines:
    invoice = np.flatnonzero(random.random(len(orders.minute)) < 0.3)
    return _Lines(
        invoice=invoice,
        item=np.full(len(invoice), -1),
        quantity=np.ones(len(invoice), np.int64),
        price_mills=random.integers(3, 20, len(invoice)) * 990,
        minute=orders.minute[invoice],
    )


def _refunds(random: Random, orders: _Orders, sold: _Lines, first_invoice: int) -> tuple[_Orders, _Lines]:
    """One in ten orders sees one in three of its lines come back in part, up to six weeks later."""
    chosen = random.random(len(orders.minute)) < 0.1
    line = np.flatnonzero(chosen[sold.invoice] & (random.random(len(sold.invoice)) < 1 / 3))
    order, invoice = np.unique(sold.invoice[line], return_inverse=True)
    minute = orders.minute[order] + random.integers(60, 40 * 24 * 60, len(order))
    refunds = _Orders(orders.seller[order], orders.buyer[order], orders.country[order], minute)
    part = random.integers(1, sold.quantity[line] + 1)
    given_back = _Lines(
        invoice + first_invoice, sold.item[line], -part, sold.price_mills[line], minute[invoice]
    )
    return refunds, given_back


def _write_offs(random: Random, size: MarketSize, first_invoice: int) -> tuple[_Orders, _Lines]:
    item = np.flatnonzero(random.random(size.sellers * size.items_per_seller) < 0.02)
    n = len(item)
    minute = random.integers(0, YEAR_MINUTES, n)
    write_offs = _Orders(item // size.items_per_seller, np.full(n, -1), np.zeros(n, np.int64), minute)
    written_off = _Lines(
        np.arange(n) + first_invoice, item, -random.integers(1, 20, n), np.zeros(n, np.int64), minute
    )
    return write_offs, written_off


def _sales(
    seed: int, size: MarketSize, parties: _Orders, lines: _Lines, order_count: int, refund_count: int
) -> Sales:
    """The lines by time, with numbers and names."""
    rank = np.empty(len(parties.minute), np.int64)
    rank[np.argsort(parties.minute, kind="stable")] = np.arange(len(parties.minute))
    arranged = np.argsort(rank[lines.invoice], kind="stable")
    invoice = lines.invoice[arranged]
    refund = (np.arange(len(rank)) >= order_count) & (np.arange(len(rank)) < order_count + refund_count)
    numbers = [
        f"{'C' if is_refund else ''}{number + 100_000}"
        for number, is_refund in zip(rank.tolist(), refund.tolist(), strict=True)
    ]
    codes = [
        f"S{item // size.items_per_seller:02}-P{item % size.items_per_seller:03}"
        for item in range(size.sellers * size.items_per_seller)
    ]
    item_names = [f"Item {code}" for code in codes]
    return Sales(
        dataset=f"market-{seed}-{size.orders}",
        currency="GBP",
        invoice=_used(invoice, numbers),
        item=_used(lines.item[arranged] + 1, [POSTAGE, *codes]),
        item_names=_used_names(lines.item[arranged] + 1, ["Postage", *item_names]),
        customer=_used(parties.buyer[invoice] + 1, [GUEST, *(f"B{n:05}" for n in range(size.buyers))]),
        country=_used(parties.country[invoice], list(COUNTRIES)),
        seller=_used(parties.seller[invoice], [f"Seller {n:02}" for n in range(size.sellers)]),
        quantity=lines.quantity[arranged],
        price_mills=lines.price_mills[arranged],
        time_ns=lines.minute[arranged] * MINUTE_NS + YEAR_START_NS,
    )


def _popular(random: Random, among: int, n: int) -> Int64s:
    """n choices among 0 … among − 1, the first ones far more often than the last."""
    return (random.random(n) ** 3 * among).astype(np.int64)


def _used(codes: Int64s, values: list[str]) -> Coded:
    """A column that lists only the values it uses."""
    distinct, inverse = np.unique(codes, return_inverse=True)
    return Coded(inverse.astype(np.int32), [values[code] for code in distinct.tolist()])


def _used_names(codes: Int64s, names: list[str]) -> list[str]:
    return [names[code] for code in np.unique(codes).tolist()]


def _together(parts: list[_Columns]) -> _Columns:
    return type(parts[0])(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
