"""Errors of the persistence layer survive pickling with everything they know."""

import inspect
import pickle

import pytest

from persistence import errors
from persistence.errors import PersistenceError

KINDS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PersistenceError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling(kind: type[PersistenceError]) -> None:
    parameters = list(inspect.signature(kind).parameters.values())[1:]
    given = {p.name: f"the {p.name}" for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        given["more"] = "and more"
    error = kind("what happened", **given)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # it was made here
    assert type(again) is kind
    assert str(again) == "what happened"
    assert again.__dict__ == error.__dict__
    for name, value in given.items():
        assert getattr(again, name, again.state.get(name)) == value
