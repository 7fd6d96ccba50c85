-- name: lock
-- Held by whoever changes keys, so that versions become visible in order.
select pg_advisory_xact_lock(hashtextextended('api_key', to_regclass('api_key')::oid::int8));

-- name: add
-- A new key.
insert into api_key (version, created, expires, rate, burst, party, id, tenant, name, replaces, scopes, digest)
select coalesce(max(version), 0) + 1, %(created)s, %(expires)s, %(rate)s, %(burst)s, %(party)s, %(id)s, %(tenant)s,
       %(name)s, %(replaces)s, %(scopes)s, %(digest)s
from api_key;

-- name: expire
-- Lets a key end at a time, unless it ends before.
update api_key
set expires = least(coalesce(expires, %(expires)s), %(expires)s),
    version = (select max(version) + 1 from api_key)
where id = %(id)s;

-- name: revoke
-- Ends a key now, for good.
update api_key
set revoked = %(revoked)s, version = (select max(version) + 1 from api_key)
where id = %(id)s and revoked is null;

-- name: one
-- A key.
select version, created, expires, revoked, rate, burst, party, id, tenant, name, replaces, scopes, digest
from api_key
where id = %s;

-- name: since
-- Keys that were made or changed after a version, in that order.
select version, created, expires, revoked, rate, burst, party, id, tenant, name, replaces, scopes, digest
from api_key
where version > %s
order by version;
