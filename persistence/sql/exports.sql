-- name: heads
-- Where the log of each shard ends, all at one moment.
select shard, max(lsn) from wal group by shard order by shard;

-- name: is_empty
-- Whether nothing has been written by any shard: neither a record nor what is derived from one.
select not exists (select from wal) and not exists (select from snapshot)
   and not exists (select from projection_cursor where lsn > 0);
