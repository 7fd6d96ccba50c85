"""Features as a reader would compute them by hand: the whole history, event by event."""

import math
from typing import NamedTuple

from engine.features.definition import DAY_NS, HOUR_NS, Feature, FeatureSet, Measure
from engine.layout import SECOND_NS


class Event(NamedTuple):
    """One event, its subjects in the order of the feature set; 0 = none."""

    time: int
    amount: int
    subjects: tuple[int, ...]
    opened: int = 0
    fraud: bool = False


class SlowFeatures:
    """Keeps everything for ever."""

    def __init__(self, wanted: FeatureSet) -> None:
        self.wanted = wanted
        self.events: list[Event] = []
        self.frauds: set[int] = set()
        self.disputes: set[int] = set()

    def row(self, event: Event) -> list[float]:
        """The features of an event that would come next."""
        return [self._value(feature, event) for feature in self.wanted.features]

    def _value(self, feature: Feature, event: Event) -> float:
        match feature.measure:
            case Measure.AMOUNT:
                return event.amount
            case Measure.NIGHT:
                return float(event.time // HOUR_NS % 24 < 7)
            case Measure.WEEKEND:
                return float((event.time // DAY_NS + 4) % 7 in (6, 0))
            case Measure.AGE_DAYS:
                return (event.time - event.opened) / DAY_NS if event.opened else 0.0
        kind = self.wanted.subjects.index(feature.subject)
        own = event.subjects[kind]
        of_subject = [n for n, e in enumerate(self.events) if own and e.subjects[kind] == own]
        if feature.measure is Measure.SECONDS_SINCE_LAST:
            times = [self.events[n].time for n in of_subject]
            reach = self.wanted.reach_ns
            return (min(event.time - times[-1], reach) if times else reach) / SECOND_NS
        window = feature.window
        assert window is not None
        inside = [n for n in of_subject if self._is_inside(n, event.time, window.length_ns, window.delay_ns)]
        events = [self.events[n] for n in inside] + ([event] if feature.with_this else [])
        amounts = [e.amount for e in events]
        match feature.measure:
            case Measure.COUNT:
                return len(events)
            case Measure.SUM:
                return sum(amounts)
            case Measure.MEAN:
                return sum(amounts) / len(amounts) if amounts else 0.0
            case Measure.MAX:
                return max(amounts, default=0)
            case Measure.DISTINCT:
                other = self.wanted.subjects.index(self.wanted.partners[feature.subject])
                return len({e.subjects[other] for e in events} - {0})
            case Measure.FRAUDS:
                return sum(self._is_known_fraud(n, event.time) for n in inside)
            case Measure.FRAUD_SHARE:
                frauds = sum(self._is_known_fraud(n, event.time) for n in inside)
                return frauds / len(inside) if inside else 0.0
            case Measure.DISPUTES:
                return sum(n in self.disputes for n in inside)
            case _:
                return _zscore(amounts, event.amount)

    def _is_inside(self, number: int, now: int, length: int, delay: int) -> bool:
        time = self.events[number].time
        return now - delay - length < time <= now - delay

    def _is_known_fraud(self, number: int, now: int) -> bool:
        event = self.events[number]
        return number in self.frauds or (event.fraud and event.time <= now - self.wanted.label_delay_ns)


def _zscore(amounts: list[int], amount: int) -> float:
    if len(set(amounts)) < 2:
        return 0.0
    mean = sum(amounts) / len(amounts)
    deviation = math.sqrt(sum((a - mean) ** 2 for a in amounts) / len(amounts))
    return (amount - mean) / deviation
