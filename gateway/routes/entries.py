"""Entries of all accounts, as the ledger recorded them."""

from typing import Annotated, Final
from uuid import UUID

from litestar import get
from litestar.params import QueryParameter

from gateway.account_views import entry_view
from gateway.cursors import seal, unseal
from gateway.move_commands import id_or_zero
from gateway.openapi import answers
from gateway.routes.account_history import ENTRY
from gateway.routes.parameters import LIMIT_DEFAULT, Cursor, EngineOf, Limit, WaitLsn, read_after
from gateway.routes.sense import (
    AssetFilter,
    End,
    Order,
    Start,
    asset_number,
    kind_and_state,
    listing,
    parties_exist,
    time_range,
)
from gateway.schemas import EntryPage
from gateway.wire import Answer
from persistence.views import EntryFilter

PATH: Final = "/v1/entries"


@get(
    PATH,
    tags=["Entries"],
    summary="Find Entries",
    responses=answers(
        EntryPage,
        {"items": [ENTRY], "next": None},
        refusals=("invalid_parameter", "invalid_cursor", "projection_behind"),
    ),
)
async def list_all_entries(
    engine: EngineOf,
    party: Annotated[UUID | None, QueryParameter(description="On accounts of this Party.")] = None,
    asset: AssetFilter = None,
    kind: Annotated[str | None, QueryParameter(description="Written by Moves of this kind.")] = None,
    start: Start = None,
    end: End = None,
    order: Order = "newest",
    limit: Limit = LIMIT_DEFAULT,
    cursor: Cursor = None,
    wait_lsn: WaitLsn = None,
) -> Answer[EntryPage]:
    """Every line that was posted, in order of recording: the journal of the whole ledger. For those of one
    account or Move, ask that."""
    kind_and_state(engine, kind, None)
    timestamp_min, timestamp_max = time_range(start, end)
    name = listing(PATH, party=party, asset=asset, kind=kind, start=start, end=end, order=order)
    wanted = EntryFilter(
        party=id_or_zero(party),
        asset=await asset_number(engine, asset),
        code=engine.kinds[kind].kind.code if kind is not None else 0,
        of_moves=kind is not None,
        timestamp_min=timestamp_min,
        timestamp_max=timestamp_max,
        limit=limit,
        newest_first=order == "newest",
        cursor=unseal(name, cursor),
    )
    await read_after(engine, wait_lsn)
    page = await engine.queries.entries_found(wanted)
    if not page.items:
        await parties_exist(engine, party=party)
    items = [entry_view(engine, entry) for entry in page.items]
    return Answer(EntryPage(items=items, next=seal(name, page.cursor)))


handlers: Final = (list_all_entries,)
