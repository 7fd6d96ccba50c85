"""The gateway as an ASGI application: routes, codecs, limits and error handling around one engine."""

from functools import cache
from typing import Any, Final

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ParamType
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from litestar.types import Scope

from actors.runtime import Engine
from gateway import openapi
from gateway.arrow_schema import MEDIA_TYPE as ARROW_TYPE
from gateway.bulk import PATHS
from gateway.events.streams import EventStreams, StreamSettings
from gateway.fast_lane import FastLane
from gateway.metrics import HttpMetrics
from gateway.problems import gateway_problem, handle
from gateway.routes import (
    account_history,
    accounts,
    books,
    entries,
    events,
    holds,
    kinds,
    legs,
    move_reads,
    moves,
    operations,
    parties,
    things,
)
from gateway.security.authorization import Authorization, engine_for
from gateway.security.gate import Gate
from gateway.wire import TYPE_DECODERS

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
"""The largest body; a full request of bare legs as JSON fits."""
MEDIA_TYPE: Final = "application/json"
HANDLERS: Final = (
    *parties.handlers,
    *things.handlers,
    *accounts.handlers,
    *account_history.handlers,
    *kinds.handlers,
    *moves.handlers,
    *move_reads.handlers,
    *holds.handlers,
    *entries.handlers,
    *legs.handlers,
    *books.handlers,
    *events.handlers,
    *operations.handlers,
)


def create_app(engine: Engine, gate: Gate | None = None, streams: StreamSettings | None = None) -> FastLane:
    """The application that serves `engine` to those whom `gate` lets in, without one to everybody on this
    machine; it holds nothing else, so several may serve one engine."""
    metrics = HttpMetrics()
    gate = gate or Gate(engine.settings.tenant)
    event_streams = EventStreams(engine, metrics.registry, streams or StreamSettings())
    app = create_framework_app(engine, metrics, event_streams, gate)
    return FastLane(app, engine, metrics, event_streams, gate)


def create_framework_app(
    engine: Engine, metrics: HttpMetrics, event_streams: EventStreams, gate: Gate
) -> Litestar:
    """Every route, and what explains whatever is wrong with a request."""

    def provide_engine(scope: Scope) -> Any:
        return engine_for(scope, engine)

    return Litestar(
        route_handlers=list(HANDLERS),
        dependencies={"engine": Provide(provide_engine, sync_to_thread=False)},
        state=State({"http_metrics": metrics, "event_streams": event_streams}),
        middleware=[metrics.middleware, Authorization(gate).middleware],
        exception_handlers={Exception: handle},
        before_request=_check_request,
        type_decoders=list(TYPE_DECODERS),
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=openapi.config(),
        plugins=[openapi.WireSchemas()],
        logging_config=None,
    )


async def _check_request(request: Request[Any, Any, Any]) -> None:
    """Refuse what no route would notice: parameters nobody reads, and bodies that are not declared as JSON.

    The second is also what keeps a web page in somebody's browser from posting to an engine on their machine:
    a browser sends JSON across origins only after asking, and nobody here says yes.
    """
    known = _parameter_names(request.route_handler)
    for name in request.query_params:
        if name not in known:
            problem = f"There is no parameter {name!r}."
            raise gateway_problem("unknown_parameter", problem, name, ", ".join(known))
    if request.method in {"POST", "PATCH", "PUT"}:
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != MEDIA_TYPE:
            bulk = request.scope["path"] in PATHS and request.method == "POST"
            raise gateway_problem(
                "unsupported_media_type",
                f"The body is declared as {given or 'nothing'}; send it with Content-Type: {MEDIA_TYPE}.",
                "Content-Type",
                f"{MEDIA_TYPE}, {ARROW_TYPE}" if bulk else MEDIA_TYPE,
            )


@cache
def _parameter_names(handler: HTTPRouteHandler) -> tuple[str, ...]:
    """The names of a route's query parameters."""
    injected = handler.resolve_dependencies()
    return tuple(
        field.kwarg_definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if name not in injected
        and isinstance(field.kwarg_definition, ParameterKwarg)
        and field.kwarg_definition.param_type is ParamType.QUERY
    )
