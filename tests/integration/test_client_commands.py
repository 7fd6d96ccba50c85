"""`tessera accounts`, `moves` and `events tail` against a running gateway."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.options import ExitCode
from tests.fixtures_gateway import Client, RunningGateway


def tessera(*arguments: str, url: str, code: ExitCode = ExitCode.OK) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, [*arguments, "--server", url], env={"COLUMNS": "250", "NO_COLOR": "1"})
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout if code is ExitCode.OK else done.output


def as_json(*arguments: str, url: str) -> Any:
    return json.loads(tessera(*arguments, "--json", url=url))


@pytest.fixture
def paid(http: Client) -> tuple[str, str, str]:
    """A Party, its wallet, and a transfer of 30 of its 100."""
    party = http.party("Ada")
    wallet = http.fund(party, 100)
    usual = {"kind": "transfer", "payer": party, "payee": http.party(), "asset": "GBP", "amount": 30}
    made = http.post("/v1/moves", json={**usual, "reference": f"rent-{party}"})
    assert made.status_code == 201, made.text
    return party, wallet, made.json()["id"]


def test_accounts(gateway: RunningGateway, paid: tuple[str, str, str]) -> None:
    party, wallet, move = paid
    assert wallet in tessera("accounts", "list", "--party", party, url=gateway.url)
    [item] = as_json("accounts", "list", "--party", party, url=gateway.url)["items"]
    assert item["counters"]["credits_posted"] == 100
    by_key = as_json("accounts", "show", f"L:wallet/{party}", "--asset", "GBP", url=gateway.url)
    assert by_key["account"]["id"] == wallet
    assert by_key["balance"]["posted"] == 70
    assert [entry["amount"] for entry in by_key["entries"]] == [30, 100]
    text = tessera("accounts", "show", wallet, url=gateway.url)
    assert "70 posted, 70 available" in text
    assert move in text


def test_moves(gateway: RunningGateway, paid: tuple[str, str, str]) -> None:
    party, _, move = paid
    assert move in tessera("moves", "list", "--party", party, "--kind", "transfer", url=gateway.url)
    [item] = as_json("moves", "list", "--reference", f"rent-{party}", url=gateway.url)["items"]
    assert item["id"] == move
    shown = as_json("moves", "show", move, url=gateway.url)
    assert shown["move"]["state"] == "posted"
    assert not any(step["allowed"] for step in shown["next"]["transitions"])
    text = tessera("moves", "show", move, url=gateway.url)
    assert f"L:wallet/{party}" in text
    assert "post → posted" in text


def test_events_tail(gateway: RunningGateway, paid: tuple[str, str, str]) -> None:
    party, _, move = paid
    filters = ("--after", "start", "--party", party, "--type", "move", "--count", "1")
    [line] = tessera("events", "tail", *filters, "--json", url=gateway.url).splitlines()
    assert json.loads(line)["data"]["id"] == move
    assert "move.created" in tessera("events", "tail", *filters, url=gateway.url)


def test_what_goes_wrong(gateway: RunningGateway) -> None:
    told = tessera("accounts", "list", "--asset", "none", url=gateway.url, code=ExitCode.FAILED)
    assert "invalid_parameter" in told
    assert "--asset" in tessera("accounts", "show", "A:bank", url=gateway.url, code=ExitCode.USAGE)
    assert "is no id" in tessera("moves", "show", "rent", url=gateway.url, code=ExitCode.USAGE)
