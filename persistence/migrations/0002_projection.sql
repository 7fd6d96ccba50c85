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
    flags         int4 not null,     -- engine.layout.AccountFlag, as it is now
    shard         int2 not null,
    id            uuid not null,
    party         uuid,
    user_data_128 uuid,
    user_data_64  int8,
    user_data_32  int8,
    key           text collate "C",  -- null for an account made without one
    primary key (shard, ordinal)
);
create unique index account_id on account (id);
create index account_key on account (key) where key is not null;
create index account_party on account (party) where party is not null;

-- A leg or an expiry (no id), as the log has them: everything resolved, amounts actual.
create table leg (
    timestamp     int8 not null,
    amount        int8 not null,
    debit         int4 not null,     -- ordinals of accounts of the same shard
    credit        int4 not null,
    code          int4 not null,
    flags         int4 not null,     -- engine.layout.LegFlag
    shard         int2 not null,
    id            uuid,
    pending_id    uuid,              -- the hold that a post, void or expiry names
    held          int8,              -- what was held just before, if not 0
    timeout       int8,              -- seconds
    user_data_128 uuid,
    user_data_64  int8,
    user_data_32  int8,
    primary key (shard, timestamp) with (fillfactor = 100)  -- it only ever grows at its right edge
);
create unique index leg_id on leg (id);
create index leg_pending_id on leg (pending_id) where pending_id is not null;
-- A Move's legs stand together, so a summary of each range of pages finds them, and adding to it costs next to nothing.
create index leg_move on leg using brin (user_data_128 uuid_minmax_multi_ops)
    with (pages_per_range = 16, autosummarize = on)
    where flags & 32768 <> 0;

-- Ids that were refused for a transient reason and stay refused. Their times are not unique.
create table burnt_id (
    timestamp int8 not null,
    shard     int2 not null,
    id        uuid primary key
);

-- The legs and expiries of one account, a segment a row: their timestamps, ascending, and the four counters after the
-- last of them. A roll-up has those that crossed its border. Segments of an account do not overlap.
create table account_history (
    first           int8   not null,
    last            int8   not null,
    debits_pending  int8   not null,
    debits_posted   int8   not null,
    credits_pending int8   not null,
    credits_posted  int8   not null,
    account         int4   not null,
    legs            int4   not null,  -- how many timestamps there are
    shard           int2   not null,
    timestamps      int8[] not null,
    primary key (shard, account, last)
);
-- Long arrays of ever-growing numbers cost more to compress than to keep.
alter table account_history alter column timestamps set storage external;

create table party (
    id        uuid  primary key,
    shard     int2  not null,
    version   int8  not null,
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
create index thing_asset on thing (asset);

-- One row per accepted request to a Move; the first, its creation, has seq 0. What only a creation knows (reference,
-- reverses, lines, metadata) stands there.
create table move (
    timestamp          int8    not null,
    business_time      int8    not null,
    lsn                int8    not null,
    asset              int8    not null,
    amount             int8    not null,
    unmatched_quantity int8    not null,
    unmatched_amount   int8    not null,
    expires_at         int8,              -- when the first of its open holds runs out
    seq                int4    not null,
    leg_count          int4    not null,
    shard              int2    not null,
    ended              boolean not null,
    id                 uuid    not null,
    request            uuid    not null,
    payer              uuid    not null,
    payee              uuid,
    reverses           uuid,
    tenant             text    not null,
    principal          text    not null,  -- on whose word
    kind               text    not null,
    transition         text    not null,  -- transitions taken, joined by "+"; empty = none
    state              text    not null,
    tender             text    not null,
    reference          text    collate "C",
    lines              jsonb,             -- one array per column
    inputs             jsonb,
    holds              uuid[],            -- open after this request
    metadata           jsonb,
    primary key (id, seq)
);
create index move_created on move (timestamp) where seq = 0;
create index move_kind on move (kind, timestamp) where seq = 0;
create index move_payer on move (payer, timestamp) where seq = 0;
create index move_payee on move (payee, timestamp) where seq = 0 and payee is not null;
create index move_reverses on move (reverses) where reverses is not null;
create index move_reference on move (reference) where reference is not null;

-- What was answered to a request: the fact as the log has it, so that the same request gets the same answer for ever.
create table request (
    id        uuid  primary key,
    timestamp int8  not null,
    lsn       int8  not null,
    shard     int2  not null,
    move      uuid  not null,
    fact      bytea not null
);

-- Read rarely, written always: compressing them costs more than it saves.
alter table request alter column fact set storage external;
alter table move alter column lines set storage external;

-- What a leg does to the pending counters, and to the posted counters, of its two sides.
create function leg_pending(flags int4, amount int8, held int8) returns int8
language sql immutable parallel safe
return case
    when flags & (8 | 8192) <> 0 then -coalesce(held, 0)                                       -- void, expiry
    when flags & 4 <> 0 then -(case when flags & 512 <> 0 then amount else coalesce(held, 0) end)  -- post
    when flags & 2 <> 0 then amount
    else 0
end;

create function leg_posted(flags int4, amount int8) returns int8
language sql immutable parallel safe
return case when flags & (2 | 8 | 8192) <> 0 then 0 else amount end;

-- Whether an account is, at any distance, below a roll-up.
create function is_below(of_shard int2, of_account int4, rollup int4) returns boolean
language sql stable parallel safe
begin atomic
    with recursive above (ordinal) as (
        select a.parent from account a where a.shard = of_shard and a.ordinal = of_account
        union all
        select a.parent from above join account a on a.shard = of_shard and a.ordinal = above.ordinal
    )
    select exists (select from above where above.ordinal = rollup);
end;

-- On which side of a leg in its history an account stands: itself, or by the account below it.
create function leg_side(of_shard int2, of_account int4, debit int4, credit int4) returns text
language sql stable parallel safe
return case
    when debit = of_account then 'debit'
    when credit = of_account then 'credit'
    when is_below(of_shard, debit, of_account) then 'debit'
    else 'credit'
end;

-- The four counters of an account right after everything recorded up to and at a time.
create function balance_at(
    of_shard int2, of_account int4, at int8,
    out debits_pending int8, out debits_posted int8, out credits_pending int8, out credits_posted int8
)
language sql stable parallel safe
begin atomic
    -- The segment that the time falls into or before, or else the newest; without what came later in it.
    select coalesce(s.debits_pending, 0) - coalesce(later.debits_pending, 0),
           coalesce(s.debits_posted, 0) - coalesce(later.debits_posted, 0),
           coalesce(s.credits_pending, 0) - coalesce(later.credits_pending, 0),
           coalesce(s.credits_posted, 0) - coalesce(later.credits_posted, 0)
    from (values (1)) as one (row)
    left join lateral (
        (select h.*, 1 as choice from account_history h
         where h.shard = of_shard and h.account = of_account and h.last > at order by h.last limit 1)
        union all
        (select h.*, 2 from account_history h
         where h.shard = of_shard and h.account = of_account and h.last <= at order by h.last desc limit 1)
        order by choice limit 1
    ) s on true
    left join lateral (
        select sum(e.pending) filter (where e.side = 'debit')::int8 as debits_pending,
               sum(e.posted) filter (where e.side = 'debit')::int8 as debits_posted,
               sum(e.pending) filter (where e.side = 'credit')::int8 as credits_pending,
               sum(e.posted) filter (where e.side = 'credit')::int8 as credits_posted
        from (
            select leg_side(of_shard, of_account, l.debit, l.credit) as side,
                   leg_pending(l.flags, l.amount, l.held) as pending, leg_posted(l.flags, l.amount) as posted
            from unnest(s.timestamps) as stamp
            join leg l on l.shard = of_shard and l.timestamp = stamp
            where stamp > at
        ) e
    ) later on true;
end;

-- What an account's Entries up to and at a business time sum to. A leg of no Move has its recording time as its
-- business time.
create function balance_at_business_time(
    of_shard int2, of_account int4, at int8, out debits_posted int8, out credits_posted int8
)
language sql stable parallel safe
begin atomic
    select coalesce(sum(e.posted) filter (where e.side = 'debit'), 0)::int8,
           coalesce(sum(e.posted) filter (where e.side = 'credit'), 0)::int8
    from (
        select leg_side(of_shard, of_account, l.debit, l.credit) as side, leg_posted(l.flags, l.amount) as posted
        from account_history h
        cross join lateral unnest(h.timestamps) as stamp
        join leg l on l.shard = of_shard and l.timestamp = stamp
        where h.shard = of_shard and h.account = of_account
          and case when l.flags & 32768 <> 0 then coalesce(l.user_data_64, 0) else l.timestamp end <= at
    ) e;
end;

-- The accounts with their counters as they are now.
create view account_balance as
    select a.*,
           coalesce(h.debits_pending, 0) as debits_pending, coalesce(h.debits_posted, 0) as debits_posted,
           coalesce(h.credits_pending, 0) as credits_pending, coalesce(h.credits_posted, 0) as credits_posted
    from account a
    left join lateral (
        select * from account_history h
        where h.shard = a.shard and h.account = a.ordinal
        order by h.last desc
        limit 1
    ) h on true;

-- The Entries: two lines for each leg that changed posted balances.
create view entry as
    select l.shard, l.timestamp, l.id as leg, e.side, e.account, a.id as account_id, a.key, a.asset, l.amount,
           l.code, l.flags,
           case when l.flags & 32768 <> 0 then l.user_data_128 end as move,
           case when l.flags & 32768 <> 0 then coalesce(l.user_data_32, 0) end as seq,
           case when l.flags & 32768 <> 0 then coalesce(l.user_data_64, 0) else l.timestamp end as business_time
    from leg l
    cross join lateral (values ('debit', l.debit), ('credit', l.credit)) as e (side, account)
    join account a on a.shard = l.shard and a.ordinal = e.account
    where l.flags & (2 | 8 | 8192) = 0;  -- not pending, void or expiry

-- The Moves as they stand: what their creation says, and the newest state.
create view move_latest as
    select c.id, c.shard, c.tenant, c.kind, c.payer, c.payee, c.reverses, c.reference, c.asset, c.amount,
           c.timestamp as created, c.business_time, c.lines, c.metadata,
           l.seq, l.seq + 1 as version, l.state, l.ended, l.transition, l.timestamp as changed
    from move c
    join lateral (select * from move l where l.id = c.id order by l.seq desc limit 1) l on true
    where c.seq = 0;

-- Per asset, what was posted on either side. Roll-ups are left out: they show what is there already.
create view trial_balance as
    select asset, count(*) as accounts,
           sum(debits_posted) as debits, sum(credits_posted) as credits,
           sum(debits_pending) as debits_pending, sum(credits_pending) as credits_pending
    from account_balance
    where flags & 8 = 0
    group by asset;

create view journal as
    select e.timestamp, e.business_time, m.kind, m.transition, m.reference, e.move, e.seq, e.leg, e.side, e.key,
           e.account_id, e.asset, e.amount
    from entry e
    left join move m on m.id = e.move and m.seq = e.seq;
