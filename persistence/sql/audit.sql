-- name: lock
-- Held by whoever appends, since an entry's hash needs that of the one before.
select pg_advisory_xact_lock(hashtextextended('audit', to_regclass('audit')::oid::int8));

-- name: head
-- The newest entry.
select seq, hash from audit order by seq desc limit 1;

-- name: add
-- An entry.
insert into audit (seq, time, count, tenant, principal, remote, action, outcome, detail, hash)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s::json, %s);

-- name: after
-- Entries in order, after one.
select seq, time, count, tenant, principal, remote, action, outcome, detail::text, hash
from audit
where seq > %s
order by seq
limit %s;

-- name: newest
-- The newest entries, newest first.
select seq, time, count, tenant, principal, remote, action, outcome, detail::text, hash
from audit
order by seq desc
limit %s;
