-- What happens at given times: each tick of a schedule creates a Move, or takes one further.
-- Times are nanoseconds since 1970.
create table schedule (
    tenant    text not null,
    name      text not null,
    id        uuid not null,  -- the ids of its ticks' requests derive from it
    created   int8 not null,
    principal text not null,  -- on whose word it was made; empty = nobody asked
    spec      json not null,  -- when, and what
    state     text not null check (state in ('active', 'paused', 'ended')),
    tick      int8 not null,  -- the number of the next one, from 0
    due       int8 not null,  -- when that is
    fired     int8,           -- when the one before it was done; null = there was none
    refused   int8 not null default 0,  -- how many ticks were refused
    code      text not null default '',  -- why the last one was; empty = it was not
    message   text not null default '',
    primary key (tenant, name)
);
create index schedule_due on schedule (tenant, due) where state = 'active';
