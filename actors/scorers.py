"""Scores by models, which may be late, wrong or dead: then what was declared before counts, and is marked so.

A model is anything with `predict_proba` or `predict` over a matrix of features. It runs in a thread of its
own, one batch at a time, and is waited for until a deadline. Whatever it does, every row gets an answer.
"""

import asyncio
import queue
import threading
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from engine.scoring.rules import Outcome

Floats = npt.NDArray[np.float64]


@runtime_checkable
class ProbabilityModel(Protocol):
    """A model that says how probable each class is: the last column is that of frauds."""

    def predict_proba(self, matrix: Any, /) -> Any:
        """One row for each row of the matrix."""


@runtime_checkable
class ScoreModel(Protocol):
    """A model that says one number for each row."""

    def predict(self, matrix: Any, /) -> Any:
        """One number for each row of the matrix."""


class Standing(IntEnum):
    """Whether scores are the model's own, or why they are not; never reused."""

    SCORED = 0
    LATE = 1  # it did not answer within the deadline
    BUSY = 2  # it is still at a batch that it was late with
    FAILED = 3  # it raised an error
    NONSENSE = 4  # its answer has another shape, or holds what is no number


class Scored(NamedTuple):
    """What is known of a batch: arrays of one length."""

    outcome: npt.NDArray[np.uint8]  # Outcome
    score: Floats  # NaN unless it is the model's own
    standing: Standing
    detail: str  # what was wrong; empty if nothing was


class ModelTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a score means review or denial, how long it may take, and what counts without one."""

    review_at: float
    deny_at: float
    deadline_s: float
    otherwise: Outcome  # ALLOW is open, DENY is closed

    def __post_init__(self) -> None:
        if not self.review_at <= self.deny_at or not self.deadline_s > 0:
            raise ValueError("review_at is at most deny_at, and the deadline is above 0")


class _Call:
    """A batch on its way to the model's thread, and its answer."""

    def __init__(self, matrix: Floats) -> None:
        self.matrix = matrix
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Any] = self.loop.create_future()

    def deliver(self, result: Any, error: BaseException | None) -> None:
        """Hands the answer to whoever waits, if anybody still does."""
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)
        else:
            self.answer.set_exception(error)


class ModelScorer:
    """One model under its terms. Use it in one event loop; end it with `close`.

    A model that hangs keeps its thread, and batches get `BUSY` at once until it comes back.
    """

    def __init__(self, model: ProbabilityModel | ScoreModel, terms: ModelTerms) -> None:
        self.terms = terms
        if isinstance(model, ProbabilityModel):
            self._call = model.predict_proba
        elif isinstance(model, ScoreModel):
            self._call = model.predict
        else:
            raise TypeError(f"{type(model).__name__} has neither predict_proba nor predict")
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        threading.Thread(target=self._work, name="scorer", daemon=True).start()

    async def score(self, matrix: Floats) -> Scored:
        """Scores each row. Never raises for what the model does."""
        if not self._idle.is_set():
            return self._otherwise(len(matrix), Standing.BUSY, "it is still at an earlier batch")
        self._idle.clear()
        given = matrix.view()
        given.flags.writeable = False
        call = _Call(given)
        self._calls.put(call)
        try:
            async with asyncio.timeout(self.terms.deadline_s):
                answer = await call.answer
        except TimeoutError:
            detail = f"no answer within {self.terms.deadline_s:g} s"
            return self._otherwise(len(matrix), Standing.LATE, detail)
        except Exception as error:  # whatever a model raises, its default counts
            return self._otherwise(len(matrix), Standing.FAILED, f"{type(error).__name__}: {error}")
        return self._judged(answer, len(matrix))

    def close(self) -> None:
        """Lets the thread end after its batch."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            result: Any = None
            failure: BaseException | None = None
            try:
                result = self._call(call.matrix)
            except Exception as error:  # handed to whoever waits
                failure = error
            self._idle.set()
            _deliver(call, result, failure)

    def _judged(self, answer: Any, count: int) -> Scored:
        score = _scores(answer, count)
        if score is None:
            shape = getattr(answer, "shape", None) or type(answer).__name__
            return self._otherwise(count, Standing.NONSENSE, f"its answer for {count} rows is {shape}")
        if not np.isfinite(score).all():
            return self._otherwise(count, Standing.NONSENSE, "its answer holds what is no number")
        outcome = np.full(count, Outcome.ALLOW, np.uint8)
        outcome[score >= self.terms.review_at] = Outcome.REVIEW
        outcome[score >= self.terms.deny_at] = Outcome.DENY
        return Scored(outcome, score, Standing.SCORED, "")

    def _otherwise(self, count: int, standing: Standing, detail: str) -> Scored:
        outcome = np.full(count, self.terms.otherwise, np.uint8)
        return Scored(outcome, np.full(count, np.nan), standing, detail)


def _deliver(call: _Call, result: Any, failure: BaseException | None) -> None:
    try:
        call.loop.call_soon_threadsafe(call.deliver, result, failure)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return


def _scores(answer: Any, count: int) -> Floats | None:
    """One number for each row, None if the answer is nothing of the kind."""
    try:
        scores = np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        return None
    if scores.ndim == 2 and scores.shape[1] >= 1:
        scores = scores[:, -1]
    return scores if scores.shape == (count,) else None
