-- name: lock
-- One migration at a time in a database; the lock goes with the transaction.
select pg_advisory_xact_lock(hashtextextended('tessera migrations', 0));

-- name: prepared
-- Whether the table of migrations is there.
select to_regclass('migration') is not null;

-- name: prepare
-- The table of migrations.
create table if not exists migration (
    number   int4        primary key,
    name     text        not null,
    checksum text        not null,
    applied  timestamptz not null default clock_timestamp()
);

-- name: applied
-- The migrations that this database has.
select number, name, checksum from migration order by number;

-- name: record
-- Notes that a migration was applied.
insert into migration (number, name, checksum) values (%s, %s, %s);
