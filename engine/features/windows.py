"""Events come into windows, go out of them, and are forgotten when the last window has let them go."""

from typing import Any, Final

import numpy as np

from engine.features.pairs import forget_pair, newest_of_pair, stand_for_pair
from engine.features.state import (
    DISPUTED,
    EVENT_CAPACITY,
    EXPECTED,
    FRAUD,
    HEAD,
    LABEL_DELAY,
    LABELLED,
    NOBODY,
    NOW,
    TAIL,
)
from engine.features.subjects import give_row_back, row_of, take_row
from engine.kernel.compiled import part, seldom

_32: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFFFFFF)


@part
def _square(amount: Any) -> Any:
    """The halves of an amount's square, 128 bits."""
    a = np.uint64(amount)
    high, low = a >> _32, a & _LOW
    cross = high * low
    middle = (cross & np.uint64(0x7FFFFFFF)) << np.uint64(33)
    square_lo = low * low + middle
    carry = np.uint64(1) if square_lo < middle else np.uint64(0)
    return high * high + (cross >> np.uint64(31)) + carry, square_lo


@part
def _enter(w: Any, span: Any, event: Any) -> None:
    """An event comes into a window."""
    place = event & (w.scalars[EVENT_CAPACITY] - 1)
    amount, marks = w.amount[place], w.marks[place]
    square_hi, square_lo = _square(amount)
    for kind in range(w.found.size):
        row = w.members[place, kind]
        if row < 0 or w.uses[kind, span] == 0:
            continue
        cell = w.cells[row * w.delay.size + span]
        cell.count += 1
        cell.sum += amount
        total = cell.squares_lo + square_lo
        cell.squares_hi += square_hi + (np.uint64(1) if total < square_lo else np.uint64(0))
        cell.squares_lo = total
        cell.frauds += marks & FRAUD
        cell.disputes += (marks & DISPUTED) // DISPUTED


@part
def _leave(w: Any, span: Any, event: Any) -> None:
    """An event, the oldest of a window, goes out of it."""
    place = event & (w.scalars[EVENT_CAPACITY] - 1)
    amount, marks = w.amount[place], w.marks[place]
    square_hi, square_lo = _square(amount)
    for kind in range(w.found.size):
        row = w.members[place, kind]
        if row < 0 or w.uses[kind, span] == 0:
            continue
        cell = w.cells[row * w.delay.size + span]
        cell.count -= 1
        cell.sum -= amount
        cell.squares_hi -= square_hi + (np.uint64(1) if cell.squares_lo < square_lo else np.uint64(0))
        cell.squares_lo -= square_lo
        cell.frauds -= marks & FRAUD
        cell.disputes -= (marks & DISPUTED) // DISPUTED
        if w.delay[span] == 0:
            if cell.front == event:
                step = w.newer[place, kind]
                cell.front = event + step if step > 0 else np.int64(-1)
            if w.partner[kind] >= 0 and (w.superseded[place] >> kind) & 1 == 0:
                cell.distinct -= 1


@part
def mark(w: Any, event: Any, label: Any) -> None:
    """An event of the ring turns out to be a fraud, or is disputed; a second time changes nothing."""
    place = event & (w.scalars[EVENT_CAPACITY] - 1)
    if w.marks[place] & label != 0:
        return
    w.marks[place] |= np.uint8(label)
    for span in range(w.delay.size):
        if not w.left[span] <= event < w.entered[span]:
            continue
        for kind in range(w.found.size):
            row = w.members[place, kind]
            if row < 0 or w.uses[kind, span] == 0:
                continue
            if label == FRAUD:
                w.cells[row * w.delay.size + span].frauds += 1
            else:
                w.cells[row * w.delay.size + span].disputes += 1


@seldom
def _forget(w: Any, event: Any) -> None:
    """The ring lets an event go; a subject without others loses its row."""
    place = event & (w.scalars[EVENT_CAPACITY] - 1)
    for kind in range(w.found.size):
        row = w.members[place, kind]
        if row >= 0 and w.partner[kind] >= 0 and (w.superseded[place] >> kind) & 1 == 0:
            forget_pair(w, kind, event)
    for kind in range(w.found.size):
        row = w.members[place, kind]
        if row >= 0:
            w.subjects[row].events -= 1
            if w.subjects[row].events == 0:
                give_row_back(w, kind, np.int64(row))


@part
def advance(w: Any, now: Any) -> None:
    """Moves the store's time on."""
    s = w.scalars
    if now <= s[NOW]:
        return
    s[NOW] = now
    ring, head = s[EVENT_CAPACITY] - 1, s[HEAD]
    event = max(s[LABELLED], s[TAIL])
    while event < head and w.time[event & ring] <= now - s[LABEL_DELAY]:
        if w.marks[event & ring] & EXPECTED:
            mark(w, event, FRAUD)
        event += 1
    s[LABELLED] = event
    oldest = head
    for span in range(w.delay.size):
        if w.delay[span] > 0:
            event = w.entered[span]
            while event < head and w.time[event & ring] <= now - w.delay[span]:
                _enter(w, span, event)
                event += 1
            w.entered[span] = event
        event = w.left[span]
        while event < head and w.time[event & ring] <= now - w.reach[span]:
            _leave(w, span, event)
            event += 1
        w.left[span] = event
        oldest = min(oldest, event)
    event = s[TAIL]
    while event < oldest:
        _forget(w, event)
        event += 1
    s[TAIL] = event


@part
def locate(w: Any, subjects: Any, i: Any) -> None:
    """Finds the rows of an event that is not in the ring, and what stands for its pairs so far."""
    for kind in range(w.found.size):
        hi, lo = subjects[i, kind, 0], subjects[i, kind, 1]
        w.found[kind] = row_of(w, kind, hi, lo) if (hi | lo) != np.uint64(0) else np.int64(-1)
    for kind in range(w.found.size):
        other = w.partner[kind]
        w.met[kind] = -1
        if other >= 0 and (subjects[i, other, 0] | subjects[i, other, 1]) == np.uint64(0):
            w.met[kind] = NOBODY
        elif other >= 0 and w.found[kind] >= 0 and w.found[other] >= 0:
            w.met[kind] = newest_of_pair(w, kind, w.found[kind], w.found[other])


@part
def add(w: Any, events: Any, i: Any) -> None:
    """Takes in an event that was located; there is room, and it is the store's time."""
    s = w.scalars
    event = s[HEAD]
    place = event & (s[EVENT_CAPACITY] - 1)
    w.time[place] = events.time[i]
    w.amount[place] = events.amount[i]
    w.marks[place] = EXPECTED if events.fraud[i] else 0
    w.superseded[place] = 0
    for kind in range(w.found.size):
        hi, lo = events.subjects[i, kind, 0], events.subjects[i, kind, 1]
        if w.found[kind] < 0 and (hi | lo) != np.uint64(0):
            w.found[kind] = take_row(w, kind, hi, lo)
        w.members[place, kind] = np.int32(w.found[kind])
        w.newer[place, kind] = 0
        w.older[place, kind] = 0
    s[HEAD] = event + 1
    for kind in range(w.found.size):
        row = w.found[kind]
        if row < 0:
            continue
        subject = w.subjects[row]
        subject.last = events.time[i]
        subject.events += 1
        if w.ranks[kind]:
            _descend(w, kind, subject, event)
        if w.partner[kind] >= 0:
            _meet(w, kind, row, event)
    for span in range(w.delay.size):
        if w.delay[span] == 0:
            _enter(w, span, event)
            w.entered[span] = event + 1
            _take_the_lead(w, span, event)


@part
def _descend(w: Any, kind: Any, subject: Any, event: Any) -> None:
    """Ends the descent of events that are no larger, and puts the new one behind those that are."""
    s = w.scalars
    ring = s[EVENT_CAPACITY] - 1
    amount = w.amount[event & ring]
    above = subject.descent
    while above >= s[TAIL] and w.amount[above & ring] <= amount:
        step = w.older[above & ring, kind]
        above = above - step if step > 0 else np.int64(-1)
    if above >= s[TAIL]:
        w.newer[above & ring, kind] = np.int32(event - above)
        w.older[event & ring, kind] = np.int32(event - above)
    subject.descent = event


@part
def _take_the_lead(w: Any, span: Any, event: Any) -> None:
    """An event becomes the front of those windows where it is at least as large as the one there."""
    ring = w.scalars[EVENT_CAPACITY] - 1
    for kind in range(w.found.size):
        row = w.found[kind]
        if row < 0 or w.ranks[kind] == 0 or w.uses[kind, span] == 0:
            continue
        cell = w.cells[row * w.delay.size + span]
        if cell.front < 0 or w.amount[cell.front & ring] <= w.amount[event & ring]:
            cell.front = event


@part
def _meet(w: Any, kind: Any, row: Any, event: Any) -> None:
    """An event stands for its pair, which is new to the windows that the one before has left."""
    ring = w.scalars[EVENT_CAPACITY] - 1
    if w.met[kind] == NOBODY:
        w.superseded[event & ring] |= np.uint8(1 << kind)
        return
    before = w.met[kind]
    stand_for_pair(w, kind, event, before)
    if before >= 0:
        w.superseded[before & ring] |= np.uint8(1 << kind)
    for span in range(w.delay.size):
        if w.delay[span] == 0 and w.uses[kind, span] and before < w.left[span]:
            w.cells[row * w.delay.size + span].distinct += 1
