-- name: begin
-- Everything read from now on is as it is at the first statement.
begin isolation level repeatable read, read only;

-- name: export_snapshot
-- Lets other sessions see the same state.
select pg_export_snapshot();

-- name: import_snapshot
-- Sees the same state as another session.
set transaction snapshot {snapshot};

-- name: head
-- The last position in a shard's log.
select lsn from wal where shard = %s order by lsn desc limit 1;

-- name: cursor
-- How far the projection of a shard has come.
select lsn, timestamp from projection_cursor where shard = %s;

-- name: legs
-- All legs and expiries of a shard in order, nulls as zeros.
copy (
    select shard, timestamp, coalesce(id, '00000000-0000-0000-0000-000000000000'), debit, credit, amount, code, flags,
           coalesce(pending_id, '00000000-0000-0000-0000-000000000000'), coalesce(held, 0), coalesce(timeout, 0),
           coalesce(user_data_128, '00000000-0000-0000-0000-000000000000'), coalesce(user_data_64, 0),
           coalesce(user_data_32, 0)
    from leg
    where shard = {shard}
    order by timestamp
) to stdout (format binary);

-- name: burnt_ids
-- All burnt ids of a shard.
copy (select shard, timestamp, id from burnt_id where shard = {shard}) to stdout (format binary);

-- name: accounts
-- All accounts of a shard in order of creation, nulls as the engine has them.
copy (
    select shard, ordinal, id, created, asset, code, flags, coalesce(floor, -9223372036854775808),
           coalesce(ceiling, 9223372036854775807), coalesce(parent, -1),
           coalesce(party, '00000000-0000-0000-0000-000000000000'),
           coalesce(user_data_128, '00000000-0000-0000-0000-000000000000'), coalesce(user_data_64, 0),
           coalesce(user_data_32, 0), coalesce(key, '')
    from account
    where shard = {shard}
    order by ordinal
) to stdout (format binary);

-- name: segments
-- All segments of account history of a shard, in order of their ends.
copy (
    select shard, account, legs, first, last, debits_pending, debits_posted, credits_pending, credits_posted, timestamps
    from account_history
    where shard = {shard}
    order by last, account
) to stdout (format binary);

-- name: parties
-- All parties of a shard.
copy (select id, shard, version, timestamp, tenant, kind, name, profile from party where shard = {shard})
to stdout (format binary);

-- name: things
-- All things of a shard.
copy (
    select id, shard, timestamp, asset, exponent, tenant, kind, code, name, attrs from thing where shard = {shard}
) to stdout (format binary);

-- name: moves
-- What happened to the Moves of a shard.
copy (
    select timestamp, business_time, lsn, asset, amount, unmatched_quantity, unmatched_amount, expires_at, seq,
           leg_count, shard, ended, id, request, payer, payee, reverses, tenant, principal, kind, transition, state,
           tender, reference, lines, inputs, holds, metadata
    from move
    where shard = {shard}
) to stdout (format binary);

-- name: requests
-- The answers to requests of a shard.
copy (select id, timestamp, lsn, shard, move, fact from request where shard = {shard}) to stdout (format binary);

-- name: crossings
-- The crossings that a shard had legs in.
copy (select first, last, lsn, epoch, counter, home, shard from crossing where shard = {shard})
to stdout (format binary);

-- name: crossing_moves
-- Where the Moves of other shards have legs on a shard.
copy (select timestamp, seq, legs, shard, move from crossing_move where shard = {shard}) to stdout (format binary);
