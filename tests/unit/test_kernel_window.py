"""The id window with tiny generations: nothing that was seen is ever taken for new."""

from typing import Any

import numpy as np
import pytest

import engine.kernel.storage
import engine.ledger
from engine.layout import LEG_FACT, HoldStatus, LegFlag, account_columns, ids_column, ids_list
from engine.ledger import InvariantBroken, Ledger, LoadedLegs, WindowFull
from engine.results import Result
from tests.unit.kernel_scenes import (
    MS,
    NOW,
    PENDING,
    POST,
    SECOND,
    VOID,
    assert_same,
    block,
    config,
    new_ledger,
    send,
    slugs,
    v7,
)

FAR_MS = MS + 10_000_000
"""Far in the future."""


def fill_generation(ledger: Ledger, first: int, ms: int = MS) -> None:
    """Fills the present generation with 8 fresh legs, so that the next turn opens another."""
    send(ledger, *({"id": v7(first + n, ms)} for n in range(8)), now=ms * 1_000_000)


def drop_all_but_two(ledger: Ledger) -> None:
    """As if the projection had everything."""
    ledger.drop_generations(ledger.droppable(ledger.last_timestamp + 1))


def unknown(ledger: Ledger, *rows: dict[str, Any], now: int = NOW) -> list[int]:
    """What has to be looked up before these legs are applied."""
    return ids_list(ledger.unknown_ids(block(rows), now))


def aged_ledger(*rows: dict[str, Any]) -> Ledger:
    """A ledger that has seen these legs, and has forgotten them."""
    ledger = new_ledger()
    send(ledger, *rows)
    for age in range(1, 5):
        fill_generation(ledger, 100 * age, MS + age)
    drop_all_but_two(ledger)
    assert ledger.dropped >= 2
    return ledger


def test_a_generation_takes_its_fill_and_the_turn_after_opens_the_next() -> None:
    ledger = new_ledger()
    fill_generation(ledger, 0)
    assert (ledger.generation, ledger.dropped) == (0, 0)
    ledger.begin_turn()
    assert ledger.generation == 1
    ledger.begin_turn()
    assert ledger.generation == 1


def test_ids_are_known_in_every_generation() -> None:
    ledger = new_ledger()
    for age in range(4):
        fill_generation(ledger, 100 * age)
    for id in (v7(3), v7(103), v7(203), v7(303)):
        assert slugs(ledger.apply_legs(block([{"id": id}]), NOW)) == "exists"
    ledger.check()


def test_full_window_refuses_turns_until_a_generation_is_dropped() -> None:
    ledger = new_ledger()
    for age in range(4):
        fill_generation(ledger, 100 * age, MS + age)
    with pytest.raises(WindowFull, match="all 4 generations"):
        ledger.begin_turn()
    assert ledger.generation == 3
    assert ledger.droppable(NOW) == 0
    drop_all_but_two(ledger)
    ledger.begin_turn()
    assert (ledger.generation, ledger.dropped) == (4, 2)


def test_a_generation_is_droppable_only_when_all_of_it_is_projected() -> None:
    ledger = new_ledger()
    ends = []
    for age in range(4):
        fill_generation(ledger, 100 * age, MS + age)
        ends.append(ledger.last_timestamp)
    assert [ledger.droppable(end) for end in ends] == [0, 1, 2, 2]
    assert ledger.droppable(ends[1] - 7) == 1
    assert ledger.droppable(10**18 * 4) == 2


def test_the_newest_two_generations_stay() -> None:
    ledger = new_ledger()
    for age in range(3):
        fill_generation(ledger, 100 * age, MS + age)
    with pytest.raises(ValueError, match="newest 2"):
        ledger.drop_generations(2)
    ledger.drop_generations(1)
    assert ledger.dropped == 1


def test_places_of_dropped_generations_are_used_again() -> None:
    ledger = new_ledger()
    for age in range(20):
        fill_generation(ledger, 100 * age, MS + age)
        drop_all_but_two(ledger)
    assert ledger.generation == 19
    assert slugs(send(ledger, {"id": v7(1803, MS + 18)}, {"id": v7(1903, MS + 19)})) == "exists exists"
    ledger.check()


def test_fresh_ids_need_no_lookup() -> None:
    ledger = aged_ledger({"id": v7(1)})
    assert unknown(ledger, {"id": v7(2, MS + 5)}, {"id": v7(3, MS + 60_000)}) == []


@pytest.mark.parametrize(
    "id",
    [v7(1), v7(999), 17, v7(5) & ~(15 << 76), v7(5, MS + 60_001), v7(5, MS + 5) & ~(3 << 62)],
    ids=["dropped", "as old", "no v7", "version 0", "future", "wrong variant"],
)
def test_other_ids_are_looked_up(id: int) -> None:
    ledger = aged_ledger({"id": v7(1)})
    assert unknown(ledger, {"id": id}) == [id]


def test_ids_that_are_none_are_not_looked_up() -> None:
    ledger = aged_ledger({"id": v7(1)})
    assert unknown(ledger, {"id": 0}, {"id": 2**128 - 1}) == []


def test_ids_of_moves_legs_are_looked_up_like_any_other() -> None:
    ledger = aged_ledger({"id": v7(1)})
    fresh = v7(900, MS + 6)
    assert unknown(ledger, {"id": 17, "flags": LegFlag.OF_MOVE}, {"id": fresh, "flags": LegFlag.OF_MOVE}) == [
        17
    ]


def test_ids_in_memory_are_not_looked_up() -> None:
    ledger = aged_ledger({"id": v7(1)})
    send(ledger, {"id": 18})
    assert unknown(ledger, {"id": 18}, {"id": v7(401, MS + 4)}) == []


def test_each_id_is_looked_up_once() -> None:
    ledger = aged_ledger({"id": v7(1)})
    assert unknown(ledger, {"id": 18}, {"id": 17}, {"id": 18}) == [17, 18]


def test_holds_that_are_not_in_memory_are_looked_up() -> None:
    ledger = aged_ledger({"id": v7(1), "flags": PENDING})
    fresh = {"id": v7(900, MS + 6)}
    post = fresh | {"flags": POST}
    assert unknown(ledger, post | {"pending_id": v7(1)}) == []  # open: in memory however old
    assert unknown(ledger, post | {"pending_id": 19}) == [19]
    assert unknown(ledger, post | {"pending_id": v7(901, MS + 6)}) == []  # never seen
    assert unknown(ledger, fresh | {"pending_id": 19}) == []  # refused without it
    assert unknown(ledger, post | {"pending_id": 0}) == []
    assert slugs(send(ledger, post | {"pending_id": v7(1), "amount": 10})) == "created"


def test_future_ids_are_looked_up_for_ever_once_they_were_dropped() -> None:
    future = [v7(number, FAR_MS) for number in range(3)]
    ledger = aged_ledger(*({"id": id} for id in future))
    later = FAR_MS * 1_000_000
    assert unknown(ledger, {"id": future[1]}, {"id": v7(9, FAR_MS)}, now=later) == [future[1]]
    assert unknown(ledger, {"id": v7(9, MS + 5)}) == []  # the watermark did not follow them
    restored = Ledger(config())
    restored.restore(ledger.state())
    assert unknown(restored, *({"id": id} for id in future), now=later) == future


def test_future_ids_are_forgotten_one_by_one_as_the_watermark_passes_them() -> None:
    ledger = aged_ledger({"id": v7(1, FAR_MS)})
    assert len(np.asarray(ledger.state()["strays"])) == 1
    for age in range(4):
        fill_generation(ledger, 10_000 + 100 * age, FAR_MS + 1 + age)
        drop_all_but_two(ledger)
    assert len(np.asarray(ledger.state()["strays"])) == 0
    assert unknown(ledger, {"id": v7(1, FAR_MS)}, now=FAR_MS * 1_000_000) == [v7(1, FAR_MS)]


def test_more_future_ids_than_are_remembered_raise_the_watermark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.ledger, "STRAYS_MAX", 2)
    future = [v7(number, FAR_MS + 1000 * number) for number in range(4)]
    ledger = aged_ledger(*({"id": id} for id in future))
    later = (FAR_MS + 5000) * 1_000_000
    assert unknown(ledger, *({"id": id} for id in future), now=later) == future
    assert unknown(ledger, {"id": v7(9, FAR_MS + 999)}, now=later) == [v7(9, FAR_MS + 999)]
    assert unknown(ledger, {"id": v7(9, FAR_MS + 1001)}, now=later) == []


def test_a_generation_full_of_future_ids_raises_its_watermark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.kernel.storage, "STRAYS_PER_GENERATION", 2)
    future = [v7(number, FAR_MS + number) for number in range(5)]
    ledger = aged_ledger(*({"id": id} for id in future))
    later = (FAR_MS + 5000) * 1_000_000
    assert unknown(ledger, *({"id": id} for id in future), now=later) == future
    assert unknown(ledger, {"id": v7(9, FAR_MS + 9)}, now=later) == []


def loaded(facts: Any, *status: int) -> LoadedLegs:
    """What PostgreSQL gives back, sorted by id."""
    order = np.lexsort((facts["id_lo"], facts["id_hi"]))
    return LoadedLegs(facts[order], np.array(status, np.uint8)[order])


def test_legs_that_were_loaded_are_repeats_and_burnt_ids_stay_burnt() -> None:
    first = new_ledger()
    facts = send(first, {"id": 51, "user_data_32": 4}, {"id": 52, "debit": 77}).facts
    ledger = new_ledger()
    known = loaded(facts, 0, 0)
    rows = [{"id": 51, "user_data_32": 4}, {"id": 51}, {"id": 52}, {"id": 53}]
    outcome = ledger.apply_legs(block(rows, loaded=known), NOW + 50)
    assert slugs(outcome) == "exists exists_with_different_user_data_32 id_already_failed created"
    assert outcome.timestamp[0] == facts["timestamp"][0]
    assert outcome.amount[0] == 10


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (HoldStatus.POSTED, "pending_transfer_already_posted"),
        (HoldStatus.VOIDED, "pending_transfer_already_voided"),
        (HoldStatus.EXPIRED, "pending_transfer_expired"),
    ],
)
def test_holds_that_were_loaded_are_resolved(status: int, expected: str) -> None:
    facts = send(new_ledger(), {"id": 51, "flags": PENDING}).facts.copy()
    facts["held"] = 6  # after a capture of 4
    ledger = new_ledger()
    parts: dict[str, Any] = {"loaded": loaded(facts, status)}
    post = {"id": 60, "flags": POST, "pending_id": 51}
    assert slugs(send(ledger, post | {"amount": 6}, **parts)) == expected
    assert slugs(send(ledger, post | {"amount": 7}, **parts)) == "exceeds_pending_transfer_amount"
    void = post | {"flags": VOID}
    assert slugs(send(ledger, void, **parts)) == expected
    assert slugs(send(ledger, void | {"amount": 5}, **parts)) == "pending_transfer_has_different_amount"
    assert slugs(send(ledger, post | {"debit": 3}, **parts)).endswith("different_debit_account_id")
    assert ledger.state()["hold_count"] == 0


def test_loaded_ids_that_are_no_holds() -> None:
    facts = send(new_ledger(), {"id": 51}, {"id": 52, "debit": 77}).facts
    ledger = new_ledger()
    post = {"id": 60, "flags": POST}
    parts: dict[str, Any] = {"loaded": loaded(facts, 0, 0)}
    assert slugs(send(ledger, post | {"pending_id": 51}, **parts)) == "pending_transfer_not_pending"
    assert slugs(send(ledger, post | {"pending_id": 52}, **parts)) == "pending_transfer_not_found"


def test_a_loaded_post_is_compared_after_inheritance_from_its_loaded_hold() -> None:
    first = new_ledger()
    hold = send(first, {"id": 51, "flags": PENDING, "user_data_128": 7, "user_data_64": 8}).facts.copy()
    post = {"id": 52, "flags": POST, "pending_id": 51, "amount": 10, "user_data_32": 9}
    posted = send(first, post).facts
    hold["held"] = 10
    ledger = new_ledger()
    known = loaded(np.concatenate([hold, posted]), HoldStatus.POSTED, 0)
    rows = [
        post,
        post | {"amount": 2**63 - 1},
        post | {"user_data_128": 7, "user_data_64": 8, "debit": 1, "code": 1},
        post | {"user_data_64": 9},
        post | {"user_data_32": 0},
    ]
    assert slugs(send(ledger, *rows, loaded=known)) == (
        "exists exists exists exists_with_different_user_data_64 exists_with_different_user_data_32"
    )


def test_resolved_holds_are_freed_with_the_generation_of_their_end_and_open_ones_stay() -> None:
    ledger = new_ledger()
    send(ledger, *({"id": v7(n), "flags": PENDING, "timeout": 5000 + n} for n in range(6)))
    send(ledger, *({"id": v7(10 + n), "flags": VOID, "pending_id": v7(n)} for n in (0, 2, 5)))
    for age in range(1, 4):
        fill_generation(ledger, 100 * age, MS + age)
    assert ledger.state()["hold_count"] == 6
    ledger.drop_generations(1)
    assert ledger.state()["hold_count"] == 3
    assert ledger.next_expiry == NOW + 2 + 5001 * SECOND
    ledger.check()
    again = {"id": v7(20, MS + 3), "flags": VOID}
    assert slugs(send(ledger, again | {"pending_id": v7(1)})) == "created"
    ledger.check()


def test_accounts_are_not_imported_into_the_time_of_dropped_legs() -> None:
    ledger = new_ledger(2)
    times = [NOW + 100 * n for n in range(1, 40)]
    for start in range(0, 32, 8):
        rows = [
            {"id": v7(n), "flags": LegFlag.IMPORTED, "timestamp": times[n]} for n in range(start, start + 8)
        ]
        assert set(slugs(send(ledger, *rows, now=NOW + 10**6)).split()) == {"created"}
    ledger.drop_generations(2)
    answers = [
        import_account(ledger, 50 + n, t) for n, t in enumerate((times[15] - 1, times[20], times[20] + 1))
    ]
    assert answers == ["imported_event_timestamp_must_not_regress"] * 2 + ["created"]


def import_account(ledger: Ledger, id: int, timestamp: int) -> str:
    """The answer to an imported account."""
    columns = account_columns(1, id=ids_column([id]), asset=[1], code=[1], flags=[4], timestamp=[timestamp])
    outcome = ledger.create_accounts(columns, np.array([0, 1]), NOW + 10**7)
    return Result(outcome.status[0]).slug


def test_replay_takes_the_window_where_it_was() -> None:
    ledger, follower = new_ledger(), new_ledger()
    for age in range(12):
        ledger.begin_turn() if ledger.generation - ledger.dropped < 3 else drop_all_but_two(ledger)
        rows = [{"id": v7(100 * age + n, MS + age)} for n in range(8)]
        facts = send(ledger, *rows, now=(MS + age) * 1_000_000).facts
        follower.set_generation(ledger.generation, ledger.dropped)
        follower.replay_legs(facts)
        assert_same(ledger.state(), follower.state())
    assert follower.dropped > 5


@pytest.mark.parametrize(("generation", "dropped"), [(0, 0), (2, 0), (9, 1), (3, 4)])
def test_a_window_never_goes_back_or_beyond_its_room(generation: int, dropped: int) -> None:
    ledger = new_ledger()
    ledger.set_generation(3, 1)
    with pytest.raises(InvariantBroken):
        ledger.set_generation(generation, dropped)


def test_no_legs_are_no_facts() -> None:
    assert new_ledger().expire(NOW, 10).dtype == LEG_FACT
