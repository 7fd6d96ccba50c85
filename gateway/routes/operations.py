"""Is it healthy, is it ready, how is it doing, and what can it do."""

from typing import Any, Final

import msgspec
from litestar import Request, Response, get

from gateway.metrics import MEDIA_TYPE, HttpMetrics
from gateway.openapi import DOCUMENT_PATH, answers, document
from gateway.routes.parameters import EngineOf
from gateway.schemas import HealthView, Readiness
from gateway.security.authorization import sees_operations
from gateway.wire import Answer

HEALTH: Final = {
    "status": "serving",
    "reason": "",
    "shard": 0,
    "epoch": 1,
    "lsn": 42,
    "projected_lsn": 41,
    "projection_lag_legs": 1,
    "waiting": 0,
    "accounts": 1000,
    "open_moves": 3,
}


@get(
    "/health",
    tags=["Operations"],
    summary="Whether the engine serves",
    responses=answers(HealthView, HEALTH, also={503: "It has stopped; `reason` says why."}, refusals=None),
)
async def health(engine: EngineOf) -> Answer[HealthView]:
    """The truth about the engine: `503` once it serves no more, for whatever reason."""
    now = engine.health()
    content = HealthView(
        status=now.status,  # type: ignore[arg-type]  # a plain str in `Health`
        reason=now.reason,
        shard=now.shard,
        epoch=now.epoch,
        lsn=now.lsn,
        projected_lsn=now.projected_lsn,
        projection_lag_legs=now.projection_lag_legs,
        waiting=now.mailbox_weight,
        accounts=now.accounts,
        open_moves=now.open_moves,
    )
    return Answer(content, 503 if now.status == "stopped" else 200)


@get(
    "/ready",
    tags=["Operations"],
    summary="Whether the engine takes work now",
    responses=answers(
        Readiness, {"ready": True, "reason": ""}, also={503: "Not now; `reason` says why."}, refusals=None
    ),
)
async def ready(request: Request[Any, Any, Any], engine: EngineOf) -> Answer[Readiness]:
    """`503` while it would refuse new work: stopped, or unable to write. `reason` is for those who may read
    `/health`; everybody else is told that there is one."""
    now = engine.health()
    is_ready = now.status == "serving"
    reason = now.reason if sees_operations(request.scope) else now.status if now.reason else ""
    return Answer(Readiness(ready=is_ready, reason=reason), 200 if is_ready else 503)


@get("/metrics", tags=["Operations"], summary="Measurements for Prometheus", media_type=MEDIA_TYPE)
async def metrics(request: Request[Any, Any, Any], engine: EngineOf) -> Response[bytes]:
    """Of the engine and of the gateway, in Prometheus' text format."""
    of_http: HttpMetrics = request.app.state.http_metrics
    engine.refresh_metrics()
    return Response(of_http.exposition(engine.metrics.registry), media_type=MEDIA_TYPE)


@get(DOCUMENT_PATH, include_in_schema=False)
async def openapi_document(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The OpenAPI document."""
    return Response(msgspec.json.encode(document(request.app)), media_type="application/json")


handlers: Final = (health, ready, metrics, openapi_document)
