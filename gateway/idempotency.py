"""The header `Idempotency-Key`: the same request under the same key happens once, whatever it is.

A client's key is claimed in the ledger itself before anything is done: the first to claim it says which id
its request has and what is in it, and that holds for ever, across restarts and gateways. The request then
happens under that id, as if the client had sent it, so it is the ledger that knows a repeat. Another request
under the same key is refused, naming the first field in which it differs.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar.params import HeaderParameter

from actors.runtime import Engine
from engine.commands import Refusal
from engine.requests import Digester
from gateway.problems import refusal

HEADER: Final = "Idempotency-Key"
KEY_LENGTH_MAX: Final = 255
_SKIPPED: Final = frozenset({"id", "if_version"})
"""Fields of a body that say when it may happen, not what."""

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name=HEADER,
        min_length=1,
        max_length=KEY_LENGTH_MAX,
        description="Your own name for this request, instead of an id in the body. Sent again under the same "
        "key, it happens once; another request under it is refused.",
    ),
]


async def request_id(
    engine: Engine,
    key: str | None,
    operation: str,
    body: Any,
    given: UUID | None,
    fresh: Callable[[], int],
) -> int:
    """The id under which a request happens: the one `given` in its body, the one that its key stands for, or
    a `fresh` one. `operation` is its method and path.

    Raises Problem if the key stands for another request.
    """
    id = fresh() if given is None else given.int
    if key is None:
        return id
    digest = digest_of(operation, body)
    claimed = await engine.claim(key, digest, id)
    field = ""
    if claimed.digest != digest:
        field = first_difference(body, claimed.digest, digest)
    elif given is not None and claimed.request != id:
        field = "id"
    if field:
        raise refusal(
            Refusal.EXISTS_WITH_DIFFERENT_CONTENT,
            f"{field}: another request was sent under this {HEADER}, and differs from this one in it",
        )
    return claimed.request


async def claim_only(engine: Engine, key: str | None, operation: str, body: Any) -> None:
    """For a request that has the same effect however often it is sent: see to it that its key is used for no
    other. Raises Problem if it is."""
    await request_id(engine, key, operation, body, None, lambda: 0)


def digest_of(operation: str, body: Any) -> bytes:
    """Stands for a request's content."""
    form = _form_of(body)
    return form.digester.digest(form.request(operation, body))


def first_difference(body: Any, stored: bytes, given: bytes) -> str:
    """The first field in which two requests differ, as far as that can be told."""
    return _form_of(body).digester.first_difference(stored, given)


class _Array(msgspec.Struct):
    """A request whose body is an array."""

    operation: str = ""
    body: list[Any] | None = None


class _Form:
    """What requests with bodies of one type are made of: the operation, and then the fields."""

    def __init__(self, body: type) -> None:
        self._kind = _Array if issubclass(body, list) else _with_operation(body)
        self.digester = Digester(self._kind, _SKIPPED)

    def request(self, operation: str, body: Any) -> msgspec.Struct:
        """A request of that form, as plain data."""
        content = msgspec.to_builtins(body, enc_hook=int)
        fields = {"body": content} if isinstance(content, list) else content
        made: msgspec.Struct = self._kind(operation=operation, **fields)
        return made


_forms: dict[type, _Form] = {}
"""By the type of the body; there are as many as routes at most."""


def _form_of(body: Any) -> _Form:
    kind = type(body)
    form = _forms.get(kind)
    if form is None:
        form = _forms[kind] = _Form(kind)
    return form


def _with_operation(kind: Any) -> Any:
    """A body's fields, and the operation before them."""
    fields = [
        (field.name, Any, msgspec.field(default_factory=field.default_factory))
        if field.default_factory is not msgspec.NODEFAULT
        else (field.name, Any, None if field.default is msgspec.NODEFAULT else field.default)
        for field in msgspec.structs.fields(kind)
    ]
    return msgspec.defstruct(f"Request[{kind.__name__}]", [("operation", str, ""), *fields])
