-- Tables derived from the log for SQL: never the truth, always rebuildable. Times are nanoseconds since 1970.
-- Unsigned 64-bit user data is stored as the signed number of the same bits.

create table account (
    created       int8 not null,
    asset         int8 not null,
    floor         int8,              -- null = none
    ceiling       int8,              -- null = none
    ordinal       int4 not null,     -- the account's row in its shard, in order of creation
    parent        int4,              -- ordinal of the roll-up above
    code          int4 not null,
    flags         int4 not null,
    shard         int2 not null,
    id            uuid not null,
    key           text,              -- null for an account made without one
    party         uuid,
    user_data_128 uuid,
    user_data_64  int8,
    user_data_32  int8,
    primary key (shard, ordinal)
);
create unique index account_id on account (id);
create index account_key on account (key) where key is not null;
create index account_party on account (party) where party is not null;

-- A leg, an expiry (no id) or a burnt id (no accounts), as the log has them: everything resolved, amounts actual.
create table leg (
    timestamp     int8 not null,
    amount        int8 not null,
    debit         int4,              -- ordinals of accounts of the same shard
    credit        int4,
    code          int4 not null,
    flags         int4 not null,     -- engine.layout.LegFlag
    shard         int2 not null,
    id            uuid,
    pending_id    uuid,              -- the hold that a post, void or expiry names
    held          int8,              -- what was held just before
    timeout       int8,              -- seconds
    user_data_128 uuid,
    user_data_64  int8,
    user_data_32  int8,
    primary key (shard, timestamp)
);
create unique index leg_id on leg (id);
create index leg_pending_id on leg (pending_id) where pending_id is not null;
create index leg_user_data_128 on leg (user_data_128) where user_data_128 is not null;

-- The legs of one account, a segment a row: their timestamps, and the four counters after the last of them.
create table account_history (
    first           int8   not null,
    last            int8   not null,
    debits_pending  int8   not null,
    debits_posted   int8   not null,
    credits_pending int8   not null,
    credits_posted  int8   not null,
    account         int4   not null,
    shard           int2   not null,
    timestamps      int8[] not null,
    primary key (shard, account, last)
);

create table party (
    id        uuid  primary key,
    shard     int2  not null,
    timestamp int8  not null,
    tenant    text  not null,
    kind      text  not null,
    name      text  not null,
    profile   jsonb not null
);

create table thing (
    id        uuid  primary key,
    shard     int2  not null,
    timestamp int8  not null,
    asset     int8  not null,
    exponent  int2  not null,
    tenant    text  not null,
    kind      text  not null,
    code      text  not null,
    name      text  not null,
    attrs     jsonb not null,
    unique (tenant, code)
);

-- One row per transition of a Move; the first has seq 0.
create table move (
    id            uuid  not null,
    seq           int4  not null,
    version       int4  not null,
    shard         int2  not null,
    lsn           int8  not null,
    timestamp     int8  not null,
    business_time int8  not null,
    request       uuid  not null,
    tenant        text  not null,
    kind          text  not null,
    transition    text  not null,
    state         text  not null,
    payer         uuid  not null,
    payee         uuid,
    reverses      uuid,
    reference     text,
    content       jsonb not null,
    primary key (id, seq)
);
create unique index move_request on move (request);
create index move_payer on move (payer, timestamp);
create index move_payee on move (payee, timestamp) where payee is not null;
create index move_reverses on move (reverses) where reverses is not null;
create index move_reference on move (tenant, payer, reference) where reference is not null;

-- The Entries: two lines for each leg that changed posted balances.
create view entry as
    select l.shard, l.timestamp, l.id as leg, e.side, e.account, a.id as account_id, a.key, a.asset, l.amount,
           l.code, l.flags,
           case when l.flags & 32768 <> 0 then l.user_data_128 end as move,
           case when l.flags & 32768 <> 0 then l.user_data_32 end as seq,
           case when l.flags & 32768 <> 0 then l.user_data_64 end as business_time
    from leg l
    cross join lateral (values ('debit', l.debit), ('credit', l.credit)) as e (side, account)
    join account a on a.shard = l.shard and a.ordinal = e.account
    where l.flags & 24586 = 0;  -- not pending, void, expiry or burnt

create view move_latest as
    select distinct on (id) * from move order by id, seq desc;

create view trial_balance as
    select asset,
           sum(amount) filter (where side = 'debit') as debits,
           sum(amount) filter (where side = 'credit') as credits
    from entry
    group by asset;

create view journal as
    select e.timestamp, e.business_time, m.kind, m.transition, m.reference, e.move, e.seq, e.leg, e.side, e.key,
           e.account_id, e.asset, e.amount
    from entry e
    left join move m on m.id = e.move and m.seq = e.seq;
