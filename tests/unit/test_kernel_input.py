"""What the ledger takes: any layout of memory, but no block that is not one, and no time that is none."""

import pickle
from typing import Any

import numpy as np
import pytest

from engine.layout import LEG_FACT, LegFlag, account_columns, ids_column, open_columns
from engine.ledger import (
    InvariantBroken,
    Ledger,
    LedgerConfig,
    LedgerError,
    LegBlock,
    LoadedLegs,
    TurnTooLarge,
    WindowFull,
)
from engine.results import Result
from tests.unit.kernel_scenes import NOW, POST, block, config, legs, new_ledger, send, slugs, v7


def test_read_only_scattered_and_misaligned_columns_are_taken() -> None:
    expected = send(new_ledger(), {"id": v7(1)}, {"id": v7(2), "amount": 7})
    columns = legs({"id": v7(1)}, {"id": v7(2), "amount": 7})
    for column in columns:
        column.flags.writeable = False
    misaligned = np.zeros(17, np.uint8)[1:].view(np.int64)
    misaligned[:] = columns.amount
    scattered = np.zeros((2, 4), np.uint64)[:, ::2]
    scattered[:] = columns.id
    ledger = new_ledger()
    given = columns._replace(id=scattered, amount=misaligned)
    outcome = ledger.apply_legs(LegBlock(given, np.array([0, 2])), NOW)
    assert outcome.status.tolist() == expected.status.tolist()
    np.testing.assert_array_equal(outcome.facts, expected.facts)


def test_inputs_are_not_written_to() -> None:
    columns = legs({"id": v7(1)}, {"id": v7(1)}, {"id": v7(2), "credit": 9})
    before = [column.copy() for column in columns]
    ledger = new_ledger()
    ledger.apply_legs(LegBlock(columns, np.array([0, 3])), NOW)
    for column, copy in zip(columns, before, strict=True):
        np.testing.assert_array_equal(column, copy)


@pytest.mark.parametrize("offsets", [[], [0], [0, 1], [0, 3], [1, 2], [0, 2, 1, 2], [-1, 2]])
def test_offsets_that_do_not_fit_change_nothing(offsets: list[int]) -> None:
    ledger = new_ledger()
    columns = legs({"id": v7(1)}, {"id": v7(2)})
    with pytest.raises(ValueError, match="offsets"):
        ledger.apply_legs(LegBlock(columns, np.array(offsets, np.int64)), NOW)
    accounts = account_columns(2, id=ids_column([8, 9]), asset=[1, 1], code=[1, 1])
    with pytest.raises(ValueError, match="offsets"):
        ledger.create_accounts(accounts, np.array(offsets, np.int64), NOW)
    assert ledger.account_count == 4
    assert ledger.last_timestamp == NOW


@pytest.mark.parametrize("before", [[2], [-1], [1, 0]])
def test_opens_that_stand_before_no_leg_change_nothing(before: list[int]) -> None:
    ledger = new_ledger()
    opens = open_columns(len(before), before=before, id=ids_column(list(range(7, 7 + len(before)))))
    with pytest.raises(ValueError, match="opens"):
        ledger.apply_legs(block([{"id": v7(1)}, {"id": v7(2)}], opens=opens), NOW)
    assert ledger.account_count == 4


def test_columns_of_different_lengths_are_refused() -> None:
    columns = legs({"id": v7(1)}, {"id": v7(2)})
    with pytest.raises(ValueError, match="column code has 1 rows, expected 2"):
        new_ledger().apply_legs(LegBlock(columns._replace(code=columns.code[:1]), np.array([0, 2])), NOW)


@pytest.mark.parametrize("now", [0, -1, 2**63 - 1, 2**63])
def test_times_that_are_none_are_refused(now: int) -> None:
    ledger = new_ledger()
    with pytest.raises(ValueError, match="nanoseconds"):
        ledger.apply_legs(block([{"id": v7(1)}]), now)
    with pytest.raises(ValueError, match="nanoseconds"):
        ledger.expire(now, 10)


def test_empty_blocks_and_empty_batches_do_nothing() -> None:
    ledger = new_ledger()
    outcome = ledger.apply_legs(block(), NOW)
    assert len(outcome.status) == len(outcome.facts) == 0
    outcome = ledger.apply_legs(block([], [{"id": v7(1)}], []), NOW)
    assert slugs(outcome) == "created"


def test_turn_has_room_for_so_many_events_and_no_more() -> None:
    ledger = new_ledger(ids_per_generation=1, turn_events_max=3)
    ledger.begin_turn()
    ledger.apply_legs(block([{"id": v7(1)}, {"id": v7(2)}, {"id": v7(3)}, {"id": v7(4)}]), NOW)
    state = ledger.state()
    with pytest.raises(TurnTooLarge, match="1 more events"):
        ledger.apply_legs(block([{"id": v7(5)}]), NOW)
    assert ledger.state().keys() == state.keys()
    ledger.begin_turn()
    assert slugs(ledger.apply_legs(block([{"id": v7(5)}]), NOW)) == "created"


def test_the_engines_own_flags_are_the_engines_own() -> None:
    ledger = new_ledger()
    for flag in (LegFlag.EXPIRY, LegFlag.BURNT, LegFlag.OF_MOVE, 1 << 10, 1 << 11, 1 << 12):
        assert slugs(send(ledger, {"id": v7(1), "flags": int(flag)})) == "reserved_flag"
    allowed = int(LegFlag.OF_MOVE) | 1023
    assert slugs(send(ledger, {"id": v7(1), "flags": LegFlag.OF_MOVE}, allowed_flags=allowed)) == "created"
    assert send(ledger, {"id": v7(2), "flags": LegFlag.BURNT}, allowed_flags=allowed).status[0] == (
        Result.RESERVED_FLAG
    )


def test_guards_of_an_account_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no account 4"):
        new_ledger().set_guards(4, 0, 0, NOW)


def loaded(*rows: dict[str, Any], status: int = 0) -> LoadedLegs:
    """Facts as PostgreSQL would give them."""
    facts = np.zeros(len(rows), LEG_FACT)
    for fact, row in zip(facts, rows, strict=True):
        for name, value in row.items():
            fact[name] = value
    return LoadedLegs(facts, np.full(len(rows), status, np.uint8))


def test_loaded_legs_must_be_sorted_and_agree_with_memory() -> None:
    ledger = new_ledger()
    unsorted = loaded({"id_hi": 2}, {"id_hi": 1})
    with pytest.raises(ValueError, match="sorted"):
        ledger.apply_legs(block([{"id": 5}], loaded=unsorted), NOW)
    short = LoadedLegs(unsorted.facts, np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match="one row per loaded leg"):
        ledger.apply_legs(block([{"id": 5}], loaded=short), NOW)
    still_open = loaded({"id_lo": 77, "flags": LegFlag.PENDING})
    with pytest.raises(InvariantBroken, match="open in PostgreSQL"):
        ledger.apply_legs(block([{"id": 5, "flags": POST, "pending_id": 77}], loaded=still_open), NOW)


@pytest.mark.parametrize("error", [WindowFull, TurnTooLarge, InvariantBroken])
def test_errors_survive_pickling(error: type[LedgerError]) -> None:
    copy = pickle.loads(pickle.dumps(error("why")))  # noqa: S301  # our own bytes
    assert type(copy) is error
    assert str(copy) == "why"


def test_settings_that_cannot_work() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        Ledger(config(generations_max=2))
    assert LedgerConfig(hash_seed=1).ids_per_generation == 1 << 22
