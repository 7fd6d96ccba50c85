"""Every error of the HTTP interface, as RFC 9457 problem details.

A problem has `type`, `title`, `status`, `detail` and three members of ours: `code`, one word for programs
(a result code of the ledger where it refused, otherwise one of `GATEWAY_CODES`), `where`, the field,
parameter or header that is wrong, and `accepted`, what would have been accepted where that is a short list.
Reading `code` is enough for a program, reading `detail` for a person. No problem carries a stack trace or a
secret.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from litestar.connection import Request
from litestar.exceptions import HTTPException, ValidationException
from litestar.params import ParameterKwarg
from litestar.response import Response

from actors.errors import InvalidRequest, NotFound, Overloaded, ShardStopped
from engine.commands import Refusal
from engine.results import Result
from persistence.errors import FilterRefused, PersistenceError

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:tessera:problem:"
RETRY_AFTER_S: Final = 1

GATEWAY_CODES: Final[Mapping[str, tuple[int, str]]] = {
    "malformed_json": (400, "The body is not JSON"),
    "malformed_arrow": (400, "The body is not an Arrow stream that is accepted"),
    "invalid_parameter": (400, "A parameter has a value that makes no sense"),
    "unknown_parameter": (400, "There is no such parameter"),
    "invalid_cursor": (400, "The cursor is not one of ours"),
    "unauthenticated": (401, "This needs an API key or a token"),
    "forbidden": (403, "This key or token does not allow that"),
    "not_found": (404, "There is nothing of that name"),
    "method_not_allowed": (405, "This path does not take that method"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body has a media type that is not accepted"),
    "misdirected": (421, "The request is meant for another host"),
    "request_timeout": (408, "The request did not arrive in time"),
    "head_too_large": (431, "The head of the request is too large"),
    "too_many_items": (413, "The body holds more than one request may"),
    "invalid_field": (422, "A field has a value that is not accepted"),
    "invalid_amount": (422, "An amount is a whole number of minor units"),
    "negative_amount": (422, "An amount is never negative"),
    "missing_field": (422, "A field is missing"),
    "unknown_field": (422, "There is no such field"),
    "not_compliant": (409, "The order is not allowed as it stands"),
    "bad_signature": (401, "The message is not signed as it must be"),
    "name_already_used": (409, "There is one of that name already"),
    "too_many_webhooks": (409, "There are as many webhooks as there may be"),
    "rate_limited": (429, "This key or token is used too often"),
    "internal_error": (500, "Something went wrong on our side"),
    "overloaded": (503, "The engine has as much to do as it accepts"),
    "projection_behind": (503, "The query tables have not caught up yet"),
    "shard_stopped": (503, "The engine has stopped serving"),
    "database_unavailable": (503, "The database can't be reached"),
    "provider_unavailable": (503, "The provider of tokens can't be reached"),
}
"""Code → (status, title) of the problems that are not refusals of the ledger."""

_logger = structlog.get_logger("tessera.gateway")


class ProblemDetails(msgspec.Struct, omit_defaults=True):
    """What is wrong, for programs (`code`, `where`) and for people (`title`, `detail`)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    where: str = ""
    accepted: str = ""


class Problem(Exception):  # noqa: N818  # named for what the client gets
    """An answer that is an error. Raised by routes, sent by `handle`."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        where: str = "",
        accepted: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, code, detail, where, accepted, headers)
        self.status = status
        self.code = code
        self.detail = detail
        self.where = where
        self.accepted = accepted
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"

    @property
    def details(self) -> ProblemDetails:
        """The body that is sent."""
        return ProblemDetails(
            type=TYPE_PREFIX + self.code,
            title=title_of(self.code),
            status=self.status,
            detail=self.detail,
            code=self.code,
            where=self.where,
            accepted=self.accepted,
        )


class ClientGone(Problem):
    """The client went away before its request was complete; nothing was done, and nobody hears of it."""


def client_gone() -> ClientGone:
    """What is raised then."""
    status, title = GATEWAY_CODES["request_timeout"]
    return ClientGone(status, "request_timeout", f"{title}.")


def gateway_problem(code: str, detail: str, where: str = "", accepted: str = "") -> Problem:
    """A problem of the gateway's own, with the status that belongs to its code."""
    return Problem(GATEWAY_CODES[code][0], code, detail, where, accepted)


def title_of(code: str) -> str:
    """A code in words: the gateway's own say it, a result code says it itself."""
    return GATEWAY_CODES[code][1] if code in GATEWAY_CODES else code.replace("_", " ").capitalize()


_CONTENT: Final = frozenset(
    result.slug
    for result in Result
    if (
        Result.LINKED_EVENT_CHAIN_OPEN <= result <= Result.ID_IN_WRONG_BUCKET
        and result is not Result.LINKED_EVENT_FAILED
    )
    or Result.FLAGS_ARE_MUTUALLY_EXCLUSIVE <= result <= Result.AMOUNT_MUST_NOT_BE_NEGATIVE
) | frozenset(
    {
        Refusal.ID_INVALID,
        Refusal.KIND_UNKNOWN,
        Refusal.TRANSITION_UNKNOWN,
        Refusal.FIELD_INVALID,
        Refusal.FIELD_MISSING,
        Refusal.FIELD_NOT_ACCEPTED,
        Refusal.AMOUNT_NOT_POSITIVE,
        Refusal.AMOUNT_NEGATIVE,
        Refusal.AMOUNT_OVERFLOWS,
        Refusal.LINES_INVALID,
        Refusal.ACCOUNT_KEY_INVALID,
        Refusal.PARTIES_MUST_BE_DIFFERENT,
        Refusal.NOT_BALANCED,
        Refusal.PARTY_NOT_FOUND,
        Refusal.THING_NOT_FOUND,
        Refusal.ASSET_NOT_FOUND,
    }
)
"""Refusals for which the request's content is at fault; for the others it is the state of the ledger."""


_LATER: Final = frozenset({Refusal.TURN_FULL, Refusal.SHARD_UNAVAILABLE})
"""Refusals of what was not judged, and may be sent again as it is."""


def refusal_status(code: str) -> int:
    """The status of a refusal: 422 for its content, 404 for its Move, 403 for whose money it is, 503 to try
    later, else 409."""
    if code in _CONTENT:
        return HTTPStatus.UNPROCESSABLE_ENTITY
    if code == Refusal.MOVE_NOT_FOUND:
        return HTTPStatus.NOT_FOUND
    if code == Refusal.MONEY_OF_ANOTHER:
        return HTTPStatus.FORBIDDEN
    return HTTPStatus.SERVICE_UNAVAILABLE if code in _LATER else HTTPStatus.CONFLICT


_FIELD: Final = re.compile(r"([a-z_]+(?:\[\d+\])?(?:\.[a-z_]+)?): ")
"""How the engine's messages begin that are about one field."""


def refusal(code: str, message: str, where: str = "", headers: Mapping[str, str] | None = None) -> Problem:
    """The engine's refusal of a command, as the problem to send."""
    status = refusal_status(code)
    if not where and (named := _FIELD.match(message)):
        where = named[1]
    retry = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    text = _sentence(message or title_of(code))
    return Problem(status, code, text, where, headers={**retry, **(headers or {})})


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def malformed_json(reason: str) -> Problem:
    """The body is no JSON."""
    return gateway_problem(
        "malformed_json", f"The body can't be read as JSON: {reason}.", accepted="JSON, UTF-8"
    )


_AT = re.compile(r" - at `\$(?P<path>.*)`$")
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]*)`")


def wrong_value(message: str, code: str | None, body_type: Any) -> Problem:
    """The problem for msgspec's `message` about a body of `body_type`."""
    match = _AT.search(message)
    path = match["path"].lstrip(".") if match else ""
    text = message[: match.start()] if match else message
    accepted = ""
    for pattern, named in ((_UNKNOWN, "unknown_field"), (_MISSING, "missing_field")):
        if found := pattern.search(text):
            accepted = _accepted(body_type, path) if named == "unknown_field" else ""
            path = f"{path}.{found['field']}" if path else found["field"]
            code = named
    if not accepted and code is None:
        accepted = _accepted(body_type, path)
    where = path or "body"
    return gateway_problem(code or "invalid_field", f"{where}: {text}.", where, accepted)


def _accepted(body_type: Any, path: str) -> str:
    """The fields of the struct, or the values of the enumeration, at `path`; empty if it is neither."""
    here = _type_at(msgspec.inspect.type_info(body_type), re.findall(r"\w+|\[[^\]]*\]", path))
    if isinstance(here, msgspec.inspect.StructType):
        return ", ".join(field.encode_name for field in here.fields)
    if isinstance(here, msgspec.inspect.LiteralType):
        return ", ".join(str(value) for value in here.values)
    if isinstance(here, msgspec.inspect.EnumType):
        return ", ".join(str(member.value) for member in here.cls)
    return ""


def _type_at(info: msgspec.inspect.Type, steps: list[str]) -> msgspec.inspect.Type | None:
    if isinstance(info, msgspec.inspect.UnionType):
        others = [kind for kind in info.types if not isinstance(kind, msgspec.inspect.NoneType)]
        return _type_at(others[0], steps) if len(others) == 1 else None
    if not steps:
        return info
    if isinstance(info, msgspec.inspect.ListType) and steps[0].startswith("["):
        return _type_at(info.item_type, steps[1:])
    if isinstance(info, msgspec.inspect.StructType):
        for field in info.fields:
            if field.encode_name == steps[0]:
                return _type_at(field.type, steps[1:])
    return None


def problem_of(exc: Exception) -> Problem:
    """Any exception that reaches the edge, as the problem to send."""
    match exc:
        case Problem():
            return exc
        case InvalidRequest():
            return gateway_problem("invalid_field", f"{exc.where}: {exc.problem}.", exc.where, exc.accepted)
        case NotFound():
            return gateway_problem("not_found", f"There is no {exc.what} {exc.key}.")
        case Overloaded():
            return unavailable("overloaded", f"Try again in {exc.retry_after_s} s.", exc.retry_after_s)
        case ShardStopped():
            return unavailable("shard_stopped", "What was sent may or may not have happened: send it again.")
        case FilterRefused():
            return gateway_problem("invalid_parameter", f"{exc.field}: {exc}.", exc.field)
        case PersistenceError():
            return unavailable("database_unavailable", "Try again; the log of the engine says why.")
        case ValidationException():
            return _wrong_parameter(exc)
        case HTTPException():
            return _http_problem(exc)
        case _:
            return gateway_problem("internal_error", "The request failed; the log of the engine says why.")


def unavailable(code: str, detail: str, retry_after_s: int = RETRY_AFTER_S) -> Problem:
    """A 503: try again after `retry_after_s` seconds."""
    status = GATEWAY_CODES[code][0]
    return Problem(status, code, detail, headers={"Retry-After": str(retry_after_s)})


def _wrong_parameter(exc: ValidationException) -> Problem:
    errors = exc.extra if isinstance(exc.extra, list) else []
    if not errors:
        return gateway_problem("invalid_parameter", str(exc.detail))
    first = errors[0]
    where = str(first.get("key", ""))
    if where == "data":
        return gateway_problem("malformed_json", "The body is empty.", accepted="JSON, UTF-8")
    return gateway_problem("invalid_parameter", f"{where}: {first['message']}.", where)


_CODE_OF_STATUS: Final = {
    400: "invalid_parameter",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


def _http_problem(exc: HTTPException) -> Problem:
    code = _CODE_OF_STATUS.get(exc.status_code, "internal_error")
    status, title = GATEWAY_CODES[code]
    return Problem(status, code, f"{title}.")


def handle(request: Request[Any, Any, Any], exc: Exception) -> Response[bytes]:
    """Send `exc` as a problem. An exception nobody foresaw is logged with its stack and answered with 500."""
    problem = problem_of(_as_sent(exc, request) if isinstance(exc, ValidationException) else exc)
    headers = problem.headers
    log_failure(exc, problem, request.method, request.scope["path"])
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {**headers, "Allow": ", ".join(sorted(methods_of(request)))}
    return Response(
        msgspec.json.encode(problem.details),
        status_code=problem.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def _as_sent(exc: ValidationException, request: Request[Any, Any, Any]) -> ValidationException:
    """What is wrong with parameters, with their names as clients know them."""
    names = {
        name: field.kwarg_definition.name
        for name, field in request.route_handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, ParameterKwarg) and field.kwarg_definition.name
    }
    if isinstance(exc.extra, list):
        exc.extra = [
            {**error, "key": names.get(error.get("key", ""), error.get("key", ""))} for error in exc.extra
        ]
    return exc


def log_failure(exc: Exception, problem: Problem, method: str, path: str) -> None:
    """Log what clients are not told: what is wrong on our side, and that one has gone."""
    if isinstance(problem, ClientGone):
        _logger.info("a client went away before its request was complete", method=method, path=path)
    elif problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _logger.error("request failed", method=method, path=path, exc_info=exc)
    elif isinstance(exc, PersistenceError) and problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        _logger.warning("the database can't be used", method=method, path=path, error=str(exc))


def methods_of(request: Request[Any, Any, Any]) -> set[str]:
    """What the path of a request would have taken: the methods of the routes that say most about it."""
    parts = request.scope["path"].rstrip("/").split("/")
    methods: dict[tuple[bool, ...], set[str]] = {}
    for route in request.app.routes:
        template = route.path_format.split("/")
        if len(template) == len(parts) and all(
            expected.startswith("{") or expected == given
            for expected, given in zip(template, parts, strict=True)
        ):
            said = tuple(not expected.startswith("{") for expected in template)
            methods.setdefault(said, set()).update(route.methods)
    return methods[max(methods)] if methods else set()


def example_of(code: str, status: int) -> dict[str, Any]:
    """A problem with that code, for the documentation."""
    title = title_of(code)
    return {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": int(status),
        "detail": f"{title}.",
        "code": code,
    }
