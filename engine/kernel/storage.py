"""Where the arrays of a ledger come from, how they grow, and how they go into a snapshot and come back."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine.kernel import shapes, upkeep
from engine.kernel.shapes import (
    BLOCK,
    GENERATIONS,
    HOLD,
    LEG_ROW,
    LOOKAHEAD_RING,
    SIDE_ROW,
    STATE_SCALARS,
    Books,
)
from engine.layout import ACCOUNT, AMOUNT_MAX
from engine.rows import copied, put

STRAYS_PER_GENERATION: Final = 1 << 14
"""Ids from the future that a generation keeps apart; more of them raise its watermark."""

State = dict[str, npt.NDArray[Any] | int]


def slots_for(rows: int) -> int:
    """The size of an index for so many rows: a power of two, at most two thirds full."""
    return 1 << max(3, (rows * 3 // 2).bit_length())


def make_books(
    ids_per_generation: int, generations: int, turn: int, accounts: int, holds: int, seed: int
) -> Books:
    """Empty books. What is not touched takes no memory."""
    rows = ids_per_generation + turn
    slots = slots_for(rows)
    scalars = np.zeros(GENERATIONS + generations * BLOCK, np.int64)
    scalars[shapes.GENERATION] = -1
    scalars[shapes.WATERMARK] = -1
    scalars[shapes.NEXT_EXPIRY] = AMOUNT_MAX
    scalars[shapes.SEED] = np.uint64(seed & 0xFFFFFFFFFFFFFFFF).astype(np.int64)
    scalars[shapes.RING] = generations
    scalars[shapes.ROW_CAPACITY] = rows
    scalars[shapes.SLOT_COUNT] = slots
    scalars[shapes.STRAY_CAPACITY] = STRAYS_PER_GENERATION
    books = Books(
        scalars=scalars,
        accounts=np.empty(accounts, ACCOUNT),
        account_slots=np.zeros(slots_for(accounts), np.uint64),
        holds=np.empty(holds, HOLD),
        expiries=np.empty(holds, np.int64),
        hold_slots=np.zeros(slots_for(holds), np.uint64),
        rows=np.empty(generations * rows, LEG_ROW),
        sides=np.empty(generations * rows, SIDE_ROW),
        row_slots=np.zeros(generations * slots, np.uint64),
        strays=np.empty((generations * STRAYS_PER_GENERATION, 2), np.uint64),
        saved=scalars.copy(),
        digests=np.zeros(4 * LOOKAHEAD_RING, np.uint64),
        hints=np.zeros(2 * LOOKAHEAD_RING, np.int64),
        seen=np.zeros(1, HOLD),
    )
    upkeep.begin_generation(books)
    return books


def _grown(array: npt.NDArray[np.void], used: int, needed: int) -> npt.NDArray[np.void]:
    capacity = len(array)
    while capacity < needed:
        capacity *= 2
    larger = np.empty(capacity, array.dtype)
    put(array[:used], into=larger)
    return larger


def reserve_accounts(books: Books, more: int) -> Books:
    """Makes room for so many more accounts."""
    used = int(books.scalars[shapes.ACCOUNT_COUNT])
    if used + more <= len(books.accounts):
        return books
    accounts = _grown(books.accounts, used, used + more)
    slots = np.zeros(slots_for(len(accounts)), np.uint64)
    books = books._replace(accounts=accounts, account_slots=slots)
    upkeep.index_accounts(books)
    return books


def reserve_holds(books: Books, more: int) -> Books:
    """Makes room for so many more holds."""
    used = int(books.scalars[shapes.HOLD_COUNT])
    if used + more <= len(books.holds):
        return books
    holds = _grown(books.holds, used, used + more)
    slots = np.zeros(slots_for(len(holds)), np.uint64)
    books = books._replace(holds=holds, expiries=np.empty(len(holds), np.int64), hold_slots=slots)
    upkeep.index_holds(books)
    return books


def block_of(books: Books, generation: int) -> npt.NDArray[np.int64]:
    """The scalars of a generation."""
    start = GENERATIONS + generation % int(books.scalars[shapes.RING]) * BLOCK
    return books.scalars[start : start + BLOCK]


def _spans(books: Books, generation: int) -> dict[str, npt.NDArray[Any]]:
    """Where in the arrays a generation's used rows, side rows and strays are."""
    place = generation % int(books.scalars[shapes.RING])
    block = block_of(books, generation)
    first = place * int(books.scalars[shapes.ROW_CAPACITY])
    stray = place * STRAYS_PER_GENERATION
    return {
        "rows": books.rows[first : first + block[shapes.ROWS]],
        "sides": books.sides[first : first + block[shapes.SIDES]],
        "strays": books.strays[stray : stray + block[shapes.STRAYS]],
    }


def strays_of(books: Books, generation: int) -> npt.NDArray[np.uint64]:
    """The stray ids of a generation."""
    return _spans(books, generation)["strays"]


def save(books: Books) -> State:
    """Copies of all that makes up the state, without what is unused or follows from it."""
    s = books.scalars
    state: State = {name: int(s[place]) for place, name in enumerate(STATE_SCALARS)}
    state["accounts"] = copied(books.accounts[: s[shapes.ACCOUNT_COUNT]])
    state["holds"] = copied(books.holds[: s[shapes.HOLD_COUNT]])
    for generation in range(int(s[shapes.DROPPED]), int(s[shapes.GENERATION]) + 1):
        state[f"generation.{generation}"] = block_of(books, generation).copy()
        for name, span in _spans(books, generation).items():
            state[f"{name}.{generation}"] = copied(span) if span.dtype.names else span.copy()
    return state


def load(books: Books, state: State) -> Books:
    """Fills empty books with a saved state. ValueError if its generations are larger or more than fit."""
    s = books.scalars
    generation, dropped = int(state["generation"]), int(state["dropped"])
    if generation - dropped >= int(s[shapes.RING]):
        raise ValueError(
            f"the state has {generation - dropped + 1} generations, there is room for {s[shapes.RING]}"
        )
    books = reserve_accounts(books, int(state["account_count"]))
    books = reserve_holds(books, int(state["hold_count"]))
    for place, name in enumerate(STATE_SCALARS):
        s[place] = state[name]
    books.accounts[: s[shapes.ACCOUNT_COUNT]] = state["accounts"]
    books.holds[: s[shapes.HOLD_COUNT]] = state["holds"]
    upkeep.index_accounts(books)
    upkeep.index_holds(books)
    for number in range(dropped, generation + 1):
        block = np.asarray(state[f"generation.{number}"])
        if block[shapes.ROWS] > s[shapes.ROW_CAPACITY]:
            rows, room = block[shapes.ROWS], s[shapes.ROW_CAPACITY]
            raise ValueError(f"generation {number} has {rows} rows, there is room for {room}")
        block_of(books, number)[:] = block
        for name, span in _spans(books, number).items():
            span[:] = state[f"{name}.{number}"]
        upkeep.index_rows(books, number % int(s[shapes.RING]))
    return books
