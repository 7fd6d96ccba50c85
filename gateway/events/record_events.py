"""The events of one record, in their order: Parties and Things, accounts opened, limits set, legs, Moves.

An event's index counts everything in the record from 1, wanted or not, so it is the same for every reader.
What a filter wants is found column by column; only that is made into objects.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.facts import Envelope, MoveFact, PartyFact, ThingFact
from engine.layout import LegFlag
from engine.record import Record
from gateway.events.filters import EventType, Wanted, is_one_of, leg_types
from persistence.account_names import AccountColumns

Indexes = npt.NDArray[np.int64]
FindAccounts = Callable[[Indexes], Awaitable[AccountColumns]]
"""Accounts of the record's shard by ordinals, each given once."""

_NONE: Final = np.empty(0, np.int64)


class RecordEvents:
    """What one record tells."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.directory: list[PartyFact | ThingFact] = []
        self.moves: list[MoveFact] = []
        self._tenants: list[str] = []  # of the directory's events and then the Moves'
        of_moves: list[str] = []
        self._envelopes = [event for event in record.events if isinstance(event, Envelope)]
        for place, event in enumerate(record.events):
            if isinstance(event, MoveFact):
                if event.accepted:
                    self.moves.append(event)
                    of_moves.append(self._tenant_of(place))
            elif isinstance(event, PartyFact | ThingFact):
                self.directory.append(event)
                self._tenants.append(self._tenant_of(place))
        self._tenants += of_moves
        self.first_account = len(self.directory)
        self.first_guard = self.first_account + len(record.accounts)
        self.first_leg = self.first_guard + len(record.guards)
        self.first_move = self.first_leg + len(record.legs)

    @property
    def size(self) -> int:
        """How many events there are, wanted or not; burnt ids count too."""
        return self.first_move + len(self.moves)

    async def fitting(self, wanted: Wanted, find: FindAccounts) -> Indexes:
        """The events that a filter wants: their indexes less one, ascending."""
        parts = [
            np.array([i for i, fact in enumerate(self.directory) if self._fits(i, fact, wanted)], np.int64),
            self.first_account + self._accounts(wanted),
            self.first_guard + await self._guards(wanted, find),
            self.first_leg + await self._legs(wanted, find),
            np.array(
                [
                    self.first_move + i
                    for i, fact in enumerate(self.moves)
                    if self._move_fits(len(self.directory) + i, fact, wanted)
                ],
                np.int64,
            ),
        ]
        return np.concatenate(parts)

    def leg(self, index: int) -> np.void:
        """The leg that an event is about."""
        leg: np.void = self.record.legs[index - self.first_leg]
        return leg

    def ordinals(self, indexes: Indexes) -> Indexes:
        """The accounts that events are about or mention, each once."""
        of_guards = indexes[(indexes >= self.first_guard) & (indexes < self.first_leg)] - self.first_guard
        of_legs = indexes[(indexes >= self.first_leg) & (indexes < self.first_move)] - self.first_leg
        of_accounts = indexes[(indexes >= self.first_account) & (indexes < self.first_guard)]
        parents = self.record.accounts["parent"][of_accounts - self.first_account]
        legs = self.record.legs
        return np.unique(
            np.concatenate(
                (
                    self.record.guards["account"][of_guards],
                    parents[parents >= 0],
                    legs["debit"][of_legs],
                    legs["credit"][of_legs],
                )
            ).astype(np.int64)
        )

    def _tenant_of(self, place: int) -> str:
        for envelope in self._envelopes:
            if envelope.event_first <= place < envelope.event_first + envelope.event_count:
                return envelope.tenant
        return self._only_tenant()

    def _only_tenant(self) -> str:
        """Whose the whole record is, empty if it is not one tenant's."""
        tenants = {envelope.tenant for envelope in self._envelopes}
        return tenants.pop() if len(tenants) == 1 else ""

    def _fits(self, place: int, fact: PartyFact | ThingFact, wanted: Wanted) -> bool:
        if self._tenants[place] != wanted.tenant or wanted.kinds is not None or wanted.accounts is not None:
            return False
        if isinstance(fact, PartyFact):
            return (
                party_type(fact) in wanted.types
                and wanted.assets is None
                and (wanted.party_ids is None or fact.id in wanted.party_ids)
            )
        return (
            EventType.THING_CREATED in wanted.types
            and wanted.parties is None
            and (wanted.asset_numbers is None or fact.asset in wanted.asset_numbers)
        )

    def _move_fits(self, place: int, fact: MoveFact, wanted: Wanted) -> bool:
        return (
            move_type(fact) in wanted.types
            and self._tenants[place] == wanted.tenant
            and wanted.accounts is None
            and (wanted.kinds is None or fact.kind in wanted.kinds)
            and (wanted.asset_numbers is None or fact.asset in wanted.asset_numbers)
            and (wanted.party_ids is None or fact.payer in wanted.party_ids or fact.payee in wanted.party_ids)
        )

    def _accounts(self, wanted: Wanted) -> Indexes:
        facts = self.record.accounts
        if (
            len(facts) == 0
            or EventType.ACCOUNT_OPENED not in wanted.types
            or wanted.kinds is not None
            or self._only_tenant() != wanted.tenant
        ):
            return _NONE
        fits = np.ones(len(facts), np.bool_)
        if wanted.accounts is not None:
            fits &= is_one_of(pair(facts, "id"), wanted.accounts)
        if wanted.parties is not None:
            fits &= is_one_of(pair(facts, "party"), wanted.parties)
        if wanted.assets is not None:
            fits &= np.isin(facts["asset"], wanted.assets)
        return np.flatnonzero(fits)

    async def _guards(self, wanted: Wanted, find: FindAccounts) -> Indexes:
        facts = self.record.guards
        if (
            len(facts) == 0
            or EventType.ACCOUNT_LIMITED not in wanted.types
            or wanted.kinds is not None
            or self._only_tenant() != wanted.tenant
        ):
            return _NONE
        if not wanted.needs_accounts:
            return np.arange(len(facts))
        ordinals, inverse = np.unique(facts["account"].astype(np.int64), return_inverse=True)
        return np.flatnonzero(_fitting_accounts(await find(ordinals), wanted)[inverse])

    async def _legs(self, wanted: Wanted, find: FindAccounts) -> Indexes:
        legs = self.record.legs
        if len(legs) == 0 or not wanted.leg_types.any():
            return _NONE
        fits = legs["flags"] & int(LegFlag.BURNT) == 0
        if not wanted.leg_types.all():
            fits &= wanted.leg_types[leg_types(legs["flags"])]
        if self._only_tenant() != wanted.tenant:
            fits &= self._of_tenant(wanted.tenant)
        if wanted.kinds is not None:
            fits &= self._of_kinds(wanted.kinds)
        at = np.flatnonzero(fits)
        if not wanted.needs_accounts or len(at) == 0:
            return at
        ordinals, inverse = np.unique(
            np.concatenate((legs["debit"][at], legs["credit"][at])).astype(np.int64), return_inverse=True
        )
        by_account = _fitting_accounts(await find(ordinals), wanted)[inverse]
        return at[by_account[: len(at)] | by_account[len(at) :]]

    def _of_tenant(self, tenant: str) -> npt.NDArray[np.bool_]:
        theirs = np.zeros(len(self.record.legs), np.bool_)
        for envelope in self._envelopes:
            if envelope.tenant == tenant:
                theirs[envelope.leg_first : envelope.leg_first + envelope.leg_count] = True
        return theirs

    def _of_kinds(self, kinds: frozenset[str]) -> npt.NDArray[np.bool_]:
        """Legs of this record's Moves of some kinds: a Move's legs are in the record of its transition."""
        legs = self.record.legs
        moves = [int.from_bytes(fact.move, "big") for fact in self.moves if fact.kind in kinds]
        found = np.zeros(len(legs), np.bool_)
        of_moves = np.flatnonzero(legs["flags"] & int(LegFlag.OF_MOVE))
        highs = np.isin(
            legs["user_data_128_hi"][of_moves], np.array([move >> 64 for move in moves], np.uint64)
        )
        lows = np.isin(
            legs["user_data_128_lo"][of_moves], np.array([move & (2**64 - 1) for move in moves], np.uint64)
        )
        near = of_moves[highs & lows]
        ids = set(moves)
        found[near] = [
            high << 64 | low in ids
            for high, low in zip(
                legs["user_data_128_hi"][near].tolist(), legs["user_data_128_lo"][near].tolist(), strict=True
            )
        ]
        return found


def pair(rows: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint64]:
    """An id of rows, shape (n, 2)."""
    return np.stack((rows[f"{name}_hi"], rows[f"{name}_lo"]), axis=1)


def party_type(fact: PartyFact) -> EventType:
    """What happened to a Party."""
    return EventType.PARTY_CREATED if fact.version == 1 else EventType.PARTY_CHANGED


def move_type(fact: MoveFact) -> EventType:
    """What happened to a Move."""
    return EventType.MOVE_CREATED if fact.seq == 0 else EventType.MOVE_CHANGED


def _fitting_accounts(accounts: AccountColumns, wanted: Wanted) -> npt.NDArray[np.bool_]:
    fits = np.ones(len(accounts.asset), np.bool_)
    if wanted.accounts is not None:
        fits &= is_one_of(accounts.id, wanted.accounts)
    if wanted.parties is not None:
        fits &= is_one_of(accounts.party, wanted.parties)
    if wanted.assets is not None:
        fits &= np.isin(accounts.asset, wanted.assets)
    return fits
