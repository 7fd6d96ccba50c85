"""What a shard remembers turns with whatever fills up first, and a replay turns with it."""

import pytest

from engine import ids, requests
from engine.facts import MoveFact
from engine.ledger import LedgerConfig, WindowFull
from engine.record import Record
from engine.shard_state import ShardState

CONFIG = LedgerConfig(ids_per_generation=1_000, generations_max=3, turn_events_max=64, hash_seed=1)
NOW = 1_700_000_000_000_000_000


def answer(number: int) -> MoveFact:
    id = ids.id_bytes(ids.uuid7(NOW // 1_000_000 + number, 0, number))
    return MoveFact(
        request=id, move=id, kind="journal", transition="post", state="posted", ended=True, seq=0,
        timestamp=NOW + number, business_time=NOW, payer=bytes(16),
    )  # fmt: skip


def turn(state: ShardState, number: int) -> Record:
    """One turn that answers one Move without legs."""
    state.begin_turn()
    fact = answer(number)
    state.moves.replay(fact)
    record = state.next_record(0, 1, NOW + number, [], [], [], [], [fact])
    state.advance(record, b"")
    return record


def test_many_answers_and_few_legs_turn_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "ANSWERS_PER_GENERATION", 2)
    live, follower = ShardState("t", CONFIG), ShardState("t", CONFIG)
    records = [turn(live, number) for number in range(6)]
    assert [record.generation for record in records] == [0, 0, 1, 1, 2, 2]
    for record in records:
        follower.replay(record)
    assert follower.ledger.generation == live.ledger.generation == 2
    assert follower.moves.state()["window"].keys() == live.moves.state()["window"].keys()
    with pytest.raises(WindowFull):
        live.begin_turn()


def test_answers_are_dropped_once_they_are_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "ANSWERS_PER_GENERATION", 2)
    state = ShardState("t", CONFIG)
    for number in range(6):
        turn(state, number)
    state.forget(1)
    assert state.ledger.dropped == 0, "record 2 is not projected, and its answer is in the first generation"
    state.forget(6)
    assert state.ledger.dropped == state.moves.window.dropped == 1
    state.begin_turn()
    assert state.ledger.generation == 3
    assert state.window_changed


def test_when_answers_may_be_dropped_is_the_same_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "ANSWERS_PER_GENERATION", 2)
    live, replayed, restored = (ShardState("t", CONFIG) for _ in range(3))
    for number in range(6):
        replayed.replay(turn(live, number))
    restored.restore(live.state())
    for state in (live, replayed, restored):
        assert state.state()["position"] == live.state()["position"]
        state.forget(1)
        assert state.ledger.dropped == 0
    for state in (live, replayed, restored):
        state.forget(2)
        assert state.ledger.dropped == 1
