-- What must survive: the log, snapshots of its state, and how far the projections have read it.

-- One row per record, written by the shard's only writer (see persistence/log.py). Positions start at 1 and have
-- no holes. Payloads are already compact, so they are stored out of line and not compressed.
create table wal (
    shard   int2  not null,
    lsn     int8  not null check (lsn > 0),
    epoch   int8  not null check (epoch > 0),
    payload bytea not null,
    primary key (shard, lsn)
) partition by range (lsn);
alter table wal alter column payload set storage external;

-- Makes the partitions that hold `first_lsn` to `last_lsn` and returns the first position beyond them. A
-- partition is attached, not created in place: attaching does not wait for, or block, writers of the log.
create function wal_partitions(first_lsn int8, last_lsn int8) returns int8
language plpgsql
set search_path from current
as $$
declare
    width constant int8 := 1048576;
    part int8;
    name text;
begin
    perform pg_advisory_xact_lock(hashtextextended('wal_partitions', to_regclass('wal')::oid::int8));
    for part in first_lsn / width .. last_lsn / width loop
        name := format('wal_%s', lpad(part::text, 6, '0'));
        if to_regclass(name) is null then
            execute format('create table %I (like wal including all)', name);
            execute format(
                'alter table wal attach partition %I for values from (%s) to (%s)',
                name, part * width, (part + 1) * width
            );
        end if;
    end loop;
    return (last_lsn / width + 1) * width;
end
$$;

-- A snapshot is the state right after record `lsn`, whose payload hashes to `chain`. It counts only if `complete`
-- and if the log agrees; see persistence/snapshots.py.
create table snapshot (
    shard    int2        not null,
    lsn      int8        not null,
    chain    bytea       not null,
    format   int4        not null,
    chunks   int4        not null,
    checksum bytea       not null,
    complete boolean     not null,
    taken    timestamptz not null default clock_timestamp(),
    primary key (shard, lsn)
);

create table snapshot_chunk (
    shard   int2  not null,
    lsn     int8  not null,
    chunk   int4  not null,
    content bytea not null,
    primary key (shard, lsn, chunk),
    foreign key (shard, lsn) references snapshot on delete cascade
);
alter table snapshot_chunk alter column content set storage external;

-- The last record that the projections of a shard contain, and the last timestamp in it. It moves in the
-- transaction that writes what it stands for.
create table projection_cursor (
    shard     int2 primary key,
    lsn       int8 not null,
    timestamp int8 not null
);
