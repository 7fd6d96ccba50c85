"""What can be seen of an engine: every metric that dashboard and alerts name is there, and health tells the
truth."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors.errors import Overloaded
from actors.metrics import DOINGS
from actors.runtime import Engine
from gateway.listener import bind
from gateway.server import serving
from persistence.database import Database
from tests.fixtures_engine import Shop, settings_of, shard_of

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
DASHBOARD: Final = DEPLOY / "grafana" / "tessera.json"
ALERTS: Final = DEPLOY / "prometheus" / "alerts.yml"
METRIC: Final = re.compile(r"\b(?:tessera|process)_[a-z_]+\b")
RULE: Final = re.compile(
    r" {6}- alert: (Tessera\w+)\n {8}expr: '(.+)'\n {8}for: \d+[sm]\n {8}labels:\n {10}severity: "
    r"(?:warning|critical)\n {8}annotations:\n {10}summary: '.+'\n {10}description: '.+'\n"
)


@asynccontextmanager
async def gateway(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    """An engine behind HTTP."""
    async with (
        serving(engine, bind("127.0.0.1", 0)) as server,
        httpx.AsyncClient(base_url=server.url, timeout=20) as http,
    ):
        yield http


def expressions() -> list[str]:
    """Everything that dashboard and alerts ask Prometheus."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [variable["query"] for variable in dashboard["templating"]["list"]]
    return asked + [expression for _, expression in rules()]


def rules() -> list[tuple[str, str]]:
    """The alert rules, by name; nothing else is in the file."""
    head, _, content = ALERTS.read_text().partition("    rules:\n")
    assert head.endswith("groups:\n  - name: tessera\n")
    assert RULE.sub("", content) == ""
    return RULE.findall(content)


async def exposed(http: httpx.AsyncClient) -> dict[str, set[str]]:
    """The series at /metrics, with the names of their labels."""
    text = (await http.get("/metrics")).text
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_every_metric_that_is_asked_for_is_there(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine, gateway(engine) as http:
        shop = await Shop.opened(engine)
        await shop.do(shop.transfer())
        await http.get("/health")
        shard_of(engine)._metrics.overloaded("mailbox")
        await engine.wait_projected()
        series = await exposed(http)
    asked = expressions()
    assert len(asked) > 20
    for expression in asked:
        names = METRIC.findall(expression)
        assert names or expression.startswith(("prometheus", "up")), expression
        for name in names:
            assert name in series, f"{name} in {expression}"
    for expression in asked:
        for by in re.findall(r"\bby \(([a-z_, ]+)\)", expression):
            wanted = {label.strip() for label in by.split(",")} - {"instance"}
            assert wanted <= set[str]().union(*(series[name] for name in METRIC.findall(expression)))


def test_dashboard_and_rules_are_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["description"] and panel["targets"] for panel in panels)
    names = [name for name, _ in rules()]
    assert len(set(names)) == len(names) > 8
    for _, expression in rules():
        assert expression.count("(") == expression.count(")")


async def test_what_a_shard_waits_for_adds_up(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine:
        shop = await Shop.opened(engine)
        for _ in range(5):
            await shop.do(shop.transfer())
        value = engine.metrics.registry.get_sample_value
        spent = {
            doing: value("tessera_shard_seconds_total", {"shard": "0", "doing": doing}) for doing in DOINGS
        }
        assert all(seconds is not None for seconds in spent.values())
        assert (spent["deciding"] or 0) > 0
        commits = value("tessera_commits_total", {"shard": "0"})
        assert value("tessera_commit_seconds_count", {"shard": "0"}) == commits
        assert (value("tessera_commit_seconds_sum", {"shard": "0"}) or 0) > 0
        assert (value("tessera_mailbox_seconds_count", {"shard": "0"}) or 0) >= 5


async def test_an_engine_that_refuses_work_is_not_ready(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL is too far behind: new work is refused, and readiness says so, until it has caught up."""
    async with Engine.running(settings_of(database)) as engine, gateway(engine) as http:
        shop = await Shop.opened(engine)
        await engine.wait_projected()
        assert (await http.get("/ready")).json() == {"ready": True, "reason": ""}
        feed = shard_of(engine).feed
        monkeypatch.setattr(feed, "lag_legs", engine.settings.projection_lag_legs_max + 1)
        with pytest.raises(Overloaded):
            await shop.one(shop.transfer())
        answer = await http.get("/ready")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert "legs behind" in answer.json()["reason"]
        health = await http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "blocked")
        engine.refresh_metrics()
        assert engine.metrics.registry.get_sample_value("tessera_serving", {"shard": "0"}) == 0
        monkeypatch.setattr(feed, "lag_legs", 0)
        assert (await http.get("/ready")).status_code == 200


async def test_health_says_when_sql_stands_still(database: Database) -> None:
    async with Engine.running(settings_of(database)) as engine, gateway(engine) as http:
        await engine.wait_projected()
        feed = shard_of(engine).feed
        feed.failure = RuntimeError("a table is gone")
        try:
            health = (await http.get("/health")).json()
            assert health["status"] == "serving"
            assert health["reason"] == "the projection has stopped: a table is gone"
            assert (await http.get("/ready")).status_code == 200
        finally:
            feed.failure = None
