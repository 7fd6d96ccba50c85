-- name: accounts
-- What never changes about accounts, by ordinal.
select ordinal, id, party, asset, key from account where shard = %(shard)s and ordinal = any(%(ordinals)s);
