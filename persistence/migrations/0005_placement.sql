-- Which shard each of the 4,096 buckets is on; see engine/placement.py. Written once, when the database is made.
create table placement (
    one             boolean primary key default true check (one),  -- there is one row
    shard_of_bucket int2[]  not null check (cardinality(shard_of_bucket) = 4096)
);
