"""Small ledgers and legs for the tests of the kernel's mechanisms, and what to compare."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.ids import uuid7
from engine.layout import (
    ACCOUNT_FACT,
    LEG_FACT,
    LegColumns,
    LegFlag,
    account_columns,
    ids_column,
    leg_columns,
)
from engine.ledger import Ledger, LedgerConfig, LegBlock, LegOutcome
from engine.results import Result

MS: Final = 1_760_000_000_000
NOW: Final = MS * 1_000_000
"""When these tests happen, in unix ms and ns."""
SECOND: Final = 10**9
POST: Final = LegFlag.POST_PENDING
VOID: Final = LegFlag.VOID_PENDING
PENDING: Final = LegFlag.PENDING
LINKED: Final = LegFlag.LINKED


def config(**sizes: int) -> LedgerConfig:
    """A ledger whose tables are tiny, so that they have to grow and turn."""
    small = {
        "ids_per_generation": 8,
        "turn_events_max": 512,
        "generations_max": 4,
        "accounts_initial": 2,
        "holds_initial": 2,
        "hash_seed": 99,
    }
    return LedgerConfig(**(small | sizes))


def new_ledger(accounts: int = 4, **sizes: int) -> Ledger:
    """A ledger with accounts 1 to `accounts`, of asset 1."""
    ledger = Ledger(config(**sizes))
    open_accounts(ledger, range(1, accounts + 1))
    return ledger


def open_accounts(ledger: Ledger, ids: Sequence[int], now: int = NOW, **given: npt.ArrayLike) -> None:
    """Creates accounts of asset 1, code 1."""
    count = len(ids)
    fields: dict[str, Any] = {"asset": np.ones(count), "code": np.ones(count)} | given
    columns = account_columns(count, id=ids_column(list(ids)), **fields)
    outcome = ledger.create_accounts(columns, np.array([0, count]), now)
    assert set(outcome.status.tolist()) <= {Result.CREATED}


def legs(*rows: dict[str, Any]) -> LegColumns:
    """Legs by field; 10 from account 1 to account 2 unless it says otherwise."""
    plain = {"debit": 1, "credit": 2, "amount": 10, "asset": 1, "code": 1}
    settling = {"debit": 0, "credit": 0, "amount": 0, "asset": 0, "code": 0}
    full = [(settling if row.get("flags", 0) & (POST | VOID) else plain) | row for row in rows]
    wide = ("id", "debit", "credit", "pending_id", "user_data_128")
    columns: dict[str, Any] = {}
    for name in LegColumns._fields:
        values = [row.get(name, 0) for row in full]
        columns[name] = ids_column(values) if name in wide else values
    return leg_columns(len(rows), **columns)


def block(*batches: Sequence[dict[str, Any]], **parts: Any) -> LegBlock:
    """A block of these batches."""
    offsets = np.cumsum([0, *map(len, batches)], dtype=np.int64)
    return LegBlock(legs(*[row for batch in batches for row in batch]), offsets, **parts)


def send(ledger: Ledger, *rows: dict[str, Any], now: int = NOW, **parts: Any) -> LegOutcome:
    """One batch, in a turn of its own."""
    ledger.begin_turn()
    return ledger.apply_legs(block(rows, **parts), now)


def slugs(outcome: LegOutcome) -> str:
    """The answers in words."""
    return " ".join(Result(status).slug for status in outcome.status.tolist())


def v7(number: int, ms: int = MS) -> int:
    """A UUIDv7 of a millisecond."""
    return uuid7(ms, 0, number)


def assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Array for array."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def creation_facts(ledger: Ledger) -> npt.NDArray[np.void]:
    """How all accounts of a ledger were created, if none was changed since but by legs."""
    facts = np.zeros(ledger.account_count, ACCOUNT_FACT)
    for name in ACCOUNT_FACT.names or ():
        facts[name] = ledger.accounts[name]
    facts["flags"] &= ~np.uint16(2)
    return facts


def no_facts() -> npt.NDArray[np.void]:
    """No leg facts."""
    return np.zeros(0, LEG_FACT)
