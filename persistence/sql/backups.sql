-- name: identity
-- Which cluster this is, and of which version.
select (select system_identifier from pg_control_system())::text, current_setting('server_version_num')::int4 / 10000;

-- name: stale_slots
-- Slots of backups whose receiver is gone; each would keep the server's own log from being thrown away.
select slot_name from pg_replication_slots where slot_name like 'tessera\_backup\_%' and not active;

-- name: drop_slot
-- Lets go of what a slot keeps.
select pg_drop_replication_slot(%s);

-- name: make_slot
-- Keeps the server's own log from now on, until the slot's receiver has it.
select pg_create_physical_replication_slot(%s, true);

-- name: receiver
-- How a receiver of the server's log is doing: its state, and whether commits wait for it.
select state, sync_state from pg_stat_replication where application_name = %s;

-- name: waits_in_vain
-- Whether commits wait for the receiver of a backup that is not there.
select current_setting('synchronous_standby_names') like 'tessera\_backup\_%' and not exists (
    select from pg_stat_replication where application_name = current_setting('synchronous_standby_names')
);

-- name: wait_for_receiver
-- Lets every commit wait for a receiver, from the next reading of the configuration on.
alter system set synchronous_standby_names = {name};

-- name: wait_for_nobody
-- The same for none.
alter system reset synchronous_standby_names;

-- name: read_configuration
-- Lets the server read its configuration again.
select pg_reload_conf();
