"""Handles: how callers hold on to account and party actors.

The actors are virtual. A handle is an id and an engine; the state behind it is a row in a shard's arrays, so
there are as many actors as there are accounts and parties, and an idle one costs no object at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from actors.answers import AccountState
from actors.errors import InvalidRequest, NotFound
from engine import ids
from engine.chart import credit_normal
from engine.commands import CreateParty, DirectoryAnswer, MoveAnswer, MoveCommand, UpdateParty
from persistence.views import AccountFilter, EntryView, HistoryView, Page, PartyView
from persistence.views import Balance as Counters

if TYPE_CHECKING:
    from actors.runtime import Engine


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What an account has, on its normal side (debits for assets, expenses, memos and units; else credits).

    `posted` is what was moved, `available` is that less what is held on the way out; money that is only held
    on its way in never counts.
    """

    account: int
    posted: int
    available: int
    held_out: int
    held_in: int
    version: int
    lsn: int


class AccountHandle:
    """One account."""

    __slots__ = ("_engine", "id", "key")

    def __init__(self, engine: Engine, id: int, key: str) -> None:
        self._engine = engine
        self.id = id
        self.key = key

    async def read(self) -> AccountState:
        """The account as it is now. Raises NotFound if nothing ever touched it."""
        (found,) = await self._engine.read_accounts([self.id])
        if found is None:
            raise NotFound("account", self.key or ids.format_id(self.id))
        return found

    async def balance(self, consistency: Literal["linearizable", "stale"] = "linearizable") -> Balance:
        """What the account has now; durable, and ours to say. Raises NotFound.

        With `stale`, what SQL shows: it may be late, it has no version, and it is there while nothing can be
        written.
        """
        if consistency == "linearizable":
            return balance_of(await self.read())
        lsn = self._engine.health().projected_lsn
        found = await self._engine.queries.accounts([self.id])
        if not found:
            raise NotFound("account", self.key or ids.format_id(self.id))
        return _on_normal_side(self.id, found[0].code, found[0].balance, version=0, lsn=lsn)

    async def set_guards(
        self, floor: int | None, ceiling: int | None, if_version: int = 0, request: int = 0
    ) -> AccountState:
        """New guards, in the kernel's terms (credits minus debits); None = none. Raises NotFound."""
        return await self._engine.set_guards(self.id, floor, ceiling, if_version, request)

    async def entries(self, **wanted: Any) -> Page[EntryView]:
        """A page of the account's Entries, once SQL shows everything that was answered before; `wanted` are
        fields of `AccountFilter`. Raises FilterRefused."""
        await self._engine.wait_projected()
        return await self._engine.queries.entries(AccountFilter(account=self.id, **wanted))

    async def history(self, **wanted: Any) -> Page[HistoryView]:
        """A page of the account's counters after each leg, like `entries`."""
        await self._engine.wait_projected()
        return await self._engine.queries.history(AccountFilter(account=self.id, **wanted))


class PartyHandle:
    """One Party."""

    __slots__ = ("_engine", "id")

    def __init__(self, engine: Engine, id: int) -> None:
        self._engine = engine
        self.id = id

    async def create(self, kind: str = "person", name: str = "", **profile: Any) -> DirectoryAnswer:
        """Register the Party; repeating it does no harm."""
        command = CreateParty(id=self.id, kind=kind, name=name, profile=profile)
        return (await self._engine.create_parties([command]))[0]

    async def update(self, name: str, if_version: int = 0, **profile: Any) -> DirectoryAnswer:
        """Give the Party this name and profile."""
        command = UpdateParty(id=self.id, name=name, profile=profile, if_version=if_version)
        return (await self._engine.create_parties([command]))[0]

    async def read(self) -> PartyView:
        """The Party, once SQL shows everything that was answered before. Raises NotFound."""
        await self._engine.wait_projected()
        found = await self._engine.queries.parties([self.id])
        if not found:
            raise NotFound("party", ids.format_id(self.id))
        return found[0]

    async def move(self, kind: str, id: int, **inputs: Any) -> MoveAnswer:
        """Create a Move of this kind that the Party pays for. `id` is a UUIDv7: the same one again is the
        same Move, and has one effect."""
        if "payer" in inputs:
            raise InvalidRequest("payer", "the Party itself is the payer", "leave it out")
        return (await self._engine.submit([MoveCommand(id=id, kind=kind, payer=self.id, **inputs)]))[0]


def balance_of(account: AccountState) -> Balance:
    """An account's balance on its normal side."""
    return _on_normal_side(account.id, account.code, account, account.version, account.lsn)


def _on_normal_side(id: int, code: int, counters: AccountState | Counters, version: int, lsn: int) -> Balance:
    into, out = ("credits", "debits") if credit_normal(code) else ("debits", "credits")
    posted = getattr(counters, f"{into}_posted") - getattr(counters, f"{out}_posted")
    held_out = getattr(counters, f"{out}_pending")
    return Balance(
        account=id,
        posted=posted,
        available=posted - held_out,
        held_out=held_out,
        held_in=getattr(counters, f"{into}_pending"),
        version=version,
        lsn=lsn,
    )
