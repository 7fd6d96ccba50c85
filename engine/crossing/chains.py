"""Chains of legs on their way through crossings, and what their senders learn of them in the end."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.blocks import Reserved
from engine.crossing.effects import Finished
from engine.crossing.localising import sides_of
from engine.layout import LegColumns, OpenColumns
from engine.placement import Placement
from engine.results import TRANSIENT, Result

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]

_CREATED: Final = np.uint8(Result.CREATED)
_FAILED: Final = np.uint8(Result.LINKED_EVENT_FAILED)
_TRANSIENT: Final = np.zeros(256, np.bool_)
_TRANSIENT[[int(result) for result in TRANSIENT]] = True


def said_once(principals: list[str]) -> list[str]:
    """The principals of chains, or one that stands for all."""
    return principals[:1] if len(set(principals)) == 1 else principals


class Claim(NamedTuple):
    """Chains in a row that are answered together. `token` is the caller's own."""

    token: Any
    chains: int
    legs: int
    request: int  # of a Move, 0 = bare legs


class Chains(NamedTuple):
    """Chains over several shards, whose accounts are named as clients name them. Chain k has the legs
    `offsets[k]` to `offsets[k + 1]`; one without legs only asks for Parties."""

    legs: LegColumns
    offsets: Ints
    opens: OpenColumns  # `before` is the first leg of their chain
    keys: list[str]
    parties: list[int]  # that must be there, elsewhere …
    party_chains: list[int]  # … for these chains
    claims: list[Claim]  # in order; together they are all chains
    principals: list[str]  # by chain: on whose word it comes


class Work:
    """The chains that a turn begins, from their first judgement to their end."""

    def __init__(self, chains: Chains, placement: Placement) -> None:
        self.chains = chains
        self.legs = chains.legs
        self.offsets = chains.offsets
        self.count = len(chains.offsets) - 1
        self.parties, self.party_chains = chains.parties, chains.party_chains
        self.principals = said_once(chains.principals)  # by chain, or one for all
        self.sides = sides_of(chains.legs, placement)
        self.chain_of_leg: Ints = np.repeat(np.arange(self.count), np.diff(chains.offsets))
        self.chain_of_open: Ints = np.searchsorted(chains.offsets, chains.opens.before, "right") - 1
        self.status = np.zeros(len(chains.legs.amount), np.uint8)  # of each leg, as far as it is known
        self.timestamp = np.zeros(len(chains.legs.amount), np.int64)
        self.missing: dict[int, int] = {}  # chain → a Party that is not there
        counts = np.array([claim.chains for claim in chains.claims], np.int64)
        self._claim_of_chain = np.repeat(np.arange(len(counts)), counts)
        self._left = counts  # by claim: chains that have not come to their end
        self._leg_ends = np.cumsum([0, *(claim.legs for claim in chains.claims)])

    @property
    def failed(self) -> Bits:
        """By chain: whether it came to nothing."""
        failed = np.zeros(self.count, np.bool_)
        failed[self.chain_of_leg[self.status != _CREATED]] = True
        failed[list(self.missing)] = True
        return failed

    def principals_of(self, chains: Ints) -> list[str]:
        """On whose word these chains come, by chain, or one for all."""
        if len(self.principals) == 1:
            return self.principals
        return said_once([self.principals[chain] for chain in chains.tolist()])

    def mask(self, chains: Ints) -> Bits:
        """By chain: whether it is one of these."""
        mask = np.zeros(self.count, np.bool_)
        mask[chains] = True
        return mask

    def opens_at(self, shard: int, placement: Placement) -> Ints:
        """Which accounts a shard opens."""
        return np.flatnonzero(placement.of_accounts(self.chains.opens.id) == shard)

    def resolve(self, rows: Ints, outcome: Reserved) -> None:
        """Give legs that take what is there the amount that it is."""
        amount = self.legs.amount.copy()
        amount[rows] = np.where(outcome.status == _CREATED, outcome.amount, amount[rows])
        self.legs = self.legs._replace(amount=amount)

    def break_chains(self, chains: Ints) -> Ints:
        """Of chains that came to nothing, the legs that did it; the others only failed with them."""
        alone = np.diff(self.offsets)[chains] == 1
        culprits: list[int] = self.offsets[chains[alone]].tolist()
        for chain in chains[~alone].tolist():
            first = int(self.offsets[chain])
            own = self.status[first : self.offsets[chain + 1]]
            reasons = np.flatnonzero((own != _CREATED) & (own != _FAILED))
            code = own[reasons[0]] if len(reasons) else _FAILED
            last_is_open = len(own) and own[-1] == Result.LINKED_EVENT_CHAIN_OPEN
            own[:] = _FAILED
            if last_is_open:
                own[-1] = Result.LINKED_EVENT_CHAIN_OPEN
            if len(reasons):
                own[reasons[0]] = code
                culprits.append(first + int(reasons[0]))
        return np.array(culprits, np.int64)

    def transient(self, legs: Ints) -> Ints:
        """Those of some legs whose refusal could turn into a success later."""
        return legs[_TRANSIENT[self.status[legs]]]

    def requests(self, chains: Ints) -> list[int]:
        """The requests that chains belong to."""
        claims = np.flatnonzero(self._counts(chains)).tolist()
        return [request for claim in claims if (request := self.chains.claims[claim].request)]

    def decided(self, chains: Ints) -> list[Finished]:
        """What became of the requests, a chain each, among these chains."""
        claims = np.flatnonzero(self._counts(chains)).tolist()
        return [self._finished(claim) for claim in claims if self.chains.claims[claim].request]

    def end(self, chains: Ints) -> list[Finished]:
        """Note that chains have come to their end; what is finished by that."""
        counts = self._counts(chains)
        self._left -= counts
        done = np.flatnonzero((counts > 0) & (self._left == 0))
        return [self._finished(claim) for claim in done.tolist()]

    def _counts(self, chains: Ints) -> Ints:
        """By claim: how many of these chains are its own."""
        return np.bincount(self._claim_of_chain[chains], minlength=len(self._left))

    def _finished(self, claim: int) -> Finished:
        legs = slice(int(self._leg_ends[claim]), int(self._leg_ends[claim + 1]))
        missing = 0
        if self.missing:
            own = np.flatnonzero(self._claim_of_chain == claim).tolist()
            missing = next((self.missing[chain] for chain in own if chain in self.missing), 0)
        token = self.chains.claims[claim].token
        return Finished(token, self.status[legs], self.timestamp[legs], missing)
