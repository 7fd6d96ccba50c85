"""Accounts: opened, limited, and asked what they hold, held and did."""

from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec
from litestar import get, patch, post
from litestar.openapi.spec import Example
from litestar.params import Body, QueryParameter

from actors.errors import InvalidRequest, NotFound
from actors.runtime import AccountDraft as OpenAccount
from actors.runtime import Engine
from engine.results import Result
from gateway.account_views import (
    account_view,
    balance_in_business,
    balance_now,
    balance_recorded,
    entry_view,
    history_line,
)
from gateway.cursors import seal, unseal
from gateway.hot_legs import batch_answer
from gateway.leg_columns import account_columns_of
from gateway.openapi import LSN, REPLAYED, answers
from gateway.problems import Problem, gateway_problem, refusal
from gateway.routes.parameters import (
    LIMIT_DEFAULT,
    Cursor,
    EngineOf,
    IdInPath,
    Limit,
    WaitLsn,
    asset_numbers,
    read_after,
    written,
)
from gateway.schemas import (
    LEGS_PER_REQUEST_MAX,
    AccountDraft,
    AccountPage,
    AccountsAnswer,
    AccountView,
    BalanceView,
    BareAccountDraft,
    EntryPage,
    GuardsPatch,
    HistoryPage,
)
from gateway.wire import Answer, Instant, JsonBody, OneOrMany
from persistence.views import TIME_MAX, AccountFilter

PATH: Final = "/v1/accounts"
ONE: Final = PATH + "/{account_id:str}"
PATCH_ATTEMPTS_MAX: Final = 5
"""How often a change of one limit is tried again because the account moved meanwhile."""

ID: Final = "3fa1c0de-5b1e-4d5e-9c3a-0f2d6a7b8c9d"
OTHER: Final = "77aa0000-1111-4222-8333-944455556666"
ALICE: Final = "019aa0c2-7c00-7000-8000-00000000a11c"
STAMP: Final = "2011-12-09T12:50:00.000000001Z"
DRAFT: Final = {"key": f"L:wallet/{ALICE}", "asset": "GBP", "floor": -50000}
COUNTERS: Final = {"debits_pending": 0, "debits_posted": 0, "credits_pending": 0, "credits_posted": 1250}
VIEW: Final = {
    "id": ID,
    "key": DRAFT["key"],
    "asset": "GBP",
    "party": ALICE,
    "parent": None,
    "code": 2000,
    "rollup": False,
    "closed": False,
    "floor": -50000,
    "ceiling": None,
    "version": 2,
    "created": STAMP,
    "counters": COUNTERS,
}
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
Start = Annotated[Instant | None, QueryParameter(description="The earliest recording time, inclusive.")]
End = Annotated[Instant | None, QueryParameter(description="The latest recording time, inclusive.")]
Code = Annotated[int, QueryParameter(ge=0, le=65535, description="Only legs with this code; 0 = any.")]
Order = Annotated[Literal["newest", "oldest"], QueryParameter(description="Which come first.")]


@post(
    PATH,
    dto=OneOrMany[AccountDraft | list[BareAccountDraft]],
    tags=["Accounts"],
    summary="Open an account, or many",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        AccountView | AccountsAnswer,
        VIEW,
        status=201,
        repeated=True,
        refusals=(
            "malformed_json",
            "malformed_arrow",
            "too_many_items",
            "exists_with_different_floor",
            "invalid_field",
            "unknown_field",
        ),
    ),
)
async def open_accounts(
    data: Annotated[AccountDraft | list[BareAccountDraft], Body(examples=[Example(value=DRAFT)])],
    engine: EngineOf,
) -> Answer[AccountView] | Answer[AccountsAnswer]:
    """An object opens the account of a key and an asset. Its id follows from them, so opening it again with
    the same content changes nothing; its owner follows from the key. Moves open the accounts that they need
    by themselves; open one to give it limits of its own, or to use it in bare legs.

    An array opens accounts under ids of yours, judged in order as one batch, for bare legs. Or send an Arrow
    stream (`application/vnd.apache.arrow.stream`) of up to 65,536 with columns named as the fields there, ids
    as 16 bytes; its answer is a stream of `timestamp` and `status`, and `?answers=refused` leaves out the
    rows that are in the ledger.
    """
    if isinstance(data, list):
        return await _open_many(data, engine)
    draft = OpenAccount(
        key=data.key,
        asset=data.asset,
        floor=None if data.floor is None else int(data.floor),
        ceiling=None if data.ceiling is None else int(data.ceiling),
        parent=data.parent.int if data.parent else 0,
        rollup=data.rollup,
    )
    [opened] = await engine.open_accounts([draft])
    result = Result(opened.status)
    if result not in {Result.CREATED, Result.EXISTS}:
        raise refusal(result.slug, f"The account {data.key} in {data.asset} was refused: {result.slug}.")
    state = await engine.account_of_id(opened.id).read()
    content = account_view(engine, state, data.key, draft.parent)
    return written(content, opened.lsn, created=True, replayed=result is Result.EXISTS)


async def _open_many(drafts: list[BareAccountDraft], engine: Engine) -> Answer[AccountsAnswer]:
    if not 1 <= len(drafts) <= LEGS_PER_REQUEST_MAX:
        raise gateway_problem(
            "too_many_items" if drafts else "invalid_field",
            f"The body holds {len(drafts)} accounts.",
            "body",
            f"1 to {LEGS_PER_REQUEST_MAX} accounts",
        )
    assets = asset_numbers(engine, [draft.asset for draft in drafts])
    outcome = await engine.create_accounts(account_columns_of(drafts, assets))
    statuses, timestamps = outcome.status.tolist(), outcome.timestamp.tolist()
    of_legs = batch_answer([draft.id for draft in drafts], statuses, timestamps, outcome.lsn, "account")
    content = AccountsAnswer(**msgspec.structs.asdict(of_legs))
    replayed = content.repeated == len(statuses)
    return written(content, outcome.lsn, created=content.created > 0, replayed=replayed)


@get(
    PATH,
    tags=["Accounts"],
    summary="Find accounts",
    responses=answers(
        AccountPage,
        {"items": [VIEW], "next": None},
        refusals=("invalid_parameter", "invalid_cursor", "not_found"),
    ),
)
async def find_accounts(
    engine: EngineOf,
    key: Annotated[
        str | None, QueryParameter(description="Exactly this key; with `asset` exactly one account.")
    ] = None,
    asset: Annotated[str | None, QueryParameter(description="Code of the asset; goes with `key`.")] = None,
    prefix: Annotated[
        str | None, QueryParameter(min_length=2, description="Keys that start with this.")
    ] = None,
    party: Annotated[UUID | None, QueryParameter(description="Accounts of this Party.")] = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    wait_lsn: WaitLsn = None,
) -> Answer[AccountPage]:
    """By `key` and `asset`, by `prefix` of the key, or by `party`: one of the three."""
    if [key is not None, prefix is not None, party is not None].count(True) != 1 or (key is None) != (
        asset is None
    ):
        raise gateway_problem(
            "invalid_parameter", "Say which accounts.", "key", "key and asset; or prefix; or party"
        )
    if key is not None and asset is not None:
        account = engine.account(key, asset)
        return Answer(AccountPage(items=[await _account(engine, account.id, wait_lsn)]))
    await read_after(engine, wait_lsn)
    if prefix is not None:
        page = await engine.queries.accounts_by_key(prefix, limit, unseal(f"{PATH}?prefix={prefix}", cursor))
        listing = f"{PATH}?prefix={prefix}"
    else:
        assert party is not None
        listing = f"{PATH}?party={party}"
        page = await engine.queries.accounts_of_party(party.int, limit, unseal(listing, cursor))
    states = await engine.read_accounts([item.id for item in page.items]) if page.items else []
    items = [
        account_view(engine, state, item.key, item.parent)
        for item, state in zip(page.items, states, strict=True)
        if state is not None
    ]
    return Answer(AccountPage(items=items, next=seal(listing, page.cursor)))


@get(
    ONE,
    tags=["Accounts"],
    summary="One account",
    responses=answers(AccountView, VIEW, refusals=("invalid_parameter", "not_found")),
)
async def read_account(
    account_id: IdInPath, engine: EngineOf, wait_lsn: WaitLsn = None
) -> Answer[AccountView]:
    """The account as it is now."""
    return Answer(await _account(engine, account_id.int, wait_lsn))


async def _account(engine: Engine, id: int, wait_lsn: int | None) -> AccountView:
    state = await engine.account_of_id(id).read()
    await read_after(engine, wait_lsn)
    found = await engine.queries.accounts([id])
    if not found:
        raise NotFound("account", str(UUID(int=id)))
    return account_view(engine, state, found[0].key, found[0].parent)


@patch(
    ONE,
    dto=JsonBody[GuardsPatch],
    tags=["Accounts"],
    summary="Change an account's limits",
    response_headers=[LSN],
    responses=answers(
        AccountView,
        VIEW,
        refusals=("malformed_json", "not_found", "account_version_differs", "unknown_field"),
    ),
)
async def change_guards(
    account_id: IdInPath,
    data: Annotated[GuardsPatch, Body(examples=[Example(value={"floor": -50000})])],
    engine: EngineOf,
) -> Answer[AccountView]:
    """A limit that is left out stays, null takes it away. A balance already beyond a new limit stays."""
    account = engine.account_of_id(account_id.int)
    for _ in range(PATCH_ATTEMPTS_MAX):
        now = await account.read()
        floor = now.floor if isinstance(data.floor, msgspec.UnsetType) else data.floor
        ceiling = now.ceiling if isinstance(data.ceiling, msgspec.UnsetType) else data.ceiling
        try:
            changed = await account.set_guards(floor, ceiling, data.if_version or now.version)
        except InvalidRequest as exc:
            if exc.where != "if_version":
                raise
            if data.if_version:
                raise Problem(
                    409, "account_version_differs", f"if_version: {exc.problem}.", "if_version"
                ) from exc
            continue
        view = await _account(engine, account_id.int, None)
        return written(view, changed.lsn, created=False)
    raise Problem(409, "account_version_differs", "The account kept changing; try again.")


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
    """Now, from memory, with everything that was answered before; or as of a time, from the query tables."""
    if at is not None and business is not None:
        raise gateway_problem("invalid_parameter", "Give at or business, not both.", "business")
    if at is None and business is None:
        return Answer(balance_now(engine, await engine.account_of_id(account_id.int).read()))
    await read_after(engine, wait_lsn)
    found = await engine.queries.accounts([account_id.int])
    if not found:
        raise NotFound("account", str(account_id))
    if at is not None:
        then = await engine.queries.balance_at(account_id.int, at)
        return Answer(balance_recorded(engine, found[0], then, at))
    assert business is not None
    sums = await engine.queries.balance_at_business_time(account_id.int, business)
    return Answer(balance_in_business(engine, found[0], sums, business))


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
    listing = f"{account_id}/entries/{order}"
    wanted = _filter(account_id, side, start, end, code, order, limit, unseal(listing, cursor))
    await _exists(engine, account_id, wait_lsn)
    page = await engine.queries.entries(wanted)
    items = [entry_view(engine, entry) for entry in page.items]
    return Answer(EntryPage(items=items, next=seal(listing, page.cursor)))


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
    listing = f"{account_id}/history/{order}"
    wanted = _filter(account_id, side, start, end, code, order, limit, unseal(listing, cursor))
    await _exists(engine, account_id, wait_lsn)
    page = await engine.queries.history(wanted)
    return Answer(
        HistoryPage(items=[history_line(line) for line in page.items], next=seal(listing, page.cursor))
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
) -> AccountFilter:
    if start is not None and end is not None and start > end:
        raise gateway_problem("invalid_parameter", "The range is empty: start is after end.", "start")
    return AccountFilter(
        account=account.int,
        debits=side != "credit",
        credits=side != "debit",
        timestamp_min=start or 0,
        timestamp_max=TIME_MAX if end is None else end,
        code=code,
        limit=limit,
        newest_first=order == "newest",
        cursor=cursor,
    )


async def _exists(engine: Engine, account: UUID, wait_lsn: int | None) -> None:
    """Raises NotFound if there is no such account; afterwards queries know it."""
    await engine.account_of_id(account.int).read()
    await read_after(engine, wait_lsn)


handlers: Final = (
    open_accounts,
    find_accounts,
    read_account,
    change_guards,
    read_balance,
    list_entries,
    list_history,
)
