"""Where the sales of a run come from: a file of the data set's format, or a market made from a seed."""

from pathlib import Path
from typing import Final

import msgspec

from simulations.market import MarketSize, market
from simulations.online_retail import DATASET, read_plan
from simulations.planning import Plan, plan

SEED: Final = 20_260_101
ORDERS: Final = MarketSize().orders


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file, or without one the market of a seed and size."""

    path: str | None = None
    seed: int = SEED
    orders: int = ORDERS

    def describe(self) -> str:
        """In words, for a report."""
        if self.path is not None:
            return f"the sales in {self.path}"
        return f"a market of {self.orders:,} orders made from seed {self.seed}"


def read_source(source: Source) -> Plan:
    """The Moves of a source. Raises SalesFileError."""
    if source.path is not None:
        return read_plan(Path(source.path), DATASET)
    return plan(market(source.seed, MarketSize(orders=source.orders)))
