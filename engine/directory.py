"""Who takes part and what there is: Parties and the catalogue of Things.

Millions of Parties may be idle, so a Party is a row of an array: its id, kind, version, and hashes of its
name and profile, by which a repeat is told from a change. The name and profile themselves are in the facts,
and in PostgreSQL. Things are fewer and are asked for by code with every line of an order, so they are kept in
lists by asset number and a dict by code.

State changes only by facts: a command that is accepted makes one, which is then applied as in a replay.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from engine import ids
from engine.chart import ChartError, parse_key
from engine.commands import (
    DOCUMENT_BYTES_MAX,
    TEXT_BYTES_MAX,
    CreateParty,
    CreateThing,
    DirectoryAnswer,
    Refusal,
    UpdateParty,
)
from engine.entities import PartyKind, ThingKind
from engine.facts import KnownThingFact, PartyFact, ThingFact
from engine.requests import Digester

PartyCommand = CreateParty | UpdateParty
ThingCommand = CreateThing
DirectoryFact = PartyFact | ThingFact | KnownThingFact

SALES: Final = "R:sales"
"""Where the sales of a Thing go unless its attributes say otherwise."""
CODE_LENGTH_MAX: Final = 64
EXPONENT_MAX: Final = 18
ASSETS_MAX: Final = 2**32 - 1
RECENT_MAX: Final = 1 << 14
"""New Parties that are found through a dict before they are sorted into the index of rows."""

PARTY: Final = np.dtype(
    [
        ("id_hi", "u8"),
        ("id_lo", "u8"),
        ("name", "u8"),  # hash of what it is now
        ("profile", "u8"),
        ("first_name", "u8"),  # hash of what it was created with
        ("first_profile", "u8"),
        ("created", "i8"),
        ("version", "u4"),
        ("kind", "u1"),
        ("_pad", "V3"),
    ]
)
"""One Party, 64 bytes, in order of creation."""

_PARTY_KINDS: Final = tuple(PartyKind)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_thing_digester = Digester(CreateThing, frozenset({"id"}))
_ID_INVALID: Final = "an id must be neither 0 nor 2^128 - 1"
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""U+0000 in JSON: PostgreSQL stores no text that has it."""
_json = msgspec.json.Encoder(order="deterministic")


class ThingRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A Thing as the engine needs it."""

    id: bytes
    kind: str
    code: str
    exponent: int
    account: str  # the key of the account that its sales go to
    tracked: bool  # units of it are counted when it changes hands
    digest: bytes  # of the command that made it
    created: int


class Directory:
    """The Parties and Things of one tenant."""

    def __init__(self) -> None:
        self._parties: npt.NDArray[np.void] = np.zeros(64, PARTY)
        self._party_count = 0
        self._recent: dict[int, int] = {}  # id → row, for rows that are not sorted in yet
        self._sorted_low = np.zeros(0, np.uint64)  # low halves of the ids of all other rows, ascending
        self._sorted_rows = np.zeros(0, np.int64)  # and their rows
        self._things: list[ThingRow] = []  # the one with asset number n is at n − 1
        self._assets: dict[str, int] = {}  # code → asset number
        self._thing_ids: dict[bytes, int] = {}  # id → asset number

    @property
    def party_count(self) -> int:
        """How many Parties there are."""
        return self._party_count

    @property
    def thing_count(self) -> int:
        """How many Things there are; also the largest asset number."""
        return len(self._things)

    def party_row(self, id: int) -> int:
        """The row of a Party, −1 if there is none."""
        if (row := self._recent.get(id)) is not None:
            return row
        low = np.uint64(id & (2**64 - 1))
        at = int(np.searchsorted(self._sorted_low, low))
        while at < len(self._sorted_low) and self._sorted_low[at] == low:
            row = int(self._sorted_rows[at])
            if int(self._parties["id_hi"][row]) == id >> 64:
                return row
            at += 1
        return -1

    def party_version(self, id: int) -> int:
        """The version of a Party, 0 if there is none."""
        row = self.party_row(id)
        return 0 if row < 0 else int(self._parties["version"][row])

    def asset(self, code: str) -> int:
        """The asset number of a Thing's code, 0 if there is none."""
        return self._assets.get(code, 0)

    def thing(self, asset: int) -> ThingRow:
        """The Thing with that asset number. Raises IndexError if there is none."""
        if asset < 1:
            raise IndexError(asset)
        return self._things[asset - 1]

    def assets(self, codes: Sequence[str]) -> list[int]:
        """Asset numbers of many codes, 0 for those that are unknown or empty."""
        get = self._assets.get
        return [get(code, 0) for code in codes]

    def accounts(self, assets: Sequence[int]) -> list[str]:
        """Keys of the accounts that sales of these Things go to; `SALES` for asset 0."""
        things = self._things
        return [things[asset - 1].account if asset else SALES for asset in assets]

    def tracked(self, assets: Sequence[int]) -> list[bool]:
        """Whether units of these Things are counted; no for asset 0."""
        things = self._things
        return [asset > 0 and things[asset - 1].tracked for asset in assets]

    def submit_party(self, command: PartyCommand, now: int) -> tuple[DirectoryAnswer, PartyFact | None]:
        """Judge a command, and carry it out if it is accepted and new. The fact goes into the log."""
        if not 0 < command.id < ids.ID_MAX:
            return _refused(command.id, Refusal.ID_INVALID, _ID_INVALID), None
        judged = (
            self._create_party(command, now)
            if isinstance(command, CreateParty)
            else self._update_party(command, now)
        )
        if isinstance(judged, DirectoryAnswer):
            return judged, None
        self._replay_party(judged)
        return DirectoryAnswer(id=command.id, version=judged.version, timestamp=now), judged

    def submit_thing(self, command: ThingCommand, now: int) -> tuple[DirectoryAnswer, ThingFact | None]:
        """The same for a Thing."""
        if not 0 < command.id < ids.ID_MAX:
            return _refused(command.id, Refusal.ID_INVALID, _ID_INVALID), None
        judged = self._create_thing(command, now)
        if isinstance(judged, DirectoryAnswer):
            return judged, None
        self._replay_thing(judged)
        return DirectoryAnswer(id=command.id, version=1, asset=judged.asset, timestamp=now), judged

    def replay(self, fact: DirectoryFact) -> None:
        """Make it so."""
        if isinstance(fact, PartyFact):
            self._replay_party(fact)
        elif isinstance(fact, ThingFact):
            self._replay_thing(fact)
        else:
            row = ThingRow(
                fact.id, fact.kind, fact.code, fact.exponent, fact.account, fact.tracked, fact.digest,
                fact.created,
            )  # fmt: skip
            self._add_thing(fact.asset, row)

    def things_after(self, count: int) -> list[ThingRow]:
        """The Things after the first `count`."""
        return self._things[count:]

    def learn(self, first: int, things: Sequence[ThingRow]) -> list[KnownThingFact]:
        """Take over Things that shard 0 has, of which the first has the asset number `first + 1`; facts for
        those that are new."""
        known = self.thing_count - first
        facts = []
        for thing in things[known:] if known >= 0 else ():
            fact = KnownThingFact(
                id=thing.id,
                kind=thing.kind,
                code=thing.code,
                asset=self.thing_count + 1,
                exponent=thing.exponent,
                account=thing.account,
                tracked=thing.tracked,
                digest=thing.digest,
                created=thing.created,
            )
            self._add_thing(fact.asset, thing)
            facts.append(fact)
        return facts

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything, in arrays, equal for equal histories."""
        packed = msgspec.msgpack.encode(self._things)
        return {
            "parties": self._parties[: self._party_count].copy(),
            "things": np.frombuffer(packed, np.uint8).copy(),
        }

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> None:
        """Take the place of an earlier directory."""
        self._party_count = len(state["parties"])
        self._parties = np.zeros(max(64, self._party_count), PARTY)
        self._parties[: self._party_count] = state["parties"]
        self._recent = {}
        self._sort_in()
        self._things = msgspec.msgpack.decode(state["things"].tobytes(), type=list[ThingRow])
        self._assets = {thing.code: number for number, thing in enumerate(self._things, 1)}
        self._thing_ids = {thing.id: number for number, thing in enumerate(self._things, 1)}

    def _create_party(self, command: CreateParty, now: int) -> DirectoryAnswer | PartyFact:
        if command.kind not in _PARTY_KINDS:
            return _refused(
                command.id, Refusal.FIELD_INVALID, f"kind: expected one of {', '.join(_PARTY_KINDS)}"
            )
        if fault := text_fault("name", command.name):
            return _refused(command.id, Refusal.FIELD_INVALID, fault)
        profile = document_bytes(command.profile)
        if isinstance(profile, str):
            return _refused(command.id, Refusal.FIELD_INVALID, f"profile: {profile}")
        row = self.party_row(command.id)
        if row < 0:
            return PartyFact(ids.id_bytes(command.id), command.kind, command.name, profile, 1, now)
        old = self._parties[row]
        given = (
            ("kind", _PARTY_KINDS.index(PartyKind(command.kind)), old["kind"]),
            ("name", _hash(command.name.encode()), old["first_name"]),
            ("profile", _hash(profile), old["first_profile"]),
        )
        return self._repeat_of_party(
            command.id, row, next((f for f, new, was in given if new != int(was)), "")
        )

    def _repeat_of_party(self, id: int, row: int, difference: str) -> DirectoryAnswer:
        if difference:
            return _refused(
                id,
                Refusal.EXISTS_WITH_DIFFERENT_CONTENT,
                f"{difference}: a Party has this id, with another {difference}",
            )
        old = self._parties[row]
        return DirectoryAnswer(
            id=id, version=int(old["version"]), timestamp=int(old["created"]), replayed=True
        )

    def _update_party(self, command: UpdateParty, now: int) -> DirectoryAnswer | PartyFact:
        if fault := text_fault("name", command.name):
            return _refused(command.id, Refusal.FIELD_INVALID, fault)
        profile = document_bytes(command.profile)
        if isinstance(profile, str):
            return _refused(command.id, Refusal.FIELD_INVALID, f"profile: {profile}")
        row = self.party_row(command.id)
        if row < 0:
            return _refused(command.id, Refusal.PARTY_NOT_FOUND, f"no Party {ids.format_id(command.id)}")
        old = self._parties[row]
        if int(old["name"]) == _hash(command.name.encode()) and int(old["profile"]) == _hash(profile):
            return self._repeat_of_party(command.id, row, "")
        version = int(old["version"])
        if command.if_version not in {0, version}:
            return _refused(
                command.id,
                Refusal.PARTY_VERSION_DIFFERS,
                f"the Party has version {version}, not {command.if_version}",
            )
        kind = _PARTY_KINDS[int(old["kind"])]
        return PartyFact(ids.id_bytes(command.id), kind, command.name, profile, version + 1, now)

    def _create_thing(self, command: CreateThing, now: int) -> DirectoryAnswer | ThingFact:
        attrs = document_bytes(command.attrs)
        if isinstance(attrs, str):
            return _refused(command.id, Refusal.FIELD_INVALID, f"attrs: {attrs}")
        if fault := _thing_fault(command):
            return _refused(command.id, Refusal.FIELD_INVALID, fault)
        raw = ids.id_bytes(command.id)
        if asset := self._thing_ids.get(raw):
            old = self._things[asset - 1]
            digest = _thing_digester.digest(command)
            if old.digest == digest:
                return DirectoryAnswer(
                    id=command.id, version=1, asset=asset, timestamp=old.created, replayed=True
                )
            field = _thing_digester.first_difference(old.digest, digest)
            return _refused(
                command.id,
                Refusal.EXISTS_WITH_DIFFERENT_CONTENT,
                f"{field}: a Thing has this id, with another {field}",
            )
        if asset := self._assets.get(command.code):
            other = ids.format_id(ids.id_from_bytes(self._things[asset - 1].id))
            return _refused(
                command.id, Refusal.THING_CODE_ALREADY_USED, f"{command.code!r} is the code of Thing {other}"
            )
        asset = len(self._things) + 1
        if asset > ASSETS_MAX:
            return _refused(command.id, Refusal.ASSETS_EXHAUSTED, "there are no asset numbers left")
        return ThingFact(raw, command.kind, command.code, asset, command.exponent, command.name, attrs, now)

    def _replay_party(self, fact: PartyFact) -> None:
        id = ids.id_from_bytes(fact.id)
        name, profile = _hash(fact.name.encode()), _hash(fact.profile)
        if fact.version > 1:
            row = self.party_row(id)
            self._parties["name"][row] = name
            self._parties["profile"][row] = profile
            self._parties["version"][row] = fact.version
            return
        row = self._party_count
        if row == len(self._parties):
            grown = np.zeros(2 * row, PARTY)
            grown[:row] = self._parties
            self._parties = grown
        kind = _PARTY_KINDS.index(PartyKind(fact.kind))
        self._parties[row] = (
            id >> 64, id & (2**64 - 1), name, profile, name, profile, fact.timestamp, 1, kind, b"",
        )  # fmt: skip
        self._party_count = row + 1
        self._recent[id] = row
        if len(self._recent) >= RECENT_MAX:
            self._sort_in()

    def _replay_thing(self, fact: ThingFact) -> None:
        attrs = msgspec.json.decode(fact.attrs)
        command = CreateThing(
            id=ids.id_from_bytes(fact.id), kind=fact.kind, code=fact.code, exponent=fact.exponent,
            name=fact.name, attrs=attrs,
        )  # fmt: skip
        tracked = bool(attrs.get("tracked", fact.kind != ThingKind.SERVICE))
        digest = _thing_digester.digest(command)
        account = _account(attrs)
        self._add_thing(
            fact.asset,
            ThingRow(fact.id, fact.kind, fact.code, fact.exponent, account, tracked, digest, fact.timestamp),
        )

    def _add_thing(self, asset: int, thing: ThingRow) -> None:
        self._things.append(thing)
        assert len(self._things) == asset, "asset numbers are given in order"
        self._assets[thing.code] = asset
        self._thing_ids[thing.id] = asset

    def _sort_in(self) -> None:
        """Index every row, and forget the dict of recent ones."""
        low = self._parties["id_lo"][: self._party_count]
        self._sorted_rows = np.argsort(low, kind="stable")
        self._sorted_low = low[self._sorted_rows]
        self._recent = {}


def _refused(id: int, code: Refusal, message: str) -> DirectoryAnswer:
    return DirectoryAnswer(id=id, code=code, message=message)


def _hash(content: bytes) -> int:
    return xxhash.xxh3_64_intdigest(content)


def text_fault(field: str, text: str) -> str:
    """What is wrong with a text, "" if nothing."""
    if _CONTROL.search(text):
        return f"{field}: has control characters"
    return "" if len(text.encode()) <= TEXT_BYTES_MAX else f"{field}: longer than {TEXT_BYTES_MAX} bytes"


def _thing_fault(command: CreateThing) -> str:
    """What is wrong with a Thing, "" if nothing."""
    if command.kind not in tuple(ThingKind):
        return f"kind: expected one of {', '.join(ThingKind)}"
    code = command.code
    if not (0 < len(code) <= CODE_LENGTH_MAX and code == code.strip() and code.isprintable()):
        return f"code: expected 1 to {CODE_LENGTH_MAX} printable characters, no blanks around them"
    if type(command.exponent) is not int or not 0 <= command.exponent <= EXPONENT_MAX:
        return f"exponent: expected 0 to {EXPONENT_MAX}"
    try:
        parse_key(_account(command.attrs))
    except ChartError as exc:
        return f"attrs: where sales go, from account (a key) or revenue (as in R:{{revenue}}): {exc}"
    return text_fault("name", command.name)


def _account(attrs: dict[str, Any]) -> str:
    """The account that the attributes `account` or `revenue` of a Thing name."""
    revenue = attrs.get("revenue")
    return str(attrs.get("account", SALES if revenue is None else f"R:{revenue}"))


def document_bytes(document: dict[str, Any]) -> bytes | str:
    """A JSON object as bytes, or what is wrong with it."""
    try:
        packed = _json.encode(document)
    except (TypeError, ValueError) as exc:
        return f"can't be written as JSON: {exc}"
    except RecursionError:
        return "nested too deeply"
    if _NUL.search(packed):
        return "has NUL characters"
    return packed if len(packed) <= DOCUMENT_BYTES_MAX else f"longer than {DOCUMENT_BYTES_MAX} bytes of JSON"
