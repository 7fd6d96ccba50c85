"""Shards in processes of their own: how they are spoken to, where they are found, and who starts them.

    gateway, notebook ── frames over TCP ──▶ data server ─▶ shard          (frames, wire, data_server)
            │                                    │ epoch, address
            └────── where is shard n? ──▶ PostgreSQL                       (persistence.cluster)
    supervisor ── Ray ──▶ creates, restarts and places the shards          (supervisor, shard_actor)

Ray is never asked on the way of a request, so its loss stops nobody who is at work. What a shard may write is
fenced by PostgreSQL, not by Ray.
"""
