"""`tessera serve` in a process of its own, to be killed, stopped and woken.

async with ServedEngine.started(url) as served:
    … httpx to served.url …
    served.kill()
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
ROOT: Final = Path(__file__).resolve().parents[2]


class ServedEngine:
    """One run of the command."""

    def __init__(self, process: asyncio.subprocess.Process, said: dict[str, Any]) -> None:
        assert process.stderr is not None
        self.url: str = said["url"]
        self.epoch: int = said["epoch"]
        self.process = process
        self._errors = asyncio.create_task(process.stderr.read(), name="served-stderr")

    @classmethod
    @asynccontextmanager
    async def started(cls, url: str, *options: str, **environment: str) -> AsyncIterator["ServedEngine"]:
        """A process that serves the database at `url`; it is gone at the end."""
        served = await cls.start(url, *options, **environment)
        try:
            yield served
        finally:
            if served.process.returncode is None:
                served.kill()
            await served.ended()

    @classmethod
    async def start(cls, url: str, *options: str, **environment: str) -> "ServedEngine":
        """The same, for callers that end it themselves."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "gateway.cli", "serve", "--port", "0", "--json", "--database-url", url, *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**ours, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment},
        )
        assert process.stdout is not None
        text = b""
        async with asyncio.timeout(START_S):
            while not text.endswith(b"}\n"):
                line = await process.stdout.readline()
                if not line:
                    assert process.stderr is not None
                    errors = await process.stderr.read()
                    await process.wait()
                    raise ChildProcessError(f"exit code {process.returncode}: {errors.decode()}")
                text += line
        return cls(process, json.loads(text))

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Let it stand still."""
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Ask it to end gracefully."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> tuple[int, str]:
        """Wait for its end; its exit code and what it logged."""
        async with asyncio.timeout(START_S):
            code = await self.process.wait()
            return code, (await self._errors).decode()
