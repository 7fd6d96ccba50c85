"""From letters and Moves to the chains that have to do with several shards."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from actors.messages import PostBatches, PostLegs
from actors.unfinished import CrossingMove
from engine.crossing.chains import Chains, Claim
from engine.crossing.localising import chosen, joined, sides_of
from engine.drafts import MoveBlock
from engine.layout import LegColumns, LegFlag, OpenColumns, open_columns
from engine.placement import Placement

Ints = npt.NDArray[np.int64]
_NO_OPENS = open_columns(0)


class CrossingLegs(NamedTuple):
    """Bare legs that cross: whose they are, the legs, how many each chain has, and on whose word."""

    token: Any
    legs: LegColumns
    counts: Ints
    principals: list[str]  # by chain


def crossing_rows(
    legs: LegColumns, message: PostLegs | PostBatches, shard: int, placement: Placement
) -> npt.NDArray[np.bool_] | None:
    """Which legs are of chains that have to do with other shards; None = none of them."""
    sides = sides_of(legs, placement)
    away = (sides.debit != shard) | (sides.credit != shard)
    if not away.any():
        return None
    chain = _chain_of_leg(legs, message)
    crosses = np.zeros(int(chain[-1]) + 1, np.bool_)
    crosses[chain[away]] = True
    return crosses[chain]


def chains_of(legs: LegColumns, message: PostLegs | PostBatches, rows: Ints, token: Any) -> CrossingLegs:
    """The legs of whole chains, by chain."""
    chain = _chain_of_leg(legs, message)[rows]
    begins = np.flatnonzero(np.diff(chain, prepend=-1, append=chain[-1] + 1))
    if isinstance(message, PostBatches) and len(set(message.principals)) > 1:
        batches = np.searchsorted(message.offsets, rows[begins[:-1]], "right") - 1
        principals = [message.principals[batch] for batch in batches.tolist()]
    else:
        said = message.principals[:1] if isinstance(message, PostBatches) else [message.principal]
        principals = [*said, ""][:1] * (len(begins) - 1)
    return CrossingLegs(token, chosen(legs, rows), np.diff(begins), principals)


def together(bare: list[CrossingLegs], moves: list[CrossingMove], block: MoveBlock | None) -> Chains:
    """All chains of a turn. `block` has the legs of those Moves that have any, in order."""
    legs = [part.legs for part in bare]
    counts = [part.counts for part in bare]
    claims = [Claim(part.token, len(part.counts), len(part.legs.amount), 0) for part in bare]
    first_chain = sum(len(part.counts) for part in bare)
    first_leg = sum(len(part.legs.amount) for part in bare)
    opens, keys = _NO_OPENS, []
    if block is not None:
        legs.append(block.legs)
        opens = block.opens._replace(before=block.opens.before + first_leg)
        keys = block.keys
    counts.append(np.array([move.prepared.leg_count for move in moves], np.int64))
    claims += [Claim(move, 1, move.prepared.leg_count, move.prepared.command.id) for move in moves]
    asked = [
        (party, first_chain + place) for place, move in enumerate(moves) for party in move.prepared.parties
    ]
    return Chains(
        legs=joined(legs),
        offsets=np.concatenate(([0], np.cumsum(np.concatenate(counts)))),
        opens=OpenColumns(*opens),
        keys=keys,
        parties=[party for party, _ in asked],
        party_chains=[chain for _, chain in asked],
        claims=claims,
        principals=[name for part in bare for name in part.principals]
        + [move.open.letter.message.principal for move in moves],
    )


def _chain_of_leg(legs: LegColumns, message: PostLegs | PostBatches) -> Ints:
    first = np.ones(len(legs.amount), np.bool_)
    first[1:] = legs.flags[:-1] & np.uint16(LegFlag.LINKED) == 0
    if isinstance(message, PostBatches):
        first[message.offsets[:-1]] = True
    return np.cumsum(first) - 1
