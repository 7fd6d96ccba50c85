"""What questions to the projection are made of, and what they are answered with.

Ids are integers, 0 = none; times are nanoseconds since 1970; amounts are integers in minor units. Answers are
frozen. A `Page` carries the cursor with which the next one starts.
"""

from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

TIME_MAX: Final = 2**63 - 1
LIMIT_MAX: Final = 10_000
"""The most rows of one page."""

Item = TypeVar("Item")
SideName = Literal["debit", "credit"]
AccountOrder = Literal["key", "oldest", "newest"]


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """Some of the answers, in order. `cursor` leads to the next page; None: there is none."""

    items: list[Item]
    cursor: str | None = None


class AccountFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which legs of an account. 0 = no condition. The range of times is inclusive at both ends."""

    account: int
    debits: bool = True
    credits: bool = True
    timestamp_min: int = 0
    timestamp_max: int = TIME_MAX
    code: int = 0
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    limit: int = 100
    newest_first: bool = True
    cursor: str | None = None


class AccountsFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which accounts. Empty, 0 or None = no condition. In order of key there are only those that have one."""

    key: str = ""
    prefix: str = ""  # of the key
    party: int = 0
    asset: int = 0
    code: int = 0
    parent: int = 0
    closed: bool | None = None
    rollup: bool | None = None
    order: AccountOrder = "oldest"
    limit: int = 100
    cursor: str | None = None


class EntryFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which Entries of all accounts. Empty or 0 = no condition; times are of recording, inclusive."""

    party: int = 0  # whose account it is on
    asset: int = 0
    code: int = 0
    of_moves: bool = False  # only those that Moves wrote
    timestamp_min: int = 0
    timestamp_max: int = TIME_MAX
    limit: int = 100
    newest_first: bool = True
    cursor: str | None = None


class MoveFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which Moves. `party` is payer or payee. Empty, 0 or None = no condition; times are of the creation,
    inclusive."""

    party: int = 0
    payer: int = 0
    payee: int = 0
    kind: str = ""
    state: str = ""
    reference: str | None = None
    reverses: int = 0
    asset: int = 0
    ended: bool | None = None
    timestamp_min: int = 0
    timestamp_max: int = TIME_MAX
    business_min: int = 0
    business_max: int = TIME_MAX
    limit: int = 100
    newest_first: bool = True
    cursor: str | None = None


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """The four counters of an account."""

    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0


class BusinessBalance(msgspec.Struct, frozen=True, kw_only=True):
    """What an account's Entries sum to as of a business time."""

    debits_posted: int
    credits_posted: int


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """An account and its counters, as far as the projection has come."""

    id: int
    key: str
    party: int
    parent: int
    asset: int
    code: int
    flags: int
    floor: int | None
    ceiling: int | None
    user_data_128: int
    user_data_64: int
    user_data_32: int
    created: int
    balance: Balance


class LegView(msgspec.Struct, frozen=True, kw_only=True):
    """A leg, with everything resolved; `debit` and `credit` are account ids."""

    id: int
    timestamp: int
    debit: int
    credit: int
    amount: int
    asset: int
    code: int
    flags: int
    pending_id: int
    held: int  # post, void: what was held just before
    timeout: int  # seconds
    user_data_128: int
    user_data_64: int
    user_data_32: int


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an account: half a leg that changed its posted balance."""

    account: int
    key: str  # of the account that the leg names; in a roll-up's Entry the one below it
    side: SideName
    amount: int
    asset: int
    counterparty: int  # the account on the other side
    counterparty_key: str
    leg: int
    move: int  # 0 = a leg of no Move
    seq: int
    code: int
    flags: int
    timestamp: int
    business_time: int


class HoldStepView(msgspec.Struct, frozen=True, kw_only=True):
    """A post, void or expiry of a hold."""

    leg: int  # 0 = an expiry
    timestamp: int
    amount: int  # what it posted
    held: int  # just before it
    flags: int


class HistoryView(msgspec.Struct, frozen=True, kw_only=True):
    """An account's counters right after a leg."""

    leg: int
    timestamp: int
    balance: Balance


class JournalLine(msgspec.Struct, frozen=True, kw_only=True):
    """A leg of a Move, with the keys of its accounts."""

    leg: LegView
    seq: int
    debit_key: str
    credit_key: str


class TrialBalanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One asset's sums over all accounts but roll-ups; each pair is equal."""

    asset: int
    accounts: int
    debits: int
    credits: int
    debits_pending: int
    credits_pending: int


class MoveView(msgspec.Struct, frozen=True, kw_only=True):
    """A Move: what its creation says, and where it stands now."""

    id: int
    kind: str
    state: str
    seq: int
    version: int
    ended: bool
    payer: int
    payee: int
    reverses: int
    reference: str | None
    asset: int
    amount: int
    tender: str
    tenant: str
    created: int
    changed: int
    business_time: int
    lines: dict[str, Any] | None  # by column; "columns" has those of the kind's own
    inputs: dict[str, Any]
    metadata: dict[str, Any]
    holds: list[int]
    expires_at: int


class TransitionView(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted request to a Move."""

    seq: int
    request: int
    transition: str
    state: str
    ended: bool
    timestamp: int
    business_time: int
    amount: int
    principal: str
    leg_count: int
    inputs: dict[str, Any]
    metadata: dict[str, Any]


class PartyView(msgspec.Struct, frozen=True, kw_only=True):
    """A Party as it is now; `timestamp` is that of its last change."""

    id: int
    kind: str
    name: str
    profile: dict[str, Any]
    version: int
    tenant: str
    timestamp: int


class ThingView(msgspec.Struct, frozen=True, kw_only=True):
    """A Thing."""

    id: int
    kind: str
    code: str
    asset: int
    exponent: int
    name: str
    attrs: dict[str, Any]
    tenant: str
    timestamp: int
