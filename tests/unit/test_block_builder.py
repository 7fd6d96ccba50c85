"""One kernel call for many clients: whose legs are where, and who may speak for the engine."""

import numpy as np

from actors.block_builder import BlockBuilder, without_engine_flags
from engine.drafts import MoveBlock
from engine.layout import LegColumns, LegFlag, account_columns, ids_column, leg_columns, open_columns
from engine.ledger import Ledger, LedgerConfig, LegBlock
from engine.results import Result
from tests.ledgers import SMALL

NOW = 1_700_000_000_000_000_000
OF_MOVE = int(LegFlag.OF_MOVE)


def legs(*ids: int, flags: int = 0, debit: int = 1, credit: int = 2) -> LegColumns:
    count = len(ids)
    return leg_columns(
        count,
        id=ids_column(list(ids)),
        debit=ids_column([debit] * count),
        credit=ids_column([credit] * count),
        amount=[1] * count,
        asset=[1] * count,
        code=[1] * count,
        flags=[flags] * count,
    )


def moves(*ids: int, opens: int = 0) -> MoveBlock:
    """Moves of two legs each, the first of which opens an account if asked to."""
    columns = (
        open_columns(int(bool(opens)), before=[0], id=ids_column([opens]), asset=[1], code=[1])
        if opens
        else open_columns(0)
    )
    return MoveBlock(
        legs=legs(*ids, flags=OF_MOVE),
        offsets=np.arange(0, len(ids) + 1, 2, dtype=np.int64),
        opens=columns,
        keys=["L:wallet/new"] if opens else [],
    )


def ledger(config: LedgerConfig = SMALL) -> Ledger:
    opened = Ledger(config)
    accounts = account_columns(2, id=ids_column([1, 2]), asset=[1, 1], code=[1, 1])
    opened.create_accounts(accounts, np.array([0, 2], np.int64), NOW)
    return opened


def test_batches_keep_their_order_and_their_bounds() -> None:
    builder = BlockBuilder()
    assert builder.add(legs(11, 12, 13)) == slice(0, 3)
    assert builder.add_moves(moves(21, 22, 23, 24, opens=9)) == [slice(3, 5), slice(5, 7)]
    assert builder.add(legs(31)) == slice(7, 8)
    assert builder.add_moves(moves(41, 42, opens=10)) == [slice(8, 10)]
    block = builder.build()
    assert len(builder) == 10
    assert block.offsets.tolist() == [0, 3, 5, 7, 8, 10]
    assert block.columns.id[:, 1].tolist() == [11, 12, 13, 21, 22, 23, 24, 31, 41, 42]
    assert block.opens is not None
    assert block.opens.before.tolist() == [3, 8]
    assert builder.open_keys == ["L:wallet/new", "L:wallet/new"]


def test_a_single_batch_is_not_copied() -> None:
    builder = BlockBuilder()
    batch = legs(1)
    builder.add(batch)
    assert builder.build().columns is batch


def test_a_client_that_takes_the_engines_flag_is_refused_beside_moves_that_carry_it() -> None:
    builder = BlockBuilder()
    builder.add(without_engine_flags(legs(51, flags=OF_MOVE)))
    builder.add(without_engine_flags(legs(52)))
    builder.add_moves(moves(61, 62))
    outcome = ledger().apply_legs(builder.build(), NOW)
    assert [Result(status) for status in outcome.status.tolist()] == [
        Result.RESERVED_FLAG,
        Result.CREATED,
        Result.CREATED,
        Result.CREATED,
    ]
    assert (outcome.facts["flags"] & OF_MOVE != 0).tolist() == [False, True, True]


def test_a_stolen_flag_is_refused_as_the_kernel_would_refuse_it() -> None:
    """Whatever else is set, the answer is that of a kernel that does not allow the flag at all."""
    others = [0, LegFlag.LINKED, LegFlag.PENDING, LegFlag.IMPORTED, LegFlag.POST_PENDING | LegFlag.KEEP_OPEN]
    for other in others:
        stolen = legs(71, 72, flags=OF_MOVE | int(other))
        offsets = np.array([0, 2], np.int64)
        strict = ledger().apply_legs(LegBlock(stolen, offsets), NOW)
        builder = BlockBuilder()
        builder.add(without_engine_flags(stolen))
        assert ledger().apply_legs(builder.build(), NOW).status.tolist() == strict.status.tolist()


def test_flags_that_are_not_the_engines_stay_as_they_are() -> None:
    batch = legs(81, flags=int(LegFlag.PENDING))
    assert without_engine_flags(batch) is batch
    before = legs(82, flags=OF_MOVE | 1)
    without_engine_flags(before)
    assert before.flags.tolist() == [OF_MOVE | 1], "what the client gave is not written to"
