"""The client for ordinary code: calls return when what they asked for is durable."""

import ssl
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import numpy as np

from gateway.client.answers import Answers, joined
from gateway.client.columns import ACCOUNTS, LEGS, Given
from gateway.client.core import BATCH_ROWS, Batch, Core, Json
from gateway.client.events import Events
from gateway.client.transport import Retry, Transport

if TYPE_CHECKING:
    from gateway.client.calls import Call, Listing, Reply

T = TypeVar("T")

CONNECTIONS: Final = 4


class Client:
    """A client of one Tessera server. Safe for threads; close it, or use it as a context manager.

    `connections` is how many batches are on their way at a time. `token` is sent as a bearer token.
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
        self._core = make_core(url, token, connections, batch_rows, timeout_s, retry, tls, transport)
        self._connections = connections
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="tessera-client")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is on its way, and end the connections."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._core.transport.close()

    # Bulk

    def post_legs(self, legs: Given | None = None, /, *, in_order: bool = False, **columns: Any) -> Answers:
        """Write legs, any number of them; the answer to each, in order.

        Give columns by name (arrays, lists, or one value for all), an Arrow table, or a list of
        dictionaries; the names are those of the HTTP interface. Legs without an `id` get one. More than a
        batch is sent as several, which overlap and may be judged in any order, chains never cut; with
        `in_order` each waits for the one before. Raises InvalidColumns, RequestRefused, or Unavailable, after
        which any of the batches may have been written: send the same legs, with the same ids, again.
        """
        batches = self._core.batches(rows_or_columns(legs, columns), LEGS)
        return joined([self._core.post(batch) for batch in batches] if in_order else list(self._all(batches)))

    def create_accounts(self, accounts: Given | None = None, /, **columns: Any) -> Answers:
        """Open accounts under ids of yours, any number of them; the answer to each, in order.

        Arguments as those of `post_legs`; `id`, `asset` and `code` are needed. More than a batch is sent in
        order, so parents may come before their children.
        """
        return joined(
            [self._core.post(b) for b in self._core.batches(rows_or_columns(accounts, columns), ACCOUNTS)]
        )

    def post_stream(self, parts: Iterable[Given]) -> Iterator[Answers]:
        """Write legs as they come; the answers to each part, in order of the parts.

        As many parts are on their way as there are connections, so they may be judged in any order. A part is
        asked for when there is room for it, so a generator never runs ahead.
        """
        waiting: deque[list[Future[Answers]]] = deque()
        try:
            for part in parts:
                batches = self._core.batches(part, LEGS)
                waiting.append([self._pool.submit(self._core.post, batch) for batch in batches])
                while sum(map(len, waiting)) >= self._connections and waiting:
                    yield joined([future.result() for future in waiting.popleft()])
            while waiting:
                yield joined([future.result() for future in waiting.popleft()])
        finally:
            for future in (future for futures in waiting for future in futures):
                future.cancel()

    def _all(self, batches: list[Batch]) -> Iterable[Answers]:
        if len(batches) == 1:
            return [self._core.post(batches[0])]
        return self._pool.map(self._core.post, batches)

    # The rest of the interface, as JSON

    def create_thing(self, code: str, kind: str = "asset", **fields: Any) -> Json:
        """Add a Thing, such as a currency, to the catalogue."""
        return self._core.create_thing(code, kind, fields)

    def create_party(self, kind: str = "person", **fields: Any) -> Json:
        """Register a Party."""
        return self._core.create_party(kind, fields)

    def open_account(self, key: str, asset: str, **fields: Any) -> Json:
        """Open the account of a key and an asset, or find it."""
        return self._core.open_account(key, asset, fields)

    def move(self, kind: str, **fields: Any) -> Json:
        """Make a Move. Give `id` to make a call repeatable after this process is gone."""
        return self._core.move(kind, fields)

    def step(self, move: str, transition: str, **fields: Any) -> Json:
        """Let a Move take a step."""
        return self._core.step(move, transition, fields)

    def account(self, account: str) -> Json:
        """An account as it is now."""
        return self._core.get(f"/v1/accounts/{account}")

    def balance(self, account: str, *, at: str | None = None, business: str | None = None) -> Json:
        """What an account has, now or as of a time."""
        return self._core.get(f"/v1/accounts/{account}/balance", {"at": at, "business": business})

    def entries(self, account: str, **query: Any) -> Iterator[Json]:
        """An account's Entries, newest first unless told otherwise, page after page."""
        return self._core.pages(f"/v1/accounts/{account}/entries", query)

    def events(self, *, after: str = "now", **filters: Any) -> Events:
        """What is committed, as it is: every event after a position, once, in order, without end.

        `after` is the id of an event, `start` or `now`. Filters are `type`, `party`, `account`, `kind` and
        `asset`, one value or a list. If the connection breaks, or the server restarts, it goes on where it
        was.
        """
        return Events(self._core.transport, filters, after)

    # All of the interface, typed; see `gateway.client.api`

    def call(self, call: "Call[T]", *, after: int | None = None) -> T:
        """The answer to a call. With `after`, a position in the log, it has everything up to there."""
        return self._core.ask(call, after).content

    def ask(self, call: "Call[T]", *, after: int | None = None) -> "Reply[T]":
        """The same, with the position, the version, and whether it was a repeat."""
        return self._core.ask(call, after)

    def items(self, listing: "Listing[T]", *, after: int | None = None) -> Iterator[T]:
        """Every item of a list, page by page."""
        cursor = None
        while True:
            page = self.call(listing.page(cursor), after=after)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    # Webhooks

    def create_webhook(self, url: str, **fields: Any) -> Json:
        """Have events sent to a URL: `webhook`, and its `secret`, which is shown this once.

        Fields are `name`, `filter` and `after`.
        """
        return self._core.create_webhook(url, fields)

    def webhooks(self) -> Iterator[Json]:
        """Where events are sent to."""
        return self._core.pages("/v1/webhooks", {})

    def webhook(self, webhook: str) -> Json:
        """One webhook: how far it has got, and how it is doing."""
        return self._core.webhook("GET", webhook)

    def change_webhook(self, webhook: str, **fields: Any) -> Json:
        """Change `url`, `name`, `filter`, or `state`, which may be `active` or `paused`."""
        return self._core.webhook("PATCH", webhook, content=fields)

    def remove_webhook(self, webhook: str) -> Json:
        """Send nothing more to it; returns what it was."""
        return self._core.webhook("DELETE", webhook)

    def rotate_webhook_secret(self, webhook: str, *, overlap_s: int = 86_400) -> Json:
        """Give a webhook a new `secret`. If the answer is lost, ask again: every call makes another one."""
        return self._core.webhook("POST", webhook, "/rotate", {"overlap_s": overlap_s})

    def deliveries(self, webhook: str, **query: Any) -> Iterator[Json]:
        """The newest attempts to deliver, newest first; `failed` asks for one sort only."""
        return self._core.pages(f"/v1/webhooks/{webhook}/deliveries", query)

    def dead_events(self, webhook: str) -> Iterator[Json]:
        """Events that are not tried any more."""
        return self._core.pages(f"/v1/webhooks/{webhook}/dead", {})

    def replay_dead_events(self, webhook: str, events: list[str] | None = None) -> Json:
        """Try dead events again, those that are named or all; returns how many in `events`."""
        return self._core.webhook("POST", webhook, "/replay", {} if events is None else {"events": events})

    # Everything else

    def get(self, path: str, **query: Any) -> Json:
        """What any other path answers, such as `/v1/trial-balance`."""
        return self._core.get(path, query)


def make_core(
    url: str,
    token: str | None,
    connections: int,
    batch_rows: int,
    timeout_s: float,
    retry: Retry | None,
    tls: ssl.SSLContext | None,
    transport: Transport | None,
) -> Core:
    """What a client of either kind calls through."""
    if connections < 1:
        raise ValueError(f"connections is {connections}; at least 1 is needed")
    if transport is None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        transport = Transport(url, headers=headers, timeout_s=timeout_s, retry=retry, tls=tls)
    return Core(transport, batch_rows, np.random.default_rng())


def rows_or_columns(rows: Given | None, columns: Mapping[str, Any]) -> Given:
    """What was given to a call, one way or the other."""
    if rows is None:
        return columns
    if columns:
        raise TypeError("give either a table or columns by name, not both")
    return rows
