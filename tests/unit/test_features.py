"""Features of the store equal those computed by hand, for any stream, however it comes and whatever it is."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.features.definition import DAY_NS, Feature, FeatureError, FeatureSet, Measure, Window
from engine.features.state import Events
from engine.features.store import FeaturesFull, FeatureStore, Matrix, make_events
from tests.unit.slow_features import Event, SlowFeatures

SUBJECTS = ("party", "counterparty", "instrument")
SHORT, LONG, LATE, LATE_AND_LONG = Window(4), Window(11), Window(6, 5), Window(15, 7)
OF_DELAYED = (
    Measure.COUNT,
    Measure.MEAN,
    Measure.FRAUDS,
    Measure.FRAUD_SHARE,
    Measure.DISPUTES,
    Measure.ZSCORE,
)
OF_RECENT = (*OF_DELAYED, Measure.SUM, Measure.MAX, Measure.DISTINCT)
WITH_THIS = (Measure.COUNT, Measure.SUM, Measure.MEAN, Measure.MAX, Measure.DISTINCT)


def everything(label_delay_ns: int = 6, events_max: int = 1 << 20) -> FeatureSet:
    """Every measure of every subject in every window that it is allowed in."""
    features = [
        Feature(f"{subject}:{measure.name}:{window.length_ns}:{window.delay_ns}", measure, subject, window)
        for subject in SUBJECTS
        for window in (SHORT, LONG, LATE, LATE_AND_LONG)
        for measure in (OF_DELAYED if window.delay_ns else OF_RECENT)
    ]
    features += [
        Feature(f"{subject}:{measure.name}:with this", measure, subject, SHORT, with_this=True)
        for subject in SUBJECTS
        for measure in WITH_THIS
    ]
    features += [Feature(f"{s}:since", Measure.SECONDS_SINCE_LAST, s) for s in SUBJECTS]
    of_event = (Measure.AMOUNT, Measure.NIGHT, Measure.WEEKEND, Measure.AGE_DAYS)
    features += [Feature(measure.name, measure) for measure in of_event]
    partners = {"party": "counterparty", "counterparty": "party", "instrument": "counterparty"}
    return FeatureSet(SUBJECTS, tuple(features), partners, label_delay_ns, events_max)


WANTED = everything()


def columns(events: list[Event], subjects: int = 3) -> Events:
    """The events as arrays."""
    ids = np.array([e.subjects for e in events], np.uint64).reshape(-1, subjects)
    return make_events(
        [e.time for e in events],
        [e.amount for e in events],
        [ids[:, kind] for kind in range(subjects)],
        opened_ns=[e.opened for e in events],
        fraud=[e.fraud for e in events],
    )


events_of = st.builds(
    Event,
    time=st.integers(0, 5),  # after the one before
    amount=st.integers(0, 6),
    subjects=st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 3)),
    opened=st.sampled_from([0, 1]),
    fraud=st.booleans(),
)
report = st.tuples(st.sampled_from(["report_fraud", "report_dispute"]), st.integers(0, 60))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.lists(events_of, max_size=12), st.lists(report, max_size=3)), max_size=8))
def test_any_stream_has_the_features_computed_by_hand(
    stream: list[tuple[list[Event], list[tuple[str, int]]]],
) -> None:
    store, slow = FeatureStore(WANTED), SlowFeatures(WANTED)
    now = 5 * DAY_NS
    for steps, reports in stream:
        events = []
        for step in steps:
            now += step.time
            events.append(step._replace(time=now))
        expected = []
        for event in events:
            expected.append(slow.row(event))
            slow.events.append(event)
        assert_equal(store.observe(columns(events)), expected)
        for name, number in reports:
            getattr(store, name)(np.array([number]))
            if number < len(slow.events):
                (slow.frauds if name == "report_fraud" else slow.disputes).add(number)


def assert_equal(matrix: Matrix, expected: list[list[float]]) -> None:
    assert matrix.shape == (len(expected), len(WANTED.features))
    for row, wanted in zip(matrix, expected, strict=True):
        for name, ours, theirs in zip(WANTED.names, row.tolist(), wanted, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9), name


def stream(seed: int, count: int, subjects: int) -> list[Event]:
    """A stream with so many events and, of each kind, subjects."""
    random = np.random.default_rng(seed)
    times = DAY_NS + np.cumsum(random.integers(0, 2, count))
    amounts = random.integers(0, 10**9, count)
    ids = random.integers(0, subjects + 1, (count, 3)) * 0x1E3779B97F4A7C15 % 2**62
    rows = zip(times.tolist(), amounts.tolist(), ids.tolist(), random.random(count) < 0.1, strict=True)
    return [Event(time, amount, tuple(row), 0, bool(fraud)) for time, amount, row, fraud in rows]


@pytest.mark.parametrize(("seed", "count", "subjects"), [(1, 1500, 4), (2, 1500, 600), (3, 900, 2)])
def test_long_streams_in_few_or_many_pieces_have_the_same_features(
    seed: int, count: int, subjects: int
) -> None:
    events = columns(stream(seed, count, subjects))
    whole = FeatureStore(WANTED, hash_seed=seed).observe(events)
    pieces = FeatureStore(WANTED, hash_seed=-seed)
    random = np.random.default_rng(seed)
    cuts = [0, *sorted(random.integers(0, count, 40).tolist()), count]
    for first, last in pairwise(cuts):
        piece = events.between(first, last)
        read_alone = pieces.read(piece.between(0, 1))
        observed = pieces.observe(piece)
        assert (observed == whole[first:last]).all()
        assert (read_alone == observed[:1]).all()


def test_the_ring_grows_with_what_the_windows_hold_and_keeps_it_exact() -> None:
    """One instant holds more than the arrays begin with: events, subjects and pairs all move."""
    count = 5000
    random = np.random.default_rng(5)
    party = random.integers(1, 3000, count).astype(np.uint64)
    counterparty = random.integers(1, 40, count).astype(np.uint64)
    store = FeatureStore(WANTED)
    events = make_events(np.full(count, DAY_NS), np.arange(count), [party, counterparty, party])
    matrix = store.observe(events)
    seen: dict[int, set[int]] = {}
    for number, (one, other) in enumerate(zip(party.tolist(), counterparty.tolist(), strict=True)):
        column = WANTED.names.index("party:DISTINCT:11:0")
        assert matrix[number, column] == len(seen.setdefault(one, set()))
        seen[one].add(other)
    assert store.event_count == count
    assert store.subject_count == 2 * len(seen) + len(set(counterparty.tolist()))
    store.advance(DAY_NS + WANTED.reach_ns)
    assert (store.event_count, store.subject_count, store.pair_count) == (0, 0, 0)
    again = store.observe(events._replace(time=events.time + DAY_NS))
    assert (again == matrix)[:, : WANTED.names.index("NIGHT")].all()


def test_memory_follows_the_windows_not_the_history() -> None:
    store = FeatureStore(WANTED)
    sizes = []
    for part in range(12):
        events = columns(stream(part, 2000, 20))
        store.add(events._replace(time=events.time + part * DAY_NS))
        sizes.append(store.nbytes)
    assert sizes[1:] == sizes[:-1]
    assert store.event_count < 100
    assert store.next_number == 24_000


def test_a_full_store_says_so_and_stays_exact() -> None:
    wanted = everything(events_max=100)
    store = FeatureStore(wanted)
    random = np.random.default_rng(1)
    ids = random.integers(1, 5, (150, 3)).astype(np.uint64)
    events = make_events(np.full(150, DAY_NS), np.arange(150), [ids[:, k] for k in range(3)])
    with pytest.raises(FeaturesFull, match="100 events") as caught:
        store.observe(events)
    assert (caught.value.events_max, caught.value.number) == (100, 100)
    assert store.event_count == 100
    later = events.time[:3] + wanted.reach_ns
    assert store.observe(events.between(0, 3)._replace(time=later)).shape[0] == 3
    assert store.event_count == 3


def test_amounts_add_up_without_rounding() -> None:
    window = Window(DAY_NS)
    features = (
        Feature("sum", Measure.SUM, "party", window),
        Feature("z", Measure.ZSCORE, "party", window),
    )
    wanted = FeatureSet(("party",), features, events_max=1 << 10)
    store = FeatureStore(wanted)
    largest = wanted.amount_max
    amounts = [largest, 1, largest - 1, 3] * 200
    party = np.ones(len(amounts), np.uint64)
    matrix = store.observe(make_events(np.full(len(amounts), DAY_NS), amounts, [party]))
    assert matrix[-1, 0] == float(sum(amounts[:-1]))
    last = store.read(make_events([DAY_NS], [largest], [party[:1]]))
    assert last[0, 1] == pytest.approx(1.0, abs=1e-12)
    store.advance(2 * DAY_NS)
    cell = store._w.cells[0]
    assert (cell["sum"], cell["squares_hi"], cell["squares_lo"], cell["count"]) == (0, 0, 0, 0)


WINDOW = Window(5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Window(0), "longer than 0"),
        (lambda: Feature("f", Measure.COUNT, "party"), "a subject and a window"),
        (lambda: Feature("f", Measure.AMOUNT, "party"), "neither subject nor window"),
        (lambda: Feature("f", Measure.SECONDS_SINCE_LAST), "a subject and no window"),
        (lambda: Feature("f", Measure.MAX, "party", LATE), "not kept for delayed windows"),
        (lambda: Feature("f", Measure.ZSCORE, "party", WINDOW, with_this=True), "earlier events only"),
        (lambda: Feature("f", Measure.COUNT, "party", LATE, with_this=True), "earlier events only"),
        (lambda: FeatureSet((), ()), "different subjects"),
        (lambda: FeatureSet(("a", "a"), ()), "different subjects"),
        (lambda: FeatureSet(("a",), ()), "one of them has a window"),
        (lambda: FeatureSet(("a",), (Feature("f", Measure.COUNT, "b", WINDOW),)), "no such subject: b"),
        (lambda: FeatureSet(("a",), (Feature("f", Measure.DISTINCT, "a", WINDOW),)), "whom a meets"),
        (lambda: everything(events_max=0), "events_max"),
        (lambda: everything(label_delay_ns=-1), "label_delay_ns"),
    ],
)
def test_features_that_make_no_sense_are_refused(make: object, says: str) -> None:
    with pytest.raises(FeatureError, match=says):
        make()  # type: ignore[operator]  # each is a function without arguments


def test_events_that_make_no_sense_are_refused_and_change_nothing() -> None:
    store = FeatureStore(WANTED)
    store.add(columns([Event(100, 5, (1, 2, 3))]))
    good = [Event(100, 5, (1, 2, 3)), Event(101, 5, (1, 2, 3))]
    for bad, says in [
        (columns(good[::-1]), "order of time"),
        (columns([Event(99, 5, (1, 2, 3))]), "order of time"),
        (columns([Event(100, -5, (1, 2, 3))]), "0 or more"),
        (columns([Event(100, WANTED.amount_max + 1, (1, 2, 3))]), "at most"),
        (columns([Event(100, 1, (1, 2))], subjects=2), "other shapes"),
    ]:
        with pytest.raises(FeatureError, match=says):
            store.observe(bad)
    assert store.next_number == 1
    assert store.observe(columns([])).shape == (0, len(WANTED.features))
