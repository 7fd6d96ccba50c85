"""A small Ray cluster of two nodes is struck under load: clients notice a pause, and nothing is lost."""

import random

from simulations.failover.running import Options, run_blows

BLOWS = {"shard": 2, "gateway": 1, "grown": 1}
WAITS = {"shard": 2, "gateway": 1, "grown": 1, "drained": 1}
SHARDS = 2


def test_clients_notice_nothing_but_a_pause() -> None:
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    outcome = run_blows(Options(blows=BLOWS, shards=SHARDS, seed=seed), print)
    assert {waits.blow: len(waits.each_s) for waits in outcome.waits} == WAITS
    assert outcome.transfers
    assert outcome.chains
