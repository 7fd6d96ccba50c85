"""What a model is trained on, what it is judged on, and how the cards it points at are counted.

A model is trained on some days, then days pass until their frauds are known, then it is judged on some days
more. Cards whose fraud is known by then are out of the test: those with a fraud in the training days, and for
each day of the test those with a fraud up to the label delay before it.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from simulations.errors import SimulationError
from simulations.fraud.payments import Payments

TRAIN_DAYS: Final = 7
DELAY_DAYS: Final = 7
TEST_DAYS: Final = 7
WARM_UP_DAYS: Final = 115
"""From the first day to the first one of training, so that windows are full, unless the file is too short."""

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class ProtocolError(SimulationError):
    """The payments do not allow for the protocol: what is missing, and when."""


class Periods(NamedTuple):
    """The days of training and test, since 1970-01-01."""

    start: int
    train: int = TRAIN_DAYS
    delay: int = DELAY_DAYS
    test: int = TEST_DAYS

    @property
    def test_start(self) -> int:
        """The first day of the test."""
        return self.start + self.train + self.delay

    @property
    def days(self) -> int:
        """From the first day of training to the last one of the test."""
        return self.train + self.delay + self.test


def default_start(payments: Payments) -> int:
    """The first training day: the 116th of the payments, or the last one that leaves days enough."""
    first, last = int(payments.day[0]), int(payments.day[-1])
    return max(first, min(first + WARM_UP_DAYS, last + 1 - Periods(0).days))


def split(payments: Payments, periods: Periods) -> tuple[Mask, Mask]:
    """Which payments are trained on, and which ones are judged. Raises ProtocolError if there are too few."""
    day = payments.day
    train = (day >= periods.start) & (day < periods.start + periods.train)
    test = np.zeros(len(day), np.bool_)
    fraud = payments.fraud == 1
    since_start = day >= periods.start
    for today in range(periods.test_start, periods.test_start + periods.test):
        known = fraud & since_start & (day < max(today - periods.delay, periods.start + periods.train))
        cards = np.unique(payments.customer[known])
        test |= (day == today) & ~np.isin(payments.customer, cards)
    for name, which in (("training", train), ("test", test)):
        if not which.any():
            raise ProtocolError(f"there are no payments in the {name} days{_say(payments, periods)}")
        if len(np.unique(payments.fraud[which])) < 2:
            raise ProtocolError(
                f"the payments of the {name} days are all frauds or all none{_say(payments, periods)}"
            )
    return train, test


def card_precision(payments: Payments, score: Floats, top: int) -> float:
    """Of the `top` cards with the highest scores of a day, the share with a fraud on it; the mean over days.

    A card's score is its highest. One that was pointed at rightly is out on the days after.
    """
    found = np.zeros(0, np.int64)
    shares = []
    for today in np.unique(payments.day):
        which = (payments.day == today) & ~np.isin(payments.customer, found)
        cards, card = np.unique(payments.customer[which], return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, card, score[which])
        defrauded = np.zeros(len(cards), np.bool_)
        np.logical_or.at(defrauded, card, payments.fraud[which] == 1)
        pointed_at = np.argsort(-highest, kind="stable")[:top]
        right = cards[pointed_at[defrauded[pointed_at]]]
        shares.append(len(right) / top)
        found = np.concatenate([found, right])
    return float(np.mean(shares))


def as_date(day: int) -> str:
    """A day since 1970-01-01 as a date."""
    return str(np.datetime64(day, "D"))


def _say(payments: Payments, periods: Periods) -> str:
    first, last = as_date(int(payments.day[0])), as_date(int(payments.day[-1]))
    return (
        f": training starts on {as_date(periods.start)} and needs {periods.days} days, "
        f"the payments go from {first} to {last}"
    )
