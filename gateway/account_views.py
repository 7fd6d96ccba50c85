"""From what the engine and its queries know of accounts to what clients get."""

from collections.abc import Sequence
from uuid import UUID

from actors.answers import AccountState
from actors.runtime import Engine
from engine.chart import credit_normal
from engine.entities import Side
from gateway.schemas import AccountView, BalanceView, Counters, EntryView, HistoryLine
from gateway.wire import Amount, Balance, Instant
from persistence import views


def uuid_or_none(value: int) -> UUID | None:
    """An id on the wire, 0 being none."""
    return UUID(int=value) if value else None


def account_view(engine: Engine, state: AccountState, key: str, parent: int) -> AccountView:
    """An account, from its state in memory and what never changes about it."""
    return AccountView(
        id=UUID(int=state.id),
        key=key,
        asset=engine.asset_code(state.asset),
        party=uuid_or_none(state.party),
        parent=uuid_or_none(parent),
        code=state.code,
        rollup=state.rollup,
        closed=state.closed,
        floor=None if state.floor is None else Balance(state.floor),
        ceiling=None if state.ceiling is None else Balance(state.ceiling),
        version=state.version,
        created=Instant(state.timestamp),
        counters=counters(state),
    )


async def account_views(engine: Engine, found: Sequence[views.AccountView]) -> list[AccountView]:
    """Accounts that a query found, as they are in memory now."""
    states = await engine.read_accounts([account.id for account in found]) if found else []
    return [
        account_view(engine, state, account.key, account.parent)
        for account, state in zip(found, states, strict=True)
        if state is not None
    ]


def counters(given: AccountState | views.Balance) -> Counters:
    """The four counters."""
    return Counters(
        debits_pending=Amount(given.debits_pending),
        debits_posted=Amount(given.debits_posted),
        credits_pending=Amount(given.credits_pending),
        credits_posted=Amount(given.credits_posted),
    )


def balance_now(engine: Engine, state: AccountState) -> BalanceView:
    """What an account has now."""
    return _balance(engine, state, state, version=state.version)


def balance_recorded(engine: Engine, account: views.AccountView, then: views.Balance, at: int) -> BalanceView:
    """What an account had after everything recorded up to a time."""
    return _balance(engine, account, then, at=at)


def balance_in_business(
    engine: Engine,
    account: views.AccountView,
    then: views.BusinessBalance,
    business: int,
    at: int | None = None,
) -> BalanceView:
    """What an account's Entries sum to up to a business time, as far as they were recorded by `at`."""
    posted = then.credits_posted - then.debits_posted
    return BalanceView(
        account=UUID(int=account.id),
        asset=engine.asset_code(account.asset),
        posted=Balance(posted if credit_normal(account.code) else -posted),
        business=Instant(business),
        at=None if at is None else Instant(at),
    )


def _balance(
    engine: Engine,
    account: AccountState | views.AccountView,
    given: AccountState | views.Balance,
    version: int | None = None,
    at: int | None = None,
) -> BalanceView:
    """On the account's normal side."""
    dr = (given.debits_posted, given.debits_pending)
    cr = (given.credits_posted, given.credits_pending)
    (into, pending_in), (out, pending_out) = (cr, dr) if credit_normal(account.code) else (dr, cr)
    return BalanceView(
        account=UUID(int=account.id),
        asset=engine.asset_code(account.asset),
        posted=Balance(into - out),
        available=Balance(into - out - pending_out),
        pending_out=Amount(pending_out),
        pending_in=Amount(pending_in),
        version=version,
        at=None if at is None else Instant(at),
        counters=counters(given),
    )


def entry_view(engine: Engine, entry: views.EntryView) -> EntryView:
    """One line of an account."""
    return EntryView(
        side=Side(entry.side),
        amount=Amount(entry.amount),
        asset=engine.asset_code(entry.asset),
        timestamp=Instant(entry.timestamp),
        business_time=Instant(entry.business_time),
        leg=UUID(int=entry.leg),
        account=UUID(int=entry.account),
        key=entry.key,
        counter_account=UUID(int=entry.counterparty),
        counter_key=entry.counterparty_key,
        move=uuid_or_none(entry.move),
        seq=entry.seq if entry.move else None,
        code=entry.code,
    )


def history_line(line: views.HistoryView) -> HistoryLine:
    """The counters after one leg."""
    return HistoryLine(
        leg=UUID(int=line.leg), timestamp=Instant(line.timestamp), counters=counters(line.balance)
    )
