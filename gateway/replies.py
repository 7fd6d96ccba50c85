"""Answers of the routes that don't go through the framework, problems too, ready to be written."""

from typing import Final, NamedTuple

import msgspec

from gateway.problems import MEDIA_TYPE as PROBLEM_TYPE
from gateway.problems import log_failure, problem_of

JSON: Final = b"application/json"
CREATED: Final = 201
REPEATED: Final = 200
"""Of a write that changed nothing, since it was there already."""
LSN_HEADER: Final = b"tessera-lsn"
REPLAYED_HEADER: Final = (b"idempotent-replayed", b"true")

_PROBLEM: Final = PROBLEM_TYPE.encode()
Headers = list[tuple[bytes, bytes]]


class Reply(NamedTuple):
    """What is sent back; `headers` besides the body's type and length."""

    status: int
    media_type: bytes
    body: bytes
    headers: Headers


def problem_reply(exc: Exception, method: str, path: str) -> Reply:
    """An exception as the problem to send; one that nobody foresaw is logged with its stack."""
    problem = problem_of(exc)
    log_failure(exc, problem, method, path)
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return Reply(problem.status, _PROBLEM, msgspec.json.encode(problem.details), headers)
