"""What both sides of a crossing, its home and its peers, do alike: write legs down, open accounts."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.blocks import Reserved
from engine.crossing.effects import Effects
from engine.crossing.localising import Local, explicit_elsewhere, localised
from engine.crossing.pairs import PairAccounts, key_of
from engine.crossing.tables import Tables, bytes_of
from engine.directory import Directory
from engine.facts import CrossingFact
from engine.id_set import IdSet
from engine.ids import id_bytes
from engine.layout import LEG_FACT, HoldStatus, LegColumns, LegFlag, OpenColumns, ids_column
from engine.ledger import Ledger
from engine.placement import Placement
from engine.record import pack_rows
from engine.rows import Rows

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.uint64]

ALLOWED = int(LegFlag.OF_MOVE | LegFlag.PART | LegFlag.CROSSING) | 1023
"""Flags that legs of crossings may have."""
_SETTLING = int(LegFlag.POST_PENDING | LegFlag.VOID_PENDING)


class Common:
    """One shard's crossings, as its log has them, and the state that they change."""

    def __init__(
        self, tenant: str, placement: Placement, shard: int, ledger: Ledger, directory: Directory
    ) -> None:
        self.tenant = tenant
        self.placement = placement
        self.shard = shard
        self.bucket = placement.platform_buckets[shard]
        self.ledger = ledger
        self.directory = directory
        self.tables = Tables(shard, ledger)
        self.pairs = PairAccounts(tenant, placement, shard, ledger)
        self.epoch = 0  # of the present owner; 0 = there is none, this is a replay
        self.doubtful = IdSet(ledger.config.hash_seed)  # ids that legs of undecided crossings will have here

    def in_doubt(self, ids: Ids) -> Bits | None:
        """Which of the ids a crossing is going to use, or has used without having come to its end; None =
        none of them."""
        doubtful, unanswered = self.doubtful.which(ids), self.tables.unanswered.which(ids)
        if doubtful is None or unanswered is None:
            return unanswered if doubtful is None else doubtful
        return doubtful | unanswered

    def note(self, fact: CrossingFact, effects: Effects) -> None:
        """Make a fact true, and write it down."""
        self.tables.note(fact, self.epoch)
        effects.add_event(fact)

    def needs(self, reserved: Rows) -> bytes:
        """Reservations, folded and packed for a fact."""
        return pack_rows(self.ledger.folded(reserved)) if len(reserved) else b""

    def happen(self, facts: Rows, runs: list[tuple[str, int]], effects: Effects, now: int) -> int:
        """Let legs happen that were judged before, so many in a row on somebody's word; returns their place
        in the record."""
        if not len(facts):
            return 0
        last = max(now, self.ledger.last_timestamp + len(facts))
        facts["timestamp"] = np.arange(last - len(facts) + 1, last + 1)
        self.ledger.replay_legs(facts)
        self.tables.note_legs(facts)
        return effects.add_legs(facts, runs)

    def burn(self, ids: Ids, effects: Effects, now: int) -> None:
        """Make ids ones that failed, those of them that are new."""
        ids = ids[self.ledger.are_new(ids, now)] if len(ids) else ids
        if not len(ids):
            return
        facts = np.zeros(len(ids), LEG_FACT)
        facts["id_hi"], facts["id_lo"] = ids[:, 0], ids[:, 1]
        facts["debit"] = facts["credit"] = -1
        facts["flags"] = LegFlag.BURNT
        facts["timestamp"] = max(now, self.ledger.last_timestamp)
        self.ledger.replay_legs(facts)
        effects.add_legs(facts, [("", len(facts))])

    def localised(self, legs: LegColumns, opens: OpenColumns) -> Local:
        """Legs as this shard has them, once these accounts are open."""
        asset_max = max(self.directory.thing_count, int(opens.asset.max(initial=0)))
        return localised(legs, self.shard, self.placement, self.pairs, self.ledger, asset_max)

    def inheriting(self, legs: LegColumns) -> LegColumns:
        """Legs whose posts and voids do not name what their hold, here, has on another shard."""
        return explicit_elsewhere(legs, self.shard, self.placement, self._is_elsewhere)

    def _is_elsewhere(self, hold: int, account: int) -> bool:
        """Whether a hold's account on another shard is this one, or it does not matter any more."""
        known = self.tables.elsewhere.get(id_bytes(hold))
        if known is not None:
            return known == id_bytes(account)
        found = self.ledger.find_holds(column_of(hold))
        return not any(int(hold["status"]) in (HoldStatus.OPEN, HoldStatus.LOCKED) for hold in found)

    def open_pairs(self, local: Local, effects: Effects, now: int) -> None:
        """Open the pair accounts that legs need."""
        missing = self.pairs.missing(local.pairs)
        if missing:
            facts = self.pairs.facts(missing, now)
            self.ledger.replay_accounts(facts)
            effects.accounts.append(facts)
            effects.keys += [key_of(other) for other, _ in missing]

    def take_opened(self, outcome: Reserved, keys: list[str], effects: Effects) -> None:
        """Write down the accounts that were opened for chains."""
        if len(outcome.opened):
            effects.accounts.append(outcome.opened)
            effects.keys += [keys[at] for at in outcome.opened_index.tolist()]


def runs_of(principals: Sequence[str], counts: Ints) -> list[tuple[str, int]]:
    """How many legs in a row came on whose word, of chains with so many legs; one principal may stand for
    all."""
    if len(principals) == 1:
        return [(principals[0], int(counts.sum()))]
    return list(zip(principals, counts.tolist(), strict=True))


def own_ids(facts: Rows) -> Ids:
    """The ids of facts that clients could use, too."""
    own: Bits = facts["flags"] & int(LegFlag.PART) == 0
    return ids_in(facts, "id")[own]


def holds_of(facts: Rows) -> bytes:
    """The holds that legs resolve."""
    return bytes_of(ids_in(facts, "pending")[facts["flags"] & _SETTLING != 0])


def ids_in(facts: Rows, name: str) -> Ids:
    """A column of ids of LEG_FACTs."""
    return np.stack([facts[f"{name}_hi"], facts[f"{name}_lo"]], axis=1)


def wide(ids: Ids, place: int) -> int:
    """One id of a column."""
    high, low = ids[place].tolist()
    return int(high) << 64 | int(low)


def column_of(id: int) -> Ids:
    """A column of one id."""
    return ids_column([id])


def without_ids(legs: LegColumns, which: Bits) -> LegColumns:
    """The legs, some of them without an id."""
    return legs._replace(id=np.where(which[:, None], np.uint64(0), legs.id))
