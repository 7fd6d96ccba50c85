-- name: add
-- A snapshot, before its chunks.
insert into snapshot (shard, lsn, chain, format, chunks, checksum, complete) values (%s, %s, %s, %s, 0, %s, false);

-- name: chunk
-- The chunks of a snapshot.
copy snapshot_chunk (shard, lsn, chunk, content) from stdin (format binary);

-- name: publish
-- Makes a snapshot count, now that all its chunks are there.
update snapshot set chunks = %(chunks)s, checksum = %(checksum)s, complete = true
where shard = %(shard)s and lsn = %(lsn)s;

-- name: forget
-- Drops all but the newest snapshots of a shard.
delete from snapshot
where shard = %(shard)s
  and lsn not in (select lsn from snapshot where shard = %(shard)s order by lsn desc limit %(kept)s);

-- name: forget_one
-- Drops a snapshot.
delete from snapshot where shard = %s and lsn = %s;

-- name: all
-- The snapshots of a shard, newest first.
select lsn, chain, format, chunks, checksum, complete from snapshot where shard = %s order by lsn desc;

-- name: content
-- One chunk.
select content from snapshot_chunk where shard = %s and lsn = %s and chunk = %s;

-- name: chunk_count
-- How many chunks of a snapshot there are.
select count(*) from snapshot_chunk where shard = %s and lsn = %s;

-- name: record
-- The record that a snapshot comes after.
select epoch, payload from wal where shard = %s and lsn = %s;
