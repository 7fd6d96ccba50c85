"""How values look on the wire: JSON in, JSON out, and nothing that could lose a digit on the way.

Ids are UUID text. Amounts are whole numbers of minor units, as JSON integers or as strings of digits, and
are sent as strings above 2^53 - 1, where JavaScript would round them. Times are nanoseconds inside and RFC
3339 text with nine digits outside; both are accepted. A float, a boolean or NaN is never an amount.

`JsonBody[T]` decodes a request's body straight into the struct `T`; `Answer` encodes a response. Both go
through the codecs here, so every route speaks the same dialect.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final, Self, TypeVar, get_args

import msgspec
from litestar.dto import AbstractDTO
from litestar.openapi.spec import Reference, Schema
from litestar.response import Response
from litestar.response.base import ASGIResponse
from litestar.typing import FieldDefinition

from engine.layout import AMOUNT_MAX, SECOND_NS
from gateway.preconditions import tagged
from gateway.problems import gateway_problem, malformed_json, wrong_value

JSON_INTEGER_MAX: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""
UNSIGNED_64_MAX: Final = 2**64 - 1
SUM_MAX: Final = 10**38 - 1
DIGITS_MAX: Final = 38
ESCAPED_NUL: Final = rb"\u0000"

_INTEGER = re.compile(r"[+-]?[0-9]+")
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+\- ])(\d\d):(\d\d))"
)  # a "+" in a query string arrives as a space
_MINUTE_S: Final = 60

T = TypeVar("T")


class WrongValue(ValueError):  # noqa: N818  # named for what the client sent
    """A value that a field cannot take; `code` is the problem's code if it is not the general one."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


def _whole_number(value: object, what: str, lowest: int, highest: int, code: str | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        kind = {bool: "a boolean", float: "a number with a fraction or exponent", type(None): "null"}
        given = kind.get(type(value), f"a JSON {'array' if isinstance(value, list) else 'object'}")
        raise WrongValue(
            f"{what} is a whole number, as a JSON integer or a string of digits; got {given}", code
        )
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value) or len(value) > DIGITS_MAX:
            raise WrongValue(f"{what} as a string is a sign and digits only; got {_shortened(value)}", code)
        value = int(value)
    if value < lowest == 0:
        raise WrongValue(
            f"{what} is never negative; got {_shortened(str(value))}", code and "negative_amount"
        )
    if not lowest <= value <= highest:
        raise WrongValue(f"{what} lies between {lowest} and {highest}; got {_shortened(str(value))}", code)
    return value


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


class Amount(int):
    """An amount in minor units of its asset: 0 to 2^63 - 1."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The amount, or WrongValue saying what is wrong with it."""
        return cls(_whole_number(value, "an amount in minor units", 0, AMOUNT_MAX, "invalid_amount"))


class Balance(int):
    """A sum or a limit in minor units, which may be negative: -(2^63 - 1) to 2^63 - 1."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The number, or WrongValue saying what is wrong with it."""
        return cls(_whole_number(value, "a balance or limit in minor units", -AMOUNT_MAX, AMOUNT_MAX))


class Sum(int):
    """A sum over many accounts in minor units: 0 to 10^38 - 1, since each of them may have 64 bits."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The number, or WrongValue saying what is wrong with it."""
        return cls(_whole_number(value, "a sum in minor units", 0, SUM_MAX))


class Unsigned64(int):
    """A free number of the client's: 0 to 2^64 - 1."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The number, or WrongValue saying what is wrong with it."""
        return cls(_whole_number(value, "this number", 0, UNSIGNED_64_MAX))


class Instant(int):
    """A moment as nanoseconds since 1970 in UTC; RFC 3339 text on the wire."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The moment, or WrongValue saying what is wrong with it."""
        if isinstance(value, str) and not _INTEGER.fullmatch(value):
            return cls(_nanoseconds(value))
        return cls(_whole_number(value, "a time in nanoseconds since 1970", 0, AMOUNT_MAX))

    @property
    def text(self) -> str:
        """RFC 3339 with nine digits, in UTC."""
        seconds, nanoseconds = divmod(int(self), SECOND_NS)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def _nanoseconds(text: str) -> int:
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise WrongValue(
            "a time is RFC 3339 with an offset, such as 2011-12-09T12:50:00Z, or nanoseconds since 1970; "
            f"got {_shortened(text)}"
        )
    day, clock, fraction, _, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}+00:00")
    except ValueError as exc:
        raise WrongValue(f"{_shortened(text)} is no time: {exc}") from None
    offset_s = 0 if sign is None else (int(hours) * _MINUTE_S + int(minutes)) * _MINUTE_S
    seconds = int(moment.timestamp()) - (-offset_s if sign == "-" else offset_s)
    if not 0 <= seconds <= AMOUNT_MAX // SECOND_NS - 1:
        raise WrongValue(f"a time lies between 1970 and 2262; got {_shortened(text)}")
    return seconds * SECOND_NS + int((fraction or "").ljust(9, "0"))


WIRE_TYPES: Final = (Amount, Balance, Sum, Unsigned64, Instant)


def decode_value(kind: type, value: object) -> Any:
    """Decode one value of ours, for msgspec and for Litestar's parameters."""
    if kind in WIRE_TYPES:
        return kind.from_json(value)
    raise NotImplementedError(f"no wire format for {kind}")


def encode_value(value: object) -> int | str:
    """Encode one value of ours."""
    if isinstance(value, Instant):
        return value.text
    if isinstance(value, int):
        return int(value) if -JSON_INTEGER_MAX <= value <= JSON_INTEGER_MAX else str(int(value))
    raise NotImplementedError(f"no wire format for {type(value)}")


_ENCODER = msgspec.json.Encoder(enc_hook=encode_value)


def encode(content: object) -> bytes:
    """`content` as JSON."""
    return _ENCODER.encode(content)


class JsonBody(AbstractDTO[T]):
    """A request body decoded in one step and strictly: unknown fields, coercions and floats are refused."""

    _decoder: ClassVar[msgspec.json.Decoder[Any]]

    def __class_getitem__(cls, annotation: Any) -> type[Self]:
        """The body of one type."""
        if isinstance(annotation, TypeVar):
            return cls
        decoder = msgspec.json.Decoder(annotation, dec_hook=decode_value)
        return type(f"JsonBody[{annotation}]", (cls,), {"_decoder": decoder, "model_type": annotation})

    def decode_bytes(self, value: bytes) -> Any:
        """The body as its struct. Raises Problem as `decode` does."""
        return decode(self._decoder, value)

    def decode_builtins(self, value: dict[str, Any]) -> Any:
        """Forms are not accepted."""
        del value
        raise gateway_problem(
            "unsupported_media_type", "Send the body as JSON.", "Content-Type", "application/json"
        )

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """Nothing to prepare: the decoder is made with the class."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: Any
    ) -> Reference | Schema:
        """The schema of the struct itself."""
        del handler_id
        schema: Reference | Schema = schema_creator.for_field_definition(field_definition)
        return schema


class OneOrMany(JsonBody[T]):
    """A request body that is an object of one kind or an array of another: `OneOrMany[A | list[B]]`.

    What is wrong is explained for the one that was meant, so an array's fields are named `[0].field`.
    """

    _of_array: ClassVar[msgspec.json.Decoder[Any]]

    def __class_getitem__(cls, annotation: Any) -> type[Self]:
        """The body of one object type and one array type."""
        if isinstance(annotation, TypeVar):
            return cls
        one, many = get_args(annotation)
        decoders = {
            "_decoder": msgspec.json.Decoder(one, dec_hook=decode_value),
            "_of_array": msgspec.json.Decoder(many, dec_hook=decode_value),
        }
        return type(f"OneOrMany[{annotation}]", (cls,), {**decoders, "model_type": annotation})

    def decode_bytes(self, value: bytes) -> Any:
        """The body as its struct or list of structs. Raises Problem as `decode` does."""
        return decode(self._of_array if value.lstrip()[:1] == b"[" else self._decoder, value)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """What `body` says. Raises Problem: 400 if it is no JSON, 422 naming the field if it is wrong JSON."""
    try:
        try:
            content = decoder.decode(body)
        except msgspec.ValidationError as exc:
            msgspec.json.decode(body)  # what is no JSON at all is said first
            code = exc.__cause__.code if isinstance(exc.__cause__, WrongValue) else None
            raise wrong_value(str(exc), code, decoder.type) from exc
        if ESCAPED_NUL in body:
            _refuse_nul(msgspec.json.decode(body), "")
    except msgspec.DecodeError as exc:
        raise malformed_json(str(exc)) from exc
    except RecursionError as exc:
        raise malformed_json("it is nested too deeply") from exc
    except UnicodeDecodeError as exc:
        raise malformed_json(f"it is not UTF-8: {exc.reason}") from exc
    return content


def _refuse_nul(value: Any, path: str) -> None:
    """PostgreSQL can't hold the character U+0000 in text, so no string may."""
    if isinstance(value, str):
        if "\0" in value:
            raise gateway_problem("invalid_field", f"{path}: text may not hold the character U+0000.", path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_nul(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_nul(key, path)
            _refuse_nul(item, f"{path}.{key}" if path else key)


class Answer(Response[T]):
    """A response whose content is encoded by the codecs of this module."""

    def __init__(
        self, content: T, status_code: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(content, status_code=status_code, headers=dict(headers or {}))

    def render(self, content: Any, media_type: str, enc_hook: Callable[[Any], Any] | None = None) -> bytes:
        """The content as JSON."""
        del media_type, enc_hook
        return encode(content)

    def to_asgi_response(self, app: Any, request: Any, **given: Any) -> ASGIResponse:
        """The answer as it is sent, with its tag."""
        return tagged(super().to_asgi_response(app, request, **given), request)


TYPE_DECODERS: Final = tuple(
    (partial(lambda kind, target: target is kind, kind), decode_value) for kind in WIRE_TYPES
)
"""For the parameters of paths and queries, which Litestar decodes."""
