-- name: add
-- A new endpoint, unless there is one of that id.
insert into webhook (id, version, created, tenant, principal, url, name, filter, state, reason, cursor, secret)
values (%(id)s, 1, %(created)s, %(tenant)s, %(principal)s, %(url)s, %(name)s, %(filter)s, 'active', '', %(cursor)s,
        %(secret)s)
on conflict (id) do nothing;

-- name: count
-- How many endpoints a tenant has.
select count(*) from webhook where tenant = %(tenant)s;

-- name: lock
-- Held by whoever adds endpoints, so that there are not too many.
select pg_advisory_xact_lock(hashtextextended('webhook', to_regclass('webhook')::oid::int8));

-- name: find
-- Endpoints in order of their ids, or the other way round, with what waits for them.
select id, version, created, failing, tenant, principal, url, name, filter::text, state, reason, cursor, secret,
       old_secrets, old_until,
       (select count(*) from webhook_event as event where event.webhook = webhook.id and not event.dead),
       (select count(*) from webhook_event as event where event.webhook = webhook.id and event.dead)
from webhook
where tenant = %(tenant)s
  and (%(id)s::uuid is null or id = %(id)s)
  and (%(after)s::uuid is null or case when %(newest_first)s then id < %(after)s else id > %(after)s end)
order by case when %(newest_first)s then id end desc, id
limit %(limit)s;

-- name: active
-- Which endpoints want to be sent events, and the version of each.
select id, version from webhook where tenant = %(tenant)s and state = 'active';

-- name: change
-- Changes what is given of an endpoint.
update webhook
set url = coalesce(%(url)s, url),
    name = coalesce(%(name)s, name),
    filter = coalesce(%(filter)s::json, filter),
    state = coalesce(%(state)s, state),
    reason = case when %(state)s is null then reason else '' end,
    failing = case when %(state)s is null then failing end,
    version = version + 1
where id = %(id)s and tenant = %(tenant)s;

-- name: rotate
-- Gives an endpoint a new secret; those before it sign too for a while, the newest of them.
update webhook
set old_secrets = array_prepend(secret, old_secrets[:%(kept)s - 1]),
    old_until = array_prepend(%(until)s::int8, array(select least(given, %(until)s)
                                                     from unnest(old_until[:%(kept)s - 1])
                                                     with ordinality as old (given, place)
                                                     order by place)),
    secret = %(secret)s,
    version = version + 1
where id = %(id)s and tenant = %(tenant)s;

-- name: remove
-- Ends an endpoint, with everything about it.
delete from webhook where id = %(id)s and tenant = %(tenant)s;

-- name: replay
-- Lets dead events be tried again, all of them or those named, and whoever delivers know of it.
with chosen as (
    update webhook_event
    set dead = false, attempts = 0, due = 0
    from webhook
    where webhook.id = %(id)s and webhook.tenant = %(tenant)s and webhook_event.webhook = webhook.id and dead
      and (%(places)s::text[] is null
           or concat_ws('.', webhook_event.shard, webhook_event.lsn, webhook_event.place) = any (%(places)s))
    returning webhook_event.webhook
), told as (
    update webhook set version = version + 1 where id in (select webhook from chosen)
)
select count(*) from chosen;

-- name: events
-- Events that were not taken, in order: those that wait, or those that are dead.
select shard, lsn, place, due, failed, attempts, status, dead, type, error, subjects
from webhook_event
where webhook = %(id)s and dead = %(dead)s
  and (%(after)s::int8[] is null or (shard, lsn, place) > ((%(after)s)[1], (%(after)s)[2], (%(after)s)[3]))
order by shard, lsn, place
limit %(limit)s;

-- name: events_newest
-- The same, the last first.
select shard, lsn, place, due, failed, attempts, status, dead, type, error, subjects
from webhook_event
where webhook = %(id)s and dead = %(dead)s
  and (%(after)s::int8[] is null or (shard, lsn, place) < ((%(after)s)[1], (%(after)s)[2], (%(after)s)[3]))
order by shard desc, lsn desc, place desc
limit %(limit)s;

-- name: attempts_newest
-- Attempts, newest first.
select seq, time, shard, lsn, place, type, attempt, status, error, took_us
from webhook_attempt
where webhook = %(id)s
  and (%(after)s::int8 is null or seq < %(after)s)
  and (%(failed)s::boolean is null or (error <> '') = %(failed)s)
order by seq desc
limit %(limit)s;

-- name: attempts
-- Attempts, oldest first.
select seq, time, shard, lsn, place, type, attempt, status, error, took_us
from webhook_attempt
where webhook = %(id)s
  and (%(after)s::int8 is null or seq > %(after)s)
  and (%(failed)s::boolean is null or (error <> '') = %(failed)s)
order by seq
limit %(limit)s;

-- name: take_lease
-- Takes or prolongs the right to deliver, unless another gateway has it.
insert into webhook_lease (tenant, until, owner)
values (%(tenant)s, now() + make_interval(secs => %(seconds)s), %(owner)s)
on conflict (tenant) do update
set until = excluded.until, owner = excluded.owner
where webhook_lease.owner = excluded.owner or webhook_lease.until < now();

-- name: prolong_lease
-- Prolongs the right to deliver, if it is still ours.
update webhook_lease
set until = now() + make_interval(secs => %(seconds)s)
where tenant = %(tenant)s and owner = %(owner)s;

-- name: end_lease
-- Lets another gateway deliver.
delete from webhook_lease where tenant = %(tenant)s and owner = %(owner)s;

-- name: newest_attempt
-- The number of the newest attempt.
select coalesce(max(seq), 0) from webhook_attempt where webhook = %(id)s;

-- name: advance
-- How far an endpoint has got, and since when it has been failing.
update webhook set cursor = %(cursor)s, failing = %(failing)s where id = %(id)s;

-- name: disable
-- Stops sending to an endpoint.
update webhook
set state = 'disabled', reason = %(reason)s, version = version + 1
where id = %(id)s and state = 'active';

-- name: keep
-- Events that were not taken.
insert into webhook_event (webhook, shard, lsn, place, due, failed, attempts, status, dead, type, error, subjects)
values (%(id)s, %(shard)s, %(lsn)s, %(place)s, %(due)s, %(failed)s, %(attempts)s, %(status)s, %(dead)s, %(type)s,
        %(error)s, %(subjects)s)
on conflict (webhook, shard, lsn, place) do update
set due = excluded.due, failed = excluded.failed, attempts = excluded.attempts, status = excluded.status,
    dead = excluded.dead, error = excluded.error;

-- name: forget
-- Events that were taken after all.
delete from webhook_event where webhook = %(id)s and shard = %(shard)s and lsn = %(lsn)s and place = %(place)s;

-- name: note
-- Attempts that were made.
insert into webhook_attempt (webhook, seq, time, shard, lsn, place, type, attempt, status, error, took_us)
values (%(id)s, %(seq)s, %(time)s, %(shard)s, %(lsn)s, %(place)s, %(type)s, %(attempt)s, %(status)s, %(error)s,
        %(took_us)s);

-- name: forget_attempts
-- Drops attempts that are too old to be kept.
delete from webhook_attempt where webhook = %(id)s and seq <= %(last)s;
