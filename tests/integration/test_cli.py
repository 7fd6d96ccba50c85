"""The command `tessera` as a user runs it: a process of its own, its output, its exit code."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest

from gateway.options import ExitCode
from persistence.database import Database

TIMEOUT_S: Final = 120
COMMAND: Final = [sys.executable, "-m", "gateway.cli"]
ROOT: Final = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: ours without Tessera's own variables, and plain text."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    return {**ours, "PYTHONPATH": str(ROOT), "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200", **more}


def tessera(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment(**more),
        check=False,
    )


class Serving:
    """A `tessera serve` that has said where it serves."""

    def __init__(self, process: subprocess.Popen[str], said: dict[str, Any]) -> None:
        self.process = process
        self.said = said
        self.http = httpx.Client(base_url=said["url"], timeout=TIMEOUT_S)

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send it a signal; its exit code and what it said after that."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        """Its exit code, and what it said since it serves."""
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, out, err


@contextmanager
def serving(*arguments: str) -> Iterator[Serving]:
    """`tessera serve` on a free port, killed at the end if it is still there."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, f"it ended: {process.communicate()[1]}"
            text += line
        server = Serving(process, json.loads(text))
        with server.http:
            yield server
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def failed(done: subprocess.CompletedProcess[str], code: ExitCode, *words: str) -> None:
    """It ended with that code and said these words, without a traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def url_of(database: Database) -> str:
    """How a command reaches a test's database."""
    return str(database.dsn)


# Options


@pytest.mark.parametrize("command", [[], ["serve"], ["verify"], ["replay"], ["demo"], ["bench"]])
def test_every_command_helps(command: list[str]) -> None:
    done = tessera(*command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: tessera" in done.stdout
    if command:
        assert "--json" in done.stdout
    else:
        for name in ("serve", "verify", "replay", "demo", "bench"):
            assert name in done.stdout


def test_version() -> None:
    assert tessera("--version").stdout.startswith("tessera ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--host", "192.0.2.1"], ["no login", "--insecure-listen"]),
        (["serve", "--host", "example.org"], ["no login"]),
        (
            ["serve", "--data-dir", "a", "--database-url", "postgresql://x"],
            ["Both --data-dir and --database-url"],
        ),
        (
            ["verify", "--data-dir", "a", "--database-url", "postgresql://x"],
            ["Both --data-dir and --database-url"],
        ),
        (["serve", "--port", "65536"], ["--port", "65535"]),
        (["serve", "--colour"], ["No such option"]),
        (["fly"], ["No such command"]),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    failed(done, ExitCode.USAGE, *words)
    assert list(tmp_path.iterdir()) == []


def test_setting_in_the_environment_that_makes_no_sense() -> None:
    done = tessera("verify", "--database-url", "postgresql://x", TESSERA_SNAPSHOT_LEGS="many")
    failed(done, ExitCode.USAGE, "TESSERA_SNAPSHOT_LEGS")


def test_failure_as_json() -> None:
    done = tessera("verify", "--json", "--data-dir", "a", "--database-url", "b")
    said = json.loads(done.stdout)
    assert (said["ok"], said["exit_code"]) == (False, 2)
    assert "Both --data-dir and --database-url" in said["error"]


def test_port_in_use_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = tessera("serve", "--data-dir", str(tmp_path / "data"), "--port", port)
    failed(done, ExitCode.PORT_IN_USE, port, "--port")
    assert not list(tmp_path.glob("data/postgres*"))


def test_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = tessera("serve", "--data-dir", str(tmp_path / "file" / "data"))
    failed(done, ExitCode.DATA_DIR, "can't be written", "--data-dir")


def test_nothing_to_verify(tmp_path: Path) -> None:
    done = tessera("verify", "--data-dir", str(tmp_path / "typo"))
    failed(done, ExitCode.DATA_DIR, "no database", "--data-dir")
    assert list(tmp_path.iterdir()) == []


def test_database_that_does_not_answer() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = tessera(
        "verify", "--database-url", f"postgresql://127.0.0.1:{port}/none", TESSERA_CONNECT_LIMIT_S="1"
    )
    failed(done, ExitCode.DATABASE_UNREACHABLE, str(port))


def test_database_of_a_newer_version(database: Database) -> None:
    with psycopg.connect(url_of(database), autocommit=True) as connection:
        connection.execute("set search_path to tessera")
        connection.execute("insert into migration (number, name, checksum) values (9999, 'future', 'x')")
    done = tessera("verify", "--database-url", url_of(database))
    failed(done, ExitCode.SCHEMA_NEWER, "9999", "newer")


# Serving


def test_serve_until_told_to_stop_and_verify(database: Database) -> None:
    with serving("--database-url", url_of(database)) as server:
        made = server.http.post("/v1/things", json={"kind": "asset", "code": "GBP", "exponent": 2})
        assert made.status_code == 201, made.text
        leg = {"debit": "A:bank", "credit": "L:tax/gb", "amount": 100, "asset": "GBP"}
        assert server.http.post("/v1/moves", json={"kind": "journal", "legs": [leg]}).status_code == 201

        held = tessera("serve", "--port", "0", "--database-url", url_of(database))
        failed(held, ExitCode.LOCK_HELD, "--takeover")
        beside = tessera("verify", "--database-url", url_of(database))
        assert (beside.returncode, "All is well" in beside.stdout) == (0, True), beside.stderr
        assert "memory was not compared" in beside.stdout
        code, out, err = server.end()
        assert (code, out) == (0, ""), err

    with serving("--database-url", url_of(database)) as server:
        lines = server.http.get("/v1/trial-balance").json()["lines"]
        assert [(line["asset"], line["debits"]) for line in lines] == [("GBP", 100)]
        assert server.end(signal.SIGINT)[0] == 0

    done = tessera("verify", "--json", "--database-url", url_of(database))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["ok"], said["memory"], said["problems"]) == (True, True, [])
    assert said["checked"]


def test_takeover_ends_the_engine_that_was_there(database: Database) -> None:
    with serving("--database-url", url_of(database)) as first:
        assert first.http.get("/health").status_code == 200
        with serving("--database-url", url_of(database), "--takeover") as second:
            code, _, err = first.wait()
            assert code == ExitCode.STOPPED, err
            assert "has stopped" in err
            assert "Traceback" not in err
            assert second.http.post("/v1/parties", json={"kind": "person"}).status_code == 201
            assert second.end()[0] == 0


def test_answers_what_is_in_flight_before_it_stops(database: Database) -> None:
    """A request that was taken is answered, although the signal comes while its body is still on the way."""
    with serving("--database-url", url_of(database)) as server:
        body = b'{"kind":"person","name":"late"}'
        port = int(server.said["url"].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
            connection.sendall(
                b"POST /v1/parties HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            assert connection.recv(1024).startswith(b"HTTP/1.1 100")
            server.process.send_signal(signal.SIGTERM)
            connection.sendall(body)
            assert connection.recv(4096).startswith(b"HTTP/1.1 201")
        assert server.wait()[0] == 0
