"""API keys in the database: what changes, in which order it is seen, and that the audit log says so."""

import asyncio
from typing import Any

import pytest

from persistence import audit
from persistence.api_keys import ApiKeys, StoredKey
from persistence.audit import AuditEntry
from persistence.database import Database
from persistence.errors import KeyNotFound


def key(id: str, **more: Any) -> StoredKey:
    given = {"tenant": "default", "name": "shop", "scopes": ["*:read", "moves:write"], "created": 1}
    return StoredKey(**{"id": id, "digest": bytes(range(32)), **given, **more})


def entry(action: str) -> AuditEntry:
    return AuditEntry(time=1, tenant="default", principal="", action=action, outcome="done")


@pytest.fixture
async def keys(database: Database) -> Any:
    keys = ApiKeys(database)
    yield keys
    await keys.close()


async def test_a_key_is_kept_as_it_was_given(keys: ApiKeys) -> None:
    full = key("a", party=2**128 - 1, rate=10, burst=20, expires=99)
    await keys.add(full, entry("keys create"))
    await keys.add(key("b"), entry("keys create"))
    assert await keys.changed_since(0) == [
        StoredKey(**{name: getattr(full, name) for name in full.__struct_fields__} | {"version": 1}),
        key("b", version=2),
    ]
    assert await keys.changed_since(2) == []


async def test_rotation_ends_the_old_key_and_makes_another(keys: ApiKeys) -> None:
    await keys.add(key("a", expires=50), entry("keys create"))
    await keys.rotate(key("b", replaces="a"), 70, entry("keys rotate"))
    await keys.rotate(key("c", replaces="b"), 70, entry("keys rotate"))
    assert [(k.id, k.expires, k.replaces) for k in await keys.changed_since(1)] == [
        ("a", 50, None),
        ("b", 70, "a"),
        ("c", None, "b"),
    ]


async def test_revoking_is_once_and_for_good(keys: ApiKeys) -> None:
    await keys.add(key("a"), entry("keys create"))
    assert await keys.revoke("a", 7, entry("keys revoke"))
    assert not await keys.revoke("a", 8, entry("keys revoke"))
    assert [(k.revoked, k.version) for k in await keys.changed_since(0)] == [(7, 2)]


async def test_there_is_no_such_key(keys: ApiKeys, database: Database) -> None:
    with pytest.raises(KeyNotFound):
        await keys.revoke("a", 7, entry("keys revoke"))
    with pytest.raises(KeyNotFound):
        await keys.rotate(key("b", replaces="a"), 70, entry("keys rotate"))
    assert (await audit.check(database)).head.seq == 0


async def test_changes_at_once_have_versions_of_their_own_and_entries(
    keys: ApiKeys, database: Database
) -> None:
    await asyncio.gather(*(keys.add(key(f"k{n}"), entry("keys create")) for n in range(8)))
    assert [found.version for found in await keys.changed_since(0)] == list(range(1, 9))
    report = await audit.check(database)
    assert (report.head.seq, report.problems) == (8, [])
