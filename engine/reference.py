"""The reference model: what the ledger must answer, written to be read, not to be fast.

It judges one leg at a time with Python integers and dictionaries, straight from the specification of legs,
and judges the posting kernel in the tests. It remembers every id for ever, so it needs no id window.

All state is in dictionaries of immutable values, and every change goes through `ReferenceLedger._put`, which
journals how to take it back: a chain is undone by walking that journal backwards, nothing else knows of it.
The refusals of each phase stand in order of precedence, and all in this one file, to be read beside the
specification.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from engine.layout import (
    ACCOUNT_FLAGS_OF_CLIENTS,
    AMOUNT_MAX,
    CEILING_UNSET,
    FLOOR_UNSET,
    LEG_FLAGS_OF_CLIENTS,
    ROLLUP_LEVELS_MAX,
    SECOND_NS,
    AccountFlag,
    HoldStatus,
    LegFlag,
)
from engine.results import TRANSIENT, Result

ID_MAX: Final = 2**128 - 1
TIMESTAMP_MAX: Final = 2**63 - 1

RESOLVING: Final = LegFlag.POST_PENDING | LegFlag.VOID_PENDING
BALANCING: Final = LegFlag.BALANCING_DEBIT | LegFlag.BALANCING_CREDIT
CLOSING: Final = LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT

RESOLVED_AS: Final = {
    HoldStatus.POSTED: Result.PENDING_TRANSFER_ALREADY_POSTED,
    HoldStatus.VOIDED: Result.PENDING_TRANSFER_ALREADY_VOIDED,
    HoldStatus.EXPIRED: Result.PENDING_TRANSFER_EXPIRED,
}

K = TypeVar("K")
V = TypeVar("V")


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """A leg as a client sends it; ids are 128-bit integers, 0 = not given."""

    id: int
    debit: int = 0
    credit: int = 0
    amount: int = 0
    asset: int = 0
    code: int = 0
    flags: int = 0
    pending_id: int = 0
    timeout: int = 0  # seconds
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    timestamp: int = 0
    if_debit_version: int = 0
    if_credit_version: int = 0

    @property
    def linked(self) -> bool:
        """Whether it is tied to the next leg."""
        return bool(self.flags & LegFlag.LINKED)

    @property
    def imported(self) -> bool:
        """Whether it brings its own timestamp."""
        return bool(self.flags & LegFlag.IMPORTED)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account as a client sends it; `parent` is the parent's id."""

    id: int
    party: int = 0
    parent: int = 0
    asset: int = 0
    code: int = 0
    flags: int = 0
    floor: int = FLOOR_UNSET
    ceiling: int = CEILING_UNSET
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    timestamp: int = 0

    @property
    def linked(self) -> bool:
        """Whether it is tied to the next account."""
        return bool(self.flags & AccountFlag.LINKED)

    @property
    def imported(self) -> bool:
        """Whether it brings its own timestamp."""
        return bool(self.flags & AccountFlag.IMPORTED)


class AccountState(Account, frozen=True, kw_only=True):
    """An account as it is now; `timestamp` is that of its creation."""

    ordinal: int
    version: int = 1
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0

    @property
    def closed(self) -> bool:
        """Whether it refuses legs."""
        return bool(self.flags & AccountFlag.CLOSED)

    @property
    def above_floor(self) -> int:
        """The balance that the floor guards: incoming pending money is not there yet, outgoing is gone."""
        return self.credits_posted - self.debits_posted - self.debits_pending

    @property
    def below_ceiling(self) -> int:
        """The balance that the ceiling guards."""
        return self.credits_posted + self.credits_pending - self.debits_posted


class LegFact(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, as `engine.layout.LEG_FACT` has it; `debit` and `credit` are ordinals."""

    id: int = 0
    pending_id: int = 0
    user_data_128: int = 0
    user_data_64: int = 0
    user_data_32: int = 0
    amount: int = 0
    held: int = 0
    timestamp: int
    debit: int = -1
    credit: int = -1
    timeout: int = 0
    code: int = 0
    flags: int


class GuardFact(msgspec.Struct, frozen=True, kw_only=True):
    """New guards of the account with this ordinal."""

    account: int
    floor: int
    ceiling: int
    timestamp: int


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a pending leg; once it is resolved, `held` stays what was held just before."""

    id: int
    debit: int  # account id
    credit: int  # account id
    held: int
    status: int
    created: int
    expiry: int | None  # ns; None = never


class Answer(msgspec.Struct, frozen=True):
    """What became of one event; `amount` is the actual amount of a leg that is there now, else 0."""

    result: Result
    timestamp: int
    amount: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """A batch's answers, and what it adds to the log."""

    answers: list[Answer]
    facts: list[LegFact]
    accounts: list[AccountState]


class Batch(msgspec.Struct, frozen=True):
    """What a member of a batch is judged by, besides itself."""

    time: int
    imported: bool
    allowed_flags: int


class ReferenceLedger:
    """The ledger, one event at a time. State changes only by the commands below."""

    def __init__(self) -> None:
        self.accounts: dict[int, AccountState] = {}  # by id
        self.ids: dict[int, int] = {}  # ordinal → account id, in order of creation
        self.legs: dict[int, LegFact] = {}  # by id, burnt ids too; never forgotten
        self.holds: dict[int, Hold] = {}  # by the pending leg's id; never forgotten
        self.stamps_of_accounts: dict[int, int] = {}  # creation → account id
        self.stamps_of_legs: dict[int, int] = {}  # stamp of a leg or an expiry → id of the leg or the hold
        self.last = {"fact": 0, "leg": 0, "account": 0}  # greatest stamp of each; an expiry counts as a leg
        self.stamps_forgotten = 0  # up to here, which stamps legs have taken is not remembered
        self._facts: list[LegFact] = []  # of the present command
        self._opened: list[AccountState] = []  # of the present command
        self._journal: list[Callable[[], object]] = []  # how to take back the present chain

    @property
    def last_timestamp(self) -> int:
        """The greatest stamp of all that happened; what was refused without a trace leaves none."""
        return self.last["fact"]

    @property
    def next_expiry(self) -> int:
        """When the first open hold is due; AMOUNT_MAX if none ever is."""
        return min((expiry for expiry, _, _ in self._expiring()), default=AMOUNT_MAX)

    # Commands

    def create_accounts(self, accounts: Sequence[Account], now: int) -> Outcome:
        """Judges one batch of new accounts."""
        return self._run(accounts, now, (), ACCOUNT_FLAGS_OF_CLIENTS, self._create_account)

    def apply_batch(
        self,
        legs: Sequence[Leg],
        now: int,
        opens: Sequence[tuple[int, Account]] = (),
        allowed_flags: int = LEG_FLAGS_OF_CLIENTS,
    ) -> Outcome:
        """Judges one batch of legs; `opens` are accounts to ensure, each with the index of the leg after."""
        return self._run(legs, now, opens, allowed_flags, self._create_leg)

    def set_guards(self, ordinal: int, floor: int, ceiling: int, now: int) -> GuardFact:
        """Gives an account new guards; never refused, whatever its balance."""
        account = self.accounts[self.ids[ordinal]]
        stamp = max(now, self.last["fact"] + 1)
        self._change(account, floor=floor, ceiling=ceiling, version=account.version + 1)
        self._advance(stamp)
        return GuardFact(account=ordinal, floor=floor, ceiling=ceiling, timestamp=stamp)

    def expire(self, now: int, limit: int) -> list[LegFact]:
        """The sweep: releases the holds that are due, at most `limit`, in order of expiry, then creation."""
        due = [hold for expiry, _, hold in sorted(self._expiring()) if expiry <= now][:limit]
        time = max(now, self.last["fact"] + len(due))
        self._facts = []
        for index, hold in enumerate(due):
            self._expire(hold, time - len(due) + 1 + index)
        return self._facts

    def forget_stamps(self, until: int) -> None:
        """Closes a time to imported accounts, as a ledger does that drops that time's legs from memory."""
        self.stamps_forgotten = until

    # Batches and chains

    def _run(
        self,
        events: Sequence[Any],
        now: int,
        opens: Sequence[tuple[int, Account]],
        allowed_flags: int,
        create: Callable[[Any, int, Batch], Answer],
    ) -> Outcome:
        count = len(events) + len(opens)
        time = max(now, self.last["fact"] + count)
        batch = Batch(time, bool(events) and events[0].imported, allowed_flags)
        stamp = time - count
        stamps: list[int] = []
        answers: list[Answer] = []
        chain_start, broken = 0, False
        self._facts, self._opened = [], []
        for index, event in enumerate(events):
            is_last = index == len(events) - 1
            if index == chain_start:
                self._journal.clear()
            for _, account in (item for item in opens if item[0] == index):
                stamp += 1
                self._open_account(account, stamp)
            stamp += 1
            stamps.append(stamp)
            if event.linked and is_last:
                answer = Answer(Result.LINKED_EVENT_CHAIN_OPEN, stamp)
            elif broken:
                answer = Answer(Result.LINKED_EVENT_FAILED, stamp)
            else:
                answer = create(event, stamp, batch)
            if answer.result != Result.CREATED and not broken:
                broken = True
                self._undo_chain()
                failed = (Answer(Result.LINKED_EVENT_FAILED, stamps[i]) for i in range(chain_start, index))
                answers[chain_start:] = failed
                if answer.result in TRANSIENT:
                    self._burn(event.id, stamp)
            answers.append(answer)
            if not event.linked:
                chain_start, broken = index + 1, False
        return Outcome(answers, self._facts, self._opened)

    def _put(self, table: dict[K, V], key: K, value: V) -> None:
        """Changes state, and journals how to take it back."""
        if key in table:
            before = table[key]
            self._journal.append(lambda: table.__setitem__(key, before))
        else:
            self._journal.append(lambda: table.pop(key))
        table[key] = value

    def _undo_chain(self) -> None:
        while self._journal:
            self._journal.pop()()

    def _change(self, account: AccountState, **changes: int) -> None:
        self._put(self.accounts, account.id, msgspec.structs.replace(account, **changes))

    def _advance(self, stamp: int, *kinds: str) -> None:
        for kind in ("fact", *kinds):
            self._put(self.last, kind, max(stamp, self.last[kind]))

    def _record(self, fact: LegFact) -> None:
        """Adds a fact to the log and what it says to the ids and stamps that are taken."""
        burnt = bool(fact.flags & LegFlag.BURNT)
        if fact.id:
            self._put(self.legs, fact.id, fact)
        if not burnt:
            self._put(self.stamps_of_legs, fact.timestamp, fact.id or fact.pending_id)
        self._advance(fact.timestamp, *(() if burnt else ("leg",)))
        self._facts.append(fact)
        self._journal.append(self._facts.pop)

    def _burn(self, id: int, stamp: int) -> None:
        self._record(LegFact(id=id, timestamp=stamp, flags=LegFlag.BURNT))

    # Phase 1, of legs and accounts alike

    @staticmethod
    def _refused_by_message(event: Leg | Account, batch: Batch) -> Result | None:
        if batch.imported and not event.imported:
            return Result.IMPORTED_EVENT_EXPECTED
        if event.imported and not batch.imported:
            return Result.IMPORTED_EVENT_NOT_EXPECTED
        if not event.imported and event.timestamp != 0:
            return Result.TIMESTAMP_MUST_BE_ZERO
        if event.imported and not 1 <= event.timestamp <= TIMESTAMP_MAX:
            return Result.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE
        if event.imported and event.timestamp >= batch.time:
            return Result.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE
        if event.flags & ~batch.allowed_flags:
            return Result.RESERVED_FLAG
        if event.id == 0:
            return Result.ID_MUST_NOT_BE_ZERO
        if event.id == ID_MAX:
            return Result.ID_MUST_NOT_BE_INT_MAX
        return None

    # Accounts

    def _create_account(self, account: Account, stamp: int, batch: Batch) -> Answer:
        refused = self._refused_by_message(account, batch)
        if refused:
            return Answer(refused, stamp)
        known = self.accounts.get(account.id)
        if known:
            differs = self._difference_of_accounts(account, known)
            return Answer(differs, stamp) if differs else Answer(Result.EXISTS, known.timestamp)
        refused = self._refused_by_content(account)
        if refused:
            return Answer(refused, stamp)
        created = account.timestamp if account.imported else stamp
        self._add_account(account, created)
        return Answer(Result.CREATED, created)

    @staticmethod
    def _difference_of_accounts(account: Account, known: AccountState) -> Result | None:
        if account.flags != known.flags:
            return Result.EXISTS_WITH_DIFFERENT_FLAGS
        if account.floor != known.floor:
            return Result.EXISTS_WITH_DIFFERENT_FLOOR
        if account.ceiling != known.ceiling:
            return Result.EXISTS_WITH_DIFFERENT_CEILING
        if account.user_data_128 != known.user_data_128:
            return Result.EXISTS_WITH_DIFFERENT_USER_DATA_128
        if account.user_data_64 != known.user_data_64:
            return Result.EXISTS_WITH_DIFFERENT_USER_DATA_64
        if account.user_data_32 != known.user_data_32:
            return Result.EXISTS_WITH_DIFFERENT_USER_DATA_32
        if account.asset != known.asset:
            return Result.EXISTS_WITH_DIFFERENT_ASSET
        if account.code != known.code:
            return Result.EXISTS_WITH_DIFFERENT_CODE
        if account.party != known.party:
            return Result.EXISTS_WITH_DIFFERENT_PARTY
        if account.parent != known.parent:
            return Result.EXISTS_WITH_DIFFERENT_PARENT
        return None

    def _refused_by_content(self, account: Account) -> Result | None:
        if account.asset == 0:
            return Result.ASSET_MUST_NOT_BE_ZERO
        if account.code == 0:
            return Result.CODE_MUST_NOT_BE_ZERO
        if account.parent:
            parent = self.accounts.get(account.parent)
            if parent is None:
                return Result.PARENT_NOT_FOUND
            if not parent.flags & AccountFlag.ROLLUP:
                return Result.PARENT_MUST_BE_ROLLUP
            if parent.asset != account.asset:
                return Result.PARENT_MUST_HAVE_THE_SAME_ASSET
            if 1 + len(self._ancestors(parent)) > ROLLUP_LEVELS_MAX:
                return Result.PARENT_TOO_DEEP
        if account.imported and (
            account.timestamp <= max(self.last["account"], self.stamps_forgotten)
            or account.timestamp in self.stamps_of_legs
        ):
            return Result.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        return None

    def _ancestors(self, account: AccountState) -> list[AccountState]:
        above = []
        while account.parent:
            account = self.accounts[account.parent]
            above.append(account)
        return above

    def _add_account(self, account: Account, created: int) -> AccountState:
        content = msgspec.structs.asdict(account) | {"timestamp": created}
        state = AccountState(ordinal=len(self.ids), **content)
        self._put(self.accounts, state.id, state)
        self._put(self.ids, state.ordinal, state.id)
        self._put(self.stamps_of_accounts, created, state.id)
        self._advance(created, "account")
        self._opened.append(state)
        self._journal.append(self._opened.pop)
        return state

    def _open_account(self, account: Account, stamp: int) -> None:
        """Ensures an account: one that is there already is taken as it is."""
        if account.id not in self.accounts:
            self._add_account(account, stamp)

    # Legs

    def _create_leg(self, leg: Leg, stamp: int, batch: Batch) -> Answer:
        refused = self._refused_by_message(leg, batch)
        if refused:
            return Answer(refused, stamp)
        if leg.id in self.legs:
            return self._answer_repeat(leg, self.legs[leg.id], stamp)
        created = leg.timestamp if leg.imported else stamp
        if leg.flags & RESOLVING:
            refused = (
                self._refused_by_shape(leg)
                or self._refused_by_hold(leg, created)
                or self._refused_by_state(leg, created)
                or self._refused_by_versions(leg)
            )
            if refused:
                return Answer(refused, stamp)
            return Answer(Result.CREATED, created, self._resolve(leg, created))
        refused = (
            self._refused_by_shape(leg)
            or self._refused_by_accounts(leg)
            or self._refused_by_state(leg, created)
            or self._refused_by_overflow(leg, created)
            or self._refused_by_versions(leg)
            or self._refused_by_guards(leg)
        )
        if refused:
            return Answer(refused, stamp)
        return Answer(Result.CREATED, created, self._post(leg, created))

    # Phase 2

    def _answer_repeat(self, leg: Leg, known: LegFact, stamp: int) -> Answer:
        if known.flags & LegFlag.BURNT:
            return Answer(Result.ID_ALREADY_FAILED, stamp)
        differs = self._difference_of_legs(leg, known)
        return Answer(differs, stamp) if differs else Answer(Result.EXISTS, known.timestamp, known.amount)

    def _difference_of_legs(self, leg: Leg, known: LegFact) -> Result | None:
        if leg.flags != known.flags:
            return Result.EXISTS_WITH_DIFFERENT_FLAGS
        if leg.pending_id != known.pending_id:
            return Result.EXISTS_WITH_DIFFERENT_PENDING_ID
        if leg.timeout != known.timeout:
            return Result.EXISTS_WITH_DIFFERENT_TIMEOUT
        debit, credit = self.ids[known.debit], self.ids[known.credit]
        asset, amount = self.accounts[debit].asset, known.amount
        if leg.flags & LegFlag.VOID_PENDING:
            amount = known.held
        leg = self._with_inheritance(leg, known.held)
        if leg.debit != debit:
            return Result.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID
        if leg.credit != credit:
            return Result.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID
        if leg.amount < amount or (leg.amount != amount and not leg.flags & BALANCING):
            return Result.EXISTS_WITH_DIFFERENT_AMOUNT
        if leg.user_data_128 != known.user_data_128:
            return Result.EXISTS_WITH_DIFFERENT_USER_DATA_128
        if leg.user_data_64 != known.user_data_64:
            return Result.EXISTS_WITH_DIFFERENT_USER_DATA_64
        if leg.user_data_32 != known.user_data_32:
            return Result.EXISTS_WITH_DIFFERENT_USER_DATA_32
        if leg.asset != asset:
            return Result.EXISTS_WITH_DIFFERENT_ASSET
        if leg.code != known.code:
            return Result.EXISTS_WITH_DIFFERENT_CODE
        return None

    def _with_inheritance(self, leg: Leg, held: int) -> Leg:
        """The leg with what a post or void leaves open taken from its hold, of which `held` is left."""
        if not leg.flags & RESOLVING:
            return leg
        pending = self.legs[leg.pending_id]
        hold = self.holds[leg.pending_id]
        all_of_it = 0 if leg.flags & LegFlag.VOID_PENDING else AMOUNT_MAX
        return msgspec.structs.replace(
            leg,
            debit=leg.debit or hold.debit,
            credit=leg.credit or hold.credit,
            amount=held if leg.amount == all_of_it else leg.amount,
            asset=leg.asset or self.accounts[hold.debit].asset,
            code=leg.code or pending.code,
            user_data_128=leg.user_data_128 or pending.user_data_128,
            user_data_64=leg.user_data_64 or pending.user_data_64,
            user_data_32=leg.user_data_32 or pending.user_data_32,
        )

    # Phase 3

    @staticmethod
    def _refused_by_shape(leg: Leg) -> Result | None:
        flags = leg.flags
        resolving = bool(flags & RESOLVING)
        if resolving and flags & (LegFlag.PENDING | BALANCING | CLOSING):
            return Result.FLAGS_ARE_MUTUALLY_EXCLUSIVE
        if (
            flags & RESOLVING == RESOLVING
            or flags & (LegFlag.KEEP_OPEN | LegFlag.POST_PENDING) == LegFlag.KEEP_OPEN
        ):
            return Result.FLAGS_ARE_MUTUALLY_EXCLUSIVE
        if not resolving:
            if leg.debit == 0:
                return Result.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO
            if leg.debit == ID_MAX:
                return Result.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX
            if leg.credit == 0:
                return Result.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO
            if leg.credit == ID_MAX:
                return Result.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX
            if leg.debit == leg.credit:
                return Result.ACCOUNTS_MUST_BE_DIFFERENT
            if leg.pending_id != 0:
                return Result.PENDING_ID_MUST_BE_ZERO
        if resolving and leg.pending_id == 0:
            return Result.PENDING_ID_MUST_NOT_BE_ZERO
        if resolving and leg.pending_id == ID_MAX:
            return Result.PENDING_ID_MUST_NOT_BE_INT_MAX
        if resolving and leg.pending_id == leg.id:
            return Result.PENDING_ID_MUST_BE_DIFFERENT
        if leg.timeout != 0 and not flags & LegFlag.PENDING:
            return Result.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
        if not resolving:
            if flags & CLOSING and not flags & LegFlag.PENDING:
                return Result.CLOSING_TRANSFER_MUST_BE_PENDING
            if leg.asset == 0:
                return Result.ASSET_MUST_NOT_BE_ZERO
            if leg.code == 0:
                return Result.CODE_MUST_NOT_BE_ZERO
        if leg.amount < 0:
            return Result.AMOUNT_MUST_NOT_BE_NEGATIVE
        return None

    # Phase 4

    def _refused_by_accounts(self, leg: Leg) -> Result | None:
        debit, credit = self.accounts.get(leg.debit), self.accounts.get(leg.credit)
        if debit is None:
            return Result.DEBIT_ACCOUNT_NOT_FOUND
        if credit is None:
            return Result.CREDIT_ACCOUNT_NOT_FOUND
        if debit.flags & AccountFlag.ROLLUP:
            return Result.DEBIT_ACCOUNT_IS_ROLLUP
        if credit.flags & AccountFlag.ROLLUP:
            return Result.CREDIT_ACCOUNT_IS_ROLLUP
        if debit.asset != credit.asset:
            return Result.ACCOUNTS_MUST_HAVE_THE_SAME_ASSET
        if leg.asset != debit.asset:
            return Result.TRANSFER_MUST_HAVE_THE_SAME_ASSET_AS_ACCOUNTS
        return None

    def _refused_by_hold(self, leg: Leg, created: int) -> Result | None:
        pending = self.legs.get(leg.pending_id)
        if pending is None or pending.flags & LegFlag.BURNT:
            return Result.PENDING_TRANSFER_NOT_FOUND
        if not pending.flags & LegFlag.PENDING:
            return Result.PENDING_TRANSFER_NOT_PENDING
        hold = self.holds[leg.pending_id]
        if leg.debit not in (0, hold.debit):
            return Result.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID
        if leg.credit not in (0, hold.credit):
            return Result.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID
        if leg.asset not in (0, self.accounts[hold.debit].asset):
            return Result.PENDING_TRANSFER_HAS_DIFFERENT_ASSET
        if leg.code not in (0, pending.code):
            return Result.PENDING_TRANSFER_HAS_DIFFERENT_CODE
        amount = self._with_inheritance(leg, hold.held).amount
        if amount > hold.held:
            return Result.EXCEEDS_PENDING_TRANSFER_AMOUNT
        if leg.flags & LegFlag.VOID_PENDING and amount < hold.held:
            return Result.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT
        if hold.status != HoldStatus.OPEN:
            return RESOLVED_AS[hold.status]
        if hold.expiry is not None and hold.expiry <= created:
            return Result.PENDING_TRANSFER_EXPIRED
        return None

    def _refused_by_state(self, leg: Leg, created: int) -> Result | None:
        """The last checks of phase 4, on accounts that are known to be there."""
        debit, credit = self._named_accounts(leg)
        if leg.imported and (created <= self.last["leg"] or created in self.stamps_of_accounts):
            return Result.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        if leg.imported and not leg.flags & RESOLVING:
            if created <= debit.timestamp:
                return Result.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT
            if created <= credit.timestamp:
                return Result.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT
            if leg.timeout != 0:
                return Result.IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO
        if debit.closed and not leg.flags & LegFlag.VOID_PENDING:
            return Result.DEBIT_ACCOUNT_ALREADY_CLOSED
        if credit.closed and not leg.flags & LegFlag.VOID_PENDING:
            return Result.CREDIT_ACCOUNT_ALREADY_CLOSED
        return None

    def _named_accounts(self, leg: Leg) -> tuple[AccountState, AccountState]:
        """Debit and credit account, those of the hold for a post or void."""
        names = self.holds[leg.pending_id] if leg.flags & RESOLVING else leg
        return self.accounts[names.debit], self.accounts[names.credit]

    def _sides(self, debit_id: int, credit_id: int) -> tuple[list[AccountState], list[AccountState]]:
        """All accounts that a leg debits, and all that it credits: the two, and ancestors of only one."""
        debit, credit = self.accounts[debit_id], self.accounts[credit_id]
        above_debit, above_credit = self._ancestors(debit), self._ancestors(credit)
        return (
            [debit, *(account for account in above_debit if account not in above_credit)],
            [credit, *(account for account in above_credit if account not in above_debit)],
        )

    # Phase 5

    def _actual_amount(self, leg: Leg) -> int:
        """What a leg that is no post or void moves: its amount, bounded by what there is to balance."""
        debit, credit = self._named_accounts(leg)
        amount = leg.amount
        if leg.flags & LegFlag.BALANCING_DEBIT:
            amount = min(amount, max(0, debit.above_floor - max(debit.floor, 0)))
        if leg.flags & LegFlag.BALANCING_CREDIT:
            amount = min(amount, max(0, min(credit.ceiling, 0) - credit.below_ceiling))
        return amount

    def _refused_by_overflow(self, leg: Leg, created: int) -> Result | None:
        amount = self._actual_amount(leg)
        debits, credits_ = self._sides(leg.debit, leg.credit)
        if leg.flags & LegFlag.PENDING:
            if any(account.debits_pending + amount > AMOUNT_MAX for account in debits):
                return Result.OVERFLOWS_DEBITS_PENDING
            if any(account.credits_pending + amount > AMOUNT_MAX for account in credits_):
                return Result.OVERFLOWS_CREDITS_PENDING
        if any(account.debits_posted + amount > AMOUNT_MAX for account in debits):
            return Result.OVERFLOWS_DEBITS_POSTED
        if any(account.credits_posted + amount > AMOUNT_MAX for account in credits_):
            return Result.OVERFLOWS_CREDITS_POSTED
        if any(account.debits_pending + account.debits_posted + amount > AMOUNT_MAX for account in debits):
            return Result.OVERFLOWS_DEBITS
        if any(
            account.credits_pending + account.credits_posted + amount > AMOUNT_MAX for account in credits_
        ):
            return Result.OVERFLOWS_CREDITS
        if created + leg.timeout * SECOND_NS > TIMESTAMP_MAX:
            return Result.OVERFLOWS_TIMEOUT
        return None

    # Phase 6

    def _refused_by_versions(self, leg: Leg) -> Result | None:
        debit, credit = self._named_accounts(leg)
        if leg.if_debit_version not in (0, debit.version):
            return Result.DEBIT_ACCOUNT_VERSION_DIFFERS
        if leg.if_credit_version not in (0, credit.version):
            return Result.CREDIT_ACCOUNT_VERSION_DIFFERS
        return None

    def _refused_by_guards(self, leg: Leg) -> Result | None:
        amount = self._actual_amount(leg)
        debits, credits_ = self._sides(leg.debit, leg.credit)
        if amount == 0:
            return None
        if any(account.above_floor - amount < account.floor for account in debits):
            return Result.BELOW_FLOOR
        if any(account.below_ceiling + amount > account.ceiling for account in credits_):
            return Result.ABOVE_CEILING
        return None

    # What accepted legs and expiries do

    def _move(self, debit_id: int, credit_id: int, pending: int, posted: int) -> None:
        """Adds to the pending and posted counters of both sides, and 1 to each account's version."""
        debits, credits_ = self._sides(debit_id, credit_id)
        for account in debits:
            self._change(
                account,
                debits_pending=account.debits_pending + pending,
                debits_posted=account.debits_posted + posted,
                version=account.version + 1,
            )
        for account in credits_:
            self._change(
                account,
                credits_pending=account.credits_pending + pending,
                credits_posted=account.credits_posted + posted,
                version=account.version + 1,
            )

    def _set_closed(self, id: int, closed: bool) -> None:
        account = self.accounts[id]
        flags = account.flags | AccountFlag.CLOSED if closed else account.flags & ~AccountFlag.CLOSED
        self._change(account, flags=int(flags))

    def _post(self, leg: Leg, created: int) -> int:
        """Applies a leg that is no post or void; returns its actual amount."""
        amount = self._actual_amount(leg)
        if leg.flags & LegFlag.PENDING:
            self._move(leg.debit, leg.credit, amount, 0)
            expiry = created + leg.timeout * SECOND_NS if leg.timeout else None
            hold = Hold(
                id=leg.id,
                debit=leg.debit,
                credit=leg.credit,
                held=amount,
                status=HoldStatus.OPEN,
                created=created,
                expiry=expiry,
            )
            self._put(self.holds, leg.id, hold)
        else:
            self._move(leg.debit, leg.credit, 0, amount)
        if leg.flags & LegFlag.CLOSING_DEBIT:
            self._set_closed(leg.debit, True)
        if leg.flags & LegFlag.CLOSING_CREDIT:
            self._set_closed(leg.credit, True)
        self._record_leg(leg, created, amount, 0)
        return amount

    def _resolve(self, leg: Leg, created: int) -> int:
        """Applies a post or void; returns its actual amount."""
        hold = self.holds[leg.pending_id]
        leg = self._with_inheritance(leg, hold.held)
        if leg.flags & LegFlag.VOID_PENDING:
            posted = 0
            self._release(hold, HoldStatus.VOIDED)
        elif leg.flags & LegFlag.KEEP_OPEN and leg.amount < hold.held:
            posted = leg.amount
            self._move(hold.debit, hold.credit, -posted, posted)
            self._put(self.holds, hold.id, msgspec.structs.replace(hold, held=hold.held - posted))
        else:
            posted = leg.amount
            self._move(hold.debit, hold.credit, -hold.held, posted)
            self._put(self.holds, hold.id, msgspec.structs.replace(hold, status=HoldStatus.POSTED))
        self._record_leg(leg, created, posted, hold.held)
        return posted

    def _release(self, hold: Hold, status: int) -> None:
        """Gives back all that is held, and reopens what the hold closed."""
        closing = self.legs[hold.id].flags
        self._move(hold.debit, hold.credit, -hold.held, 0)
        if closing & LegFlag.CLOSING_DEBIT:
            self._set_closed(hold.debit, False)
        if closing & LegFlag.CLOSING_CREDIT:
            self._set_closed(hold.credit, False)
        self._put(self.holds, hold.id, msgspec.structs.replace(hold, status=status))

    def _expiring(self) -> list[tuple[int, int, Hold]]:
        open_holds = (hold for hold in self.holds.values() if hold.status == HoldStatus.OPEN)
        return [(hold.expiry, hold.created, hold) for hold in open_holds if hold.expiry is not None]

    def _expire(self, hold: Hold, stamp: int) -> None:
        self._release(hold, HoldStatus.EXPIRED)
        pending = self.legs[hold.id]
        self._record(
            LegFact(
                pending_id=hold.id,
                held=hold.held,
                timestamp=stamp,
                debit=pending.debit,
                credit=pending.credit,
                code=pending.code,
                flags=LegFlag.EXPIRY,
            )
        )

    def _record_leg(self, leg: Leg, created: int, amount: int, held: int) -> None:
        self._record(
            LegFact(
                id=leg.id,
                pending_id=leg.pending_id,
                user_data_128=leg.user_data_128,
                user_data_64=leg.user_data_64,
                user_data_32=leg.user_data_32,
                amount=amount,
                held=held,
                timestamp=created,
                debit=self.accounts[leg.debit].ordinal,
                credit=self.accounts[leg.credit].ordinal,
                timeout=leg.timeout,
                code=leg.code,
                flags=leg.flags,
            )
        )
