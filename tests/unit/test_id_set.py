"""Sets of ids by the column, against Python's own sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.id_set import IdSet, repeated
from engine.layout import ids_column, ids_list

SEED = -7
ids = st.lists(st.integers(0, 40).map(lambda number: number << 64 | number % 3), max_size=60)
steps = st.lists(st.tuples(st.sampled_from(["add", "discard"]), ids), max_size=12)


@given(steps, ids)
def test_a_set_of_ids_is_a_set(steps: list[tuple[str, list[int]]], asked: list[int]) -> None:
    ours, theirs = IdSet(SEED), set[int]()
    for what, some in steps:
        if what == "add":
            new = ours.add(ids_column(some)).tolist()
            for id, is_new in zip(some, new, strict=True):
                assert is_new == (id != 0 and id not in theirs)
                theirs |= {id} - {0}
        else:
            ours.discard(ids_column(some))
            theirs.difference_update(some)
        assert len(ours) == len(theirs)
    found = ours.which(ids_column(asked))
    expected = [id in theirs for id in asked]
    assert (found.tolist() if found is not None else [False] * len(asked)) == expected
    ours.clear()
    assert not len(ours)
    assert ours.which(ids_column(asked)) is None


@given(ids)
def test_repeated_ids_are_those_that_came_before(some: list[int]) -> None:
    expected = [id != 0 and id in some[:place] for place, id in enumerate(some)]
    found = repeated(ids_column(some), SEED)
    assert (found.tolist() if found is not None else [False] * len(some)) == expected


def test_many_ids_come_and_go() -> None:
    random = np.random.default_rng(5)
    column = random.integers(1, 1 << 63, (20_000, 2), np.uint64)
    held = IdSet(SEED)
    assert held.add(column).all()
    held.discard(column[::2])
    found = held.which(column)
    assert found is not None
    assert found.tolist() == [place % 2 == 1 for place in range(len(column))]
    assert set(ids_list(column[1::2])) == set(ids_list(column[found]))
