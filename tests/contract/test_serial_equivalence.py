"""Serial equivalence: Hypothesis looks for legs on which the kernel and the reference model do not agree.

Two machines: in one all legs are built from small pools of values, which shrinks to the simplest case, in the
other the workload of the bulk test draws them with an aim. After every step the kernel's ledger must
pass its own check, hold what the model holds, and be array for array what its log rebuilds.
"""

from random import Random
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.ids import uuid7
from engine.layout import AMOUNT_MAX, CEILING_UNSET, FLOOR_UNSET, SECOND_NS, AccountFlag, LegFlag
from engine.ledger import LedgerConfig
from engine.reference import ID_MAX, Account, Leg
from tests.contract.ledger_pair import LedgerPair
from tests.contract.leg_workload import PROFILES, Workload
from tests.ledgers import Message

TINY: Final = LedgerConfig(
    ids_per_generation=8, turn_events_max=128, accounts_initial=2, holds_initial=2, hash_seed=3
)
"""The id window turns every few legs."""
START: Final = 1_700_000_000 * SECOND_NS
SETTINGS: Final = settings(
    deadline=None,  # the first call compiles
    derandomize=False,
    print_blob=True,
    max_examples=150,
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
)

LEG_IDS: Final = (
    *range(1, 12),
    *(
        uuid7(START // 1_000_000 + skew, 1, number)
        for number, skew in enumerate((0, 1, 1, 30_000, 61_000, -99))
    ),
)
AMOUNTS: Final = (0, 1, 2, 5, 10, AMOUNT_MAX - 10, AMOUNT_MAX - 1, AMOUNT_MAX, -1)
FLAGS: Final = (0, 0, 0, 2, 2, 2, 2, 4, 4, 516, 516, 8, 8, 16, 18, 32, 34, 48, 66, 130, 194)
OTHER_FLAGS: Final = (0,) * 12 + (1, 1, 1, 1, 256, 512, 1024, 1 << 13, 1 << 14, 1 << 15)
ROLLUPS: Final = {1: 0, 2: 1, 3: 2, 4: 3}  # roll-up → the roll-up above
LEAVES: Final = {11: 0, 12: 1, 13: 4, 14: 4, 15: 2}  # leaf → the roll-up above
NAMES: Final = st.sampled_from((*LEAVES, *LEAVES, *LEAVES, 1, 16, 17, 0, ID_MAX))
FLOORS: Final = st.sampled_from((FLOOR_UNSET, FLOOR_UNSET, 0, -5, 5, AMOUNT_MAX))
CEILINGS: Final = st.sampled_from((CEILING_UNSET, CEILING_UNSET, 0, 5, -5, -AMOUNT_MAX))
SMALL: Final = st.sampled_from((0, 0, 0, 0, 1, 2))

legs = st.builds(
    Leg,
    id=st.sampled_from((*LEG_IDS, *LEG_IDS, 0, ID_MAX)),
    debit=NAMES,
    credit=NAMES,
    amount=st.sampled_from(AMOUNTS),
    asset=st.sampled_from((1, 1, 1, 1, 1, 1, 2, 0)),
    code=st.sampled_from((1, 1, 1, 1, 1, 1, 2, 0)),
    flags=st.builds(lambda kind, other: kind ^ other, st.sampled_from(FLAGS), st.sampled_from(OTHER_FLAGS)),
    pending_id=st.just(0),
    timeout=st.sampled_from((0, 0, 0, 0, 1, 2, 2**32 - 1)),
    user_data_64=SMALL,
    if_debit_version=st.sampled_from((0, 0, 0, 0, 0, 0, 1, 2, 3)),
    if_credit_version=st.sampled_from((0, 0, 0, 0, 0, 0, 1, 2, 3)),
)
posts_and_voids = st.builds(
    Leg,
    id=st.sampled_from(LEG_IDS),
    debit=st.one_of(st.just(0), st.just(0), NAMES),
    amount=st.sampled_from((0, 1, 2, 5, 10, AMOUNT_MAX)),
    flags=st.builds(
        lambda kind, other: kind ^ other, st.sampled_from((4, 4, 516, 516, 8)), st.sampled_from(OTHER_FLAGS)
    ),
    pending_id=st.sampled_from((*LEG_IDS, *LEG_IDS, 0, ID_MAX)),
    user_data_64=SMALL,
    if_debit_version=st.sampled_from((0, 0, 0, 0, 0, 0, 2, 3)),
)
accounts = st.builds(
    Account,
    id=st.sampled_from((16, 17, 18, 11, 1, 0, ID_MAX)),
    asset=st.sampled_from((1, 1, 1, 2, 0)),
    code=st.sampled_from((1, 1, 1, 0)),
    parent=st.sampled_from((0, 0, 1, 2, 4, 11, 18, ID_MAX)),
    flags=st.sampled_from((0, 0, 0, 1, 1, 2, 4, 8, 9, 16)),
    floor=FLOORS,
    ceiling=CEILINGS,
    user_data_32=SMALL,
)
opened_accounts = st.builds(
    Account,
    id=st.sampled_from((16, 17, 18, 19, 11)),
    asset=st.just(1),
    code=st.just(1),
    floor=FLOORS,
    ceiling=CEILINGS,
)


class Equivalence(RuleBasedStateMachine):
    """What both machines do besides sending legs."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = LedgerPair(TINY)
        self.now = START

    @rule(ordinal=st.integers(0, 100), floor=FLOORS, ceiling=CEILINGS)
    def set_guards(self, ordinal: int, floor: int, ceiling: int) -> None:
        self.pair.set_guards(ordinal % len(self.pair.reference.ids), floor, ceiling, self.now)

    @rule(nanoseconds=st.sampled_from((0, 1, 5, SECOND_NS - 1, SECOND_NS, 3 * SECOND_NS, -1, -SECOND_NS)))
    def let_time_pass(self, nanoseconds: int) -> None:
        self.now += nanoseconds

    @rule(later=st.sampled_from((-1, 0, 1)))
    def meet_the_next_expiry(self, later: int) -> None:
        expiry = self.pair.reference.next_expiry
        if expiry < START + 100 * SECOND_NS:
            self.now = expiry + later

    @rule(limit=st.sampled_from((1, 2, 100)))
    def sweep(self, limit: int) -> None:
        self.pair.expire(self.now, limit)

    @rule(forget=st.booleans())
    def project(self, forget: bool) -> None:
        self.pair.kernel.project()
        if forget:
            self.pair.kernel.forget()

    @rule()
    def restart(self) -> None:
        self.pair.restart()

    @invariant()
    def all_is_equal(self) -> None:
        self.pair.compare()


class BuiltLegs(Equivalence):
    """Legs built from small pools."""

    @initialize(data=st.data())
    def open_accounts(self, data: Any) -> None:
        tree = {**ROLLUPS, **LEAVES}
        self.pair.create_accounts(
            [
                [
                    Account(
                        id=id,
                        parent=parent,
                        asset=1,
                        code=1,
                        flags=AccountFlag.ROLLUP if id in ROLLUPS else 0,
                        floor=data.draw(FLOORS),
                        ceiling=data.draw(CEILINGS),
                    )
                    for id, parent in tree.items()
                ]
            ],
            self.now,
        )

    @rule(
        batches=st.lists(
            st.lists(st.one_of(legs, posts_and_voids), min_size=1, max_size=8), min_size=1, max_size=4
        )
    )
    def send_legs(self, batches: list[list[Leg]]) -> None:
        self.pair.apply_block([Message(batch) for batch in batches], self.now)

    @rule(batch=st.lists(st.one_of(legs, posts_and_voids), min_size=1, max_size=4), steps=st.data())
    def import_legs(self, batch: list[Leg], steps: Any) -> None:
        last = self.pair.reference.last["leg"]
        step = st.sampled_from((1, 1, 1, 0, -1, SECOND_NS))
        stamps = [last := last + steps.draw(step) for _ in batch]
        imported = [
            leg_with(leg, flags=leg.flags | LegFlag.IMPORTED, timestamp=stamp)
            for leg, stamp in zip(batch, stamps, strict=True)
        ]
        self.pair.apply_block([Message(imported)], self.now)

    @rule(
        batch=st.lists(legs, min_size=1, max_size=3),
        account=opened_accounts,
        side=st.sampled_from(("debit", "credit")),
    )
    def send_legs_of_a_move(self, batch: list[Leg], account: Account, side: str) -> None:
        chain = [leg_with(leg, flags=leg.flags | LegFlag.LINKED) for leg in batch[:-1]]
        last = leg_with(batch[-1], flags=batch[-1].flags & ~LegFlag.LINKED, **{side: account.id})
        self.pair.apply_block([Message([*chain, last], [(0, account)])], self.now)

    @rule(batch=st.lists(accounts, min_size=1, max_size=3))
    def create_accounts(self, batch: list[Account]) -> None:
        self.pair.create_accounts([batch], self.now)


class DrawnLegs(Equivalence):
    """Legs drawn by the workload, with an aim."""

    @initialize(random=st.randoms(use_true_random=False), profile=st.sampled_from(PROFILES[:3]))
    def open_accounts(self, random: Random, profile: Any) -> None:
        self.workload = Workload(random, self.pair.reference, profile)
        self.pair.create_accounts([self.workload.first_accounts()], self.now)

    @rule(random=st.randoms(use_true_random=False))
    def send_legs(self, random: Random) -> None:
        self.workload.random = random
        self.workload.now = self.now
        messages, of_moves = self.workload.block(16, 6)
        self.pair.apply_block(messages, self.now, of_moves)

    @rule(random=st.randoms(use_true_random=False))
    def create_accounts(self, random: Random) -> None:
        self.workload.random = random
        self.workload.now = self.now
        self.pair.create_accounts(self.workload.account_batches()[:1], self.now)


def leg_with(leg: Leg, **changes: int) -> Leg:
    """The leg with these fields."""
    return Leg(**{name: changes.get(name, getattr(leg, name)) for name in Leg.__struct_fields__})


TestBuiltLegs = BuiltLegs.TestCase
TestBuiltLegs.settings = SETTINGS
TestDrawnLegs = DrawnLegs.TestCase
TestDrawnLegs.settings = SETTINGS
