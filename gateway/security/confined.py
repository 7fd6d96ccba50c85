"""An engine that gives a caller only what is theirs.

Routes get one of these in place of the engine when more has to be looked at than the route: `OfSomeMoves` for
whoever may write some Moves only, `OfOneParty` for whoever is bound to a Party. The second lets through what
is named here and nothing else, so a route that asks for something new is refused until somebody has thought
about it. What belongs to others is not there: it is answered as what does not exist.

That a Move takes from the Party's accounts only is for the engine to judge (`engine.confinement`), in the
same turn that writes it.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
import numpy.typing as npt

from actors.answers import AccountState, Claimed
from actors.errors import NotFound
from actors.handles import AccountHandle
from actors.runtime import Engine
from engine.commands import MoveAnswer, MoveCommand, MovePreview, Refusal
from engine.ids import format_id
from engine.layout import ids_list
from engine.open_holds import HoldFilter, HoldPage
from gateway.descriptions import without_trust
from gateway.problems import Problem, gateway_problem, refusal
from gateway.security.principals import Principal
from persistence.queries import Queries
from persistence.views import (
    TIME_MAX,
    AccountFilter,
    AccountsFilter,
    EntryFilter,
    MoveFilter,
    MoveView,
)

RESOURCES_OF_PARTIES: Final = frozenset(
    {"accounts", "entries", "events", "holds", "kinds", "legs", "moves", "parties", "things"}
)
"""Whatever else there is is the tenant's own business."""
_HARMLESS: Final = frozenset(
    {"asset_code", "asset_number", "kinds", "know_assets", "log_ends", "settings", "wait_projected"}
)
"""What an engine may be asked that is about nobody's data."""


def forbidden(detail: str, where: str = "", accepted: str = "") -> Problem:
    """The caller may not do that."""
    return gateway_problem("forbidden", detail, where, accepted)


def confined(engine: Engine, principal: Principal) -> Any:
    """The engine as a principal may use it."""
    if principal.party:
        return OfOneParty(engine, principal)
    return OfSomeMoves(engine, principal) if principal.is_confined else engine


class OfSomeMoves:
    """An engine for somebody who may write Moves of some kinds, by some transitions."""

    def __init__(self, engine: Engine, principal: Principal) -> None:
        self._engine = engine
        self._principal = principal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def submit(self, commands: Sequence[MoveCommand]) -> list[MoveAnswer]:
        """Carry out commands if all of them are allowed. Raises Problem."""
        return await self._engine.submit([await self._allowed(command) for command in commands])

    async def preview(self, command: MoveCommand) -> MovePreview:
        """Try a command that is allowed. Raises Problem."""
        return await self._engine.preview(await self._allowed(command))

    async def _allowed(self, command: MoveCommand) -> MoveCommand:
        kind, transitions = command.kind, command.transition
        if command.move:
            kind = (await self._move(command.move)).kind
        elif not transitions and kind in self._engine.kinds:
            transitions = self._engine.kinds[kind].kind.usual
        if not self._principal.scopes.allow_move(kind, transitions):
            raise forbidden(f"This needs the scope moves:write:{kind}, or one for each of its transitions.")
        party = self._principal.party
        return msgspec.structs.replace(command, bound_to=party) if party else command

    async def _move(self, id: int) -> MoveView:
        """A Move. Raises Problem if there is none that the caller pays for."""
        await self._engine.wait_projected()
        found = await self._engine.queries.moves_by_id([id])
        if not found or self._principal.party not in {0, found[0].payer}:
            raise refusal(Refusal.MOVE_NOT_FOUND, f"move: there is no Move {format_id(id)}")
        return found[0]


class OfOneParty(OfSomeMoves):
    """An engine for somebody who is bound to a Party."""

    def __init__(self, engine: Engine, principal: Principal) -> None:
        super().__init__(engine, principal)
        self.queries = QueriesOfOneParty(engine, principal.party)

    def __getattr__(self, name: str) -> Any:
        if name not in _HARMLESS:
            raise forbidden("A key or token that is bound to a Party may not do that.")
        return getattr(self._engine, name)

    def account(self, key: str, asset: str) -> AccountHandle:
        """The account with this key and asset code, which may be somebody else's until it is read."""
        return AccountHandle(self, self._engine.account_id(key, asset), key)  # type: ignore[arg-type]  # in its place

    def account_of_id(self, id: int) -> AccountHandle:
        """The account with this id, which may be somebody else's until it is read."""
        return AccountHandle(self, id, "")  # type: ignore[arg-type]  # in its place

    async def read_accounts(self, ids: Sequence[int]) -> list[AccountState | None]:
        """Accounts as they are now, None where there is none of the Party's."""
        found = await self._engine.read_accounts(ids)
        party = self._principal.party
        return [state if state is not None and state.party == party else None for state in found]

    async def find_holds(self, wanted: HoldFilter) -> HoldPage:
        """Holds on an account, or of a Move, of the Party; or by id. Raises Problem."""
        if wanted.ids:
            page = await self._engine.find_holds(wanted)
            accounts = [account for hold in page.items for account in (hold.debit, hold.credit)]
            own = await self.queries.own_accounts(accounts)
            items = [hold for hold in page.items if hold.debit in own or hold.credit in own]
            return msgspec.structs.replace(page, items=items)
        if wanted.account:
            await self.queries.check_account(wanted.account)
        elif wanted.move:
            await self.queries.check_move(wanted.move)
        else:
            raise forbidden("Say of which account or Move.", "account", "account or move")
        return await self._engine.find_holds(wanted)

    async def claim(self, key: str, digest: bytes, request: int) -> Claimed:
        """Claim a key; those of the Party are no other's."""
        return await self._engine.claim(f"{format_id(self._principal.party)} {key}", digest, request)

    async def next_steps(self, move: int, request: int) -> Any:
        """Where a Move of the Party can go. Raises Problem."""
        await self.queries.check_move(move)
        return await self._engine.next_steps(move, request)


class QueriesOfOneParty:
    """Queries, for somebody who is bound to a Party."""

    def __init__(self, engine: Engine, party: int) -> None:
        self._engine = engine
        self._queries: Queries = engine.queries
        self._party = party

    def __getattr__(self, name: str) -> Any:
        raise forbidden("A key or token that is bound to a Party may not read that.")

    # Whose something is

    async def own_accounts(self, ids: Sequence[int]) -> set[int]:
        """Which of these accounts are the Party's."""
        asked = list(set(ids))
        found = await self._engine.read_accounts(asked) if asked else []
        return {state.id for state in found if state is not None and state.party == self._party}

    async def check_account(self, id: int) -> None:
        """Raises NotFound if there is no such account of the Party."""
        if not await self.own_accounts([id]):
            raise NotFound("account", format_id(id))

    async def check_move(self, id: int) -> None:
        """Raises NotFound if there is no such Move that the Party pays or gets."""
        await self._engine.wait_projected()
        if not await self.moves_by_id([id]):
            raise NotFound("Move", format_id(id))

    def _check_named(self, *parties: int) -> None:
        if self._party not in parties:
            named = f"party={UUID(int=self._party)}"
            raise forbidden(f"A key or token that is bound to a Party names it: {named}.", "party", named)

    # Accounts, and what happened on them

    async def accounts(self, ids: Sequence[int]) -> Any:
        """Accounts of the Party by id."""
        return [account for account in await self._queries.accounts(ids) if account.party == self._party]

    async def accounts_found(self, wanted: AccountsFilter) -> Any:
        """Accounts of the Party. Raises Problem."""
        self._check_named(wanted.party)
        return await self._queries.accounts_found(wanted)

    async def balance_at(self, account: int, at: int) -> Any:
        """What an account of the Party had. Raises NotFound."""
        await self.check_account(account)
        return await self._queries.balance_at(account, at)

    async def balance_at_business_time(self, account: int, at: int, recorded: int = TIME_MAX) -> Any:
        """What an account of the Party had in business terms. Raises NotFound."""
        await self.check_account(account)
        return await self._queries.balance_at_business_time(account, at, recorded)

    async def entries(self, wanted: AccountFilter) -> Any:
        """Entries of an account of the Party. Raises NotFound."""
        await self.check_account(wanted.account)
        return await self._queries.entries(wanted)

    async def history(self, wanted: AccountFilter) -> Any:
        """The history of an account of the Party. Raises NotFound."""
        await self.check_account(wanted.account)
        return await self._queries.history(wanted)

    async def entries_found(self, wanted: EntryFilter) -> Any:
        """Entries on the Party's accounts. Raises Problem."""
        self._check_named(wanted.party)
        return await self._queries.entries_found(wanted)

    async def legs(self, ids: Sequence[int]) -> Any:
        """Legs by id that the Party gives or gets."""
        found = await self._queries.legs(ids)
        own = await self.own_accounts([account for leg in found for account in (leg.debit, leg.credit)])
        return [leg for leg in found if leg.debit in own or leg.credit in own]

    async def find_legs(self, ids: npt.NDArray[Any]) -> Any:
        """What is known of legs that the Party gives or gets. Raises NotFound."""
        asked = ids_list(ids)
        if len(await self.legs(asked)) != len(set(asked)):
            raise NotFound("leg", "of these ids")
        return await self._queries.find_legs(ids)

    async def hold_outcome(self, hold: int) -> Any:
        """What became of a hold that the Party gives or gets. Raises NotFound."""
        if not await self.legs([hold]):
            raise NotFound("hold", format_id(hold))
        return await self._queries.hold_outcome(hold)

    # Moves, Parties, Things

    async def moves_by_id(self, ids: Sequence[int]) -> Any:
        """Moves by id that the Party pays or gets."""
        found = await self._queries.moves_by_id(ids)
        return [move for move in found if self._party in {move.payer, move.payee}]

    async def moves(self, wanted: MoveFilter) -> Any:
        """Moves that the Party pays or gets. Raises Problem."""
        self._check_named(wanted.party, wanted.payer, wanted.payee)
        return await self._queries.moves(wanted)

    async def journal(self, move: int) -> Any:
        """The legs of a Move that the Party pays or gets. Raises NotFound."""
        await self.check_move(move)
        return await self._queries.journal(move)

    async def transitions(self, move: int) -> Any:
        """What happened to a Move that the Party pays or gets. Raises NotFound."""
        await self.check_move(move)
        return await self._queries.transitions(move)

    async def reversals(self, moves: Sequence[int]) -> Any:
        """What reverses Moves that the Party pays or gets."""
        own = {move.id for move in await self.moves_by_id(moves)}
        return await self._queries.reversals([move for move in moves if move in own])

    async def parties(self, ids: Sequence[int]) -> Any:
        """The Party, if it is among these, without what others think of it."""
        found = await self._queries.parties([id for id in ids if id == self._party])
        return [msgspec.structs.replace(party, profile=without_trust(party.profile)) for party in found]

    async def things(self, ids: Sequence[int]) -> Any:
        """Things, which are everybody's."""
        return await self._queries.things(ids)

    async def things_by_code(self, tenant: str, codes: Sequence[str]) -> Any:
        """Things, which are everybody's."""
        return await self._queries.things_by_code(tenant, codes)

    async def all_things(self, *asked: Any, **filters: Any) -> Any:
        """Things, which are everybody's."""
        return await self._queries.all_things(*asked, **filters)
