"""What accounts hold, held and did: balances, Entries, and their counters after each leg."""

from typing import Annotated, Final, Literal
from uuid import UUID

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body, QueryParameter

from actors.errors import NotFound
from actors.runtime import Engine
from gateway.account_views import (
    balance_in_business,
    balance_now,
    balance_recorded,
    entry_view,
    history_line,
)
from gateway.cursors import seal, unseal
from gateway.openapi import answers
from gateway.reading_schemas import BalancesDraft, FoundBalances
from gateway.routes.accounts import COUNTERS, DRAFT, ID, ONE, OTHER, PATH, STAMP
from gateway.routes.parameters import (
    LIMIT_DEFAULT,
    Cursor,
    EngineOf,
    IdInPath,
    Limit,
    WaitLsn,
    read_after,
)
from gateway.routes.sense import End, Order, Start, listing, missing, time_range
from gateway.schemas import BalanceView, EntryPage, HistoryPage
from gateway.wire import Answer, Instant, JsonBody
from persistence import views

BALANCE: Final = {
    "account": ID,
    "asset": "GBP",
    "posted": 1250,
    "available": 1250,
    "pending_out": 0,
    "pending_in": 0,
    "version": 2,
    "at": None,
    "business": None,
    "counters": COUNTERS,
}
ENTRY: Final = {
    "side": "credit",
    "amount": 1250,
    "asset": "GBP",
    "timestamp": STAMP,
    "business_time": STAMP,
    "leg": "019aa0c2-7c00-7000-8000-0000000001e6",
    "account": ID,
    "key": DRAFT["key"],
    "counter_account": OTHER,
    "counter_key": "A:bank",
    "move": "019aa0c2-7c00-7000-8000-000000000536",
    "seq": 0,
    "code": 1,
}
HISTORY: Final = {"leg": ENTRY["leg"], "timestamp": STAMP, "counters": COUNTERS}

Side = Annotated[
    Literal["debit", "credit"] | None,
    QueryParameter(description="Only debits or only credits of the account."),
]
Code = Annotated[int, QueryParameter(ge=0, le=65535, description="Only legs with this code; 0 = any.")]


@get(
    ONE + "/balance",
    tags=["Accounts"],
    summary="What an account has",
    responses=answers(BalanceView, BALANCE, refusals=("invalid_parameter", "not_found", "projection_behind")),
)
async def read_balance(
    account_id: IdInPath,
    engine: EngineOf,
    at: Annotated[
        Instant | None,
        QueryParameter(description="As of this recording time: after everything recorded by then."),
    ] = None,
    business: Annotated[
        Instant | None, QueryParameter(description="As of this business time, whenever it was recorded.")
    ] = None,
    wait_lsn: WaitLsn = None,
) -> Answer[BalanceView]:
    """Now, from memory, with everything that was answered before; or as of a time, from the query tables.

    With both times: what a statement for the one would have said at the other.
    """
    if at is None and business is None:
        return Answer(balance_now(engine, await engine.account_of_id(account_id.int).read()))
    await read_after(engine, wait_lsn)
    found = await engine.queries.accounts([account_id.int])
    if not found:
        raise NotFound("account", str(account_id))
    return Answer(await _balance_then(engine, found[0], at, business))


async def _balance_then(
    engine: Engine, account: views.AccountView, at: int | None, business: int | None
) -> BalanceView:
    """What an account had as of a recording time, a business time, or both."""
    if business is not None:
        recorded = views.TIME_MAX if at is None else at
        sums = await engine.queries.balance_at_business_time(account.id, business, recorded)
        return balance_in_business(engine, account, sums, business, at)
    assert at is not None
    then = await engine.queries.balance_at(account.id, at)
    return balance_recorded(engine, account, then, at)


@post(
    PATH + "/balances",
    dto=JsonBody[BalancesDraft],
    status_code=200,
    tags=["Accounts"],
    summary="What many accounts have",
    responses=answers(
        FoundBalances,
        {"items": [BALANCE], "missing": []},
        refusals=("malformed_json", "invalid_field", "missing_field", "unknown_field", "projection_behind"),
    ),
)
async def read_balances(
    data: Annotated[BalancesDraft, Body(examples=[Example(value={"ids": [ID]})])],
    engine: EngineOf,
    wait_lsn: WaitLsn = None,
) -> Answer[FoundBalances]:
    """Up to 1,000 at once, in the order of the ids: now, all as of one moment, or as of a time."""
    if data.at is None and data.business is None:
        wanted = list(dict.fromkeys(data.ids))
        states = await engine.read_accounts([id.int for id in wanted])
        items = [balance_now(engine, state) for state in states if state is not None]
    else:
        await read_after(engine, wait_lsn)
        found = await engine.queries.accounts([id.int for id in data.ids])
        items = [await _balance_then(engine, account, data.at, data.business) for account in found]
    return Answer(FoundBalances(items=items, missing=missing(data.ids, [item.account for item in items])))


@get(
    ONE + "/entries",
    tags=["Accounts"],
    summary="An account's Entries",
    responses=answers(
        EntryPage,
        {"items": [ENTRY], "next": None},
        refusals=("invalid_parameter", "invalid_cursor", "not_found"),
    ),
)
async def list_entries(
    account_id: IdInPath,
    engine: EngineOf,
    side: Side = None,
    start: Start = None,
    end: End = None,
    code: Code = 0,
    order: Order = "newest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    wait_lsn: WaitLsn = None,
) -> Answer[EntryPage]:
    """Every leg that changed its posted balance; of a roll-up, those that crossed its border."""
    name = listing(f"{account_id}/entries", side=side, start=start, end=end, code=code, order=order)
    wanted = _filter(account_id, side, start, end, code, order, limit, unseal(name, cursor))
    await _exists(engine, account_id, wait_lsn)
    page = await engine.queries.entries(wanted)
    items = [entry_view(engine, entry) for entry in page.items]
    return Answer(EntryPage(items=items, next=seal(name, page.cursor)))


@get(
    ONE + "/history",
    tags=["Accounts"],
    summary="An account's counters after each leg",
    responses=answers(
        HistoryPage,
        {"items": [HISTORY], "next": None},
        refusals=("invalid_parameter", "invalid_cursor", "not_found"),
    ),
)
async def list_history(
    account_id: IdInPath,
    engine: EngineOf,
    side: Side = None,
    start: Start = None,
    end: End = None,
    code: Code = 0,
    order: Order = "newest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    wait_lsn: WaitLsn = None,
) -> Answer[HistoryPage]:
    """Pending, posting and voiding legs too. A hold that expires adds no line, but counts in later ones."""
    name = listing(f"{account_id}/history", side=side, start=start, end=end, code=code, order=order)
    wanted = _filter(account_id, side, start, end, code, order, limit, unseal(name, cursor))
    await _exists(engine, account_id, wait_lsn)
    page = await engine.queries.history(wanted)
    return Answer(
        HistoryPage(items=[history_line(line) for line in page.items], next=seal(name, page.cursor))
    )


def _filter(
    account: UUID,
    side: str | None,
    start: int | None,
    end: int | None,
    code: int,
    order: str,
    limit: int,
    cursor: str | None,
) -> views.AccountFilter:
    timestamp_min, timestamp_max = time_range(start, end)
    return views.AccountFilter(
        account=account.int,
        debits=side != "credit",
        credits=side != "debit",
        timestamp_min=timestamp_min,
        timestamp_max=timestamp_max,
        code=code,
        limit=limit,
        newest_first=order == "newest",
        cursor=cursor,
    )


async def _exists(engine: Engine, account: UUID, wait_lsn: int | None) -> None:
    """Raises NotFound if there is no such account; afterwards queries know it."""
    await engine.account_of_id(account.int).read()
    await read_after(engine, wait_lsn)


handlers: Final = (read_balance, read_balances, list_entries, list_history)
