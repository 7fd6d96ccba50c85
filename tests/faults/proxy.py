"""A proxy before PostgreSQL that loses sessions at a chosen message, as a failing network would.

It knows PostgreSQL's message framing on a Unix socket: after the first message, which has no type, each one
is a type byte, a size and content. Types used here: `d` CopyData, `c` CopyDone; `B` Bind and `S` Sync, the
first and the last one of a prepared statement; `K` in an answer is the process id that the server tells its
client.

    async with PostgresProxy(server_dsn) as proxy:
        cut = proxy.cut_before(b"c")          # the commit will not arrive
        cut = proxy.cut_after(b"c")           # the commit will arrive, its answer will not
        cut = proxy.cut_before(b"P", b"lock") # the next statement with "lock" in it will not arrive
        stalled = proxy.stall_at(b"d")        # nothing moves from the next CopyData on, until release()
        … await cut.wait()
"""

import asyncio
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

PORT: Final = 5432
MESSAGES_BEFORE: Final = 3
"""How many messages are just before another one: a Sync comes after Bind, Describe and Execute."""
_HEADER_BYTES: Final = 5


class _Fault:
    """What happens at the next message of a type, and the event that tells that it has happened."""

    def __init__(self, message: bytes, holding: bytes, following: bytes, action: str) -> None:
        self.message = message
        self.holding = holding
        self.following = following
        self.action = action
        self.struck = asyncio.Event()


class PostgresProxy:
    """Forwards sessions to the server of `dsn` until a fault is due. A fault strikes once."""

    def __init__(self, dsn: str, pooler_pid: int | None = None) -> None:
        self._target = conninfo_to_dict(dsn)
        self._pooler_pid = pooler_pid  # what sessions are told as their process id, as poolers do
        self._folder = Path(tempfile.mkdtemp(prefix="proxy-"))
        self._fault: _Fault | None = None
        self._answered = asyncio.Event()  # that of the fault whose message the server is answering
        self._released = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._sessions: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def dsn(self) -> str:
        """How to reach the same database through this proxy."""
        return make_conninfo("", **(self._target | {"host": str(self._folder), "port": PORT}))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._session, self._folder / f".s.PGSQL.{PORT}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.release()
        self.cut()
        if self._sessions:
            await asyncio.wait(self._sessions)
        shutil.rmtree(self._folder)

    def cut_before(self, message: bytes, holding: bytes = b"", following: bytes = b"") -> asyncio.Event:
        """Drops the session instead of forwarding the next such message, with `holding` in its content, in a
        session where one of the messages just before it has `following` in its content."""
        return self._set(_Fault(message, holding, following, "cut before"))

    def cut_after(self, message: bytes, holding: bytes = b"", following: bytes = b"") -> asyncio.Event:
        """Forwards the next such message, and drops the session when the server answers it."""
        return self._set(_Fault(message, holding, following, "cut after"))

    def stall_at(self, message: bytes, holding: bytes = b"") -> asyncio.Event:
        """Holds back the next such message and all that follow it from the client, until `release`."""
        self._released.clear()
        return self._set(_Fault(message, holding, b"", "stall"))

    def release(self) -> None:
        """Lets a stalled session go on."""
        self._released.set()

    def cut(self) -> None:
        """Drops all sessions now."""
        for writer in self._writers:
            writer.close()

    def _set(self, fault: _Fault) -> asyncio.Event:
        self._fault = fault
        return fault.struck

    def _due(self, message: bytes, content: bytes, before: Iterable[bytes]) -> _Fault | None:
        fault = self._fault
        if fault is None or message != fault.message:
            return None
        if fault.holding not in content:
            return None
        if fault.following and not any(fault.following in earlier for earlier in before):
            return None
        self._fault = None
        return fault

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        path = f"{self._target['host']}/.s.PGSQL.{self._target.get('port', PORT)}"
        server_reader, server_writer = await asyncio.open_unix_connection(path)
        self._writers |= {writer, server_writer}
        cut = asyncio.Event()
        try:
            forward = asyncio.create_task(self._forward(reader, server_writer, cut))
            backward = asyncio.create_task(self._backward(server_reader, writer, cut))
            await asyncio.wait((forward, backward), return_when=asyncio.FIRST_COMPLETED)
            forward.cancel()
            backward.cancel()
            await asyncio.wait((forward, backward))
        finally:
            for end in (writer, server_writer):
                end.close()
                self._writers.discard(end)
            self._sessions.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        """From the client to the server; ends when the session is to be dropped."""
        try:
            size = await reader.readexactly(4)
            writer.write(size + await reader.readexactly(int.from_bytes(size, "big") - 4))
            before: deque[bytes] = deque(maxlen=MESSAGES_BEFORE)
            while True:
                header = await reader.readexactly(_HEADER_BYTES)
                content = await reader.readexactly(int.from_bytes(header[1:], "big") - 4)
                fault = self._due(header[:1], content, before)
                before.append(content)
                if fault is not None:
                    if fault.action == "cut before":
                        fault.struck.set()
                        return
                    if fault.action == "stall":
                        fault.struck.set()
                        await self._released.wait()
                writer.write(header + content)
                if fault is not None and fault.action == "cut after":
                    self._answered = fault.struck
                    cut.set()
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    async def _backward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        """From the server to the client; ends when the session is to be dropped."""
        try:
            while True:
                header = await reader.readexactly(_HEADER_BYTES)
                content = await reader.readexactly(int.from_bytes(header[1:], "big") - 4)
                if cut.is_set():
                    self._answered.set()
                    return
                if header[:1] == b"K" and self._pooler_pid is not None:
                    content = self._pooler_pid.to_bytes(4, "big") + content[4:]
                writer.write(header + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
