"""The data set Online Retail: where its file is looked for, and what it is called in the books.

What its lines mean is said in `simulations.planning`, and with the reasons in `docs/online-retail.md`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from simulations.planning import Plan, plan
from simulations.sales_file import read_sales

DATASET: Final = "online-retail"
FILE_NAMES: Final = ("online_retail.csv.xz", "online_retail.csv")
FOLDERS: Final = (Path("data"), Path("../shared/data"))
VARIABLE: Final = "TESSERA_DATA"
"""A folder that holds the file, or the file itself."""


def find_file(given: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The data set's file, if it is there: where `given` or `$TESSERA_DATA` says, else in `FOLDERS`."""
    if given is None and VARIABLE in environment:
        given = Path(environment[VARIABLE])
    for place in FOLDERS if given is None else (given,):
        if place.is_file():
            return place
        for name in FILE_NAMES:
            if (place / name).is_file():
                return place / name
    return None


def read_plan(path: Path, dataset: str = DATASET) -> Plan:
    """The Moves that a file in the data set's format is. Raises SalesFileError."""
    return plan(read_sales(path, dataset, seller="The retailer"))
