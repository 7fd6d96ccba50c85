-- What the processes of a cluster know of each other.

create table cluster (
    one    boolean primary key default true check (one),  -- there is one row, or none
    token  bytea   not null,                              -- by which they know each other
    shards int2    not null check (shards > 0),
    holder text    not null default ''                    -- who may start shards: the Ray cluster, by its address
);

-- Where a shard can be spoken to. Written by each owner, with its epoch, when it begins to serve.
create table endpoint (
    shard   int2        primary key,
    epoch   int8        not null,
    host    text        not null,
    port    int4        not null,
    node    text        not null,  -- as the operator knows it
    pid     int4        not null,
    version text        not null,  -- of Tessera
    since   timestamptz not null default clock_timestamp()
);
