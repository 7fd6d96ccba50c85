"""`tessera serve` in a process of its own, to be killed, stopped and woken.

    async with ServedEngine.started(url) as served:
        … httpx to served.url …
        served.kill()

A `Nursery` runs one after the other and is much quicker at it, since each process begins with everything
imported.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

START_S: Final = 120
"""How long it may take until it serves: importing the kernel is slow on a machine with much to do."""
TOLD_CHARACTERS: Final = 20_000
ROOT: Final = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """Ours without Tessera's own variables."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    return {**ours, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **more}


async def said(output: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next JSON object that a command prints, None at the end."""
    text = b""
    async with asyncio.timeout(START_S):
        while line := await output.readline():
            text += line
            if line.rstrip().endswith(b"}"):
                answer: dict[str, Any] = json.loads(text)
                return answer
    return None


class ServedEngine:
    """One run of the command."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        assert process.stderr is not None
        self.url = url
        self._process = process
        self._errors = asyncio.create_task(process.stderr.read(), name="served-stderr")

    @classmethod
    @asynccontextmanager
    async def started(cls, url: str, *options: str, **variables: str) -> AsyncIterator["ServedEngine"]:
        """A process that serves the database at `url`; it is gone at the end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway.cli", "serve", "--port", "0", "--json", "--database-url", url, *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(**variables),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        announced = await said(process.stdout)
        if announced is None:
            errors = await process.stderr.read()
            raise ChildProcessError(f"exit code {await process.wait()}: {errors.decode()}")
        served = cls(process, announced["url"])
        try:
            yield served
        finally:
            if process.returncode is None:
                process.kill()
            await served.ended()

    def stop(self) -> None:
        """Let it stand still."""
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    async def ended(self) -> tuple[int, str]:
        """Wait for its end; its exit code and what it logged."""
        async with asyncio.timeout(START_S):
            code = await self._process.wait()
            return code, (await self._errors).decode()


class Nursery:
    """Serves one database, in one process after the other."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        assert process.stderr is not None
        self.url = ""
        self.epoch = 0
        self.running = False
        self._pid = 0
        self._process = process
        self._command = ["serve", "--port", "0", "--json", "--database-url", url]
        self._errors = asyncio.create_task(process.stderr.read(), name="nursery-stderr")

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, **variables: str) -> AsyncIterator["Nursery"]:
        """Nothing is running yet; nothing is at the end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.faults.nursery"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(**variables),
        )
        nursery = cls(process, url)
        try:
            yield nursery
        finally:
            if nursery.running:
                await nursery.end(signal.SIGKILL)
            assert process.stdin is not None
            process.stdin.close()
            async with asyncio.timeout(START_S):
                await process.wait()
                print((await nursery._errors).decode()[-TOLD_CHARACTERS:])  # if the test fails

    async def serve(self) -> None:
        """Start to serve."""
        assert not self.running
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._command).encode() + b"\n")
        announced = await said(self._process.stdout)
        if announced is None or "url" not in announced:
            self._process.kill()
            raise ChildProcessError(f"{announced}: {(await self._errors).decode()}")
        self.url, self.epoch, self._pid = announced["url"], announced["epoch"], announced["pid"]
        self.running = True

    async def end(self, number: signal.Signals) -> int:
        """Send it that signal, and wait until it is gone; the exit code, negative for a signal."""
        assert self._process.stdout is not None
        os.kill(self._pid, number)
        ended = await said(self._process.stdout)
        assert ended is not None
        assert ended["ended"] == self._pid
        self.running = False
        return int(ended["status"])
