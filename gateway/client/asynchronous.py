"""The client for asyncio: the same calls, awaited.

Requests run in threads of the client's own, as many as there are connections: encoding and sending half a
megabyte would hold up an event loop, and a socket in a thread does not.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gateway.client.answers import Answers, joined
from gateway.client.columns import ACCOUNTS, LEGS, Given
from gateway.client.core import BATCH_ROWS, Core, Json
from gateway.client.events import AsyncEvents, Events
from gateway.client.sync import CONNECTIONS, make_core, rows_or_columns
from gateway.client.transport import Retry, Transport

if TYPE_CHECKING:
    from gateway.client.calls import Call, Listing, Reply

_T = TypeVar("_T")


class AsyncClient:
    """A client of one Tessera server, for the tasks of one event loop. Close it, or use it as a context
    manager.

    Arguments and calls are those of `gateway.client.Client`. A call that is cancelled may still be carried
    out.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8330",
        *,
        token: str | None = None,
        connections: int = CONNECTIONS,
        batch_rows: int = BATCH_ROWS,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        tls: ssl.SSLContext | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._core: Core = make_core(url, token, connections, batch_rows, timeout_s, retry, tls, transport)
        self._connections = connections
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="tessera-client")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for what is on its way, and end the connections."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
        self._core.transport.close()

    def _run(self, call: Callable[..., _T], *arguments: Any) -> "asyncio.Future[_T]":
        return asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    # Bulk

    async def post_legs(
        self, legs: Given | None = None, /, *, in_order: bool = False, **columns: Any
    ) -> Answers:
        """Write legs, any number of them; the answer to each, in order. See `Client.post_legs`."""
        batches = await self._run(self._core.batches, rows_or_columns(legs, columns), LEGS)
        if in_order:
            return joined([await self._run(self._core.post, batch) for batch in batches])
        return joined(await asyncio.gather(*(self._run(self._core.post, batch) for batch in batches)))

    async def create_accounts(self, accounts: Given | None = None, /, **columns: Any) -> Answers:
        """Open accounts under ids of yours. See `Client.create_accounts`."""
        batches = await self._run(self._core.batches, rows_or_columns(accounts, columns), ACCOUNTS)
        return joined([await self._run(self._core.post, batch) for batch in batches])

    async def post_stream(self, parts: Iterable[Given] | AsyncIterable[Given]) -> AsyncIterator[Answers]:
        """Write legs as they come; the answers to each part, in order of the parts. See
        `Client.post_stream`."""
        waiting: deque[asyncio.Task[Answers]] = deque()
        try:
            async for part in _each(parts):
                waiting.append(asyncio.create_task(self.post_legs(part)))
                if len(waiting) >= self._connections:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()

    # The rest of the interface, as JSON

    async def create_thing(self, code: str, kind: str = "asset", **fields: Any) -> Json:
        """Add a Thing, such as a currency, to the catalogue."""
        return await self._run(self._core.create_thing, code, kind, fields)

    async def create_party(self, kind: str = "person", **fields: Any) -> Json:
        """Register a Party."""
        return await self._run(self._core.create_party, kind, fields)

    async def open_account(self, key: str, asset: str, **fields: Any) -> Json:
        """Open the account of a key and an asset, or find it."""
        return await self._run(self._core.open_account, key, asset, fields)

    async def move(self, kind: str, **fields: Any) -> Json:
        """Make a Move. Give `id` to make a call repeatable after this process is gone."""
        return await self._run(self._core.move, kind, fields)

    async def step(self, move: str, transition: str, **fields: Any) -> Json:
        """Let a Move take a step."""
        return await self._run(self._core.step, move, transition, fields)

    def events(self, *, after: str = "now", **filters: Any) -> AsyncEvents:
        """What is committed, as it is, without end. See `Client.events`."""
        return AsyncEvents(Events(self._core.transport, filters, after))

    # All of the interface, typed; see `gateway.client.api`

    async def call(self, call: "Call[_T]", *, after: int | None = None) -> _T:
        """The answer to a call. See `Client.call`."""
        return (await self.ask(call, after=after)).content

    async def ask(self, call: "Call[_T]", *, after: int | None = None) -> "Reply[_T]":
        """The answer with what came beside it. See `Client.ask`."""
        return await self._run(self._core.ask, call, after)

    async def items(self, listing: "Listing[_T]", *, after: int | None = None) -> AsyncIterator[_T]:
        """Every item of a list, page by page."""
        cursor = None
        while True:
            page = await self.call(listing.page(cursor), after=after)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    # Webhooks

    async def create_webhook(self, url: str, **fields: Any) -> Json:
        """Have events sent to a URL. See `Client.create_webhook`."""
        return await self._run(self._core.create_webhook, url, fields)

    async def webhook(self, webhook: str) -> Json:
        """One webhook: how far it has got, and how it is doing."""
        return await self._run(self._core.webhook, "GET", webhook)

    async def change_webhook(self, webhook: str, **fields: Any) -> Json:
        """Change a webhook. See `Client.change_webhook`."""
        return await self._run(self._core.webhook, "PATCH", webhook, "", fields)

    async def remove_webhook(self, webhook: str) -> Json:
        """Send nothing more to it; returns what it was."""
        return await self._run(self._core.webhook, "DELETE", webhook)

    async def rotate_webhook_secret(self, webhook: str, *, overlap_s: int = 86_400) -> Json:
        """Give a webhook a new `secret`. If the answer is lost, ask again: every call makes another one."""
        return await self._run(self._core.webhook, "POST", webhook, "/rotate", {"overlap_s": overlap_s})

    async def replay_dead_events(self, webhook: str, events: list[str] | None = None) -> Json:
        """Try dead events again. See `Client.replay_dead_events`."""
        content = {} if events is None else {"events": events}
        return await self._run(self._core.webhook, "POST", webhook, "/replay", content)

    # Everything else

    async def get(self, path: str, **query: Any) -> Json:
        """What any other path answers, such as `/v1/trial-balance`."""
        return await self._run(self._core.get, path, query)


async def _each(parts: Iterable[Given] | AsyncIterable[Given]) -> AsyncIterator[Given]:
    if isinstance(parts, AsyncIterable):
        async for part in parts:
            yield part
    else:
        for part in parts:
            yield part
