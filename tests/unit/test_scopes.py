"""Scopes: what they let through, and what can't be one."""

import pytest

from gateway.security.scopes import (
    ALL,
    NONE,
    SCOPES_MAX,
    ScopeError,
    Scopes,
    known_scopes,
    parse_scopes,
    resource_of,
)


def scopes(*given: str) -> Scopes:
    return parse_scopes(given)


@pytest.mark.parametrize(
    ("given", "reads_moves", "writes_moves", "reads_books"),
    [
        ("*", True, True, True),
        ("*:read", True, False, True),
        ("*:write", False, True, False),
        ("moves:read", True, False, False),
        ("moves:write", False, True, False),
        ("moves:write:transfer", False, False, False),
        ("books:read", False, False, True),
    ],
)
def test_a_scope_is_for_one_resource_and_one_action(
    given: str, reads_moves: bool, writes_moves: bool, reads_books: bool
) -> None:
    of = scopes(given)
    assert of.allow("moves", "read") is reads_moves
    assert of.allow("moves", "write") is writes_moves
    assert of.allow("books", "read") is reads_books


def test_narrow_scopes_for_moves() -> None:
    narrow = scopes("moves:write:transfer", "moves:write:order.place", "moves:write:order.cancel")
    assert narrow.allow_some("moves", "write")
    assert not narrow.allow_some("moves", "read")
    assert not narrow.allow_some("legs", "write")
    assert narrow.allow_move("transfer", "hold")
    assert narrow.allow_move("transfer", "")
    assert narrow.allow_move("order", "place")
    assert narrow.allow_move("order", "place+cancel")
    assert not narrow.allow_move("order", "place+capture")
    assert not narrow.allow_move("order", "")
    assert not narrow.allow_move("transfers", "hold")
    assert not narrow.allow_move("journal", "post")
    assert scopes("moves:write").allow_move("journal", "post")
    assert ALL.allow_move("journal", "post")
    assert not NONE.allow_move("journal", "post")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "moves",
        "moves:",
        "moves:delete",
        "Moves:read",
        "moves:read:transfer",
        "legs:write:transfer",
        "moves:write:",
        "moves:write:transfer.",
        "moves:write:*",
        "moves:write transfer",
        "**",
        "*:read\n",
    ],
)
def test_what_is_no_scope(given: str) -> None:
    with pytest.raises(ScopeError):
        scopes(given)
    assert known_scopes([given, "*"]) == ALL


def test_a_key_has_some_scopes_but_not_too_many() -> None:
    with pytest.raises(ScopeError):
        scopes()
    with pytest.raises(ScopeError):
        scopes(*(f"r{number}:read" for number in range(SCOPES_MAX + 1)))


@pytest.mark.parametrize(
    ("template", "resource"),
    [
        ("/v1/moves", "moves"),
        ("/v1/moves/{move_id:str}/{transition:str}", "moves"),
        ("/v1/trial-balance", "books"),
        ("/metrics", "operations"),
        ("/", "operations"),
        ("/v1", ""),
        ("/v1/what-comes-next/{id}", "what-comes-next"),
    ],
)
def test_the_resource_of_a_route(template: str, resource: str) -> None:
    assert resource_of(template) == resource
