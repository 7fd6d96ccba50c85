-- Where events are sent to, and how far each receiver has got. The events themselves are the log.

-- Endpoints. Times are nanoseconds since 1970.
create table webhook (
    id          uuid  primary key,
    version     int8  not null,  -- of the newest change that whoever delivers must know of
    created     int8  not null,
    failing     int8,            -- since when nothing was taken, although it was tried; null = not
    tenant      text  not null,
    principal   text  not null,  -- on whose word it was made; empty = nobody asked
    url         text  not null,
    name        text  not null,
    filter      json  not null,
    state       text  not null check (state in ('active', 'paused', 'disabled')),
    reason      text  not null,  -- why it is disabled
    cursor      text  not null,  -- everything before was taken, or is in webhook_event
    secret      bytea not null,  -- as it is: it must sign
    old_secrets bytea[] not null default '{}',  -- those before it was rotated
    old_until   int8[]  not null default '{}'   -- so long each of them signs too
);
create index webhook_tenant on webhook (tenant, id);

-- Events before the cursor that were not taken: they wait for another attempt, or behind one that does, or are dead.
create table webhook_event (
    webhook  uuid    not null references webhook on delete cascade,
    shard    int4    not null,
    lsn      int8    not null,
    place    int8    not null,
    due      int8    not null,  -- not before this time
    failed   int8    not null,  -- when it was last tried; 0 = never
    attempts int4    not null,
    status   int4,              -- of the last answer; null = there was none
    dead     boolean not null,  -- not tried any more
    type     text    not null,
    error    text    not null,  -- of the last attempt
    subjects bytea   not null,  -- what its order counts for, 16 bytes each
    primary key (webhook, shard, lsn, place)
);
create index webhook_event_dead on webhook_event (webhook, shard, lsn, place) where dead;

-- The newest attempts of each endpoint.
create table webhook_attempt (
    webhook uuid not null references webhook on delete cascade,
    seq     int8 not null,
    time    int8 not null,
    lsn     int8 not null,
    place   int8 not null,
    took_us int8 not null,
    shard   int4 not null,
    attempt int4 not null,
    status  int4,              -- null = there was no answer
    type    text not null,
    error   text not null,     -- empty = it was taken
    primary key (webhook, seq)
);

-- Which gateway delivers, for how long unless it says so again.
create table webhook_lease (
    tenant text        primary key,
    until  timestamptz not null,
    owner  uuid        not null
);

-- Other people's webhooks that we take in: by whom they are signed, and what they do.
create table webhook_source (
    tenant      text    not null,
    name        text    not null,
    created     int8    not null,
    principal   text    not null,  -- on whose word it was made; empty = nobody asked
    rules       json    not null,
    secret      bytea   not null,
    old_secrets bytea[] not null default '{}',
    old_until   int8[]  not null default '{}',
    primary key (tenant, name)
);
