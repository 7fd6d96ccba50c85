"""The feature store: exact features of events over sliding windows, in memory that the windows bound."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.features import observing
from engine.features.definition import FeatureError, FeatureSet
from engine.features.state import (
    DISPUTED,
    EVENT_CAPACITY,
    FRAUD,
    HEAD,
    NOW,
    PAIR_COUNT,
    SUBJECT_COUNT,
    TAIL,
    Events,
    columns_of,
    make_windows,
    with_more_events,
    with_more_subjects,
)

EVENTS_AT_FIRST: Final = 1 << 10
SUBJECTS_AT_FIRST: Final = 1 << 8
Matrix = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]


class FeaturesFull(FeatureError):  # noqa: N818  # a state, told to whoever observes
    """The longest window holds more events than the store may. Those before `number` were taken in."""

    def __init__(self, events_max: int, number: int) -> None:
        super().__init__(events_max, number)
        self.events_max = events_max
        self.number = number

    def __str__(self) -> str:
        return f"the windows hold {self.events_max:,} events, all that events_max allows, at {self.number:,}"


class FeatureStore:
    """Events come in by `observe` in order of time, labels by `report_fraud` and `report_dispute`.

    Nothing else changes the store, and the same calls give the same features whatever the room it began with.
    Its memory grows with the events that are younger than the longest window reaches, never above
    `events_max`: then it takes no more, and says so, rather than to let windows become inexact.
    """

    def __init__(self, wanted: FeatureSet, hash_seed: int = 0) -> None:
        self.wanted = wanted
        self._columns = _read_only(columns_of(wanted))
        self._no_columns = _read_only(self._columns[:0])
        self._w = make_windows(wanted, EVENTS_AT_FIRST, SUBJECTS_AT_FIRST, hash_seed)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of a matrix's columns."""
        return self.wanted.names

    @property
    def now_ns(self) -> int:
        """The store's time: that of the last event or look at it."""
        return int(self._w.scalars[NOW])

    @property
    def first_number(self) -> int:
        """The number of the oldest event that is held."""
        return int(self._w.scalars[TAIL])

    @property
    def next_number(self) -> int:
        """The number that the next event gets; the first ever was 0."""
        return int(self._w.scalars[HEAD])

    @property
    def event_count(self) -> int:
        """How many events are held: all that a window still needs, or will need."""
        return self.next_number - self.first_number

    @property
    def subject_count(self) -> int:
        """How many subjects these have."""
        return int(self._w.scalars[SUBJECT_COUNT])

    @property
    def pair_count(self) -> int:
        """How many different pairs of a subject and its partner."""
        return int(self._w.scalars[PAIR_COUNT])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._w)

    def observe(self, events: Events) -> Matrix:
        """Takes in events and returns their features, each as just before it came: a row an event.

        FeatureError if they are not in order of time, or not of the declared form: then nothing was taken in.
        """
        events = self._checked(events)
        matrix = np.empty((len(events.time), len(self._columns)))
        self._take_in(events, self._columns, matrix)
        return matrix

    def add(self, events: Events) -> None:
        """Takes in events, like `observe`, without reading their features."""
        events = self._checked(events)
        self._take_in(events, self._no_columns, np.empty((0, 0)))

    def read(self, events: Events) -> Matrix:
        """The features that each of these events would have if it came next; none is taken in."""
        events = self._checked(events)
        matrix = np.empty((len(events.time), len(self._columns)))
        observing.read(self._w, self._columns, events, matrix)
        return matrix

    def advance(self, now_ns: int) -> None:
        """Moves time on without an event, so that windows let go what is too old for them."""
        observing.move_on(self._w, now_ns)

    def report_fraud(self, numbers: Int64s) -> None:
        """These events are known, from now on, to be frauds. What is not held any more changes nothing."""
        observing.mark_events(self._w, _read_only(numbers), FRAUD)

    def report_dispute(self, numbers: Int64s) -> None:
        """These events are disputed from now on."""
        observing.mark_events(self._w, _read_only(numbers), DISPUTED)

    def _take_in(self, events: Events, columns: Int64s, matrix: Matrix) -> None:
        count, done = len(events.time), 0
        while True:
            done = observing.observe(self._w, columns, events, done, matrix)
            if done == count:
                return
            self._make_room()

    def _make_room(self) -> None:
        w = self._w
        if self.event_count == self.wanted.events_max:
            raise FeaturesFull(self.event_count, self.next_number)
        if self.event_count == w.scalars[EVENT_CAPACITY]:
            self._w = with_more_events(w)
            observing.index_pairs(self._w)
        else:
            self._w = with_more_subjects(w)
            observing.index_subjects(self._w)

    def _checked(self, events: Events) -> Events:
        """The events as the kernel takes them."""
        n = len(events.time)
        shapes = tuple(column.shape for column in events)
        if shapes != ((n,), (n,), (n, len(self.wanted.subjects), 2), (n,), (n,)):
            raise FeatureError(
                f"events of {len(self.wanted.subjects)} subjects have other shapes than {shapes}"
            )
        if n and (events.time[0] < self.now_ns or (np.diff(events.time) < 0).any()):
            raise FeatureError(f"events come in order of time, and not before {self.now_ns} ns")
        if n and events.amount.min() < 0:
            raise FeatureError("amounts are 0 or more")
        if n and int(events.amount.max()) > self.wanted.amount_max:
            raise FeatureError(f"amounts are at most {self.wanted.amount_max:,}, so that sums fit 64 bits")
        return Events(
            time=_read_only(events.time),
            amount=_read_only(events.amount),
            subjects=_read_only(events.subjects),
            opened=_read_only(events.opened),
            fraud=_read_only(events.fraud),
        )


def _read_only(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view of a C-contiguous array, as the kernel declares its input."""
    view = np.ascontiguousarray(column)[:]
    view.flags.writeable = False
    return view


def make_events(
    time_ns: npt.ArrayLike,
    amount: npt.ArrayLike,
    subjects: list[npt.NDArray[np.uint64]],
    opened_ns: npt.ArrayLike | None = None,
    fraud: npt.ArrayLike | None = None,
) -> Events:
    """Events from columns. A subject's ids are an array of n (small ids) or of (n, 2) halves; 0 = none."""
    time = np.ascontiguousarray(time_ns, np.int64)
    halves = np.zeros((len(time), len(subjects), 2), np.uint64)
    for kind, ids in enumerate(subjects):
        halves[:, kind, 1 if ids.ndim == 1 else slice(None)] = ids
    return Events(
        time=time,
        amount=np.ascontiguousarray(amount, np.int64),
        subjects=halves,
        opened=np.zeros(len(time), np.int64)
        if opened_ns is None
        else np.ascontiguousarray(opened_ns, np.int64),
        fraud=np.zeros(len(time), np.uint8) if fraud is None else np.ascontiguousarray(fraud, np.uint8),
    )
