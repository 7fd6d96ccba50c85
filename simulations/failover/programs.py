"""Programs that can be struck: a process with everything that it has started, as if it were a machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gateway.options import CommandFailed, ExitCode

POLL_S: Final = 0.02
END_S: Final = 120
TOLD_CHARACTERS: Final = 4_000


class Program:
    """A process, and all that descend from it. What it logs goes to a file."""

    def __init__(self, log: Path, *command: str, **variables: str) -> None:
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._output = log.with_suffix(".out")
        with log.open("ab") as errors, self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # ourselves
                [sys.executable, "-m", *command],
                env={name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
                | variables,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._process.pid

    def announced(self, limit_s: float) -> dict[str, object]:
        """The JSON object that it prints. Raises CommandFailed if it does not within the limit."""
        self.until(lambda: self._output.read_bytes().endswith(b"}\n"), limit_s)
        found: dict[str, object] = msgspec.json.decode(self._output.read_bytes())
        return found

    def logged(self, text: str) -> int:
        """How often it has logged something with this in it."""
        return self._log.read_bytes()[self._log_start :].count(text.encode())

    def until(self, condition: Callable[[], bool], limit_s: float) -> None:
        """Wait for something that it does. Raises CommandFailed if it takes too long, or has ended."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text()[-TOLD_CHARACTERS:]
                raise CommandFailed(ExitCode.FAILED, f"A program did not do what it should: {said}")
            time.sleep(POLL_S)

    def tree(self) -> list[int]:
        """The process ids of all of it, ancestors first."""
        return descendants(self.pid)

    def strike(self, number: signal.Signals) -> list[int]:
        """Send a signal to all of it at once; to whom."""
        struck = self.tree()
        for pid in struck:
            send(pid, number)
        return struck

    def end(self) -> None:
        """Let it end in order; kill whatever is left."""
        last = self.tree()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            for pid in last:
                send(pid, signal.SIGKILL)
            self._process.wait()
        finally:
            assert self._process.stdin is not None
            self._process.stdin.close()


def descendants(pid: int) -> list[int]:
    """A process and all that it and its children have started, ancestors first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def gone(pids: list[int]) -> bool:
    """Whether none of these processes is there any more."""
    return not any(_parent(Path(f"/proc/{pid}")) is not None for pid in pids)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _parent(entry: Path) -> int | None:
    """The parent of a process, None if it is gone, or dead and only not yet waited for."""
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[1])
