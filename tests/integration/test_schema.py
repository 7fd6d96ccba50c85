"""Migrations: applied once and in order, refused when they are not ours, and described in `schema.txt`.

After a wanted change, write the description anew:

    TESSERA_DESCRIBE_SCHEMA=1 .venv/bin/python -m pytest tests/integration/test_schema.py -k described
"""

import asyncio
import os
from pathlib import Path
from typing import Final

import pytest

from persistence import schema
from persistence.database import Database, DatabaseSettings
from persistence.errors import QueryFailed, SchemaChanged, SchemaNewer
from persistence.schema import Migration, is_current, migrate, migrations

DESCRIPTION: Final = Path(__file__).with_name("schema.txt")

_QUERIES: Final = {
    "Columns": """
        select format('%s.%s %s%s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                      case when a.attnotnull then ' not null' else '' end,
                      case when a.attstorage <> t.typstorage then ' storage ' || a.attstorage::text
                           else '' end,
                      ' default ' || pg_get_expr(d.adbin, d.adrelid))
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        join pg_type t on t.oid = a.atttypid
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p', 'v')
          and not c.relispartition
        order by c.relname, a.attnum""",
    "Partitioned tables": """
        select c.relname || ' by ' || pg_get_partkeydef(c.oid) from pg_class c
        where c.relnamespace = current_schema()::regnamespace and c.relkind = 'p' order by 1""",
    "Constraints": """
        select format('%s %s: %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid))
        from pg_constraint c
        where c.connamespace = current_schema()::regnamespace and c.contype <> 'n' order by 1""",
    "Indexes": """
        select pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indrelid
        where c.relnamespace = current_schema()::regnamespace and not c.relispartition order by 1""",
    "Views": """
        select format(E'%s:\\n%s', c.relname, pg_get_viewdef(c.oid)) from pg_class c
        where c.relnamespace = current_schema()::regnamespace and c.relkind = 'v' order by c.relname""",
    "Functions": """
        select pg_get_functiondef(p.oid) from pg_proc p
        where p.pronamespace = current_schema()::regnamespace order by p.proname""",
}


async def describe(database: Database) -> str:
    """Everything in the schema, as text."""
    parts = []
    async with database.session("test") as session:
        for title, query in _QUERIES.items():
            rows = await (await session.execute(query.encode())).fetchall()
            parts.append("\n".join([f"# {title}", "", *(row[0] for row in rows), ""]))
    return "\n".join(parts)


async def test_the_migrated_schema_is_the_described_one(database: Database) -> None:
    description = await describe(database)
    if "TESSERA_DESCRIBE_SCHEMA" in os.environ:
        DESCRIPTION.write_text(description)
    assert description == DESCRIPTION.read_text()


async def test_migrations_are_applied_once(empty_database: Database) -> None:
    assert not await is_current(empty_database)
    assert await migrate(empty_database) == migrations()
    assert await migrate(empty_database) == []
    assert await is_current(empty_database)


async def test_several_that_migrate_at_once_do_it_once(empty_database: Database) -> None:
    applied = await asyncio.gather(*(migrate(empty_database) for _ in range(4)))
    assert sorted(migration for some in applied for migration in some) == migrations()


async def test_schemas_do_not_mix(empty_database: Database) -> None:
    other = Database(DatabaseSettings(url=empty_database.dsn, schema='Other "one"'))
    assert await migrate(empty_database) == await migrate(other)
    async with other.session("test") as session:
        row = await (
            await session.execute("select wal_partitions(1, 1), to_regclass('wal_000000')::text")
        ).fetchone()
        assert row == (1048576, "wal_000000")
    async with empty_database.session("test") as session:
        row = await (await session.execute("select to_regclass('wal_000000')")).fetchone()
        assert row == (None,)


async def test_a_newer_schema_is_refused_and_left_alone(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrations()
    later = Migration(len(known) + 1, "later", "0" * 64, b"create table later (a int4)")
    with monkeypatch.context() as patched:
        patched.setattr(schema, "migrations", lambda: [*known, later])
        assert (await migrate(empty_database))[-1] == later
    with pytest.raises(SchemaNewer, match=f"version {later.number}") as refused:
        await migrate(empty_database)
    assert (refused.value.found, refused.value.known) == (later.number, len(known))
    with pytest.raises(SchemaNewer):
        await is_current(empty_database)


async def test_a_migration_that_was_changed_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrations()
    monkeypatch.setattr(schema, "migrations", lambda: [known[0]._replace(checksum="1" * 64), *known[1:]])
    with pytest.raises(SchemaChanged) as refused:
        await migrate(database)
    assert refused.value.number == 1


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [
        Migration(1, "good", "1", b"create table good (a int4)"),
        Migration(2, "bad", "2", b"create table half (a int4); select 1 / 0"),
    ]
    monkeypatch.setattr(schema, "migrations", lambda: broken)
    with pytest.raises(QueryFailed, match="division by zero"):
        await migrate(empty_database)
    async with empty_database.session("test") as session:
        cursor = await session.execute("select to_regclass('good') is null, to_regclass('half') is null")
        assert await cursor.fetchone() == (False, True)
        assert await (await session.execute("select number from migration")).fetchall() == [(1,)]


async def test_partitions_take_over_the_storage_and_the_key_and_are_made_once(database: Database) -> None:
    async with database.session("test") as session:
        made = await (
            await session.execute("select wal_partitions(1, 3000000), wal_partitions(5, 6)")
        ).fetchone()
        assert made == (3145728, 1048576)
        cursor = await session.execute(
            "select c.relname, a.attstorage::text, pg_get_expr(c.relpartbound, c.oid),"
            " (select count(*) from pg_index i where i.indrelid = c.oid and i.indisprimary)"
            " from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'payload'"
            " where c.relispartition and c.relkind = 'r' order by 1"
        )
        assert await cursor.fetchall() == [
            ("wal_000000", "e", "FOR VALUES FROM ('0') TO ('1048576')", 1),
            ("wal_000001", "e", "FOR VALUES FROM ('1048576') TO ('2097152')", 1),
            ("wal_000002", "e", "FOR VALUES FROM ('2097152') TO ('3145728')", 1),
        ]


async def test_making_partitions_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.session("test") as writer, database.session("test") as session:
        await writer.execute("select wal_partitions(1, 1)")
        async with writer.transaction():
            await writer.execute("insert into wal values (0, 1, 1, '')")
            await session.execute("set lock_timeout = '5s'")
            await session.execute("select wal_partitions(1, 2000000)")
