"""Replay equals live: facts without judging, snapshots, and logs that this kernel cannot have written."""

from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine.layout import ACCOUNT_FACT, GUARD_FACT, LEG_FACT, LegFlag, ids_column, open_columns
from engine.ledger import InvariantBroken, Ledger
from tests.unit.kernel_scenes import (
    LINKED,
    MS,
    NOW,
    PENDING,
    POST,
    SECOND,
    VOID,
    assert_same,
    block,
    config,
    creation_facts,
    new_ledger,
    open_accounts,
    send,
    v7,
)

Record = tuple[int, int, npt.NDArray[np.void], npt.NDArray[np.void], npt.NDArray[np.void]]


def apply_record(ledger: Ledger, record: Record) -> None:
    """As recovery does."""
    generation, dropped, accounts, guards, legs = record
    ledger.set_generation(generation, dropped)
    ledger.replay_accounts(accounts)
    ledger.replay_guards(guards)
    ledger.replay_legs(legs)


def record(ledger: Ledger, **parts: Any) -> Record:
    """What the shard would write."""
    empty = {"accounts": ACCOUNT_FACT, "guards": GUARD_FACT, "legs": LEG_FACT}
    accounts, guards, legs = (parts.get(name, np.zeros(0, kind)) for name, kind in empty.items())
    return ledger.generation, ledger.dropped, accounts, guards, legs


class Life:
    """A ledger with accounts 1 to 12, the later ones below roll-ups, driven by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = NOW
        self.ledger = Ledger(config(ids_per_generation=64))
        self.log: list[Record] = []
        self.holds: list[int] = []
        self.next_id = 0
        open_accounts(self.ledger, [20, 21], flags=np.full(2, 8))
        open_accounts(self.ledger, [22], flags=[8], parent=ids_column([20]))
        parents = [0] * 6 + [20, 20, 21, 22, 22, 22]
        open_accounts(self.ledger, range(1, 13), parent=ids_column(parents))
        self.log.append(record(self.ledger, accounts=creation_facts(self.ledger)))

    def leg(self) -> dict[str, Any]:
        """A leg that is probably accepted."""
        random = self.random
        self.next_id += 1
        row: dict[str, Any] = {"id": v7(self.next_id, self.now // 10**6), "amount": random.randrange(1000)}
        row["debit"], row["credit"] = random.sample(range(1, 13), 2)
        row["flags"] = LINKED if random.random() < 0.2 else 0
        kind = random.random()
        if kind < 0.3:
            row |= {"flags": row["flags"] | PENDING, "timeout": random.randrange(4), "user_data_64": 5}
            self.holds.append(row["id"])
        elif kind < 0.6 and self.holds:
            flag = random.choice((POST, VOID, POST | LegFlag.KEEP_OPEN))
            row = {"id": row["id"], "flags": row["flags"] | flag, "pending_id": random.choice(self.holds)}
            row["amount"] = 0 if flag == VOID else random.choice((2**63 - 1, 1, 0))
        elif kind < 0.65:
            row["credit"] = 99
        return row

    def turn(self) -> None:
        """A batch, a sweep, new guards, or the projection catching up; each adds a record."""
        random, ledger = self.random, self.ledger
        self.now += random.randrange(2 * SECOND)
        if ledger.generation - ledger.dropped == 3:
            ledger.drop_generations(ledger.droppable(ledger.last_timestamp))
        ledger.begin_turn()
        kind = random.random()
        if kind < 0.7:
            rows = [self.leg() for _ in range(random.randrange(1, 30))]
            rows[-1]["flags"] &= ~LINKED
            opens = None
            if rows[0]["flags"] & LINKED and random.random() < 0.5:
                opens = open_columns(1, before=[0], id=ids_column([100 + self.next_id]), asset=[1], code=[1])
            outcome = ledger.apply_legs(block(rows, opens=opens), self.now)
            self.log.append(record(ledger, accounts=outcome.opened, legs=outcome.facts))
        elif kind < 0.9:
            self.log.append(record(ledger, legs=ledger.expire(self.now, random.randrange(1, 20))))
        else:
            row = random.randrange(3, 15)
            guards = ledger.set_guards(row, -random.randrange(10**5), random.randrange(10**5), self.now)
            self.log.append(record(ledger, guards=guards))


@pytest.mark.parametrize("seed", range(4))
def test_replay_is_array_for_array_the_live_state(seed: int) -> None:
    life = Life(seed)
    follower = Ledger(config(ids_per_generation=64))
    followed = 0
    for _ in range(60):
        life.turn()
        for entry in life.log[followed:]:
            apply_record(follower, entry)
        followed = len(life.log)
        assert_same(follower.state(), life.ledger.state())
        assert follower.next_expiry == life.ledger.next_expiry
    assert life.ledger.dropped > 2
    life.ledger.check()
    follower.check()


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_and_the_log_after_it_are_the_live_state(seed: int) -> None:
    life = Life(seed)
    for _ in range(30):
        life.turn()
    snapshot, position = life.ledger.state(), len(life.log)
    for _ in range(30):
        life.turn()
    restored = Ledger(config(ids_per_generation=64, hash_seed=4, accounts_initial=1000))
    restored.restore(snapshot)
    restored.check()
    assert_same(restored.state(), snapshot)
    for entry in life.log[position:]:
        apply_record(restored, entry)
    assert_same(restored.state(), life.ledger.state())
    restored.check()


def test_a_restored_ledger_goes_on_like_the_one_that_was_saved() -> None:
    life = Life(7)
    for _ in range(25):
        life.turn()
    twin = Ledger(life.ledger.config)
    twin.restore(life.ledger.state())
    rows = [life.leg() | {"flags": 0} for _ in range(40)]
    one = life.ledger.apply_legs(block(rows), life.now)
    other = twin.apply_legs(block(rows), life.now)
    np.testing.assert_array_equal(one.facts, other.facts)
    assert one.status.tolist() == other.status.tolist()


def test_a_saved_state_does_not_change_with_the_ledger() -> None:
    ledger = new_ledger()
    state = ledger.state()
    copy = {name: np.array(value) for name, value in state.items()}
    send(ledger, {"id": v7(1)}, {"id": v7(2), "flags": PENDING})
    assert_same(state, copy)


def test_a_state_that_does_not_fit_is_refused() -> None:
    life = Life(1)
    while life.ledger.generation - life.ledger.dropped < 3:
        life.turn()
    state = life.ledger.state()
    with pytest.raises(ValueError, match="generations, there is room for 3"):
        Ledger(config(generations_max=3)).restore(state)
    with pytest.raises(ValueError, match="rows, there is room for 9"):
        Ledger(config(ids_per_generation=8, turn_events_max=1)).restore(state)


def fact(**fields: int) -> npt.NDArray[np.void]:
    """One leg fact."""
    row = np.zeros(1, LEG_FACT)
    for name, value in ({"timestamp": NOW + 100, "credit": 1, "id_lo": 5} | fields).items():
        row[name] = value
    return row


@pytest.mark.parametrize(
    "fields",
    [
        {"debit": 4},
        {"credit": -1},
        {"debit": -1},
        {"flags": int(POST), "pending_lo": 9},
        {"flags": int(LegFlag.EXPIRY), "pending_lo": 9},
    ],
)
def test_facts_about_what_is_not_there_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InvariantBroken, match="leg fact 0"):
        new_ledger().replay_legs(fact(**fields))


def test_guards_of_an_account_that_is_not_there_are_refused() -> None:
    guards = np.zeros(1, GUARD_FACT)
    guards["account"] = 4
    with pytest.raises(InvariantBroken, match="guard fact 0"):
        new_ledger().replay_guards(guards)


def test_replay_never_judges() -> None:
    ledger = new_ledger()
    ledger.set_guards(0, 0, 0, NOW)
    ledger.replay_legs(fact(debit=0, amount=10**6))
    assert ledger.accounts["debits_posted"].tolist() == [10**6, 0, 0, 0]
    assert ledger.last_timestamp == NOW + 100


def test_batches_of_one_block_are_as_if_each_came_alone() -> None:
    def rows(first: int) -> list[dict[str, Any]]:
        life = Life(first)
        return [life.leg() | {"id": v7(1000 * first + n, MS)} for n in range(20)]

    batches = [rows(seed) for seed in range(3)]
    together, alone = Life(0).ledger, Life(0).ledger
    joint = together.apply_legs(block(*batches), NOW + SECOND)
    single = [alone.apply_legs(block(batch), NOW + SECOND) for batch in batches]
    assert joint.status.tolist() == [status for outcome in single for status in outcome.status.tolist()]
    np.testing.assert_array_equal(joint.facts, np.concatenate([outcome.facts for outcome in single]))
    assert_same(together.state(), alone.state())
