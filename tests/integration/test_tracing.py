"""Traces, from a request's head to its commit; and nothing of them where they are off."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from actors.runtime import Engine
from gateway.listener import bind
from gateway.server import serving
from gateway.tracing import CHOSEN_MAX, Tracing
from persistence.database import Database
from tests.fixtures_engine import Shop, settings_of

TRACE: Final = 0x0AF7651916CD43DD8448EB211C80319C
PARENT: Final = 0xB7AD6B7169203331
SAMPLED: Final = {"traceparent": f"00-{TRACE:032x}-{PARENT:016x}-01"}
NOT_SAMPLED: Final = {"traceparent": f"00-{TRACE:032x}-{PARENT:016x}-00"}
PHASES: Final = ["tessera.mailbox", "tessera.turn", "tessera.commit"]


class Traced:
    """A gateway that traces a share of its requests, and what it traced."""

    def __init__(self, engine: Engine, share: float) -> None:
        self.engine = engine
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(share, self.exporter)
        self.http: httpx.AsyncClient

    def spans(self) -> list[ReadableSpan]:
        """All that ended so far, oldest first."""
        self.tracing._provider.force_flush()
        found = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return sorted(found, key=lambda span: span.start_time or 0)


@asynccontextmanager
async def traced(database: Database, share: float) -> AsyncIterator[Traced]:
    async with Engine.running(settings_of(database)) as engine:
        gateway = Traced(engine, share)
        async with (
            serving(engine, bind("127.0.0.1", 0), tracing=gateway.tracing) as server,
            httpx.AsyncClient(base_url=server.url, timeout=20) as http,
        ):
            gateway.http = http
            yield gateway
        await asyncio.to_thread(gateway.tracing.close)


def whole(spans: list[ReadableSpan], name: str, status: int) -> ReadableSpan:
    """The request's span, whose phases follow each other within it, up to the commit."""
    [request] = [span for span in spans if span.name == name]
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == status
    phases = [span for span in spans if span.parent is not None and span.parent == request.context]
    assert [span.name for span in phases[-3:]] == PHASES
    for before, after in pairwise(phases[-3:]):
        assert before.end_time == after.start_time
    first, last = phases[0].start_time, phases[-1].end_time
    assert request.start_time is not None
    assert first is not None
    assert request.end_time is not None
    assert last is not None
    slack_ns = 5_000_000  # two clocks
    assert request.start_time - slack_ns <= first < last <= request.end_time + slack_ns
    return request


def leg_of(shop: Shop, accounts: list[int]) -> dict[str, Any]:
    debit, credit = (str(UUID(int=account)) for account in accounts)
    leg = {"debit": debit, "credit": credit, "amount": 1, "asset": "GBP", "code": 1}
    return {"id": str(UUID(int=shop.new_id())), **leg}


async def test_a_request_is_traced_to_its_commit(database: Database) -> None:
    async with traced(database, 0.0) as gateway:
        shop = await Shop.opened(gateway.engine)
        body = {"kind": "person", "name": "Ada"}
        assert (await gateway.http.post("/v1/parties", json=body, headers=SAMPLED)).status_code == 201
        request = whole(gateway.spans(), "POST /v1/parties", 201)
        assert request.context is not None
        assert request.parent is not None
        assert (request.context.trace_id, request.parent.span_id) == (TRACE, PARENT)
        assert (await gateway.http.post("/v1/parties", json=body, headers=NOT_SAMPLED)).status_code == 201
        assert (await gateway.http.post("/v1/parties", json=body)).status_code == 201
        assert gateway.spans() == []

        accounts = await shop.bare_accounts()
        for headers, expected in ((SAMPLED, True), ({}, False), (SAMPLED, True)):
            answer = await gateway.http.post("/v1/legs", json=leg_of(shop, accounts), headers=headers)
            assert answer.status_code == 201, answer.text
            spans = gateway.spans()
            assert bool(spans) is expected
            if expected:
                whole(spans, "POST /v1/legs", 201)


async def test_the_dice_choose_requests_on_the_short_cut_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with traced(database, 1.0) as gateway:
        shop = await Shop.opened(gateway.engine)
        accounts = await shop.bare_accounts()
        for _ in range(3):
            assert (await gateway.http.post("/v1/legs", json=leg_of(shop, accounts))).status_code == 201
            whole(gateway.spans(), "POST /v1/legs", 201)
        monkeypatch.setattr(gateway.tracing, "_share", 0.0)
        for _ in range(3):
            assert (await gateway.http.post("/v1/legs", json=leg_of(shop, accounts))).status_code == 201
        assert gateway.spans() == []
        monkeypatch.setattr(gateway.tracing, "_share", 1.0)
        assert (await gateway.http.post("/v1/legs", json=leg_of(shop, accounts))).status_code == 201
        whole(gateway.spans(), "POST /v1/legs", 201)


async def test_the_dice_choose_only_so_many() -> None:
    tracing = Tracing(1.0, InMemorySpanExporter())
    started = time.perf_counter()
    chosen = sum(tracing.chooses() for _ in range(10 * CHOSEN_MAX))
    assert CHOSEN_MAX <= chosen <= CHOSEN_MAX * (2 + time.perf_counter() - started)
    await asyncio.to_thread(tracing.close)


async def test_log_lines_of_a_traced_request_have_its_ids() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(1.0, exporter)
    seen: list[dict[str, Any]] = []

    async def failing(_scope: Any, _receive: Any, send: Any) -> None:
        seen.append(structlog.contextvars.get_contextvars())
        await send({"type": "http.response.start", "status": 500, "headers": []})
        raise RuntimeError("out of luck")

    async def send(_: Any) -> None: ...

    headers = [(name.encode(), value.encode()) for name, value in SAMPLED.items()]
    scope: Any = {"type": "http", "method": "GET", "path": "/v1/moves", "headers": headers}
    with pytest.raises(RuntimeError):
        await tracing.wrap(failing)(scope, None, send)  # type: ignore[arg-type]  # nothing is received
    await asyncio.to_thread(tracing.close)
    [span] = exporter.get_finished_spans()
    assert span.context is not None
    assert seen == [{"trace_id": f"{TRACE:032x}", "span_id": f"{span.context.span_id:016x}"}]
    assert span.status.status_code is StatusCode.ERROR
    seen.clear()
    for given, expected in ((NOT_SAMPLED, f"{TRACE:032x}"), ({}, None)):
        scope["headers"] = [(name.encode(), value.encode()) for name, value in given.items()]
        with pytest.raises(RuntimeError):
            await Tracing(0.0, exporter).wrap(failing)(scope, None, send)  # type: ignore[arg-type]  # see above
        line = seen.pop()
        assert line == {"trace_id": expected or line["trace_id"]}
        assert int(line["trace_id"], 16)
    assert structlog.contextvars.get_contextvars() == {}


def test_what_is_off_is_not_even_imported() -> None:
    code = (
        "import sys, gateway.cli, gateway.server, actors.runtime\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=100)
