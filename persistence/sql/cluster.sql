-- name: join
-- Makes this database a cluster's, with this token, unless it is one already.
insert into cluster (token, shards) values (%s, %s) on conflict do nothing;

-- name: cluster
-- The token that its processes know each other by, how many shards it has, and who may start them.
select token, shards, holder from cluster;

-- name: hold
-- Lets somebody start the shards from now on, and nobody else.
update cluster set holder = %s;

-- name: publish
-- Says where a shard is, unless an owner with a higher epoch, or itself, has done so.
insert into endpoint (shard, epoch, host, port, node, pid, version) values (%s, %s, %s, %s, %s, %s, %s)
on conflict (shard) do update
set epoch = excluded.epoch, host = excluded.host, port = excluded.port, node = excluded.node,
    pid = excluded.pid, version = excluded.version, since = clock_timestamp()
where endpoint.epoch < excluded.epoch;

-- name: endpoints
-- Where the shards are.
select shard, epoch, host, port, node, pid, version, since::text from endpoint order by shard;
