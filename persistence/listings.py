"""Pages of what there is: accounts, Entries, Moves, Parties, Things, by filter and in an order.

What makes no sense is refused as in `persistence.queries`. Pages are cut by values that never change (keys,
ids, times of creation), so they stay where they are while more comes.
"""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from engine.ids import format_id, parse_id
from persistence.filters import check_limit, check_range, parse_cursor, parse_time
from persistence.session_pool import SessionPool
from persistence.statements import statements
from persistence.view_rows import (
    account_view,
    any_entry_view,
    move_view,
    party_view,
    thing_view,
    uuid_or_none,
)
from persistence.views import (
    TIME_MAX,
    AccountsFilter,
    AccountView,
    EntryFilter,
    EntryView,
    MoveFilter,
    MoveView,
    Page,
    PartyView,
    ThingView,
)

ID_MAX: Final = 2**128 - 1
_SHARD_MAX: Final = 2**15 - 1

_SQL: Final = statements("listings")


class Listings:
    """Pages over the projection."""

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool

    async def accounts_found(self, wanted: AccountsFilter) -> Page[AccountView]:
        """Accounts that a filter lets through."""
        check_limit(wanted.limit)
        parameters: dict[str, Any] = {
            "from": wanted.key or wanted.prefix or None,
            "to": wanted.key + "\x01" if wanted.key else wanted.prefix + chr(0x10FFFF),
            "party": uuid_or_none(wanted.party),
            "asset": wanted.asset or None,
            "code": wanted.code or None,
            "parent": uuid_or_none(wanted.parent),
            "closed": wanted.closed,
            "rollup": wanted.rollup,
            "limit": wanted.limit + 1,
        }
        if wanted.order == "key":
            key, asset, id = parse_cursor(wanted.cursor, (str, int, parse_id), ("", 0, 0))
            parameters |= {"after_key": key, "after_asset": asset, "after_id": UUID(int=id)}
            statement = _SQL["accounts_by_key"]
        else:
            newest = wanted.order == "newest"
            start = (TIME_MAX, ID_MAX) if newest else (0, 0)
            created, id = parse_cursor(wanted.cursor, (parse_time, parse_id), start)
            parameters |= {"after_created": created, "after_id": UUID(int=id)}
            statement = _SQL["newest_accounts" if newest else "oldest_accounts"]
        accounts = [account_view(row) for row in await self._pool.fetch(statement, parameters)]
        if wanted.order == "key":
            return page(accounts, wanted.limit, lambda last: f"{last.key}|{last.asset}|{format_id(last.id)}")
        return page(accounts, wanted.limit, lambda last: f"{last.created}|{format_id(last.id)}")

    async def entries_found(self, wanted: EntryFilter) -> Page[EntryView]:
        """Entries of all accounts that a filter lets through, in order of recording."""
        check_limit(wanted.limit)
        check_range(wanted.timestamp_min, wanted.timestamp_max)
        start = (TIME_MAX, _SHARD_MAX, 2) if wanted.newest_first else (0, -1, -1)
        timestamp, shard, place = parse_cursor(wanted.cursor, (parse_time, _parse_shard, _parse_place), start)
        parameters = {
            "from": wanted.timestamp_min,
            "to": wanted.timestamp_max,
            "after_timestamp": timestamp,
            "after_shard": shard,
            "after_place": place,
            "party": uuid_or_none(wanted.party),
            "asset": wanted.asset or None,
            "code": wanted.code or None,
            "of_moves": wanted.of_moves,
            "limit": wanted.limit + 1,
        }
        statement = _SQL["newest_entries" if wanted.newest_first else "oldest_entries"]
        rows = await self._pool.fetch(statement, parameters)
        cut = page(rows, wanted.limit, lambda last: f"{last[1]}|{last[2]}|{last[3]}")
        return Page([any_entry_view(row) for row in cut.items], cut.cursor)

    async def moves(self, wanted: MoveFilter) -> Page[MoveView]:
        """Moves that a filter lets through, in order of creation."""
        check_limit(wanted.limit)
        check_range(wanted.timestamp_min, wanted.timestamp_max)
        check_range(wanted.business_min, wanted.business_max, "business_min", "business_max")
        start = (TIME_MAX, ID_MAX) if wanted.newest_first else (0, 0)
        timestamp, id = parse_cursor(wanted.cursor, (parse_time, parse_id), start)
        parameters = {
            "from": wanted.timestamp_min,
            "to": wanted.timestamp_max,
            "business_from": wanted.business_min,
            "business_to": wanted.business_max,
            "after_timestamp": timestamp,
            "after_id": UUID(int=id),
            "party": uuid_or_none(wanted.party),
            "payer": uuid_or_none(wanted.payer),
            "payee": uuid_or_none(wanted.payee),
            "reverses": uuid_or_none(wanted.reverses),
            "kind": wanted.kind or None,
            "asset": wanted.asset or None,
            "reference": wanted.reference,
            "state": wanted.state or None,
            "ended": wanted.ended,
            "limit": wanted.limit + 1,
        }
        statement = _SQL["newest_moves" if wanted.newest_first else "oldest_moves"]
        moves = [move_view(row) for row in await self._pool.fetch(statement, parameters)]
        return page(moves, wanted.limit, lambda last: f"{last.created}|{format_id(last.id)}")

    async def all_parties(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        kind: str = "",
        name: str | None = None,
        related: str | None = None,
        trust_min: int | None = None,
        newest_first: bool = False,
    ) -> Page[PartyView]:
        """Parties in order of id, of one kind or name if these are given. `related` is JSON that their
        relations have to hold."""
        check_limit(limit)
        (after,) = parse_cursor(cursor, (parse_id,), (ID_MAX if newest_first else 0,))
        parameters = {
            **{"after": UUID(int=after), "kind": kind or None, "name": name, "limit": limit + 1},
            **{"related": related, "trust_min": trust_min},
        }
        statement = _SQL["newest_parties" if newest_first else "oldest_parties"]
        parties = [party_view(row) for row in await self._pool.fetch(statement, parameters)]
        return page(parties, limit, lambda last: format_id(last.id))

    async def all_things(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        kind: str = "",
        prefix: str = "",
        variant_of: str | None = None,
        part: str | None = None,
        newest_first: bool = False,
    ) -> Page[ThingView]:
        """Things in order of their asset number, of one kind or with codes that start so if that is given.
        `part` is JSON that their bundles have to hold."""
        check_limit(limit)
        (after,) = parse_cursor(cursor, (_parse_asset,), (TIME_MAX if newest_first else 0,))
        parameters = {
            **{"after": after, "kind": kind or None, "prefix": prefix or None, "limit": limit + 1},
            **{"variant_of": variant_of, "part": part},
        }
        statement = _SQL["newest_things" if newest_first else "oldest_things"]
        things = [thing_view(row) for row in await self._pool.fetch(statement, parameters)]
        return page(things, limit, lambda last: str(last.asset))


def page(items: list[Any], limit: int, cursor_of: Callable[[Any], str]) -> Page[Any]:
    """The first `limit` of the items, and the cursor of the last one if there are more."""
    if len(items) <= limit:
        return Page(items)
    return Page(items[:limit], cursor_of(items[limit - 1]))


def _parse_shard(text: str) -> int:
    return _bounded(text, _SHARD_MAX)


def _parse_place(text: str) -> int:
    return _bounded(text, 1)


def _parse_asset(text: str) -> int:
    return _bounded(text, TIME_MAX)


def _bounded(text: str, most: int) -> int:
    number = int(text)
    if not 0 <= number <= most:
        raise ValueError(text)
    return number
