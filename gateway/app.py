"""The gateway as an ASGI application: routes, codecs, limits and error handling around one engine."""

from typing import Any, Final

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import Scope

from actors.runtime import Engine
from gateway import openapi
from gateway.events.streams import EventStreams, StreamSettings
from gateway.fast_lane import FastLane
from gateway.metrics import HttpMetrics
from gateway.problems import handle
from gateway.request_checks import check_request
from gateway.routes import (
    account_history,
    accounts,
    books,
    entries,
    events,
    explanations,
    holds,
    kinds,
    legs,
    move_reads,
    moves,
    operations,
    parties,
    quotes,
    schedules,
    things,
    webhook_sources,
    webhooks,
)
from gateway.schedules.scheduler import Scheduler
from gateway.security.authorization import Authorization, engine_for
from gateway.security.gate import Gate
from gateway.webhooks.dispatcher import Dispatcher
from gateway.webhooks.settings import WebhookSettings
from gateway.wire import TYPE_DECODERS

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
"""The largest body; a full request of bare legs as JSON fits."""
HANDLERS: Final = (
    *parties.handlers,
    *things.handlers,
    *accounts.handlers,
    *account_history.handlers,
    *kinds.handlers,
    *moves.handlers,
    *move_reads.handlers,
    *explanations.handlers,
    *quotes.handlers,
    *holds.handlers,
    *entries.handlers,
    *legs.handlers,
    *books.handlers,
    *events.handlers,
    *webhooks.handlers,
    *webhook_sources.handlers,
    *schedules.handlers,
    *operations.handlers,
)


def create_app(
    engine: Engine,
    gate: Gate | None = None,
    streams: StreamSettings | None = None,
    webhooks: WebhookSettings | None = None,
) -> FastLane:
    """The application that serves `engine` to those whom `gate` lets in, without one to everybody on this
    machine; it holds nothing else, so several may serve one engine."""
    metrics = HttpMetrics()
    gate = gate or Gate(engine.settings.tenant)
    event_streams = EventStreams(engine, metrics.registry, streams or StreamSettings())
    dispatcher = Dispatcher(engine, event_streams.names, metrics.registry, webhooks or WebhookSettings())
    scheduler = Scheduler(engine)
    app = create_framework_app(engine, metrics, event_streams, dispatcher, scheduler, gate)
    return FastLane(app, engine, metrics, event_streams, dispatcher, scheduler, gate)


def create_framework_app(
    engine: Engine,
    metrics: HttpMetrics,
    event_streams: EventStreams,
    dispatcher: Dispatcher,
    scheduler: Scheduler,
    gate: Gate,
) -> Litestar:
    """Every route, and what explains whatever is wrong with a request."""

    def provide_engine(scope: Scope) -> Any:
        return engine_for(scope, engine)

    return Litestar(
        route_handlers=list(HANDLERS),
        dependencies={"engine": Provide(provide_engine, sync_to_thread=False)},
        state=State(
            {
                "http_metrics": metrics,
                "event_streams": event_streams,
                "webhooks": dispatcher,
                "scheduler": scheduler,
                "gate": gate,
            }
        ),
        middleware=[metrics.middleware, Authorization(gate).middleware],
        exception_handlers={Exception: handle},
        before_request=check_request,
        type_decoders=list(TYPE_DECODERS),
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=openapi.config(),
        plugins=[openapi.WireSchemas()],
        logging_config=None,
    )
