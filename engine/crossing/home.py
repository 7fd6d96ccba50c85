"""A shard's own crossings: it begins them, counts votes, decides, and hears when all is done."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np

from engine.blocks import LegBlock, LoadedLegs, Reserved
from engine.crossing.chains import Chains, Work
from engine.crossing.common import (
    ALLOWED,
    Bits,
    Common,
    Ids,
    Ints,
    holds_of,
    ids_in,
    own_ids,
    runs_of,
)
from engine.crossing.effects import Effects
from engine.crossing.localising import chosen, chosen_opens
from engine.crossing.messages import Applied, Ask, Decide, Name, Prepare, Vote
from engine.crossing.tables import bytes_of, ids_of, legs_of, settlements_elsewhere
from engine.facts import BegunFact, DecidedFact, EndedFact
from engine.id_set import repeated
from engine.ids import bucket_of_party, id_bytes
from engine.layout import (
    LEG_FACT,
    AccountFlag,
    LegColumns,
    LegFlag,
    leg_columns,
)
from engine.ledger import InvariantBroken
from engine.record import pack_rows
from engine.results import Result
from engine.rows import Rows
from engine.rows import chosen as chosen_rows

VOTE_LIMIT_NS: Final = 10_000_000_000
"""How long votes are waited for before a crossing is given up."""
UNANSWERED: Final = -1
"""In place of a Party that is not there: the shard that would know has not answered."""

_CREATED: Final = np.uint8(Result.CREATED)
_OF_SETTLEMENT: Final = np.uint16(
    LegFlag.POST_PENDING | LegFlag.VOID_PENDING | LegFlag.KEEP_OPEN | LegFlag.EXPIRY | LegFlag.OF_MOVE
)
_BALANCING: Final = np.uint16(LegFlag.BALANCING_DEBIT | LegFlag.BALANCING_CREDIT)
_HOLD_OF_MOVE: Final = np.uint16(LegFlag.PENDING | LegFlag.OF_MOVE)
_NONE: Final = np.zeros(0, np.uint8)
_NO_IDS: Final = np.zeros((0, 2), np.uint64)
_NO_LEGS: Final = leg_columns(0)


class Plan(NamedTuple):
    """Chains, ready to be judged here: which of their legs are, and how."""

    work: Work
    rows: Ints  # among the legs of the chains
    block: LegBlock
    keys: list[str]  # of the block's opens


class _Open:
    """A crossing that is not decided: what of it is not in the log."""

    def __init__(self, work: Work, chains: Ints, legs: Ints, now: int) -> None:
        self.work = work
        self.chains = chains  # of the work
        self.legs = legs  # of the work, all of `chains`
        self.rows = legs[:0]  # of these, those that are here …
        self.facts: Rows = np.empty(0, LEG_FACT)  # … and what they would be
        self.prepares: dict[int, Prepare] = {}  # by peer
        self.asked: dict[int, Ints] = {}  # by peer: which legs of the work it was asked about
        self.votes: set[int] = set()  # peers that have voted
        self.begun_at = now
        self.said_at = now


class _Done:
    """A crossing that is decided, and not confirmed by all."""

    def __init__(self, fact: DecidedFact, said_at: int) -> None:
        self.fact = fact
        self.waiting = set(fact.peers)
        self.said_at = said_at
        self.work: Work | None = None  # whose chains …
        self.chains = np.zeros(0, np.int64)  # … these are
        self.legs = 0  # that they have
        self.stamped: dict[int, Ints] = {}  # by peer: its legs; −1 for those that have a stamp of ours
        self.claims: list[Any] = []  # who waits for a settlement


class HomeSide:
    """The crossings that this shard is the home of."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._counter = 0  # of the newest crossing of this epoch
        self._open: dict[Name, _Open] = {}
        self._done: dict[Name, _Done] = {}
        self._parties: set[int] = set()  # that are there, on other shards

    @property
    def open_legs(self) -> int:
        """About how many legs have not come to their end."""
        return sum(len(one.legs) for one in self._open.values()) + sum(
            done.legs for done in self._done.values()
        )

    def legs_of(self, name: Name) -> int:
        """How many legs of its own a crossing that is not decided has."""
        one = self._open.get(name)
        return len(one.rows) if one is not None else 0

    def knows_party(self, party: int) -> bool:
        """Whether a Party of another shard is known to be there."""
        return party in self._parties

    def begin_epoch(self, effects: Effects) -> None:
        """Give up what earlier owners did not decide; what they did is told again."""
        tables = self._common.tables
        for name in list(tables.begun):
            fact = DecidedFact(name.epoch, name.counter, b"", [], [], [], b"")
            self._common.note(fact, effects)
        for name, decided in tables.decided.items():
            self._done[name] = _Done(decided, 0)

    def look_again(self, effects: Effects, now: int, patience: int) -> None:
        """Say again what had no answer for a while; give up what has waited too long."""
        for name, one in list(self._open.items()):
            if now - one.begun_at > VOTE_LIMIT_NS:
                self._decide(name, one, effects, now)
            elif now - one.said_at > patience:
                one.said_at = now
                for peer in one.prepares.keys() - one.votes:
                    effects.now(peer).prepares.append(one.prepares[peer])
        for name, done in self._done.items():
            if now - done.said_at > patience:
                done.said_at = now
                for peer in sorted(done.waiting):
                    self._tell(name, done.fact, peer, effects)

    # Begin

    def plan(self, chains: Chains, effects: Effects, now: int) -> Plan:
        """Make ready what is to be judged here, before it is known what PostgreSQL remembers of it."""
        common = self._common
        work = Work(chains, common.placement)
        self._judge_beforehand(work)
        here = work.sides.here(common.shard) & ~work.failed[work.chain_of_leg]
        rows = np.flatnonzero(here)
        legs = chosen(work.legs, rows)
        local = common.localised(legs, chains.opens)
        common.open_pairs(local, effects, now)
        counts = np.bincount(work.chain_of_leg[rows], minlength=work.count)
        offsets = np.concatenate(([0], np.cumsum(counts)))
        opens = work.opens_at(common.shard, common.placement)
        opens = opens[counts[work.chain_of_open[opens]] > 0]
        columns = chosen_opens(chains.opens, opens)
        columns = columns._replace(before=offsets[work.chain_of_open[opens]])
        block = LegBlock(local.legs, offsets, columns, None, ALLOWED)
        return Plan(work, rows, block, [chains.keys[at] for at in opens.tolist()])

    def begin(self, plan: Plan, loaded: LoadedLegs | None, effects: Effects, now: int) -> None:
        """Judge the chains here, and ask the other shards about those that are acceptable."""
        common, work, rows = self._common, plan.work, plan.rows
        outcome = common.ledger.reserve_legs(plan.block._replace(loaded=loaded), now)
        common.take_opened(outcome, plan.keys, effects)
        work.status[rows] = outcome.status
        work.timestamp[rows] = outcome.timestamp
        if (work.legs.flags & _BALANCING).any():
            work.resolve(rows, outcome)
        lost = np.flatnonzero(work.failed)
        if len(lost):
            self._refuse(work, lost, effects, now)
        for peers, chains in self._by_peers(work).items():
            self._begin_one(plan, outcome, peers, chains, effects, now)

    def _judge_beforehand(self, work: Work) -> None:
        """What no ledger is asked, from the least to the most important."""
        legs, sides, shard = work.legs, work.sides, self._common.shard
        flags, ids = legs.flags, legs.id
        for taken in (self._common.in_doubt(ids), repeated(ids, self._common.ledger.config.hash_seed)):
            if taken is not None:
                work.status[taken] = Result.SHARD_UNAVAILABLE
        # A residual is what an account here has left, and a hold is resolved by what the home has of it.
        strange = (flags & LegFlag.BALANCING_DEBIT != 0) & (sides.debit != shard)
        strange |= (flags & LegFlag.BALANCING_CREDIT != 0) & (sides.credit != shard)
        strange |= (flags & _HOLD_OF_MOVE == _HOLD_OF_MOVE) & ~sides.here(shard)
        work.status[strange] = Result.FLAGS_ARE_MUTUALLY_EXCLUSIVE
        work.status[(ids[:, 0] & ids[:, 1]) == np.uint64(2**64 - 1)] = Result.ID_MUST_NOT_BE_INT_MAX
        work.status[(ids[:, 0] | ids[:, 1]) == 0] = Result.ID_MUST_NOT_BE_ZERO
        work.status[flags & LegFlag.IMPORTED != 0] = Result.IMPORTED_EVENT_NOT_EXPECTED
        last = work.offsets[1:][np.diff(work.offsets) > 0] - 1
        work.status[last[flags[last] & LegFlag.LINKED != 0]] = Result.LINKED_EVENT_CHAIN_OPEN

    def _by_peers(self, work: Work) -> dict[tuple[int, ...], Ints]:
        """The chains that are acceptable here, by the other shards that have a part in them."""
        shards, shard = self._common.placement.shards, self._common.shard
        good = ~work.failed
        if (peer := _only_peers(work, shard)) is not None:
            others = np.flatnonzero(np.bincount(peer[good], minlength=shards)).tolist()
            others.sort(key=lambda other: other == shard)
            return {
                (other,) if other != shard else (): np.flatnonzero(good & (peer == other)) for other in others
            }
        asked = [
            chain * shards + self._shard_of_party(party)
            for party, chain in zip(work.parties, work.party_chains, strict=True)
        ]
        pairs = np.concatenate(
            [
                work.chain_of_leg * shards + work.sides.debit,
                work.chain_of_leg * shards + work.sides.credit,
                np.array(asked, np.int64),
            ]
        )
        pairs = np.unique(pairs[good[pairs // shards]])
        pairs = pairs[pairs % shards != shard]
        of_chain, peers = pairs // shards, pairs % shards
        chains, begins, counts = np.unique(of_chain, return_index=True, return_counts=True)
        found: dict[tuple[int, ...], list[int]] = {}
        by_peer: dict[tuple[int, ...], Ints]
        if (counts == 1).all():
            by_peer = {(int(peer),): of_chain[peers == peer] for peer in np.unique(peers)}
        else:
            of_each = np.split(peers, begins[1:])
            for chain, those in zip(chains.tolist(), of_each, strict=True):
                found.setdefault(tuple(those.tolist()), []).append(chain)
            by_peer = {key: np.array(value, np.int64) for key, value in found.items()}
        alone = np.setdiff1d(np.flatnonzero(good), chains)
        return by_peer | ({(): alone} if len(alone) else {})

    def _begin_one(
        self,
        plan: Plan,
        outcome: Reserved,
        peers: tuple[int, ...],
        chains: Ints,
        effects: Effects,
        now: int,
    ) -> None:
        """One crossing: all chains that the same other shards have a part in."""
        common, work = self._common, plan.work
        name = self._next_name()
        mine = work.mask(chains)
        one = _Open(work, chains, np.flatnonzero(mine[work.chain_of_leg]), now)
        here = mine[work.chain_of_leg[plan.rows]]
        one.rows, one.facts = plan.rows[here], chosen_rows(outcome.facts, here)
        needs = common.needs(chosen_rows(outcome.reserved, np.repeat(mine, np.diff(outcome.ends, prepend=0))))
        common.note(BegunFact(name.counter, b"", holds_of(one.facts), needs), effects)
        common.doubtful.add(own_ids(one.facts))
        self._open[name] = one
        for peer in peers:
            one.asked[peer], one.prepares[peer] = self._prepare(name, work, chains, one.legs, peer)
            effects.now(peer).prepares.append(one.prepares[peer])
        if not peers:
            self._decide(name, one, effects, now)

    def _prepare(self, name: Name, work: Work, chains: Ints, legs: Ints, peer: int) -> tuple[Ints, Prepare]:
        """What a peer is asked, and about which legs."""
        rows = legs[work.sides.here(peer)[legs]]
        place = np.full(work.count, -1)
        place[chains] = np.arange(len(chains))
        counts = np.bincount(place[work.chain_of_leg[rows]], minlength=len(chains))
        offsets = np.concatenate(([0], np.cumsum(counts)))
        opens = work.opens_at(peer, self._common.placement)
        opens = opens[place[work.chain_of_open[opens]] >= 0]
        asked = [
            (party, int(place[chain]))
            for party, chain in zip(work.parties, work.party_chains, strict=True)
            if place[chain] >= 0 and self._shard_of_party(party) == peer
        ]
        columns = chosen_opens(work.chains.opens, opens)
        prepare = Prepare(
            name=name,
            legs=chosen(work.legs, rows),
            offsets=offsets,
            opens=columns._replace(before=offsets[place[work.chain_of_open[opens]]]),
            keys=[work.chains.keys[at] for at in opens.tolist()],
            parties=[party for party, _ in asked],
            party_chains=[chain for _, chain in asked],
            principals=work.principals_of(chains),
        )
        return rows, prepare

    def _refuse(self, work: Work, lost: Ints, effects: Effects, now: int) -> None:
        """Chains that came to nothing before another shard was asked about them. Their ids may have to be
        burnt there all the same."""
        burnt = self._burn(work, work.break_chains(lost), effects, now)
        if not burnt:
            effects.finished += work.end(lost)
            return
        name = self._next_name()
        peers = list(burnt)
        fact = DecidedFact(
            name.epoch, name.counter, b"", peers, [bytes_of(burnt[peer]) for peer in peers],
            [b""] * len(peers), b"".join(map(bytes_of, burnt.values())),
        )  # fmt: skip
        self._announce(name, fact, peers, effects, now)
        self._done[name].work, self._done[name].chains = work, lost

    # Decide

    def on_vote(self, sender: int, vote: Vote, effects: Effects, now: int) -> None:
        """A peer has judged."""
        name = vote.name
        one = self._open.get(name)
        if one is None:
            self.on_question(sender, Ask(name), effects)
            return
        if sender in one.votes or sender not in one.prepares:
            return
        work, rows, prepare = one.work, one.asked[sender], one.prepares[sender]
        if len(vote.status) != len(rows):
            raise InvariantBroken(f"shard {sender} voted on {len(vote.status)} of {len(rows)} legs")
        one.votes.add(sender)
        # The leg's asset is that of the account that was judged first, so it is the accounts that differ.
        differs = vote.status == Result.TRANSFER_MUST_HAVE_THE_SAME_ASSET_AS_ACCOUNTS
        status = np.where(differs, np.uint8(Result.ACCOUNTS_MUST_HAVE_THE_SAME_ASSET), vote.status)
        own = work.status[rows]
        work.status[rows] = np.where(own == _CREATED, status, own)
        absent = set(vote.missing)
        for place, party in enumerate(prepare.parties):
            if place in absent:
                work.missing[int(one.chains[prepare.party_chains[place]])] = party
            else:
                self._parties.add(party)
        if len(one.votes) == len(one.prepares):
            self._decide(name, one, effects, now)

    def _decide(self, name: Name, one: _Open, effects: Effects, now: int) -> None:
        """Say what becomes of each chain, and do our part of it."""
        common, work = self._common, one.work
        self._give_up_on_silent(one)
        del self._open[name]
        common.doubtful.discard(own_ids(one.facts))
        failed = work.failed[one.chains]
        kept, lost = one.chains[~failed], one.chains[failed]
        happens = work.mask(kept)
        mine = happens[work.chain_of_leg[one.rows]]
        facts = chosen_rows(one.facts, mine)
        counts = np.bincount(work.chain_of_leg[one.rows[mine]], minlength=work.count)
        runs = runs_of(work.principals, counts)
        first = common.happen(facts, runs, effects, now)
        work.timestamp[one.rows[mine]] = facts["timestamp"]
        burnt = self._burn(work, work.break_chains(lost), effects, now) if len(lost) else {}
        legs = {peer: rows[happens[work.chain_of_leg[rows]]] for peer, rows in one.asked.items()}
        peers = [peer for peer in one.prepares if len(legs[peer]) or peer in burnt]
        ids = self._ids(work, kept, one.legs[happens[work.chain_of_leg[one.legs]]])
        ids += b"".join(map(bytes_of, burnt.values()))
        fact = DecidedFact(
            epoch=name.epoch,
            counter=name.counter,
            kept=(~failed).astype(np.uint8).tobytes(),
            peers=peers,
            burnt=[bytes_of(burnt.get(peer, _NO_IDS)) for peer in peers],
            settled=[b""] * len(peers),
            ids=ids if peers else b"",
            leg_first=first,
            leg_count=len(facts),
        )
        self._announce(name, fact, list(one.prepares), effects, now)
        effects.decided += work.decided(kept)
        over = one.chains if not peers else lost if not burnt else lost[:0]
        if len(over):
            effects.finished += work.end(over)
        if peers:
            done = self._done[name]
            done.work, done.chains = work, np.setdiff1d(one.chains, over)
            done.legs = len(one.legs)
            stamped = np.zeros(len(work.status), np.bool_)
            stamped[one.rows] = True
            done.stamped = {peer: np.where(stamped[rows], -1, rows) for peer, rows in legs.items()}
        self.cascade(facts, [], [], effects, now)

    def _give_up_on_silent(self, one: _Open) -> None:
        for peer in one.prepares.keys() - one.votes:
            rows = one.asked[peer]
            one.work.status[rows[one.work.status[rows] == _CREATED]] = Result.SHARD_UNAVAILABLE
            for chain in one.prepares[peer].party_chains:
                one.work.missing.setdefault(int(one.chains[chain]), UNANSWERED)

    def _burn(self, work: Work, culprits: Ints, effects: Effects, now: int) -> dict[int, Ids]:
        """Of legs that broke their chains: make ids ones that failed, if that could change later; those of
        other shards are returned by shard. A Move's legs are known by its request."""
        legs = work.legs
        culprits = work.transient(culprits)
        culprits = culprits[legs.flags[culprits] & LegFlag.OF_MOVE == 0]
        if not len(culprits):
            return {}
        ids = legs.id[culprits]
        homes = self._common.placement.of_ids(ids)
        self._common.burn(ids[homes == self._common.shard], effects, now)
        return {int(home): ids[homes == home] for home in np.unique(homes) if home != self._common.shard}

    def _ids(self, work: Work, kept: Ints, legs: Ints) -> bytes:
        """Of what nobody is answered before all shards have done their part."""
        bare = work.legs.id[legs[work.legs.flags[legs] & LegFlag.OF_MOVE == 0]]
        bare = bare[self._common.placement.of_ids(bare) == self._common.shard]
        return bytes_of(bare) + b"".join(map(id_bytes, work.requests(kept)))

    def _announce(
        self, name: Name, fact: DecidedFact, told: Iterable[int], effects: Effects, now: int
    ) -> None:
        """Write a decision down, and tell those who have to know."""
        self._common.note(fact, effects)
        if fact.peers:
            self._done[name] = _Done(fact, now)
        for peer in told:
            self._tell(name, fact, peer, effects)

    def _tell(self, name: Name, fact: DecidedFact, peer: int, effects: Effects) -> None:
        kept, burnt, settled, confirm = _NONE, _NO_IDS, _NO_LEGS, False
        if peer in fact.peers:
            place = fact.peers.index(peer)
            kept, confirm = np.frombuffer(fact.kept, np.uint8), True
            burnt = ids_of(fact.burnt[place])
            if fact.settled[place]:
                settled = _settlements(legs_of(fact.settled[place]))
        decide = Decide(name, kept, confirm, burnt, settled, self._low())
        effects.later(peer).decisions.append(decide)

    # The end

    def on_confirmation(self, sender: int, applied: Applied, effects: Effects) -> None:
        """A peer has done its part."""
        name = applied.name
        done = self._done.get(name)
        if done is None or sender not in done.waiting:
            return
        done.waiting.discard(sender)
        if done.work is not None and applied.first and sender in done.stamped:
            rows = done.stamped[sender]
            stamps = applied.first + np.arange(len(rows))
            done.work.timestamp[rows[rows >= 0]] = stamps[rows >= 0]
        if done.waiting:
            return
        del self._done[name]
        self._common.note(EndedFact(name.epoch, name.counter), effects)
        effects.ended += done.claims
        if done.work is not None:
            effects.finished += done.work.end(done.chains)

    def on_question(self, sender: int, ask: Ask, effects: Effects) -> None:
        """A peer is in doubt. What is not known was aborted, unless only a later owner would know of it."""
        name, common = ask.name, self._common
        if name in self._open or name.home != common.shard or name.epoch > common.epoch:
            return
        done = self._done.get(name)
        if done is not None:
            self._tell(name, done.fact, sender, effects)
            return
        nothing = Decide(name, _NONE, False, _NO_IDS, _NO_LEGS, self._low())
        effects.later(sender).decisions.append(nothing)

    # Holds over shards

    def cascade(
        self, facts: Rows, requests: list[int], claims: list[Any], effects: Effects, now: int
    ) -> Bits:
        """Tell the other sides of holds what became of them: which of the facts do so. Who claims them waits
        until it is done there; `requests` are those that are not answered before."""
        common = self._common
        elsewhere = settlements_elsewhere(facts, common.ledger)
        if not elsewhere.any():
            return elsewhere
        settled = facts[elsewhere]
        flags = common.ledger.accounts["flags"]
        of_debit = flags[settled["debit"]] & int(AccountFlag.PAIR) != 0
        rows = np.where(of_debit, settled["debit"], settled["credit"])
        others = common.pairs.peers(rows)
        peers = np.unique(others).tolist()
        ids = ids_in(settled, "id")
        name = self._next_name()
        fact = DecidedFact(
            epoch=name.epoch,
            counter=name.counter,
            kept=b"",
            peers=peers,
            burnt=[b""] * len(peers),
            settled=[pack_rows(settled[others == peer]) for peer in peers],
            ids=bytes_of(ids[ids.any(axis=1)]) + b"".join(map(id_bytes, requests)),
        )
        self._announce(name, fact, peers, effects, now)
        self._done[name].claims = claims
        return elsewhere

    # Inside

    def _next_name(self) -> Name:
        self._counter += 1
        return Name(self._common.shard, self._common.epoch, self._counter)

    def _low(self) -> tuple[int, int]:
        return self._common.tables.lowest((self._common.epoch, self._counter + 1))

    def _shard_of_party(self, party: int) -> int:
        return self._common.placement.shard(bucket_of_party(self._common.tenant, party))


def _only_peers(work: Work, shard: int) -> Ints | None:
    """By chain: the one other shard that has a part in it, `shard` = none; None if this is not so simple."""
    debit, credit = work.sides.debit, work.sides.credit
    if work.parties or (np.diff(work.offsets) != 1).any():
        return None
    if ((debit != shard) & (credit != shard) & (debit != credit)).any():
        return None
    return np.where(debit != shard, debit, credit).astype(np.int64)


def _settlements(facts: Rows) -> LegColumns:
    """Facts that resolve holds, as another shard is told of them. `timestamp` is what was held before."""
    return leg_columns(
        len(facts),
        id=ids_in(facts, "id"),
        pending_id=ids_in(facts, "pending"),
        amount=facts["amount"],
        flags=facts["flags"] & _OF_SETTLEMENT,
        timestamp=facts["held"],
        user_data_128=ids_in(facts, "user_data_128"),
        user_data_64=facts["user_data_64"],
        user_data_32=facts["user_data_32"],
    )
