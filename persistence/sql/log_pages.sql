-- name: page
-- The first records after a position up to another one, at most so many, and no more than so many bytes after the
-- first of them.
select lsn, epoch, payload
from (
    select lsn, epoch, payload,
           sum(octet_length(payload)) over (order by lsn rows unbounded preceding) - octet_length(payload) as before,
           octet_length(payload) as size
    from (
        select lsn, epoch, payload
        from wal
        where shard = %(shard)s and lsn > %(after)s and lsn <= %(last)s
        order by lsn
        limit %(records)s
    ) first
) sized
where before = 0 or before + size <= %(bytes)s
order by lsn;
