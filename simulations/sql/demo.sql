-- name: others
-- Tessera's sessions in this database besides our own; while there are any, somebody uses it.
select count(*) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and application_name like 'tessera%%';

-- name: forget
-- Removes what an earlier demo left.
drop schema if exists tessera cascade;
