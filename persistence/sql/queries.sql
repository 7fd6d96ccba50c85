-- name: legs_by_id
-- Legs and burnt ids, in order of id, as one packed value each: what the kernel needs to know a repeat,
-- and of a hold what became of it.
select packed
from (
    select l.id,
           uuid_send(l.id)
           || uuid_send(coalesce(l.pending_id, '00000000-0000-0000-0000-000000000000'))
           || uuid_send(coalesce(l.user_data_128, '00000000-0000-0000-0000-000000000000'))
           || int8send(coalesce(l.user_data_64, 0)) || int8send(l.amount)
           || int8send(case when l.flags & 2 = 0 then coalesce(l.held, 0) else coalesce(r.held, part.held, l.amount) end)
           || int8send(l.timestamp) || int4send(l.debit) || int4send(l.credit)
           || int8send(coalesce(l.user_data_32, 0)) || int8send(coalesce(l.timeout, 0))
           || int4send(l.code) || int4send(l.flags)
           || int4send(case when r.flags & 8 <> 0 then 2 when r.flags & 8192 <> 0 then 3
                            when r.flags is not null then 1 else 0 end) as packed
    from leg l
    left join lateral (
        select flags, coalesce(held, 0) as held
        from leg
        where pending_id = l.id and (flags & (4 | 512) <> (4 | 512) or amount = coalesce(held, 0))
    ) r on l.flags & 2 <> 0
    left join lateral (
        select held - amount as held
        from leg
        where pending_id = l.id
        order by timestamp desc
        limit 1
    ) part on l.flags & 2 <> 0 and r.flags is null
    where l.id = any(%(ids)s)
    union all
    select b.id,
           uuid_send(b.id) || uuid_send('00000000-0000-0000-0000-000000000000')
           || uuid_send('00000000-0000-0000-0000-000000000000')
           || int8send(0) || int8send(0) || int8send(0) || int8send(b.timestamp) || int4send(-1) || int4send(-1)
           || int8send(0) || int8send(0) || int4send(0) || int4send(16384) || int4send(0)
    from burnt_id b
    where b.id = any(%(ids)s)
) found
order by id;

-- name: answers
-- The stored answers to requests.
select id, fact from request where id = any(%s);

-- name: newest_answers_of_moves
-- The stored answer to the last accepted request of each of these Moves.
select m.id, r.fact
from move m
join request r on r.id = m.request
where m.id = any(%s) and m.seq = (select max(n.seq) from move n where n.id = m.id);

-- name: references
-- Which Moves have these references; their payers are the n-th of one list for the n-th of the other.
select m.payer, m.reference, m.id
from unnest(%(payers)s::uuid[], %(references)s::text[]) as wanted (payer, reference)
join move m on m.reference = wanted.reference and m.payer = wanted.payer and m.seq = 0;

-- name: account_place
-- Where an account stands.
select shard, ordinal from account where id = %s;

-- name: accounts
-- Accounts by id, with their counters.
select a.id, a.key, a.party, p.id, a.asset, a.code, a.flags, a.floor, a.ceiling, a.user_data_128, a.user_data_64,
       a.user_data_32, a.created, a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted
from account_balance a
left join account p on p.shard = a.shard and p.ordinal = a.parent
where a.id = any(%(ids)s);

-- name: legs
-- Legs by id, with the ids of their accounts. For one on another shard stands a pair account (code 9000); whose it is says
-- the leg, or its hold.
select l.id, l.timestamp, case when d.code = 9000 then x.id else d.id end, case when c.code = 9000 then x.id else c.id end,
       l.amount, d.asset, l.code, l.flags, case when l.flags & (8 | 4 | 4096) <> 4096 then l.pending_id end, l.held, l.timeout,
       l.user_data_128, l.user_data_64, l.user_data_32
from leg l
join account d on d.shard = l.shard and d.ordinal = l.debit
join account c on c.shard = l.shard and c.ordinal = l.credit
left join lateral (
    select coalesce(a.id, w.id) as id, a.key
    from (select case when l.flags & 12 = 0 then l.pending_id
                      else (select h.pending_id from leg h where h.id = l.pending_id) end as id) w
    left join account a on a.id = w.id
    where d.code = 9000 or c.code = 9000
) x on true
where l.id = any(%(ids)s);

-- name: newest_stamps
-- The newest timestamps in an account's history between two times, newest first.
-- Only the segments that are needed are read.
select stamp
from (
    select timestamps,
           sum(case when first >= %(from)s and last <= %(to)s then legs else 0 end)
               over (order by last desc rows between unbounded preceding and 1 preceding) as before
    from (
        select * from account_history
        where shard = %(shard)s and account = %(ordinal)s and last >= %(from)s and first <= %(to)s
        order by last desc
        limit %(limit)s + 2
    ) near
) h
cross join lateral unnest(h.timestamps) as stamp
where coalesce(h.before, 0) < %(limit)s and stamp between %(from)s and %(to)s
order by stamp desc
limit %(limit)s;

-- name: oldest_stamps
-- The oldest timestamps in an account's history between two times, oldest first.
-- Only the segments that are needed are read.
select stamp
from (
    select timestamps,
           sum(case when first >= %(from)s and last <= %(to)s then legs else 0 end)
               over (order by last rows between unbounded preceding and 1 preceding) as before
    from (
        select * from account_history
        where shard = %(shard)s and account = %(ordinal)s and last >= %(from)s and first <= %(to)s
        order by last
        limit %(limit)s + 2
    ) near
) h
cross join lateral unnest(h.timestamps) as stamp
where coalesce(h.before, 0) < %(limit)s and stamp between %(from)s and %(to)s
order by stamp
limit %(limit)s;

-- name: legs_at
-- Which legs of an account at these times a filter lets through, with the ids and keys of their accounts.
select l.id, l.timestamp, case when d.code = 9000 then x.id else d.id end, case when c.code = 9000 then x.id else c.id end,
       l.amount, d.asset, l.code, l.flags, case when l.flags & (8 | 4 | 4096) <> 4096 then l.pending_id end, l.held, l.timeout,
       l.user_data_128, l.user_data_64, l.user_data_32, leg_side(l.shard, %(ordinal)s, l.debit, l.credit),
       case when d.code = 9000 then x.key else d.key end, case when c.code = 9000 then x.key else c.key end
from leg l
join account d on d.shard = l.shard and d.ordinal = l.debit
join account c on c.shard = l.shard and c.ordinal = l.credit
left join lateral (
    select coalesce(a.id, w.id) as id, a.key
    from (select case when l.flags & 12 = 0 then l.pending_id
                      else (select h.pending_id from leg h where h.id = l.pending_id) end as id) w
    left join account a on a.id = w.id
    where d.code = 9000 or c.code = 9000
) x on true
where l.shard = %(shard)s and l.timestamp = any(%(stamps)s) and l.flags & 8192 = 0
  and (%(all)s or l.flags & (2 | 8) = 0)
  and (%(side)s::text is null or leg_side(l.shard, %(ordinal)s, l.debit, l.credit) = %(side)s)
  and (%(code)s::int4 is null or l.code = %(code)s)
  and (%(user_data_128)s::uuid is null or l.user_data_128 = %(user_data_128)s)
  and (%(user_data_64)s::int8 is null or l.user_data_64 = %(user_data_64)s)
  and (%(user_data_32)s::int8 is null or l.user_data_32 = %(user_data_32)s)
order by l.timestamp;

-- name: effects_at
-- What the legs and expiries of an account at these times did to its counters, and which of them a filter lets through.
select l.timestamp, l.id, leg_side(l.shard, %(ordinal)s, l.debit, l.credit),
       leg_pending(l.flags, l.amount, l.held), leg_posted(l.flags, l.amount),
       l.flags & 8192 = 0
       and (%(all)s or l.flags & (2 | 8) = 0)
       and (%(side)s::text is null or leg_side(l.shard, %(ordinal)s, l.debit, l.credit) = %(side)s)
       and (%(code)s::int4 is null or l.code = %(code)s)
       and (%(user_data_128)s::uuid is null or coalesce(l.user_data_128 = %(user_data_128)s, false))
       and (%(user_data_64)s::int8 is null or coalesce(l.user_data_64 = %(user_data_64)s, false))
       and (%(user_data_32)s::int8 is null or coalesce(l.user_data_32 = %(user_data_32)s, false))
from leg l
where l.shard = %(shard)s and l.timestamp = any(%(stamps)s)
order by l.timestamp;

-- name: balance_at
-- The counters of an account right after everything recorded up to and at a time.
select * from balance_at(%(shard)s, %(ordinal)s, %(at)s);

-- name: balance_at_business_time
-- What an account's Entries sum to up to and at a business time, as far as they were recorded by another time.
select coalesce(sum(e.posted) filter (where e.side = 'debit'), 0)::int8,
       coalesce(sum(e.posted) filter (where e.side = 'credit'), 0)::int8
from (
    select leg_side(%(shard)s, %(ordinal)s, l.debit, l.credit) as side, leg_posted(l.flags, l.amount) as posted
    from account_history h
    cross join lateral unnest(h.timestamps) as stamp
    join leg l on l.shard = h.shard and l.timestamp = stamp
    where h.shard = %(shard)s and h.account = %(ordinal)s and h.first <= %(recorded)s and stamp <= %(recorded)s
      and case when l.flags & 32768 <> 0 then coalesce(l.user_data_64, 0) else l.timestamp end <= %(at)s
) e;

-- name: hold_outcome
-- What became of a hold: the posts, void or expiry that name it, in order.
select id, timestamp, amount, coalesce(held, 0), flags
from leg
where pending_id = %(id)s
order by timestamp;

-- name: reversals
-- Which Moves reverse these, in order of creation.
select reverses, id from move where reverses = any(%(ids)s) and seq = 0 order by timestamp, id;

-- name: trial_balance
-- Per asset: accounts, and what was posted and is pending on either side; without roll-ups. Each account's
-- counters have 64 bits, and their sums more.
select asset, accounts, debits, credits, debits_pending, credits_pending
from trial_balance
order by asset;

-- name: trial_balance_at
-- The same, right after everything recorded up to and at a time.
select a.asset, count(*), sum(b.debits_posted), sum(b.credits_posted), sum(b.debits_pending),
       sum(b.credits_pending)
from account a
cross join lateral balance_at(a.shard, a.ordinal, %(at)s) b
where a.flags & 8 = 0 and a.created <= %(at)s
group by a.asset
order by a.asset;

-- name: journal
-- The legs of a Move, in order, with the ids and keys of their accounts. Each of its steps has its legs in a row, the
-- last one with the step's own stamp; `crossing_move` says where it has others, without an account at home.
select l.id, l.timestamp, case when d.code = 9000 then x.id else d.id end, case when c.code = 9000 then x.id else c.id end,
       l.amount, d.asset, l.code, l.flags, case when l.flags & (8 | 4 | 4096) <> 4096 then l.pending_id end, l.held, l.timeout,
       l.user_data_128, l.user_data_64, l.user_data_32, 'debit',
       case when d.code = 9000 then x.key else d.key end, case when c.code = 9000 then x.key else c.key end
from (
    select m.shard as home, m.shard, m.timestamp, m.leg_count as legs from move m where m.id = %(move)s
    union all
    select m.shard, o.shard, o.timestamp, o.legs
    from move m
    join crossing_move o on o.move = m.id and o.seq = m.seq
    where m.id = %(move)s
) step
join leg l on l.shard = step.shard and l.timestamp > step.timestamp - step.legs and l.timestamp <= step.timestamp
join account d on d.shard = l.shard and d.ordinal = l.debit
join account c on c.shard = l.shard and c.ordinal = l.credit
left join lateral (
    select coalesce(a.id, w.id) as id, a.key
    from (select case when l.flags & 12 = 0 then l.pending_id
                      else (select h.pending_id from leg h where h.id = l.pending_id) end as id) w
    left join account a on a.id = w.id
    where d.code = 9000 or c.code = 9000
) x on true
where l.user_data_128 = %(move)s and l.flags & 32768 <> 0
  and (step.shard = step.home
       or d.code <> 9000 and (c.code <> 9000 or c.key <> 'C:' || step.home) and l.flags & (4 | 8) = 0)
order by coalesce(l.user_data_32, 0), step.shard <> step.home, l.timestamp;

-- name: moves
-- Moves by id, with what their creation says and where they stand now.
select c.id, c.kind, n.state, n.seq, n.ended, c.payer, c.payee, c.reverses, c.reference, c.asset, c.amount, c.tender,
       c.tenant, c.timestamp, n.timestamp, c.business_time, c.lines, c.inputs, c.metadata, n.holds, n.expires_at
from move c
join lateral (select * from move n where n.id = c.id order by n.seq desc limit 1) n on true
where c.seq = 0 and c.id = any(%(ids)s);

-- name: transitions
-- What happened to a Move, in order.
select seq, request, transition, state, ended, timestamp, business_time, amount, principal, leg_count, inputs, metadata
from move
where id = %(move)s
order by seq;

-- name: parties
-- Parties by id.
select id, kind, name, profile, version, tenant, timestamp from party where id = any(%(ids)s);

-- name: things
-- Things by id.
select id, kind, code, asset, exponent, name, attrs, tenant, timestamp from thing where id = any(%(ids)s);

-- name: things_by_code
-- Things by code.
select id, kind, code, asset, exponent, name, attrs, tenant, timestamp
from thing
where tenant = %(tenant)s and code = any(%(codes)s);
