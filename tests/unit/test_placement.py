"""Buckets on shards, and which ids are not at home where they say."""

import numpy as np
import pytest

from engine import ids
from engine.chart import Chart
from engine.layout import LegFlag, ids_column, leg_columns
from engine.placement import (
    ONE_SHARD,
    SHARDS_MAX,
    Placement,
    strays_of_accounts,
    strays_of_legs,
)

FOUR = Placement.even(4)
PARTY = ids.uuid7(1_700_000_000_000, 0, 7)


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 7, 1000, SHARDS_MAX])
def test_every_shard_has_a_run_of_buckets_of_nearly_equal_length(shards: int) -> None:
    placement = Placement.even(shards)
    counts = np.bincount(placement.shard_of_bucket)
    assert (placement.shards, len(counts), int(counts.sum())) == (shards, shards, ids.BUCKETS)
    assert counts.max() - counts.min() <= 1
    assert (np.diff(placement.shard_of_bucket) >= 0).all()
    assert [placement.shard(bucket) for bucket in placement.platform_buckets] == list(range(shards))


@pytest.mark.parametrize("shards", [0, -1, SHARDS_MAX + 1])
def test_a_number_of_shards_that_cannot_be_is_refused(shards: int) -> None:
    with pytest.raises(ValueError, match="shards; accepted are 1 to"):
        Placement.even(shards)
    with pytest.raises(ValueError, match="buckets, not 4096"):
        Placement([0, 1])


def test_ids_and_accounts_lead_to_the_shard_of_their_bucket() -> None:
    accounts = [ids.account_id(bucket, "t", "L:x", 1) for bucket in (0, 1023, 1024, 4095)]
    assert FOUR.of_accounts(ids_column(accounts)).tolist() == [0, 0, 1, 3]
    assert [FOUR.shard_of_account(account) for account in accounts] == [0, 0, 1, 3]
    made = [ids.uuid7(1, bucket, 5) for bucket in (0, 2048, 4095)]
    assert FOUR.of_ids(ids_column(made)).tolist() == [0, 2, 3]


def test_a_striped_account_has_a_row_on_each_shard_and_is_named_by_the_first() -> None:
    charts = [Chart("t", platform_bucket=bucket, placement=FOUR) for bucket in FOUR.platform_buckets]
    rows = [chart.account_id("A:psp", 1) for chart in charts]
    assert FOUR.of_accounts(ids_column(rows)).tolist() == [0, 1, 2, 3]
    assert FOUR.stripes(rows[0]) == rows
    assert FOUR.stripes(rows[1]) == [rows[1]]
    assert ONE_SHARD.stripes(rows[0]) == [rows[0]]


def test_only_open_accounts_of_the_platform_are_striped() -> None:
    chart = Chart("t", placement=FOUR)
    text = ids.format_id(PARTY)
    assert [chart.account(key).striped for key in ("A:psp", "R:sales", "L:tax/de", "M:auth.contra")] == [
        True
    ] * 4
    others = ("L:voucher/g1", "L:loyalty", f"A:ar/{text}", f"A:dispute/{text}", f"L:wallet/{text}")
    assert [chart.account(key).striped for key in others] == [False] * 5


def test_what_one_subject_of_the_platform_has_is_in_one_place() -> None:
    chart, other = (Chart("t", platform_bucket=bucket, placement=FOUR) for bucket in (0, 1024))
    home = chart.account("L:voucher/g1").bucket
    assert chart.account("L:voucher/g1/held#o7").bucket == home
    assert other.account("L:voucher/g1").bucket == home, "whichever shard asks"
    spread = {chart.account(f"L:voucher/g{number}").bucket for number in range(200)}
    assert len({FOUR.shard(bucket) for bucket in spread}) == 4
    assert Chart("t").account("L:voucher/g1").bucket == 0


def test_legs_are_at_home_with_their_debit_account_and_posts_with_their_hold() -> None:
    debit = ids.account_id(5, "t", "L:x", 1)
    hold = ids.uuid7(1, 6, 1)
    made = [ids.uuid7(1, bucket, 2) for bucket in (5, 6, 6, 5, 6)]
    strays = strays_of_legs(
        leg_columns(
            7,
            id=ids_column([*made, 0, ids.ID_MAX]),
            debit=ids_column([debit, debit, 0, debit, debit, debit, debit]),
            pending_id=ids_column([0, 0, hold, hold, 0, 0, 0]),
            flags=[0, 0, LegFlag.POST_PENDING, LegFlag.VOID_PENDING, LegFlag.POST_PENDING, 0, 0],
        )
    )
    assert strays.tolist() == [False, True, False, True, True, False, False]


def test_accounts_of_other_shards_are_strays() -> None:
    accounts = [ids.account_id(bucket, "t", "L:x", 1) for bucket in (0, 1024)]
    assert strays_of_accounts(ids_column([*accounts, 0, ids.ID_MAX]), FOUR, 0).tolist() == [
        False, True, False, False,
    ]  # fmt: skip
