"""Accounts: opened, found, limited, closed. What they hold, held and did: see `account_history`."""

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
from gateway.account_closing import close, reopen
from gateway.account_views import account_view, account_views
from gateway.cursors import seal, unseal
from gateway.hot_legs import batch_answer, listed
from gateway.idempotency import IdempotencyKey, claim_only, request_id
from gateway.leg_columns import account_columns_of
from gateway.move_commands import id_or_zero
from gateway.openapi import LSN, REPLAYED, answers
from gateway.preconditions import IfMatch, expecting, tag_of
from gateway.problems import Problem, gateway_problem, refusal
from gateway.reading_schemas import CloseDraft, FoundAccounts, IdsDraft, ReopenDraft
from gateway.routes.parameters import (
    LIMIT_DEFAULT,
    Answers,
    Cursor,
    EngineOf,
    IdInPath,
    Limit,
    WaitLsn,
    asset_numbers,
    new_id,
    read_after,
    written,
)
from gateway.routes.sense import (
    AssetFilter,
    account_exists,
    asset_number,
    class_code,
    listing,
    missing,
    parties_exist,
)
from gateway.schemas import (
    LEGS_PER_REQUEST_MAX,
    AccountDraft,
    AccountPage,
    AccountsAnswer,
    AccountView,
    BareAccountDraft,
    GuardsPatch,
)
from gateway.wire import Answer, JsonBody, OneOrMany
from persistence.views import AccountOrder, AccountsFilter

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
    which: Answers = "all",
    key: IdempotencyKey = None,
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
        return await _open_many(data, engine, key, which)
    await claim_only(engine, key, f"POST {PATH}", data)
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
    replayed = result is Result.EXISTS
    return written(content, opened.lsn, created=True, replayed=replayed, version=state.version)


async def _open_many(
    drafts: list[BareAccountDraft], engine: Engine, key: str | None, which: str
) -> Answer[AccountsAnswer]:
    if not 1 <= len(drafts) <= LEGS_PER_REQUEST_MAX:
        raise gateway_problem(
            "too_many_items" if drafts else "invalid_field",
            f"The body holds {len(drafts)} accounts.",
            "body",
            f"1 to {LEGS_PER_REQUEST_MAX} accounts",
        )
    assets = await asset_numbers(engine, [draft.asset for draft in drafts])
    await claim_only(engine, key, f"POST {PATH}", drafts)
    outcome = await engine.create_accounts(account_columns_of(drafts, assets))
    statuses, timestamps = outcome.status.tolist(), outcome.timestamp.tolist()
    of_legs = batch_answer([draft.id for draft in drafts], statuses, timestamps, outcome.lsn, "account")
    content = AccountsAnswer(**msgspec.structs.asdict(of_legs))
    replayed = content.repeated == len(statuses)
    return written(listed(content, which), outcome.lsn, created=content.created > 0, replayed=replayed)


@get(
    PATH,
    tags=["Accounts"],
    summary="Find accounts",
    responses=answers(
        AccountPage,
        {"items": [VIEW], "next": None},
        refusals=("invalid_parameter", "invalid_cursor", "not_found", "invalid_field", "projection_behind"),
    ),
)
async def find_accounts(
    engine: EngineOf,
    key: Annotated[
        str | None, QueryParameter(description="Exactly this key; with `asset` exactly one account.")
    ] = None,
    prefix: Annotated[
        str | None, QueryParameter(min_length=2, description="Keys that start with this.")
    ] = None,
    party: Annotated[UUID | None, QueryParameter(description="Accounts of this Party.")] = None,
    asset: AssetFilter = None,
    parent: Annotated[UUID | None, QueryParameter(description="Accounts right below this roll-up.")] = None,
    of_class: Annotated[
        Literal["A", "X", "L", "R", "E", "M", "I"] | None,
        QueryParameter(name="class", description="A letter of the chart of accounts."),
    ] = None,
    closed: Annotated[bool | None, QueryParameter(description="Whether they are closed.")] = None,
    rollup: Annotated[bool | None, QueryParameter(description="Whether they are roll-ups.")] = None,
    order: Annotated[
        Literal["key", "oldest", "newest"] | None,
        QueryParameter(
            description="By key (the default with `prefix`; only those that have one) or by creation."
        ),
    ] = None,
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    wait_lsn: WaitLsn = None,
) -> Answer[AccountPage]:
    """Every filter that is given must fit. Without any, all accounts in order of creation."""
    if key is not None and prefix is not None:
        raise gateway_problem("invalid_parameter", "Give key or prefix, not both.", "key")
    if key is not None and asset is not None and not any((party, parent, of_class)):
        await asset_number(engine, asset)
        account = engine.account(key, asset)
        return Answer(AccountPage(items=[await _account(engine, account.id, wait_lsn)]))
    by: AccountOrder = order or ("oldest" if prefix is None else "key")
    name = listing(
        PATH, key=key, prefix=prefix, party=party, asset=asset, parent=parent, of_class=of_class,
        closed=closed, rollup=rollup, order=by,
    )  # fmt: skip
    wanted = AccountsFilter(
        key=key or "",
        prefix=prefix or "",
        party=id_or_zero(party),
        asset=await asset_number(engine, asset),
        code=class_code(of_class),
        parent=id_or_zero(parent),
        closed=closed,
        rollup=rollup,
        order=by,
        limit=limit,
        cursor=unseal(name, cursor),
    )
    await read_after(engine, wait_lsn)
    page = await engine.queries.accounts_found(wanted)
    if not page.items:
        await parties_exist(engine, party=party)
        await account_exists(engine, "parent", parent)
    items = await account_views(engine, page.items)
    return Answer(AccountPage(items=items, next=seal(name, page.cursor)))


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
    account = await _account(engine, account_id.int, wait_lsn)
    return Answer(account, headers=tag_of(account.version))


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
    response_headers=[LSN, REPLAYED],
    responses=answers(
        AccountView,
        VIEW,
        refusals=(
            "malformed_json",
            "not_found",
            "account_version_differs",
            "invalid_field",
            "unknown_field",
        ),
        conditional=True,
    ),
)
async def change_guards(
    account_id: IdInPath,
    data: Annotated[GuardsPatch, Body(examples=[Example(value={"floor": -50000})])],
    engine: EngineOf,
    key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Answer[AccountView]:
    """A limit that is left out stays, null takes it away. A balance already beyond a new limit stays."""
    with expecting(if_match, data.if_version) as version:
        request = await request_id(
            engine, key, f"PATCH {PATH}/{account_id}", data, None, lambda: new_id(engine)
        )
        return await _change_guards(engine, account_id, data, version, request if key is not None else 0)


async def _change_guards(
    engine: Engine, account_id: UUID, data: GuardsPatch, if_version: int, request: int
) -> Answer[AccountView]:
    account = engine.account_of_id(account_id.int)
    for _ in range(PATCH_ATTEMPTS_MAX):
        now = await account.read()
        floor = now.floor if isinstance(data.floor, msgspec.UnsetType) else data.floor
        ceiling = now.ceiling if isinstance(data.ceiling, msgspec.UnsetType) else data.ceiling
        try:
            changed = await account.set_guards(floor, ceiling, if_version or now.version, request)
        except InvalidRequest as exc:
            if exc.where != "if_version":
                raise
            if if_version:
                raise Problem(
                    409, "account_version_differs", f"if_version: {exc.problem}.", "if_version"
                ) from exc
            continue
        names = await _account(engine, account_id.int, None)
        view = account_view(engine, changed, names.key, names.parent.int if names.parent else 0)
        return written(view, changed.lsn, created=False, replayed=changed.replayed, version=changed.version)
    raise Problem(409, "account_version_differs", "The account kept changing; try again.")


@post(
    ONE + "/close",
    dto=JsonBody[CloseDraft],
    status_code=200,
    tags=["Accounts"],
    summary="Close an account",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        AccountView,
        {**VIEW, "closed": True},
        refusals=(
            "malformed_json",
            "not_found",
            "account_not_empty",
            "account_version_differs",
            "debit_account_is_rollup",
            "invalid_field",
            "unknown_field",
        ),
        conditional=True,
    ),
)
async def close_account(
    account_id: IdInPath,
    data: Annotated[CloseDraft, Body(examples=[Example(value={})])],
    engine: EngineOf,
    key: IdempotencyKey = None,
    if_match: IfMatch = None,
) -> Answer[AccountView]:
    """A closed account refuses everything but the release of what it holds. One that is closed already stays
    so, and the answer says `Idempotent-Replayed: true`."""
    with expecting(if_match, data.if_version) as version:
        await claim_only(engine, key, f"POST {PATH}/{account_id}/close", data)
        done = await close(engine, account_id.int, version, even_with_balance=data.even_with_balance)
    view = await _account(engine, account_id.int, None)
    return written(view, done.lsn, created=False, replayed=not done.changed, version=view.version)


@post(
    ONE + "/reopen",
    dto=JsonBody[ReopenDraft],
    status_code=200,
    tags=["Accounts"],
    summary="Reopen an account",
    response_headers=[LSN, REPLAYED],
    responses=answers(
        AccountView,
        VIEW,
        refusals=("malformed_json", "not_found", "account_closed_for_good", "invalid_field", "unknown_field"),
    ),
)
async def reopen_account(
    account_id: IdInPath,
    data: Annotated[ReopenDraft, Body(examples=[Example(value={})])],
    engine: EngineOf,
    key: IdempotencyKey = None,
) -> Answer[AccountView]:
    """Releases what keeps it closed. An account that was created closed stays closed."""
    await claim_only(engine, key, f"POST {PATH}/{account_id}/reopen", data)
    done = await reopen(engine, account_id.int)
    view = await _account(engine, account_id.int, None)
    return written(view, done.lsn, created=False, replayed=not done.changed, version=view.version)


@post(
    PATH + "/lookup",
    dto=JsonBody[IdsDraft],
    status_code=200,
    tags=["Accounts"],
    summary="Many accounts by id",
    responses=answers(
        FoundAccounts,
        {"items": [VIEW], "missing": []},
        refusals=("malformed_json", "invalid_field", "missing_field", "unknown_field"),
    ),
)
async def look_up_accounts(
    data: Annotated[IdsDraft, Body(examples=[Example(value={"ids": [ID]})])],
    engine: EngineOf,
    wait_lsn: WaitLsn = None,
) -> Answer[FoundAccounts]:
    """Up to 1,000 at once, as they are now, in the order of the ids; those that nothing has are named."""
    await read_after(engine, wait_lsn)
    items = await account_views(engine, await engine.queries.accounts([id.int for id in data.ids]))
    return Answer(FoundAccounts(items=items, missing=missing(data.ids, [item.id for item in items])))


handlers: Final = (
    open_accounts,
    find_accounts,
    read_account,
    change_guards,
    close_account,
    reopen_account,
    look_up_accounts,
)
