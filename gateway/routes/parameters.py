"""Parameters and headers that many routes share, and the answers that every write gives."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeVar
from uuid import UUID

from litestar.di import Dependency
from litestar.params import HeaderParameter, PathParameter, QueryParameter, SkipValidationMarker

from actors.errors import InvalidRequest
from actors.runtime import Engine
from engine.commands import Refusal
from engine.ids import bucket_of_id, bucket_of_party, uuid7
from gateway.preconditions import tag_of
from gateway.problems import gateway_problem, refusal, unavailable
from gateway.wire import Answer

T = TypeVar("T")

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1_000
WAIT_HEADER: Final = "Tessera-Wait-Lsn"
WAIT_S: Final = 10
NANOSECONDS_PER_MILLISECOND: Final = 1_000_000

EngineOf = Annotated[Engine, Dependency(), SkipValidationMarker()]
IdInPath = Annotated[UUID, PathParameter(description="UUID text.")]
Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="How many at most.")]
Cursor = Annotated[str | None, QueryParameter(description="`next` of the page before; opaque.")]
WaitLsn = Annotated[
    int | None,
    HeaderParameter(
        name=WAIT_HEADER,
        ge=0,
        description="See at least the log up to this position (a `Tessera-Lsn`); 0 = whatever there is. "
        "Without it, everything that was answered before.",
    ),
]


Answers = Annotated[
    Literal["all", "refused"],
    QueryParameter(
        name="answers",
        description="Of many: whether all are answered one by one, or only those that were refused (in an "
        "Arrow stream with their `row`).",
    ),
]


def new_id(engine: Engine, party: int = 0) -> int:
    """A fresh UUIDv7 at home where the party is."""
    return _new_id(bucket_of_party(engine.settings.tenant, party))


def new_id_like(other: int) -> int:
    """A fresh UUIDv7 at home where another one is."""
    return _new_id(bucket_of_id(other))


def _new_id(bucket: int) -> int:
    return uuid7(time.time_ns() // NANOSECONDS_PER_MILLISECOND, bucket, secrets.randbits(62))


async def asset_numbers(
    engine: Engine, codes: Sequence[str | None], *, alone: bool = False
) -> dict[str, int]:
    """The numbers of the asset codes of a body's items, or of a body that is one item `alone`.

    Raises Problem for a code that no Thing has.
    """
    await engine.know_assets({code for code in codes if code is not None})
    numbers: dict[str, int] = {}
    for index, code in enumerate(codes):
        if code is not None and code not in numbers:
            try:
                numbers[code] = engine.asset_number(code)
            except InvalidRequest as exc:
                where = "asset" if alone else f"[{index}].asset"
                raise refusal(Refusal.ASSET_NOT_FOUND, f"{where}: {exc.problem}.", where) from exc
    return numbers


async def read_after(engine: Engine, wait_lsn: int | None) -> None:
    """Wait until queries see the log up to `wait_lsn`, or without one, everything answered so far.

    Raises Problem if that takes too long, or if there is no such position.
    """
    try:
        async with asyncio.timeout(WAIT_S):
            await engine.wait_projected(wait_lsn)
    except InvalidRequest as exc:
        raise gateway_problem("invalid_parameter", f"{exc.problem}.", WAIT_HEADER, exc.accepted) from exc
    except TimeoutError as exc:
        raise unavailable(
            "projection_behind",
            f"The query tables did not get there within {WAIT_S} s; {WAIT_HEADER}: 0 reads what they have.",
        ) from exc


def written(
    content: T, lsn: int, *, created: bool, replayed: bool = False, version: int | None = None
) -> Answer[T]:
    """The answer to a write: 201 if it made something new, else 200, with its place in the log, and its tag
    if it has a version."""
    headers = {"Tessera-Lsn": str(lsn), **({} if version is None else tag_of(version))}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Answer(content, 201 if created and not replayed else 200, headers)
