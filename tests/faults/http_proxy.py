"""A proxy before the gateway that stays when the gateway goes, and loses answers when it is told to.

async with HttpProxy(url) as proxy:
    … a client of proxy.url …
    proxy.lose_answers(2)       # the next two requests arrive, their answers do not
    proxy.target = other_url    # from the next connection on
"""

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

BLOCK_BYTES = 1 << 18


class HttpProxy:
    """Forwards connections to `target`, and closes those that can't be forwarded."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.answers = 0  # answers forwarded, by their first bytes
        self.lost = 0
        self._to_lose = 0
        self._answered = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def lose_answers(self, count: int) -> None:
        """Let the next answers go astray, and their connections with them."""
        self._to_lose = count

    async def cut(self) -> None:
        """Break all connections."""
        broken = list(self._connections)
        for connection in broken:
            connection.cancel()
        await asyncio.gather(*broken, return_exceptions=True)

    async def answered(self, count: int) -> None:
        """Wait until so many answers have been forwarded in all."""
        async with self._answered:
            await self._answered.wait_for(lambda: self.answers >= count)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        target = urlsplit(self.target)
        try:
            answers, requests = await asyncio.open_connection(target.hostname, target.port)
            try:
                pumps = {
                    asyncio.create_task(self._forward(reader, requests, False)),
                    asyncio.create_task(self._forward(answers, writer, True)),
                }
                _, others = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in others:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            finally:
                requests.close()
        except OSError:
            pass  # nobody is there: the client's connection is closed
        finally:
            writer.close()
            self._connections.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, of_server: bool
    ) -> None:
        while block := await reader.read(BLOCK_BYTES):
            if of_server and block.startswith(b"HTTP/1.1 "):
                if self._to_lose:
                    self._to_lose -= 1
                    self.lost += 1
                    return
                self.answers += 1
                async with self._answered:
                    self._answered.notify_all()
            writer.write(block)
            await writer.drain()
