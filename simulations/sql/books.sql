-- name: totals
-- What the Moves of a dataset brought in: revenue less expense, in the minor units of the currency. `grouping` is
-- empty for all of it, or month, country, customer, cancelled, and `value` says which.
-- One pass over the legs, whatever the planner knows about the tables.
with income as materialized (
    select a.shard, a.ordinal
    from account a
    join thing t on t.asset = a.asset
    where t.code = %(currency)s and a.key ~ '^[RX]:'
),
leg_income as (
    select l.user_data_128 as move,
           case when (l.shard, l.credit) in (select shard, ordinal from income) then l.amount else 0 end
           - case when (l.shard, l.debit) in (select shard, ordinal from income) then l.amount else 0 end as amount
    from leg l
    where l.flags & 32768 <> 0 and l.flags & (2 | 8 | 8192 | 16384) = 0
),
move_income as materialized (
    select move, sum(amount)::int8 as amount
    from leg_income
    where amount <> 0
    group by move
),
sales as materialized (
    select m.id, m.reference, m.business_time, m.metadata ->> 'country' as country, p.profile ->> 'customer' as customer
    from move m
    join party p on p.id = m.payer
    where m.seq = 0 and m.metadata ->> 'dataset' = %(dataset)s
),
labelled as (
    select to_char(to_timestamp(s.business_time / 1000000000) at time zone 'UTC', 'YYYY-MM') as month,
           s.country, s.customer, starts_with(s.reference, 'C') as cancelled, coalesce(i.amount, 0) as amount
    from sales s
    left join move_income i on i.move = s.id
)
select case
           when grouping(month) = 0 then 'month'
           when grouping(country) = 0 then 'country'
           when grouping(customer) = 0 then 'customer'
           when grouping(cancelled) = 0 then 'cancelled'
           else ''
       end as grouping,
       coalesce(month, country, customer, cancelled::text, '') as value,
       sum(amount)::int8 as amount
from labelled
group by grouping sets ((), (month), (country), (customer), (cancelled))
order by 1, 2;

-- name: size
-- How many Moves of a dataset the books hold, how many Entries they wrote, and what of their refunds reverses
-- nothing known.
select count(*) filter (where m.seq = 0), 2 * coalesce(sum(m.leg_count), 0)::int8,
       coalesce(sum(m.unmatched_quantity), 0)::int8, coalesce(sum(m.unmatched_amount), 0)::int8
from move m
where m.id in (select c.id from move c where c.seq = 0 and c.metadata ->> 'dataset' = %(dataset)s);

-- name: remaining
-- Accounts that a Move of a dataset drains before it ends, and that hold something nevertheless.
select b.key, b.credits_posted - b.debits_posted
from account_balance b
where b.key ~ '^L:(order|refund)/' and b.credits_posted <> b.debits_posted
order by b.key
limit 10;
