-- name: identify
-- Which backend serves this statement; asked more than once, it shows a pooler that switches between them.
select pid, backend_start::text, application_name from pg_stat_activity where pid = pg_backend_pid();

-- name: examine
-- What decides whether commits here can be relied on.
select pg_is_in_recovery(), current_setting('fsync'), current_setting('synchronous_commit');

-- name: commit_synchronously
-- Waits at every commit for the disk, and for standbys if there are synchronous ones.
select set_config('synchronous_commit', 'on', false);

-- name: clock
-- The server's time in nanoseconds since 1970 (its resolution is microseconds).
select (extract(epoch from clock_timestamp()) * 1000000)::int8 * 1000;

-- name: try_lock
-- Takes the writer's lock of a shard for as long as the session lasts, if it is free.
select pg_try_advisory_lock(%s, %s);

-- name: unlock
-- Gives up every lock of this session.
select pg_advisory_unlock_all();

-- name: holder
-- Which other session holds the writer's lock of a shard.
select l.pid, coalesce(a.backend_start::text, ''), coalesce(a.application_name, '')
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 2
  and l.database = (select oid from pg_database where datname = current_database())
  and l.classid::int8 = %s::int8 & 4294967295 and l.objid::int8 = %s::int8 & 4294967295
  and l.pid <> pg_backend_pid();

-- name: terminate
-- Ends another session.
select pg_terminate_backend(%s);

-- name: end_predecessors
-- Ends sessions by which an earlier writer reads and projects: one that stands still would keep its locks.
select count(pg_terminate_backend(pid))
from pg_stat_activity
where application_name = any(%s) and datname = current_database() and usename = current_user;

-- name: head
-- The last record of a shard.
select lsn, epoch, payload from wal where shard = %s order by lsn desc limit 1;

-- name: tail
-- The records of a shard from a position on, at most so many.
select lsn, epoch, payload from wal where shard = %s and lsn >= %s order by lsn limit %s;

-- name: make_room
-- Makes room for records between two positions and returns the first position without.
select wal_partitions(%s, %s);

-- name: append
-- The records of one commit.
copy wal (shard, lsn, epoch, payload) from stdin (format binary);

-- name: append_one
-- A single small record: prepared once, it takes one round trip where the stream takes two. It runs as libpq has
-- it, so its parameters are numbered.
insert into wal (shard, lsn, epoch, payload) values ($1, $2, $3, $4);

-- name: read
-- The records of a shard in order, as a stream; both ends are included.
copy (select lsn, epoch, payload from wal where shard = {shard} and lsn between {first} and {last} order by lsn)
to stdout (format binary);

-- name: settle
-- A commit of its own: when it returns, whatever was visible before it is as durable as it can be.
select pg_logical_emit_message(true, 'tessera', 'settled');

-- name: confirm
-- Answers only while the session, and with it the lock, is ours.
select true;

-- name: flush_statistics
-- Publishes this session's counters.
select pg_stat_force_next_flush();

-- name: wal_syncs
-- How often the server has synced its own log, from PostgreSQL 18 on.
select coalesce(sum(fsyncs), 0)::int8 from pg_stat_io where object = 'wal';

-- name: wal_syncs_before_18
-- How often the server has synced its own log, before PostgreSQL 18.
select wal_sync from pg_stat_wal;
