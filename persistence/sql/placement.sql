-- name: read
-- Which shard each bucket is on.
select shard_of_bucket from placement;

-- name: has_log
-- Whether anybody has written to this database before placements were kept: then it has one shard.
select exists (select from wal);

-- name: write
-- The placement, unless there is one.
insert into placement (shard_of_bucket) values (%s::int2[]) on conflict do nothing;
