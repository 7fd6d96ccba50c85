"""Who decides: shards and their mailboxes, account and party actors, routing and cross-shard commit.

A shard is the only writer of its accounts. It takes messages in arrival order, lets the engine judge them,
and answers only what the log already holds.
"""
