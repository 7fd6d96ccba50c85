"""What a gateway and a shard say to each other: the heads of frames.

    server              client
      Hello ──────────────▶          who I am, and a challenge
            ◀────────── Proof        that I know the cluster's token, and a challenge
      Welcome ────────────▶          that I know it too; or Refused, and the end
            ◀──────── Requests       parcels of messages, in order
      Answers ────────────▶          answers, in the order in which they became durable

A parcel is what was left at one time; it is taken as a whole or refused as a whole. Its messages are numbered
from `first` on, and a number is answered once for each time that it was sent. Messages and answers are those
of `actors.messages`; their form on the wire follows from their types: columns go behind the head, as buffers
in order of appearance, without those that are all zeros, and everything else is JSON, because ids have 128
bits. A new message works as soon as `ANSWERS` says what it is answered with.
"""

import math
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any, Final, NamedTuple

import msgspec

from actors import errors
from actors.answers import AccountState, Claimed, LegAnswers
from actors.cluster.forms import Arrays, Part, State, part_of
from actors.cluster.frames import Buffers, FrameRefused, padded
from actors.doors import Health
from actors.errors import ActorError, InvalidRequest, ShardStopped
from actors.messages import (
    Capture,
    Claim,
    CreateAccounts,
    Fence,
    Message,
    PostBatches,
    PostLegs,
    Preview,
    ReadAccounts,
    ReadHolds,
    ReadSteps,
    SetGuards,
    SubmitMoves,
    SubmitParties,
    SubmitThings,
)
from engine.commands import DirectoryAnswer, MoveAnswer, MovePreview, NextSteps
from engine.crossing.messages import Frame
from engine.open_holds import HoldPage
from persistence.recovery import Recovered
from persistence.verify import Report

PROTOCOL: Final = 3
"""Raised by every change of what is said here."""
DOCUMENT_DEPTH_MAX: Final = 100


class AskHealth(NamedTuple):
    """How the shard is. Answer: `Health`."""


class WaitProjected(NamedTuple):
    """Wait until SQL shows the log up to here, or everything answered so far. Answer: up to where."""

    lsn: int | None


class WaitDurable(NamedTuple):
    """Wait until the log goes beyond this position, or for a while. Answer: up to where it goes."""

    lsn: int


class Verify(NamedTuple):
    """Replay the whole log, and compare. Answer: `Report`."""


class Tell(NamedTuple):
    """What another shard says. Answer: nothing."""

    frame: Frame


Question = AskHealth | WaitProjected | WaitDurable | Verify | Tell
"""What is asked of the shard's host, and does not go through its mailbox."""
Sendable = Message | Question

ANSWERS: Final[dict[type, Any]] = {
    PostLegs: LegAnswers,
    PostBatches: LegAnswers,
    CreateAccounts: LegAnswers,
    SetGuards: AccountState,
    Claim: Claimed,
    SubmitMoves: list[MoveAnswer],
    SubmitParties: list[DirectoryAnswer],
    SubmitThings: list[DirectoryAnswer],
    ReadAccounts: list[AccountState | None],
    Preview: MovePreview,
    ReadSteps: NextSteps,
    ReadHolds: HoldPage,
    Fence: int,
    Capture: State,
    AskHealth: Health,
    WaitProjected: int,
    WaitDurable: int,
    Verify: Report,
    Tell: None,
}
"""What each message is answered with."""
ONCE: Final = frozenset({SetGuards})
"""Messages without an id: sent twice, they could undo what somebody else did in between."""
_DOCUMENTS: Final = {SubmitMoves: "metadata", SubmitParties: "profile", SubmitThings: "attrs"}


# Heads


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The first thing that a server says."""

    protocol: int
    version: str  # of Tessera
    shard: int
    epoch: int
    challenge: bytes


class Proof(msgspec.Struct, frozen=True, kw_only=True, tag="proof"):
    """A client's answer to `Hello`. `things`: how many of the catalogue it has."""

    protocol: int
    version: str
    proof: bytes
    challenge: bytes
    things: int


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """A server's answer to `Proof`: from now on it takes requests."""

    proof: bytes
    health: Health
    recovered: Recovered
    things: list[str]  # codes of those that the client has not, in order of their asset numbers


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """A server's other answer to `Proof`: why it wants nothing of this client."""

    reason: str


class Failure(msgspec.Struct, frozen=True, array_like=True, tag="Failure"):
    """An error that answers a message: an ActorError by name, with its facts."""

    number: int
    kind: str
    facts: list[str | int]


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    """Messages that were left at one time, numbered from `first` on."""

    first: int
    buffer_bytes: int  # that belong to them
    messages: list[Any]  # of `_RequestForm`


class Requests(msgspec.Struct, frozen=True, tag="requests"):
    """Parcels, in order."""

    parcels: list[msgspec.Raw]


class Answers(msgspec.Struct, frozen=True, tag="answers"):
    """What became durable, in order. `things`: codes that are new in the catalogue, in order."""

    answers: list[msgspec.Raw]
    things: list[str] = []
    lsn: int = 0  # durable


# Routes: how each kind of message and its answer travel


class _Route(NamedTuple):
    """How one kind of message and its answer travel."""

    message: Part
    answer: Part
    request_form: Any  # tagged: (content,)
    answer_form: Any  # tagged: (number, content)


def _route(kind: type, answer: Any) -> _Route:
    message_part, answer_part = part_of(kind), part_of(answer)
    return _Route(
        message_part,
        answer_part,
        msgspec.defstruct(kind.__name__, [("content", message_part.form)], array_like=True, tag=True),
        msgspec.defstruct(
            kind.__name__, [("number", int), ("content", answer_part.form)], array_like=True, tag=True
        ),
    )


_ROUTES: Final = {kind: _route(kind, answer) for kind, answer in ANSWERS.items()}
_KIND_OF_FORM: Final = {route.request_form: kind for kind, route in _ROUTES.items()} | {
    route.answer_form: kind for kind, route in _ROUTES.items()
}
_RequestForm: Any = reduce(or_, [route.request_form for route in _ROUTES.values()])
_AnswerForm: Any = reduce(or_, [route.answer_form for route in _ROUTES.values()], Failure)
_ParcelForm: Any = msgspec.defstruct(
    "ParcelForm",
    [("first", int), ("buffer_bytes", int), ("messages", list[_RequestForm])],
    array_like=True,
)
_RequestsForm = msgspec.defstruct("RequestsForm", [("parcels", list[msgspec.Raw])], tag="requests")
_AnswersForm = msgspec.defstruct(
    "AnswersForm",
    [("answers", list[_AnswerForm]), ("things", list[str]), ("lsn", int)],
    tag="answers",
)
_ERRORS: Final = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ActorError)
}


def _plain(value: object) -> int:
    """Callers' own kinds of integers are integers."""
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"there is no form for a {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_parcel = msgspec.json.Decoder(_ParcelForm)
_garbled_parcel = msgspec.json.Decoder(Parcel)
_from_client = msgspec.json.Decoder(Proof | _RequestsForm)
_from_server = msgspec.json.Decoder(Hello | Welcome | Refused | _AnswersForm)


class Left(NamedTuple):
    """A parcel that has come: the number of its first message, and its messages."""

    first: int
    messages: list[Sendable]


class Garbled(NamedTuple):
    """A parcel whose messages are not of the declared types, which is its sender's own mistake."""

    first: int
    message_count: int
    problem: str


class Answered(NamedTuple):
    """An answer that has come; an ActorError is to be raised."""

    number: int
    answer: Any


class Arrived(NamedTuple):
    """The answers of a frame."""

    answers: list[Answered]
    things: list[str]
    lsn: int


class Encoded(NamedTuple):
    """JSON and the buffers that belong to it."""

    json: msgspec.Raw
    buffers: Arrays


def encode_head(head: msgspec.Struct) -> bytes:
    """A head as it is sent."""
    return _encoder.encode(head)


def encode_parcel(first: int, messages: Iterable[Sendable]) -> Encoded:
    """A parcel as it is sent. Raises InvalidRequest for documents that JSON can't express."""
    buffers: Arrays = []
    forms = []
    for message in messages:
        route = _ROUTES[type(message)]
        if type(message) in _DOCUMENTS:
            _check_documents(message)
        forms.append(route.request_form(route.message.pack(message, buffers)))
    try:
        size = sum(padded(buffer.nbytes) for buffer in buffers)
        return Encoded(msgspec.Raw(_encoder.encode(Parcel(first, size, forms))), buffers)
    except (UnicodeEncodeError, RecursionError, TypeError, OverflowError) as exc:
        raise InvalidRequest("request", f"it can't be sent: {exc}", "text in UTF-8, JSON documents") from exc


def encode_answer(number: int, message: Sendable, answer: Any) -> Encoded:
    """The answer to a message, or the error that answers it, as it is sent."""
    if isinstance(answer, ActorError):
        return Encoded(
            msgspec.Raw(_encoder.encode(Failure(number, type(answer).__name__, list(answer.args)))), []
        )
    buffers: Arrays = []
    route = _ROUTES[type(message)]
    form = route.answer_form(number, route.answer.pack(answer, buffers))
    return Encoded(msgspec.Raw(_encoder.encode(form)), buffers)


def decode_from_client(head: memoryview, buffers: Buffers) -> Proof | list[Left | Garbled]:
    """What a client says. Raises FrameRefused."""
    try:
        said = _from_client.decode(head)
    except msgspec.DecodeError as exc:
        raise FrameRefused(f"a head that makes no sense: {exc}") from exc
    if isinstance(said, Proof):
        return said
    return [_left(parcel, buffers) for parcel in said.parcels]


def _left(said: msgspec.Raw, buffers: Buffers) -> Left | Garbled:
    try:
        parcel = _parcel.decode(said)
    except msgspec.ValidationError as exc:
        return _garbled(said, buffers, str(exc))
    return Left(parcel.first, [_message(form, buffers) for form in parcel.messages])


def _garbled(said: msgspec.Raw, buffers: Buffers, problem: str) -> Garbled:
    try:
        parcel = _garbled_parcel.decode(said)
    except msgspec.DecodeError as exc:
        raise FrameRefused(f"a parcel that makes no sense: {exc}") from exc
    buffers.skip(parcel.buffer_bytes)
    return Garbled(parcel.first, len(parcel.messages), problem)


def decode_from_server(head: memoryview, buffers: Buffers) -> Hello | Welcome | Refused | Arrived:
    """What a server says. Raises FrameRefused."""
    try:
        said = _from_server.decode(head)
    except msgspec.DecodeError as exc:
        raise FrameRefused(f"a head that makes no sense: {exc}") from exc
    if isinstance(said, Hello | Welcome | Refused):
        return said
    return Arrived([_answered(form, buffers) for form in said.answers], said.things, said.lsn)


def _message(form: Any, buffers: Buffers) -> Any:
    route = _ROUTES[_KIND_OF_FORM[type(form)]]
    return route.message.unpack(form.content, buffers)


def _answered(form: Any, buffers: Buffers) -> Answered:
    if isinstance(form, Failure):
        kind = _ERRORS.get(form.kind)
        if kind is None:
            return Answered(form.number, ShardStopped(-1, f"{form.kind}: {form.facts}"))
        return Answered(form.number, kind(*form.facts))
    route = _ROUTES[_KIND_OF_FORM[type(form)]]
    return Answered(form.number, route.answer.unpack(form.content, buffers))


def _check_documents(message: Any) -> None:
    """Refuse what JSON has no word for, and would silently become something else."""
    name = _DOCUMENTS[type(message)]
    for command in message.commands:
        document = getattr(command, name, None)
        if document and not _expressible(document, DOCUMENT_DEPTH_MAX):
            raise InvalidRequest(
                name,
                "it is nested too deeply, or has a number that is not finite",
                f"a JSON object of at most {DOCUMENT_DEPTH_MAX} levels",
            )


def _expressible(value: Any, depth: int) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return True
    return depth > 0 and all(_expressible(item, depth - 1) for item in value)
