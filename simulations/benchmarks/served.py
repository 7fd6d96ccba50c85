"""`tessera serve` in a process of its own, on a fresh embedded PostgreSQL, for one run of a benchmark.

    with served() as engine:
        … load to engine.url …
    engine.books

At the end of the block the engine is stopped and its books are proved, in yet another process; what they are
is then in `engine.books`. The database is deleted, whatever happened.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from gateway.client.errors import RequestRefused
from gateway.client.transport import Transport
from gateway.options import CommandFailed, ExitCode
from persistence.embedded import EmbeddedServer
from simulations.benchmarks.books import Proof
from simulations.benchmarks.measurement import peak_bytes, resident_bytes

END_S: Final = 600
"""How long an engine may take to stop: the projection catches up, and a snapshot is written."""
POLL_S: Final = 0.01
WAL_FILES: Final = 32
"""As many as the embedded server keeps."""
DRAIN_S: Final = 600
CLOSED_S: Final = 30
"""How long it may take until an engine asks for keys."""
SERVE: Final = ("serve", "--port", "0", "--json")
LOG: Final = "engine.log"


class Gateway:
    """What serves at a URL: an engine in one process, or the gateway of a cluster."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._transport = Transport(url)

    def health(self) -> dict[str, Any]:
        """What `/health` says: `lsn`, `projected_lsn`, `projection_lag_legs`, …"""
        content: dict[str, Any] = msgspec.json.decode(self._transport.send("GET", "/health").body)
        return content

    def metrics(self) -> dict[str, float]:
        """What `/metrics` says, each series summed over its labels."""
        found: dict[str, float] = {}
        text = self._transport.send("GET", "/metrics").body.decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def drain(self) -> float:
        """Wait until SQL shows everything that was answered; the time (`perf_counter`) at which it did."""
        deadline = time.perf_counter() + DRAIN_S
        while True:
            health = self.health()
            now = time.perf_counter()
            if health["projected_lsn"] >= health["lsn"] and not health["projection_lag_legs"]:
                return now
            if now > deadline or health["status"] == "stopped":
                raise CommandFailed(ExitCode.FAILED, f"The projection does not catch up: {health}.")
            time.sleep(POLL_S)


class ServedEngine(Gateway):
    """A running `tessera serve`, and its books after it has stopped."""

    def __init__(self, process: subprocess.Popen[str], url: str, folder: Path) -> None:
        super().__init__(url)
        self.folder = folder
        self.books = ""  # their hash, once they have been proved
        self.token = ""  # an API key, once it asks for one
        self._process = process

    @property
    def pid(self) -> int:
        """Of the engine's process."""
        return self._process.pid

    def ask_for_keys(self) -> None:
        """Make an API key, and wait until nobody comes in without one."""
        command = ("keys", "create", "--name", "bench", "--scope", "*", "--json")
        done = subprocess.run(  # noqa: S603  # ourselves
            [sys.executable, "-m", "gateway.cli", *command, "--data-dir", str(self.folder)],
            check=True,
            env=_environment({}),
            stdout=subprocess.PIPE,
        )
        self.token = msgspec.json.decode(done.stdout)["key"]
        deadline = time.perf_counter() + CLOSED_S
        while not self._refuses_strangers():
            if time.perf_counter() > deadline:
                raise CommandFailed(ExitCode.FAILED, "The engine does not ask for keys.")
            time.sleep(POLL_S)
        self._transport.close()
        self._transport = Transport(self.url, headers={"Authorization": f"Bearer {self.token}"})

    def _refuses_strangers(self) -> bool:
        try:
            self._transport.send("GET", "/v1/kinds")
        except RequestRefused as refused:
            return refused.code == "unauthenticated"
        return False

    def make_wal_files(self) -> None:
        """Have PostgreSQL make the files of its WAL, so that none is made under load: a server that has run
        for some minutes uses its old ones again."""
        with (
            EmbeddedServer(self.folder) as server,
            psycopg.connect(server.dsn, autocommit=True) as session,
        ):
            for _ in range(WAL_FILES):
                session.execute("select pg_logical_emit_message(true, '', ''), pg_switch_wal()")
            session.execute("checkpoint")

    def resident_bytes(self) -> int:
        """Memory of the engine's process; PostgreSQL's is not in it."""
        return resident_bytes(self.pid)

    def peak_bytes(self) -> int:
        """The most that it took so far."""
        return peak_bytes(self.pid)

    def _stop(self) -> None:
        self._transport.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=END_S)
        if self._process.returncode:
            raise CommandFailed(ExitCode.FAILED, f"The engine ended with an error: {_said(self.folder)}")


@contextmanager
def served(**settings: object) -> Iterator[ServedEngine]:
    """A fresh engine with these settings (names as in `actors.settings.Settings`; a variable of the
    environment that is not ours in upper case), stopped and verified at the end. Raises CommandFailed if it
    can't be started or its books are not in order."""
    with fresh_folder() as folder:
        with serving(folder, **settings) as engine:
            yield engine
        engine.books = prove(folder, **settings).books


@contextmanager
def serving(folder: Path, **settings: object) -> Iterator[ServedEngine]:
    """An engine on the database in a folder, stopped at the end. Raises CommandFailed."""
    engine = _started(folder, settings)
    try:
        yield engine
        engine._stop()
    finally:
        if engine._process.poll() is None:
            engine._process.kill()
            engine._process.communicate()


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """A folder for a database, both of which are deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="tessera-bench-") as name:
        folder = Path(name)
        try:
            yield folder
        finally:
            if any(folder.glob("postgres*")):
                server = EmbeddedServer(folder)
                server.start()
                server.destroy()


def prove(folder: Path, **settings: object) -> Proof:
    """Verify the books in a folder in a process of its own. Raises CommandFailed if they are not in order."""
    done = subprocess.run(  # noqa: S603  # ourselves
        [sys.executable, "-m", "simulations.benchmarks.books", str(folder)],
        check=False,
        env=_environment(settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise CommandFailed(ExitCode.FAILED, "The books could not be verified.")
    proof = msgspec.json.decode(done.stdout, type=Proof)
    if not proof.ok:
        raise CommandFailed(ExitCode.FAILED, f"The books are not in order: {'; '.join(proof.problems)}")
    return proof


def _started(folder: Path, settings: dict[str, object]) -> ServedEngine:
    with (folder / LOG).open("w") as log:
        process = subprocess.Popen(  # noqa: S603  # ourselves
            [sys.executable, "-m", "gateway.cli", *SERVE, "--data-dir", str(folder)],
            env=_environment(settings),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("}"):
            break
    announced = msgspec.json.decode(text) if text else {}
    if "url" not in announced:
        process.communicate()
        raise CommandFailed(ExitCode.FAILED, f"The engine did not start: {_said(folder)}")
    return ServedEngine(process, announced["url"], folder)


def _said(folder: Path) -> str:
    return (folder / LOG).read_text().strip()


def _environment(settings: dict[str, object]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    given = {name if name.isupper() else f"TESSERA_{name.upper()}": value for name, value in settings.items()}
    return ours | {name: str(value) for name, value in given.items()}
