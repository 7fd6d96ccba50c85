"""What makes sense to ask: a filter that names what is not there is an error, never an empty list."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal, TypeVar
from uuid import UUID

from litestar.params import QueryParameter

from actors.errors import InvalidRequest
from actors.runtime import Engine
from engine.chart import CLASSES
from gateway.problems import gateway_problem
from gateway.wire import Instant
from persistence.views import TIME_MAX

T = TypeVar("T")

Order = Annotated[Literal["newest", "oldest"], QueryParameter(description="Which come first.")]
Start = Annotated[Instant | None, QueryParameter(description="The earliest recording time, inclusive.")]
End = Annotated[Instant | None, QueryParameter(description="The latest recording time, inclusive.")]
AssetFilter = Annotated[str | None, QueryParameter(description="Code of the asset.")]

_CLASS_CODES: Final = {item.letter: item.code for item in CLASSES.values()}


def listing(path: str, **filters: object) -> str:
    """The name of a list under its filters: a cursor of one is none of another."""
    given = [f"{name}={value}" for name, value in sorted(filters.items()) if value is not None]
    return f"{path}?{'&'.join(given)}"


def time_range(
    start: int | None, end: int | None, where: str = "start", end_name: str = "end"
) -> tuple[int, int]:
    """A range of times, inclusive. Raises Problem if it is empty."""
    if start is not None and end is not None and start > end:
        raise gateway_problem("invalid_parameter", f"The range is empty: {where} is after {end_name}.", where)
    return start or 0, TIME_MAX if end is None else end


async def asset_number(engine: Engine, code: str | None, where: str = "asset") -> int:
    """The number of an asset that a filter names, 0 for none. Raises Problem."""
    if code is None:
        return 0
    await engine.know_assets([code])
    try:
        return engine.asset_number(code)
    except InvalidRequest as exc:
        raise gateway_problem("invalid_parameter", f"{where}: {exc.problem}.", where, exc.accepted) from exc


def class_code(letter: str | None) -> int:
    """The code of a class of the chart of accounts, 0 for none. Raises Problem."""
    if letter is None:
        return 0
    return _one_of("class", letter, _CLASS_CODES)


def kind_and_state(engine: Engine, kind: str | None, state: str | None) -> None:
    """Raises Problem for a kind that there is not, or a state that it has not, or that no kind has."""
    kinds = engine.kinds
    if kind is not None:
        _one_of("kind", kind, dict.fromkeys(kinds, True))
    if state is not None:
        among = [kinds[kind]] if kind is not None else kinds.values()
        _one_of("state", state, {name: True for one in among for name in one.kind.states})


async def parties_exist(engine: Engine, **named: UUID | None) -> None:
    """Raises Problem for a Party that there is not. To be called for a list that came out empty: accounts may
    belong to a Party that was never registered."""
    given = {name: party for name, party in named.items() if party is not None}
    if not given:
        return
    known = {party.id for party in await engine.queries.parties([party.int for party in given.values()])}
    for name, party in given.items():
        if party.int not in known:
            raise gateway_problem("invalid_parameter", f"{name}: there is no Party {party}.", name)


async def account_exists(engine: Engine, name: str, account: UUID | None) -> None:
    """Raises Problem if a filter names an account that there is not."""
    if account is not None and await engine.read_accounts([account.int]) == [None]:
        raise gateway_problem("invalid_parameter", f"{name}: there is no account {account}.", name)


async def move_exists(engine: Engine, name: str, move: UUID | None) -> None:
    """Raises Problem if a filter names a Move that there is not."""
    if move is not None and not await engine.queries.moves_by_id([move.int]):
        raise gateway_problem("invalid_parameter", f"{name}: there is no Move {move}.", name)


def missing(asked: Iterable[UUID], found: Iterable[UUID]) -> list[UUID]:
    """The ids that nothing was found for, each once."""
    there = set(found)
    return [id for id in dict.fromkeys(asked) if id not in there]


def _one_of(name: str, given: str, known: dict[str, T]) -> T:
    if given not in known:
        raise gateway_problem(
            "invalid_parameter", f"{name}: there is no {given!r}.", name, ", ".join(sorted(known))
        )
    return known[given]
