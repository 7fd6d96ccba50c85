"""Parties and Things: repeats are recognised, differences are named, and a million of them can be idle."""

from typing import Any

import msgspec
import numpy as np
import pytest

from engine import ids
from engine.commands import CreateParty, CreateThing, Refusal, UpdateParty
from engine.directory import PARTY, RECENT_MAX, Directory
from engine.facts import PartyFact, ThingFact

NOW = 1_700_000_000_000_000_000
ID = ids.uuid7(1_700_000_000_000, 5, 1)


@pytest.fixture
def directory() -> Directory:
    return Directory()


def test_party_is_created_once(directory: Directory) -> None:
    command = CreateParty(id=ID, kind="person", name="Ada", profile={"b": 1, "a": [2]})
    answer, fact = directory.submit_party(command, NOW)
    assert (answer.code, answer.version, answer.replayed) == ("", 1, False)
    assert fact == PartyFact(ids.id_bytes(ID), "person", "Ada", b'{"a":[2],"b":1}', 1, NOW)
    repeat = msgspec.structs.replace(command, profile={"a": [2], "b": 1})
    again, nothing = directory.submit_party(repeat, NOW + 1)
    assert (again.replayed, again.version, again.timestamp, nothing) == (True, 1, NOW, None)
    assert directory.party_count == 1
    assert directory.party_version(ID) == 1
    assert directory.party_version(ID + 1) == 0


@pytest.mark.parametrize(("field", "value"), [("kind", "org"), ("name", "Bob"), ("profile", {"x": 1})])
def test_other_party_under_the_same_id_is_refused(directory: Directory, field: str, value: Any) -> None:
    command = CreateParty(id=ID, kind="person", name="Ada")
    directory.submit_party(command, NOW)
    answer, fact = directory.submit_party(msgspec.structs.replace(command, **{field: value}), NOW)
    assert (answer.code, fact) == (Refusal.EXISTS_WITH_DIFFERENT_CONTENT, None)
    assert answer.message.endswith(f"another {field}")


def test_party_is_changed_and_its_creation_still_recognised(directory: Directory) -> None:
    create = CreateParty(id=ID, kind="person", name="Ada")
    directory.submit_party(create, NOW)
    change = UpdateParty(id=ID, name="Ada L.", profile={"x": 1}, if_version=1)
    answer, fact = directory.submit_party(change, NOW + 1)
    assert answer.version == 2
    assert fact is not None
    assert (fact.kind, fact.version) == ("person", 2)
    repeat, nothing = directory.submit_party(change, NOW + 2)
    assert (repeat.replayed, repeat.version, nothing) == (True, 2, None)
    stale, _ = directory.submit_party(msgspec.structs.replace(change, name="Eve"), NOW + 3)
    assert stale.code == Refusal.PARTY_VERSION_DIFFERS
    assert "version 2, not 1" in stale.message
    assert directory.submit_party(create, NOW + 4)[0].replayed
    missing, _ = directory.submit_party(UpdateParty(id=ID + 1), NOW)
    assert missing.code == Refusal.PARTY_NOT_FOUND


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"id": 0}, Refusal.ID_INVALID, "0"),
    ({"id": 2**128 - 1}, Refusal.ID_INVALID, "2^128"),
    ({"kind": "robot"}, Refusal.FIELD_INVALID, "person, org, service, machine"),
    ({"name": "x" * 256}, Refusal.FIELD_INVALID, "longer"),
    ({"name": "a\0b"}, Refusal.FIELD_INVALID, "control"),
    ({"name": "\ud800"}, Refusal.FIELD_INVALID, "control"),
    ({"profile": {"x": "y" * 70_000}}, Refusal.FIELD_INVALID, "profile: longer"),
    ({"profile": {"x": object()}}, Refusal.FIELD_INVALID, "profile: can't be written as JSON"),
]


@pytest.mark.parametrize(("fields", "code", "says"), BAD, ids=lambda value: str(value)[:30])
def test_bad_party_is_refused(directory: Directory, fields: dict[str, Any], code: str, says: str) -> None:
    given: dict[str, Any] = {"id": ID, "kind": "person", **fields}
    answer, fact = directory.submit_party(CreateParty(**given), NOW)
    assert (answer.code, fact) == (code, None)
    assert says in answer.message
    assert directory.party_count == 0


def test_many_parties_are_found_with_colliding_halves(directory: Directory) -> None:
    """Ids with equal low halves, more of them than are kept in the dict of recent ones."""
    count = RECENT_MAX + 100
    made = [ids.uuid7(1_700_000_000_000 + number, 0, number // 12) for number in range(count)]
    for id in made:
        directory.submit_party(CreateParty(id=id, kind="machine"), NOW)
    assert directory.party_count == count
    assert [directory.party_row(id) for id in made[::37]] == list(range(0, count, 37))
    assert directory.party_row(made[-1]) == count - 1
    assert directory.party_row(ids.uuid7(1, 0, 0)) == -1


def test_idle_parties_are_rows() -> None:
    directory = Directory()
    count = 100_000
    parties = np.zeros(count, PARTY)
    parties["id_hi"] = np.arange(count)
    parties["id_lo"] = np.random.default_rng(1).integers(1, 2**63, count, dtype=np.uint64)
    directory.restore({"parties": parties, "things": np.frombuffer(msgspec.msgpack.encode([]), np.uint8)})
    assert directory.party_row(77 << 64 | int(parties["id_lo"][77])) == 77
    assert PARTY.itemsize == 64


def test_thing_is_created_once_and_numbered(directory: Directory) -> None:
    gbp = CreateThing(id=ID, kind="asset", code="GBP", exponent=3, name="Pound", attrs={"symbol": "£"})
    answer, fact = directory.submit_thing(gbp, NOW)
    assert (answer.asset, answer.version) == (1, 1)
    assert fact == ThingFact(ids.id_bytes(ID), "asset", "GBP", 1, 3, "Pound", '{"symbol":"£"}'.encode(), NOW)
    again, nothing = directory.submit_thing(gbp, NOW + 1)
    assert (again.replayed, again.asset, again.timestamp, nothing) == (True, 1, NOW, None)
    other, _ = directory.submit_thing(msgspec.structs.replace(gbp, exponent=2), NOW)
    assert other.code == Refusal.EXISTS_WITH_DIFFERENT_CONTENT
    assert other.message.endswith("another exponent")
    taken, _ = directory.submit_thing(msgspec.structs.replace(gbp, id=ID + 1), NOW)
    assert taken.code == Refusal.THING_CODE_ALREADY_USED
    assert ids.format_id(ID) in taken.message
    post = CreateThing(id=ID + 2, kind="service", code="POST", attrs={"revenue": "shipping"})
    assert directory.submit_thing(post, NOW)[0].asset == 2
    mug = CreateThing(id=ID + 3, kind="product", code="MUG")
    assert directory.submit_thing(mug, NOW)[0].asset == 3
    assert directory.assets(["MUG", "", "CUP", "GBP"]) == [3, 0, 0, 1]
    assert directory.accounts([3, 2, 0]) == ["R:sales", "R:shipping", "R:sales"]
    assert directory.tracked([3, 2, 0]) == [True, False, False]
    assert directory.thing(1).exponent == 3
    for number in (0, 4):
        with pytest.raises(IndexError):
            directory.thing(number)


BAD_THINGS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "coin"}, "product, licence, service, subscription, asset, time"),
    ({"code": ""}, "1 to 64"),
    ({"code": " X"}, "blanks"),
    ({"code": "a\nb"}, "printable"),
    ({"code": "x" * 65}, "1 to 64"),
    ({"exponent": -1}, "0 to 18"),
    ({"exponent": 19}, "0 to 18"),
    ({"exponent": 2.0}, "0 to 18"),
    ({"name": "\x7f"}, "control"),
    ({"attrs": {"account": "sales"}}, "class:purpose"),
    ({"attrs": {"revenue": "a b"}}, "R:a b"),
    ({"attrs": {"x": {1, 2}, "y": object()}}, "JSON"),
]


@pytest.mark.parametrize(("fields", "says"), BAD_THINGS, ids=lambda value: str(value)[:30])
def test_bad_thing_is_refused(directory: Directory, fields: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"id": ID, "kind": "product", "code": "MUG", **fields}
    answer, fact = directory.submit_thing(CreateThing(**given), NOW)
    assert (answer.code, fact) == (Refusal.FIELD_INVALID, None)
    assert says in answer.message
    assert directory.thing_count == 0


def test_facts_rebuild_the_directory(directory: Directory) -> None:
    facts: list[PartyFact | ThingFact | None] = []
    for number in range(200):
        id = ID + number
        facts.append(directory.submit_party(CreateParty(id=id, kind="org", name=str(number)), NOW)[1])
        facts.append(directory.submit_thing(CreateThing(id=id, kind="time", code=f"T{number}"), NOW)[1])
        facts.append(directory.submit_party(UpdateParty(id=ID + number // 2, name=f"n{number}"), NOW)[1])
    rebuilt = Directory()
    for fact in facts:
        if fact is not None:
            rebuilt.replay(fact)
    restored = Directory()
    restored.restore(directory.state())
    for other in (rebuilt, restored):
        for name, array in directory.state().items():
            assert np.array_equal(array, other.state()[name]), name
        assert other.party_version(ID) == directory.party_version(ID)
        assert other.asset("T199") == 200
