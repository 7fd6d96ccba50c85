"""`ETag`, `If-Match` and `If-None-Match`: versions of accounts, Moves and Parties as HTTP knows them.

A single account, Move or Party has a strong tag that begins with its version, so that a change can be made
dependent on it. Every other answer to a GET has a weak one, over its content: a client that has it already is
told so, and nothing else.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any, Final

import xxhash
from litestar import Request
from litestar.params import HeaderParameter
from litestar.response.base import ASGIResponse

from gateway.problems import Problem, gateway_problem

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
_VERSION: Final = re.compile(r"([0-9]{1,19})(?:-[0-9]+)?")
_DIFFERS: Final = "_version_differs"

IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="The `ETag` of what is to be changed, as it was read: if it has changed since, nothing "
        "is done and the answer is 412.",
    ),
]


def tag_of(version: int, more: int | None = None) -> dict[str, str]:
    """The header of something with a version; `more` counts what belongs to it and has a life of its own."""
    return {"ETag": f'"{version}"' if more is None else f'"{version}-{more}"'}


@contextmanager
def expecting(if_match: str | None, if_version: int) -> Iterator[int]:
    """The version that something must have, 0 for any; by header or in the body.

    Inside, a refusal because it has another version becomes a 412 if the header asked for it. Raises Problem
    for a header that makes no sense.
    """
    if if_match is None:
        yield if_version
        return
    if if_version:
        raise gateway_problem(
            "invalid_parameter",
            "The body has if_version and the head has If-Match: each of them is enough.",
            "If-Match",
            "one of the two",
        )
    wanted = _version_in(if_match)
    try:
        yield wanted
    except Problem as problem:
        if not problem.code.endswith(_DIFFERS):
            raise
        raise Problem(
            HTTPStatus.PRECONDITION_FAILED, problem.code, problem.detail, "If-Match", headers=problem.headers
        ) from problem


def _version_in(if_match: str) -> int:
    """The version that a header names. Raises Problem if it is no tag of ours."""
    if if_match.strip() == "*":
        return 0
    tag = _TAG.fullmatch(if_match.strip())
    version = _VERSION.fullmatch(tag[2]) if tag is not None and not tag[1] else None
    if version is None or not 0 < int(version[1]) < 2**63:
        raise gateway_problem(
            "invalid_parameter", "If-Match: expected one ETag that was given before, or *.", "If-Match", '"7"'
        )
    return int(version[1])


def tagged(answer: ASGIResponse, request: Request[Any, Any, Any]) -> ASGIResponse:
    """The answer to a GET with a tag; if the client says that it has it already, nothing but that."""
    if request.method != "GET" or answer.status_code != HTTPStatus.OK:
        return answer
    tag = answer.headers.setdefault("ETag", f'W/"{xxhash.xxh3_64_hexdigest(answer.body)}"')
    if not _has(request.headers.get("if-none-match", ""), tag):
        return answer
    return ASGIResponse(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})


def _has(if_none_match: str, tag: str) -> bool:
    """Whether a client has the answer with that tag; compared weakly, as RFC 9110 says."""
    if if_none_match.strip() == "*":
        return True
    plain = tag.removeprefix("W/")
    return any(f'"{found[2]}"' == plain for found in _TAG.finditer(if_none_match))
