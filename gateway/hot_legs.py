"""Small JSON bodies of legs, decoded and answered with as little work as can be.

`decode` takes what a client normally sends and gives up on anything else: wrong JSON, an amount as a string,
an asset that is not there. The framework's route then reads the same bytes again; it accepts more, and
explains what it does not accept. What both accept means the same to both.
"""

from functools import lru_cache
from typing import Annotated, Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from engine.layout import AMOUNT_MAX, SECOND_NS
from engine.results import Result
from gateway.problems import Problem, refusal
from gateway.replies import CREATED, LSN_HEADER, REPEATED, REPLAYED_HEADER, Headers
from gateway.schemas import LegFlagName, LegResult, LegsAnswer, Unsigned16, Unsigned32
from gateway.wire import ESCAPED_NUL, Instant, encode

GATHERED_LEGS_MAX: Final = 128
"""A longer array is a batch of its own."""

_THERE: Final = frozenset({Result.CREATED.slug, Result.EXISTS.slug})
BatchAnswer = TypeVar("BatchAnswer", bound=LegsAnswer)

_Whole = Annotated[int, Meta(ge=0, le=AMOUNT_MAX)]


class HotLeg(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A `gateway.schemas.LegDraft` whose numbers are plain JSON integers."""

    id: UUID
    debit: UUID | None = None
    credit: UUID | None = None
    amount: _Whole
    asset: str | None = None
    code: Unsigned16 = 0
    flags: list[LegFlagName] = []
    pending_id: UUID | None = None
    timeout: Unsigned32 = 0
    user_data_128: UUID | None = None
    user_data_64: _Whole | None = None
    user_data_32: Unsigned32 = 0
    timestamp: _Whole | None = None
    if_debit_version: _Whole = 0
    if_credit_version: _Whole = 0


class HotLegs(NamedTuple):
    """The legs of one body, which was an object or an array."""

    legs: list[HotLeg]
    alone: bool


_one: Final = msgspec.json.Decoder(HotLeg)
_many: Final = msgspec.json.Decoder(list[HotLeg])


def decode(body: bytes) -> HotLegs | None:
    """The legs in a body, or None if it needs a closer look."""
    if ESCAPED_NUL in body:
        return None
    try:
        if body[:1] == b"{":
            return HotLegs([_one.decode(body)], alone=True)
        legs = _many.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return HotLegs(legs, alone=False) if 0 < len(legs) <= GATHERED_LEGS_MAX else None


def answer(legs: HotLegs, statuses: list[int], timestamps: list[int], lsn: int) -> tuple[int, bytes, Headers]:
    """Status, body and headers that say what became of the legs. Raises Problem if all were refused."""
    headers: Headers = [(LSN_HEADER, b"%d" % lsn)]
    if not legs.alone:
        content = batch_answer([leg.id for leg in legs.legs], statuses, timestamps, lsn)
        if content.created:
            return CREATED, encode(content), headers
        if not content.refused:
            headers.append(REPLAYED_HEADER)
        return REPEATED, encode(content), headers
    status, stamp = statuses[0], instant_text(timestamps[0])
    if status == Result.CREATED:
        return (
            CREATED,
            b'{"id":"%b","code":"created","timestamp":"%b"}' % (_text(legs.legs[0].id), stamp),
            headers,
        )
    if status == Result.EXISTS:
        headers.append(REPLAYED_HEADER)
        return (
            REPEATED,
            b'{"id":"%b","code":"exists","timestamp":"%b"}' % (_text(legs.legs[0].id), stamp),
            headers,
        )
    raise refused_leg(Result(status), lsn)


def leg_answer(id: UUID, status: int, timestamp: int, lsn: int) -> LegResult:
    """What became of a leg that came alone. Raises Problem if it was refused."""
    result = Result(status)
    if result not in {Result.CREATED, Result.EXISTS}:
        raise refused_leg(result, lsn)
    return LegResult(id=id, code=result.slug, timestamp=Instant(timestamp))


def refused_leg(result: Result, lsn: int) -> Problem:
    """The problem that answers a leg that came alone."""
    return refusal(result.slug, f"The leg was refused: {result.slug}.", headers={"Tessera-Lsn": str(lsn)})


def batch_answer(
    ids: list[UUID], statuses: list[int], timestamps: list[int], lsn: int, what: str = "leg"
) -> LegsAnswer:
    """What became of an array of legs. Raises Problem with the code of the first if all were refused."""
    results = [Result(status) for status in statuses]
    created, repeated = results.count(Result.CREATED), results.count(Result.EXISTS)
    if not created and not repeated:
        index = next((i for i, s in enumerate(results) if s is not Result.LINKED_EVENT_FAILED), 0)
        others = f" None of the {len(results)} {what}s was written." if len(results) > 1 else ""
        message = f"{what.capitalize()} {index} was refused: {results[index].slug}.{others}"
        raise refusal(results[index].slug, message, f"[{index}]", {"Tessera-Lsn": str(lsn)})
    return LegsAnswer(
        created=created,
        repeated=repeated,
        refused=len(results) - created - repeated,
        results=[
            LegResult(id=id, code=result.slug, timestamp=Instant(timestamp))
            for id, result, timestamp in zip(ids, results, timestamps, strict=True)
        ],
    )


def listed(content: BatchAnswer, which: str) -> BatchAnswer:
    """The answer with all results, or with the refused ones only."""
    if which == "all":
        return content
    refused = [result for result in content.results if result.code not in _THERE]
    return msgspec.structs.replace(content, results=refused)


def _text(id: UUID) -> bytes:
    return str(id).encode()


def instant_text(timestamp: int) -> bytes:
    """`Instant(timestamp).text`, quick for times of one second."""
    seconds, nanoseconds = divmod(timestamp, SECOND_NS)
    return b"%b.%09dZ" % (_second_text(seconds), nanoseconds)


@lru_cache(maxsize=64)
def _second_text(seconds: int) -> bytes:
    return Instant(seconds * SECOND_NS).text.partition(".")[0].encode()
