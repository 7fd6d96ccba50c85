"""The smallest case of every result code, and the world of accounts and legs in which the cases happen.

A `Case` changes an event that would otherwise be accepted so that it answers one code. Two cases of one
family are made together, unless they need one field to be two things; the earlier code must be the answer.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from engine.layout import AMOUNT_MAX, AccountFlag, LegFlag
from engine.reference import ID_MAX, Account, Answer, Leg
from engine.results import Result
from tests.ledgers import LedgerUnderTest

SECOND: Final = 10**9
TIMEOUT_MAX: Final = 2**32 - 1
NOW: Final = 6 * 10**18  # late enough that the longest timeout overflows
OPENING: Final = NOW - 10 * SECOND  # when accounts, and holds that are over now, were made
SWEEP: Final = NOW - 5 * SECOND
DUE_HOLDS: Final = NOW - 3 * SECOND  # when holds were made that are due, but not swept
IMPORT_TIME: Final = NOW + 5_000  # after the last leg, before the youngest accounts
YOUNG_ACCOUNTS: Final = NOW + 10_000
BATCH_TIME: Final = NOW + SECOND
HALF: Final = AMOUNT_MAX // 2 + 1

# Accounts, by what is special about them. Those that were shut hold something from before.
(
    PLAIN, OTHER, FOREIGN, ROLLUP, OTHER_ROLLUP, FOREIGN_ROLLUP, DEEP_ROLLUP, CLOSED, OTHER_CLOSED,
    SHUT, OTHER_SHUT, FLOORED, CEILED, YOUNG, OTHER_YOUNG, PENDING_FULL, OTHER_PENDING_FULL,
    POSTED_FULL, OTHER_POSTED_FULL, HALF_FULL, OTHER_HALF_FULL, STORED_ACCOUNT, LEVEL_1, LEVEL_2,
    LEVEL_3, UNKNOWN, OTHER_UNKNOWN,
) = range(101, 128)  # fmt: skip

# Legs.
(
    STORED, STORED_POST, STORED_VOID, BURNT, BURNT_IN_CHAIN, HOLD, POSTED, VOIDED, EXPIRED, DUE, HOLD_ON_SHUT,
    HOLD_ON_OTHER_SHUT, SHUTTING, OF_STORED_POST, OF_STORED_VOID, POSTING, VOIDING, NEW, BEFORE, BEFORE_THAT,
) = range(1001, 1021)  # fmt: skip
FILLING: Final = 2001  # and following

PENDING: Final = LegFlag.PENDING
POST: Final = LegFlag.POST_PENDING
VOID: Final = LegFlag.VOID_PENDING
LINKED: Final = LegFlag.LINKED
IMPORTED: Final = LegFlag.IMPORTED
USER_DATA: Final = {"user_data_128": 7, "user_data_64": 8, "user_data_32": 9}


def leg(id: int, debit: int = PLAIN, credit: int = OTHER, amount: int = 50, **more: Any) -> Leg:
    """A leg of asset 1 with nothing special about it."""
    return Leg(
        **({"id": id, "debit": debit, "credit": credit, "amount": amount, "asset": 1, "code": 1} | more)
    )


def account(id: int, **more: Any) -> Account:
    """An account of asset 1 with nothing special about it."""
    return Account(**({"id": id, "asset": 1, "code": 1} | more))


STORED_CONTENT: Final = account(
    STORED_ACCOUNT, party=5, parent=OTHER_ROLLUP, floor=-50, ceiling=50, **USER_DATA
)


def build_world(ledger: LedgerUnderTest) -> None:
    """Fills an empty ledger with what the cases name."""
    rollup = AccountFlag.ROLLUP
    _open_accounts(ledger, OPENING, [
        *(account(id) for id in (PLAIN, OTHER, SHUT, OTHER_SHUT, PENDING_FULL, OTHER_PENDING_FULL)),
        *(account(id) for id in (POSTED_FULL, OTHER_POSTED_FULL, HALF_FULL, OTHER_HALF_FULL)),
        account(FOREIGN, asset=2),
        account(FOREIGN_ROLLUP, asset=2, flags=rollup),
        account(ROLLUP, flags=rollup),
        account(OTHER_ROLLUP, flags=rollup),
        account(LEVEL_1, flags=rollup, parent=ROLLUP),
        account(LEVEL_2, flags=rollup, parent=LEVEL_1),
        account(LEVEL_3, flags=rollup, parent=LEVEL_2),
        account(DEEP_ROLLUP, flags=rollup, parent=LEVEL_3),
        account(CLOSED, flags=AccountFlag.CLOSED),
        account(OTHER_CLOSED, flags=AccountFlag.CLOSED),
        account(FLOORED, floor=0),
        account(CEILED, ceiling=0),
        STORED_CONTENT,
    ])  # fmt: skip
    _send(ledger, OPENING, [
        *(leg(id, flags=PENDING, timeout=1) for id in (EXPIRED, POSTED, VOIDED)),
        Leg(id=POSTING, flags=POST, pending_id=POSTED, amount=AMOUNT_MAX),
        Leg(id=VOIDING, flags=VOID, pending_id=VOIDED),
    ])  # fmt: skip
    assert [fact.pending_id for fact in ledger.expire(SWEEP, 10)] == [EXPIRED]
    _send(ledger, DUE_HOLDS, [leg(DUE, flags=PENDING, timeout=1)])
    _send(ledger, NOW, [
        leg(STORED, **USER_DATA),
        *(leg(id, flags=PENDING, **USER_DATA) for id in (HOLD, OF_STORED_POST, OF_STORED_VOID)),
        Leg(id=STORED_POST, flags=POST, pending_id=OF_STORED_POST, amount=20),
        Leg(id=STORED_VOID, flags=VOID, pending_id=OF_STORED_VOID),
        leg(HOLD_ON_SHUT, debit=SHUT, flags=PENDING),
        leg(HOLD_ON_OTHER_SHUT, credit=OTHER_SHUT, flags=PENDING),
        leg(SHUTTING, SHUT, OTHER_SHUT, flags=PENDING | LegFlag.CLOSING_DEBIT | LegFlag.CLOSING_CREDIT),
        leg(FILLING, PENDING_FULL, OTHER_PENDING_FULL, AMOUNT_MAX, flags=PENDING),
        leg(FILLING + 1, POSTED_FULL, OTHER_POSTED_FULL, AMOUNT_MAX),
        leg(FILLING + 2, HALF_FULL, OTHER_HALF_FULL, HALF, flags=PENDING),
        leg(FILLING + 3, HALF_FULL, OTHER_HALF_FULL, AMOUNT_MAX - HALF),
    ])  # fmt: skip
    burning = [
        leg(BURNT, debit=UNKNOWN),
        leg(BEFORE, flags=LINKED),
        leg(BURNT_IN_CHAIN, credit=UNKNOWN),
    ]
    answers = ledger.apply_batch(burning, NOW).answers
    assert [answer.result.slug for answer in answers] == [
        "debit_account_not_found",
        "linked_event_failed",
        "credit_account_not_found",
    ]
    _open_accounts(ledger, YOUNG_ACCOUNTS, [account(YOUNG), account(OTHER_YOUNG)])


def _open_accounts(ledger: LedgerUnderTest, now: int, accounts: list[Account]) -> None:
    _all_created(ledger.create_accounts(accounts, now).answers)


def _send(ledger: LedgerUnderTest, now: int, legs: list[Leg]) -> None:
    _all_created(ledger.apply_batch(legs, now).answers)


def _all_created(answers: Iterable[Answer]) -> None:
    assert {answer.result for answer in answers} == {Result.CREATED}


class Case(msgspec.Struct, frozen=True):
    """What makes an event answer `result`."""

    result: Result
    changes: dict[str, int] = {}
    flags: int = 0  # set in addition
    before: tuple[Leg | Account, ...] = ()  # sent before it, in the same batch
    needs: tuple[str, ...] = ()  # fields that must stay as they are, besides those it changes
    needs_unset: int = 0  # flags that must stay unset


class Family(msgspec.Struct, frozen=True):
    """Cases that start from one event."""

    name: str
    event: Leg | Account
    accepted: Result  # what it answers unchanged: it is created, or exists
    cases: tuple[Case, ...]


def together(family: Family, first: Case, second: Case) -> list[Any] | None:
    """The batch in which the last event is both cases; None if they exclude each other."""
    both = first.changes.keys() & second.changes.keys()
    if any(first.changes[field] != second.changes[field] for field in both):
        return None
    if any(
        field in other.changes for one, other in ((first, second), (second, first)) for field in one.needs
    ):
        return None
    if first.needs_unset & second.flags or second.needs_unset & first.flags:
        return None
    return batch(
        family, first.changes | second.changes, first.flags | second.flags, second.before + first.before
    )


def batch(
    family: Family, changes: dict[str, int], flags: int = 0, before: Sequence[Leg | Account] = ()
) -> list[Any]:
    """The family's event with these changes, after the others."""
    changes = {"flags": family.event.flags | flags} | changes
    return [*before, msgspec.structs.replace(family.event, **changes)]


def _cases(*rows: tuple[Any, ...]) -> tuple[Case, ...]:
    return tuple(Case(*row[:2], **row[2]) if len(row) == 3 else Case(*row) for row in rows)


R = Result
FAILS: Final = Leg(id=0, flags=LINKED)
FAILS_IMPORTED: Final = Leg(id=0, flags=LINKED | IMPORTED)
IMPORTED_BEFORE: Final = Leg(id=0, flags=IMPORTED)
PLAIN_BEFORE: Final = Leg(id=0)

MESSAGE: Final = _cases(
    (R.LINKED_EVENT_CHAIN_OPEN, {}, {"flags": LINKED}),
    (R.LINKED_EVENT_FAILED, {}, {"before": (FAILS,)}),
    (R.RESERVED_FLAG, {}, {"flags": 1 << 10}),
    (R.ID_MUST_NOT_BE_ZERO, {"id": 0}),
    (R.ID_MUST_NOT_BE_INT_MAX, {"id": ID_MAX}),
)
TODAY: Final = _cases(
    (R.IMPORTED_EVENT_EXPECTED, {}, {"before": (IMPORTED_BEFORE,), "needs_unset": IMPORTED}),
    (R.IMPORTED_EVENT_NOT_EXPECTED, {}, {"before": (PLAIN_BEFORE,), "flags": IMPORTED}),
    (R.TIMESTAMP_MUST_BE_ZERO, {"timestamp": 5}, {"needs_unset": IMPORTED}),
)
PAST: Final = _cases(
    (R.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE, {"timestamp": 0}),
    (R.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE, {"timestamp": BATCH_TIME}),
)
BURNT_IDS: Final = _cases((R.ID_ALREADY_FAILED, {"id": BURNT}), (R.ID_ALREADY_FAILED, {"id": BURNT_IN_CHAIN}))
LEG_SHAPE: Final = _cases(
    (R.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {}, {"flags": LegFlag.KEEP_OPEN, "needs_unset": POST}),
    (R.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO, {"debit": 0}),
    (R.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX, {"debit": ID_MAX}),
    (R.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO, {"credit": 0}),
    (R.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX, {"credit": ID_MAX}),
    (R.ACCOUNTS_MUST_BE_DIFFERENT, {"credit": PLAIN}, {"needs": ("debit",)}),
    (R.PENDING_ID_MUST_BE_ZERO, {"pending_id": HOLD}),
    (R.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER, {"timeout": 2}, {"needs_unset": PENDING}),
    (R.CLOSING_TRANSFER_MUST_BE_PENDING, {}, {"flags": LegFlag.CLOSING_CREDIT, "needs_unset": PENDING}),
    (R.ASSET_MUST_NOT_BE_ZERO, {"asset": 0}),
    (R.CODE_MUST_NOT_BE_ZERO, {"code": 0}),
    (R.AMOUNT_MUST_NOT_BE_NEGATIVE, {"amount": -1}),
)
ACCOUNTS_OF_LEG: Final = _cases(
    (R.DEBIT_ACCOUNT_NOT_FOUND, {"debit": UNKNOWN}),
    (R.CREDIT_ACCOUNT_NOT_FOUND, {"credit": OTHER_UNKNOWN}),
    (R.DEBIT_ACCOUNT_IS_ROLLUP, {"debit": ROLLUP}),
    (R.CREDIT_ACCOUNT_IS_ROLLUP, {"credit": OTHER_ROLLUP}),
    (R.ACCOUNTS_MUST_HAVE_THE_SAME_ASSET, {"credit": FOREIGN}, {"needs": ("debit",)}),
    (R.TRANSFER_MUST_HAVE_THE_SAME_ASSET_AS_ACCOUNTS, {"asset": 9}),
)
STATE_OF_LEG: Final = _cases(
    (R.DEBIT_ACCOUNT_ALREADY_CLOSED, {"debit": CLOSED}),
    (R.CREDIT_ACCOUNT_ALREADY_CLOSED, {"credit": OTHER_CLOSED}),
    (R.OVERFLOWS_DEBITS_PENDING, {"debit": PENDING_FULL}, {"flags": PENDING}),
    (R.OVERFLOWS_CREDITS_PENDING, {"credit": OTHER_PENDING_FULL}, {"flags": PENDING}),
    (R.OVERFLOWS_DEBITS_POSTED, {"debit": POSTED_FULL}),
    (R.OVERFLOWS_CREDITS_POSTED, {"credit": OTHER_POSTED_FULL}),
    (R.OVERFLOWS_DEBITS, {"debit": HALF_FULL}, {"needs": ("amount",)}),
    (R.OVERFLOWS_CREDITS, {"credit": OTHER_HALF_FULL}, {"needs": ("amount",)}),
)
VERSIONS: Final = _cases(
    (R.DEBIT_ACCOUNT_VERSION_DIFFERS, {"if_debit_version": 99}),
    (R.CREDIT_ACCOUNT_VERSION_DIFFERS, {"if_credit_version": -1}),
)
GUARDS: Final = _cases((R.BELOW_FLOOR, {"debit": FLOORED}), (R.ABOVE_CEILING, {"credit": CEILED}))
HOLD_SHAPE: Final = _cases(
    (R.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {}, {"flags": LegFlag.BALANCING_DEBIT}),
    (R.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {}, {"flags": LegFlag.BALANCING_CREDIT}),
    (R.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {}, {"flags": LegFlag.CLOSING_DEBIT}),
    (R.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {}, {"flags": LegFlag.CLOSING_CREDIT}),
    (R.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {}, {"flags": PENDING}),
    (R.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {}, {"flags": POST | VOID}),
    (R.PENDING_ID_MUST_NOT_BE_ZERO, {"pending_id": 0}),
    (R.PENDING_ID_MUST_NOT_BE_INT_MAX, {"pending_id": ID_MAX}),
    (R.PENDING_ID_MUST_BE_DIFFERENT, {"pending_id": NEW}, {"needs": ("id",)}),
    (R.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER, {"timeout": 2}, {"needs_unset": PENDING}),
    (R.AMOUNT_MUST_NOT_BE_NEGATIVE, {"amount": -1}),
)
HOLDS: Final = _cases(
    (R.PENDING_TRANSFER_NOT_FOUND, {"pending_id": UNKNOWN}),
    (R.PENDING_TRANSFER_NOT_FOUND, {"pending_id": BURNT}),
    (R.PENDING_TRANSFER_NOT_PENDING, {"pending_id": STORED}),
    (R.PENDING_TRANSFER_NOT_PENDING, {"pending_id": POSTING}),
    (R.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID, {"debit": UNKNOWN}),
    (R.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID, {"credit": ROLLUP}),
    (R.PENDING_TRANSFER_HAS_DIFFERENT_ASSET, {"asset": 9}),
    (R.PENDING_TRANSFER_HAS_DIFFERENT_CODE, {"code": 9}),
    (R.EXCEEDS_PENDING_TRANSFER_AMOUNT, {"amount": 51}),
    (R.PENDING_TRANSFER_ALREADY_POSTED, {"pending_id": POSTED}),
    (R.PENDING_TRANSFER_ALREADY_VOIDED, {"pending_id": VOIDED}),
    (R.PENDING_TRANSFER_EXPIRED, {"pending_id": EXPIRED}),
    (R.PENDING_TRANSFER_EXPIRED, {"pending_id": DUE}),
)
CLOSED_OF_HOLD: Final = _cases(
    (R.DEBIT_ACCOUNT_ALREADY_CLOSED, {"pending_id": HOLD_ON_SHUT}),
    (R.CREDIT_ACCOUNT_ALREADY_CLOSED, {"pending_id": HOLD_ON_OTHER_SHUT}),
)
# A differing content that would be refused too, were the id new.
DIFFERENT_LEG: Final = _cases(
    (R.EXISTS_WITH_DIFFERENT_FLAGS, {}, {"flags": LegFlag.KEEP_OPEN}),
    (R.EXISTS_WITH_DIFFERENT_PENDING_ID, {"pending_id": UNKNOWN}),
    (R.EXISTS_WITH_DIFFERENT_TIMEOUT, {"timeout": 2}),
    (R.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID, {"debit": ID_MAX}),
    (R.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID, {"credit": UNKNOWN}),
    (R.EXISTS_WITH_DIFFERENT_AMOUNT, {"amount": -1}),
    (R.EXISTS_WITH_DIFFERENT_USER_DATA_128, {"user_data_128": 1}),
    (R.EXISTS_WITH_DIFFERENT_USER_DATA_64, {"user_data_64": 1}),
    (R.EXISTS_WITH_DIFFERENT_USER_DATA_32, {"user_data_32": 1}),
    (R.EXISTS_WITH_DIFFERENT_ASSET, {"asset": 9}),
    (R.EXISTS_WITH_DIFFERENT_CODE, {"code": 9}),
)
SAME: Final = {
    "needs": tuple(field for case in DIFFERENT_LEG for field in case.changes),
    "needs_unset": LegFlag.KEEP_OPEN,
}
REPEATED: Final = _cases(
    (R.EXISTS, {}, SAME),
    (R.EXISTS, {"if_debit_version": 99, "if_credit_version": -1}, SAME),
)

REGRESS: Final = Case(R.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS, {"timestamp": NOW - SECOND})
IMPORTS: Final = (
    REGRESS,
    Case(R.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS, {"timestamp": NOW}),
    Case(R.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS, {"timestamp": YOUNG_ACCOUNTS}),
)
IMPORTED_MESSAGE: Final = tuple(
    msgspec.structs.replace(case, before=(FAILS_IMPORTED,)) if case.before else case for case in MESSAGE
)

LEG_FAMILIES: Final = (
    Family(
        "leg",
        leg(NEW),
        R.CREATED,
        (
            *MESSAGE,
            *TODAY,
            *BURNT_IDS,
            *LEG_SHAPE,
            *ACCOUNTS_OF_LEG,
            *STATE_OF_LEG,
            Case(R.OVERFLOWS_TIMEOUT, {"timeout": TIMEOUT_MAX}, PENDING),
            *VERSIONS,
            *GUARDS,
        ),
    ),
    Family(
        "post",
        Leg(id=NEW, flags=POST, pending_id=HOLD, amount=10),
        R.CREATED,
        (*MESSAGE, *TODAY, *BURNT_IDS, *HOLD_SHAPE, *HOLDS, *CLOSED_OF_HOLD, *VERSIONS),
    ),
    Family(
        "void",
        Leg(id=NEW, flags=VOID, pending_id=HOLD),
        R.CREATED,
        (
            *MESSAGE,
            *TODAY,
            *BURNT_IDS,
            *HOLD_SHAPE,
            Case(R.FLAGS_ARE_MUTUALLY_EXCLUSIVE, {}, LegFlag.KEEP_OPEN),
            *HOLDS,
            Case(R.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT, {"amount": 49}),
            *VERSIONS,
        ),
    ),
    Family(
        "imported leg",
        leg(NEW, flags=IMPORTED, timestamp=IMPORT_TIME),
        R.CREATED,
        (
            *IMPORTED_MESSAGE,
            *PAST,
            *BURNT_IDS,
            *LEG_SHAPE,
            *ACCOUNTS_OF_LEG,
            *IMPORTS,
            Case(R.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT, {"debit": YOUNG}),
            Case(R.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT, {"credit": OTHER_YOUNG}),
            Case(R.IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO, {"timeout": 2}, PENDING),
            *STATE_OF_LEG,
            *VERSIONS,
            *GUARDS,
        ),
    ),
    Family(
        "imported post",
        Leg(id=NEW, flags=POST | IMPORTED, pending_id=HOLD, amount=10, timestamp=IMPORT_TIME),
        R.CREATED,
        (*IMPORTED_MESSAGE, *PAST, *BURNT_IDS, *HOLD_SHAPE, *HOLDS, *IMPORTS, *CLOSED_OF_HOLD, *VERSIONS),
    ),
    Family(
        "imported void",
        Leg(id=NEW, flags=VOID | IMPORTED, pending_id=HOLD, timestamp=IMPORT_TIME),
        R.CREATED,
        (*IMPORTED_MESSAGE, *PAST, *BURNT_IDS, *HOLD_SHAPE, *HOLDS, *IMPORTS, *VERSIONS),
    ),
    Family(
        "repeated leg",
        leg(STORED, **USER_DATA),
        R.EXISTS,
        (*MESSAGE, *TODAY, *DIFFERENT_LEG, *REPEATED),
    ),
    Family(
        "repeated post",
        Leg(id=STORED_POST, flags=POST, pending_id=OF_STORED_POST, amount=20),
        R.EXISTS,
        (*MESSAGE, *TODAY, *DIFFERENT_LEG, *REPEATED),
    ),
    Family(
        "repeated void",
        Leg(id=STORED_VOID, flags=VOID, pending_id=OF_STORED_VOID),
        R.EXISTS,
        (*MESSAGE, *TODAY, *DIFFERENT_LEG, *REPEATED),
    ),
)

# Neighbours in the order of precedence that no leg can be at once.
LEG_NEIGHBOURS_EXCLUDED: Final = {
    (R.CREATED, R.LINKED_EVENT_CHAIN_OPEN): "one is no refusal",
    (R.IMPORTED_EVENT_EXPECTED, R.IMPORTED_EVENT_NOT_EXPECTED): "the batch is imported or it is not",
    (R.IMPORTED_EVENT_NOT_EXPECTED, R.TIMESTAMP_MUST_BE_ZERO): "the leg is imported or it is not",
    (R.TIMESTAMP_MUST_BE_ZERO, R.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE): "the leg is imported or it is not",
    (
        R.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE,
        R.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE,
    ): "what is out of the range of 64 bits is too early",
    (R.ID_MUST_NOT_BE_ZERO, R.ID_MUST_NOT_BE_INT_MAX): "one id",
    (R.ID_MUST_NOT_BE_INT_MAX, R.ID_IN_WRONG_BUCKET): "one shard has all buckets",
    (R.ID_IN_WRONG_BUCKET, R.EXISTS_WITH_DIFFERENT_FLAGS): "one shard has all buckets",
    (R.EXISTS_WITH_DIFFERENT_CODE, R.EXISTS): "the content differs or it does not",
    (R.EXISTS, R.ID_ALREADY_FAILED): "the id was accepted or it was not",
    (R.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO, R.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX): "one debit account",
    (R.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO, R.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX): "one credit account",
    (
        R.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX,
        R.ACCOUNTS_MUST_BE_DIFFERENT,
    ): "equal accounts make the debit account answer before",
    (R.PENDING_ID_MUST_BE_ZERO, R.PENDING_ID_MUST_NOT_BE_ZERO): "the leg resolves a hold or it does not",
    (R.PENDING_ID_MUST_NOT_BE_ZERO, R.PENDING_ID_MUST_NOT_BE_INT_MAX): "one pending id",
    (R.PENDING_ID_MUST_NOT_BE_INT_MAX, R.PENDING_ID_MUST_BE_DIFFERENT): "the leg's own id answers before",
    (
        R.TRANSFER_MUST_HAVE_THE_SAME_ASSET_AS_ACCOUNTS,
        R.PENDING_TRANSFER_NOT_FOUND,
    ): "the leg resolves a hold or it does not",
    (R.PENDING_TRANSFER_NOT_FOUND, R.PENDING_TRANSFER_NOT_PENDING): "what is not found is nothing",
    (
        R.EXCEEDS_PENDING_TRANSFER_AMOUNT,
        R.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT,
    ): "an amount that differs but does not exceed",
    (R.PENDING_TRANSFER_ALREADY_POSTED, R.PENDING_TRANSFER_ALREADY_VOIDED): "a hold is resolved once",
}

# Neighbours that need an account of their own.
NEIGHBOURS_APART: Final = {
    (R.CREDIT_ACCOUNT_IS_ROLLUP, R.ACCOUNTS_MUST_HAVE_THE_SAME_ASSET): ("leg", {"credit": FOREIGN_ROLLUP}),
    (R.PENDING_TRANSFER_ALREADY_VOIDED, R.PENDING_TRANSFER_EXPIRED): ("post", {"pending_id": VOIDED}),
    (R.PARENT_MUST_BE_ROLLUP, R.PARENT_MUST_HAVE_THE_SAME_ASSET): ("account", {"parent": FOREIGN}),
    (R.PARENT_MUST_HAVE_THE_SAME_ASSET, R.PARENT_TOO_DEEP): ("account", {"parent": DEEP_ROLLUP, "asset": 2}),
}

_ACCOUNT_FAILS = {False: account(0, flags=AccountFlag.LINKED), True: account(0, flags=AccountFlag.LINKED | 4)}


def _account_message(imported: bool) -> tuple[Case, ...]:
    return _cases(
        (R.LINKED_EVENT_CHAIN_OPEN, {}, {"flags": AccountFlag.LINKED}),
        (R.LINKED_EVENT_FAILED, {}, {"before": (_ACCOUNT_FAILS[imported],)}),
        (R.RESERVED_FLAG, {}, {"flags": 1 << 4}),
        (R.ID_MUST_NOT_BE_ZERO, {"id": 0}),
        (R.ID_MUST_NOT_BE_INT_MAX, {"id": ID_MAX}),
    )


ACCOUNTS_TODAY: Final = _cases(
    (
        R.IMPORTED_EVENT_EXPECTED,
        {},
        {"before": (account(0, flags=AccountFlag.IMPORTED),), "needs_unset": AccountFlag.IMPORTED},
    ),
    (R.IMPORTED_EVENT_NOT_EXPECTED, {}, {"before": (account(0),), "flags": AccountFlag.IMPORTED}),
    (R.TIMESTAMP_MUST_BE_ZERO, {"timestamp": 5}, {"needs_unset": AccountFlag.IMPORTED}),
)
CONTENT: Final = _cases(
    (R.ASSET_MUST_NOT_BE_ZERO, {"asset": 0}),
    (R.CODE_MUST_NOT_BE_ZERO, {"code": 0}),
    (R.PARENT_NOT_FOUND, {"parent": UNKNOWN}),
    (R.PARENT_NOT_FOUND, {"parent": NEW}),
    (R.PARENT_NOT_FOUND, {"parent": ID_MAX}),
    (R.PARENT_MUST_BE_ROLLUP, {"parent": PLAIN}),
    (R.PARENT_MUST_HAVE_THE_SAME_ASSET, {"parent": FOREIGN_ROLLUP}),
    (R.PARENT_TOO_DEEP, {"parent": DEEP_ROLLUP}),
)
DIFFERENT_ACCOUNT: Final = _cases(
    (R.EXISTS_WITH_DIFFERENT_FLAGS, {}, {"flags": AccountFlag.CLOSED}),
    (R.EXISTS_WITH_DIFFERENT_FLOOR, {"floor": 0}),
    (R.EXISTS_WITH_DIFFERENT_CEILING, {"ceiling": 0}),
    (R.EXISTS_WITH_DIFFERENT_USER_DATA_128, {"user_data_128": 0}),
    (R.EXISTS_WITH_DIFFERENT_USER_DATA_64, {"user_data_64": 0}),
    (R.EXISTS_WITH_DIFFERENT_USER_DATA_32, {"user_data_32": 0}),
    (R.EXISTS_WITH_DIFFERENT_ASSET, {"asset": 0}),
    (R.EXISTS_WITH_DIFFERENT_CODE, {"code": 0}),
    (R.EXISTS_WITH_DIFFERENT_PARTY, {"party": 0}),
    (R.EXISTS_WITH_DIFFERENT_PARENT, {"parent": UNKNOWN}),
)
ACCOUNT_FAMILIES: Final = (
    Family("account", account(NEW), R.CREATED, (*_account_message(False), *ACCOUNTS_TODAY, *CONTENT)),
    Family(
        "imported account",
        account(NEW, flags=AccountFlag.IMPORTED, timestamp=YOUNG_ACCOUNTS + 5_000),
        R.CREATED,
        (
            *_account_message(True),
            *PAST,
            *CONTENT,
            Case(R.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS, {"timestamp": YOUNG_ACCOUNTS - 2}),
            Case(R.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS, {"timestamp": YOUNG_ACCOUNTS}),
        ),
    ),
    Family(
        "repeated account",
        STORED_CONTENT,
        R.EXISTS,
        (
            *_account_message(False),
            *ACCOUNTS_TODAY,
            *DIFFERENT_ACCOUNT,
            Case(R.EXISTS, needs=tuple(field for case in DIFFERENT_ACCOUNT for field in case.changes)),
        ),
    ),
)
ACCOUNT_NEIGHBOURS_EXCLUDED: Final = LEG_NEIGHBOURS_EXCLUDED | {
    (R.EXISTS_WITH_DIFFERENT_PARENT, R.EXISTS): "the content differs or it does not",
    (R.EXISTS, R.ASSET_MUST_NOT_BE_ZERO): "what exists has an asset",
    (R.PARENT_NOT_FOUND, R.PARENT_MUST_BE_ROLLUP): "what is not found is nothing",
}
