"""The recovery drill, small: what a synchronous follower received brings back everything acknowledged."""

from simulations.drill import Kept, run_drill


def test_nothing_acknowledged_is_lost_with_the_machine() -> None:
    done = run_drill(Kept.RECEIVED, 200)
    assert done.acknowledged >= 200
    assert (done.missing, done.rpo_s) == (0, 0.0)
    assert done.verified
    assert done.ok
    assert 0 < done.restore_s < done.rto_s
