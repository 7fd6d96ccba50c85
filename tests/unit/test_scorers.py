"""Whatever a model does, every row gets an answer: the model's own, or the declared one and why."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from actors.scorers import ModelScorer, ModelTerms, Scored, Standing
from engine.scoring.rules import Outcome

TERMS = ModelTerms(review_at=0.5, deny_at=0.9, deadline_s=30.0, otherwise=Outcome.ALLOW)
SOON = ModelTerms(review_at=0.5, deny_at=0.9, deadline_s=0.02, otherwise=Outcome.DENY)
MATRIX = np.arange(12, dtype=np.float64).reshape(4, 3)


class Saying:
    """A model that does what it is given."""

    def __init__(self, predict: Callable[[Any], Any]) -> None:
        self.predict = predict


async def scored(predict: Callable[[Any], Any], terms: ModelTerms = TERMS) -> Scored:
    scorer = ModelScorer(Saying(predict), terms)
    try:
        return await scorer.score(MATRIX)
    finally:
        scorer.close()


async def test_scores_become_outcomes() -> None:
    result = await scored(lambda _: [0.1, 0.5, 0.89, 0.9])
    allow, review, deny = Outcome.ALLOW, Outcome.REVIEW, Outcome.DENY
    assert result.outcome.tolist() == [allow, review, review, deny]
    assert result.score.tolist() == [0.1, 0.5, 0.89, 0.9]
    assert (result.standing, result.detail) == (Standing.SCORED, "")


async def test_models_of_scikit_learn_say_the_probability_of_fraud() -> None:
    model = LogisticRegression().fit(MATRIX, [0, 0, 1, 1])
    scorer = ModelScorer(model, TERMS)
    result = await scorer.score(MATRIX)
    scorer.close()
    assert result.standing == Standing.SCORED
    assert result.score.tolist() == model.predict_proba(MATRIX)[:, 1].tolist()


@pytest.mark.parametrize(
    ("predict", "standing", "says"),
    [
        (lambda _: [0.1, float("nan"), 0.2, 0.3], Standing.NONSENSE, "no number"),
        (lambda _: [0.1, float("inf"), 0.2, 0.3], Standing.NONSENSE, "no number"),
        (lambda _: [0.1, 0.2], Standing.NONSENSE, "for 4 rows is list"),
        (lambda _: np.zeros((4, 2, 2)), Standing.NONSENSE, "(4, 2, 2)"),
        (lambda _: np.zeros((4, 0)), Standing.NONSENSE, "(4, 0)"),
        (lambda _: None, Standing.NONSENSE, "NoneType"),
        (lambda _: ["much"] * 4, Standing.NONSENSE, "list"),
        (lambda _: 1 // 0, Standing.FAILED, "ZeroDivisionError"),
        (lambda matrix: matrix.fill(0), Standing.FAILED, "read-only"),
    ],
)
async def test_what_a_model_gets_wrong_is_marked_and_the_default_counts(
    predict: Callable[[Any], Any], standing: Standing, says: str
) -> None:
    for otherwise in (Outcome.ALLOW, Outcome.DENY):
        terms = ModelTerms(review_at=0.5, deny_at=0.9, deadline_s=30.0, otherwise=otherwise)
        result = await scored(predict, terms)
        assert result.standing == standing
        assert says in result.detail
        assert result.outcome.tolist() == [otherwise] * 4
        assert np.isnan(result.score).all()
    assert MATRIX.sum() == 66


@pytest.fixture
def hanging() -> Iterator[tuple[Saying, threading.Event]]:
    """A model that hangs until it is let go."""
    go = threading.Event()

    def predict(matrix: Any) -> Any:
        assert go.wait(60)
        return np.zeros(len(matrix))

    yield Saying(predict), go
    go.set()


async def test_a_model_that_hangs_is_late_once_then_busy_until_it_comes_back(
    hanging: tuple[Saying, threading.Event],
) -> None:
    model, go = hanging
    scorer = ModelScorer(model, SOON)
    late = await scorer.score(MATRIX)
    assert (late.standing, late.outcome.tolist()) == (Standing.LATE, [Outcome.DENY] * 4)
    assert "0.02 s" in late.detail
    busy = await scorer.score(MATRIX)
    assert (busy.standing, busy.outcome.tolist()) == (Standing.BUSY, [Outcome.DENY] * 4)
    go.set()
    standings = []
    for _ in range(100):  # on a busy machine it may be late again
        assert scorer._idle.wait(30)
        standings.append((await scorer.score(MATRIX)).standing)
        if standings[-1] == Standing.SCORED:
            break
    assert standings[-1] == Standing.SCORED
    scorer.close()


async def test_while_a_model_thinks_others_go_on(hanging: tuple[Saying, threading.Event]) -> None:
    model, go = hanging
    scorer = ModelScorer(model, TERMS)
    waiting = asyncio.create_task(scorer.score(MATRIX))
    await asyncio.sleep(0)
    assert (await scored(lambda _: [0, 0, 0, 0])).standing == Standing.SCORED
    assert not waiting.done()
    go.set()
    assert (await waiting).standing == Standing.SCORED
    scorer.close()


def test_terms_and_models_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at most deny_at"):
        ModelTerms(review_at=2, deny_at=1, deadline_s=1, otherwise=Outcome.ALLOW)
    with pytest.raises(ValueError, match="deadline"):
        ModelTerms(review_at=1, deny_at=1, deadline_s=0, otherwise=Outcome.ALLOW)
    with pytest.raises(TypeError, match="neither predict_proba nor predict"):
        ModelScorer(object(), TERMS)  # type: ignore[arg-type]  # that is the point
