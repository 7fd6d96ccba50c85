-- name: accounts_by_key
-- Accounts that a filter lets through, in order of key, asset and id, after a position; those without a key are left out.
select a.id, a.key, a.party, p.id, a.asset, a.code, a.flags, a.floor, a.ceiling, a.user_data_128, a.user_data_64,
       a.user_data_32, a.created, a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted
from account_balance a
left join account p on p.shard = a.shard and p.ordinal = a.parent
where a.key is not null and (a.key, a.asset, a.id) > (%(after_key)s, %(after_asset)s, %(after_id)s)
  and (%(from)s::text is null or a.key >= %(from)s and a.key < %(to)s)
  and (%(party)s::uuid is null or a.party = %(party)s)
  and (%(asset)s::int8 is null or a.asset = %(asset)s)
  and (%(code)s::int4 is null or a.code = %(code)s)
  and (%(parent)s::uuid is null or p.id = %(parent)s)
  and (%(closed)s::boolean is null or (a.flags & 2 <> 0) = %(closed)s)
  and (%(rollup)s::boolean is null or (a.flags & 8 <> 0) = %(rollup)s)
order by a.key, a.asset, a.id
limit %(limit)s;

-- name: oldest_accounts
-- Accounts that a filter lets through, in order of creation, after a position.
select a.id, a.key, a.party, p.id, a.asset, a.code, a.flags, a.floor, a.ceiling, a.user_data_128, a.user_data_64,
       a.user_data_32, a.created, a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted
from account_balance a
left join account p on p.shard = a.shard and p.ordinal = a.parent
where (a.created, a.id) > (%(after_created)s, %(after_id)s)
  and (%(from)s::text is null or a.key >= %(from)s and a.key < %(to)s)
  and (%(party)s::uuid is null or a.party = %(party)s)
  and (%(asset)s::int8 is null or a.asset = %(asset)s)
  and (%(code)s::int4 is null or a.code = %(code)s)
  and (%(parent)s::uuid is null or p.id = %(parent)s)
  and (%(closed)s::boolean is null or (a.flags & 2 <> 0) = %(closed)s)
  and (%(rollup)s::boolean is null or (a.flags & 8 <> 0) = %(rollup)s)
order by a.created, a.id
limit %(limit)s;

-- name: newest_accounts
-- Accounts that a filter lets through, newest first, before a position.
select a.id, a.key, a.party, p.id, a.asset, a.code, a.flags, a.floor, a.ceiling, a.user_data_128, a.user_data_64,
       a.user_data_32, a.created, a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted
from account_balance a
left join account p on p.shard = a.shard and p.ordinal = a.parent
where (a.created, a.id) < (%(after_created)s, %(after_id)s)
  and (%(from)s::text is null or a.key >= %(from)s and a.key < %(to)s)
  and (%(party)s::uuid is null or a.party = %(party)s)
  and (%(asset)s::int8 is null or a.asset = %(asset)s)
  and (%(code)s::int4 is null or a.code = %(code)s)
  and (%(parent)s::uuid is null or p.id = %(parent)s)
  and (%(closed)s::boolean is null or (a.flags & 2 <> 0) = %(closed)s)
  and (%(rollup)s::boolean is null or (a.flags & 8 <> 0) = %(rollup)s)
order by a.created desc, a.id desc
limit %(limit)s;

-- name: newest_entries
-- Entries of all accounts that a filter lets through, newest first, before a position.
select l.id, l.timestamp, l.shard, e.place, e.side, a.id, a.key, a.asset,
       case when c.code = 9000 then x.id else c.id end, case when c.code = 9000 then x.key else c.key end, l.amount, l.code, l.flags,
       l.user_data_128, l.user_data_64, l.user_data_32
from (select shard from projection_cursor) s
cross join lateral (
    select *
    from leg
    where leg.shard = s.shard and leg.timestamp between %(from)s and least(%(to)s, %(after_timestamp)s)
      and leg.flags & (2 | 8 | 8192) = 0
      and (%(code)s::int4 is null or leg.code = %(code)s)
      and (not %(of_moves)s or leg.flags & 32768 <> 0)
      and (%(asset)s::int8 is null or exists (
              select from account where account.shard = leg.shard and account.ordinal = leg.debit
              and account.asset = %(asset)s))
      and (%(party)s::uuid is null or exists (
              select from account where account.shard = leg.shard and account.ordinal in (leg.debit, leg.credit)
              and account.party = %(party)s))
    order by leg.timestamp desc
    limit %(limit)s + 1
) l
cross join lateral (values (0, 'debit', l.debit, l.credit), (1, 'credit', l.credit, l.debit))
    as e (place, side, account, other)
join account a on a.shard = l.shard and a.ordinal = e.account
join account c on c.shard = l.shard and c.ordinal = e.other
left join lateral (
    select coalesce(a.id, w.id) as id, a.key
    from (select case when l.flags & 12 = 0 then l.pending_id
                      else (select h.pending_id from leg h where h.id = l.pending_id) end as id) w
    left join account a on a.id = w.id
    where c.code = 9000
) x on true
where a.code <> 9000 and (l.timestamp, l.shard, e.place) < (%(after_timestamp)s, %(after_shard)s, %(after_place)s)
  and (%(party)s::uuid is null or a.party = %(party)s)
order by l.timestamp desc, l.shard desc, e.place desc
limit %(limit)s;

-- name: oldest_entries
-- Entries of all accounts that a filter lets through, oldest first, after a position.
select l.id, l.timestamp, l.shard, e.place, e.side, a.id, a.key, a.asset,
       case when c.code = 9000 then x.id else c.id end, case when c.code = 9000 then x.key else c.key end, l.amount, l.code, l.flags,
       l.user_data_128, l.user_data_64, l.user_data_32
from (select shard from projection_cursor) s
cross join lateral (
    select *
    from leg
    where leg.shard = s.shard and leg.timestamp between greatest(%(from)s, %(after_timestamp)s) and %(to)s
      and leg.flags & (2 | 8 | 8192) = 0
      and (%(code)s::int4 is null or leg.code = %(code)s)
      and (not %(of_moves)s or leg.flags & 32768 <> 0)
      and (%(asset)s::int8 is null or exists (
              select from account where account.shard = leg.shard and account.ordinal = leg.debit
              and account.asset = %(asset)s))
      and (%(party)s::uuid is null or exists (
              select from account where account.shard = leg.shard and account.ordinal in (leg.debit, leg.credit)
              and account.party = %(party)s))
    order by leg.timestamp
    limit %(limit)s + 1
) l
cross join lateral (values (0, 'debit', l.debit, l.credit), (1, 'credit', l.credit, l.debit))
    as e (place, side, account, other)
join account a on a.shard = l.shard and a.ordinal = e.account
join account c on c.shard = l.shard and c.ordinal = e.other
left join lateral (
    select coalesce(a.id, w.id) as id, a.key
    from (select case when l.flags & 12 = 0 then l.pending_id
                      else (select h.pending_id from leg h where h.id = l.pending_id) end as id) w
    left join account a on a.id = w.id
    where c.code = 9000
) x on true
where a.code <> 9000 and (l.timestamp, l.shard, e.place) > (%(after_timestamp)s, %(after_shard)s, %(after_place)s)
  and (%(party)s::uuid is null or a.party = %(party)s)
order by l.timestamp, l.shard, e.place
limit %(limit)s;

-- name: newest_moves
-- Moves that a filter lets through, newest first, before a position.
select c.id, c.kind, n.state, n.seq, n.ended, c.payer, c.payee, c.reverses, c.reference, c.asset, c.amount, c.tender,
       c.tenant, c.timestamp, n.timestamp, c.business_time, c.lines, c.inputs, c.metadata, n.holds, n.expires_at
from move c
join lateral (select * from move n where n.id = c.id order by n.seq desc limit 1) n on true
where c.seq = 0
  and c.timestamp between %(from)s and %(to)s
  and (c.timestamp, c.id) < (%(after_timestamp)s, %(after_id)s)
  and (%(party)s::uuid is null or c.payer = %(party)s or c.payee = %(party)s)
  and (%(payer)s::uuid is null or c.payer = %(payer)s)
  and (%(payee)s::uuid is null or c.payee = %(payee)s)
  and (%(reverses)s::uuid is null or c.reverses = %(reverses)s)
  and (%(kind)s::text is null or c.kind = %(kind)s)
  and (%(asset)s::int8 is null or c.asset = %(asset)s)
  and (%(reference)s::text is null or c.reference = %(reference)s)
  and c.business_time between %(business_from)s and %(business_to)s
  and (%(state)s::text is null or n.state = %(state)s)
  and (%(ended)s::boolean is null or n.ended = %(ended)s)
order by c.timestamp desc, c.id desc
limit %(limit)s;

-- name: oldest_moves
-- Moves that a filter lets through, oldest first, after a position.
select c.id, c.kind, n.state, n.seq, n.ended, c.payer, c.payee, c.reverses, c.reference, c.asset, c.amount, c.tender,
       c.tenant, c.timestamp, n.timestamp, c.business_time, c.lines, c.inputs, c.metadata, n.holds, n.expires_at
from move c
join lateral (select * from move n where n.id = c.id order by n.seq desc limit 1) n on true
where c.seq = 0
  and c.timestamp between %(from)s and %(to)s
  and (c.timestamp, c.id) > (%(after_timestamp)s, %(after_id)s)
  and (%(party)s::uuid is null or c.payer = %(party)s or c.payee = %(party)s)
  and (%(payer)s::uuid is null or c.payer = %(payer)s)
  and (%(payee)s::uuid is null or c.payee = %(payee)s)
  and (%(reverses)s::uuid is null or c.reverses = %(reverses)s)
  and (%(kind)s::text is null or c.kind = %(kind)s)
  and (%(asset)s::int8 is null or c.asset = %(asset)s)
  and (%(reference)s::text is null or c.reference = %(reference)s)
  and c.business_time between %(business_from)s and %(business_to)s
  and (%(state)s::text is null or n.state = %(state)s)
  and (%(ended)s::boolean is null or n.ended = %(ended)s)
order by c.timestamp, c.id
limit %(limit)s;

-- name: oldest_parties
-- Parties that a filter lets through, in order of id, after one.
select id, kind, name, profile, version, tenant, timestamp
from party
where id > %(after)s
  and (%(kind)s::text is null or kind = %(kind)s)
  and (%(name)s::text is null or name = %(name)s)
  and (%(related)s::jsonb is null
       or (profile ? 'tessera:relations' and profile -> 'tessera:relations' @> %(related)s::jsonb))
  and (%(trust_min)s::int4 is null or (profile -> 'tessera:trust')::int4 >= %(trust_min)s)
order by id
limit %(limit)s;

-- name: newest_parties
-- Parties that a filter lets through, from the greatest id down, before one.
select id, kind, name, profile, version, tenant, timestamp
from party
where id < %(after)s
  and (%(kind)s::text is null or kind = %(kind)s)
  and (%(name)s::text is null or name = %(name)s)
  and (%(related)s::jsonb is null
       or (profile ? 'tessera:relations' and profile -> 'tessera:relations' @> %(related)s::jsonb))
  and (%(trust_min)s::int4 is null or (profile -> 'tessera:trust')::int4 >= %(trust_min)s)
order by id desc
limit %(limit)s;

-- name: oldest_things
-- Things that a filter lets through, in order of their asset number, after one.
select id, kind, code, asset, exponent, name, attrs, tenant, timestamp
from thing
where asset > %(after)s
  and (%(kind)s::text is null or kind = %(kind)s)
  and (%(prefix)s::text is null or starts_with(code, %(prefix)s))
  and (%(variant_of)s::text is null or attrs ->> 'tessera:variant_of' = %(variant_of)s)
  and (%(part)s::jsonb is null or attrs -> 'tessera:bundle' @> %(part)s::jsonb)
order by asset
limit %(limit)s;

-- name: newest_things
-- Things that a filter lets through, from the greatest asset number down, before one.
select id, kind, code, asset, exponent, name, attrs, tenant, timestamp
from thing
where asset < %(after)s
  and (%(kind)s::text is null or kind = %(kind)s)
  and (%(prefix)s::text is null or starts_with(code, %(prefix)s))
  and (%(variant_of)s::text is null or attrs ->> 'tessera:variant_of' = %(variant_of)s)
  and (%(part)s::jsonb is null or attrs -> 'tessera:bundle' @> %(part)s::jsonb)
order by asset desc
limit %(limit)s;
