"""What callers of the actors may meet survives pickling, and says what happened."""

import inspect
import pickle

import pytest

from actors import errors
from actors.errors import ActorError, ClusterRefused, InvalidRequest, NotFound, Overloaded, ShardStopped

SAMPLES = (
    (Overloaded("the mailbox of shard 0 is full", 1), "the mailbox of shard 0 is full; try again in 1 s"),
    (ShardStopped(2, "its log is held by another"), "shard 2 has stopped: its log is held by another"),
    (ClusterRefused("Ray is not installed.", "pip install …"), "Ray is not installed."),
    (InvalidRequest("amount", "-5 is negative", "0 or more"), "amount: -5 is negative (accepted: 0 or more)"),
    (InvalidRequest("key", "it is empty"), "key: it is empty"),
    (NotFound("account", "L:wallet/7"), "no account L:wallet/7"),
)


def test_every_error_has_a_sample() -> None:
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, ActorError)}
    assert {type(error) for error, _ in SAMPLES} == kinds - {ActorError}


@pytest.mark.parametrize(("error", "text"), SAMPLES)
def test_errors_say_what_happened_and_survive_pickling(error: ActorError, text: str) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # it was made here
    assert type(again) is type(error)
    assert str(again) == str(error) == text
    assert again.__dict__ == error.__dict__
