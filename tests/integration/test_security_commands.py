"""`tessera keys`, `tessera audit`, and what `tessera serve` asks of an address that others can reach."""

import asyncio
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg
import pytest
import structlog
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.options import ExitCode
from persistence.database import Database
from tests.certificates import make_certificate
from tests.integration.test_cli import serving, tessera, url_of

PARTY: Final = "019aa0c2-7c00-7000-8000-00000000a11c"
KEY: Final = re.compile(r"tsk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}")


class Commands:
    """The commands, run in this process on one database."""

    def __init__(self, database: Database) -> None:
        self._database = ["--database-url", url_of(database)]

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, *self._database], catch_exceptions=False)

    def said(self, *arguments: str, code: ExitCode = ExitCode.OK) -> Any:
        done = self.run(*arguments, "--json")
        assert done.exit_code == code, done.stderr
        return json.loads(done.stdout)

    async def in_thread(self, *arguments: str, code: ExitCode = ExitCode.OK) -> Any:
        """What a command says that starts an event loop of its own."""
        return await asyncio.to_thread(self.said, *arguments, code=code)


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Commands that run in this process log to an output that is gone after them."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def commands(database: Database) -> Commands:
    return Commands(database)


def test_a_key_from_its_making_to_its_end(commands: Commands) -> None:
    scopes = ("--scope", "moves:write:transfer", "--scope", "*:read")
    more = ("--party", PARTY, "--expires", "90d", "--rate", "10", "--burst", "20")
    made = commands.said("keys", "create", "--name", "till 7", *scopes, *more)
    assert KEY.fullmatch(made["key"])
    assert made["key"].split("_")[1] == made["id"]
    assert made["scopes"] == ["*:read", "moves:write:transfer"]
    assert (made["party"], made["rate"], made["burst"], made["state"]) == (PARTY, 10, 20, "good")

    rotated = commands.said("keys", "rotate", made["id"], "--overlap", "1h")
    assert KEY.fullmatch(rotated["key"])
    unlike = {"id", "key", "created", "expires", "replaces"}
    for name in made.keys() - unlike:
        assert rotated[name] == made[name], name
    assert rotated["replaces"] == made["id"]
    assert all(rotated[name] != made[name] for name in ("id", "key"))

    assert commands.said("keys", "revoke", rotated["id"]) == {"id": rotated["id"], "was_good": True}
    assert commands.said("keys", "revoke", rotated["id"]) == {"id": rotated["id"], "was_good": False}
    listed = {key["id"]: key for key in commands.said("keys", "list")["keys"]}
    assert {id: key["state"] for id, key in listed.items()} == {made["id"]: "good", rotated["id"]: "revoked"}
    assert listed[made["id"]]["expires"] < made["expires"]
    assert all(key["key"] is None for key in listed.values())

    entries = commands.said("audit", "list")["entries"]
    assert [entry["action"] for entry in entries] == ["keys revoke", "keys rotate", "keys create"]
    assert {entry["principal"].partition(":")[0] for entry in entries} == {"os"}
    assert not KEY.search(json.dumps(entries))
    assert commands.said("audit", "verify")["ok"]


def test_a_key_is_printed_alone(commands: Commands) -> None:
    done = commands.run("keys", "create", "--name", "me", "--scope", "*")
    assert KEY.fullmatch(done.stdout.strip())
    assert "only time" in done.stderr
    shown = commands.run("keys", "list").stdout
    assert "me" in shown
    assert not KEY.search(shown)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["keys", "create", "--name", "x", "--scope", "moves"], "moves:write:KIND"),
        (["keys", "create", "--name", "x", "--scope", "*", "--party", "alice"], "--party"),
        (["keys", "create", "--name", "x", "--scope", "*", "--expires", "soon"], "90d"),
        (["keys", "rotate", "0123456789abcdef"], "tessera keys list"),
        (["keys", "rotate", "0123456789abcdef", "--overlap", "1y"], "12h"),
        (["keys", "revoke", "0123456789abcdef"], "tessera keys list"),
        (["audit", "verify", "--head", "7"], "--head"),
    ],
)
def test_what_makes_no_sense(commands: Commands, arguments: list[str], words: str) -> None:
    done = commands.run(*arguments)
    assert done.exit_code == ExitCode.USAGE
    assert words in done.stderr
    assert commands.said("audit", "verify")["entries"] == 0


def test_an_audit_log_that_was_tampered_with(commands: Commands, database: Database) -> None:
    for name in ("one", "two", "three"):
        commands.said("keys", "create", "--name", name, "--scope", "*")
    head = commands.said("audit", "verify")["head"]
    assert commands.said("audit", "verify", "--head", head)["ok"]
    with psycopg.connect(database.dsn, autocommit=True) as session:
        session.execute("delete from tessera.audit where seq = 3")
    assert commands.said("audit", "verify")["ok"]
    cut = commands.said("audit", "verify", "--head", head, code=ExitCode.FAILED)
    assert cut["problems"] == ["entry 3 is not there; the log ends at 2"]
    with psycopg.connect(database.dsn, autocommit=True) as session:
        session.execute("update tessera.audit set principal = 'os:nobody' where seq = 1")
    done = commands.run("audit", "verify")
    assert done.exit_code == ExitCode.FAILED
    assert "tampered" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "192.0.2.1"], "--auth"),
        (["--host", "192.0.2.1", "--auth"], "--tls-cert"),
        (["--tls-cert", "{folder}/server.pem"], "--tls-key"),
        (["--tls-client-ca", "{folder}/server.pem"], "--tls-key"),
        (["--tls-cert", "{folder}/server.pem", "--tls-key", "{folder}/other.key"], "TLS can't be set up"),
        (["--tls-cert", "{folder}/none.pem", "--tls-key", "{folder}/server.key"], "none.pem"),
    ],
)
def test_what_serve_refuses(tmp_path: Path, arguments: list[str], words: str) -> None:
    make_certificate(tmp_path, "server")
    make_certificate(tmp_path, "other")
    given = [argument.format(folder=tmp_path) for argument in arguments]
    done = CliRunner().invoke(app, ["serve", "--port", "0", "--database-url", "postgresql://x", *given])
    assert done.exit_code == ExitCode.USAGE, done.output
    assert words in done.stderr.replace("\n", " ")


def test_serve_with_keys_and_tls(database: Database, tmp_path: Path) -> None:
    """For an address that others can reach, as one would run it."""
    files = make_certificate(tmp_path, "server")
    options = ("--auth", "--tls-cert", str(files.certificate), "--tls-key", str(files.key))
    with serving("--host", "0.0.0.0", "--database-url", url_of(database), *options) as server:  # noqa: S104  # it asks for keys
        assert server.said["auth"] is True
        assert server.said["url"].startswith("https://0.0.0.0:")
        url = server.said["url"].replace("0.0.0.0", "127.0.0.1")  # noqa: S104  # see above
        trusting = ssl.create_default_context(cafile=str(files.certificate))
        with httpx.Client(base_url=url, verify=trusting) as http:
            assert http.get("/v1/things").status_code == 401
            made = tessera(
                "keys", "create", "--name", "me", "--scope", "*", "--database-url", url_of(database)
            )
            assert made.returncode == 0, made.stderr
            http.headers["Authorization"] = f"Bearer {made.stdout.strip()}"
            assert http.get("/v1/things").json() == {"items": [], "next": None}
        code, out, err = server.end()
    assert (code, out) == (0, "")
    assert not KEY.search(err)


def test_no_key_is_asked_for_until_there_is_one(database: Database) -> None:
    with serving("--database-url", url_of(database)) as server:
        assert server.said["auth"] is False
        assert server.http.get("/v1/things").status_code == 200
        Commands(database).said("keys", "create", "--name", "me", "--scope", "*", "--party", str(UUID(int=7)))
        answers = (server.http.get("/v1/things") for _ in range(10_000))
        assert any(answer.status_code == 401 for answer in answers), "after a second at most"
