"""Which events somebody wants.

Every filter that is given must fit, and of one with several values any. What has no such property does not
fit: only Moves and their legs have a kind, and a Move itself has no account.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from actors.errors import InvalidRequest
from actors.runtime import Engine
from engine.layout import LegFlag, ids_column
from gateway.problems import gateway_problem

VALUES_MAX: Final = 64
"""Of one filter."""


class EventType(StrEnum):
    """What happened."""

    PARTY_CREATED = "party.created"
    PARTY_CHANGED = "party.changed"
    THING_CREATED = "thing.created"
    ACCOUNT_OPENED = "account.opened"
    ACCOUNT_LIMITED = "account.limited"
    LEG_POSTED = "leg.posted"
    LEG_HELD = "leg.held"
    LEG_HOLD_POSTED = "leg.hold_posted"
    LEG_HOLD_VOIDED = "leg.hold_voided"
    LEG_HOLD_EXPIRED = "leg.hold_expired"
    MOVE_CREATED = "move.created"
    MOVE_CHANGED = "move.changed"


GROUPS: Final = tuple(dict.fromkeys(kind.partition(".")[0] for kind in EventType))
"""What stands before the dot; a group stands for all its types."""
LEG_TYPES: Final = (
    EventType.LEG_POSTED,
    EventType.LEG_HELD,
    EventType.LEG_HOLD_POSTED,
    EventType.LEG_HOLD_VOIDED,
    EventType.LEG_HOLD_EXPIRED,
)

_LEG_TYPES: Final = (
    (LegFlag.EXPIRY, 4),
    (LegFlag.VOID_PENDING, 3),
    (LegFlag.POST_PENDING, 2),
    (LegFlag.PENDING, 1),
)


class EventFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events: every list that is not empty must fit, by any of its values."""

    types: Annotated[
        list[str],
        Meta(
            max_length=VALUES_MAX,
            description="Types of events, or groups of them: " + ", ".join((*GROUPS, *EventType)),
            examples=[["move", "leg.posted"]],
        ),
    ] = []
    parties: Annotated[
        list[UUID],
        Meta(
            max_length=VALUES_MAX, description="Themselves, their accounts, and Moves that they pay or get."
        ),
    ] = []
    accounts: Annotated[list[UUID], Meta(max_length=VALUES_MAX, description="Their legs and limits.")] = []
    kinds: Annotated[list[str], Meta(max_length=VALUES_MAX, description="Of Moves, with their legs.")] = []
    assets: Annotated[list[str], Meta(max_length=VALUES_MAX, description="Codes of Things.")] = []


class Wanted(msgspec.Struct, frozen=True, eq=False):
    """A filter as it is applied. Ids are arrays of shape (n, 2), or sets of 16 bytes; None = any."""

    tenant: str
    types: frozenset[str]
    leg_types: npt.NDArray[np.bool_]  # by place in LEG_TYPES
    parties: npt.NDArray[np.uint64] | None
    party_ids: frozenset[bytes] | None
    accounts: npt.NDArray[np.uint64] | None
    kinds: frozenset[str] | None
    assets: npt.NDArray[np.uint32] | None
    asset_numbers: frozenset[int] | None

    @property
    def needs_accounts(self) -> bool:
        """Whether a leg fits depends on its accounts."""
        return self.parties is not None or self.accounts is not None or self.assets is not None


async def wanted_by(engine: Engine, given: EventFilter, names: Mapping[str, str]) -> Wanted:
    """The filter, ready to be applied. Raises Problem for a value that makes no sense; `names` are those
    that its fields have for the client."""
    for field, name in names.items():
        if len(getattr(given, field)) > VALUES_MAX:
            raise gateway_problem("invalid_parameter", f"{name}: at most {VALUES_MAX} values.", name)
    named = {kind for name in given.types for kind in _types_of(name, names["types"])}
    types = frozenset(named or EventType)
    await engine.know_assets(given.assets)
    for kind in given.kinds:
        if kind not in engine.kinds:
            problem = f"There is no kind of Moves {kind!r}."
            raise gateway_problem("invalid_parameter", problem, names["kinds"], ", ".join(engine.kinds))
    numbers = [_number_of(engine, code, names["assets"]) for code in given.assets]
    return Wanted(
        tenant=engine.settings.tenant,
        types=types,
        leg_types=np.array([kind in types for kind in LEG_TYPES]),
        parties=_ids(given.parties),
        party_ids=frozenset(party.bytes for party in given.parties) if given.parties else None,
        accounts=_ids(given.accounts),
        kinds=frozenset(given.kinds) if given.kinds else None,
        assets=np.array(numbers, np.uint32) if numbers else None,
        asset_numbers=frozenset(numbers) if numbers else None,
    )


def leg_types(flags: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """The types of legs, as places in LEG_TYPES."""
    bits = flags.astype(np.int64)
    return np.select([bits & flag != 0 for flag, _ in _LEG_TYPES], [place for _, place in _LEG_TYPES], 0)


def is_one_of(ids: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which ids of shape (n, 2) are among some others, of which there are few."""
    found = np.zeros(len(ids), np.bool_)
    for high, low in wanted:
        found |= (ids[:, 0] == high) & (ids[:, 1] == low)
    return found


def _types_of(name: str, where: str) -> Sequence[str]:
    if name in GROUPS:
        return [kind for kind in EventType if kind.startswith(f"{name}.")]
    if name in frozenset(EventType):
        return [name]
    accepted = ", ".join((*GROUPS, *EventType))
    raise gateway_problem("invalid_parameter", f"There is no type of events {name!r}.", where, accepted)


def _number_of(engine: Engine, code: str, where: str) -> int:
    try:
        return engine.asset_number(code)
    except InvalidRequest as exc:
        problem = f"There is no Thing with the code {code!r}."
        raise gateway_problem("invalid_parameter", problem, where, "the code of a Thing") from exc


def _ids(given: Sequence[UUID]) -> npt.NDArray[np.uint64] | None:
    return ids_column([id.int for id in given]) if given else None
