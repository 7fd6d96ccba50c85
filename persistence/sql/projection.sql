-- name: create_cursor
-- The cursor of a shard that has never been projected.
insert into projection_cursor (shard, lsn, timestamp) values (%s, 0, 0) on conflict do nothing;

-- name: cursor
-- How far the projection of a shard has come.
select lsn, timestamp from projection_cursor where shard = %s;

-- name: advance
-- Moves the cursor, if it is where this projector left it.
update projection_cursor set lsn = %(next)s, timestamp = %(timestamp)s
where shard = %(shard)s and lsn = %(expected)s;

-- name: commit_synchronously
-- Waits for the disk at every commit: ids that the projection has are forgotten by the engine.
select set_config('synchronous_commit', 'on', false);

-- name: one_moment
-- Cursor and counters are read as they are at one moment, while another projector may be at work.
set transaction isolation level repeatable read, read only;

-- name: party_buffer
-- Where rows of parties wait before they replace older ones.
create temporary table if not exists party_buffer (like party) on commit delete rows;

-- name: merge_parties
-- Adds the parties that are new, and replaces those that have changed.
insert into party select * from party_buffer
on conflict (id) do update
set version = excluded.version, timestamp = excluded.timestamp, kind = excluded.kind, name = excluded.name,
    profile = excluded.profile
where party.version < excluded.version;

-- name: guard
-- New guards of accounts.
update account set floor = given.floor, ceiling = given.ceiling
from unnest(%(ordinals)s::int4[], %(floors)s::int8[], %(ceilings)s::int8[]) as given (ordinal, floor, ceiling)
where account.shard = %(shard)s and account.ordinal = given.ordinal;

-- name: close
-- Closes and reopens accounts.
update account set flags = case when given.closed then flags | 2 else flags & ~2 end
from unnest(%(ordinals)s::int4[], %(closed)s::boolean[]) as given (ordinal, closed)
where account.shard = %(shard)s and account.ordinal = given.ordinal;

-- name: closing_flags
-- Which of these holds close accounts.
select id, flags from leg where id = any(%s::uuid[]) and flags & 192 <> 0;

-- name: counters
-- Every account of a shard, as the projection last left it, in order of creation.
copy (
    select a.ordinal, coalesce(a.parent, -1), a.flags, coalesce(h.debits_pending, 0), coalesce(h.debits_posted, 0),
           coalesce(h.credits_pending, 0), coalesce(h.credits_posted, 0)
    from account a
    left join lateral (
        select * from account_history h
        where h.shard = a.shard and h.account = a.ordinal
        order by h.last desc
        limit 1
    ) h on true
    where a.shard = {shard}
    order by a.ordinal
) to stdout (format binary);
