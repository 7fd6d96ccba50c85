"""Memory: how large things are, that tables grow without losing anything, and that ids hash well."""

import numpy as np
import pytest

from engine.kernel.shapes import HOLD, LEG_ROW, SIDE_ROW
from engine.kernel.storage import slots_for
from engine.layout import ACCOUNT, ids_column
from engine.ledger import Ledger
from tests.unit.kernel_scenes import NOW, PENDING, POST, config, new_ledger, open_accounts, send, slugs, v7


def test_rows_are_as_small_as_was_promised() -> None:
    assert ACCOUNT.itemsize == 136
    assert LEG_ROW.itemsize == 48
    assert SIDE_ROW.itemsize == 56
    assert HOLD.itemsize == 88


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 1000, 1 << 16, 1_000_000, (1 << 22) + (1 << 17)])
def test_an_index_is_a_power_of_two_and_at_most_two_thirds_full(rows: int) -> None:
    slots = slots_for(rows)
    assert slots & (slots - 1) == 0
    assert rows * 3 <= slots * 2


def test_an_idle_account_takes_less_than_250_bytes() -> None:
    rows = 1_000_000
    used = ACCOUNT.itemsize + slots_for(1 << (rows - 1).bit_length()) * 8 / rows
    assert used < 250


def test_accounts_are_found_while_their_table_grows() -> None:
    ledger = Ledger(config())
    ids = [number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128 for number in range(1, 500)]
    for start in range(0, len(ids), 37):
        open_accounts(ledger, ids[start : start + 37])
        assert ledger.lookup(ids_column(ids)).tolist() == [
            row if row < ledger.account_count else -1 for row in range(len(ids))
        ]
    ledger.check()


def test_ids_that_differ_only_in_a_few_bits_do_not_pile_up() -> None:
    ledger = Ledger(config())
    ids = [1 + (number << shift) for shift in (0, 16, 48, 64, 100) for number in range(1, 200)]
    open_accounts(ledger, sorted(set(ids)))
    slots = ledger._books.account_slots
    longest = max(len(run) for run in "".join("x" if slot else " " for slot in slots).split())
    assert longest < 64
    ledger.check()


def test_the_seed_decides_where_ids_lie_but_never_what_is_answered() -> None:
    ledgers = [new_ledger(40, hash_seed=seed) for seed in (0, 1, -1, 2**64 - 2)]
    layouts = {ledger._books.account_slots.tobytes() for ledger in ledgers}
    assert len(layouts) == len(ledgers)
    for ledger in ledgers:
        assert ledger.lookup(ids_column([40, 41])).tolist() == [39, -1]


def test_holds_are_found_while_their_table_grows() -> None:
    ledger = new_ledger(turn_events_max=1024)
    ids = [v7(number) for number in range(300)]
    send(ledger, *({"id": id, "flags": PENDING, "timeout": 9} for id in ids))
    posts = [{"id": v7(1000 + n), "flags": POST, "pending_id": id, "amount": 1} for n, id in enumerate(ids)]
    assert set(slugs(send(ledger, *posts)).split()) == {"created"}
    assert ledger.accounts["credits_posted"].tolist() == [0, 300, 0, 0]
    ledger.check()


def test_legs_that_follow_each_other_share_what_they_have_alike() -> None:
    ledger = new_ledger(ids_per_generation=1024)
    of_move = {"user_data_128": 5, "user_data_64": 6, "user_data_32": 7}
    send(ledger, *({"id": v7(n)} | of_move for n in range(100)))
    assert len(np.asarray(ledger.state()["sides.0"])) == 1
    send(ledger, {"id": v7(200)}, {"id": v7(201), "user_data_32": 8}, {"id": v7(202)} | of_move)
    assert len(np.asarray(ledger.state()["sides.0"])) == 3
    assert slugs(send(ledger, {"id": v7(50)} | of_move)) == "exists"
    assert slugs(send(ledger, {"id": v7(50)})) == "exists_with_different_user_data_128"


def test_untouched_room_takes_no_memory() -> None:
    ledger = new_ledger(ids_per_generation=1 << 22, turn_events_max=1 << 17)
    state = ledger.state()
    assert sum(np.asarray(value).nbytes for value in state.values()) < 10_000
    assert ledger.accounts.nbytes == 4 * ACCOUNT.itemsize
    assert slugs(send(ledger, {"id": v7(1)}, now=NOW)) == "created"
