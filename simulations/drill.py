"""The recovery drill: an engine under load is killed, its database is lost, a backup brings it back.

    python -m simulations.drill [--kept received|pg_wal|nothing] [--moves N] [--json]

What was acknowledged until then is remembered here. It prints how much of that is missing afterwards (RPO)
and how long it took from the loss to the first answer of the engine that was restored (RTO). With
PostgreSQL's log kept, nothing may be missing; with nothing kept but the base backup, what came after it is
gone, and the drill says how much that is.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import msgspec
import typer
from rich.console import Console

from engine.ids import format_id, uuid7
from gateway.logs import configure_logs
from gateway.options import AsJson, CommandFailed, ExitCode, print_result, reporting_failures
from persistence.embedded import EmbeddedServer

CLIENTS: Final = 8
MOVES: Final = 2_000
TIMEOUT_S: Final = 120.0
LOOKUP_MAX: Final = 1_000
POLL_S: Final = 0.05


class Kept(Enum):
    """What is left of PostgreSQL's log when the database is lost."""

    RECEIVED = "received"  # a synchronous follower has it: the machine may be gone
    PG_WAL = "pg_wal"  # the lost cluster's own files, say on another disk
    NOTHING = "nothing"  # only the base backup


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill found. Times in seconds; `rpo_s`: how long before the loss the oldest missing Move was
    acknowledged."""

    ok: bool
    kept: str
    acknowledged: int
    missing: int
    rpo_s: float
    rto_s: float
    restore_s: float
    backup_s: float
    verified: bool


class _Load:
    """Clients that post Moves, one after the other each, until the engine is gone."""

    def __init__(self, url: str) -> None:
        self.acknowledged: list[tuple[str, float]] = []  # id, and when its answer came
        self._url = url
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, moves: int) -> None:
        """Return once so many are acknowledged. Raises CommandFailed if that takes too long."""
        deadline = time.monotonic() + TIMEOUT_S
        while len(self.acknowledged) < moves:
            if time.monotonic() > deadline or not any(thread.is_alive() for thread in self._threads):
                raise CommandFailed(ExitCode.FAILED, f"{len(self.acknowledged)} Moves were acknowledged.")
            time.sleep(POLL_S)

    def end(self) -> None:
        """Return once no client goes on."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        leg = {"debit": "A:bank", "credit": f"L:tax/till-{number}", "amount": 1, "asset": "EUR"}
        with httpx.Client(base_url=self._url, timeout=TIMEOUT_S) as http:
            while not self._ending.is_set():
                id = format_id(uuid7(time.time_ns() // 1_000_000, 0, int.from_bytes(os.urandom(7), "big")))
                body = {"kind": "journal", "id": id, "legs": [leg]}
                try:
                    answer = http.post("/v1/moves", json=body)
                except httpx.HTTPError:
                    return  # the engine is gone; whether this Move happened is not known
                if answer.status_code != 201:
                    return
                self.acknowledged.append((id, time.monotonic()))


def run_drill(kept: Kept, moves: int) -> Drill:
    """One drill, on a database of its own that is deleted afterwards. Raises CommandFailed."""
    with tempfile.TemporaryDirectory(prefix="tessera-drill-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        data, restored, copy = folder / "data", folder / "restored", folder / "backup"
        try:
            return _drill(kept, moves, data, restored, copy)
        finally:
            for made in (data, restored):
                if any(made.glob("postgres*")):
                    server = EmbeddedServer(made)
                    server.start()
                    server.destroy()


def _drill(kept: Kept, moves: int, data: Path, restored: Path, copy: Path) -> Drill:
    with _command("serve", "--port", "0", "--data-dir", str(data)) as (engine, served):
        with httpx.Client(base_url=served["url"], timeout=TIMEOUT_S) as http:
            http.post("/v1/things", json={"kind": "asset", "code": "EUR", "exponent": 2}).raise_for_status()
        load = _Load(served["url"])
        load.wait_for(moves // 4)
        follow = ("--synchronous",) if kept is Kept.RECEIVED else ()
        started = time.monotonic()
        with _command("backup", str(copy), *follow, "--data-dir", str(data)) as (follower, _):
            backup_s = time.monotonic() - started
            if kept is not Kept.RECEIVED:
                follower.wait(TIMEOUT_S)
            load.wait_for(len(load.acknowledged) + moves)
            wal = _lose(data, engine, kept)
            lost = time.monotonic()
            load.end()
            if kept is Kept.RECEIVED:
                follower.send_signal(signal.SIGTERM)
                follower.communicate(timeout=TIMEOUT_S)
    came_back = _to_its_end(
        "restore",
        str(copy),
        "--no-verify",
        "--data-dir",
        str(restored),
        *(("--wal", str(wal)) if wal else ()),
    )
    with _command("serve", "--port", "0", "--data-dir", str(restored)) as (engine, served):
        with httpx.Client(base_url=served["url"], timeout=TIMEOUT_S) as http:
            http.get("/v1/trial-balance").raise_for_status()
            rto_s = time.monotonic() - lost
            missing = _missing(http, [id for id, _ in load.acknowledged])
        engine.send_signal(signal.SIGTERM)
        engine.communicate(timeout=TIMEOUT_S)
    verified = _to_its_end("verify", "--data-dir", str(restored))["ok"]
    times = [at for id, at in load.acknowledged if id in missing]
    return Drill(
        ok=verified and (not missing or kept is Kept.NOTHING),
        kept=kept.value,
        acknowledged=len(load.acknowledged),
        missing=len(missing),
        rpo_s=round(lost - min(times), 3) if times else 0.0,
        rto_s=round(rto_s, 3),
        restore_s=came_back["restore_s"],
        backup_s=round(backup_s, 3),
        verified=verified,
    )


def _lose(data: Path, engine: "subprocess.Popen[str]", kept: Kept) -> Path | None:
    """Kill the engine and PostgreSQL and delete the database, but for its log if that is kept; says where."""
    pointer = data / "postgres.location"
    cluster = Path(pointer.read_text().strip()) if pointer.exists() else data / "postgres"
    postmaster = int((cluster / "postmaster.pid").read_text().split()[0])
    engine.kill()
    os.kill(postmaster, signal.SIGKILL)
    engine.wait()
    gone = cluster.with_name(f"{cluster.name}.lost")
    cluster.rename(gone)
    pointer.unlink(missing_ok=True)
    wal = data.parent / "kept"
    if kept is Kept.PG_WAL:
        (gone / "pg_wal").rename(wal)
    subprocess.run(["rm", "-rf", str(gone)], check=True)  # noqa: S603, S607  # backends may still be ending
    return wal if kept is Kept.PG_WAL else None


def _missing(http: httpx.Client, ids: list[str]) -> set[str]:
    """Which of these Moves the engine does not know."""
    missing: set[str] = set()
    for at in range(0, len(ids), LOOKUP_MAX):
        asked = {"ids": ids[at : at + LOOKUP_MAX]}
        answer = http.post("/v1/moves/lookup", json=asked)
        if answer.is_error:
            raise CommandFailed(ExitCode.FAILED, f"Moves can't be looked up: {answer.text}")
        missing.update(answer.json()["missing"])
    return missing


@contextmanager
def _command(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """A command that is running and has said what it says first; killed at the end if it is still there."""
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe that nobody reads would fill up
    process = subprocess.Popen(  # noqa: S603  # ourselves
        [sys.executable, "-m", "gateway.cli", *arguments, "--json"],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if line.startswith("}"):
                break
        said = msgspec.json.decode(text) if text else {}
        if not said or "error" in said:
            process.communicate(timeout=TIMEOUT_S)
            log.seek(0)
            raise CommandFailed(ExitCode.FAILED, f"tessera {arguments[0]} failed: {log.read().strip()}")
        yield process, said
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        log.close()


def _to_its_end(*arguments: str) -> dict[str, Any]:
    with _command(*arguments) as (process, said):
        process.communicate(timeout=TIMEOUT_S)
        return said


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}


def drill(
    kept: Annotated[
        list[Kept] | None,
        typer.Option(help="What is left of PostgreSQL's log. Repeatable; all, unless given."),
    ] = None,
    moves: Annotated[int, typer.Option(min=1, help="Moves to be acknowledged after the backup.")] = MOVES,
    as_json: AsJson = False,
) -> None:
    """Kill an engine under load, lose its database, restore a backup, and print RPO and RTO."""
    configure_logs(logging.WARNING)
    with reporting_failures(as_json=as_json):
        for one in kept or list(Kept):
            done = run_drill(one, moves)
            print_result(done, _show, as_json=as_json)
            if not done.ok:
                raise typer.Exit(int(ExitCode.FAILED))


def _show(done: Drill, console: Console) -> None:
    books = "the books are in order" if done.verified else "[bold red]the books are not in order[/]"
    console.print(
        f"kept: {done.kept:8}  RPO {done.missing} of {done.acknowledged:,} acknowledged Moves "
        f"({done.rpo_s:.2f} s)  RTO {done.rto_s:.1f} s  (backup {done.backup_s:.1f} s, restore "
        f"{done.restore_s:.1f} s); {books}"
    )


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(drill)
    app()
