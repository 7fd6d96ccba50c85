"""Closing and reopening accounts.

An account is closed by a hold of nothing that says so, and reopened by its release. The other side of that
hold is an account of the platform, one for each asset.
"""

import secrets
import time
from typing import Final, NamedTuple

from actors.answers import AccountState
from actors.runtime import AccountDraft, Engine
from engine.ids import bucket_of_account, bucket_of_id, uuid7
from engine.layout import LegFlag, ids_column, leg_columns
from engine.open_holds import HoldFilter
from engine.results import Result
from gateway.problems import Problem, refusal

OTHER_SIDE: Final = "M:closing.contra"
LEG_CODE: Final = 65_535
NANOSECONDS_PER_MILLISECOND: Final = 1_000_000
ATTEMPTS_MAX: Final = 5
"""How often closing is tried again because the account moved meanwhile."""
_CLOSED: Final = (Result.DEBIT_ACCOUNT_ALREADY_CLOSED, Result.CREDIT_ACCOUNT_ALREADY_CLOSED)
_MOVED: Final = Result.DEBIT_ACCOUNT_VERSION_DIFFERS


class Done(NamedTuple):
    """Where in the log it is so, and whether it was not so before."""

    lsn: int
    changed: bool


async def close(engine: Engine, account: int, if_version: int, *, even_with_balance: bool) -> Done:
    """Close an account. Raises NotFound, or Problem if it has something, or another version."""
    for _ in range(ATTEMPTS_MAX):
        state = await engine.account_of_id(account).read()
        _check_version(state, if_version)
        if state.closed:
            return Done(state.lsn, changed=False)
        if not even_with_balance and not _is_empty(state):
            raise Problem(
                409,
                "account_not_empty",
                "The account still has a balance, or something is held on it.",
                accepted="even_with_balance",
            )
        [opened] = await engine.open_accounts(
            [AccountDraft(key=OTHER_SIDE, asset=engine.asset_code(state.asset))]
        )
        result, lsn = await _leg(
            engine,
            bucket_of_account(account),
            debit=account,
            credit=opened.id,
            asset=state.asset,
            code=LEG_CODE,
            flags=LegFlag.PENDING | LegFlag.CLOSING_DEBIT,
            if_debit_version=state.version,
        )
        if result is Result.CREATED:
            return Done(lsn, changed=True)
        if result not in {_MOVED, *_CLOSED}:
            raise refusal(result.slug, f"The account can't be closed: {result.slug}.")
    raise Problem(409, "account_version_differs", "The account kept changing; try again.")


async def reopen(engine: Engine, account: int) -> Done:
    """Reopen an account. Raises NotFound, or Problem if it was created closed."""
    state = await engine.account_of_id(account).read()
    lsn = state.lsn
    if not state.closed:
        return Done(lsn, changed=False)
    found = (await engine.find_holds(HoldFilter(account=account, closing=True))).items
    holds = [hold for hold in found if account in hold.closes]
    for hold in holds:
        home = bucket_of_id(hold.id)
        result, lsn = await _leg(engine, home, pending_id=hold.id, flags=LegFlag.VOID_PENDING)
        if result not in {Result.CREATED, Result.PENDING_TRANSFER_ALREADY_VOIDED}:
            raise refusal(result.slug, f"The account can't be reopened: {result.slug}.")
    if not holds:
        raise Problem(409, "account_closed_for_good", "The account was created closed.")
    return Done(lsn, changed=True)


def _check_version(state: AccountState, if_version: int) -> None:
    if if_version and state.version != if_version:
        raise Problem(
            409,
            "account_version_differs",
            f"if_version: the account is at version {state.version}.",
            "if_version",
        )


def _is_empty(state: AccountState) -> bool:
    held = state.debits_pending or state.credits_pending
    return not held and state.debits_posted == state.credits_posted


async def _leg(engine: Engine, bucket: int, **columns: int) -> tuple[Result, int]:
    """Post a leg with an id of its own; what became of it, and where in the log."""
    wide = ("debit", "credit", "pending_id")
    id = uuid7(time.time_ns() // NANOSECONDS_PER_MILLISECOND, bucket, secrets.randbits(62))
    given = {name: ids_column([value]) if name in wide else [value] for name, value in columns.items()}
    answers = await engine.post_legs(leg_columns(1, id=ids_column([id]), **given))
    return Result(int(answers.status[0])), answers.lsn
