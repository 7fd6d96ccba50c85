"""What the specification of legs says, sentence by sentence and with numbers.

The kernel and the reference model are compared with each other elsewhere; here both are held to the text.
"""

from collections.abc import Callable
from typing import Any, Final

import pytest

from engine.layout import AMOUNT_MAX, CEILING_UNSET, FLOOR_UNSET, SECOND_NS, AccountFlag, LegFlag
from engine.reference import Account, AccountState, Leg, ReferenceLedger
from tests.ledgers import KernelLedger, LedgerUnderTest

T: Final = 10**18
P, POST, VOID, LINKED = LegFlag.PENDING, LegFlag.POST_PENDING, LegFlag.VOID_PENDING, LegFlag.LINKED
KEEP_OPEN: Final = LegFlag.POST_PENDING | LegFlag.KEEP_OPEN
A, B, C = 11, 12, 13


class Books:
    """A ledger with a clock, that answers in slugs."""

    def __init__(self, ledger: LedgerUnderTest) -> None:
        self.ledger = ledger
        self.now = T
        self.answers: list[Any] = []

    def open(self, *accounts: Account, expect: str = "created") -> None:
        """Creates accounts in one batch."""
        self.answers = self.ledger.create_accounts(accounts, self.now).answers
        assert " ".join(sorted({answer.result.slug for answer in self.answers})) == expect

    def send(self, *legs: Leg, expect: str = "created", opens: tuple[tuple[int, Account], ...] = ()) -> None:
        """Sends one batch; `expect` are the answers, or the one of all."""
        self.answers = self.ledger.apply_batch(legs, self.now, opens).answers
        slugs = [answer.result.slug for answer in self.answers]
        assert slugs == (expect.split() * len(slugs) if " " not in expect else expect.split())

    def give(self, id: int, amount: int) -> None:
        """Credits an account from nowhere in particular."""
        self.send(leg(amount, debit=99, credit=id))

    def __getitem__(self, id: int) -> AccountState:
        return self.ledger.accounts[id]

    def counters(self, id: int) -> tuple[int, int, int, int]:
        """Debits pending and posted, credits pending and posted."""
        now = self[id]
        return now.debits_pending, now.debits_posted, now.credits_pending, now.credits_posted

    @property
    def amounts(self) -> list[int]:
        """The actual amounts of the last batch."""
        return [answer.amount for answer in self.answers]

    @property
    def stamps(self) -> list[int]:
        """The stamps of the last batch, counted from T."""
        return [answer.timestamp - T for answer in self.answers]


def numbers() -> Callable[[], int]:
    """New ids."""
    last = iter(range(1_000, 10**6))
    return lambda: next(last)


new_id = numbers()


def leg(amount: int = 10, debit: int = A, credit: int = B, **more: Any) -> Leg:
    return Leg(
        **({"id": new_id(), "debit": debit, "credit": credit, "amount": amount, "asset": 1, "code": 1} | more)
    )


def post(hold: Leg, amount: int = AMOUNT_MAX, flags: int = POST, **more: Any) -> Leg:
    return Leg(**({"id": new_id(), "pending_id": hold.id, "amount": amount, "flags": flags} | more))


def void(hold: Leg, amount: int = 0, **more: Any) -> Leg:
    return post(hold, amount, VOID, **more)


def account(id: int, **more: Any) -> Account:
    return Account(**({"id": id, "asset": 1, "code": 1} | more))


def rollup(id: int, **more: Any) -> Account:
    return account(id, flags=AccountFlag.ROLLUP, **more)


@pytest.fixture(params=[ReferenceLedger, KernelLedger], ids=["reference", "kernel"])
def books(request: pytest.FixtureRequest) -> Books:
    opened = Books(request.param())
    opened.open(account(99))
    return opened


def test_legs_of_a_batch_are_stamped_up_to_its_time_refused_ones_too(books: Books) -> None:
    books.open(account(A), account(B))
    books.now = T + 100
    books.send(
        leg(), leg(asset=2), leg(), expect="created transfer_must_have_the_same_asset_as_accounts created"
    )
    assert books.stamps == [98, 99, 100]
    books.send(leg(), leg())
    assert books.stamps == [101, 102]
    books.now = T
    books.send(leg())
    assert books.stamps == [103]


def test_floor_keeps_posted_money_that_is_not_held(books: Books) -> None:
    books.open(account(A, floor=0), account(B))
    books.give(A, 100)
    books.send(
        leg(60, flags=P),
        leg(41),
        leg(40),
        leg(1),
        leg(0),
        expect="created below_floor created below_floor created",
    )
    assert books.counters(A) == (60, 40, 0, 100)


def test_incoming_pending_money_is_not_spendable(books: Books) -> None:
    books.open(account(A, floor=0), account(B))
    books.send(leg(50, debit=99, credit=A, flags=P), leg(1), expect="created below_floor")


def test_floor_below_zero_is_a_credit_line(books: Books) -> None:
    books.open(account(A, floor=-50), account(B))
    books.send(leg(51), leg(50), leg(1), expect="below_floor created below_floor")


def test_ceiling_counts_incoming_pending_money(books: Books) -> None:
    books.open(account(A), account(B, ceiling=0))
    books.send(leg(1), expect="above_ceiling")
    books.send(
        leg(30, debit=B, credit=A),
        leg(20, flags=P),
        leg(11),
        leg(10),
        expect="created created above_ceiling created",
    )


def test_guards_bind_only_what_moves_towards_them(books: Books) -> None:
    books.open(account(A), account(B))
    books.send(leg(100))
    books.ledger.set_guards(1, 0, CEILING_UNSET, books.now)
    books.ledger.set_guards(2, FLOOR_UNSET, 0, books.now)
    books.send(leg(1), leg(5, debit=99), expect="below_floor above_ceiling")
    books.send(leg(5, debit=99, credit=A), leg(5, debit=B, credit=99), leg(0))
    assert (books[A].floor, books[B].ceiling) == (0, 0)


def test_guard_change_adds_to_the_version(books: Books) -> None:
    books.open(account(A))
    books.ledger.set_guards(1, -7, 7, books.now)
    assert (books[A].version, books[A].floor, books[A].ceiling) == (2, -7, 7)


def test_partial_post_releases_the_rest(books: Books) -> None:
    books.open(account(A), account(B))
    hold = leg(100, flags=P)
    books.send(hold, post(hold, 30), post(hold, 30), expect="created created pending_transfer_already_posted")
    assert books.counters(A) == (0, 30, 0, 0)
    assert books.counters(B) == (0, 0, 0, 30)


def test_keep_open_lowers_what_is_held_until_all_of_it_is_taken(books: Books) -> None:
    books.open(account(A), account(B))
    hold = leg(100, flags=P)
    books.send(hold, post(hold, 60, KEEP_OPEN), post(hold, 0, KEEP_OPEN), post(hold, 41, KEEP_OPEN),
               expect="created created created exceeds_pending_transfer_amount")  # fmt: skip
    assert books.counters(A) == (40, 60, 0, 0)
    books.send(post(hold, 40, KEEP_OPEN), post(hold, 40), post(hold, 41), void(hold, 39),
               expect="created pending_transfer_already_posted exceeds_pending_transfer_amount "
                      "pending_transfer_has_different_amount")  # fmt: skip
    assert books.counters(A) == (0, 100, 0, 0)


def test_amount_max_posts_all_that_is_held(books: Books) -> None:
    books.open(account(A), account(B))
    hold = leg(100, flags=P)
    books.send(hold, post(hold, 60, KEEP_OPEN), post(hold))
    assert books.amounts == [100, 60, 40]
    assert books.counters(B) == (0, 0, 0, 100)


def test_void_is_of_exactly_what_is_held(books: Books) -> None:
    books.open(account(A), account(B))
    holds = [leg(100, flags=P) for _ in range(2)]
    books.send(*holds, post(holds[0], 60, KEEP_OPEN))
    books.send(void(holds[0], 100), void(holds[0], 39), void(holds[0], 40), void(holds[1]), void(holds[1]),
               expect="exceeds_pending_transfer_amount pending_transfer_has_different_amount created created "
                      "pending_transfer_already_voided")  # fmt: skip
    assert books.counters(A) == (0, 60, 0, 0)


def test_post_inherits_what_it_leaves_open(books: Books) -> None:
    books.open(account(A), account(B))
    hold = leg(100, flags=P, user_data_128=1, user_data_64=2, user_data_32=3)
    taken = post(hold, user_data_64=9)
    facts = books.ledger.apply_batch([hold, taken], books.now).facts
    fact = facts[1]
    assert (fact.debit, fact.credit, fact.code, fact.held) == (1, 2, 1, 100)
    assert (fact.user_data_128, fact.user_data_64, fact.user_data_32) == (1, 9, 3)


def test_posting_never_checks_the_guards_again(books: Books) -> None:
    books.open(account(A, floor=0), account(B))
    books.give(A, 100)
    hold = leg(100, flags=P)
    books.send(hold)
    books.ledger.set_guards(1, 500, CEILING_UNSET, books.now)
    books.send(post(hold))


def test_hold_is_expired_for_legs_stamped_from_its_end_on(books: Books) -> None:
    books.open(account(A, floor=0), account(B))
    books.give(A, 100)
    hold = leg(100, flags=P, timeout=1)
    books.send(hold)
    end = books.answers[0].timestamp + SECOND_NS
    books.now = end
    books.send(post(hold, 1, KEEP_OPEN), post(hold, 1, KEEP_OPEN), expect="created pending_transfer_expired")
    books.send(leg(1), expect="below_floor")
    (fact,) = books.ledger.expire(end, 10)
    assert (fact.pending_id, fact.held, fact.amount, fact.timestamp) == (hold.id, 99, 0, end + 1)
    assert books.counters(A) == (0, 1, 0, 100)
    books.send(void(hold), leg(99), expect="pending_transfer_expired created")


def test_sweep_takes_due_holds_in_order_of_expiry_then_creation(books: Books) -> None:
    books.open(account(A), account(B))
    late, first, second = leg(flags=P, timeout=2), leg(flags=P, timeout=1), leg(flags=P, timeout=1)
    books.send(late, first, second, leg(flags=P))
    assert books.ledger.expire(T + SECOND_NS, 10) == []
    facts = books.ledger.expire(T + 3 * SECOND_NS, 2)
    assert [fact.pending_id for fact in facts] == [first.id, second.id]
    assert [fact.timestamp - T - 3 * SECOND_NS for fact in facts] == [-1, 0]
    assert [fact.pending_id for fact in books.ledger.expire(T + 3 * SECOND_NS, 2)] == [late.id]


@pytest.mark.parametrize(
    ("floor", "expected"), [(FLOOR_UNSET, 70), (0, 70), (-50, 70), (20, 50), (80, 0), (AMOUNT_MAX, 0)]
)
def test_balancing_debit_takes_what_is_there_but_never_a_credit_line(
    books: Books, floor: int, expected: int
) -> None:
    books.open(account(A), account(B))
    books.give(A, 100)
    books.send(leg(30, flags=P))
    books.ledger.set_guards(1, floor, CEILING_UNSET, books.now)
    books.send(leg(AMOUNT_MAX, flags=LegFlag.BALANCING_DEBIT))
    assert books.amounts == [expected]


@pytest.mark.parametrize(
    ("ceiling", "expected"), [(CEILING_UNSET, 70), (0, 70), (50, 70), (-20, 50), (-80, 0), (-AMOUNT_MAX, 0)]
)
def test_balancing_credit_gives_what_is_lacking(books: Books, ceiling: int, expected: int) -> None:
    books.open(account(A), account(B))
    books.send(leg(100, debit=B, credit=A), leg(30, flags=P))
    books.ledger.set_guards(2, FLOOR_UNSET, ceiling, books.now)
    books.send(leg(AMOUNT_MAX, flags=LegFlag.BALANCING_CREDIT))
    assert books.amounts == [expected]


def test_balancing_both_takes_the_smaller_and_a_bound_at_least_as_large_repeats_it(books: Books) -> None:
    books.open(account(A), account(B))
    books.give(A, 100)
    books.send(leg(40, debit=B, credit=99))
    both = LegFlag.BALANCING_DEBIT | LegFlag.BALANCING_CREDIT
    balanced = leg(90, flags=both)
    books.send(balanced)
    assert books.amounts == [40]
    again = [leg(bound, id=balanced.id, flags=both) for bound in (40, AMOUNT_MAX, 39)]
    books.send(*again, expect="exists exists exists_with_different_amount")
    assert books.amounts == [40, 40, 0]


def test_closed_account_refuses_all_but_the_void_that_reopens_it(books: Books) -> None:
    books.open(account(A), account(B))
    hold, closing = leg(5, flags=P), leg(0, flags=P | LegFlag.CLOSING_DEBIT)
    books.send(hold, closing, leg(), leg(debit=B, credit=A), post(hold), post(closing),
               expect="created created debit_account_already_closed credit_account_already_closed "
                      "debit_account_already_closed debit_account_already_closed")  # fmt: skip
    assert books[A].closed
    books.open(account(A), expect="exists_with_different_flags")
    books.send(void(hold), void(closing), leg())
    assert not books[A].closed


def test_expiry_of_the_closing_leg_reopens(books: Books) -> None:
    books.open(account(A), account(B))
    books.send(leg(0, flags=P | LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT, timeout=1))
    assert books[A].closed
    assert books[B].closed
    books.ledger.expire(T + 2 * SECOND_NS, 1)
    assert not books[A].closed
    assert not books[B].closed


def test_chain_is_undone_as_a_whole_and_later_legs_see_none_of_it(books: Books) -> None:
    books.open(account(A, floor=0), account(B))
    books.give(A, 10)
    chain = [leg(10, flags=LINKED), leg(1, flags=LINKED), leg(0, credit=99)]
    books.send(*chain, leg(10), expect="linked_event_failed below_floor linked_event_failed created")
    books.send(
        chain[1], chain[0], chain[2], expect="id_already_failed linked_event_failed linked_event_failed"
    )


def test_chain_sent_again_exists_and_then_failed(books: Books) -> None:
    books.open(account(A), account(B))
    chain = [leg(flags=LINKED), leg(flags=LINKED), leg()]
    books.send(*chain)
    books.send(*chain, expect="exists linked_event_failed linked_event_failed")


def test_open_chain_is_said_even_if_it_is_broken_already(books: Books) -> None:
    books.open(account(A), account(B))
    books.send(leg(flags=LINKED), leg(asset=2, flags=LINKED), leg(flags=LINKED),
               expect="linked_event_failed transfer_must_have_the_same_asset_as_accounts "
                      "linked_event_chain_open")  # fmt: skip
    books.send(leg(flags=LINKED), leg(flags=LINKED), expect="linked_event_failed linked_event_chain_open")
    assert books.counters(A) == (0, 0, 0, 0)


def test_repeat_of_a_post_may_name_what_it_inherited(books: Books) -> None:
    books.open(account(A), account(B))
    hold = leg(50, flags=P, user_data_64=7)
    all_of_it, part = post(hold), leg(50, flags=P)
    taken = post(part, 20)
    books.send(hold, all_of_it, part, taken)
    named = {"debit": A, "credit": B, "asset": 1, "code": 1, "user_data_64": 7}
    books.send(post(hold, 50, id=all_of_it.id, **named), taken,
               post(part, AMOUNT_MAX, id=taken.id), post(hold, 50, id=all_of_it.id, user_data_64=8),
               expect="exists exists exists_with_different_amount "
                      "exists_with_different_user_data_64")  # fmt: skip


def test_repeat_of_a_void_after_a_capture_compares_with_what_it_found_held(books: Books) -> None:
    books.open(account(A), account(B))
    hold = leg(50, flags=P)
    release = void(hold)
    books.send(hold, post(hold, 20, KEEP_OPEN), release)
    again = [void(hold, amount, id=release.id) for amount in (0, 30, 50)]
    books.send(*again, expect="exists exists exists_with_different_amount")


def test_rollup_sees_only_what_crosses_its_border(books: Books) -> None:
    books.open(
        rollup(1), rollup(2, parent=1), account(A, parent=2), account(B, parent=1), account(C, parent=2)
    )
    books.send(leg(5, debit=A, credit=C))
    assert [books.counters(id) for id in (1, 2)] == [(0, 0, 0, 0), (0, 0, 0, 0)]
    books.send(leg(7, debit=A, credit=B))
    assert [books.counters(id) for id in (1, 2)] == [(0, 0, 0, 0), (0, 7, 0, 0)]
    hold = leg(9, debit=A, credit=99, flags=P)
    books.send(hold, post(hold, 4))
    assert [books.counters(id) for id in (1, 2)] == [(0, 4, 0, 0), (0, 11, 0, 0)]
    assert [books[id].version for id in (1, 2, A, B, C)] == [3, 4, 5, 2, 2]


def test_guards_of_ancestors_bind_what_crosses_them(books: Books) -> None:
    books.open(rollup(1, floor=-5, ceiling=5), account(A, parent=1), account(B, parent=1))
    books.send(leg(100), leg(6, credit=99), leg(6, debit=99), leg(5, credit=99), leg(1, credit=99),
               expect="created below_floor above_ceiling created below_floor")  # fmt: skip


def test_ancestors_do_not_bound_balancing_but_refuse(books: Books) -> None:
    books.open(rollup(1, floor=0), account(A, parent=1), account(B, parent=1))
    books.send(leg(10, debit=B, credit=A))
    books.send(leg(10, credit=99, flags=LegFlag.BALANCING_DEBIT), expect="below_floor")


def test_overflow_of_an_ancestor_is_an_overflow(books: Books) -> None:
    books.open(rollup(1), account(A, parent=1), account(B, parent=1))
    books.send(leg(AMOUNT_MAX, credit=99))
    books.send(
        leg(1, debit=B, credit=98),
        leg(1, debit=B, credit=99),
        expect="credit_account_not_found overflows_debits_posted",
    )


def test_version_is_what_the_leg_finds_after_those_before_it(books: Books) -> None:
    books.open(account(A), account(B))
    hold = leg(1, flags=P)
    books.send(leg(if_debit_version=1), leg(if_debit_version=2, if_credit_version=2), hold)
    books.send(leg(if_credit_version=3), post(hold, if_debit_version=3), post(hold, if_debit_version=4),
               expect="credit_account_version_differs debit_account_version_differs created")  # fmt: skip
    assert books[A].version == 5


def test_imported_legs_bring_their_stamps(books: Books) -> None:
    imported = AccountFlag.IMPORTED
    books.ledger = type(books.ledger)()
    books.open(account(A, flags=imported, timestamp=100), account(B, flags=imported, timestamp=200))
    past = [leg(flags=LegFlag.IMPORTED, timestamp=time) for time in (200, 201, 201, 300)]
    regress = "imported_event_timestamp_must_not_regress"
    books.send(*past, expect=f"{regress} created {regress} created")
    assert books.stamps == [-3, 201 - T, -1, 300 - T]
    books.open(account(C, flags=imported, timestamp=201), expect=regress)
    books.open(account(C, flags=imported, timestamp=250))
    young = leg(flags=LegFlag.IMPORTED, timestamp=250, credit=C)
    books.send(young, expect=regress)


def test_accounts_are_opened_on_the_way_and_gone_with_their_chain(books: Books) -> None:
    books.open(account(A))
    books.now = T + 100
    opens = ((0, account(B)), (0, account(A, code=9)), (2, account(C)))
    books.send(leg(flags=LINKED), leg(), leg(credit=C, asset=2), opens=opens,
               expect="created created transfer_must_have_the_same_asset_as_accounts")  # fmt: skip
    assert books.stamps == [97, 98, 100]
    assert (books[B].timestamp, books[A].code) == (T + 95, 1)
    assert C not in books.ledger.accounts
    books.send(leg(credit=C), opens=((0, account(C)),))
    assert books[C].ordinal == 3


def test_account_is_compared_as_it_is_now(books: Books) -> None:
    books.open(account(A, floor=0))
    books.ledger.set_guards(1, 5, CEILING_UNSET, books.now)
    books.open(account(A, floor=0), expect="exists_with_different_floor")
    books.open(account(A, floor=5), expect="exists")


def test_rollups_are_at_most_four_levels_above_an_account(books: Books) -> None:
    books.open(rollup(1), rollup(2, parent=1), rollup(3, parent=2), rollup(4, parent=3), account(A, parent=4))
    books.open(rollup(5, parent=4))
    books.open(account(B, parent=5), expect="parent_too_deep")
