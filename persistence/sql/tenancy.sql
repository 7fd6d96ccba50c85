-- name: claim
-- The tenant of this schema, unless there is one: whoever has written to it already, or else the given one.
insert into tenant (name)
select coalesce((select tenant from thing limit 1), (select tenant from party limit 1), (select tenant from move limit 1),
                %s)
on conflict do nothing;

-- name: read
-- Whose it is.
select name from tenant;
