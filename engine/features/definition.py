"""What is asked of a feature store: subjects, windows, measures. Data, checked when it is made.

A window holds the events of an age from `delay_ns` up to, and without, `delay_ns + length_ns`. At time t
these are the times in (t − delay − length, t − delay]: the start is exclusive, the end inclusive. Among
events of the same time those that came earlier count. An event is never in its own window, unless a feature
says `with_this`.
"""

from enum import IntEnum
from typing import Final

import msgspec

from engine.layout import AMOUNT_MAX, SECOND_NS

MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS
SUBJECTS_MAX: Final = 8
"""How many subjects an event may have: each has a bit in a byte of the event."""
EVENTS_LIMIT: Final = 1 << 30
"""The largest `events_max`: rows are 32 bits wide."""
NIGHT_UNTIL_HOUR: Final = 7
"""Night is from midnight, UTC, until this hour."""


class Measure(IntEnum):
    """What a feature measures. Plain numbers, because the kernel compares them; never reused."""

    COUNT = 1  # of events
    SUM = 2  # of amounts, minor units
    MEAN = 3  # of amounts, minor units; 0 without events
    MAX = 4  # greatest amount, minor units; 0 without events
    DISTINCT = 5  # partners that the subject had
    FRAUDS = 6  # events that are known by now to be frauds
    FRAUD_SHARE = 7  # of the events; 0 without events
    DISPUTES = 8  # events that are disputed by now
    ZSCORE = 9  # how many standard deviations the amount is above the mean; 0 with nothing to compare it to
    SECONDS_SINCE_LAST = 10  # of the subject; at most as long as the longest window reaches
    AMOUNT = 11  # of the event, minor units
    NIGHT = 12  # 1 from midnight until NIGHT_UNTIL_HOUR, UTC
    WEEKEND = 13  # 1 on Saturdays and Sundays, UTC
    AGE_DAYS = 14  # since the account was opened; 0 if that is not known


OF_WINDOW: Final = frozenset(
    {
        Measure.COUNT,
        Measure.SUM,
        Measure.MEAN,
        Measure.MAX,
        Measure.DISTINCT,
        Measure.FRAUDS,
        Measure.FRAUD_SHARE,
        Measure.DISPUTES,
        Measure.ZSCORE,
    }
)
OF_SUBJECT: Final = OF_WINDOW | {Measure.SECONDS_SINCE_LAST}
NEVER_DELAYED: Final = frozenset({Measure.MAX, Measure.DISTINCT})
OF_EARLIER_EVENTS: Final = frozenset({Measure.ZSCORE, Measure.FRAUDS, Measure.FRAUD_SHARE, Measure.DISPUTES})


class FeatureError(ValueError):
    """A set of features that cannot be computed, or events that cannot be observed."""


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ages of events: from `delay_ns` on, for `length_ns`."""

    length_ns: int
    delay_ns: int = 0

    def __post_init__(self) -> None:
        if self.length_ns <= 0 or self.delay_ns < 0:
            raise FeatureError(f"a window is longer than 0 and not of the future, this one is {self}")

    @property
    def reach_ns(self) -> int:
        """The age from which on an event is no longer needed."""
        return self.length_ns + self.delay_ns


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number about an event. `subject` and `window` are what its measure needs, and nothing else."""

    name: str
    measure: Measure
    subject: str = ""
    window: Window | None = None
    with_this: bool = False  # the event itself counts too, as the newest of its windows

    def __post_init__(self) -> None:
        measure = self.measure
        if (measure in OF_SUBJECT) != bool(self.subject) or (measure in OF_WINDOW) != bool(self.window):
            raise FeatureError(f"feature {self.name}: {measure.name} needs {_needs(measure)}")
        delayed = self.window is not None and self.window.delay_ns > 0
        if delayed and measure in NEVER_DELAYED:
            raise FeatureError(f"feature {self.name}: {measure.name} is not kept for delayed windows")
        if self.with_this and (delayed or measure not in OF_WINDOW - OF_EARLIER_EVENTS):
            raise FeatureError(f"feature {self.name}: {measure.name} is about earlier events only")


class FeatureSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All features of a store, in the order of their columns.

    All amounts must be of one asset: let a subject's id say which, if there are several. A fraud that is
    given with its event counts from `label_delay_ns` after the event on, as if it had been reported then.
    """

    subjects: tuple[str, ...]
    features: tuple[Feature, ...]
    partners: dict[str, str] = {}  # of a subject: which other one DISTINCT counts
    label_delay_ns: int = 0
    events_max: int = 1 << 24  # events that the store may hold: those of the longest window

    def __post_init__(self) -> None:
        if not 1 <= len(self.subjects) <= SUBJECTS_MAX or len(set(self.subjects)) < len(self.subjects):
            raise FeatureError(f"1 to {SUBJECTS_MAX} different subjects are needed, not {self.subjects}")
        if not 1 <= self.events_max <= EVENTS_LIMIT:
            raise FeatureError(f"events_max is 1 to {EVENTS_LIMIT}, not {self.events_max}")
        if self.label_delay_ns < 0:
            raise FeatureError(f"label_delay_ns is {self.label_delay_ns}: labels come after their events")
        named = {*(f.subject for f in self.features if f.subject), *self.partners, *self.partners.values()}
        if unknown := sorted(named - set(self.subjects)):
            raise FeatureError(
                f"no such subject: {', '.join(unknown)} (there are: {', '.join(self.subjects)})"
            )
        if len(set(self.names)) < len(self.features) or not self.windows:
            raise FeatureError("features have different names, and one of them has a window")
        for feature in self.features:
            partner = self.partners.get(feature.subject, feature.subject)
            if feature.measure is Measure.DISTINCT and partner == feature.subject:
                raise FeatureError(
                    f"feature {feature.name}: partners does not say whom {feature.subject} meets"
                )

    @property
    def amount_max(self) -> int:
        """The largest amount of an event: even the sum of so many fits 64 bits."""
        return AMOUNT_MAX // self.events_max

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(feature.name for feature in self.features)

    @property
    def windows(self) -> tuple[Window, ...]:
        """All windows, each once."""
        return tuple(dict.fromkeys(f.window for f in self.features if f.window is not None))

    @property
    def reach_ns(self) -> int:
        """The age from which on an event is forgotten."""
        return max(window.reach_ns for window in self.windows)


def _needs(measure: Measure) -> str:
    if measure in OF_WINDOW:
        return "a subject and a window"
    return "a subject and no window" if measure in OF_SUBJECT else "neither subject nor window"
