"""`tessera webhooks`, the client's calls behind it, and who may use them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.settings import Settings
from gateway.cli import app
from gateway.client import AsyncClient, RequestRefused
from gateway.security.settings import SecuritySettings
from gateway.webhooks.signatures import make_secret, secret_of, secret_text
from tests.fixtures_gateway import RunningGateway
from tests.integration.test_access import Guarded
from tests.integration.test_webhook_sources import RULES

NOWHERE = "http://127.0.0.1:9/hook"


class Commands:
    """`tessera webhooks …` against a gateway, in this process."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, *arguments: str) -> Any:
        """What a command says as JSON."""
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def run(self, *arguments: str) -> Any:
        command = ["webhooks", *arguments]
        return CliRunner().invoke(app, command, env={"TESSERA_URL": self._url}, catch_exceptions=False)


@pytest.fixture
def webhooks(gateway: RunningGateway) -> Commands:
    return Commands(gateway.url)


def test_a_webhook_from_its_beginning_to_its_end(webhooks: Commands) -> None:
    made = webhooks("create", NOWHERE, "--name", "books", "--type", "move", "--kind", "transfer")
    id = made["webhook"]["id"]
    assert made["webhook"]["filter"]["types"] == ["move"]
    [listed] = webhooks("list")["webhooks"]
    assert (listed["id"], listed["name"]) == (id, "books")
    assert webhooks("pause", id)["state"] == "paused"
    rotated = webhooks("rotate", id, "--overlap", "0")
    assert secret_of(rotated["secret"]) != secret_of(made["secret"])
    assert webhooks("resume", id)["state"] == "active"
    assert webhooks("log", id, "--failed") == {"deliveries": []}
    assert webhooks("dead", id) == {"events": []}
    assert webhooks("replay", id) == {"events": 0}
    assert webhooks("remove", id)["id"] == id
    assert webhooks("list") == {"webhooks": []}


def test_what_is_printed(webhooks: Commands) -> None:
    made = webhooks.run("create", NOWHERE, "--name", "[bold]")
    assert secret_of(made.stdout.strip())
    assert "only time" in made.stderr
    shown = webhooks.run("list")
    assert "[bold]" in shown.stdout
    [listed] = webhooks("list")["webhooks"]
    for command, said in (
        ("log", "attempt"),
        ("dead", "attempts"),
        ("replay", "0 events"),
        ("pause", "paused"),
    ):
        assert said in webhooks.run(command, listed["id"]).stdout
    assert "no more" in webhooks.run("remove", listed["id"]).stdout


def test_a_source_from_its_beginning_to_its_end(webhooks: Commands, tmp_path: Path) -> None:
    rules, ours = tmp_path / "rules.json", tmp_path / "secret"
    rules.write_text(json.dumps(RULES))
    ours.write_text(secret_text(make_secret()) + "\n")
    made = webhooks("sources", "create", "acme", "--rules", str(rules))
    assert secret_of(made["secret"])
    assert made["source"]["url"] == "/v1/webhook-sources/acme/messages"
    assert [one["name"] for one in webhooks("sources", "list")["sources"]] == ["acme"]
    rotated = webhooks("sources", "rotate", "acme", "--secret-file", str(ours), "--overlap", "0")
    assert rotated["secret"] == ours.read_text().strip()
    rules.write_text(json.dumps(RULES[:1]))
    assert len(webhooks("sources", "change", "acme", "--rules", str(rules))["rules"]) == 1
    for command, said in (("show", "payment.settled"), ("list", "acme"), ("rotate", "whsec_")):
        arguments = ["acme"] if command != "list" else []
        assert said in webhooks.run("sources", command, *arguments).stdout
    for content in ("[{}]", "no JSON"):
        rules.write_text(content)
        done = webhooks.run("sources", "change", "acme", "--rules", str(rules))
        assert (done.exit_code, "rules" in done.stderr) == (10, True)
    assert "no more" in webhooks.run("sources", "remove", "acme").stdout
    assert webhooks.run("sources", "show", "acme").exit_code == 1


def test_what_is_refused(webhooks: Commands) -> None:
    done = webhooks.run("create", "ftp://example.com/")
    assert done.exit_code == 1
    assert "url" in done.stderr
    assert webhooks.run("pause", "nothing").exit_code == 1
    assert webhooks.run("list", "--server", "nowhere").exit_code == 2


async def test_the_client_for_asyncio(gateway: RunningGateway) -> None:
    async with AsyncClient(gateway.url) as client:
        id = (await client.create_webhook(NOWHERE, name="books"))["webhook"]["id"]
        assert (await client.webhook(id))["name"] == "books"
        assert (await client.change_webhook(id, state="paused"))["state"] == "paused"
        assert secret_of((await client.rotate_webhook_secret(id))["secret"])
        assert await client.replay_dead_events(id) == {"events": 0}
        assert (await client.remove_webhook(id))["id"] == id
        with pytest.raises(RequestRefused, match="not_found"):
            await client.webhook(id)


@pytest.fixture(scope="module")
def guarded(spare_databases: Any) -> Iterator[Guarded]:
    settings = Settings(database_url=spare_databases())
    with Guarded(settings, SecuritySettings(auth=True)) as gateway:
        yield gateway


def test_telling_events_needs_to_be_allowed_to_read_them(guarded: Guarded) -> None:
    draft = {"url": NOWHERE}
    with guarded.client(guarded.key("webhooks:write")) as alone:
        assert alone.post("/v1/webhooks", json=draft).status_code == 403
    with guarded.client(guarded.key("webhooks:write", "events:read")) as both:
        made = both.post("/v1/webhooks", json=draft)
        assert made.status_code == 201, made.text
        path = f"/v1/webhooks/{made.json()['webhook']['id']}"
        assert both.get(path).status_code == 403
    with guarded.client(guarded.key("webhooks:write", "webhooks:read")) as others:
        assert others.get(path).status_code == 200
        assert others.patch(path, json={"url": NOWHERE}).status_code == 403
        assert others.delete(path).status_code == 200


def test_taking_moves_further_needs_to_be_allowed(guarded: Guarded) -> None:
    draft = {"name": "acme", "rules": RULES}
    path = "/v1/webhook-sources"
    for scopes in (["webhook-sources:write"], ["webhook-sources:write", "moves:write:transfer"]):
        with guarded.client(guarded.key(*scopes)) as alone:
            assert alone.post(path, json=draft).status_code == 403
    with guarded.client(guarded.key("webhook-sources:write", "moves:write")) as both:
        assert both.post(path, json=draft).status_code == 201
    with guarded.client("") as nobody:
        answer = nobody.post(f"{path}/acme/messages", json={"type": "payment.settled"})
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
