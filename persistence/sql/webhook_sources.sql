-- name: add
-- A new source, unless there is one of that name.
insert into webhook_source (tenant, name, created, principal, rules, secret)
values (%(tenant)s, %(name)s, %(created)s, %(principal)s, %(rules)s, %(secret)s)
on conflict (tenant, name) do nothing;

-- name: find
-- Sources in order of creation, or the other way round.
select name, created, principal, rules::text, secret, old_secrets, old_until
from webhook_source
where tenant = %(tenant)s
  and (%(name)s::text is null or name = %(name)s)
  and (%(created)s::int8 is null
       or case when %(newest_first)s then (created, name) < (%(created)s, %(after)s::text)
               else (created, name) > (%(created)s, %(after)s::text) end)
order by case when %(newest_first)s then created end desc, case when %(newest_first)s then name end desc, created, name
limit %(limit)s;

-- name: change
-- Gives a source other rules.
update webhook_source set rules = %(rules)s where tenant = %(tenant)s and name = %(name)s;

-- name: rotate
-- Gives a source a new secret; those before it are good for a while, the newest of them.
update webhook_source
set old_secrets = array_prepend(secret, old_secrets[:%(kept)s - 1]),
    old_until = array_prepend(%(until)s::int8, array(select least(given, %(until)s)
                                                     from unnest(old_until[:%(kept)s - 1])
                                                     with ordinality as old (given, place)
                                                     order by place)),
    secret = %(secret)s
where tenant = %(tenant)s and name = %(name)s;

-- name: remove
-- Ends a source.
delete from webhook_source where tenant = %(tenant)s and name = %(name)s;
