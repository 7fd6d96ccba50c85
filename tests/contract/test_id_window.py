"""Ids for ever: with tiny generations, every kind of id sent again is recognised when memory has dropped it.

The ledger must ask the database for each of them, before and after a restart, and must not ask for ids that
are provably new.
"""

from itertools import count
from typing import Any, Final

import pytest

from engine.ids import uuid7
from engine.layout import SECOND_NS, LegFlag, ids_list
from engine.ledger import LedgerConfig, WindowFull
from engine.reference import Account, Leg
from engine.results import Result
from tests.contract.ledger_pair import LedgerPair
from tests.ledgers import Message

NOW: Final = 1_700_000_000 * SECOND_NS
MILLISECONDS: Final = NOW // 1_000_000
WINDOW: Final = LedgerConfig(
    ids_per_generation=4, turn_events_max=64, accounts_initial=2, holds_initial=2, hash_seed=5
)
IDS: Final = {
    "a UUIDv7 of now": uuid7(MILLISECONDS, 1, 1),
    "an old UUIDv7": uuid7(MILLISECONDS - 10**10, 1, 2),
    "a UUIDv7 of the near future": uuid7(MILLISECONDS + 59_000, 1, 3),
    "a UUIDv7 of the far future": uuid7(MILLISECONDS + 10**10, 1, 4),
    "a random id": 0x5D1C_9A7E_33F0_4B5C_8F2E_6A71_90D3_C4B8,
    "a small number": 7,
}
_numbers = count(1_000)


def leg(id: int, **more: Any) -> Leg:
    return Leg(**({"id": id, "debit": 1, "credit": 2, "amount": 5, "asset": 1, "code": 1} | more))


def new_id(milliseconds: int = MILLISECONDS) -> int:
    return uuid7(milliseconds, 1, next(_numbers))


@pytest.fixture
def pair() -> LedgerPair:
    opened = LedgerPair(WINDOW)
    opened.create_accounts([[Account(id=1, asset=1, code=1), Account(id=2, asset=1, code=1)]], NOW)
    return opened


def send(pair: LedgerPair, *legs: Leg) -> list[Result]:
    """Sends one batch as a turn of its own; returns the answers, on which kernel and model agree."""
    before = pair.leg_results.copy()
    pair.apply_block([Message(legs)], NOW)
    pair.compare()
    return sorted((pair.leg_results - before).elements())


def forget_all(pair: LedgerPair) -> None:
    """Sends new legs until all ids of before are dropped from memory."""
    until = pair.kernel.ledger.generation
    while pair.kernel.ledger.dropped <= until:
        assert send(pair, *(leg(new_id()) for _ in range(4))) == [Result.CREATED] * 4
        pair.kernel.project()
        pair.kernel.forget()
    send(pair, leg(new_id()))  # its record says what was dropped


def unknown(pair: LedgerPair, *legs: Leg) -> list[int]:
    """The ids that the ledger wants to be looked up."""
    block = pair.kernel.block([Message(legs)])
    return ids_list(pair.kernel.ledger.unknown_ids(block, NOW))


@pytest.mark.parametrize("restarted", [False, True], ids=["live", "restarted"])
@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
def test_accepted_id_is_recognised_for_ever(pair: LedgerPair, id: int, restarted: bool) -> None:
    assert send(pair, leg(id)) == [Result.CREATED]
    forget_all(pair)
    if restarted:
        pair.restart()
    assert unknown(pair, leg(id)) == [id]
    assert send(pair, leg(id), leg(id, amount=6)) == [Result.EXISTS_WITH_DIFFERENT_AMOUNT, Result.EXISTS]


@pytest.mark.parametrize("restarted", [False, True], ids=["live", "restarted"])
@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
def test_burnt_id_is_recognised_for_ever(pair: LedgerPair, id: int, restarted: bool) -> None:
    assert send(pair, leg(id, debit=99)) == [Result.DEBIT_ACCOUNT_NOT_FOUND]
    forget_all(pair)
    if restarted:
        pair.restart()
    assert unknown(pair, leg(id)) == [id]
    assert send(pair, leg(id)) == [Result.ID_ALREADY_FAILED]


@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
def test_imported_id_is_recognised_for_ever(id: int) -> None:
    pair = LedgerPair(WINDOW)
    first, second = (Account(id=id, asset=1, code=1, flags=4, timestamp=id) for id in (1, 2))
    pair.create_accounts([[first, second]], NOW)
    imported = leg(id, flags=LegFlag.IMPORTED, timestamp=1_000)
    assert send(pair, imported) == [Result.CREATED]
    forget_all(pair)
    assert send(pair, imported) == [Result.EXISTS]


@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
def test_hold_outlives_the_memory_of_its_id(pair: LedgerPair, id: int) -> None:
    hold = leg(id, flags=LegFlag.PENDING)
    assert send(pair, hold) == [Result.CREATED]
    forget_all(pair)
    assert send(pair, hold) == [Result.EXISTS]
    capture = Leg(id=new_id(), pending_id=id, flags=LegFlag.POST_PENDING | LegFlag.KEEP_OPEN, amount=2)
    void = Leg(id=new_id(), pending_id=id, flags=LegFlag.VOID_PENDING)
    assert send(pair, capture, void) == [Result.CREATED] * 2
    forget_all(pair)
    again = Leg(id=new_id(), pending_id=id, flags=LegFlag.POST_PENDING, amount=3)
    more = Leg(id=new_id(), pending_id=id, flags=LegFlag.POST_PENDING, amount=4)
    assert send(pair, again, more, capture, void) == [
        Result.EXISTS,
        Result.EXISTS,
        Result.EXCEEDS_PENDING_TRANSFER_AMOUNT,
        Result.PENDING_TRANSFER_ALREADY_VOIDED,
    ]


def test_new_ids_are_not_looked_up(pair: LedgerPair) -> None:
    for id in IDS.values():
        send(pair, leg(id))
    forget_all(pair)
    new = [
        leg(new_id(MILLISECONDS + later)) for later in range(59_001, 60_000, 10)
    ]  # after the nearest future
    assert unknown(pair, *new) == []


def fill(pair: LedgerPair) -> None:
    """Sends legs until there should be no room, while the database takes none of them in."""
    ledger = pair.kernel.ledger
    for _ in range(WINDOW.generations_max * WINDOW.ids_per_generation):
        ledger.begin_turn()
        send(pair, leg(new_id()))
        ledger.drop_generations(ledger.droppable(pair.kernel.database.timestamp))
    ledger.begin_turn()


def test_nothing_is_dropped_before_the_database_has_it(pair: LedgerPair) -> None:
    with pytest.raises(WindowFull):
        fill(pair)
    assert pair.kernel.ledger.dropped == 0
