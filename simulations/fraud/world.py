"""A made world of card payments with frauds of three kinds in it; the same seed gives the same world.

Customers and terminals are points on a square. A customer pays at terminals nearby, with habits of their own:
how often, how much, mostly by day. Then frauds are planted:

1. every payment above a limit is one: what a simple rule finds;
2. some terminals are taken over each day, and for four weeks all payments there are frauds: what the past of
   a terminal tells;
3. some customers' cards are stolen each day, and for two weeks one in three of their payments is five times
   as large and a fraud: what the habits of a customer tell.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.features.definition import DAY_NS
from engine.layout import SECOND_NS
from simulations.fraud.payments import Int64s, Payments

START_DAY: Final = 17_622
"""2018-04-01, a Sunday."""
SIDE: Final = 100.0
PAYMENTS_A_DAY_MAX: Final = 4.0
MEAN_MINOR: Final = (500.0, 10_000.0)
NOON_S: Final = 43_200
SPREAD_S: Final = 20_000
DAY_S: Final = 86_400
LIMIT_MINOR: Final = 22_000
TERMINALS_A_DAY: Final = 2
TERMINAL_DAYS: Final = 28
CUSTOMERS_A_DAY: Final = 3
CUSTOMER_DAYS: Final = 14
STOLEN_SHARE: Final = 3
STOLEN_FACTOR: Final = 5
LARGE, TERMINAL, CUSTOMER = 1, 2, 3
"""The patterns, by number."""
CUSTOMERS_AT_ONCE: Final = 256

Random = np.random.Generator
Floats = npt.NDArray[np.float64]


class WorldSize(NamedTuple):
    """How large a world is."""

    customers: int = 5_000
    terminals: int = 10_000
    days: int = 180
    radius: float = 5.0  # how far customers go, on a square of 100 by 100


def card_world(seed: int, size: WorldSize | None = None) -> Payments:
    """All payments of a world, in order of time; about two a day for each customer."""
    size = size or WorldSize()
    random = np.random.default_rng(seed)
    first, count, near = _neighbours(random, size)
    mean = random.uniform(*MEAN_MINOR, size.customers)
    daily = random.uniform(0, PAYMENTS_A_DAY_MAX, size.customers)
    customer, day = _visits(random, daily, size.days)
    second = np.round(random.normal(NOON_S, SPREAD_S, len(customer))).astype(np.int64)
    real = (second > 0) & (second < DAY_S) & (count[customer] > 0)
    customer, day, second = customer[real], day[real], second[real]
    choice = (random.random(len(customer)) * count[customer]).astype(np.int64)
    payments = Payments(
        time_ns=(START_DAY + day) * DAY_NS + second * SECOND_NS,
        customer=customer + 1,
        terminal=near[first[customer] + choice] + 1,
        amount_minor=_amounts(random, mean[customer]),
        fraud=np.zeros(len(customer), np.uint8),
        pattern=np.zeros(len(customer), np.uint8),
        row=np.arange(len(customer)),
    )
    payments = payments.chosen(np.argsort(payments.time_ns, kind="stable"))._replace(row=payments.row)
    return _with_frauds(random, payments, size)


def _neighbours(random: Random, size: WorldSize) -> tuple[Int64s, Int64s, Int64s]:
    """Of each customer: where in the list of terminals nearby theirs begin, and how many they are."""
    home = random.uniform(0, SIDE, (size.customers, 2))
    place = random.uniform(0, SIDE, (size.terminals, 2))
    counts: list[Int64s] = []
    lists: list[Int64s] = []
    for start in range(0, size.customers, CUSTOMERS_AT_ONCE):
        apart = home[start : start + CUSTOMERS_AT_ONCE, None, :] - place[None, :, :]
        close = (apart**2).sum(axis=2) < size.radius**2
        counts.append(close.sum(axis=1))
        lists.append(np.nonzero(close)[1])
    count = np.concatenate(counts)
    return np.cumsum(count) - count, count, np.concatenate(lists)


def _visits(random: Random, daily: Floats, days: int) -> tuple[Int64s, Int64s]:
    """The customer and the day of each payment."""
    number = random.poisson(np.broadcast_to(daily[:, None], (len(daily), days)))
    visit = np.repeat(np.arange(number.size), number.ravel())
    return visit // days, visit % days


def _amounts(random: Random, mean: Floats) -> Int64s:
    """Amounts around a customer's mean; never negative."""
    amount = random.normal(mean, mean / 2)
    otherwise = random.uniform(0, 2 * mean)
    return np.round(np.where(amount < 0, otherwise, amount)).astype(np.int64)


def _with_frauds(random: Random, payments: Payments, size: WorldSize) -> Payments:
    """The payments with the three patterns planted; of several the last one is named."""
    day = payments.day - START_DAY
    amount = payments.amount_minor.copy()
    pattern = np.where(amount > LIMIT_MINOR, LARGE, 0).astype(np.uint8)
    taken = _struck(random, size.terminals, size.days, TERMINALS_A_DAY, TERMINAL_DAYS)
    pattern[taken[payments.terminal - 1, day]] = TERMINAL
    stolen = _struck(random, size.customers, size.days, CUSTOMERS_A_DAY, CUSTOMER_DAYS)
    abused = stolen[payments.customer - 1, day] & (random.integers(0, STOLEN_SHARE, len(day)) == 0)
    amount[abused] *= STOLEN_FACTOR
    pattern[abused] = CUSTOMER
    return payments._replace(amount_minor=amount, fraud=(pattern > 0).astype(np.uint8), pattern=pattern)


def _struck(random: Random, among: int, days: int, each_day: int, duration: int) -> npt.NDArray[np.bool_]:
    """Who is struck on which day, if so many are chosen each day and stay struck for so long."""
    struck = np.zeros((among, days), np.bool_)
    for day in range(days):
        chosen = random.choice(among, min(each_day, among), replace=False)
        struck[chosen, day : day + duration] = True
    return struck
