"""What is said of Parties and Things beside their free fields: trust and relations; rights, meters, variants,
bundles.

The log keeps one document for each, the profile or the attributes. What is said here stands in it under names
that begin with `tessera:`, so SQL has it beside the rest, and no record that was ever written means anything
else. Names of the client's own may not begin so.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from actors.errors import InvalidRequest
from actors.runtime import Engine
from engine.commands import Refusal
from engine.policies.facts import Standing, fault_of
from gateway.problems import gateway_problem, refusal
from gateway.schemas import BundlePart, Meter, PartyView, Relation, Right, ThingDraft, ThingView
from gateway.wire import decode_value, encode

T = TypeVar("T")

PREFIX: Final = "tessera:"
TRUST: Final = f"{PREFIX}trust"
RELATIONS: Final = f"{PREFIX}relations"
RIGHTS: Final = f"{PREFIX}rights"
METER: Final = f"{PREFIX}meter"
VARIANT_OF: Final = f"{PREFIX}variant_of"
OPTIONS: Final = f"{PREFIX}options"
BUNDLE: Final = f"{PREFIX}bundle"
STANDING: Final = "standing"
"""The name in a profile of what policies look at; the client's own, but of a given form."""


def profile_of(free: Mapping[str, Any], trust: int | None, relations: Sequence[Relation]) -> dict[str, Any]:
    """The document of a Party. Raises Problem for a name that is not the client's to give."""
    standing_in(free, "profile")
    return _document(free, "profile", {TRUST: trust, RELATIONS: list(relations) or None})


def attributes_of(draft: ThingDraft) -> dict[str, Any]:
    """The document of a Thing. Raises Problem for a name that is not the client's to give."""
    said = {
        RIGHTS: draft.rights or None,
        METER: draft.meter,
        VARIANT_OF: draft.variant_of,
        OPTIONS: draft.options or None,
        BUNDLE: draft.bundle or None,
    }
    return _document(draft.attrs, "attrs", said)


def free_part(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the client itself put into a document."""
    return {name: value for name, value in document.items() if not name.startswith(PREFIX)}


def without_trust(document: Mapping[str, Any]) -> dict[str, Any]:
    """A profile as the Party itself may see it."""
    return {name: value for name, value in document.items() if name != TRUST}


def standing_in(document: Mapping[str, Any], where: str) -> Standing:
    """What a profile says for policies to look at. Raises Problem if they can't read it."""
    try:
        return msgspec.convert(document.get(STANDING, {}), Standing)
    except msgspec.ValidationError as exc:
        fault = fault_of(exc, f"{where}.{STANDING}")
        raise gateway_problem("invalid_field", f"{fault}.", fault.where) from exc


def relations_in(document: Mapping[str, Any]) -> list[Relation]:
    """The relations that a profile tells of."""
    found: list[Relation] = _read(document.get(RELATIONS, []), list[Relation])
    return found


def party_view(id: UUID, kind: Any, name: str, document: Mapping[str, Any], version: int) -> PartyView:
    """A Party from its document."""
    return PartyView(
        id=id,
        kind=kind,
        name=name,
        profile=free_part(document),
        trust=document.get(TRUST),
        relations=relations_in(document),
        version=version,
    )


def thing_view(document: Mapping[str, Any], **known: Any) -> ThingView:
    """A Thing from its document and what else is known of it."""
    return ThingView(attrs=free_part(document), **described(document), **known)


def described(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a Thing's document says, by the names of the fields."""
    return {
        "rights": _read(document.get(RIGHTS, []), list[Right]),
        "meter": _read(document.get(METER), Meter | None),
        "variant_of": document.get(VARIANT_OF),
        "options": document.get(OPTIONS, {}),
        "bundle": _read(document.get(BUNDLE, []), list[BundlePart]),
    }


async def check_relations(engine: Engine, relations: Sequence[Relation]) -> None:
    """Raises Problem if a relation names a Party that there is not."""
    if not relations:
        return
    await engine.wait_projected()
    there = {party.id for party in await engine.queries.parties([one.party.int for one in relations])}
    for index, one in enumerate(relations):
        if one.party.int not in there:
            where = f"relations[{index}].party"
            raise refusal(Refusal.PARTY_NOT_FOUND, f"{where}: there is no Party {one.party}.", where)


async def check_things(engine: Engine, draft: ThingDraft) -> None:
    """Raises Problem if a Thing is said to consist of, vary, or be measured in one that there is not."""
    if draft.options and draft.variant_of is None:
        raise gateway_problem(
            "invalid_field", "options: only a variant has options.", "options", "variant_of"
        )
    named = {f"bundle[{index}].thing": part.thing for index, part in enumerate(draft.bundle)}
    if draft.variant_of is not None:
        named["variant_of"] = draft.variant_of
    if draft.meter is not None:
        named["meter.unit"] = draft.meter.unit
    await engine.know_assets(named.values())
    for where, code in named.items():
        try:
            engine.asset_number(code)
        except InvalidRequest as exc:
            problem = f"{where}: there is no Thing with the code {code!r}."
            raise refusal(Refusal.THING_NOT_FOUND, problem, where) from exc


def related(party: UUID | None, kind: str | None) -> str | None:
    """What profiles hold that tell of a relation, as JSON; None if none is asked for."""
    if party is None and kind is None:
        return None
    wanted = {"kind": kind, "party": None if party is None else str(party)}
    return encode([{name: value for name, value in wanted.items() if value is not None}]).decode()


def part_of(thing: str | None) -> str | None:
    """What attributes hold that tell of a bundle with that Thing in it, as JSON."""
    return None if thing is None else encode([{"thing": thing}]).decode()


def _document(free: Mapping[str, Any], field: str, said: Mapping[str, Any]) -> dict[str, Any]:
    for name in free:
        if name.startswith(PREFIX):
            where = f"{field}.{name}"
            raise gateway_problem(
                "invalid_field", f"{where}: names that begin with {PREFIX} are taken.", where
            )
    given = {name: value for name, value in said.items() if value is not None}
    plain: dict[str, Any] = msgspec.json.decode(encode(given))
    return {**free, **plain}


def _read(value: Any, kind: Any) -> Any:
    return msgspec.convert(value, kind, dec_hook=decode_value)
