"""A shard's part in the crossings of others: it judges and votes, and does what their homes decide."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.blocks import LegBlock, LoadedLegs
from engine.crossing.common import (
    ALLOWED,
    Common,
    Ints,
    column_of,
    holds_of,
    own_ids,
    runs_of,
    wide,
    without_ids,
)
from engine.crossing.effects import Effects
from engine.crossing.localising import chosen, chosen_opens, part_id
from engine.crossing.messages import Applied, Ask, Decide, Name, Prepare, Vote
from engine.crossing.tables import legs_of
from engine.facts import AppliedFact, PreparedFact
from engine.layout import LEG_FACT, HoldStatus, LegColumns, LegFlag
from engine.ledger import InvariantBroken
from engine.record import pack_rows
from engine.results import Result
from engine.rows import Rows
from engine.rows import chosen as chosen_rows

_CREATED: Final = np.uint8(Result.CREATED)


class PeerPlan(NamedTuple):
    """What another shard asks for, ready to be judged here."""

    prepare: Prepare
    rows: Ints  # legs that are judged: not those of chains that lack a Party
    offsets: Ints  # by chain
    missing: list[int]  # places of Parties that are not there
    block: LegBlock


class PeerSide:
    """The crossings of other shards."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._asked: dict[Name, int] = {}  # what is prepared here: when its home was last spoken to
        self._legs: dict[Name, Rows] = {}  # what was prepared by this owner: its legs
        self._epochs: dict[int, int] = {}  # by home: the newest epoch that was heard of

    def legs_of(self, name: Name) -> int:
        """How many legs a crossing has set aside here."""
        prepared = self._common.tables.prepared.get(name)
        return prepared.leg_ends[-1] if prepared is not None else 0

    def begin_epoch(self) -> None:
        """Take up what earlier owners prepared: their homes are asked at once."""
        for name, prepared in self._common.tables.prepared.items():
            self._asked[name] = 0
            self._common.doubtful.add(own_ids(legs_of(prepared.legs)))

    def ask(self, effects: Effects, now: int, patience: int) -> None:
        """Ask what became of what has been in doubt for a while."""
        for name, asked_at in self._asked.items():
            if now - asked_at > patience:
                self._asked[name] = now
                effects.now(name.home).questions.append(Ask(name))

    # Prepare

    def plan(self, sender: int, prepare: Prepare, effects: Effects, now: int) -> PeerPlan | None:
        """Make ready what is to be judged; None if that was done before, or is over."""
        common, name = self._common, prepare.name
        if name in common.tables.prepared:
            self._vote(sender, name, effects)
            return None
        if self._is_outdated(sender, name) or common.tables.is_done(name):
            return None
        missing = [
            place for place, party in enumerate(prepare.parties) if common.directory.party_row(party) < 0
        ]
        wanted = np.ones(len(prepare.offsets) - 1, np.bool_)
        wanted[[prepare.party_chains[place] for place in missing]] = False
        counts = np.diff(prepare.offsets)
        rows = np.flatnonzero(np.repeat(wanted, counts))
        offsets = np.concatenate(([0], np.cumsum(counts * wanted)))
        legs = common.inheriting(chosen(prepare.legs, rows))
        local = common.localised(legs, prepare.opens)
        common.open_pairs(local, effects, now)
        doubtful = common.in_doubt(local.legs.id)
        columns = local.legs if doubtful is None else without_ids(local.legs, doubtful)
        chain = np.searchsorted(prepare.offsets, prepare.opens.before, "right") - 1
        keep = np.flatnonzero(wanted[chain])
        opens = chosen_opens(prepare.opens._replace(before=offsets[chain]), keep)
        return PeerPlan(prepare, rows, offsets, missing, LegBlock(columns, offsets, opens, None, ALLOWED))

    def prepare(
        self, sender: int, plan: PeerPlan, loaded: LoadedLegs | None, effects: Effects, now: int
    ) -> None:
        """Judge, set aside what is acceptable, and vote."""
        common, prepare, name = self._common, plan.prepare, plan.prepare.name
        outcome = common.ledger.reserve_legs(plan.block._replace(loaded=loaded), now)
        kept_keys = [key for key, keep in zip(prepare.keys, self._keeps(plan), strict=True) if keep]
        common.take_opened(outcome, kept_keys, effects)
        status = np.full(len(prepare.legs.amount), Result.LINKED_EVENT_FAILED, np.uint8)
        status[plan.rows] = self._blamed(plan, outcome.status)
        chains = len(plan.offsets) - 1
        chain_of_row = np.repeat(np.arange(chains), np.diff(plan.offsets))
        kept = np.diff(plan.offsets) > 0
        kept[chain_of_row[outcome.status != _CREATED]] = False
        facts = chosen_rows(outcome.facts, kept[chain_of_row])
        if not len(facts):
            effects.later(sender).votes.append(Vote(name, status, plan.missing))
            return
        fact = PreparedFact(
            home=name.home,
            epoch=name.epoch,
            counter=name.counter,
            kept=kept.astype(np.uint8).tobytes(),
            status=status.tobytes(),
            missing=plan.missing,
            legs=pack_rows(facts),
            leg_ends=np.cumsum(np.diff(plan.offsets) * kept).tolist(),
            reserved=b"",
            locked=holds_of(facts),
            principals=prepare.principals,
            needs=common.needs(outcome.reserved),
        )
        common.note(fact, effects)
        common.doubtful.add(own_ids(facts))
        self._asked[name] = now
        self._legs[name] = facts
        self._vote(sender, name, effects)

    def _is_outdated(self, sender: int, name: Name) -> bool:
        """Whether this is a crossing of an earlier owner of its home, or not its home's at all."""
        newest = self._epochs[sender] = max(self._epochs.get(sender, 0), name.epoch)
        return name.home != sender or name.epoch < newest

    def _keeps(self, plan: PeerPlan) -> list[bool]:
        prepare = plan.prepare
        chain = np.searchsorted(prepare.offsets, prepare.opens.before, "right") - 1
        keeps: list[bool] = (np.diff(plan.offsets)[chain] > 0).tolist()
        return keeps

    def _blamed(self, plan: PeerPlan, status: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """What became of the legs, said of the accounts and ids that they were given with."""
        legs, given = plan.block.columns, chosen(plan.prepare.legs, plan.rows)
        status = status.copy()
        no_id = status == Result.ID_MUST_NOT_BE_ZERO
        status[no_id & (given.id.any(axis=1))] = Result.SHARD_UNAVAILABLE  # the id is in doubt
        no_debit = self._common.placement.of_accounts(given.debit) != self._common.shard
        crossing = (legs.flags & LegFlag.CROSSING) != 0
        # What is missing is the account that should be here, not the one that stands for the other.
        astray = crossing & no_debit & (status == Result.DEBIT_ACCOUNT_NOT_FOUND)
        status[astray] = Result.CREDIT_ACCOUNT_NOT_FOUND
        return status

    def _vote(self, home: int, name: Name, effects: Effects) -> None:
        fact = self._common.tables.prepared[name]
        vote = Vote(name, np.frombuffer(fact.status, np.uint8), fact.missing)
        effects.later(home).votes.append(vote)

    # Decide

    def on_decision(self, sender: int, decide: Decide, effects: Effects, now: int) -> Rows | None:
        """Do what the home has decided. Returns the legs that happened, if they may concern others."""
        common, name = self._common, decide.name
        if name.home != sender:
            return None
        prepared = common.tables.prepared.get(name)
        if prepared is None and common.tables.is_done(name):
            if decide.confirm:
                effects.later(sender).confirmations.append(Applied(name, 0))
            return None
        if prepared is None and not decide.confirm:
            return None
        if prepared is None and decide.kept.any():
            raise InvariantBroken(f"crossing {name} was decided, and never prepared here")
        if prepared is None:
            settled = self._settled(decide.settled)
            if settled is None:
                return None  # the hold is still to come: this will be said again
            facts, runs = settled, [("", len(settled))]
        else:
            facts, runs = self._kept(name, prepared, decide)
        first = common.happen(facts, runs, effects, now)
        common.burn(decide.burnt, effects, now)
        fact = AppliedFact(
            home=name.home,
            epoch=name.epoch,
            counter=name.counter,
            confirmed=decide.confirm,
            low=decide.low,
            leg_first=first,
            leg_count=len(facts),
        )
        common.note(fact, effects)
        if decide.confirm:
            stamp = int(facts["timestamp"][0]) if len(facts) else 0
            effects.later(sender).confirmations.append(Applied(name, stamp))
        return None if prepared is None else facts

    def _kept(self, name: Name, prepared: PreparedFact, decide: Decide) -> tuple[Rows, list[tuple[str, int]]]:
        """The legs of the chains that happen, and on whose word."""
        legs = self._legs.pop(name, None)
        if legs is None:
            legs = legs_of(prepared.legs)
        self._common.doubtful.discard(own_ids(legs))
        del self._asked[name]
        counts = np.diff([0, *prepared.leg_ends])
        kept = decide.kept if len(decide.kept) else np.zeros(len(counts), np.uint8)
        runs = runs_of(prepared.principals, counts * (kept != 0))
        return chosen_rows(legs, np.repeat(kept != 0, counts)), runs

    def _settled(self, settled: LegColumns) -> Rows | None:
        """Settlements of holds as facts of this shard; None if a hold, or an earlier settlement of it, is not
        there yet."""
        common = self._common
        facts = np.zeros(len(settled.amount), LEG_FACT)
        held: dict[int, int] = {}  # what is left of the holds that were met
        resolved: set[int] = set()
        happens = np.ones(len(facts), np.bool_)
        for place, fact in enumerate(facts):
            pending = part_id(wide(settled.pending_id, place), common.bucket)
            found = common.ledger.find_holds(column_of(pending))
            if not len(found):
                return None
            hold = found[0]
            if hold["status"] != HoldStatus.OPEN or pending in resolved:
                if settled.amount[place] == 0 and settled.flags[place] & LegFlag.KEEP_OPEN:
                    happens[place] = False  # it took nothing, and came after what resolved the hold
                    continue
                raise InvariantBroken(f"hold {pending:032x} was settled, and is not open here")
            left = held.get(pending, int(hold["held"]))
            if left != settled.timestamp[place]:
                return None  # another settlement comes before this one, and is still on its way
            flags, amount = int(settled.flags[place]), int(settled.amount[place])
            resolves = not flags & LegFlag.KEEP_OPEN or amount == left
            held[pending] = left - amount
            if resolves:
                resolved.add(pending)
            id = wide(settled.id, place)
            if id:
                id = part_id(id, common.bucket)
                flags |= LegFlag.PART
            for name in ("debit", "credit", "code"):
                fact[name] = hold[name]
            fact["id_hi"], fact["id_lo"] = id >> 64, id & (2**64 - 1)
            fact["pending_hi"], fact["pending_lo"] = pending >> 64, pending & (2**64 - 1)
            fact["user_data_128_hi"], fact["user_data_128_lo"] = settled.user_data_128[place]
            fact["user_data_64"] = settled.user_data_64[place]
            fact["user_data_32"] = settled.user_data_32[place]
            fact["amount"], fact["held"], fact["flags"] = amount, left, flags
        return facts[happens]
