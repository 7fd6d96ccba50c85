"""Transfers between accounts, with accounts known to launder: a folder in the format of AMLSim's output.

`nodes.csv` has the columns nodeid and isFraud, `transactions.csv` has sourceNodeId, targetNodeId, value and
time (a whole number of steps). Both may be packed with xz.
"""

import io
import lzma
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from simulations.errors import PaymentsFileError

Int64s = npt.NDArray[np.int64]
_MONEY: Final = pa.decimal128(14, 2)
_NODES: Final = {"nodeid": pa.int64(), "isFraud": pa.int64()}
_TRANSFERS: Final = {
    "sourceNodeId": pa.int64(),
    "targetNodeId": pa.int64(),
    "value": pa.string(),
    "time": pa.int64(),
}


class Transfers(NamedTuple):
    """Transfers in order of time, between accounts 0 … n − 1."""

    source: Int64s
    target: Int64s
    amount_minor: Int64s
    step: Int64s
    launders: npt.NDArray[np.uint8]  # of each account


def read_transfers(folder: Path) -> Transfers:
    """The transfers of a folder. Raises PaymentsFileError, which says what is wrong."""
    nodes, nodes_path = _read(folder, "nodes.csv", _NODES)
    moved, path = _read(folder, "transactions.csv", _TRANSFERS)
    ids = nodes.column("nodeid").to_numpy()
    order = np.argsort(ids, kind="stable")
    if (np.diff(ids[order]) == 0).any():
        raise PaymentsFileError(str(nodes_path), "an account is there twice", column="nodeid")
    ends = []
    for name in ("sourceNodeId", "targetNodeId"):
        given = moved.column(name).to_numpy()
        place = np.minimum(np.searchsorted(ids, given, sorter=order), len(ids) - 1)
        if (ids[order[place]] != given).any():
            raise PaymentsFileError(str(path), "an account is not among the nodes", column=name)
        ends.append(order[place])
    try:
        cents = pc.multiply(moved.column("value").cast(_MONEY), pa.scalar(100)).cast(pa.int64()).to_numpy()
    except pa.ArrowException as exc:
        raise PaymentsFileError(str(path), str(exc), column="value", accepted="an amount like 57.16") from exc
    step = moved.column("time").to_numpy()
    by_time = np.argsort(step, kind="stable")
    launders = nodes.column("isFraud").to_numpy().astype(np.uint8)
    return Transfers(ends[0][by_time], ends[1][by_time], cents[by_time], step[by_time], launders)


def _read(folder: Path, name: str, types: dict[str, Any]) -> tuple[pa.Table, Path]:
    """The columns of a file, packed or not, and where it was found."""
    for path in (folder / name, folder / f"{name}.xz"):
        if not path.is_file():
            continue
        try:
            content = path.read_bytes()
            plain = lzma.decompress(content) if path.suffix == ".xz" else content
            options = pacsv.ConvertOptions(include_columns=list(types), column_types=types)
            table = pacsv.read_csv(io.BytesIO(plain), convert_options=options)
        except (OSError, lzma.LZMAError, pa.ArrowException, KeyError) as exc:
            raise PaymentsFileError(str(path), str(exc), accepted=f"columns {', '.join(types)}") from exc
        if table.num_rows == 0 or any(column.null_count for column in table.columns):
            raise PaymentsFileError(str(path), "it has no rows, or values are missing")
        return table, path
    raise PaymentsFileError(str(folder), f"there is no {name} in it, nor {name}.xz")
