"""Ledgers to test: the reference model and the kernel's ledger behind one face.

`KernelLedger` speaks the reference model's language to `engine.ledger.Ledger`: it turns legs and accounts
into columns, and facts back into structs.
"""

from collections.abc import Sequence
from typing import Protocol

from engine.layout import LEG_FLAGS_OF_CLIENTS
from engine.reference import Account, GuardFact, Leg, LegFact, Outcome


class LedgerUnderTest(Protocol):
    """What the reference model and the kernel's ledger have in common."""

    def create_accounts(self, accounts: Sequence[Account], now: int) -> Outcome: ...

    def apply_batch(
        self,
        legs: Sequence[Leg],
        now: int,
        opens: Sequence[tuple[int, Account]] = (),
        allowed_flags: int = LEG_FLAGS_OF_CLIENTS,
    ) -> Outcome: ...

    def set_guards(self, ordinal: int, floor: int, ceiling: int, now: int) -> GuardFact: ...

    def expire(self, now: int, limit: int) -> list[LegFact]: ...


class KernelLedger:
    pass
