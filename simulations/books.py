"""What the engine's own books say about a dataset: SQL over the projection, never the reader's arithmetic."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from actors.settings import Settings
from persistence.database import Database, translated
from persistence.statements import statements

APPLICATION: Final = "tessera books"


class Books(msgspec.Struct, frozen=True):
    """A dataset in the books. Money is revenue less expense, in mills; a customer "" is the guests."""

    moves: int
    entries: int
    net_mills: int
    cancelled_mills: int
    unmatched_units: int  # given back, and nobody known had them
    unmatched_mills: int  # paid back, and nobody known had paid them
    by_month: dict[str, int]
    by_country: dict[str, int]
    by_customer: dict[str, int]
    undrained: dict[str, int]  # accounts of orders and refunds that should be empty and are not


@asynccontextmanager
async def database_running(settings: Settings) -> AsyncIterator[Database]:
    """The database of an engine with these settings; it runs at least as long as the block."""
    database = Database(settings.database)
    await asyncio.to_thread(database.start)
    try:
        yield database
    finally:
        await asyncio.to_thread(database.stop)


async def read_books(database: Database, dataset: str, currency: str) -> Books:
    """The books of a dataset as the projection has them. Raises PersistenceError."""
    sql = statements("books", "simulations")
    async with database.session(APPLICATION) as session:

        async def rows(name: str) -> list[tuple[Any, ...]]:
            with translated():
                cursor = await session.execute(sql[name], {"dataset": dataset, "currency": currency})
                return await cursor.fetchall()

        totals: dict[str, dict[str, int]] = {}
        for grouping, value, amount in await rows("totals"):
            totals.setdefault(grouping, {})[value] = amount or 0
        ((moves, entries, unmatched_units, unmatched_mills),) = await rows("size")
        undrained = dict(await rows("remaining"))
    return Books(
        moves=moves,
        entries=entries,
        net_mills=totals.get("", {}).get("", 0),
        cancelled_mills=totals.get("cancelled", {}).get("true", 0),
        unmatched_units=unmatched_units,
        unmatched_mills=unmatched_mills,
        by_month=totals.get("month", {}),
        by_country=totals.get("country", {}),
        by_customer=totals.get("customer", {}),
        undrained=undrained,
    )
