"""The hottest routes, in front of the framework: whatever they don't take goes on to it unchanged.

    POST /v1/legs, POST /v1/accounts   an Arrow stream: decoded to columns, answered with an Arrow stream

JSON is the framework's, so there is one place that explains what is wrong with it; what is small, usual and
right does not get as far as this (`gateway.protocol`). Problems look the same from all.
"""

import time
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from actors.answers import LegAnswers
from actors.runtime import Engine
from engine.results import Result
from gateway import arrow, hot_legs
from gateway.arrow_schema import MEDIA_TYPE as ARROW_TYPE
from gateway.gatherer import Gatherer
from gateway.metrics import HttpMetrics
from gateway.problems import MEDIA_TYPE as PROBLEM_TYPE
from gateway.problems import gateway_problem, problem_of

LEGS: Final = "/v1/legs"
ACCOUNTS: Final = "/v1/accounts"
PATHS: Final = frozenset({LEGS, ACCOUNTS})
"""Where Arrow streams are taken."""
ANSWERS: Final = {"all": False, "refused": True}
"""Values of the parameter `answers`, and whether they ask for the refused rows only."""

JSON: Final = b"application/json"
_ARROW: Final = ARROW_TYPE.encode()
_PROBLEM: Final = PROBLEM_TYPE.encode()
_logger = structlog.get_logger("tessera.gateway")

Headers = list[tuple[bytes, bytes]]


class Reply(NamedTuple):
    """What is sent back."""

    status: int
    media_type: bytes
    body: bytes
    headers: Headers


class ClientGone(Exception):  # noqa: N818  # says what happened
    """The client went away before its request was complete; nothing was done."""


class FastLane:
    """An ASGI application around another one, which gets what this one does not take."""

    def __init__(self, app: ASGIApp, engine: Engine, metrics: HttpMetrics) -> None:
        self._app = app
        self._engine = engine
        self.metrics = metrics
        self.gatherer = Gatherer(engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP or scope["method"] != "POST" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        media_type, length = _declared(scope)
        if media_type == _ARROW:
            await self._bulk(scope, receive, send, length)
        else:
            await self._app(scope, receive, send)

    async def _bulk(self, scope: HTTPScope, receive: Receive, send: Send, length: int) -> None:
        started = time.perf_counter()
        try:
            if length > arrow.BODY_BYTES_MAX:
                raise _too_large()
            reply = await self._bulk_reply(scope, await _whole_body(receive, arrow.BODY_BYTES_MAX))
        except ClientGone:
            return
        except Exception as exc:  # whatever it is, the client gets a problem
            reply = problem_reply(exc, scope["method"], scope["path"])
        await self._send(send, scope, reply, started)

    async def _bulk_reply(self, scope: HTTPScope, body: bytes) -> Reply:
        refused_only = _refused_only(scope["query_string"])
        if scope["path"] == LEGS:
            answers = await self._engine.post_legs(arrow.decode_legs(body))
        else:
            answers = await self._engine.create_accounts(arrow.decode_accounts(body))
        status, headers = _said(answers)
        return Reply(status, _ARROW, arrow.encode_answers(answers, refused_only), headers)

    # Both

    async def _send(self, send: Send, scope: HTTPScope, reply: Reply, started: float) -> None:
        headers = [
            (b"content-type", reply.media_type),
            (b"content-length", b"%d" % len(reply.body)),
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": False})
        self.metrics.answered("POST", scope["path"], reply.status, time.perf_counter() - started)


def _declared(scope: HTTPScope) -> tuple[bytes, int]:
    """The media type of a request's body, and its length; −1 if that is not said."""
    media_type, length = b"", -1
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length":
            length = int(value) if value.isdigit() else -1
    return media_type, length


async def _whole_body(receive: Receive, limit: int) -> bytes:
    """The body, once all of it has come. Raises ClientGone, or Problem if it is longer than `limit`."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large()
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large() -> Exception:
    return gateway_problem(
        "body_too_large", "The body is too large.", accepted=f"up to {arrow.BODY_BYTES_MAX} bytes"
    )


def _refused_only(query: bytes) -> bool:
    """What a bulk request's query asks for. Raises Problem for anything but `answers`."""
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    wanted = given.pop("answers", "all")
    for name in given:
        raise gateway_problem("unknown_parameter", f"There is no parameter {name!r}.", name, "answers")
    if wanted not in ANSWERS:
        raise gateway_problem(
            "invalid_parameter", f"answers: there is no {wanted!r}.", "answers", ", ".join(ANSWERS)
        )
    return ANSWERS[wanted]


def _said(answers: LegAnswers) -> tuple[int, Headers]:
    """The status of a bulk answer: 201 if anything was created; and its headers."""
    headers: Headers = [(hot_legs.LSN_HEADER, b"%d" % answers.lsn)]
    if (answers.status == Result.CREATED).any():
        return hot_legs.CREATED, headers
    if (answers.status == Result.EXISTS).all():
        headers.append(hot_legs.REPLAYED_HEADER)
    return hot_legs.REPEATED, headers


def problem_reply(exc: Exception, method: str, path: str) -> Reply:
    """An exception as the problem to send; one that nobody foresaw is logged with its stack."""
    problem = problem_of(exc)
    if problem.code == "internal_error":
        _logger.error("request failed", method=method, path=path, exc_info=exc)
    headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return Reply(problem.status, _PROBLEM, msgspec.json.encode(problem.details), headers)
