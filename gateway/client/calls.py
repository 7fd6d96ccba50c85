"""A request of the interface as a value: what is asked, and what the answer is."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import msgspec

from gateway.wire import decode_value, encode

T = TypeVar("T")
_VERSION: Final = re.compile(r'"(\d+)(?:-\d+)?"')
_JSON: Final = {"Content-Type": "application/json"}


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request. `answer` is the type of its answer; `keyed` writes are sent under an `Idempotency-Key`."""

    method: str
    path: str
    answer: Any
    query: dict[str, Any] = {}
    body: Any = None
    keyed: bool = False

    @property
    def target(self) -> str:
        """Path and query."""
        given = {name: _text(value) for name, value in self.query.items() if value is not None}
        return f"{self.path}?{urlencode(given, doseq=True)}" if given else self.path

    @property
    def is_at_home_somewhere(self) -> bool:
        """Whether its id, which the caller has not given, may have to tell where a Move is at home."""
        return self.path.startswith("/v1/moves") and getattr(self.body, "id", self) is None

    def content(self, new_id: Callable[[], str], keyed: bool = False) -> tuple[bytes | None, dict[str, str]]:
        """The body, with an id if it takes one and has none, and the headers; with `keyed`, a key instead."""
        body, headers = self.body, {"Accept": "application/json"}
        if body is None:
            return None, headers
        if getattr(body, "id", self) is None and not keyed:
            body = msgspec.structs.replace(body, id=UUID(new_id()))
        if self.keyed or keyed:
            headers["Idempotency-Key"] = new_id()
        return encode(body), {**headers, **_JSON}

    def decoded(self, body: bytes) -> T:
        """The answer."""
        answer: T = _decoder(self.answer).decode(body)
        return answer


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some items of a list, and the `cursor` of the next page if there is one."""

    items: list[T]
    next: str | None = None


class Listing(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A list under its filters, page by page."""

    path: str
    item: Any
    query: dict[str, Any]

    def page(self, cursor: str | None = None) -> Call[Page[T]]:
        """The call for one page of it."""
        return Call(
            method="GET",
            path=self.path,
            answer=Page[self.item],  # type: ignore[name-defined]  # known when it is made
            query={**self.query, "cursor": cursor},
        )


class Reply(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """An answer with what came beside it: the position in the log that a write has (0 for reads), the version
    of what was answered (0 if it has none), and whether it had happened before."""

    content: T
    lsn: int = 0
    version: int = 0
    replayed: bool = False


def reply_of(call: Call[T], body: bytes, headers: Mapping[str, str]) -> Reply[T]:
    """The reply that a response is."""
    tag = _VERSION.fullmatch(headers.get("etag", ""))
    return Reply(
        content=call.decoded(body),
        lsn=int(headers.get("tessera-lsn", 0)),
        version=0 if tag is None else int(tag[1]),
        replayed=headers.get("idempotent-replayed") == "true",
    )


def get(path: str, answer: type[T], **query: Any) -> Call[T]:
    """A call that reads."""
    return Call(method="GET", path=path, answer=answer, query=query)


def post(path: str, answer: type[T], body: Any, *, keyed: bool = False, **query: Any) -> Call[T]:
    """A call that writes."""
    return Call(method="POST", path=path, answer=answer, query=query, body=body, keyed=keyed)


def listing(path: str, item: type[T], **query: Any) -> Listing[T]:
    """A list of items."""
    return Listing(path=path, item=item, query=query)


def _text(value: Any) -> Any:
    """A value as it stands in a query."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    return str(value)


@lru_cache(maxsize=128)
def _decoder(answer: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(answer, dec_hook=decode_value)
