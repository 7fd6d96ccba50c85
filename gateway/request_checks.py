"""What is checked about every request before its route sees it: whatever no route would notice.

Parameters that nobody reads, that come twice, or that are text where there should be none; text that
PostgreSQL can't hold; and bodies that are not declared as JSON. The last is also what keeps a web page in
somebody's browser from posting to an engine on their machine: a browser sends JSON across origins only after
asking, and nobody here says yes.
"""

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from types import NoneType
from typing import Any, Final, get_args, get_origin

from litestar import Request, Response
from litestar.enums import ParamType
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg

from gateway.arrow_schema import MEDIA_TYPE as ARROW_TYPE
from gateway.bulk import PATHS
from gateway.problems import gateway_problem, methods_of

MEDIA_TYPE: Final = "application/json"
_WITH_BODY: Final = frozenset({"POST", "PATCH", "PUT"})


async def check_request(request: Request[Any, Any, Any]) -> Response[Any] | None:
    """Refuse what makes no sense. Raises Problem. Answers the question which methods a path takes."""
    if request.method == "OPTIONS":
        allowed = ", ".join(sorted(methods_of(request)))
        return Response(None, status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})
    _check_parameters(request)
    if request.method in _WITH_BODY:
        _check_media_type(request)
    return None


def _check_parameters(request: Request[Any, Any, Any]) -> None:
    known = _parameters(request.route_handler)
    seen = set()
    for name, value in request.query_params.multi_items():
        kind = known.get(name)
        if kind is None:
            problem = f"There is no parameter {name!r}."
            raise gateway_problem("unknown_parameter", problem, name, ", ".join(known))
        if name in seen and kind != "several":
            raise gateway_problem("invalid_parameter", f"{name}: it is there twice.", name)
        seen.add(name)
        if "\0" in value:
            raise gateway_problem("invalid_parameter", f"{name}: it holds the character U+0000.", name)
        if kind == "value" and value.lower() == "null":
            raise gateway_problem("invalid_parameter", f"{name}: expected a value, or none at all.", name)
    for name, kind in _headers(request.route_handler).items():
        if kind == "value" and request.headers.get(name, "").lower() == "null":
            raise gateway_problem("invalid_parameter", f"{name}: expected a value, or none at all.", name)


def _check_media_type(request: Request[Any, Any, Any]) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given == MEDIA_TYPE:
        return
    bulk = request.scope["path"] in PATHS and request.method == "POST"
    raise gateway_problem(
        "unsupported_media_type",
        f"The body is declared as {given or 'nothing'}; send it with Content-Type: {MEDIA_TYPE}.",
        "Content-Type",
        f"{MEDIA_TYPE}, {ARROW_TYPE}" if bulk else MEDIA_TYPE,
    )


@cache
def _parameters(handler: HTTPRouteHandler) -> Mapping[str, str]:
    """The names of a route's query parameters, and what they are: a text, several, or another value."""
    return _of_kind(handler, ParamType.QUERY)


@cache
def _headers(handler: HTTPRouteHandler) -> Mapping[str, str]:
    """The same of its headers."""
    return _of_kind(handler, ParamType.HEADER)


def _of_kind(handler: HTTPRouteHandler, wanted: ParamType) -> Mapping[str, str]:
    injected = handler.resolve_dependencies()
    return {
        field.kwarg_definition.name or name: _what(field.annotation)
        for name, field in handler.parsed_fn_signature.parameters.items()
        if name not in injected
        and isinstance(field.kwarg_definition, ParameterKwarg)
        and field.kwarg_definition.param_type is wanted
    }


def _what(annotation: Any) -> str:
    kinds = set(get_args(annotation)) - {NoneType} or {annotation}
    if any(get_origin(kind) is list for kind in kinds):
        return "several"
    return "text" if str in kinds else "value"
