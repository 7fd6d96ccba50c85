-- Who may come in, and what was done about it.

-- API keys. The key itself is nowhere: only a digest of its secret. Times are nanoseconds since 1970. Rows are never
-- deleted, so that the id in an old record or audit entry still says whose it was.
create table api_key (
    version    int8   not null,  -- grows with every change of any key, in the order in which changes become visible
    created    int8   not null,
    expires    int8,             -- null = never
    revoked    int8,             -- null = not
    rate       int4,             -- requests a second; null = as the gateway says
    burst      int4,             -- requests at once; null = as the gateway says
    party      uuid,             -- moves this Party's money only, and reads its data only; null = any
    id         text   primary key,
    tenant     text   not null,
    name       text   not null,
    replaces   text   references api_key,  -- the key that this one was made for when it was rotated
    scopes     text[] not null,
    digest     bytea  not null   -- SHA-256 of the secret, which has 256 random bits
);
create unique index api_key_version on api_key (version);

-- What was refused and what was administered. Each entry's hash covers the one before (see persistence/audit.py), so
-- that none can be changed, taken out or put in between without the rest saying so.
create table audit (
    seq       int8  primary key check (seq > 0),  -- without holes
    time      int8  not null,
    count     int8  not null,   -- how often it happened, within a second or so
    tenant    text  not null,
    principal text  not null,   -- who; empty = nobody we know
    remote    text  not null,   -- from where; empty = from this machine's command line
    action    text  not null,
    outcome   text  not null,
    detail    json  not null,   -- not jsonb: its text is part of what the hash covers
    hash      bytea not null
);
