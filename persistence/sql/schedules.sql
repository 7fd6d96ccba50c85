-- name: add
-- A new schedule, unless there is one of that name.
insert into schedule (tenant, name, id, created, principal, spec, state, tick, due)
values (%(tenant)s, %(name)s, %(id)s, %(created)s, %(principal)s, %(spec)s, 'active', 0, %(due)s)
on conflict (tenant, name) do nothing;

-- name: find
-- One schedule by its name, or some in order of creation, or the other way round.
select name, id, created, principal, spec::text, state, tick, due, fired, refused, code, message
from schedule
where tenant = %(tenant)s
  and (%(name)s::text is null or name = %(name)s)
  and (%(created)s::int8 is null
       or case when %(newest_first)s then (created, name) < (%(created)s, %(after)s::text)
               else (created, name) > (%(created)s, %(after)s::text) end)
order by case when %(newest_first)s then created end desc, case when %(newest_first)s then name end desc, created, name
limit %(limit)s;

-- name: due
-- Active schedules whose next tick is due, the longest first.
select name, id, created, principal, spec::text, state, tick, due, fired, refused, code, message
from schedule
where tenant = %(tenant)s and state = 'active' and due <= %(now)s
order by due, name
limit %(limit)s;

-- name: next_due
-- When the next tick of any is due.
select min(due) from schedule where tenant = %(tenant)s and state = 'active';

-- name: advance
-- A tick is done: on to the next, unless somebody else was faster. One that was paused meanwhile stays so.
update schedule
set tick = tick + 1,
    due = %(due)s,
    state = case when %(ended)s then 'ended' else state end,
    fired = %(fired)s,
    refused = refused + (%(code)s::text <> '')::int,
    code = %(code)s,
    message = %(message)s
where tenant = %(tenant)s and name = %(name)s and id = %(id)s and tick = %(tick)s;

-- name: set_state
-- Pauses a schedule, or lets it go on; one that has ended stays so.
update schedule set state = %(state)s where tenant = %(tenant)s and name = %(name)s and state <> 'ended';

-- name: remove
-- Ends a schedule for good.
delete from schedule where tenant = %(tenant)s and name = %(name)s;
