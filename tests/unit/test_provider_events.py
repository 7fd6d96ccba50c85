"""What a payment provider tells comes late, twice and in any order, beside what the platform itself does: the
books end the same. A sender repeats what was not taken, under the same id, until it is.
"""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import ids
from engine.commands import Lines, MoveCommand
from tests.desk import Shop

PAYMENT = [("authorize", 0), ("capture_ok", 400), ("capture_ok", 250), ("capture_fail", 300)]
OWN = [("capture_req", 400), ("capture_req", 250), ("capture_req", 300), ("void", 0)]
"""What the platform asks for, in this order, as soon as it can."""
DISPUTE = [("inquire", 0), ("open", 0), ("respond", 0), ("won", 0)]


@pytest.fixture(scope="module")
def platform() -> Iterator[Shop]:
    shop = Shop()
    shop.fund(f"L:seller/{shop.s}/available", "GBP", 1_000_000)
    yield shop
    shop.close()


class Outside:
    """Messages about one Move that come as they like."""

    def __init__(self, shop: Shop, move: int, events: Sequence[tuple[str, int]]) -> None:
        self.shop = shop
        self.commands = [
            MoveCommand(id=shop.id(), move=move, transition=name, amount=amount) for name, amount in events
        ]
        self.taken = [False] * len(events)

    def deliver(self, at: int) -> None:
        """Once more, or for the first time. What was taken is answered as it was."""
        [answer] = self.shop.send(self.commands[at])
        assert answer.replayed == (self.taken[at] and answer.accepted)
        self.taken[at] = answer.accepted

    def settle(self, needed: Sequence[int]) -> None:
        """Repeat what was not taken until all that is needed is; what has been passed over may stay."""
        for _ in self.commands:
            for at, taken in enumerate(self.taken):
                if not taken:
                    self.deliver(at)
        assert all(self.taken[at] for at in needed)


orders = st.lists(st.integers(0, 3), max_size=12)
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(said=orders, asked_at=st.lists(st.integers(0, 12), min_size=4, max_size=4))
def test_a_payment_ends_the_same(platform: Shop, said: list[int], asked_at: list[int]) -> None:
    order = ids.format_id(platform.id())
    before = platform.balance("A:psp")
    payment = platform.do(
        kind="payment", payer=platform.buyer, asset="GBP", amount=1_000, inputs={"order": order}
    )
    provider = Outside(platform, payment.move, PAYMENT)
    own = Outside(platform, payment.move, OWN)

    def ask() -> None:
        at = own.taken.index(False) if False in own.taken[:3] else 3
        if at < 3 or all(provider.taken):
            own.deliver(at)

    for place, at in enumerate(said):
        for _ in range(asked_at.count(place)):
            ask()
        provider.deliver(at)
    while not all(own.taken):
        for at in range(len(PAYMENT)):
            provider.deliver(at)
        ask()
    p = ids.format_id(payment.move)
    assert platform.balance(f"M:auth/{p}") == platform.balance(f"M:capt/{p}") == 0
    assert platform.balance(f"L:order/{order}") == platform.balance("A:psp") - before == 650
    assert platform.balance(f"M:reversible/{p}#1/psp") == 650
    assert platform.book.standing(payment.move)[1] == "captured"
    for at in range(len(PAYMENT)):
        provider.deliver(at)  # far too late
    assert platform.balance(f"L:order/{order}") == 650


@few
@given(said=orders)
def test_a_dispute_ends_the_same(platform: Shop, said: list[int]) -> None:
    available, fees = f"L:seller/{platform.s}/available", platform.balance("X:dispute.fee")
    before = platform.balance(available), platform.balance("A:psp")
    lines = Lines(amounts=[900], columns={"seller": [700], "commission": [100], "tax": [100]})
    dispute = platform.do(
        kind="dispute", payer=platform.buyer, payee=platform.seller, asset="GBP", lines=lines,
        inputs={"fee": 15},
    )  # fmt: skip
    bank = Outside(platform, dispute.move, DISPUTE)
    for at in said:
        bank.deliver(at)
    bank.settle(needed=[1, 3])  # an inquiry that comes after the dispute says nothing new
    assert (platform.balance(available), platform.balance("A:psp")) == (before[0], before[1] - 15)
    assert platform.balance("X:dispute.fee") - fees == 15
    assert platform.balance(f"A:dispute/{ids.format_id(dispute.move)}") == 0
    assert platform.book.standing(dispute.move)[1] == "won"
