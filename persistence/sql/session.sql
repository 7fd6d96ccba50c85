-- name: prepare
-- Settings of every session: our schema, and nothing that a role's or a database's defaults could do to us.
select set_config('search_path', %s, false), set_config('timezone', 'UTC', false),
       set_config('statement_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('default_transaction_read_only', 'off', false);
