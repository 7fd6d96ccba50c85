"""Whatever goes wrong becomes one problem with one status, one code and words that help."""

import pytest

from actors.errors import InvalidRequest, NotFound, Overloaded, ShardStopped
from engine.commands import Refusal
from engine.results import LEG_PRECEDENCE, Result
from gateway.cursors import seal, unseal
from gateway.problems import (
    GATEWAY_CODES,
    Problem,
    example_of,
    gateway_problem,
    problem_of,
    refusal,
    refusal_status,
)
from persistence.errors import ConnectionLost, FilterRefused, LogFull

FAILURES = [
    (Overloaded("the secret mailbox is full", 3), 503, "overloaded", "", {"Retry-After": "3"}),
    (ShardStopped(0, "deposed by secret"), 503, "shard_stopped", "", {"Retry-After": "1"}),
    (LogFull("no space is left at secret", shard=0), 503, "database_unavailable", "", {"Retry-After": "1"}),
    (
        ConnectionLost("the secret session ended", "08006"),
        503,
        "database_unavailable",
        "",
        {"Retry-After": "1"},
    ),
    (InvalidRequest("key", "it is empty", "a key"), 422, "invalid_field", "key", {}),
    (NotFound("account", "17"), 404, "not_found", "", {}),
    (FilterRefused("the range is empty", "start"), 400, "invalid_parameter", "start", {}),
    (ZeroDivisionError("secret"), 500, "internal_error", "", {}),
]


@pytest.mark.parametrize(("exc", "status", "code", "where", "headers"), FAILURES)
def test_failure_becomes_a_problem(
    exc: Exception, status: int, code: str, where: str, headers: dict[str, str]
) -> None:
    problem = problem_of(exc)
    assert (problem.status, problem.code, problem.where, problem.headers) == (status, code, where, headers)
    assert problem.detail.endswith(".")
    assert "secret" not in problem.detail


@pytest.mark.parametrize("code", [*GATEWAY_CODES, *(result.slug for result in LEG_PRECEDENCE), *Refusal])
def test_every_code_has_a_title_and_a_status(code: str) -> None:
    example = example_of(code, 409)
    assert example["title"]
    assert 400 <= example["status"] < 600
    assert example["type"] == f"urn:tessera:problem:{code}"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Result.BELOW_FLOOR.slug, 409),
        (Result.LINKED_EVENT_FAILED.slug, 409),
        (Result.EXISTS_WITH_DIFFERENT_AMOUNT.slug, 409),
        (Result.DEBIT_ACCOUNT_NOT_FOUND.slug, 409),
        (Result.ACCOUNTS_MUST_BE_DIFFERENT.slug, 422),
        (Result.RESERVED_FLAG.slug, 422),
        (Refusal.KIND_UNKNOWN, 422),
        (Refusal.MOVE_NOT_FOUND, 404),
        (Refusal.MOVE_ENDED, 409),
        (Refusal.TURN_FULL, 503),
    ],
)
def test_status_says_whether_request_or_ledger_is_at_fault(code: str, status: int) -> None:
    assert refusal_status(code) == status


def test_field_is_taken_from_the_message_of_the_engine() -> None:
    assert refusal("kind_unknown", "kind: there is no 'gift'").where == "kind"
    assert refusal("lines_invalid", "lines[2].quantity: missing").where == "lines[2].quantity"
    assert refusal("below_floor", "leg 1 of 2, A:bank > L:x = 3").where == ""
    assert refusal("below_floor", "").detail == "Below floor."


def test_refusal_that_may_pass_says_when_to_try_again() -> None:
    assert refusal(Refusal.TURN_FULL, "full").headers == {"Retry-After": "1"}


def test_problem_of_a_problem_is_itself() -> None:
    problem = gateway_problem("not_found", "There is none.")
    assert problem_of(problem) is problem


@pytest.mark.parametrize("cursor", ["1", "5|0190", "L:wallet/a|3|17", "ü"])
def test_cursor_comes_back_for_its_own_list_only(cursor: str) -> None:
    sealed = seal("a", cursor)
    assert sealed is not None
    assert cursor not in sealed
    assert unseal("a", sealed) == cursor
    assert (seal("a", None), unseal("a", None)) == (None, None)
    for listing, given in [
        ("b", sealed),
        ("a", sealed[:-1]),
        ("a", sealed + "A"),
        ("a", ""),
        ("a", "é"),
        ("a", "="),
    ]:
        with pytest.raises(Problem) as caught:
            unseal(listing, given)
        assert (caught.value.status, caught.value.code) == (400, "invalid_cursor")
