"""The Ray runtime: an engine whose shards are kept running by Ray.

    this process ── engine over sockets ──▶ shards
        ├─ supervisor (a process: Ray's driver)      started again whenever it ends
        └─ head node (a process; without --address)  started again whenever it ends

This process itself has nothing to do with Ray, so it goes on serving when Ray's head is lost. Without an
address it runs a head of its own, on this machine, and the shards end with it; a cluster whose address it was
given keeps its shards when this process ends.
"""

import asyncio
import importlib.util
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec
import structlog

from actors.cluster.engine import REACH_LIMIT_S, ClusterEngine
from actors.cluster.ray_node import RayNodeOptions, environment
from actors.cluster.supervision import Action, RayOptions, Request, Said, encode
from actors.errors import ClusterRefused
from actors.settings import Settings
from persistence import cluster, placement, schema
from persistence.database import Database

HEAD_START_S: Final = 120.0
READY_S: Final = 180.0
"""How long a supervisor may say nothing until it has done what it was asked for, or says why it can't."""
STOP_S: Final = 150.0
POLL_S: Final = 0.1
PAUSE_MIN_S: Final = 1.0
PAUSE_MAX_S: Final = 5.0
ANSWER_S: Final = 3.0

_log = structlog.get_logger(__name__)


class RayRuntime(ClusterEngine):
    """An engine over shards that it keeps running. Use `open_runtime`, and `close` at the end."""

    _head: "_Child | None" = None
    _supervision: "Supervision | None" = None

    @classmethod
    async def open_runtime(cls, settings: Settings, options: RayOptions) -> "RayRuntime":
        """Prepare the database, have Ray start the shards that do not run, and reach them.

        Raises ClusterRefused, PersistenceError, ShardStopped.
        """
        check_installed()
        database = Database(settings.database)
        await asyncio.to_thread(database.start)
        head: _Child | None = None
        supervision: Supervision | None = None
        try:
            await schema.migrate(database)
            where = await placement.agreed(database, settings.shards)
            found = await cluster.join(database, where.shards)
            address = options.address
            if address is None:
                head, address = await _start_head(found.shards)
            request = Request(
                address=address,
                settings=settings,
                shards=found.shards,
                first_port=options.first_port,
                stop_shards=head is not None,
            )
            supervision = await Supervision.start(request)
            engine = await cls.connect(settings, REACH_LIMIT_S)
        except BaseException:
            await _end(supervision, head)
            raise
        finally:
            await asyncio.to_thread(database.stop)
        engine._head, engine._supervision = head, supervision
        return engine

    @classmethod
    @asynccontextmanager
    async def running_runtime(cls, settings: Settings, options: RayOptions) -> AsyncIterator["RayRuntime"]:
        """An engine for the length of a block."""
        engine = await cls.open_runtime(settings, options)
        try:
            yield engine
        finally:
            await engine.close()

    async def close(self) -> None:
        """Hang up, and end what this process has started: shards only if the head is ours too."""
        try:
            await super().close()
        finally:
            await _end(self._supervision, self._head)


def check_installed() -> None:
    """Raises ClusterRefused if Ray is not there."""
    if importlib.util.find_spec("ray") is None:
        raise ClusterRefused(
            "Ray is not installed.", "It is the extra `cluster`: pip install 'tessera[cluster]'."
        )


async def carry_out(settings: Settings, action: Action, address: str | None, **more: Any) -> None:
    """Stop all shards, move one, or drain a node of a cluster that is there. Raises ClusterRefused,
    PersistenceError."""
    check_installed()
    database = Database(settings.database)
    await asyncio.to_thread(database.start)
    try:
        found = await cluster.read(database) if await schema.is_made(database) else None
        if found is None:
            raise ClusterRefused("No cluster uses this database.", "Name the database of one.")
        where = address or found.holder
        if not where:
            raise ClusterRefused("No Ray cluster has ever run these shards.", "Give --address HOST:PORT.")
        request = Request(action=action, address=where, settings=settings, shards=found.shards, **more)
        await (await ask(request)).end()
    finally:
        await asyncio.to_thread(database.stop)


async def _start_head(shards: int) -> "tuple[_Child, str]":
    """A head of our own, and its address once it answers."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    options = RayNodeOptions(head=True, port=port, shards_max=shards, cpus=0)
    head = await _Child.start("actors.cluster.ray_node", msgspec.json.encode(options).decode())
    try:
        async with asyncio.timeout(HEAD_START_S):
            while not await _answers(address):
                if head.process.returncode is not None:
                    raise ClusterRefused("Ray's head does not start; what it printed says why.")
                await asyncio.sleep(POLL_S)
    except TimeoutError as exc:
        await head.end()
        raise ClusterRefused(f"Ray's head did not start within {HEAD_START_S:.0f} s.") from exc
    except BaseException:
        await head.end()
        raise
    return head, address


async def _answers(address: str) -> bool:
    """Whether anybody listens there."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _end(supervision: "Supervision | None", head: "_Child | None") -> None:
    if supervision is not None:
        await supervision.end()
    if head is not None:
        await head.end()


class _Child:
    """A program of ours in a process that ends when its standard input does."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.stdin = process.stdin
        self.stdout = process.stdout

    @classmethod
    async def start(cls, module: str, *arguments: str) -> "_Child":
        """Start it; what it says to people goes where ours goes."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", module, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
            start_new_session=True,  # Ctrl-C is for us: we end them in order
        )
        return cls(process)

    async def end(self) -> int:
        """Let it end, and wait for it; its exit code."""
        self.stdin.close()
        try:
            async with asyncio.timeout(STOP_S):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()


class Supervision:
    """Keeps a supervisor running."""

    def __init__(self, request: Request, child: _Child) -> None:
        self._request = request
        self._child = child
        self._ending = False
        self._task = asyncio.create_task(self._watch(), name="supervision")

    @classmethod
    async def start(cls, request: Request) -> "Supervision":
        """Start a supervisor, and wait until it has created the shards. Raises ClusterRefused."""
        child = await ask(request)
        return cls(request, child)

    async def end(self) -> None:
        """End the supervisor."""
        self._ending = True
        await self._child.end()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        pause_s = PAUSE_MIN_S
        while True:
            while (said := await _next(self._child)) is not None:
                if said.text:
                    _log.info("the supervisor notes", note=said.text)
                pause_s = PAUSE_MIN_S
            code = await self._child.process.wait()
            if self._ending:
                return
            _log.warning("the supervisor has ended; shards go on without it", exit_code=code)
            while not self._ending:
                await asyncio.sleep(pause_s)
                if not await _answers(self._request.address):
                    pause_s = PAUSE_MIN_S  # looking costs nothing, and shards may wait for the head
                    continue
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
                try:
                    self._child = await ask(self._request)
                    break
                except ClusterRefused as refusal:
                    _log.warning("no supervisor now; shards go on without one", reason=refusal.reason)


async def ask(request: Request) -> _Child:
    """Start a supervisor with a request, and wait until it is ready. Raises ClusterRefused."""
    child = await _Child.start("actors.cluster.supervisor")
    try:
        with suppress(ConnectionError):  # then it has ended already, and says why
            child.stdin.write(encode(request) + b"\n")
            await child.stdin.drain()
        async with asyncio.timeout(READY_S) as limit:
            while (said := await _next(child)) is not None:
                limit.reschedule(asyncio.get_running_loop().time() + READY_S)
                if said.event == "ready":
                    return child
                if said.event == "refused":
                    raise ClusterRefused(said.text, said.hint)
                _log.info("the supervisor notes", note=said.text)
        raise ClusterRefused("the supervisor ended before it was ready; what it printed says why")
    except TimeoutError as exc:
        child.process.kill()
        await child.end()
        raise ClusterRefused(f"the supervisor said nothing for {READY_S:.0f} s") from exc
    except BaseException:
        await child.end()
        raise


async def _next(child: _Child) -> Said | None:
    """The next thing that it says, None at its end. Other programs' output is passed on."""
    while line := await child.stdout.readline():
        try:
            return msgspec.json.decode(line, type=Said)
        except msgspec.DecodeError:
            _log.info("the supervisor printed", text=line.decode(errors="replace").rstrip())
    return None
